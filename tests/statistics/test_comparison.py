"""Comparisons over seeds and tasks against values worked out by hand, SciPy, rliable's recorded values and coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats as scipy_stats

from purejaxdqn.statistics import comparison
from purejaxdqn.statistics import intervals as stats
from purejaxdqn.statistics.comparison import (
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    optimality_gap,
    performance_profile,
    performance_profile_interval,
    probability_of_improvement,
    probability_of_improvement_interval,
    rank,
    sample_efficiency,
    steps_to,
    stratified_interval,
    summarise_steps,
    wilson,
)

NAN = float("nan")
AGGREGATES = (aggregate_iqm, aggregate_mean, aggregate_median, optimality_gap)

# Six seeds of one algorithm and four of another on three tasks, and what rliable 1.2.0 (with arch 7.2.0) makes of
# them; the bounds are of its 95 % intervals from 50,000 resamples. It cannot be a dependency of the tests: it
# needs arch < 8, which cannot be imported with pandas 3.
X = np.array([[0.9, 1.4, 0.2], [0.7, 1.1, 0.5], [1.2, 0.3, 0.4], [0.1, 1.8, 0.6], [0.8, 1.1, 0.0], [1.0, 0.9, 0.3]])
Y = np.array([[0.6, 1.1, 0.4], [0.8, 0.2, 0.7], [0.5, 1.0, 0.1], [0.7, 1.3, 0.3]])
THRESHOLDS = [0.0, 0.3, 0.75, 1.0, 2.0]
RLIABLE = {
    aggregate_iqm: (0.7200000000000001, 0.6166666666666667, (0.51, 0.89)),
    aggregate_mean: (0.7388888888888889, 0.6416666666666666, (0.5722222222222222, 0.8944444444444445)),
    aggregate_median: (0.7833333333333333, 0.6499999999999999, (0.4833333333333334, 1.0)),
    optimality_gap: (0.35, 0.3916666666666667, (0.2388888888888889, 0.4777777777777778)),
}
RLIABLE_IMPROVEMENT = (0.611111111111111, (0.40972222222222215, 0.8055555555555557))
RLIABLE_PROFILE = (
    [0.9444444444444444, 0.7222222222222222, 0.5, 0.2777777777777778, 0.0],
    [0.8333333333333334, 0.5, 0.3333333333333333, 0.1111111111111111, 0.0],
    [1.0, 0.8888888888888888, 0.6666666666666666, 0.4444444444444444, 0.0],
)

grid = st.integers(-8, 8).map(lambda i: i / 4)  # coarse, so that ties are common


def scores_of(seeds, tasks, missing=False):
    """Score matrices, with NaN among them if asked."""
    return arrays.arrays(np.float64, st.tuples(seeds, tasks), elements=grid | st.just(NAN) if missing else grid)


def assert_agrees(interval_of, expected, resamples):
    """An interval from resampling agrees with another program's, made from so many resamples.

    Over 30 seeds of 2,000 resamples each, either bound has a mean whose difference from the expected one, in its
    standard errors (the expected one's being the spread × √(2,000 / resamples)), is about Student's t with 29
    degrees of freedom. Beyond 5.5 it is with probability 6e-6, so 1.3e-5 for the two bounds of a new set of seeds;
    the seeds being fixed, a test itself is deterministic.
    """
    bounds = np.array([interval_of(seed) for seed in range(30)])
    error = bounds.std(axis=0, ddof=1) * np.sqrt(1 / 30 + 2000 / resamples)
    assert np.all(np.abs(bounds.mean(axis=0) - expected) < 5.5 * error)


# Aggregates.


@pytest.mark.parametrize("aggregate", RLIABLE, ids=lambda aggregate: aggregate.__name__)
def test_aggregates_are_rliables(aggregate):
    of_x, of_y, interval = RLIABLE[aggregate]
    assert aggregate(X) == pytest.approx(of_x, abs=1e-9) and aggregate(Y) == pytest.approx(of_y, abs=1e-9)
    np.testing.assert_allclose(aggregate(np.stack([X, X[::-1], 2 * X]))[:2], of_x, atol=1e-9)
    # The scores being tenths, bounds jump, the median's the furthest: by 1/60. No bound misses by more than one jump.
    np.testing.assert_allclose(stratified_interval(X, aggregate, repetitions=20_000), interval, atol=1.01 / 60)


@given(scores_of(st.integers(1, 9), st.integers(1, 4)))
def test_aggregates_are_scipys_and_numpys(scores):
    assert aggregate_iqm(scores) == pytest.approx(scipy_stats.trim_mean(scores, 0.25, axis=None))
    assert aggregate_mean(scores) == pytest.approx(scores.mean())
    assert aggregate_median(scores) == pytest.approx(np.median(scores.mean(axis=0)))
    assert optimality_gap(scores) == pytest.approx(np.mean([1 - min(score, 1) for score in scores.flat]))


def test_aggregates_leave_missing_scores_out():
    scores = np.array([[1.0, 5.0], [3.0, NAN]])
    assert aggregate_mean(scores) == 3.5, "each task counts the same: (2 + 5) / 2"
    assert aggregate_median(scores) == 3.5
    assert aggregate_iqm(scores) == 3.0, "three scores: nothing is dropped"
    assert optimality_gap(scores, gamma=4.0) == pytest.approx(1.0), "4 - (2 + 4) / 2"
    assert np.isnan(aggregate_mean(np.array([[1.0, NAN]]))), "nothing is known of the second task"


# The stratified bootstrap.


def test_stratified_interval_by_hand():
    """Two tasks of scores 0 and 1: the mean is Binomial(4, ½) / 4, with P(0) = 1/16 and P(≤ ¼) = 5/16.

    Its quantiles at 0.1 and 0.9 are therefore ¼ and ¾; if whole rows were drawn, they would be 0 and 1. With 2,000
    resamples the share of zeros is off by 0.0054 (one standard deviation), so the 0.1 is seven of them away.
    """
    scores = [[0.0, 0.0], [1.0, 1.0]]
    assert stratified_interval(scores, aggregate_mean, level=0.8) == (0.25, 0.75)
    assert stratified_interval(scores, aggregate_mean, level=0.95) == (0.0, 1.0)
    low, high = stratified_interval([[-1.0, 1.0], [1.0, -1.0]], aggregate_mean)
    assert low < 0 < high, "drawn as whole rows, every mean would be 0"


def test_stratified_interval_of_one_task_is_the_bootstrap_interval():
    scores = np.sort(np.random.default_rng(0).normal(size=17))
    expected = stats.bootstrap_interval(scores, stats.iqm, level=0.9, repetitions=300, seed=4)
    assert stratified_interval(scores, level=0.9, repetitions=300, seed=4) == expected
    assert stratified_interval(scores[:, None], level=0.9, repetitions=300, seed=4) == expected
    assert stratified_interval([7.0]) == (7.0, 7.0), "one seed says nothing about the spread"


def test_stratified_interval_is_scipys():
    """SciPy resamples several samples independently of each other, and so each task."""
    scores = np.random.default_rng(1).normal([0.0, 3.0, 6.0], size=(8, 3))
    expected = scipy_stats.bootstrap(
        tuple(scores.T),
        lambda *tasks, axis: scipy_stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis),
        n_resamples=50_000,
        method="percentile",
        vectorized=True,
        batch=5_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert_agrees(lambda seed: stratified_interval(scores, seed=seed), expected, 50_000)


@given(scores_of(st.integers(1, 6), st.integers(1, 3), missing=True), st.randoms(use_true_random=False))
def test_the_order_of_seeds_makes_no_difference(scores, random):
    shuffled = np.array([random.sample(list(task), len(task)) for task in scores.T]).T
    for aggregate in AGGREGATES:
        expected = stratified_interval(scores, aggregate, repetitions=20)
        np.testing.assert_array_equal(stratified_interval(shuffled, aggregate, repetitions=20), expected)
    for of in (probability_of_improvement, lambda *xy: probability_of_improvement_interval(*xy, repetitions=20)):
        np.testing.assert_array_equal(of(shuffled, scores), of(scores, scores))
    np.testing.assert_array_equal(performance_profile(shuffled, [0.0, 1.0]), performance_profile(scores, [0.0, 1.0]))


def test_a_task_with_missing_scores_is_resampled_from_those_it_has():
    full, fewer = [[0.0, 0.0], [1.0, 1.0]], [[NAN, 0.0], [0.0, NAN], [1.0, NAN], [NAN, 1.0]]
    for level in (0.8, 0.95):
        expected = stratified_interval(full, aggregate_mean, level)
        assert stratified_interval(fewer, aggregate_mean, level) == expected
    assert np.isnan(stratified_interval([[1.0, NAN], [2.0, NAN]], aggregate_mean)).all()


def test_blocks_do_not_show(monkeypatch):
    whole = stratified_interval(X, repetitions=50)
    monkeypatch.setattr(comparison, "_BLOCK_ELEMENTS", X.size * 7)
    assert stratified_interval(X, repetitions=50) == whole
    assert stratified_interval(X, repetitions=50, seed=1) != whole


def test_coverage_of_the_stratified_interval():
    """Four tasks of unlike means with 10 normal scores each: 95 % intervals of the aggregate mean hold it in 92.9 %.

    A percentile interval of a mean is 1.96 √0.9 standard errors wide to either side (the resamples' variance is by n,
    not n - 1), and P(|t| < 1.859) = 0.929 with 36 degrees of freedom. Of 500 intervals that is 0.929 ± 0.0115; four
    standard deviations either way are left with probability 6e-5 by new seeds. Resampled across tasks, all would.
    """
    rng = np.random.default_rng(2)
    means = np.array([0.0, 3.0, 6.0, 9.0])
    bounds = [
        stratified_interval(rng.normal(means, size=(10, 4)), aggregate_mean, repetitions=400, seed=i)
        for i in range(500)
    ]
    low, high = np.array(bounds).T
    covered = np.mean((low <= means.mean()) & (high >= means.mean()))
    assert abs(covered - 0.929) < 4 * 0.0115


# Performance profiles.


def test_performance_profile_is_rliables():
    profile, low, high = RLIABLE_PROFILE
    np.testing.assert_allclose(performance_profile(X, THRESHOLDS), profile, atol=1e-9)
    # Bounds are multiples of 1/18. None of the exact probabilities of a resample's share lying at or below one of these
    # is nearer to 0.025 or 0.975 than 0.003, four standard deviations of its estimate from 50,000 resamples.
    bounds = performance_profile_interval(X, THRESHOLDS, repetitions=50_000)
    np.testing.assert_allclose(bounds, [low, high], atol=1e-9)


@given(scores_of(st.integers(1, 8), st.integers(1, 4)), st.lists(grid, min_size=1, max_size=6).map(sorted))
def test_performance_profile_counts_and_never_increases(scores, thresholds):
    profile = performance_profile(scores, thresholds)
    expected = [sum(score > threshold for score in scores.flat) / scores.size for threshold in thresholds]
    np.testing.assert_allclose(profile, expected)
    low, high = performance_profile_interval(scores, thresholds, repetitions=50)
    for curve in (profile, low, high):
        assert np.all(np.diff(curve) <= 1e-12)
    assert np.all(low <= high)


def test_performance_profile_leaves_missing_scores_out():
    np.testing.assert_array_equal(performance_profile([1.0, NAN, 3.0], [0.0, 1.0, 2.0, 3.0]), [1.0, 0.5, 0.5, 0.0])
    # Each task counts the same, however many of its scores are present.
    np.testing.assert_array_equal(performance_profile([[1.0, 0.0], [NAN, 0.0], [NAN, 1.0]], [0.5]), [(1 + 1 / 3) / 2])
    assert np.isnan(performance_profile([[1.0, NAN]], [0.5])).all()


# Probability of improvement.


def test_probability_of_improvement_is_rliables():
    expected, interval = RLIABLE_IMPROVEMENT
    assert probability_of_improvement(X, Y) == pytest.approx(expected, abs=1e-9)
    # Multiples of 1/144, of which bounds may miss by two.
    np.testing.assert_allclose(probability_of_improvement_interval(X, Y), interval, atol=2.1 / 144)


def test_probability_of_improvement_by_hand():
    assert probability_of_improvement([1.0, 2.0, 3.0], [2.0, 2.0]) == 0.5, "lost, tied, won"
    assert probability_of_improvement([3.0, NAN], [1.0, 2.0, 3.0, 4.0]) == (2 + 0.5) / 4
    assert probability_of_improvement([[1.0, 0.0]], [[0.0, 0.0]]) == 0.75, "won on one task, tied on the other"
    assert np.isnan(probability_of_improvement([[1.0, NAN]], [[0.0, 0.0]]))
    assert np.isnan(probability_of_improvement_interval([[1.0, NAN]], [[0.0, 0.0]])).all()
    assert probability_of_improvement_interval([3.0, 4.0], [1.0, 2.0]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="same tasks, got 2 and 3"):
        probability_of_improvement(np.zeros((4, 2)), np.zeros((4, 3)))


@given(scores_of(st.integers(1, 7), st.just(2)), scores_of(st.integers(1, 7), st.just(2)))
def test_probability_of_improvement_is_the_mann_whitney_statistic(x, y):
    found = probability_of_improvement(x, y)
    expected = scipy_stats.mannwhitneyu(x, y, axis=0, method="asymptotic").statistic / (len(x) * len(y))
    assert found == pytest.approx(expected.mean())
    assert found + probability_of_improvement(y, x) == pytest.approx(1.0)
    assert probability_of_improvement(x, x) == pytest.approx(0.5)


def test_probability_of_improvements_interval_is_a_naive_bootstraps():
    rng = np.random.default_rng(3)
    x, y = rng.normal([0.5, 0.0], size=(7, 2)), rng.normal(size=(5, 2)).round(1)

    def resampled():
        draws = [[rng.choice(task, len(task)) for task in side.T] for side in (x, y)]
        return np.mean([np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)) for a, b in zip(*draws, strict=True)])

    expected = np.quantile([resampled() for _ in range(20_000)], [0.025, 0.975])
    assert_agrees(lambda seed: probability_of_improvement_interval(x, y, seed=seed), expected, 20_000)


# Sample efficiency and steps to a threshold.


def test_sample_efficiency_is_iqm_and_bootstrap_interval_at_each_point():
    curves = np.random.default_rng(4).normal(size=(9, 5)).cumsum(axis=1)
    curves[0, 0] = NAN
    found = sample_efficiency(curves, level=0.5, repetitions=100, seed=6)
    np.testing.assert_array_equal(found.value, stats.iqm(curves))
    bounds = stats.bootstrap_interval(curves, stats.iqm, level=0.5, repetitions=100, seed=6)
    np.testing.assert_array_equal((found.low, found.high), bounds)
    assert np.all(found.low < found.high)


def test_steps_to_by_hand():
    curves = [[0.0, 5.0, 3.0, 9.0], [NAN, 4.9, NAN, 5.0], [5.0, NAN, NAN, NAN], [4.0, NAN, NAN, NAN], [NAN] * 4]
    np.testing.assert_array_equal(steps_to(curves, [10, 20, 30, 40], 5.0), [20, 40, 10, NAN, NAN])


@given(scores_of(st.integers(1, 5), st.integers(1, 6), missing=True), grid)
def test_steps_to_is_a_search_from_the_left(curves, threshold):
    env_steps = np.arange(1, curves.shape[1] + 1) ** 2

    def first(curve):
        return next((step for step, value in zip(env_steps, curve, strict=True) if value >= threshold), NAN)

    np.testing.assert_array_equal(steps_to(curves, env_steps, threshold), [first(curve) for curve in curves])


@pytest.mark.parametrize(
    ("curves", "env_steps", "match"),
    [
        (np.zeros((2, 3)), [1, 2], r"\(2, 3\) and \(2,\)"),
        (np.zeros(3), [1, 2, 3], r"\(3,\) and \(3,\)"),
        (np.zeros((2, 0)), [], r"\(2, 0\)"),
        (np.zeros((2, 3)), [1, 1, 2], "increase"),
    ],
)
def test_steps_to_refuses_what_does_not_fit(curves, env_steps, match):
    with pytest.raises(ValueError, match=match):
        steps_to(curves, env_steps, 0.0)


@pytest.mark.parametrize(
    ("steps", "median", "reached"),
    [
        ([10.0, NAN, 30.0], 30.0, 2),  # In order: 10, 30, never.
        ([10.0, 20.0, 40.0, NAN], 30.0, 3),
        ([10.0, NAN], np.inf, 1),  # The mean of 10 and never.
        ([NAN, NAN, NAN], np.inf, 0),
    ],
)
@pytest.mark.filterwarnings("error")
def test_never_counts_as_infinity_in_the_median(steps, median, reached):
    found = summarise_steps(steps, level=0.9)
    assert (found.median, found.reached, found.seeds) == (median, reached, len(steps))
    assert found.share == (reached / len(steps), *wilson(reached, len(steps), 0.9))


# Shares.


def test_wilson_by_hand():
    """Of 5 of 10, with z² = 3.8415: ½ ± 1.96 √(0.025 + 0.0096) / 1.38415. Of n of n: from n / (n + z²) to 1."""
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(128, 128) == pytest.approx((128 / (128 + 1.959963984540054**2), 1.0), abs=1e-9)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.01, 0.999))
def test_wilson_is_scipys(shares, level):
    expected = scipy_stats.binomtest(*shares).proportion_ci(level, method="wilson")
    assert wilson(*shares, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("count", "total", "level"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_what_is_no_share(count, total, level):
    with pytest.raises(ValueError, match=r"count|level"):
        wilson(count, total, level)


# Ranking.


def test_rank_by_hand():
    worst, best, even, nothing = [1.0, 2.0, 3.0], [9.0, NAN, 7.0], [-4.0, 5.0, 5.0, 6.0], [NAN, NAN]
    tied = [-50.0, 5.0, 5.0, 6.0]  # The same interquartile mean as `even`, and a lower mean.
    found = rank([worst, nothing, tied, even, [], best], level=0.9, seed=3)
    assert found.order == (5, 3, 2, 0, 1, 4)
    assert [entry.seeds for entry in found.entries] == [2, 4, 4, 3, 0, 0]
    np.testing.assert_array_equal([entry.iqm.value for entry in found.entries], [8.0, 5.0, 5.0, 2.0, NAN, NAN])
    np.testing.assert_array_equal([entry.mean for entry in found.entries], [8.0, 3.0, -8.5, 2.0, NAN, NAN])
    np.testing.assert_array_equal([entry.median for entry in found.entries], [8.0, 5.0, 5.0, 2.0, NAN, NAN])
    # Of 16 pairs 5 are won and 1 more by -4 > -50, 5 tied; of tied over worst, 9 of 12 are won.
    improvements = [entry.improvement for entry in found.entries]
    assert [improvement.value for improvement in improvements[:3]] == pytest.approx([1.0, 8.5 / 16, 0.75])
    assert improvements[3:] == [None] * 3
    bounds = probability_of_improvement_interval(tied, worst, level=0.9, seed=3)
    assert improvements[2][1:] == bounds and bounds[0] < 0.75 < bounds[1]
    assert found.entries[1].iqm[1:] == stats.bootstrap_interval(even, level=0.9, seed=3)
    assert np.isnan(found.entries[4].iqm).all()


def test_a_failure_counts_as_what_is_passed_for_it():
    """Left out, the diverged seed flatters its setting; as the lowest score it does not."""
    steady, lucky = [5.0, 5.0, 5.0], [9.0, NAN, NAN]
    assert rank([steady, lucky]).order == (1, 0)
    assert rank([steady, np.nan_to_num(lucky, nan=0.0)]).order == (0, 1)


@given(st.lists(arrays.arrays(np.float64, st.integers(0, 5), elements=grid | st.just(NAN)), min_size=1, max_size=3))
def test_rank_is_a_sort_and_the_order_of_seeds_makes_no_difference(settings):
    found = rank(settings, repetitions=5)
    assert sorted(found.order) == list(range(len(settings)))
    keys = [(-entry.iqm.value, -entry.mean) for entry in found.entries if entry.seeds]
    assert keys == sorted(keys)
    # NaN differs from itself, but not as text.
    assert repr(rank([setting[::-1] for setting in settings], repetitions=5)) == repr(found)


# What is refused.


@pytest.mark.parametrize("scores", [[], np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 2, 2)), 1.0, [1.0, -np.inf]])
def test_bad_scores_are_refused(scores):
    for of in (
        stratified_interval,
        lambda scores: performance_profile(scores, [0.0]),
        lambda scores: performance_profile_interval(scores, [0.0]),
        lambda scores: probability_of_improvement(scores, [1.0]),
        lambda scores: probability_of_improvement_interval([1.0], scores),
    ):
        with pytest.raises(ValueError, match="scores must be"):
            of(scores)


def test_bad_settings_and_levels_are_refused():
    with pytest.raises(ValueError, match="one task"):
        rank([[1.0], np.zeros((2, 2))])
    with pytest.raises(ValueError, match="finite"):
        rank([[1.0, np.inf]])
    for of in (stratified_interval, lambda x, level: probability_of_improvement_interval(x, x, level)):
        with pytest.raises(ValueError, match="level"):
            of([1.0, 2.0], level=1.0)
