"""Comparing algorithms over seeds and tasks, after Agarwal et al. 2021, arXiv:2108.13264 (NumPy only).

As in `intervals`, axis 0 is the seed and NaN means "not measured": it is left out, never
counted as a score. So a seed that diverged counts as whatever the caller passes for it.
Pass NaN and a setting is judged by the seeds that survived, which flatters it; pass the
lowest score that the task can give and the failure counts. Infinite scores are refused,
since no mean or interval of them says anything.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from purejaxdqn.statistics.intervals import bootstrap_interval, iqm, mean

# Resamples are drawn in blocks of no more than this many numbers (32 MiB of float64).
_BLOCK_ELEMENTS = 4_194_304


class Estimate(NamedTuple):
    """A statistic with the bounds of its interval: floats, or arrays [T] along a curve."""

    value: Any
    low: Any
    high: Any


class Standing(NamedTuple):
    """One setting of a ranking.

    `seeds` counts the scores that are not NaN. `improvement` is the probability of
    improvement over the next setting of the ranking; None if no next one has a score.
    """

    seeds: int
    iqm: Estimate
    mean: float
    median: float
    improvement: Estimate | None


class Ranking(NamedTuple):
    """Settings from best to worst: `entries[i]` is about number `order[i]` of the caller's list."""

    order: tuple[int, ...]
    entries: tuple[Standing, ...]


class StepsTo(NamedTuple):
    """How soon a threshold is reached.

    Median over all seeds, those that never get there counting as infinity; how many of
    how many seeds get there, and the share of them with its Wilson interval.
    """

    median: float
    reached: int
    seeds: int
    share: Estimate


def aggregate_iqm(scores: np.ndarray) -> Any:
    """Interquartile mean over all seeds and tasks together, [..., N, M] -> [...]."""
    return iqm(scores.reshape(*scores.shape[:-2], -1), axis=-1)


def aggregate_mean(scores: np.ndarray) -> Any:
    """Mean over tasks of each task's mean, [..., N, M] -> [...]; NaN if a task has no score."""
    return np.mean(mean(scores, axis=-2), axis=-1)


def aggregate_median(scores: np.ndarray) -> Any:
    """Median over tasks of each task's mean, [..., N, M] -> [...]; NaN if a task has no score."""
    return np.median(mean(scores, axis=-2), axis=-1)


def optimality_gap(scores: np.ndarray, gamma: float = 1.0) -> Any:
    """How far scores fall short of γ on average, those above it counting as γ, [..., N, M] -> [...]."""
    return gamma - aggregate_mean(np.minimum(scores, gamma))


