"""Learning curves drawn from a run's metrics.csv (Matplotlib's object API: no global state, no display)."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from purejaxdqn.statistics.intervals import bootstrap_interval, fill_missing, iqm, mean

_EVALUATION = "#1f5fa8"
_TRAINING = "#d9822b"
_INK = "#2b2f36"
_MUTED = "#7a808a"

# More points than this are invisible at 8 inches, and the bootstrap costs time per point.
_MAX_POINTS = 400
# The interquartile mean drops something only from four seeds on, and is worth its name from five.
_IQM_SEEDS = 5
_FAINT_SEEDS = 10
_TRAILING = 20


def learning_curve(
    csv_path: str | os.PathLike[str],
    png_path: str | os.PathLike[str],
    *,
    env_id: str,
    solved_at: float | None,
) -> None:
    """Draw evaluation and training return against environment steps (8 × 4.5 in, 150 dpi).

    The lines are the interquartile mean over seeds from five seeds on, and the mean
    below that; the band, drawn from two seeds on, is a 95 % bootstrap interval over
    seeds. The legend says which.

    Args:
        csv_path: File with at least the columns `seed`, `env_steps`, `episode_return` and
            `eval_return`, one row for each seed and chunk; an empty cell is a missing value.
            Of two rows with the same seed and step, as a resumed run may write, the later one counts.
        png_path: Where the picture goes.
        env_id: Environment's name, for the title.
        solved_at: Return at which the task counts as solved, drawn dashed; None for no line.

    Raises:
        KeyError: If a column is missing.
        ValueError: If the file has no return at all.
    """
    steps, training, evaluation = read_returns(csv_path)
    figure = Figure(figsize=(8.0, 4.5), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if np.isnan(training).all() and np.isnan(evaluation).all():
        raise ValueError(f"{csv_path} holds no return: no episode ended and no evaluation ran")
    if not np.isnan(evaluation).all():
        _draw_band(axes, steps, evaluation, "evaluation return", _EVALUATION)
    if not np.isnan(training).all():
        x, curves = tidy(steps, training)
        name, statistic = _statistic(len(curves))
        label = f"training return: {name}"
        axes.plot(x, statistic(curves), color=_TRAINING, lw=1.1, alpha=0.9, zorder=3, label=label)
    if solved_at is not None:
        axes.axhline(solved_at, color=_MUTED, lw=1.1, ls=(0, (5, 4)), zorder=2, label=f"solved at {solved_at:g}")
    _style(axes, env_id, steps)
    save_png(canvas, Path(png_path))


def episode_curve(
    csv_path: str | os.PathLike[str],
    png_path: str | os.PathLike[str],
    *,
    env_id: str,
    solved_at: float | None,
) -> None:
    """Draw the return of each episode of training against its number (8 × 4.5 in, 150 dpi).

    The line is the statistic over seeds that `learning_curve` has, of the mean over the newest
    twenty episodes of each; a single seed's episodes are points. Where the learner was given other
    rewards than the environment's, the return in those is a second line.

    Args:
        csv_path: File with the columns `seed`, `episode`, `episode_return` and `learning_return`.
        png_path: Where the picture goes.
        env_id: Environment's name, for the title.
        solved_at: Return at which the task counts as solved, drawn dashed; None for no line.

    Raises:
        KeyError: If a column is missing.
        ValueError: If the file has no rows.
    """
    numbers, returns, learning = read_episodes(csv_path)
    figure = Figure(figsize=(8.0, 4.5), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if len(returns) == 1:
        axes.plot(numbers, returns[0], ".", color=_EVALUATION, ms=3, alpha=0.4, label="single episodes")
    _draw_band(axes, numbers, trailing_mean(returns), f"return, mean of {_TRAILING} episodes", _EVALUATION)
    if not np.allclose(returns, learning, equal_nan=True):
        x, curves = tidy(numbers, trailing_mean(learning))
        name, statistic = _statistic(len(curves))
        axes.plot(x, statistic(curves), color=_TRAINING, lw=1.4, zorder=3, label=f"in the learner's rewards: {name}")
    if solved_at is not None:
        axes.axhline(solved_at, color=_MUTED, lw=1.1, ls=(0, (5, 4)), zorder=2, label=f"solved at {solved_at:g}")
    _style(axes, env_id, numbers, "episodes of training")
    save_png(canvas, Path(png_path))


def read_episodes(csv_path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the episodes of all seeds onto one axis.

    Args:
        csv_path: File as `episode_curve` describes it.

    Returns:
        Numbers of episodes [T], ascending; returns [N, T] and returns in the learner's rewards
        [N, T]. Rows are seeds in ascending order; NaN where a seed had no such episode.

    Raises:
        KeyError: If a column is missing.
        ValueError: If the file has no rows.
    """
    with open(csv_path, newline="", encoding="utf-8") as file:
        cells = {
            (int(row["seed"]), int(row["episode"])): (float(row["episode_return"]), float(row["learning_return"]))
            for row in csv.DictReader(whole_lines(file))
        }
    if not cells:
        raise ValueError(f"{csv_path} has no rows")
    seeds = sorted({seed for seed, _ in cells})
    numbers = np.arange(1, max(episode for _, episode in cells) + 1)
    table = np.full((2, len(seeds), len(numbers)), np.nan)
    for (seed, episode), pair in cells.items():
        table[:, seeds.index(seed), episode - 1] = pair
    return numbers.astype(np.float64), table[0], table[1]


def whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """Complete lines: a run that was killed, or is still writing, may leave an incomplete last one."""
    return (line for line in lines if line.endswith("\n"))


