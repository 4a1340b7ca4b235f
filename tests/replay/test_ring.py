"""The ring against a list of everything ever written, and what its writes and reads cost."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from purejaxdqn.replay.ring import Ring, add_rows, init_ring, read_rows, sample_starts
from purejaxdqn.types import lane_axes

pytestmark = pytest.mark.usefixtures("strict_ranks")

jit_add = jax.jit(add_rows)
jit_read = jax.jit(read_rows)
jit_sample = jax.jit(sample_starts, static_argnums=(2, 3))

EXAMPLE = {
    "pixels": jax.ShapeDtypeStruct((2, 3), jnp.uint8),
    "nested": (jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.bool_)),
    "id": jax.ShapeDtypeStruct((1,), jnp.int32),
}


def make_rows(first_time, num_steps, num_writers):
    """Rows whose every value follows from time and writer."""
    times = np.arange(first_time, first_time + num_steps)[:, None]
    ids = (times * 100 + np.arange(num_writers)[None]).astype(np.int32)
    pixels = (ids[..., None, None] + np.arange(6).reshape(2, 3)[None, None]) % 256
    return {
        "pixels": pixels.astype(np.uint8),
        "nested": ((ids / 8).astype(np.float32), ids % 3 == 0),
        "id": ids[..., None],
    }


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (5, 3), (7, 1), (8, 2)]),
    sizes=st.lists(st.sampled_from([1, 2, 3, 5, 7, 8]), min_size=1, max_size=10),
)
def test_equals_a_list_of_everything(shape, sizes):
    """After any writes, the newest `capacity` rows of every writer read as they were written, in their dtypes."""
    capacity, writers = shape
    ring, history = init_ring(EXAMPLE, capacity, writers), []
    for size in sizes:
        size = min(size, capacity)
        rows = make_rows(len(history), size, writers)
        history += [jax.tree.map(lambda leaf, i=i: leaf[i], rows) for i in range(size)]
        ring = jit_add(ring, rows)
        assert int(ring.written.count) == len(history)
        assert int(ring.size) == min(len(history), capacity)
    # Always a full ring's worth of reads, so that one program serves; those before the oldest are not looked at.
    times = np.arange(len(history) - capacity, len(history))
    for writer in range(writers):
        read = jax.device_get(jit_read(ring, times.astype(np.int32), np.full(capacity, writer, np.int32)))
        for i, t in enumerate(times):
            if t >= 0:
                for stored, written in zip(jax.tree.leaves(read), jax.tree.leaves(history[t]), strict=True):
                    assert stored.dtype == written.dtype
                    np.testing.assert_array_equal(stored[i], written[writer])


def test_shapes_and_dtypes():
    ring = init_ring(EXAMPLE, 5, 3)
    assert (ring.capacity, ring.num_writers, int(ring.size)) == (5, 3, 0)
    assert ring.rows["pixels"].shape == (5, 3, 2, 3) and ring.rows["pixels"].dtype == jnp.uint8
    assert [leaf.dtype for leaf in ring.rows["nested"]] == [jnp.float32, jnp.bool_]


@pytest.mark.parametrize(("capacity", "writers"), [(0, 1), (1, 0), (-3, 2)])
def test_refuses_impossible_sizes(capacity, writers):
    with pytest.raises(ValueError, match="at least 1"):
        init_ring(EXAMPLE, capacity, writers)


def test_refuses_a_row_without_arrays():
    with pytest.raises(ValueError, match="at least one array"):
        init_ring({}, 4, 1)


def test_refuses_rows_that_do_not_fit():
    ring = init_ring(EXAMPLE, 4, 2)
    with pytest.raises(ValueError, match="do not fit"):
        add_rows(ring, make_rows(0, 5, 2))
    with pytest.raises(ValueError, match="writers"):
        add_rows(ring, make_rows(0, 1, 3))


def time_ring(capacity, writers, written):
    """A ring whose rows hold their own time and writer."""
    ring = init_ring({"time": jnp.int32(0), "writer": jnp.int32(0)}, capacity, writers)
    for t in range(written):
        row = {"time": np.full((1, writers), t, np.int32), "writer": np.arange(writers, dtype=np.int32)[None]}
        ring = jit_add(ring, row)
    return ring


@pytest.mark.parametrize("written", [4, 10, 11, 17, 30])
def test_windows_never_cross_the_seam(written):
    """Each start and its window lie among the rows held, oldest to newest, whether or not the ring has wrapped."""
    window = 3
    ring = time_ring(10, 2, written)
    times, writers = jax.device_get(jit_sample(jax.random.key(written), ring, (2_000,), window))
    oldest = written - min(written, 10)
    assert times.min() == oldest and times.max() == written - window - 1  # both ends occur
    assert set(np.unique(writers)) == {0, 1}
    for k in range(window + 1):
        rows = jit_read(ring, times + k, writers)
        np.testing.assert_array_equal(rows["time"], times + k)
        np.testing.assert_array_equal(rows["writer"], writers)


@pytest.mark.parametrize(("written", "seed"), [(9, 0), (23, 1)])
def test_starts_are_uniform(written, seed):
    """Pearson's χ² of 60 000 draws over every start the ring can offer; p < 1e-5 on a fresh seed is a false alarm."""
    window, draws = 2, 60_000
    ring = time_ring(10, 3, written)
    times, writers = jit_sample(jax.random.key(seed), ring, (draws,), window)
    starts = 3 * (min(written, 10) - window)
    flat = (np.asarray(times) - (written - min(written, 10))) * 3 + np.asarray(writers)
    counts = np.bincount(flat, minlength=starts)
    assert len(counts) == starts
    statistic = np.sum((counts - draws / starts) ** 2) / (draws / starts)
    assert chi2.sf(statistic, starts - 1) > 1e-5


