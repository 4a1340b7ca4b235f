"""Makes the tables and pictures of the README and of docs/ from benchmarks/results, and nothing else.

python -m benchmarks.report            writes them
python -m benchmarks.report --check    exits with 1 where a page's tables are not those of the results
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.common import read_result as load
from benchmarks.pages import atari_page, gpu_page, performance, sweep_page, worlds_page
from benchmarks.pages import tables as pages
from benchmarks.pages.tables import iqm_cell, source, tidy
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.pictures.plots import save_png, step_label
from purejaxdqn.recipes.recipes import default_recipe
from purejaxdqn.statistics.intervals import bootstrap_interval, iqm

ROOT = Path(__file__).parents[2]
README, IMAGES = ROOT / "README.md", ROOT / "docs" / "images"
ENVS = ("CartPole-v1", "MountainCar-v0", "Acrobot-v1", "Breakout-MinAtar")
# Returns from which a seed counts in a family's table; with DeepSea's treasure a return is 0.99, without it at most 0.
SOLVED = {"CartPole-v1": default_recipe("CartPole-v1").solved_at, "DeepSea-bsuite": 0.9}


def learning_table() -> str:
    """What the default recipes reach."""
    lines = [
        "| environment | bar | last parameters | best parameters | environment steps a seed |",
        "|---|---|---|---|---|",
    ]
    sources = []
    for env in ENVS:
        result = load(f"learning-{env}")
        if result is None:
            continue
        bar, seeds = result["bar"], result["bar"]["seeds"]
        by_iqm = bar["seeds_needed"] is None

        def cell(verdict: dict[str, Any], by_iqm: bool = by_iqm, seeds: int = seeds) -> str:
            if by_iqm:
                return f"IQM {iqm_cell(verdict)}"
            return f"{verdict['seeds_at_bar']} of {seeds} (lowest {verdict['min']:.1f}, IQM {verdict['iqm']:.1f})"

        goal = f"IQM ≥ {bar['score']:g}" if by_iqm else f"≥ {bar['score']:g}"
        steps = step_label(result["env_steps_per_seed"])
        lines.append(f"| {env} | {goal} | {cell(result['last'])} | {cell(result['best'])} | {steps} |")
        if "last_in_gymnasium" in result:
            last, best = cell(result["last_in_gymnasium"]), cell(result["best_in_gymnasium"])
            lines.append(f"| the same policies in Gymnasium's {env} | {goal} | {last} | {best} | |")
        sources.append(source(result, f"learning-{env}"))
    return "\n".join([*lines, "", *(f"{line}<br>" for line in sources)])


def robustness_table() -> str:
    """Memory and kills."""
    memory, kills = load("memory"), load("kill_resume")
    if memory is None and kills is None:
        return ""
    lines = ["| | |", "|---|---|"]
    sources = []
    if memory is not None:
        lines.append(f"| peak memory of 2M steps over that of 200k | {memory['median_ratio']:.3f} |")
        sources.append(source(memory, "memory", "../"))
    if kills is not None:
        same = f"{kills['passed']} of {len(kills['trials'])}"
        lines.append(f"| killed with SIGKILL at a random moment, resumed, same metrics file | {same} |")
        sources.append(source(kills, "kill_resume", "../"))
    return "\n".join([*lines, "", *(f"{line}<br>" for line in sources)])


def family_table(name: str) -> str:
    """What every algorithm reaches on one environment."""
    result = load(f"family-{name}")
    if result is None:
        return ""
    env = result["env"]
    solved = SOLVED.get(env)
    heading = "lowest" if solved is None else f"seeds at {solved:g}"
    lines = [
        f"| {env} | IQM of last parameters (95 %) | {heading} | steps a seed | steps/s, all seeds |",
        "|---|---|---|---|---|",
    ]
    for algo, found in result["algorithms"].items():
        last = found["last"]
        reached = sum(score >= solved for score in last["scores"]) if solved is not None else 0
        second = f"{last['min']:.1f}" if solved is None else f"{reached} of {len(last['scores'])}"
        steps, speed = step_label(found["env_steps_per_seed"]), found["steps_per_second"]
        lines.append(f"| `{algo}` | {iqm_cell(last)} | {second} | {steps} | {speed:,.0f} |")
    each = "; each algorithm's own training command, commit and settings are in the file"
    return "\n".join([*lines, "", source(result, f"family-{name}", "../").replace("</sub>", each + "</sub>")])


def deep_sea_table() -> str:
    """How many seeds every explorer brings to DeepSea's treasure."""
    result = load("deep_sea")
    if result is None:
        return ""
    lines = [
        "| explorer | seeds with the treasure at the end | at some evaluation | steps a seed | steps/s, all seeds |",
        "|---|---|---|---|---|",
    ]
    for name, found in result["explorers"].items():
        seeds, steps = len(found["last"]["scores"]), step_label(found["env_steps_per_seed"])
        reached, ever = (f"{found[key]} of {seeds}" for key in ("seeds_at_bar", "seeds_that_ever_held_it"))
        lines.append(f"| `{name}` | {reached} | {ever} | {steps} | {found['steps_per_second']:,.0f} |")
    each = "; each explorer's own training command, commit and settings are in the file"
    return "\n".join([*lines, "", source(result, "deep_sea", "../").replace("</sub>", each + "</sub>")])


