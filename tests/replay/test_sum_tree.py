"""The sum tree against a plain array, its sums after a million updates, and where it finds masses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from purejaxdqn.replay import sum_tree
from purejaxdqn.replay.sum_tree import find, get_leaves, init_tree, set_leaves, total

pytestmark = pytest.mark.usefixtures("strict_ranks")

jit_init = jax.jit(init_tree, static_argnums=(0, 1))
jit_set = jax.jit(set_leaves)
jit_find = jax.jit(find)
jit_total = jax.jit(total)
jit_leaves = jax.jit(get_leaves)

# One leaf, one level, several levels with and without padding, and levels above the size that is recomputed whole.
SHAPES = [(1, 2), (7, 8), (64, 4), (300, 16), (5_000, 2), (9_001, 8)]


def tree_of(values, fan_out=8):
    """A tree with given leaves."""
    return jit_set(jit_init(len(values), fan_out), np.arange(len(values), dtype=np.int32), np.float32(values))


def bottom_up(leaves, num_leaves, fan_out):
    """Every level in numpy: sums of fan_out values in float32, halves added to halves."""
    levels = []
    values = np.asarray(leaves, np.float32)
    while True:
        padded = np.zeros(-(-len(values) // fan_out) * fan_out, np.float32)
        padded[: len(values)] = values
        levels.append(padded)
        if len(padded) == fan_out:
            return levels
        rows = padded.reshape(-1, fan_out)
        while rows.shape[1] > 1:
            rows = rows[:, : rows.shape[1] // 2] + rows[:, rows.shape[1] // 2 :]
        values = rows[:, 0]


def assert_consistent(tree):
    """Every level is, to the last bit, what its leaves give, padding included."""
    expected = bottom_up(jit_leaves(tree), tree.num_leaves, tree.fan_out)
    assert len(expected) == len(tree.levels)
    for level, twin in zip(tree.levels, expected, strict=True):
        np.testing.assert_array_equal(level, twin)


@pytest.mark.parametrize(("num_leaves", "fan_out"), SHAPES)
def test_equals_a_plain_array(num_leaves, fan_out):
    """At least 12,000 writes and as many searches over all shapes: whole numbers, for which float32 is exact."""
    size = 8

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(10, 22), st.floats(0.0, 0.9))
    def run(seed, batches, zeros):
        rng = np.random.default_rng(seed)
        tree, twin = jit_init(num_leaves, fan_out), np.zeros(num_leaves)
        for _ in range(batches):
            # Some indices lie outside on either side, and in a small tree most occur twice.
            index = rng.integers(-2, num_leaves + 3, size)
            value = rng.integers(1, 100, size) * (rng.random(size) >= zeros)
            tree = jit_set(tree, index.astype(np.int32), value.astype(np.float32))
            inside = (index >= 0) & (index < num_leaves)
            for i in set(index[inside]):
                twin[i] = value[index == i].max()
            np.testing.assert_array_equal(jit_leaves(tree), twin)
            ends = np.cumsum(twin)
            assert float(jit_total(tree)) == ends[-1]
            if ends[-1] > 0:
                mass = rng.integers(0, ends[-1], size)
                found = jit_find(tree, mass.astype(np.float32))
                np.testing.assert_array_equal(found, np.searchsorted(ends, mass, side="right"))
        assert_consistent(tree)

    run()


def test_shapes():
    """100 leaves under nodes of 8: 100 in 104 places, 13 sums in 16, and 2 in 8."""
    tree = init_tree(100, 8)
    assert [level.shape for level in tree.levels] == [(104,), (16,), (8,)]
    assert get_leaves(tree).shape == (100,) and total(tree).shape == ()
    assert all(level.dtype == jnp.float32 for level in tree.levels)


@pytest.mark.parametrize("num_leaves", [0, -1])
def test_refuses_no_leaves(num_leaves):
    with pytest.raises(ValueError, match="at least 1 leaf"):
        init_tree(num_leaves)


@pytest.mark.parametrize("fan_out", [0, 1, 3, 12])
def test_refuses_other_fan_outs(fan_out):
    with pytest.raises(ValueError, match="power of two"):
        init_tree(10, fan_out)


def test_find_by_hand():
    """Leaves 2, 0, 3, 1 end at 2, 2, 5 and 6; an end belongs to the next positive leaf."""
    tree = tree_of([2.0, 0.0, 3.0, 1.0, 0.0], fan_out=2)
    found = jit_find(tree, np.float32([0.0, 1.9, 2.0, 4.9, 5.0, 5.9, 6.0, 1e9, -1.0]))
    assert found.tolist() == [0, 0, 2, 2, 3, 3, 3, 3, 0]


def test_the_largest_of_several_values_stays():
    """Whatever their order, and also where the leaf was larger before."""
    tree = tree_of([9.0, 9.0, 9.0])
    for value in ([1.0, 3.0, 2.0, 0.0], [3.0, 2.0, 1.0, 0.0], [2.0, 1.0, 3.0, 0.0]):
        changed = jit_set(tree, np.array([1, 1, 1, 2], np.int32), np.float32(value))
        assert jit_leaves(changed).tolist() == [9.0, 3.0, 0.0] and float(jit_total(changed)) == 12.0


@pytest.mark.parametrize("outside", [-1, -8, 100, 101, 104, 1_000, 2**31 - 1, -(2**31)])
def test_nothing_is_written_outside(outside):
    """Neither in the leaves nor in any level's padding."""
    tree = tree_of(np.arange(100) + 1.0)
    changed = jit_set(tree, np.array([outside], np.int32), np.float32([5.0]))
    jax.tree.map(np.testing.assert_array_equal, changed, tree)