def test_vmapped_rings_equal_solo_rings():
    """Two lanes under vmap, sharing one clock, hold and sample what each would alone."""
    capacity, writers = 5, 2
    lane = init_ring(EXAMPLE, capacity, writers)
    axes = lane_axes(lane)
    lanes = lane.replace(rows=jax.tree.map(lambda leaf: np.stack([leaf, leaf]), lane.rows))
    solo = [lane, lane]
    add = jax.jit(jax.vmap(add_rows, in_axes=(axes, 0), out_axes=axes))
    for size in (3, 1, 3):
        rows = [make_rows(7 * i + size, size, writers) for i in range(2)]
        solo = [jit_add(ring, new) for ring, new in zip(solo, rows, strict=True)]
        lanes = add(lanes, jax.tree.map(lambda *leaves: np.stack(leaves), *rows))
        assert lanes.written.count.shape == ()
    keys = jax.random.split(jax.random.key(0), 2)
    sample = jax.vmap(lambda key, ring: sample_starts(key, ring, (6,), 1), in_axes=(0, axes))
    drawn, rows = jax.device_get((jax.jit(sample)(keys, lanes), lanes.rows))
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], rows)
        jax.tree.map(np.testing.assert_array_equal, one, solo[i].rows)
        alone = jit_sample(keys[i], solo[i], (6,), 1)
        np.testing.assert_array_equal(drawn[0][i], alone[0])
        np.testing.assert_array_equal(drawn[1][i], alone[1])


# What it costs. A ring of 10^6 rows of 4 float32 and a reward is 20 MB; a copy of it would show in each of these.


def big_ring(capacity):
    return jax.eval_shape(
        lambda: init_ring({"obs": jax.ShapeDtypeStruct((4,), jnp.float32), "r": jnp.float32(0)}, capacity, 1)
    )


def new_rows(num_steps):
    return {"obs": jnp.ones((num_steps, 1, 4)), "r": jnp.ones((num_steps, 1))}


def add_in_a_loop(ring, rows):
    return jax.lax.fori_loop(0, 10, lambda _, ring: add_rows(ring, rows), ring)


@pytest.mark.usual_compilation
@pytest.mark.parametrize("fn", [add_rows, add_in_a_loop])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_donated_write_is_in_place(fn, num_steps):
    """The compiled program aliases every buffer of the ring to its output and has no scratch space for a copy."""
    ring = big_ring(10**6)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(ring))
    memory = jax.jit(fn, donate_argnums=0).lower(ring, new_rows(num_steps)).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < 100_000


@pytest.mark.usual_compilation
def test_an_undonated_write_must_copy():
    """The check above can fail: without donation nothing is aliased."""
    memory = jax.jit(add_rows).lower(big_ring(10**6), new_rows(1)).compile().memory_analysis()
    assert memory.alias_size_in_bytes == 0


def seconds(fn, *args):
    """The least of several timings of a compiled function that returns something small."""
    jax.block_until_ready(fn(*args))
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(fn(*args))
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.usual_compilation
def test_time_does_not_depend_on_capacity():
    """A thousand writes, and a thousand samples, into 10^3 and 10^6 rows: within a factor of 10 (a copy costs 1000)."""

    def write_seconds(capacity):
        ring = Ring(
            jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), big_ring(capacity).rows), time_ring(1, 1, 0).written
        )
        rows = new_rows(1)
        many = jax.jit(
            lambda ring: jax.lax.fori_loop(0, 1_000, lambda _, ring: add_rows(ring, rows), ring), donate_argnums=0
        )
        best = np.inf
        for _ in range(6):
            start = time.perf_counter()
            ring = jax.block_until_ready(many(ring))
            best = min(best, time.perf_counter() - start)
        return best, ring

    def draw(key, ring):
        def body(total, key):
            times, writers = sample_starts(key, ring, (32,), 1)
            return total + jnp.sum(read_rows(ring, times, writers)["r"]), None

        return jax.lax.scan(body, jnp.float32(0), jax.random.split(key, 1_000))[0]

    (small, small_ring), (large, large_ring) = write_seconds(10**3), write_seconds(10**6)
    assert large < 10 * small
    sample = jax.jit(draw)
    assert seconds(sample, jax.random.key(0), large_ring) < 10 * seconds(sample, jax.random.key(0), small_ring)