def replay_table() -> str:
    """What prioritized replay costs."""
    replay, loop = load("replay"), load("replay_loop")
    if replay is None or loop is None:
        return ""
    lines = [
        f"| write 10, sample 128, update: µs | uniform | prioritized (sum tree, fan-out {replay['default_fan_out']}) |",
        "|---|---|---|",
    ]
    for capacity, medians in replay["median_us"].items():
        chosen = medians[f"prioritized, fan-out {replay['default_fan_out']}"]
        lines.append(f"| {int(capacity):,} transitions | {medians['uniform']:.0f} | {chosen:.0f} |")
    uniform, prioritized = (loop["median_us"][name] for name in ("uniform", "prioritized"))
    lines.append(f"| a whole training iteration, 100,000 | {uniform:.0f} | {prioritized:.0f} ({loop['ratio']:.2f} ×) |")
    return "\n".join([*lines, "", source(replay, "replay", "../") + "<br>", source(loop, "replay_loop", "../")])


def atari_table() -> str:
    """The host loop beside its parts."""
    found = {name: load(name) for name in ("atari", "atari-even", "atari-pqn")}
    lines = [
        "| environment steps/s | EnvPool alone | acting | learning | the loop | of its slowest part | by overlap |",
        "|---|---|---|---|---|---|---|",
    ]
    sources = []
    for name, result in found.items():
        if result is None:
            continue
        for size in result["sizes"]:
            rates = [
                f"{size['steps_per_second'][part]:,.0f}" for part in ("environments", "acting", "learning", "loop")
            ]
            network = "Nature's network" if size["network"] == "auto" else f"{size['network']} {size['hidden']}"
            learning = f"{size['updates_per_vector_step']:g} × batch {size['batch_size']} a vector step"
            what = f"{size['num_envs']} × {result['env']}, {network}, {learning}"
            share = f"{size['fraction_of_bound']:.0%} ({size['slowest']})"
            lines.append(f"| {what} | {' | '.join(rates)} | {share} | {size['overlap_gain']:.2f} × |")
        sources.append(source(result, name, "../"))
    return "\n".join([*lines, "", *(f"{line}<br>" for line in sources)]) if sources else ""


def host_table() -> str:
    """What the host loop learns, and what it holds."""
    learning, memory = load("host_learning"), load("host_memory")
    if learning is None or memory is None:
        return ""
    lines = ["| | |", "|---|---|"]
    for loop, where in (("host", "EnvPool on the host"), ("device", "gymnax on the device")):
        found = learning["loops"][loop]
        reached = f"{found['seeds_at_475']} of {learning['seeds']} seeds at 475, lowest {found['last']['min']:.1f}"
        lines.append(f"| CartPole-v1's recipe, {where} | {reached} |")
    steps = memory["measured"][-1]["env_steps"]
    lines.append(
        f"| memory after {steps:,} steps with a full ring of frames, over that before | {memory['growth']:.3f} |"
    )
    return "\n".join(
        [*lines, "", source(learning, "host_learning", "../") + "<br>", source(memory, "host_memory", "../")]
    )


