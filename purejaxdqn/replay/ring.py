"""A circular buffer of any pytree of rows, written by any number of parallel writers.

Usable on its own::

    ring = init_ring(row, capacity=1000, num_writers=8)      # row: one example row, any pytree of arrays
    ring = jax.jit(add_rows, donate_argnums=0)(ring, rows)   # rows: [T, 8, ...], written in place
    rows = read_rows(ring, times, writers)                   # [B, ...]
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.machine.random_bits import index_from_bits
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Counter, counter


@struct.dataclass
class Ring:
    """Preallocated rows and one clock. A writer and a time, counted from the first row ever, identify a row."""

    rows: Any
    """Pytree of [capacity, writers, ...]."""
    written: Counter
    """Time steps ever written; the same for every writer."""

    @property
    def capacity(self) -> int:
        """Time steps that the ring holds."""
        return jax.tree.leaves(self.rows)[0].shape[0]

    @property
    def num_writers(self) -> int:
        """Rows written at each time step."""
        return jax.tree.leaves(self.rows)[0].shape[1]

    @property
    def size(self) -> Array:
        """Time steps that can be read, int32 []."""
        return jnp.minimum(self.written.count, self.capacity)


def init_ring(row: Any, capacity: int, num_writers: int) -> Ring:
    """An empty ring.

    Args:
      row: pytree of arrays (or shapes with dtypes), one row of one writer; it gives shapes and dtypes only.
      capacity: time steps to hold, so capacity × num_writers rows.
      num_writers: rows per time step.

    Raises:
      ValueError: if capacity or num_writers is below 1, or the row has no leaves.
    """
    if capacity < 1 or num_writers < 1:
        raise ValueError(f"a ring needs a capacity and writers of at least 1, not {capacity} and {num_writers}")
    if not jax.tree.leaves(row):
        raise ValueError("a row needs at least one array")

    def empty(leaf: Any) -> Array:
        return jnp.zeros((capacity, num_writers, *jnp.shape(leaf)), jnp.result_type(leaf))

    return Ring(rows=jax.tree.map(empty, row), written=counter())


def add_rows(ring: Ring, rows: Any) -> Ring:
    """Writes T time steps over the oldest ones. Under jit with the ring donated, no other row is touched.

    Args:
      ring: the ring.
      rows: pytree of [T, writers, ...], in the order of time.

    Raises:
      ValueError: if T is larger than the capacity, or the writers are not the ring's.
    """
    num_steps, num_writers = jax.tree.leaves(rows)[0].shape[:2]
    if num_steps > ring.capacity:
        raise ValueError(f"{num_steps} time steps do not fit a ring of {ring.capacity}")
    if num_writers != ring.num_writers:
        raise ValueError(f"rows of {num_writers} writers do not fit a ring of {ring.num_writers}")
    start = ring.written.count % ring.capacity

    def write(path: Any, stored: Array, new: Array) -> Array:
        assert_array(f"rows{jax.tree_util.keystr(path)}", new, (num_steps, *stored.shape[1:]))
        new = new.astype(stored.dtype)
        if num_steps == 1:
            return jax.lax.dynamic_update_slice_in_dim(stored, new, start, axis=0)
        # A slice that passes the end goes on at the beginning, which one dynamic_update_slice cannot do.
        positions = (start + jnp.arange(num_steps)) % ring.capacity
        return stored.at[positions].set(new, unique_indices=True)

    written_rows = jax.tree.map_with_path(write, ring.rows, rows)
    return Ring(rows=written_rows, written=Counter(ring.written.count + num_steps))


def read_rows(ring: Ring, times: Array, writers: Array) -> Any:
    """The rows of given times and writers.

    Args:
      ring: the ring.
      times: int32 [B], each at least `written - size` and below `written`; others read arbitrary rows.
      writers: int32 [B], each below `num_writers`.

    Returns:
      Pytree of [B, ...].
    """
    assert_array("times", times, (None,), int)
    assert_array("writers", writers, times.shape, int)
    return jax.tree.map(lambda stored: pick(stored, times % ring.capacity, writers), ring.rows)


def pick(stored: Array, places: Array, writers: Array) -> Array:
    """Rows [...] of an array [places, writers, ...], by two whole numbers each that broadcast against each other."""
    if jax.default_backend() != "gpu":
        return stored[places, writers]
    # By one number: kernels that join two of them are spared.
    return stored.reshape(-1, *stored.shape[2:])[places * stored.shape[1] + writers]


def sample_starts(
    key: Array, ring: Ring, batch_shape: tuple[int, ...], window: int, history: int = 0
) -> tuple[Array, Array]:
    """Times and writers drawn uniformly with replacement, each with `window` more time steps after it in the ring.

    No window crosses the write seam: the newest `window` time steps, and the oldest `history`, start none. The cost is
    that of the batch, whatever the capacity. With `window + history` time steps or fewer written there is nothing to
    draw; the caller's prefill prevents it.

    Args:
      key: PRNG key.
      ring: the ring.
      batch_shape: shape of the draw.
      window: time steps that must follow each start.
      history: time steps that must come before each start.

    Returns:
      times and writers, int32 of `batch_shape`.
    """
    num_starts = ring.size - window - history
    flat = index_from_bits(jax.random.bits(key, batch_shape, jnp.uint32), num_starts * ring.num_writers)
    oldest = ring.written.count - ring.size + history
    return oldest + flat // ring.num_writers, flat % ring.num_writers


def sample_multiples(key: Array, ring: Ring, batch_size: int, window: int, history: int, period: int) -> Any:
    """`sample_starts` among the times that are multiples of a period, of which there must be one.

    Args:
      key: PRNG key.
      ring: the ring.
      batch_size: size of the draw.
      window: time steps that must follow each start.
      history: time steps that must come before each start.
      period: time steps between two starts.

    Returns:
      times and writers, int32 [B].
    """
    first = -((ring.size - ring.written.count - history) // period)
    count = (ring.written.count - 1 - window) // period - first + 1
    flat = index_from_bits(jax.random.bits(key, (batch_size,), jnp.uint32), count * ring.num_writers)
    return (first + flat // ring.num_writers) * period, flat % ring.num_writers
