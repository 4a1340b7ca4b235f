"""Tables of docs/performance.md on an accelerator: `benchmarks.gpu`'s lanes, sweeps and Atari loop, and counts."""

from collections.abc import Iterator
from typing import Any

from benchmarks.common import read_result
from benchmarks.pages.performance import number, table
from benchmarks.pages.tables import source
from benchmarks.speed.count_case import ATARI, CASES, settings
from benchmarks.speed.count_peer import PEERS
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.plan import MEMORY_SHARE, state_bytes

CASE_NAMES = {
    "h100": {"purejaxrl": "ours at PureJaxRL's settings"},
    "peers": {
        "purejaxrl": "PureJaxRL's `dqn.py`",
        "purejaxql": "purejaxql's `pqn_gymnax.py`",
        "earlier": "ours at PureJaxRL's settings, before any of this",
    },
}
"""What cases are called in tables; others by their algorithm, and its environment where that is not CartPole-v1."""
CASE_NAMES["tpu"] = CASE_NAMES["h100"]
ON_HOST = {f"`{case}`" for case in ATARI}
"""Cases, as tables call them, whose environments are on the host, so that learning is all that is counted."""
PROGRAM_NAMES = {"learn": "a learning phase", "evaluate": "a step of evaluation", "init": "the beginning, with prefill"}

BY_LANES = {
    "lanes": "as shipped",
    "plain": "no graphs",
    "graphs": "graphs",
    "told": "told",
    "told_graphs": "told, graphs",
    "kernel": "told, kernel",
    "purejaxrl": "PureJaxRL",
}
"""Heads of the columns by section of results/gpu.json."""


def lanes_table() -> str:
    """Steps per second by lanes, in the ways that were tried, and beside PureJaxRL."""
    result = read_result("gpu")
    if result is None:
        return ""
    sections = [section for section in BY_LANES if result.get(section)]
    rows = []
    for count in sorted({count for section in sections for count in result[section]}, key=int):
        speeds = [result[section].get(count, {}).get("steps_per_second") for section in sections]
        rows.append([f"{int(count):,}", *(number(speed, ",.0f") if speed else "" for speed in speeds)])
    heads = ["lanes", *(BY_LANES[section] for section in sections)]
    difference = result["agreement"]["lanes"]["largest_parameter_difference"]
    said = f"Largest difference of a parameter between a lane of four and the same run alone: {difference:.1e}."
    return table(heads, rows, said, "", source(result, "gpu", "../"))


def sweeps_table() -> str:
    """Many seeds of the default recipe by one sweep."""
    result = read_result("gpu")
    if result is None:
        return ""
    rows = []
    for name, found in result["sweeps"].items():
        speed, solved = number(found["steps_per_second"], ",.0f"), f"{found['ranking'][0]['solved_share']:.1%}"
        rows.append([f"{name}, {found['env']}", number(found["run_seconds"]), speed, solved])
    heads = ["sweep", "seconds, compiling and evaluations included", "steps/s", "solved"]
    return table(heads, rows, source(result, "gpu", "../"))


def host_table() -> str:
    """The host loop with its device an accelerator."""
    rows, sources = [], []
    for name in ("atari-pqn-gpu", "atari-dqn-gpu"):
        result = read_result(name)
        if result is None:
            continue
        for found in result["sizes"]:
            speeds = found["steps_per_second"]
            cells = [number(speeds[part], ",.0f") for part in ("environments", "acting", "learning", "loop")]
            share = f"{found['fraction_of_bound']:.0%}, {found['slowest']}"
            rows.append([result["algo"] or "dqn", str(found["num_envs"]), *cells, share])
        sources.append(f"{source(result, name, '../')}<br>")
    heads = ["Pong-v5", "environments", "EnvPool, steps/s", "acting", "learning", "the loop", "of its slowest part"]
    return table(heads, rows, *sources) if rows else ""


Counted = Iterator[tuple[str, str, str, str, dict[str, Any]]]
"""(case as tables call it, lanes, program, way of compiling, counts) of each program that was counted."""


