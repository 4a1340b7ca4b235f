"""Prioritized replay: which rows can be drawn, how often, with what weight, and what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from purejaxdqn.build import build
from purejaxdqn.config import Config
from purejaxdqn.replay import sum_tree
from purejaxdqn.replay.prioritized import Drawn, importance_weights, prioritized, to_leaf
from purejaxdqn.replay.transitions import transition_store
from purejaxdqn.types import Hypers, Row, is_counter, lane_axes

pytestmark = pytest.mark.usefixtures("strict_ranks")

ROW = Row(
    obs=jax.ShapeDtypeStruct((2,), jnp.int32),
    action=jax.ShapeDtypeStruct((), jnp.int32),
    reward=jax.ShapeDtypeStruct((), jnp.float32),
    terminated=jax.ShapeDtypeStruct((), jnp.bool_),
    truncated=jax.ShapeDtypeStruct((), jnp.bool_),
    final_obs=jax.ShapeDtypeStruct((2,), jnp.int32),
    valid=jax.ShapeDtypeStruct((), jnp.bool_),
)
SMALL = {"capacity": 12, "num_envs": 3, "batch_size": 16, "n_step": 2, "time_limit": 50}


def compiled(replay):
    """The same replay with its functions compiled, which is quicker than op by op; it begins with rows like `ROW`."""
    init = jax.jit(lambda: replay.init(ROW))
    return replay._replace(
        init=lambda _: init(), add=jax.jit(replay.add), sample=jax.jit(replay.sample), update=jax.jit(replay.update)
    )


@functools.cache
def small(**changes):
    """A small replay of compiled functions."""
    shape = SMALL | changes
    batch_size = shape.pop("batch_size")
    return compiled(prioritized(transition_store(**shape, every_row_valid=True), batch_size))


def make_rows(first_time, num_steps, num_envs, valid=True):
    """Rows whose observation is their time and writer, in one endless episode."""
    times, writers = np.meshgrid(np.arange(first_time, first_time + num_steps), np.arange(num_envs), indexing="ij")
    obs = np.stack([times, writers], axis=-1).astype(np.int32)
    no = np.zeros((num_steps, num_envs), bool)
    return Row(
        obs=obs,
        action=np.zeros((num_steps, num_envs), np.int32),
        reward=np.ones((num_steps, num_envs), np.float32),
        terminated=no,
        truncated=no,
        final_obs=obs + np.array([[[1, 0]]], np.int32),
        valid=np.broadcast_to(valid, no.shape),
    )


def at(times, writers):
    """An index for `update`, as if these rows had just been drawn."""
    return Drawn(np.asarray(times, np.int32), np.asarray(writers, np.int32), np.ones(len(times), np.float32))


def play(replay, num_steps, num_envs, memory=None, first_time=0, step=1, valid=True):
    """A memory with more steps in it, `step` at a time."""
    memory = replay.init(ROW) if memory is None else memory
    for time in range(first_time, first_time + num_steps, step):
        memory = replay.add(memory, make_rows(time, step, num_envs, valid))
    return memory


def leaves(memory, capacity, num_envs):
    """numpy [capacity, num_envs]."""
    return np.asarray(sum_tree.get_leaves(memory.tree)).reshape(capacity, num_envs)


class Twin:
    """Leaves by time and writer, in a dictionary."""

    def __init__(self, capacity, num_envs, n_step):
        self.capacity, self.num_envs, self.n_step = capacity, num_envs, n_step
        self.time, self.max_leaf, self.valid, self.leaf = 0, 1.0, [], {}

    def add(self, valid):
        """One time step; the row n steps before it becomes complete."""
        self.valid.append(valid)
        self.time += 1
        complete = self.time - 1 - self.n_step
        if complete >= 0:
            for writer in np.flatnonzero(self.valid[complete]):
                self.leaf[complete, writer] = self.max_leaf
        for writer in range(self.num_envs):
            self.leaf.pop((self.time - 1 - self.capacity, writer), None)

    def update(self, rows, new):
        for row, value in zip(rows, new, strict=True):
            self.leaf[row] = max(value for other, value in zip(rows, new, strict=True) if other == row)
            self.max_leaf = max(self.max_leaf, value)

    def table(self):
        """As the ring lays them out."""
        found = np.zeros((self.capacity, self.num_envs))
        for (time, writer), value in self.leaf.items():
            found[time % self.capacity, writer] = value
        return found


@pytest.mark.parametrize(
    ("capacity", "num_envs", "n_step", "step"),
    [(5, 2, 3, 1), (12, 3, 2, 1), (11, 1, 3, 3), (9, 2, 1, 4), (17, 3, 4, 2)],
)
def test_leaves_equal_a_twin(capacity, num_envs, n_step, step):
    """Writes of 1 to 4 steps, some rows invalid, several times around, with updates between, first write to last.

    Rows drawn are complete and valid ones, and what the ring reads for them is what was written.
    """
    replay = compiled(prioritized(transition_store(capacity, num_envs, n_step, 50, False), 4, fan_out=4))
    h = Hypers(priority_exponent=1.0, priority_epsilon=0.5)

    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.7))
    def run(seed, invalid):
        rng = np.random.default_rng(seed)
        memory, twin = replay.init(ROW), Twin(capacity, num_envs, n_step)
        for time in range(0, 4 * capacity, step):
            valid = rng.random((step, num_envs)) >= invalid
            memory = replay.add(memory, make_rows(time, step, num_envs, valid))
            for row in valid:
                twin.add(row)
            np.testing.assert_array_equal(leaves(memory, capacity, num_envs), twin.table())
            if not twin.leaf:
                continue
            batch, index, weight = jax.device_get(replay.sample(memory, jax.random.key(time), h))
            rows = list(zip(index.times.tolist(), index.writers.tolist(), strict=True))
            np.testing.assert_array_equal(batch.obs_tm1, rows)
            assert set(rows) <= set(twin.leaf) and np.all(weight > 0.0)
            np.testing.assert_array_equal(index.leaf, np.array([twin.leaf[row] for row in rows], np.float32))
            priority = rng.integers(0, 20, 4).astype(np.float32)
            memory = replay.update(memory, index, priority, h)
            twin.update(rows, priority + 0.5)
            np.testing.assert_array_equal(leaves(memory, capacity, num_envs), twin.table())
            assert float(memory.max_leaf) == twin.max_leaf

    run()


@pytest.mark.parametrize("n_step", [1, 3])
def test_the_newest_rows_are_never_drawn(n_step):
    """Before and after a wrap: the youngest row drawn is n_step from the end, the oldest the oldest one held."""
    replay = small(capacity=10, num_envs=2, batch_size=500, n_step=n_step)
    for written in (n_step + 1, 9, 10, 11, 27):
        memory = play(replay, written, 2)
        _, index, weight = jax.device_get(replay.sample(memory, jax.random.key(0), Hypers()))
        assert index.times.max() == written - n_step - 1 and index.times.min() == max(0, written - 10)
        assert set(np.unique(index.writers)) == {0, 1}
        np.testing.assert_array_equal(weight, 1.0)


def test_rows_written_after_a_wrap_get_the_largest_leaf():
    """The largest priority seen, 7, also after the row that had it is gone; not the leaf of the row overwritten."""
    replay, h = small(), Hypers(priority_exponent=1.0, priority_epsilon=1.0)
    memory = play(replay, 12, 3)
    every = at(np.repeat(np.arange(10), 3), np.tile(np.arange(3), 10))
    memory = replay.update(memory, every, np.full(30, 2.0, np.float32), h)
    memory = replay.update(memory, at([0], [1]), np.float32([6.0]), h)
    assert float(memory.max_leaf) == 7.0
    memory = play(replay, 3, 3, memory, 12)
    found = leaves(memory, 12, 3)
    # Times 12, 13 and 14 lie at 0 to 2; 13 and 14 wait, as do none else. Times 10, 11 and 12 are complete by now.
    expected = np.full((12, 3), 3.0)
    expected[[10, 11, 0]] = 7.0
    expected[[1, 2]] = 0.0
    np.testing.assert_array_equal(found, expected)


def test_new_rows_start_at_one():
    """Until something larger was seen, which a priority below one is not."""
    replay, h = small(), Hypers(priority_exponent=1.0, priority_epsilon=jnp.float32(0.0))
    memory = play(replay, 6, 3)
    memory = replay.update(memory, at([0, 1], [0, 0]), np.float32([0.25, 0.5]), h)
    memory = play(replay, 1, 3, memory, 6)
    assert leaves(memory, 12, 3)[:6].tolist() == [[0.25, 1, 1], [0.5, 1, 1], [1] * 3, [1] * 3, [1] * 3, [0] * 3]


def test_invalid_rows_are_never_drawn():
    """Writer 1 of 3 never gives a transition; an update cannot make its rows drawable."""
    replay, ones = small(batch_size=2_000), np.ones(2_000, np.float32)
    memory = play(replay, 20, 3, valid=np.array([[True, False, True]]))
    for _ in range(2):
        _, index, weight = replay.sample(memory, jax.random.key(1), Hypers())
        assert set(np.unique(index.writers)) == {0, 2}
        np.testing.assert_array_equal(weight, 1.0)
        second = index._replace(writers=ones.astype(np.int32), leaf=0.0 * ones)
        memory = replay.update(memory, second, ones, Hypers())


def test_where_nothing_can_be_drawn_all_weights_are_zero(debug_nans):
    """Every row invalid: no NaN, no weight, and no row that an update makes drawable."""
    replay = small()
    memory = play(replay, 8, 3, valid=False)
    _, index, weight = replay.sample(memory, jax.random.key(0), Hypers())
    np.testing.assert_array_equal(weight, 0.0)
    memory = replay.update(memory, index, np.ones(16, np.float32), Hypers())
    assert float(sum_tree.total(memory.tree)) == 0.0 and float(memory.max_leaf) == 1.0


def test_an_update_of_an_overwritten_row_changes_nothing():
    """Time 0 has gone and time 12 lies in its place; time 3 is still held."""
    replay, h = small(), Hypers(priority_exponent=1.0, priority_epsilon=jnp.float32(0.0))
    memory = play(replay, 15, 3)
    changed = replay.update(memory, at([0, 3], [1, 1]), np.float32([50.0, 20.0]), h)
    expected = leaves(memory, 12, 3).copy()
    expected[3, 1] = 20.0
    np.testing.assert_array_equal(leaves(changed, 12, 3), expected)
    assert float(changed.max_leaf) == 20.0


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0, 8.0])
def test_a_row_of_priority_zero_can_be_drawn_again(exponent):
    """ε keeps its leaf above zero, even where ε^α underflows; alone among its equals it is drawn at once."""
    replay, h = small(), Hypers(priority_exponent=exponent, priority_epsilon=1e-6)
    memory = play(replay, 3, 3)  # one complete time step
    memory = replay.update(memory, at([0, 0, 0], [0, 1, 2]), np.zeros(3, np.float32), h)
    _, index, weight = replay.sample(memory, jax.random.key(0), h)
    assert set(np.asarray(index.writers)) == {0, 1, 2} and set(np.asarray(index.times)) == {0}
    np.testing.assert_array_equal(weight, 1.0)


def test_leaf_by_hand():
    """(3 + 1)^0.5 = 2; an exponent of 0 makes all equal; extremes stay positive and finite."""
    h = Hypers(priority_exponent=0.5, priority_epsilon=1.0)
    np.testing.assert_allclose(to_leaf(jnp.array([0.0, 3.0, 8.0]), h), [1.0, 2.0, 3.0], rtol=1e-6)
    flat = to_leaf(jnp.array([0.0, 1e-3, 1e6]), Hypers(priority_exponent=0.0))
    np.testing.assert_array_equal(flat, 1.0)
    extreme = np.asarray(to_leaf(jnp.array([0.0, 1e30]), Hypers(priority_exponent=9.0)))
    assert 0.0 < extreme[0] < extreme[1] < np.inf


def test_an_exponent_of_zero_draws_uniformly():
    """Whatever the priorities, all leaves and weights are equal."""
    replay, h = small(), Hypers(priority_exponent=0.0)
    memory = play(replay, 12, 3)
    _, index, _ = replay.sample(memory, jax.random.key(0), h)
    memory = replay.update(memory, index, np.arange(16, dtype=np.float32), h)
    np.testing.assert_array_equal(leaves(memory, 12, 3)[:10], 1.0)
    _, _, weight = replay.sample(memory, jax.random.key(1), h)
    np.testing.assert_array_equal(weight, 1.0)


def random_memory(replay, h, seed=0, written=20):
    """SMALL's memory, wrapped, with random priorities; and its twin: {(time, writer): probability}."""
    memory = play(replay, written, 3)
    times = np.repeat(np.arange(written - 12, written - 2), 3)
    writers = np.tile(np.arange(3), 10)
    priority = np.random.default_rng(seed).gamma(1.0, 2.0, 30).astype(np.float32)
    memory = replay.update(memory, at(times, writers), priority, h)
    leaf = (priority.astype(np.float64) + h.priority_epsilon) ** h.priority_exponent
    return memory, dict(zip(zip(times.tolist(), writers.tolist(), strict=True), leaf / leaf.sum(), strict=True))