@pytest.mark.parametrize("fan_out", [2, 8, 64])
def test_leaves_of_zero_are_never_found(fan_out):
    """One leaf in fifty is positive, over 60 powers of two, so that sums round; masses reach past both ends."""
    rng = np.random.default_rng(0)
    values = np.exp2(rng.uniform(-30, 30, 5_000)) * (rng.random(5_000) < 0.02)
    values[-1] = 0.0
    tree = tree_of(values, fan_out)
    whole = np.float32(jit_total(tree))
    ends = np.cumsum(values)
    near = np.concatenate([whole + np.spacing(whole) * np.arange(-50, 50), [0.0, -0.0, -1.0, 2 * whole, np.inf]])
    mass = np.concatenate([rng.uniform(0, whole, 20_000), ends, np.nextafter(ends, 0), near]).astype(np.float32)
    found = np.asarray(jit_find(tree, mass))
    assert np.all(values[found] > 0.0)
    # And they are the right ones, up to the rounding of sums of 5,000 values.
    slack = 1e-5 * whole
    inner = np.clip(mass, 0.0, ends[-1])
    assert np.all(ends[found] >= inner - slack) and np.all((ends - values)[found] <= inner + slack)


def test_a_single_tiny_leaf_is_found_from_anywhere():
    """Beside it all is zero; the smallest normal number is a leaf like any other."""
    for place in (0, 511, 4_096, 8_999):
        values = np.zeros(9_000)
        values[place] = 2.0**-126
        tree = tree_of(values)
        assert set(np.asarray(jit_find(tree, np.float32([0.0, 2.0**-127, 2.0**-126, 1.0])))) == {place}


def test_all_zero_finds_some_leaf():
    found = np.asarray(jit_find(jit_init(100, 8), np.float32([0.0, 1.0])))
    assert np.all((found >= 0) & (found < 100))


@functools.partial(jax.jit, static_argnums=(2, 3))
def many_updates(tree, key, batches, size):
    """Random leaves over six orders of magnitude, `size` at a time."""

    def body(i, tree):
        where, what = jax.random.split(jax.random.fold_in(key, i))
        index = jax.random.randint(where, (size,), 0, tree.num_leaves)
        return set_leaves(tree, index, 10.0 ** jax.random.uniform(what, (size,), minval=-3.0, maxval=3.0))

    return jax.lax.fori_loop(0, batches, body, tree)