def stratified_interval(
    scores: ArrayLike,
    statistic: Callable[[np.ndarray], Any] = aggregate_iqm,
    level: float = 0.95,
    repetitions: int = 2000,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of an aggregate, seeds being resampled within each task independently.

    The tasks are fixed: the interval is about other seeds on these tasks, not about other
    tasks. A task with missing scores is resampled from those that it has. With one task
    and nothing missing it is `bootstrap_interval` of the sorted scores, and with few seeds
    in all it is as much too narrow as said there.

    Args:
        scores: Scores [N, M], or [N] for one task; NaN where missing.
        statistic: Function of arrays [R, N, M] to [R] or [R, T]: `aggregate_iqm`, `aggregate_mean`,
            `aggregate_median` or `optimality_gap`.
        level: Coverage aimed at, strictly between 0 and 1.
        repetitions: Number R of resamples.
        seed: Seed of the resampling. The order of the seeds within a task makes no difference.

    Returns:
        `(low, high)`: floats, or arrays [T] if the statistic gives [R, T].

    Raises:
        ValueError: On no scores, more than two axes, or a level outside (0, 1).
    """
    tails = _tails(level)
    scores = np.sort(_matrix(scores), axis=0)  # NaN sorts last
    missing = np.isnan(scores)
    choices = np.maximum((~missing).sum(axis=0), 1)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_ELEMENTS // scores.size)
    found = []
    for start in range(0, repetitions, block):
        rows = rng.integers(0, choices, size=(min(block, repetitions - start), *scores.shape))
        drawn = np.take_along_axis(scores[None], rows, axis=1)
        drawn[:, missing] = np.nan  # of a task with n scores, n are drawn
        found.append(np.asarray(statistic(drawn)))
    low, high = np.quantile(np.concatenate(found), tails, axis=0)
    return low, high


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """Share of runs that score above each threshold, averaged over tasks (the run-score distribution).

    Args:
        scores: Scores [N, M], or [N] for one task; NaN where missing.
        thresholds: Thresholds [T].

    Returns:
        An array [T]: non-increasing in the threshold; NaN if a task has no score.
    """
    return _shares_above(_matrix(scores), np.asarray(thresholds, dtype=np.float64))


def performance_profile_interval(
    scores: ArrayLike, thresholds: ArrayLike, level: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise interval `(low [T], high [T])` of a performance profile, by `stratified_interval`.

    Each threshold has the coverage by itself; the whole profile lies in the band less often.
    Where all runs are above the threshold, or none, the interval is that one point.
    """
    thresholds = np.asarray(thresholds, dtype=np.float64)
    return stratified_interval(scores, lambda drawn: _shares_above(drawn, thresholds), level, repetitions, seed)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """P(X > Y) + ½ P(X = Y) over all pairs of a run of X and a run of Y, averaged over tasks.

    The Mann-Whitney statistic over the number of pairs. Runs are not paired, even if they share their seeds.

    Args:
        x: Scores [N, M], or [N] for one task; NaN where missing.
        y: Scores [K, M], or [K]; of the same tasks.

    Returns:
        A probability; NaN if a task has no score in x or in y.

    Raises:
        ValueError: On no scores, more than two axes, or different numbers of tasks.
    """
    return float(np.mean([wins.mean() if wins.size else np.nan for wins in _wins(x, y)]))


def probability_of_improvement_interval(
    x: ArrayLike, y: ArrayLike, level: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `probability_of_improvement`, both sides resampled within each task.

    Where every run of X beats every run of Y the interval is the point 1: no resample says otherwise.
    """
    tails = _tails(level)
    rng = np.random.default_rng(seed)
    total = np.zeros(repetitions)
    tasks = _wins(x, y)
    for wins in tasks:
        if wins.size == 0:
            return float("nan"), float("nan")
        # How often each run is drawn says all: the pairs are compared once, not once per resample.
        times_x, times_y = (rng.multinomial(n, np.full(n, 1 / n), size=repetitions) for n in wins.shape)
        total += np.einsum("rk,rk->r", times_x @ wins, times_y) / wins.size
    low, high = np.quantile(total / len(tasks), tails)
    return float(low), float(high)


def sample_efficiency(curves: ArrayLike, level: float = 0.95, repetitions: int = 2000, seed: int = 0) -> Estimate:
    """Interquartile mean over seeds at each point of their curves, with pointwise intervals.

    Curves are [N, T], NaN where missing (see `intervals.fill_missing`), and are resampled
    whole; the estimate is of arrays [T].
    """
    return Estimate(iqm(curves), *bootstrap_interval(curves, iqm, level, repetitions, seed))


def steps_to(curves: ArrayLike, env_steps: ArrayLike, threshold: float) -> np.ndarray:
    """The first environment step at which each seed's curve is at or above a threshold.

    The noisier the curve, the earlier it touches the threshold by luck: smooth it first.

    Args:
        curves: Curves [N, T]; NaN, where missing, is not above anything.
        env_steps: Environment steps [T], increasing.
        threshold: In the curves' unit.

    Returns:
        Environment steps [N]; NaN for a seed that never gets there.

    Raises:
        ValueError: On curves and env_steps that do not fit, or steps that do not increase.
    """
    curves, env_steps = np.asarray(curves, dtype=np.float64), np.asarray(env_steps, dtype=np.float64)
    if curves.ndim != 2 or env_steps.shape != curves.shape[1:] or env_steps.size == 0:
        raise ValueError(f"curves must be [N, T] and env_steps [T], got shapes {curves.shape} and {env_steps.shape}")
    if np.any(np.diff(env_steps) <= 0):
        raise ValueError("env_steps must increase")
    reached = curves >= threshold
    return np.where(reached.any(axis=1), env_steps[reached.argmax(axis=1)], np.nan)


def summarise_steps(steps: ArrayLike, level: float = 0.95) -> StepsTo:
    """Summary over seeds of what `steps_to` gives, steps [N], NaN where never.

    The median of an even number of seeds is the mean of the middle two: it is infinite as
    soon as half of them never get there.

    Raises:
        ValueError: On no seeds, or a level outside (0, 1).
    """
    steps = np.asarray(steps, dtype=np.float64)
    never = np.isnan(steps)
    reached, seeds = int((~never).sum()), len(steps)
    interval = wilson(reached, seeds, level)
    median = float(np.median(np.where(never, np.inf, steps)))
    return StepsTo(median, reached, seeds, Estimate(reached / seeds, *interval))


def wilson(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share, count of total (Wilson 1927): it stays sound at 0, at 1 and for few seeds.

    Raises:
        ValueError: On a count outside 0 to total, a total of 0, or a level outside (0, 1).
    """
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"count must be from 0 to total, and total at least 1, got {count} of {total}")
    z = NormalDist().inv_cdf(_tails(level)[1])
    share, square = count / total, z * z / total
    middle = (share + square / 2) / (1 + square)
    half = z * (share * (1 - share) / total + square / (4 * total)) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def rank(settings: Sequence[ArrayLike], level: float = 0.95, repetitions: int = 2000, seed: int = 0) -> Ranking:
    """Ranks settings by their interquartile mean over seeds; ties by the mean, then as they were given.

    Settings without a score are last. The best of many settings owes part of its score to
    luck, which no interval here takes into account: measure it again with fresh seeds.

    Args:
        settings: For each setting its scores [N], higher being better; N may differ, NaN where missing.
        level: Coverage aimed at, of each interval by itself.
        repetitions: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: On a setting's scores of more than one axis, or infinite, or a level outside (0, 1).
    """
    if any(np.ndim(scores) != 1 for scores in settings):
        raise ValueError("settings are ranked by scores [N] of one task")
    present = [_present(_finite(scores)) for scores in settings]
    scored = sorted((i for i, scores in enumerate(present) if len(scores)), key=lambda i: _merit(present[i]))
    unscored = [i for i, scores in enumerate(present) if not len(scores)]
    entries = []
    for i, following in zip_longest(scored, scored[1:]):
        scores, improvement = present[i], None
        if following is not None:
            pair = scores, present[following]
            bounds = probability_of_improvement_interval(*pair, level, repetitions, seed)
            improvement = Estimate(probability_of_improvement(*pair), *bounds)
        centre = Estimate(iqm(scores), *bootstrap_interval(scores, iqm, level, repetitions, seed))
        entries.append(Standing(len(scores), centre, mean(scores), float(np.median(scores)), improvement))
    nothing = Standing(0, Estimate(np.nan, np.nan, np.nan), np.nan, np.nan, None)
    return Ranking((*scored, *unscored), (*entries, *[nothing] * len(unscored)))


def _merit(scores: np.ndarray) -> tuple[float, float]:
    """What settings are ranked by, the lowest being the best."""
    return -iqm(scores), -mean(scores)


def _tails(level: float) -> tuple[float, float]:
    """The two quantiles between which the interval lies."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0


def _finite(scores: ArrayLike) -> np.ndarray:
    """Scores as an array of float64, none of them infinite."""
    scores = np.asarray(scores, dtype=np.float64)
    if np.isinf(scores).any():
        raise ValueError("scores must be finite, or NaN where missing: for a failure pass the lowest score of the task")
    return scores


def _present(scores: np.ndarray) -> np.ndarray:
    """The scores [n] of [N] that are not missing, sorted: no sum or resample depends on the order of the seeds."""
    return np.sort(scores[~np.isnan(scores)])


def _matrix(scores: ArrayLike) -> np.ndarray:
    """Scores as [N, M], of [N] for one task or of [N, M]."""
    scores = _finite(scores)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise ValueError(f"scores must be [N] or [N, M] with N and M ≥ 1, got shape {scores.shape}")
    return scores.reshape(len(scores), -1)


def _shares_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Shares above thresholds [T], averaged over tasks, [..., N, M] -> [..., T]."""
    missing = np.isnan(scores)
    shares = [aggregate_mean(np.where(missing, np.nan, scores > threshold)) for threshold in thresholds]
    return np.stack(shares, axis=-1)


def _wins(x: ArrayLike, y: ArrayLike) -> list[np.ndarray]:
    """For each task, [n, k] of the pairs of scores present: 1 where x is larger, ½ where they are equal."""
    x, y = _matrix(x), _matrix(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must be of the same tasks, got {x.shape[1]} and {y.shape[1]} of them")
    columns = [(_present(a)[:, None], _present(b)) for a, b in zip(x.T, y.T, strict=True)]
    return [(a > b) + 0.5 * (a == b) for a, b in columns]