def test_weights_equal_a_twin():
    """(1 / (N P(i)))^β over the batch's maximum."""
    replay = small()
    h = Hypers(priority_exponent=0.6, importance_exponent=0.52)
    memory, probability = random_memory(replay, h)
    _, index, weight = replay.sample(memory, jax.random.key(5), h)
    p = np.array([probability[row] for row in zip(index.times.tolist(), index.writers.tolist(), strict=True)])
    expected = (1.0 / (len(probability) * p)) ** 0.52
    np.testing.assert_allclose(weight, expected / expected.max(), rtol=1e-5)
    assert len(set(np.asarray(weight))) > 5


@pytest.mark.parametrize(("updates", "beta"), [(0, 0.35), (2, 0.35), (3, 0.375), (18, 0.5), (48, 0.75), (90, 0.75)])
def test_beta_is_annealed_by_the_run_s_clock(updates, beta):
    """0.25 + 0.5 · vector steps / 100, and no further than 0.75: 15 of prefill and 5 for every 3 updates begun."""
    config = Config(
        num_envs=10,
        total_steps=1_000,
        learning_starts=150,
        rollout_length=5,
        updates_per_rollout=3,
        buffer_size=200,
        batch_size=8,
        replay="prioritized",
    )
    h = Hypers(importance_exponent=0.25, importance_exponent_final=0.75).as_arrays()
    now = build(config).replay.now(h, jnp.int32(updates))
    assert float(now.importance_exponent) == pytest.approx(beta)
    assert now.replace(importance_exponent=h.importance_exponent) == h, "nothing else changes"


