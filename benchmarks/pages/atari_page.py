"""Tables and pictures of docs/atari.md on what has learnt to play, from results/atari-*.json and averaging.json."""

import itertools
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.common import read_result
from benchmarks.learning.atari_suite import GAMES, RECIPES, SEEDS, Run
from benchmarks.pages.performance import table
from benchmarks.pages.tables import source, tidy
from purejaxdqn.pictures.plots import save_png, step_label
from purejaxdqn.statistics.atari_scores import human_normalized

RUNS = {
    **{f"pong-laptop-{seed}": f"`pong-laptop`, seed {seed}" for seed in (51, 52, 53)},
    "pong-pqn-gpu": "`nature-pqn` on a GPU",
    **{f"pong-laptop-dqn-{seed}": f"`nature-atari-laptop`, seed {seed}" for seed in (61, 62, 63)},
    "pong-laptop-dqn": "the same settings, seed 1",
    "pong-dqn-falling": "three-step double DQN, no norm",
    "pong-dqn": "the last with a constant step size",
}
"""Results of `benchmarks.atari_learning` on Pong, and what each is called."""
BREAKOUT = {"breakout-laptop-dqn-71": "`nature-atari-laptop`, seed 71"}
"""Likewise on Breakout."""


def found_runs(names: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The results that there are, by name."""
    return {name: result for name in names if (result := read_result(f"atari-{name}")) is not None}


def source_of(name: str, result: dict[str, Any]) -> str:
    """Where a run's figures come from; of one that was only read again, the command that trained it."""
    trained = result["train_command"] if "--minutes 0" in result["command"] else None
    return f"{source(result, f'atari-{name}', '../', trained)}<br>"


def ale_cell(result: dict[str, Any]) -> str:
    """What the best policy scored in the emulator."""
    return f"{result['ale']['mean']:.1f} over {result['ale']['episodes']} games" if "ale" in result else ""


def whole_cell(result: dict[str, Any]) -> str:
    """How long a run was."""
    minutes = sum(piece["seconds"] for piece in result["pieces"]) / 60
    return f"{minutes:.0f} min, {step_label(result['env_steps'])} steps"


def pong_table() -> str:
    """When each run of Pong reached the bar, its best evaluation, and what the same policy scores in ALE."""
    rows, sources = [], []
    for name, result in found_runs(RUNS).items():
        reached = result["reached"]
        when = f"{reached['minutes']:.0f} min, {step_label(reached['env_steps'])} steps" if reached else "not reached"
        rows.append([RUNS[name], when, f"{result['best_evaluation']:.1f}", ale_cell(result), whole_cell(result)])
        sources.append(source_of(name, result))
    heads = ["Pong, pixels", "+18 over 10 games", "best evaluation", "the same policy in ALE", "the whole run"]
    return "\n".join([table(heads, rows), *sources]) if rows else ""


def breakout_table() -> str:
    """What each run of Breakout scored, on the games' own scale and on the human one."""
    rows, sources = [], []
    for name, result in found_runs(BREAKOUT).items():
        last = result["last_games_of_training"]
        best = f"{result['best_evaluation']:.1f} ({result['best_human_normalized']:.2f})"
        trained = f"{last['mean_return']:.1f} over {last['games']:.0f} games"
        rows.append([BREAKOUT[name], best, ale_cell(result), trained, whole_cell(result)])
        sources.append(source_of(name, result))
    heads = [
        "Breakout, pixels",
        "best evaluation (human = 1)",
        "the same policy in ALE",
        "end of training",
        "the whole run",
    ]
    return "\n".join([table(heads, rows), *sources]) if rows else ""


def averaging_table() -> str:
    """What the average of the parameters plays like, beside the newest ones."""
    result = read_result("averaging")
    if result is None:
        return ""
    lines = ["| checkpoint | games of training before it | newest parameters | their average |", "|---" * 4 + "|"]
    for found in result["checkpoints"]:
        cells = [
            f"{found[name]['mean']:.1f} ({found[name]['interval'][0]:.1f} to {found[name]['interval'][1]:.1f})"
            for name in ("newest", "average")
        ]
        where = f"seed {found['seed']} at {step_label(found['env_steps'])} steps"
        lines.append(f"| {where} | {found['training_return']:.1f} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", source(result, "averaging", "../")])


def draw_game(picture: Path, names: dict[str, str], game: str, bar: float | None = None) -> None:
    """Evaluations of every run of a game, by environment steps."""
    runs = found_runs(names)
    if not runs:
        return
    figure = Figure(figsize=(8.0, 2.9), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, result in runs.items():
        returns = [seeds[0] for seeds in result["curve"]["eval_returns"]]
        style = "--" if "dqn" in name else "-"
        axes.plot(result["curve"]["env_steps"], returns, style, lw=1.8, label=names[name].replace("`", ""))
    if bar is not None:
        axes.axhline(bar, color="#777777", lw=1, ls=(0, (5, 4)))
    axes.xaxis.set_major_formatter(step_label)
    axes.set_xlabel("environment steps", fontsize=8)
    axes.set_ylabel(f"mean of 10 games of {game}", fontsize=8)
    figure.legend(loc="outside right center", fontsize=7, frameon=False)
    tidy(axes)
    save_png(canvas, picture)


def draw(images: Path) -> None:
    """The games' pictures."""
    draw_game(images / "pong.png", RUNS, "Pong", 18.0)
    draw_game(images / "breakout.png", BREAKOUT, "Breakout")


def suite_table() -> str:
    """Scores on the human scale of what there is of Atari-5."""
    rows = []
    for recipe, game in itertools.product(RECIPES, GAMES):
        names = (f"atari-{Run(seed, recipe, game).name}" for seed in SEEDS)
        results = [result for name in names if (result := read_result(name)) is not None]
        # The protocols' own scores: games with the algorithm's ε after training, or the last ones of training.
        scores = [
            result["last_games_of_training"].get("mean_return") if "sticky" in recipe else result["best_evaluation"]
            for result in results
        ]
        scores = [score for score in scores if score is not None]
        if scores:
            mean, steps = fmean(scores), step_label(min(result["env_steps"] for result in results))
            normalized = f"{human_normalized(game, mean):.2f}"
            rows.append([f"`{recipe}`", game, str(len(scores)), steps, f"{mean:,.1f}", normalized])
    heads = ["recipe", "game", "seeds", "steps", "score", "human-normalized"]
    return table(heads, rows) if rows else "No run of it has been made here yet."


TABLES = {"pong": pong_table, "breakout": breakout_table, "averaging": averaging_table, "atari-5": suite_table}
