"""The statistics of a report: scores with intervals, curves with bands, and scales for hyperparameters."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from purejaxdqn.pictures.plots import tidy
from purejaxdqn.report.contents import Setting
from purejaxdqn.statistics.comparison import Estimate, performance_profile, sample_efficiency
from purejaxdqn.statistics.intervals import bootstrap_interval, iqm

MOST_POINTS = 200
"""Maximum points of one curve: more are not visible at a page's width."""
SEED_POINTS = 20_000
"""Maximum points of all single seeds in one chart."""
EVEN = 2.5
"""Largest over smallest gap of values that count as evenly spaced: 1, 2, 5, 10 and 1, 3, 10 do, in logarithms."""
MANY = 12
"""More values of a field than this come from a random search and are put into bins."""
BINS = 8

Scale = Literal["log", "linear", "category"]


class Summary(NamedTuple):
    """Scores of several seeds, summed up; NaN without any."""

    iqm: float
    low: float
    high: float
    mean: float
    median: float
    seeds: int


class Level(NamedTuple):
    """The scores at one value (or in one bin of values) of a field."""

    place: float
    score: Summary


class Layout(NamedTuple):
    """Positions of a field's values on an axis."""

    scale: Scale
    places: np.ndarray
    """Position of each value given, [L]: the value itself, or the index of its category."""
    labels: tuple[str, ...]
    """Names of the categories; () on a numeric axis."""
    ordered: bool
    """Whether the values have an order, so that a line through them means something."""


def score(values: np.ndarray) -> Summary:
    """Sums up scores [N], missing ones left out; the interval is a 95 % bootstrap of the interquartile mean."""
    # Sorted as in `comparison.rank`, so that the same scores have the same interval here and in a sweep's ranking.
    there = np.sort(values[~np.isnan(values)])
    if not len(there):
        nan = float("nan")
        return Summary(nan, nan, nan, nan, nan, 0)
    low, high = bootstrap_interval(there)
    return Summary(float(iqm(there)), float(low), float(high), float(there.mean()), float(np.median(there)), len(there))


def band(steps: np.ndarray, returns: np.ndarray, repetitions: int = 2000) -> tuple[np.ndarray, Estimate]:
    """Steps [S], and at each of them the interquartile mean of curves [N, T] with its 95 % bootstrap interval."""
    x, curves = tidy(steps, returns, MOST_POINTS)
    return x, sample_efficiency(curves, repetitions=repetitions)


def seed_points(steps: np.ndarray, returns: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Single seeds as one line each, thinned by leaving points out.

    Args:
      steps: [T].
      returns: [N, T].
      most: points of each seed, at least 2.

    Returns:
      Steps [S] and returns [N, S] where any seed has one; S is at most `most`.
    """
    x, curves = tidy(steps, returns, len(steps) + 1)
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), max(most, 2))).round().astype(int))
    return x[kept], curves[:, kept]


def curve_of(setting: Setting, training: bool) -> np.ndarray:
    """Returns of training, or of the evaluations, [N, T]."""
    return setting.training if training else setting.evaluation


def only_training(settings: Sequence[Setting]) -> bool:
    """Whether some of the settings were never evaluated in training, so that training returns are used instead."""
    return any(np.isnan(setting.evaluation).all() for setting in settings)


def is_number(value: Any) -> bool:
    """Whether a value has a position on a numeric axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def evenly(points: np.ndarray) -> bool:
    """Whether ascending points lie about equally far apart."""
    gaps = np.diff(points)
    return bool(gaps.max() <= EVEN * gaps.min())


def scale_of(values: Sequence[Any]) -> Scale:
    """The axis for the distinct values of a field: numeric if their spacing suits it, else categories."""
    if len(values) < 2 or not all(map(is_number, values)):
        return "category"
    points = np.array(sorted(values), np.float64)
    wide = points[0] > 0 and points[-1] >= 10 * points[0]
    if len(points) > MANY:
        return "log" if wide else "linear"
    if points[0] > 0 and (wide if len(points) == 2 else evenly(np.log(points)) and not evenly(points)):
        return "log"
    return "linear" if evenly(points) else "category"


def lay_out(values: Sequence[Any], text: Callable[[Any], str]) -> Layout:
    """Positions of the values of a field.

    Args:
      values: of every lane, [L].
      text: writes a value as text.
    """
    different = list({repr(value): value for value in values}.values())
    scale = scale_of(different)
    if scale != "category":
        return Layout(scale, np.array(values, np.float64), (), True)
    comparable = [is_number(value) or value in (np.inf, -np.inf) for value in different]
    numbers = sorted(value for value, is_one in zip(different, comparable, strict=True) if is_one)
    words = sorted((value for value, is_one in zip(different, comparable, strict=True) if not is_one), key=text)
    order = {repr(value): place for place, value in enumerate([*numbers, *words])}
    places = np.array([order[repr(value)] for value in values], np.float64)
    return Layout(scale, places, tuple(text(value) for value in [*numbers, *words]), not words)


def levels(layout: Layout, scores: np.ndarray) -> tuple[list[Level], bool]:
    """Scores [L] by the values of a field; by bins of equally many lanes where there are many values.

    Returns:
      A level for each value or bin that has a score, and whether they are bins.
    """
    there = ~np.isnan(scores)
    places, scores = layout.places[there], scores[there]
    different = np.unique(places)
    if layout.scale == "category" or len(different) <= MANY:
        return [Level(float(place), score(scores[places == place])) for place in different], False
    edges = np.linspace(0, len(different), BINS + 1).round().astype(int)
    bins = [different[a:b] for a, b in pairwise(edges)]
    return [Level(float(np.median(held)), score(scores[np.isin(places, held)])) for held in bins], True


def cell_means(first: Layout, second: Layout, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile means of scores [L] by the values of two fields.

    Returns:
      Positions of the first field [A] and of the second [B], and the means [B, A], NaN where nothing was run.
    """
    a, b = np.unique(first.places), np.unique(second.places)
    table = np.array([[iqm(scores[(first.places == x) & (second.places == y)]) for x in a] for y in b])
    return a, b, table


def profile(scores: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Share of seeds above each score, as a step function: scores and shares, at most [N + 2] each.

    Args:
      scores: [N], none missing.
      low: where the profile begins.
      high: where it ends.
    """
    places = np.concatenate([[low], np.unique(scores), [high]])
    return places, performance_profile(scores, places)


def survivors(env_steps: np.ndarray, dropped_at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lanes that still train over environment steps, as a step function: environment steps and counts.

    Args:
      env_steps: where each lane stopped, [L].
      dropped_at: rung at which it was dropped, -1 if it was not, [L].
    """
    drops, counts = np.unique(env_steps[dropped_at >= 0], return_counts=True)
    left = len(env_steps) - np.cumsum([0, *counts, 0])
    return np.concatenate([[0], drops, [env_steps.max()]]), left