def test_importance_weights_by_hand():
    """Leaves 1, 4 and 16 at β = 0.5 weigh 1, 1/2 and 1/4; a leaf of 0 weighs nothing and is no minimum."""
    weight = importance_weights(jnp.array([4.0, 1.0, 16.0, 0.0]), jnp.float32(0.5))
    np.testing.assert_allclose(weight, [0.5, 1.0, 0.25, 0.0], rtol=1e-6)


def test_a_lost_final_observation_has_no_weight():
    """Cuts at times 2 and 3 under a stated limit of 50: the transition that ends in the first has lost its end."""
    replay = small(num_envs=1, n_step=1, batch_size=64)
    memory = replay.init(ROW)
    for time in range(8):
        row = make_rows(time, 1, 1)
        memory = replay.add(memory, row.replace(truncated=np.full((1, 1), time in (2, 3))))
    _, index, weight = replay.sample(memory, jax.random.key(0), Hypers())
    np.testing.assert_array_equal(weight, np.asarray(index.times != 2).astype(np.float32))
    assert 2 in index.times


def test_frequencies():
    """Pearson's χ² of 60,000 independent draws over 30 rows; it fails a right replay with probability 1e-4.

    Each draw is a batch of its own, since draws from strata are not independent.
    """
    replay, h, draws = small(batch_size=1), Hypers(priority_exponent=0.6), 60_000
    memory, probability = random_memory(replay, h)
    keys = jax.random.split(jax.random.key(11), draws)
    index = jax.jit(jax.vmap(lambda key: replay.sample(memory, key, h)[1]))(keys)
    drawn = np.asarray(index.times[:, 0] * 3 + index.writers[:, 0])
    rows = np.array([time * 3 + writer for time, writer in probability])
    assert set(drawn) <= set(rows)
    counts = np.array([np.sum(drawn == row) for row in rows])
    expected = draws * np.array(list(probability.values()))
    assert expected.min() > 5
    assert chi2.sf(np.sum((counts - expected) ** 2 / expected), len(rows) - 1) > 1e-4


