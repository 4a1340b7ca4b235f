"""What a report computes, against values worked out by hand."""

import numpy as np
import pytest

from purejaxdqn.report.contents import differing, flat_fields, short_text, value_text
from purejaxdqn.report.numbers import (
    band,
    cell_means,
    lay_out,
    levels,
    profile,
    scale_of,
    score,
    seed_points,
    survivors,
)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1e-4, 3e-4, 1e-3], "log"),
        ([1, 2, 5, 10, 20], "log"),
        ([1e-4, 1e-2], "log"),
        ([0.95, 0.99], "linear"),
        ([1, 2, 3, 4], "linear"),
        ([0.0, 0.5, 1.0], "linear"),
        ([0.9, 0.99, 0.999], "category"),
        (["huber", "squared"], "category"),
        ([10.0, float("inf")], "category"),
        ([True, False], "category"),
        ([0.1], "category"),
        (list(10.0 ** np.linspace(-5, -2, 40)), "log"),
        (list(np.linspace(0.9, 0.999, 40)), "linear"),
    ],
)
def test_axes_follow_the_spacing_of_values(values, scale):
    assert scale_of(values) == scale


def test_categories_stand_in_the_order_of_their_values():
    layout = lay_out([float("inf"), 10.0, "none", 1.0, 10.0], value_text)
    assert layout.labels == ("1", "10", "inf", "none") and not layout.ordered
    np.testing.assert_array_equal(layout.places, [2, 1, 3, 0, 1])
    assert lay_out([10.0, float("inf")], value_text).ordered


def test_levels_leave_out_lanes_without_a_score():
    layout = lay_out([1e-3, 1e-3, 1e-2, 1e-2, 1e-1], value_text)
    found, binned = levels(layout, np.array([1.0, 3.0, 5.0, np.nan, np.nan]))
    assert not binned and [(level.place, level.score.iqm, level.score.seeds) for level in found] == [
        (1e-3, 2.0, 2),
        (1e-2, 5.0, 1),
    ]


def test_bins_hold_every_lane_once():
    values = np.linspace(1.0, 2.0, 50)
    found, binned = levels(lay_out(list(values), value_text), values)
    assert binned and len(found) == 8 and sum(level.score.seeds for level in found) == 50
    assert [level.place for level in found] == sorted(level.place for level in found)


def test_a_score_without_seeds_is_no_number():
    assert np.isnan(score(np.array([np.nan, np.nan])).iqm) and score(np.array([np.nan])).seeds == 0
    one = score(np.array([1.0, 2.0, 3.0, 10.0, np.nan]))
    assert (one.iqm, one.mean, one.median, one.seeds) == (2.5, 4.0, 2.5, 4)
    assert one.low <= one.iqm <= one.high


def test_cells_are_means_over_what_else_varied():
    first, second = lay_out([1, 1, 2, 2], value_text), lay_out(["a", "b", "a", "a"], value_text)
    a, b, means = cell_means(first, second, np.array([1.0, 2.0, 3.0, 5.0]))
    assert len(a) == len(b) == 2
    np.testing.assert_array_equal(means, [[1.0, 4.0], [2.0, np.nan]])


def test_a_profile_counts_seeds_above_each_score():
    x, y = profile(np.array([3.0, 1.0, 3.0, 2.0]), 0.0, 4.0)
    for tau, share in ((0.5, 1.0), (1.0, 0.75), (1.5, 0.75), (2.0, 0.5), (2.9, 0.5), (3.0, 0.0), (3.9, 0.0)):
        assert y[np.searchsorted(x, tau, side="right") - 1] == share


def test_survivors():
    x, y = survivors(np.array([10, 10, 20, 40]), np.array([0, 0, 1, -1]))
    np.testing.assert_array_equal(x, [0, 10, 20, 40])
    np.testing.assert_array_equal(y, [4, 2, 1, 1])
    np.testing.assert_array_equal(survivors(np.array([40, 40]), np.array([-1, -1]))[1], [2, 2])


def test_bands_skip_steps_that_nobody_measured():
    steps = np.arange(1.0, 7.0)
    returns = np.where(steps % 2 == 0, np.outer([1.0, 2.0, 3.0, 4.0], steps), np.nan)
    x, found = band(steps, returns)
    np.testing.assert_array_equal(x, [2, 4, 6])
    np.testing.assert_array_equal(found.value, [5.0, 10.0, 15.0])
    assert (found.low <= found.value).all() and (found.value <= found.high).all()


def test_thinned_seeds_keep_their_ends():
    steps = np.arange(1.0, 1001.0)
    x, curves = seed_points(steps, np.stack([steps, -steps]), 20)
    assert len(x) == 20 and x[0] == 1 and x[-1] == 1000
    np.testing.assert_array_equal(curves, [x, -x])
    assert len(seed_points(steps, np.stack([steps]), 5_000)[0]) == 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.63196e-05, "5.632e-05"),
        (0.99995, "0.99995"),
        (1e-3, "0.001"),
        (float("inf"), "inf"),
        (50_000, "50,000"),
        (True, "true"),
        (None, "none"),
        ((120, 84), "120, 84"),
    ],
)
def test_values_in_words(value, text):
    assert short_text(value) == text


def test_fields_from_files_and_from_code_compare_equal():
    from_file = flat_fields({"hidden": [120, 84], "env_params": {"tau": 0.1}}, {"max_grad_norm": "inf"})
    from_code = flat_fields({"hidden": (120, 84), "env_params": {"tau": 0.1}}, {"max_grad_norm": float("inf")})
    assert differing([from_file, from_code]) == []
    assert from_code["env_params.tau"] == 0.1
    assert differing([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1, "b": 2, "c": None}]) == ["b", "c"]