def trailing_mean(curves: np.ndarray, width: int = _TRAILING) -> np.ndarray:
    """Mean of the newest `width` values of each row at every place, fewer at its beginning; NaN are left out."""
    held = np.cumsum(np.nan_to_num(curves), axis=1)
    count = np.cumsum(~np.isnan(curves), axis=1)
    before = np.pad(held, ((0, 0), (width, 0)))[:, : curves.shape[1]]
    counted = np.pad(count, ((0, 0), (width, 0)))[:, : curves.shape[1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (held - before) / (count - counted)
    return np.where(np.isnan(curves), np.nan, means)


def save_png(canvas: FigureCanvasAgg, path: Path) -> None:
    """Write a picture to a temporary file and rename it into place."""
    beside = path.with_name(f".{path.name}.tmp")
    canvas.print_png(str(beside))
    os.replace(beside, path)


def read_returns(csv_path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the returns of all seeds onto one axis of environment steps.

    Args:
        csv_path: File as `learning_curve` describes it.

    Returns:
        Environment steps [T], ascending; training returns [N, T]; evaluation returns
        [N, T]. Rows are seeds in ascending order; NaN where a value is missing.

    Raises:
        KeyError: If a column is missing.
        ValueError: If the file has no rows, or a cell is not a number.
    """
    cells: dict[tuple[int, int], tuple[float, float]] = {}
    with open(csv_path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(whole_lines(file)):
            key = (int(row["seed"]), int(float(row["env_steps"])))
            cells[key] = (float(row["episode_return"] or "nan"), float(row["eval_return"] or "nan"))
    if not cells:
        raise ValueError(f"{csv_path} has no rows")
    seeds = sorted({seed for seed, _ in cells})
    steps = sorted({step for _, step in cells})
    row_of = {seed: i for i, seed in enumerate(seeds)}
    column_of = {step: i for i, step in enumerate(steps)}
    table = np.full((2, len(seeds), len(steps)), np.nan)
    for (seed, step), pair in cells.items():
        table[:, row_of[seed], column_of[step]] = pair
    return np.asarray(steps, dtype=np.float64), table[0], table[1]


def step_label(value: float, _: object = None) -> str:
    """Write a number of steps as a tick label: 0, 500k, 1.0M, 1.25M, 20M, 1.0B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            text = f"{value / size:.4g}"
            whole_and_short = unit != "k" and "." not in text and abs(value) < 10 * size
            return f"{text}.0{unit}" if whole_and_short else f"{text}{unit}"
    return f"{value:g}"


def _statistic(seeds: int) -> tuple[str, Callable[..., Any]]:
    """Choose the statistic over seeds, with the words that the legend has for it."""
    if seeds == 1:
        return "1 seed", mean
    return (f"IQM of {seeds} seeds", iqm) if seeds >= _IQM_SEEDS else (f"mean of {seeds} seeds", mean)


def tidy(steps: np.ndarray, curves: np.ndarray, most: int = _MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Drop steps that no seed measured, carry values over gaps, and thin long curves.

    Args:
        steps: Environment steps, [T].
        curves: Returns, [N, T]; NaN where missing.
        most: Points that a curve may keep.

    Returns:
        Steps [S] and returns [N, S], S ≤ T and S ≤ `most`. Long curves are averaged in
        blocks of neighbouring steps, each put at its block's last step.
    """
    measured = ~np.isnan(curves).all(axis=0)
    steps, curves = steps[measured], fill_missing(curves[:, measured])
    if len(steps) <= most:
        return steps, curves
    edges = np.linspace(0, len(steps), most + 1).astype(int)
    blocks = [mean(curves[:, a:b], axis=1) for a, b in pairwise(edges)]
    return steps[edges[1:] - 1], np.stack(blocks, axis=1)


def _draw_band(axes: Axes, steps: np.ndarray, returns: np.ndarray, what: str, colour: str) -> None:
    """Draw the statistic over seeds, its bootstrap band and, while they are few, the single seeds."""
    x, curves = tidy(steps, returns)
    seeds = len(curves)
    name, statistic = _statistic(seeds)
    # A run's first and only evaluation is a point, which a line alone would not show.
    marker = "o" if len(x) == 1 else ""
    axes.plot(x, statistic(curves), color=colour, lw=2.2, marker=marker, zorder=5, label=f"{what}: {name}")
    if seeds < 2:
        return
    low, high = bootstrap_interval(curves, statistic)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0, zorder=2, label="95 % bootstrap interval over seeds")
    if seeds <= _FAINT_SEEDS:
        labels = [f"{what}: single seeds"] + ["_nolegend_"] * (seeds - 1)
        for curve, label in zip(curves, labels, strict=True):
            axes.plot(x, curve, color=colour, lw=0.7, alpha=0.3, zorder=1.5, label=label)


def _style(axes: Axes, env_id: str, steps: np.ndarray, unit: str = "environment steps") -> None:
    """Set title, labels, ticks, grid and legend."""
    axes.set_title(env_id, loc="left", fontsize=13, fontweight="bold", color=_INK, pad=10)
    axes.set_xlabel(unit, color=_INK, fontsize=10.5)
    axes.set_ylabel("return per episode", color=_INK, fontsize=10.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(step_label))
    axes.set_xlim(0, float(steps[-1]) or 1.0)
    axes.margins(y=0.08)
    axes.grid(True, color="#e4e7ec", lw=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9.5, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#b9bec7")
    # Below the axes the legend hides no curve, whatever the curve's shape.
    axes.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=_INK)