def test_no_drift_after_a_million_updates():
    """Every sum is to the last bit what one summation of the leaves gives, and the root right to float32's accuracy."""
    tree = many_updates(jit_init(131_072, 8), jax.random.key(0), 1_000, 1_000)
    leaves = np.asarray(jit_leaves(tree), np.float64)
    assert np.mean(leaves > 0.0) > 0.99  # a million updates over 131,072 leaves miss e^-7.6 of them
    assert_consistent(tree)
    np.testing.assert_allclose(float(jit_total(tree)), leaves.sum(), rtol=1e-6)


@pytest.mark.parametrize(("num_leaves", "fan_out"), [(40, 2), (40, 16)])
def test_frequencies(num_leaves, fan_out):
    """Pearson's χ² of 100,000 independent masses over 40 leaves; it fails a right tree with probability 1e-4."""
    draws = 100_000
    values = np.random.default_rng(1).uniform(0.1, 2.0, num_leaves)
    tree = tree_of(values, fan_out)
    mass = np.random.default_rng(3).random(draws, np.float32) * np.asarray(jit_total(tree))
    counts = np.bincount(np.asarray(jit_find(tree, mass)), minlength=num_leaves)
    expected = draws * values / values.sum()
    assert chi2.sf(np.sum((counts - expected) ** 2 / expected), num_leaves - 1) > 1e-4


def test_vmapped_trees_equal_solo_trees():
    """To the last bit, with indices of their own and with shared ones."""
    values = np.random.default_rng(0).uniform(0, 5, (3, 9_000)).astype(np.float32)
    index, first = np.random.default_rng(1).integers(0, 9_000, (3, 50), np.int32), np.arange(50, dtype=np.int32)
    solo = [tree_of(row) for row in values]
    lanes = jax.tree.map(lambda *leaves: np.stack(leaves), *solo)
    lanes = jax.jit(jax.vmap(set_leaves))(lanes, index, values[:, :50])
    lanes = jax.jit(jax.vmap(set_leaves, in_axes=(0, None, 0)))(lanes, first, values[:, 50:100])
    found = jax.jit(jax.vmap(find))(lanes, values[:, :50] * 1_000)
    lanes, found = jax.device_get((lanes, found))
    for i, tree in enumerate(solo):
        tree = jit_set(tree, index[i], values[i, :50])
        tree = jit_set(tree, first, values[i, 50:100])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), lanes, tree)
        np.testing.assert_array_equal(found[i], jit_find(tree, values[i, :50] * 1_000))


@pytest.mark.usual_compilation
@pytest.mark.parametrize("fan_out", [pytest.param(2, marks=pytest.mark.long), 8, 128])
def test_a_donated_update_is_in_place(fan_out):
    """In a loop, with a search before each update: no scratch space for 4 MB of leaves."""

    def step(_, tree):
        index = find(tree, jnp.arange(16) * total(tree) / 16)
        return set_leaves(tree, index, jnp.ones(16))

    def loop(tree, n):
        return jax.lax.fori_loop(0, n, step, tree)

    tree = jax.eval_shape(lambda: init_tree(10**6, fan_out))
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(tree))
    memory = jax.jit(loop, donate_argnums=0).lower(tree, 3).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= size and memory.temp_size_in_bytes < 300_000
    # The check can fail: without donation nothing is aliased.
    assert jax.jit(loop).lower(tree, 3).compile().memory_analysis().alias_size_in_bytes == 0


def test_both_ways_to_parents_are_taken():
    """The shapes above lie on both sides of the size up to which a level's parents are recomputed whole."""
    sizes = [len(level) for shape in SHAPES for level in bottom_up(np.zeros(shape[0]), *shape)[:-1]]
    assert min(sizes) <= sum_tree.WHOLE < max(sizes)
