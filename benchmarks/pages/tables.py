"""Tables and pictures of the pages under docs/ that are made from results; `benchmarks.report` writes them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.common import read_result
from purejaxdqn.pictures.plots import save_png
from purejaxdqn.recipes.recipes import RECIPES, make_settings
from purejaxdqn.report.contents import flat_fields

TUTORIALS = ("keras-mountaincar", "pytorch-atari", "nature-atari", "torchkeras-cartpole", "note51-cartpole")
TASKS = ("CartPole-v1", "MountainCar-v0")
BLUE, ORANGE, GREEN = "#1f5fa8", "#d9822b", "#3a8f5c"


def source(result: dict[str, Any], name: str, up: str = "", command: str | None = None) -> str:
    """Where a table's figures come from; `up` leads from the page to the root.

    A file of several parts has the command of the one that was measured last: a part's table gives its own.
    """
    hardware, found = result["hardware"], result["versions"]
    machine = f"{hardware['cores']} cores of {hardware['processor']}"
    machine = machine if hardware["platform"] == "cpu" else hardware["device"]
    versions = f"jax {found['jax']}, Python {found['python']}"
    link = f"[{name}.json]({up}benchmarks/results/{name}.json)"
    return f"<sub>`{command or result['command']}`, {result['date']}, {machine}, {versions}: {link}</sub>"


def iqm_cell(scores: dict[str, Any], form: str = ",.1f") -> str:
    """An interquartile mean and its 95 % interval, of scores as `benchmarks.learning.defaults.summarize` gives them."""
    low, high = scores["iqm_interval_95"]
    return f"{scores['iqm']:{form}} ({low:{form}} to {high:{form}})"


def variants_of(tutorial: str) -> list[str]:
    """A tutorial's recipe and those that differ from it."""
    return [name for name in RECIPES if name == tutorial or name.startswith(f"{tutorial}-")]


def headline_table(tutorial: str) -> str:
    """The share of seeds that reaches each headline, for every variant that was measured."""
    result = read_result("tutorials")
    if result is None or tutorial not in result["recipes"]:
        return ""
    lines = ["| recipe | what | seeds | share | 95 % interval |", "|---|---|---|---|---|"]
    for name in variants_of(tutorial):
        for what, found in result["recipes"].get(name, {}).get("headlines", {}).items():
            low, high = found["interval_95"]
            share = f"**{found['share']:.1%}**"
            lines.append(
                f"| `{name}` | {what} | {found['reached']} of {found['seeds']} | {share} | {low:.1%} to {high:.1%} |"
            )
    trained = {"command": result["recipes"][tutorial]["train_command"]}
    return "\n".join([*lines, "", source(result | trained, "tutorials", "../../")])


def all_values(name: str) -> dict[str, Any]:
    """Every setting that a recipe decides, by the name of its flag."""
    config, hypers = make_settings(RECIPES[name])
    return flat_fields(vars(config), vars(hypers)) | dict(RECIPES[name].run)


def difference_table(tutorial: str) -> str:
    """What the variants of a tutorial change."""
    faithful = all_values(tutorial)
    lines = ["| recipe | setting | faithful | here |", "|---|---|---|---|"]
    for name in variants_of(tutorial)[1:]:
        values = all_values(name)
        for field in values:
            if values[field] != faithful.get(field):
                flag = "--" + field.replace("_", "-")
                lines.append(f"| `{name}` | `{flag}` | {faithful.get(field, 'its default')} | {values[field]} |")
    return "\n".join(lines)


def marked(effect: float, interval: list[float]) -> str:
    """An effect with its interval, in bold where that excludes zero."""
    low, high = interval
    text = f"{effect:+.2f}"
    return f"{f'**{text}**' if low > 0 or high < 0 else text} ({low:+.2f} to {high:+.2f})"


def gotchas_table() -> str:
    """Every variant's effects on both tasks."""
    results = {env: found for env in TASKS if (found := read_result(f"gotchas-{env}")) is not None}
    if not results:
        return ""
    head = " | ".join(f"{env}: solved | area" for env in results)
    lines = [f"| what is changed | {head} |", "|---" * (1 + 2 * len(results)) + "|"]
    for name in next(iter(results.values()))["effects"]:
        cells = []
        for result in results.values():
            found = result["effects"].get(name)
            for what in ("solved", "area"):
                if found is None:
                    cells.append("")
                elif name == "base":
                    low, high = found[f"{what}_interval_95"]
                    cells.append(f"{found[what]:.2f} ({low:.2f} to {high:.2f})")
                else:
                    cells.append(marked(found[f"{what}_effect"], found[f"{what}_effect_interval_95"]))
        what = next(r["effects"][name]["what"] for r in results.values() if name in r["effects"])
        lines.append(f"| {what} | {' | '.join(cells)} |")
    sources = [source(result, f"gotchas-{env}", "../") + "<br>" for env, result in results.items()]
    return "\n".join([*lines, "", *sources])