TABLES: dict[str, Callable[[], str]] = {
    "learning": learning_table,
    "speed": performance.short_peers_table,
    "robustness": robustness_table,
    "replay": replay_table,
    "deep-sea": deep_sea_table,
}
TABLES |= {"atari": atari_table, "host": host_table}
FAMILY = ("CartPole-v1", "Breakout-MinAtar-gpu", "SpaceInvaders-MinAtar-gpu", "DeepSea-bsuite")
"""Results of `benchmarks.family` with a table and a picture each."""
FEW = ("Asterix-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar")
"""Those of one or two algorithms, which have a table alone."""
TABLES |= {f"family-{name}": partial(family_table, name) for name in (*FAMILY, *FEW)}
TABLES |= pages.TABLES | performance.TABLES | sweep_page.TABLES | atari_page.TABLES | gpu_page.TABLES
TABLES |= worlds_page.TABLES


def fill(text: str) -> str:
    """The text with the tables between their marks made anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        head, _, rest = text.partition(begin)
        tail = rest.partition(end)[2]
        text = f"{head}{begin}{table()}\n{end}{tail}" if rest else text
    return text


def draw_learning(path: Path) -> None:
    """Evaluation during training, the interquartile mean over seeds with its 95 % interval, an axis per environment."""
    figure = Figure(figsize=(11, 2.9), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    results = [(env, load(f"learning-{env}")) for env in ENVS]
    found = [(env, result) for env, result in results if result is not None]
    for axes, (env, result) in zip(np.atleast_1d(figure.subplots(1, len(found))), found, strict=True):
        steps = np.array(result["curve"]["env_steps"])
        returns = np.array(result["curve"]["eval_returns"]).T
        low, high = bootstrap_interval(returns)
        axes.fill_between(steps, low, high, color="#1f5fa8", alpha=0.2, lw=0)
        axes.plot(steps, iqm(returns), color="#1f5fa8", lw=2)
        axes.axhline(result["bar"]["score"], color="#777777", lw=1, ls=(0, (5, 4)))
        axes.set_title(f"{env} ({len(returns)} seeds)", fontsize=10, loc="left")
        axes.xaxis.set_major_formatter(step_label)
        axes.set_xlabel("environment steps", fontsize=8)
        tidy(axes)
    figure.axes[0].set_ylabel("greedy return", fontsize=8)
    save_png(canvas, path)


def draw_family(name: str, path: Path) -> None:
    """A small picture for every algorithm: its evaluations during training, before those of all others in grey."""
    result = load(f"family-{name}")
    if result is None:
        return
    curves = {
        algo: (np.array(found["curve"]["env_steps"]), np.array(found["curve"]["eval_returns"]).T)
        for algo, found in result["algorithms"].items()
    }
    columns = min(len(curves), 7)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(1.6 * max(columns, 5), 1.75 * rows + 0.2), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    for axes, (algo, (steps, returns)) in zip(grid, curves.items(), strict=False):
        for other_steps, other in curves.values():
            axes.plot(other_steps, iqm(other), color="#d5d7dc", lw=0.7, zorder=1)
        low, high = bootstrap_interval(returns)
        axes.fill_between(steps, low, high, color="#1f5fa8", alpha=0.25, lw=0, zorder=2)
        axes.plot(steps, iqm(returns), color="#1f5fa8", lw=1.8, zorder=3)
        axes.set_title(algo, fontsize=9, loc="left")
        axes.xaxis.set_major_formatter(step_label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=2))
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel(f"environment steps, {result['env']}, {result['seeds']} seeds", fontsize=8)
    figure.supylabel("greedy return", fontsize=8)
    save_png(canvas, path)


def main() -> int:
    """Writes or checks the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    args = parser.parse_args()
    before = {page: page.read_text() for page in (README, *sorted((ROOT / "docs").rglob("*.md")))}
    after = {page: fill(text) for page, text in before.items()}
    if args.check:
        return int(before != after)
    for page, text in after.items():
        write_atomically(page, text)
    IMAGES.mkdir(parents=True, exist_ok=True)
    if any(load(f"learning-{env}") for env in ENVS):
        draw_learning(IMAGES / "learning.png")
    for name in FAMILY:
        draw_family(name, IMAGES / f"family-{name}.png")
    pages.draw(IMAGES)
    performance.draw(IMAGES)
    atari_page.draw(IMAGES)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
