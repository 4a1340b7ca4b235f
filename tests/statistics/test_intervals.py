"""Statistics over seeds against values worked out by hand, SciPy, and simulated coverage."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from purejaxdqn.statistics.intervals import bootstrap_interval, fill_missing, iqm, mean, standard_error

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 6.0], 3.0),  # Fewer than four: the plain mean.
        ([100.0, 2.0, 4.0, -50.0], 3.0),  # One dropped at each end.
        ([9.0, 1.0, 2.0, 3.0, 4.0], 3.0),  # ⌊5/4⌋ = 1: the mean of 2, 3, 4.
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 60.0, 70.0], 3.5),  # Two at each end: the mean of 2, 3, 4, 5.
        ([100.0, NAN, 2.0, 4.0, -50.0, NAN], 3.0),  # Missing values do not count.
    ],
)
def test_iqm_by_hand(scores: list[float], expected: float) -> None:
    assert iqm(scores) == pytest.approx(expected)


def test_iqm_is_scipys_trimmed_mean() -> None:
    rng = np.random.default_rng(0)
    for n in range(1, 30):
        scores = rng.normal(size=(n, 7))
        np.testing.assert_allclose(iqm(scores), scipy_stats.trim_mean(scores, 0.25, axis=0))
        np.testing.assert_allclose(iqm(scores.T, axis=1), iqm(scores))


def test_nothing_present_is_nan() -> None:
    table = [[NAN, 1.0], [NAN, 3.0]]
    for statistic in (iqm, mean):
        np.testing.assert_array_equal(statistic(table), [NAN, 2.0])
        assert np.isnan(statistic([NAN]))


def test_standard_error() -> None:
    # Deviations -1, 0, 1: the sample variance is 1, over three seeds.
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / np.sqrt(3))
    assert standard_error([1.0, NAN, 2.0, 3.0]) == pytest.approx(1 / np.sqrt(3))
    assert np.isnan(standard_error([4.0]))
    scores = np.random.default_rng(0).normal(size=(9, 4))
    np.testing.assert_allclose(standard_error(scores), scipy_stats.sem(scores, axis=0))


def test_interval_covers_the_true_value_as_often_as_documented() -> None:
    """Coverage for the mean of 20 normal scores is 0.93 (see `bootstrap_interval`).

    Of 2,000 independent columns (sharing resampled rows, which correlates them a little), the fraction covered
    has a standard deviation of at most about 0.006; 0.90 to 0.96 is five of them either way, a false-alarm rate
    below 1e-5 for a new seed. The seed being fixed, the test itself is deterministic.
    """
    scores = np.random.default_rng(1).normal(size=(20, 2000))
    low, high = bootstrap_interval(scores, mean, repetitions=400)
    covered = float(np.mean((low <= 0) & (high >= 0)))
    assert 0.90 < covered < 0.96
    narrow_low, narrow_high = bootstrap_interval(scores, mean, level=0.5, repetitions=400)
    assert 0.42 < float(np.mean((narrow_low <= 0) & (narrow_high >= 0))) < 0.56
    assert np.all((low <= narrow_low) & (narrow_high <= high))


def test_interval_matches_scipy_for_one_set_of_scores() -> None:
    scores = np.random.default_rng(2).exponential(size=15)
    expected = scipy_stats.bootstrap(
        (scores,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = bootstrap_interval(scores, np.mean, repetitions=20_000)
    # Two estimates of a quantile from 20,000 draws each: their errors are a few thousandths here.
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_interval_shapes_seeds_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = np.random.default_rng(3).normal(size=(6, 11))
    whole = bootstrap_interval(curves, iqm, repetitions=50)
    assert whole[0].shape == whole[1].shape == (11,)
    assert np.all(whole[0] < whole[1])
    np.testing.assert_allclose(bootstrap_interval(curves[:, 4], iqm, repetitions=50), (whole[0][4], whole[1][4]))
    assert not np.array_equal(bootstrap_interval(curves, iqm, repetitions=50, seed=1)[0], whole[0])
    monkeypatch.setattr("purejaxdqn.statistics.intervals._BLOCK_ELEMENTS", 6 * 50 * 4)
    np.testing.assert_array_equal(bootstrap_interval(curves, iqm, repetitions=50), whole)


def test_interval_of_one_seed_is_the_point() -> None:
    assert bootstrap_interval([7.0]) == (7.0, 7.0)
    low, high = bootstrap_interval([[1.0, NAN, 3.0]])
    np.testing.assert_array_equal(low, [1.0, NAN, 3.0])
    np.testing.assert_array_equal(high, low)


@pytest.mark.filterwarnings("error")
def test_interval_with_missing_values() -> None:
    scores = np.array([[1.0, NAN, NAN], [2.0, NAN, 5.0], [3.0, NAN, 5.0]])
    low, high = bootstrap_interval(scores, mean, repetitions=200)
    assert 1.0 <= low[0] < high[0] <= 3.0
    assert np.isnan(low[1]) and np.isnan(high[1])
    assert (low[2], high[2]) == (5.0, 5.0)


@pytest.mark.parametrize(("scores", "level"), [([], 0.95), (np.zeros((2, 2, 2)), 0.95), ([1.0, 2.0], 1.0)])
def test_interval_refuses_bad_arguments(scores: np.ndarray, level: float) -> None:
    with pytest.raises(ValueError, match=r"scores|level"):
        bootstrap_interval(scores, level=level)


def test_fill_missing_carries_forward_within_each_seed() -> None:
    curves = np.array([[NAN, 1.0, NAN, NAN, 2.0], [3.0, NAN, 4.0, NAN, NAN], [NAN] * 5])
    before = curves.copy()
    filled = fill_missing(curves)
    np.testing.assert_array_equal(filled, [[NAN, 1.0, 1.0, 1.0, 2.0], [3.0, 3.0, 4.0, 4.0, 4.0], [NAN] * 5])
    np.testing.assert_array_equal(curves, before)