def test_one_draw_from_each_stratum():
    """With 4 equal leaves and 4 strata every batch holds each row once, which independent draws do 3 times in 32."""
    replay = small(num_envs=1, batch_size=4)
    memory = play(replay, 6, 1)
    for seed in range(20):
        _, index, _ = replay.sample(memory, jax.random.key(seed), Hypers())
        assert index.times.tolist() == [0, 1, 2, 3]


def test_shapes_and_transitions():
    """What uniform replay gives, too: n-step transitions, γ from the hypers."""
    replay = small()
    batch, index, weight = replay.sample(play(replay, 9, 3), jax.random.key(0), Hypers(gamma=0.5))
    assert batch.obs_tm1.shape == batch.obs_t.shape == (16, 2)
    assert index.times.shape == index.writers.shape == index.leaf.shape == weight.shape == (16,)
    assert weight.dtype == index.leaf.dtype == jnp.float32 and index.times.dtype == jnp.int32
    np.testing.assert_allclose(batch.r_t, 1.5)
    np.testing.assert_allclose(batch.discount_t, 0.25)
    np.testing.assert_array_equal(batch.obs_t[:, 0], index.times + 2)


def test_refuses_a_ring_without_room():
    """Ten rows and two to wait for do not leave one to draw in twelve."""
    replay = small()
    with pytest.raises(ValueError, match="must exceed"):
        replay.add(replay.init(ROW), make_rows(0, 10, 3))
    replay.add(replay.init(ROW), make_rows(0, 9, 3))


