"""Tables of docs/performance.md on an accelerator: `benchmarks.gpu`'s lanes, sweeps and Atari loop."""

from benchmarks.common import read_result
from benchmarks.pages.performance import number, table
from benchmarks.pages.tables import source

BY_LANES = {
    "lanes": "as it is",
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


TABLES = {"gpu-lanes": lanes_table, "gpu-sweeps": sweeps_table, "gpu-atari": host_table}
