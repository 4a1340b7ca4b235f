"""Tables and pictures of docs/performance.md, and the README's of speed; `benchmarks.report` writes them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.common import counted, read_result
from benchmarks.pages.tables import BLUE, ORANGE, source, tidy
from benchmarks.peers.contests import CONTESTS
from benchmarks.run import TOPICS
from purejaxdqn.pictures.plots import save_png

PICTURE = "speed.png"
TICKS = (1, 2, 5, 10, 20, 50)


def missing(topic: str) -> str:
    """What stands where there is no result."""
    command = f"python -m benchmarks.run --only {topic}"
    return f"Not measured here yet: `{command}` takes about {TOPICS[topic].minutes} min on two cores."


def table(heads: list[str], rows: list[list[str]], *after: str) -> str:
    """A table and what comes below it."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([*lines, "", *after])


def number(value: float | None, form: str = ",.1f") -> str:
    """A number, or nothing."""
    return "" if value is None else format(value, form)


def bounds_table() -> str:
    """Rates of the machine."""
    result = read_result("bounds")
    if result is None:
        return missing("bounds")
    median = result["median"]
    rows = [[f"product {name}", f"{rate / 1e9:.1f} GFLOP/s"] for name, rate in median["operations_per_second"].items()]
    rows += [
        [f"x ← x + 1, {int(size) / 2**20:g} MiB", f"{rate / 1e9:.1f} GB/s"]
        for size, rate in median["bytes_per_second"].items()
    ]
    return table(["", "rate"], rows, source(result, "bounds", "../"))


def parts_table(section: str) -> str:
    """One section of the parts beside their bounds."""
    result = read_result("parts")
    if result is None or section not in result["sections"]:
        return missing("parts")
    parts = result["sections"][section]
    multiplies = any("gflops" in part for part in parts)
    heads = ["", "µs", "bound, µs", "set by", "of the bound"]
    heads += ["GFLOP/s", "of 512³'s rate"] if multiplies else []
    heads += ["environment steps/s"] if section in ("environments", "acting") else []
    rows = []
    for part in parts:
        row = [part["name"], number(part["microseconds"]), number(part["bound_microseconds"], ",.2f")]
        row += [part["bound_by"], f"{part['fraction_of_bound']:.1%}"]
        row += [number(part["gflops"]), f"{part['fraction_of_512']:.0%}"] if multiplies else []
        row += [number(part["steps_per_second"], ",.0f")] if "steps_per_second" in part else []
        rows.append(row)
    return table(heads, rows, source(result, "parts", "../"))


def loops_table(section: str) -> str:
    """Whole iterations."""
    result = read_result("loops")
    if result is None or section not in result["sections"]:
        return missing("loops")
    heads = ["", "steps/s, all lanes", "updates/s", "products alone, of the time", "GFLOP/s", "compiled in, s", "plan"]
    rows = [
        [
            name,
            number(found["steps_per_second"], ",d"),
            number(found["updates_per_second"], ",d"),
            f"{found['fraction_of_bound']:.0%}",
            number(found["gflops"]),
            number(found["compile_seconds"]),
            found["plan"],
        ]
        for name, found in result["sections"][section].items()
    ]
    return table(heads, rows, source(result, "loops", "../"))


def kernels_table() -> str:
    """Where an iteration's time goes."""
    result = read_result("kernels")
    if result is None:
        return missing("tried")
    rows = [[name, number(row["calls"], ".0f"), number(row["microseconds"])] for name, row in result["rows"].items()]
    said = f"Untraced the iteration took {result['untraced_microseconds']:.1f} µs."
    return table(["kernels", "calls", "µs, traced"], rows, said, "", source(result, "kernels", "../"))


def tried_table() -> str:
    """What was tried, with its effect."""
    result = read_result("tried")
    if result is None:
        return missing("tried")
    rows = []
    for found, prefix in ((result["variants"], ""), (result["flags"], "`XLA_FLAGS` ")):
        base = next(iter(found.values()))
        for name, parts in found.items():
            cells = []
            for part in ("update", "iteration"):
                median, reference = (row[part]["median"] for row in (parts, base))
                cells += [number(median), "" if parts is base else f"{median / reference - 1.0:+.0%}"]
            words = f"`{name}`" if prefix and name else name
            rows.append([prefix + (words or "none set"), *cells])
    heads = ["", "update, µs", "", "iteration, µs", ""]
    return table(heads, rows, source(result, "tried", "../"))


def pixels_table() -> str:
    """An update of Nature's CNN by variant and threads, beside its products alone."""
    result = read_result("pixels")
    if result is None:
        return missing("pixels")
    rows = []
    for name, held in result["seconds"].items():
        words = name.replace("before", f"at {result['before']}")
        update, products = (median(held[part]) * 1e3 if held[part] else None for part in ("update", "products"))
        rows.append([words, number(update), number(min(held["update"]) * 1e3), number(products)])
    return table(["", "update, ms", "lowest", "its products alone, ms"], rows, source(result, "pixels", "../"))


