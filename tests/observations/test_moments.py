"""Running moments: against NumPy in float64, in any grouping, beyond what float32 counts to; and what is normalised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import EnvSpec
from purejaxdqn.machine.shards import WHOLE
from purejaxdqn.networks.qnetwork import features_of
from purejaxdqn.observations.moments import (
    MOST_ROWS,
    Moments,
    follow_obs,
    join_all,
    join_moments,
    moments_of,
    no_moments,
    no_obs_moments,
    normalize,
    normalize_obs,
)

pytestmark = pytest.mark.usefixtures("strict_ranks")


def welford(rows):
    """Count, mean and variance of rows, one after the other (Welford 1962), in float64."""
    count, mean, total = 0, np.zeros(rows.shape[1:]), np.zeros(rows.shape[1:])
    for row in np.asarray(rows, np.float64):
        count += 1
        way = row - mean
        mean += way / count
        total += way * (row - mean)
    return count, mean, total / max(count, 1)


def assert_moments(found, rows):
    """The mean within a ten-thousandth of a deviation (of numbers a thousand times as large), the variance likewise."""
    count, mean, variance = welford(rows)
    assert float(found.count) == count
    np.testing.assert_allclose(found.mean, mean, rtol=0.0, atol=1e-4 * np.sqrt(variance).max() + 1e-6)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-3, atol=1e-6)


def test_two_sets_are_joined_by_hand():
    """1, 3 and then 8: means 2 and 8 are (2 · 2 + 8) / 3 = 4; squares off it 9 + 1 + 16 over 3."""
    a = Moments(jnp.float32(2.0), jnp.float32(2.0), jnp.float32(1.0))
    b = Moments(jnp.float32(1.0), jnp.float32(8.0), jnp.float32(0.0))
    for found in (join_moments(a, b), join_moments(b, a)):
        np.testing.assert_allclose([found.count, found.mean, found.variance], [3.0, 4.0, 26 / 3], rtol=1e-6)
    nothing = no_moments(())
    for found in (join_moments(nothing, a), join_moments(a, nothing)):
        assert [float(part) for part in (found.count, found.mean, found.variance)] == [2.0, 2.0, 1.0]


@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1), (2, 5), (3, 0, 8), (7, 1, 6, 4)])
def test_any_grouping_is_welfords_stream(sizes):
    """Rows around a thousand that differ by one, a third of which do not count and are no numbers."""
    rng = np.random.default_rng(0)
    follow = jax.jit(lambda running, *rows: join_moments(running, moments_of(*rows)))
    running, kept = no_moments((3,)), []
    for size in sizes:
        rows, counted = 1e3 + rng.normal(size=(size + 1, 3)), rng.random(size + 1) < 2 / 3
        kept.append(rows[counted].astype(np.float32))
        rows[~counted] = np.nan
        running = follow(running, rows.astype(np.float32), counted)
    stream = np.concatenate(kept)
    if len(stream):
        assert_moments(running, stream)
    else:
        assert float(running.count) == 0.0 and running.variance.tolist() == [1.0] * 3


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_several_sets_are_all_of_their_rows(number):
    rows = np.random.default_rng(1).normal(size=(number, 4, 2)).astype(np.float32)
    found = jax.jit(lambda rows: join_all(jax.vmap(moments_of)(rows, jnp.ones(rows.shape[:2], bool))))(rows)
    assert_moments(found, rows.reshape(-1, 2))


def test_a_long_run_goes_on_moving():
    """After numbers of mean 0 and variance 1 come two million ones, 64 at a time: the share of the old is (1 - p)^32768
    with p = 64 / (2²⁰ + 64), and mean and variance are those of such a mixture."""
    old = Moments(jnp.float32(MOST_ROWS), jnp.zeros(1), jnp.ones(1))
    new = Moments(jnp.float32(64.0), jnp.ones(1), jnp.zeros(1))
    found = jax.jit(lambda: jax.lax.fori_loop(0, 2**15, lambda _, m: join_moments(m, new), old))()
    share = (1 - 64 / (2**20 + 64)) ** (2**15)
    assert float(found.count) == MOST_ROWS and 0.1 < share < 0.2
    np.testing.assert_allclose(found.mean, 1 - share, rtol=1e-3)
    np.testing.assert_allclose(found.variance, share + share * (1 - share), rtol=1e-3)
    # A single row is not lost either.
    one = join_moments(old, Moments(jnp.float32(1.0), jnp.ones(1), jnp.zeros(1)))
    assert 0.9e-6 < float(one.mean[0]) < 1.0e-6


def test_normalising_by_hand():
    """(7 - 3) / √4 = 2, a constant is 0 and ±10 is the end; without a row numbers stay what they are."""
    moments = Moments(jnp.float32(9.0), jnp.array([3.0, 5.0]), jnp.array([4.0, 0.0]))
    x = jnp.array([[7.0, 5.0], [1e6, 5.1], [-1e6, 4.9]])
    np.testing.assert_allclose(normalize(moments, x), [[2.0, 0.0], [10.0, 10.0], [-10.0, -10.0]], atol=1e-6)
    np.testing.assert_allclose(normalize(no_moments((2,)), x[:1]), [[7.0, 5.0]], rtol=1e-6)
    assert normalize(moments, x.astype(jnp.bfloat16)).dtype == jnp.float32


TREE = EnvSpec(
    "Tree-v0",
    2,
    {"map": (4, 4, 3), "kind": (), "more": ((2,), (3,))},
    {"map": "uint8", "kind": "int32", "more": ("float32", "bfloat16")},
    {"kind": 5},
    100,
    obs_scale={"more": (50.0,)},
)


def tree_obs(rng, *batch):
    return {
        "map": jnp.asarray(rng.integers(0, 256, (*batch, 4, 4, 3)), jnp.uint8),
        "kind": jnp.asarray(rng.integers(0, 5, batch), jnp.int32),
        "more": (
            jnp.asarray(100 * rng.normal(size=(*batch, 2)), jnp.float32),
            jnp.asarray(rng.normal(size=(*batch, 3)), jnp.bfloat16),
        ),
    }


def test_of_a_tree_arrays_of_floats_alone_are_normalised():
    """Their `obs_scale` has no say; bytes and names are the same arrays."""
    rng = np.random.default_rng(2)
    obs, counted = tree_obs(rng, 5, 3), jnp.asarray(rng.random((5, 3)) < 0.7)
    found = jax.jit(lambda *rows: follow_obs(WHOLE, TREE, no_obs_moments(TREE), *rows))(obs, counted)
    assert found["map"] is None and found["kind"] is None
    for moments, x in zip(found["more"], obs["more"], strict=True):
        assert_moments(moments, np.asarray(x, np.float32)[np.asarray(counted)])
    batch = jax.tree.map(lambda leaf: leaf[0], obs)
    read = normalize_obs(TREE, found, batch)
    assert read["map"] is batch["map"] and read["kind"] is batch["kind"]
    _, mean, variance = welford(np.asarray(obs["more"][0])[np.asarray(counted)])
    entered = features_of(TREE, read)["more"][0]
    expected = (np.asarray(batch["more"][0]) - mean) / np.sqrt(variance + 1e-8)
    np.testing.assert_allclose(entered, expected, rtol=1e-3, atol=1e-4)
    assert normalize_obs(TREE, None, batch) is batch


WRONG = {
    "x": lambda: normalize(no_moments((2,)), jnp.ones((4, 3))),
    "counted": lambda: moments_of(jnp.ones((4, 3)), jnp.ones(4)),
    "b_mean": lambda: join_moments(no_moments((2,)), no_moments((3,))),
    "b_count": lambda: join_moments(no_moments(()), no_moments(()).replace(count=jnp.zeros(2))),
}


@pytest.mark.parametrize("argument", WRONG)
def test_a_wrong_argument_is_named(argument):
    with pytest.raises(AssertionError, match=f"`{argument}`"):
        WRONG[argument]()
