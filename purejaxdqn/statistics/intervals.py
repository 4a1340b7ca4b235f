"""Statistics over seeds: interquartile mean, bootstrap intervals, missing values (NumPy only).

Throughout, axis 0 is the seed, and NaN means "not measured" (say, a chunk of
training in which no episode ended): it is left out, never counted as a score.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# The bootstrap gathers `repetitions × N × columns` numbers; columns are taken in
# blocks so that no block is larger than this many (32 MiB of float64).
_BLOCK_ELEMENTS = 4_194_304


def mean(scores: ArrayLike, axis: int = 0) -> Any:
    """Mean of the values present along an axis.

    Args:
        scores: Scores, [N] or [N, T]; NaN where missing.
        axis: Axis to average over.

    Returns:
        A float for [N], an array [T] for [N, T]; NaN where nothing is present.
    """
    scores = np.asarray(scores, dtype=np.float64)
    present = ~np.isnan(scores)
    count = present.sum(axis=axis)
    total = np.where(present, scores, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]


def iqm(scores: ArrayLike, axis: int = 0) -> Any:
    """Interquartile mean: the mean after dropping a quarter of the values at each end.

    Of n values present, the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest are dropped, as
    `scipy.stats.trim_mean(scores, 0.25)` does, and as rliable therefore does. With
    fewer than four values it is the plain mean.

    Args:
        scores: Scores, [N] or [N, T]; NaN where missing.
        axis: Axis to average over.

    Returns:
        A float for [N], an array [T] for [N, T]; NaN where nothing is present.
    """
    ordered = np.moveaxis(np.sort(np.asarray(scores, dtype=np.float64), axis=axis), axis, 0)  # NaN sorts last
    count = (~np.isnan(ordered)).sum(axis=0)
    cut = count // 4
    rank = np.arange(ordered.shape[0]).reshape(-1, *([1] * (ordered.ndim - 1)))
    kept = np.where((rank >= cut) & (rank < count - cut), ordered, np.nan)
    return mean(kept, axis=0)


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Callable[..., Any] = iqm,
    level: float = 0.95,
    repetitions: int = 2000,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of a statistic, resampling seeds with replacement.

    A whole row is drawn at a time, so the columns of a curve stay together. With few
    seeds the interval is too narrow: of nominal 95 % intervals for the mean of normal
    scores, about 84 % hold the true mean with 5 seeds, 90 % with 10 and 93 % with 20.

    Args:
        scores: Scores, [N] or [N, T]; NaN where missing.
        statistic: Function of `(array, axis=...)`: `iqm`, `mean`, or `np.mean` where nothing is missing.
        level: Coverage aimed at, strictly between 0 and 1.
        repetitions: Number of resamples.
        seed: Seed of the resampling: the same seed gives the same interval.

    Returns:
        `(low, high)`: floats for [N], arrays [T] for [N, T]. With N = 1 both equal the
        score, since one seed says nothing about the spread.

    Raises:
        ValueError: On no scores, more than two axes, or a level outside (0, 1).
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.shape[0] == 0:
        raise ValueError(f"scores must be [N] or [N, T] with N ≥ 1, got shape {scores.shape}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    if scores.shape[0] == 1:
        return scores[0].copy()[()], scores[0].copy()[()]
    table = scores.reshape(scores.shape[0], -1)
    rows = np.random.default_rng(seed).integers(0, table.shape[0], size=(repetitions, table.shape[0]))
    width = max(1, _BLOCK_ELEMENTS // rows.size)
    tails = ((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    bounds = np.empty((2, table.shape[1]))
    for start in range(0, table.shape[1], width):
        resampled = statistic(table[rows, start : start + width], axis=1)  # [repetitions, width]
        bounds[:, start : start + width] = _quantiles(np.asarray(resampled), tails)
    low, high = bounds.reshape(2, *scores.shape[1:])
    return low, high


def standard_error(scores: ArrayLike, axis: int = 0) -> Any:
    """Standard error of the mean: sample standard deviation (n - 1) over √n.

    Args:
        scores: Scores, [N] or [N, T]; NaN where missing.
        axis: Axis of the seeds.

    Returns:
        A float for [N], an array [T] for [N, T]; NaN where fewer than two values are
        present, since one value says nothing about the spread.
    """
    scores = np.asarray(scores, dtype=np.float64)
    count = (~np.isnan(scores)).sum(axis=axis)
    squares = (scores - np.expand_dims(mean(scores, axis), axis)) ** 2
    variance = mean(squares, axis) / np.maximum(count - 1, 1)  # = Σ(x - x̄)² / (n (n - 1))
    return np.where(count > 1, np.sqrt(variance), np.nan)[()]


def fill_missing(curves: ArrayLike) -> np.ndarray:
    """Carry each seed's last value forward over the gaps of its curve.

    Without this a seed drops out of the statistic wherever it has no value, and the
    curve jumps because other seeds are averaged, not because anything was learned.
    Values missing before a seed's first one stay NaN: there is nothing to carry.

    Args:
        curves: Curves, [N, T]; NaN where missing.

    Returns:
        A new array [N, T].
    """
    curves = np.asarray(curves, dtype=np.float64)
    column = np.where(np.isnan(curves), 0, np.arange(curves.shape[1]))
    return np.take_along_axis(curves, np.maximum.accumulate(column, axis=1), axis=1)


def _quantiles(values: np.ndarray, tails: tuple[float, float]) -> np.ndarray:
    """Quantiles over axis 0, [R, T] → [2, T], leaving out resamples that drew only missing values."""
    missing = np.isnan(values)
    if not missing.any():
        return np.quantile(values, tails, axis=0)
    bounds = np.full((2, values.shape[1]), np.nan)
    some = ~missing.all(axis=0)
    bounds[:, some] = np.nanquantile(values[:, some], tails, axis=0)
    return bounds