def peers_table() -> str:
    """Contests, speed beside returns, and what each is."""
    result = read_result("peers")
    if result is None:
        return missing("peers")
    heads = ["beside", "seeds", "ours, steps/s", "theirs", "faster by", "bar", "return, training", "return, greedy"]
    rows, notes = [], []
    for found in result["contests"].values():
        mine, other = found["sides"].values()
        returns = [
            f"{number(mine[name]) or '–'} / {number(other[name]) or '–'}"
            for name in ("returns_last_tenth", "greedy_return")
        ]
        rates = [number(side["steps_per_second"], ",.0f") for side in (mine, other)]
        ratio, bar = f"**{found['ratio']:.2f} ×**", f"{found['bar']:g} ×" if found["bar"] else ""
        rows.append([found["peer"], str(found["seeds"]), *rates, ratio, bar, *returns])
        differs = f"; {found['differs']}" if found["differs"] else ""
        note = f"- {found['peer']}: {found['settings']}{differs}. Theirs ran on {other['layout']}."
        notes += [note] if note not in notes else []
    picture = f"![How many times as fast as each peer](images/{PICTURE})"
    said = "Medians of runs that took turns, three at least; returns are ours / theirs after the same steps."
    return table(heads, rows, said, "", *notes, "", picture, "", source(result, "peers", "../"))


def returns_table() -> str:
    """Returns beside PureJaxRL's, over seeds that differ on both sides."""
    result = read_result("peer-returns")
    if result is None:
        return missing("peers")
    rows = []
    for name, found in result["sides"].items():
        interval = " to ".join(number(end) for end in found["mean_interval_95"])
        reached = sum(score >= 475.0 for score in found["scores"])
        cells = [f"{number(found['mean'])} ({interval})", number(found["iqm"]), f"{reached} of {result['seeds']}"]
        rows.append([CONTESTS[name].words if name in CONTESTS else name, *cells])
    heads = ["CartPole-v1, last parameters, greedy", "mean over seeds (95 %)", "IQM", "seeds at 475"]
    said = f"The means differ by {result['difference']:+.1f}, {abs(result['z']):.1f} standard errors."
    return table(heads, rows, said, "", source(result, "peer-returns", "../"))


def short_peers_table() -> str:
    """Contests in a line each, for the README; nothing where none was measured."""
    result = read_result("peers")
    if result is None:
        return ""
    rows = []
    for found in result["contests"].values():
        mine, other = (number(side["steps_per_second"], ",.0f") for side in found["sides"].values())
        rows.append([f"{found['peer']}, {counted(found['seeds'], 'seed')}", mine, other, f"**{found['ratio']:.1f} ×**"])
    said = "At each peer's settings; medians of runs that took turns, three at least."
    picture = f"![How many times as fast as each peer](docs/images/{PICTURE})"
    heads = ["steps/s of the whole training loop", "ours", "theirs", "faster by"]
    return table(heads, rows, said, "", picture, "", source(result, "peers"))


def solved_table() -> str:
    """Time to solved."""
    result = read_result("solved")
    if result is None:
        return missing("solved")
    heads = ["", "program", "seconds from the command", "without compiling", "solved", "times ours, warm"]
    rows = []
    for env, task in result["tasks"].items():
        for name, found in task["programs"].items():
            ratio = task["times_as_long_as_ours_warm"].get(name)
            rows.append(
                [
                    f"{env} at {task['bar']:g}",
                    name,
                    number(found["median_seconds"]),
                    number(found["median_without_compiling"]) if name.startswith("purejaxdqn") else "",
                    f"{found['solved']} of {len(found['runs'])}",
                    number(ratio),
                ]
            )
    return table(heads, rows, source(result, "solved", "../"))


TABLES: dict[str, Callable[[], str]] = {"bounds": bounds_table, "peers": peers_table, "solved": solved_table}
TABLES |= {"peer-returns": returns_table}
TABLES |= {"kernels": kernels_table, "tried": tried_table, "pixels": pixels_table}
TABLES |= {f"parts-{name}": partial(parts_table, name) for name in ("environments", "acting", "replay", "learner")}
TABLES |= {f"loops-{name}": partial(loops_table, name) for name in ("environments", "lanes", "algorithms")}


def draw(images: Path) -> None:
    """How many times as fast as each peer, with the bars that were set."""
    result = read_result("peers")
    if result is None:
        return
    contests: list[dict[str, Any]] = list(result["contests"].values())[::-1]
    figure = Figure(figsize=(8, 0.4 * len(contests) + 1), dpi=150, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    for place, found in enumerate(contests):
        # From one on: on such an axis there is no zero.
        axes.barh(place, found["ratio"] - 1.0, left=1.0, color=BLUE, height=0.6)
        if found["bar"]:
            axes.plot([found["bar"]] * 2, [place - 0.4, place + 0.4], color=ORANGE, lw=2)
    names = [f"{found['peer'].replace('`', '')}, {counted(found['seeds'], 'seed')}" for found in contests]
    axes.set_yticks(range(len(contests)), names)
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick} ×" for tick in TICKS])
    axes.minorticks_off()
    axes.axvline(1.0, color="#555555", lw=1)
    axes.set_xlabel("times as many steps per second; orange: what was to be reached", fontsize=9)
    tidy(axes)
    save_png(canvas, images / PICTURE)