def counted(result: dict[str, Any], section: str) -> Counted:
    """What is in one section of results/gpu_count.json, in the order of cases."""
    cases, names = result[section], CASE_NAMES[section]
    for case in sorted(cases, key=(*PEERS, *CASES).index):
        for lanes, one in cases[case].items():
            for program, ways in one["programs"].items():
                yield from ((names.get(case, f"`{case}`"), f"{int(lanes):,}", program, way, ways[way]) for way in ways)


def cells_of(found: dict[str, Any]) -> list[str]:
    """One program's operations, graphs, waits, copies and bytes moved, and what it needs besides its arguments."""
    graphs = "all in one" if found["all_in_one"] else f"{found['graphs']:,}"
    copies = f"{found['copies']:,}" + (f", {found['ring_copies']:,} of the ring" if found["ring_copies"] else "")
    sizes = [f"{found[name] / 2**20:,.1f} MB" if name in found else "" for name in ("bytes", "temporaries")]
    return [f"{found['ops']:,}", graphs, f"{found['waits']:,}", copies, *sizes]


COUNT_HEADS = ["kernels and copies", "graphs", "waits", "copies", "moved", "temporaries"]


def iteration_table() -> str:
    """What an iteration asks of an H100, the peers' and ours."""
    result = read_result("gpu_count")
    if result is None:
        return ""
    rows = [
        [name, lanes, way, *cells_of(found)]
        for section in ("peers", "h100")
        for name, lanes, program, way, found in counted(result, section)
        if program == "iterate"
    ]
    return table(["an iteration", "lanes", "compiled", *COUNT_HEADS], rows, source(result, "gpu_count", "../"))


def programs_table() -> str:
    """What the other programs ask of one."""
    result = read_result("gpu_count")
    if result is None:
        return ""
    rows = [
        [name, lanes, PROGRAM_NAMES[program], *cells_of(found)]
        for name, lanes, program, _, found in counted(result, "h100")
        if program in PROGRAM_NAMES
    ]
    return table(["", "lanes", "program", *COUNT_HEADS], rows, source(result, "gpu_count", "../"))


def tpu_table() -> str:
    """What a TPU's compiler says of an iteration, and of a learning phase where environments are on the host."""
    result = read_result("gpu_count")
    if result is None:
        return ""
    rows = []
    for name, lanes, program, _, found in counted(result, "tpu"):
        if program == "iterate" or name in ON_HOST:
            sizes = [f"{found[key] / 2**20:,.1f} MB" for key in ("arguments", "temporaries")]
            told = [f"{found[key]}" for key in ("copies", "collectives")]
            rows.append([name, lanes, *sizes, *told, f"{found['compile_seconds']:.1f}"])
    heads = ["", "lanes", "arguments", "temporaries", "copies in all of the program", "collectives", "compiled in, s"]
    return table(heads, rows, source(result, "gpu_count", "../"))


CARDS = (16, 80, 141)
"""GB of memory of the cards that lanes are counted for."""


def room_table() -> str:
    """The largest number of lanes that a card's memory holds, by the temporaries that XLA plans for 1,024."""
    result = read_result("gpu_count")
    if result is None:
        return ""
    rows = []
    for case in sorted(result["h100"], key=CASES.index):
        for lanes, one in result["h100"][case].items():
            found = one["programs"].get("iterate", {}).get("plain")
            if lanes == "1" or found is None:
                continue
            size, spare = state_bytes(make_agent(settings(case))), found["temporaries"] / int(lanes)
            fit = [f"{int(MEMORY_SHARE * card * 1e9 / (size + spare)):,}" for card in CARDS]
            name = CASE_NAMES["h100"].get(case, f"`{case}`")
            rows.append([name, f"{size / 2**20:,.2f} MB", f"{spare / 2**20:,.2f} MB", *fit])
    heads = ["", "a lane's state", "its temporaries", *(f"lanes in {card} GB" for card in CARDS)]
    return table(heads, rows, source(result, "gpu_count", "../"))


TABLES = {"gpu-lanes": lanes_table, "gpu-sweeps": sweeps_table, "gpu-atari": host_table}
TABLES |= {
    "gpu-count": iteration_table,
    "gpu-count-programs": programs_table,
    "tpu-count": tpu_table,
    "gpu-room": room_table,
}