def claims() -> str:
    """What the intervals allow to be said, task by task."""
    lines = []
    for env in TASKS:
        result = read_result(f"gotchas-{env}")
        if result is None:
            continue
        verdicts: dict[str, list[tuple[float, str]]] = {"Worse": [], "Better": [], "Not shown": []}
        for name, found in result["effects"].items():
            low, high = found["area_effect_interval_95"]
            if name != "base":
                verdict = "Better" if low > 0 else "Worse" if high < 0 else "Not shown"
                verdicts[verdict].append((found["area_effect"], found["what"]))
        lines.append(f"**{env}**, {result['seeds']} seeds, by the area under the curve.")
        for label, members in verdicts.items():
            group = sorted(members, key=lambda pair: -abs(pair[0]))
            if group:
                lines.append(f"- {label}: {'; '.join(f'{what} ({effect:+.2f})' for effect, what in group)}.")
        lines.append("")
    return "\n".join(lines).rstrip()


TABLES: dict[str, Callable[[], str]] = {f"tutorial-{name}": partial(headline_table, name) for name in TUTORIALS}
TABLES |= {f"differences-{name}": partial(difference_table, name) for name in TUTORIALS}
TABLES |= {"gotchas": gotchas_table, "gotchas-claims": claims}


def draw_tutorial(tutorial: str, path: Path) -> None:
    """Returns by episodes: the faithful recipe, and its variants."""
    result = read_result("tutorials")
    found = (
        {name: result["recipes"][name] for name in variants_of(tutorial) if name in result["recipes"]} if result else {}
    )
    if not found:
        return
    figure = Figure(figsize=(8, 3.4), dpi=150, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    # Rewards that the tutorial shapes are the ones that it plots.
    shaped = RECIPES[tutorial].config.get("reward_shaping", "none") != "none"
    for (name, recipe), colour in zip(found.items(), (BLUE, ORANGE, GREEN), strict=False):
        found_curve = recipe["curve"]["learning_return" if shaped else "return"]
        curve = {key: np.array(values, float) for key, values in found_curve.items()}
        axes.fill_between(curve["x"], curve["low"], curve["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(curve["x"], curve["iqm"], color=colour, lw=2, label=f"{name}, {len(recipe['episodes'])} seeds")
    axes.set_ylabel("shaped return" if shaped else "return", fontsize=9)
    axes.set_xlabel("episodes of training; mean of the newest 20, IQM over seeds, 95 % interval", fontsize=9)
    tidy(axes)
    axes.legend(frameon=False, fontsize=8)
    save_png(canvas, path)


def tidy(axes: Axes) -> None:
    """Grid and frame as in the other pictures."""
    axes.grid(color="#e8e8ec", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_gotchas(path: Path) -> None:
    """The effect of every variant on the area under the curve, with its interval; grey where that holds zero."""
    results = {env: found for env in TASKS if (found := read_result(f"gotchas-{env}")) is not None}
    if not results:
        return
    figure = Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(1, len(results), sharey=True))
    for axes, (env, result) in zip(panels, results.items(), strict=True):
        entries = [found for name, found in result["effects"].items() if name != "base"][::-1]
        for place, found in enumerate(entries):
            low, high = found["area_effect_interval_95"]
            colour = GREEN if low > 0 else ORANGE if high < 0 else "#9aa0a8"
            axes.plot([low, high], [place, place], color=colour, lw=2)
            axes.plot(found["area_effect"], place, "o", color=colour, ms=5)
        axes.axvline(0.0, color="#555555", lw=1)
        axes.set_yticks(range(len(entries)), [found["what"] for found in entries])
        axes.set_title(f"{env}, {result['seeds']} seeds", fontsize=10, loc="left")
        axes.set_xlabel("effect on the area under the curve (0 to 1)", fontsize=9)
        tidy(axes)
    save_png(canvas, path)


def draw(images: Path) -> None:
    """All pictures of these pages."""
    for tutorial in TUTORIALS:
        draw_tutorial(tutorial, images / f"tutorial-{tutorial}.png")
    draw_gotchas(images / "gotchas.png")