def take_lane(lanes, i):
    """One lane; counters have no axis of lanes."""
    return jax.tree.map(lambda node: node if is_counter(node) else node[i], lanes, is_leaf=is_counter)


def test_vmapped_lanes_equal_solo_runs():
    """Two lanes with one clock, hypers and priorities of their own: the same rows drawn, the same memories."""
    replay = small()
    one = replay.init(ROW)
    axes = lane_axes(one)
    stack = lambda *leaves: np.stack(leaves)  # noqa: E731
    hypers = [Hypers(priority_exponent=e).as_arrays() for e in (0.4, 0.9)]
    h_lanes = jax.tree.map(stack, *hypers)
    add = jax.jit(jax.vmap(replay.add, in_axes=(axes, 0), out_axes=axes))
    sample = jax.jit(jax.vmap(replay.sample, in_axes=(axes, 0, 0)))
    update = jax.jit(jax.vmap(replay.update, in_axes=(axes, 0, 0, 0), out_axes=axes))
    lanes = jax.jit(jax.vmap(lambda _: replay.init(ROW), out_axes=axes))(jnp.arange(2))
    solo, rng = [one, one], np.random.default_rng(0)
    for time in range(30):
        rows = [make_rows(time, 1, 3, valid=np.array([[True, lane == 0, time % 2 == lane]])) for lane in range(2)]
        lanes = add(lanes, jax.tree.map(stack, *rows))
        solo = [replay.add(memory, row) for memory, row in zip(solo, rows, strict=True)]
        assert lanes.store.ring.written.count.shape == ()
        if time < 5:
            continue
        keys = jax.random.split(jax.random.key(time), 2)
        drawn = jax.device_get(sample(lanes, keys, h_lanes))
        alone = [replay.sample(solo[i], keys[i], hypers[i]) for i in range(2)]
        for i in range(2):
            batch, index, weight = jax.tree.map(lambda leaf, i=i: leaf[i], drawn)
            jax.tree.map(np.testing.assert_array_equal, (batch, index), alone[i][:2])
            np.testing.assert_allclose(weight, alone[i][2], rtol=1e-6)  # a power, whose last bit a compiler may change
        priority = rng.standard_exponential((2, 16), np.float32)
        lanes = update(lanes, drawn[1], priority, h_lanes)
        solo = [replay.update(solo[i], alone[i][1], priority[i], hypers[i]) for i in range(2)]
        # Powers may differ in their last bit between programs; from here on both have the same.
        lane_memories = [take_lane(jax.device_get(lanes), i) for i in range(2)]
        for mine, theirs in zip(solo, lane_memories, strict=True):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), mine, theirs)
        solo = lane_memories


@pytest.mark.long
@pytest.mark.usual_compilation
def test_an_iteration_in_a_loop_is_in_place():
    """Write, draw and update with the memory donated: no scratch space for a copy of 4 MB of leaves, or of the rows."""
    replay = prioritized(transition_store(100_000, 10, 3, 500, True), 128)

    def body(i, carry):
        memory, found = carry
        memory = replay.add(memory, make_rows(0, 1, 10))
        batch, index, weight = replay.sample(memory, jax.random.fold_in(jax.random.key(0), i), Hypers())
        memory = replay.update(memory, index, jnp.abs(batch.r_t), Hypers())
        return memory, found + jnp.sum(weight * batch.r_t)

    def loop(memory, n):
        return jax.lax.fori_loop(0, n, body, (memory, jnp.float32(0)))

    memory = jax.eval_shape(lambda: replay.init(ROW))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory))
    found = jax.jit(loop, donate_argnums=0).lower(memory, 3).compile().memory_analysis()
    assert found.alias_size_in_bytes >= size and found.temp_size_in_bytes < 300_000
    # The check can fail: without donation nothing is aliased.
    assert jax.jit(loop).lower(memory, 3).compile().memory_analysis().alias_size_in_bytes == 0
