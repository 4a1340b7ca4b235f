"""Environment steps in a ring, each observation stored once, and n-step transitions read back out of them.

Beside an observation lies its action mask, where there are masks; what is said of the one holds of the other.

The observation after a step is the next row's, unless the episode was truncated: the next row then starts a new
episode, and the target of the old one bootstraps from its true final observation. These are kept in a small side store.
An environment with a time limit of L truncates each writer at most once in L steps, so each block of L steps needs one
slot per writer, which is all that the side store has; a limit of 1 makes it as large as the ring.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.learning.returns import cut_after, n_step_fold
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.replay.interface import Store, assert_rows
from purejaxdqn.replay.ring import Ring, add_rows, init_ring, pick, read_rows
from purejaxdqn.types import Hypers, Row, Transition


@struct.dataclass
class Stored:
    """A `Row` as stored in the ring: without its final observation."""

    obs: Any
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    valid: Array
    mask: Array | None = None


def without_final(row: Row) -> Stored:
    """What the ring keeps of a row, or of many."""
    return Stored(row.obs, row.action, row.reward, row.terminated, row.truncated, row.valid, row.mask)


@struct.dataclass
class TransitionStore:
    """A ring of steps and the final observations of its truncated episodes."""

    ring: Ring
    """Of `Stored` rows."""
    final_obs: Any
    """Each array [places, writers, ...]."""
    final_time: Array
    """int32 [places, writers]: the time of the row whose final observation is stored there, -1 for none."""
    time_limit: int = struct.field(pytree_node=False)
    """Fewest steps between two truncations of one writer."""
    final_mask: Array | None = None
    """bool [places, writers, A]."""

    def place(self, times: Array) -> Array:
        """The slot in which the side store keeps the final observation of a row."""
        return (times // self.time_limit) % self.final_time.shape[0]


def init_store(row: Row, capacity: int, num_writers: int, time_limit: int = 1) -> TransitionStore:
    """An empty store.

    Args:
      row: a `Row` of one environment (or shapes with dtypes).
      capacity: time steps to hold.
      num_writers: environments.
      time_limit: fewest environment steps between two truncations of one environment; 1 if unknown. If an environment
        truncates sooner, the transitions whose final observation was overwritten get weight 0.
    """
    time_limit = max(1, min(time_limit, capacity))
    places = capacity // time_limit + 2
    ring = init_ring(without_final(row), capacity, num_writers)
    final_obs, final_mask = init_ring((row.obs, row.mask), places, num_writers).rows
    return TransitionStore(
        ring=ring,
        final_obs=final_obs,
        final_time=jnp.full((places, num_writers), -1, jnp.int32),
        time_limit=time_limit,
        final_mask=final_mask,
    )


def add_steps(store: TransitionStore, rows: Row) -> TransitionStore:
    """Writes steps over the oldest ones, in place under jit with donation.

    Args:
      store: the store.
      rows: [T, writers, ...], in the order of time.
    """
    assert_rows(rows)
    num_steps = rows.action.shape[0]
    start = store.ring.written.count

    def keep_final(carry: tuple[Any, Array], step: tuple[Array, Any, Array]) -> tuple[tuple[Any, Array], None]:
        final, final_time = carry
        time, last, truncated = step
        place = store.place(time)

        def held(kept: Array) -> Array:
            return jax.lax.dynamic_index_in_dim(kept, place, keepdims=False)

        def write(kept: Array, keep: Array, new: Array, old: Array) -> Array:
            return jax.lax.dynamic_update_index_in_dim(kept, jnp.where(keep, new, old), place, 0)

        keep = jax.tree.map(lambda new: truncated.reshape(truncated.shape + (1,) * (new.ndim - 1)), last)
        held_last, held_time = jax.tree.map(held, (final, final_time))
        final = jax.tree.map(write, final, keep, last, held_last)
        return (final, write(final_time, truncated, time, held_time)), None

    final = (store.final_obs, store.final_mask)
    last = jax.tree.map(lambda new, held: new.astype(held.dtype), (rows.final_obs, rows.final_mask), final)
    steps = (start + jnp.arange(num_steps), last, rows.truncated)
    ((final_obs, final_mask), final_time), _ = jax.lax.scan(keep_final, (final, store.final_time), steps)
    ring = add_rows(store.ring, without_final(rows))
    return dataclasses.replace(store, ring=ring, final_obs=final_obs, final_time=final_time, final_mask=final_mask)


def read_transitions(
    store: TransitionStore,
    times: Array,
    writers: Array,
    n_step: int,
    gamma: float | Array,
    n: int | Array | None = None,
) -> tuple[Transition, Array]:
    """n-step transitions that start at given rows.

    Args:
      store: the store.
      times: int32 [B], each with n_step more time steps after it in the ring.
      writers: int32 [B].
      n_step: longest fold; an episode's end shortens it.
      gamma: discount per step, [].
      n: steps of the fold where they are fewer, int [].

    Returns:
      The transitions [B], and weights float32 [B]: 0 if the first row is not a transition (or its final observation is
      no longer held), else 1.
    """
    assert_array("times", times, (None,), int)
    assert_array("writers", writers, times.shape, int)
    assert_array("gamma", gamma, ())
    ring = store.ring
    window = times[:, None] + jnp.arange(n_step)[None]

    def field(stored: Array) -> Array:
        return pick(stored, window % ring.capacity, writers[:, None])

    rows: Stored = ring.rows
    terminated, truncated = field(rows.terminated), field(rows.truncated)
    ends = truncated if n is None else cut_after(truncated, n)
    r_t, discount_t, last = jax.vmap(n_step_fold, in_axes=(0, 0, 0, None))(field(rows.reward), terminated, ends, gamma)
    fields = (rows.obs, rows.action, rows.valid, rows.mask)
    first: Any = read_rows(dataclasses.replace(ring, rows=fields), times, writers)
    obs_tm1, a_tm1, valid, mask_tm1 = first
    last_time = times + last
    cut = jnp.take_along_axis(truncated, last[:, None], axis=1)[:, 0]
    place = store.place(last_time)
    held = pick(store.final_time, place, writers) == last_time

    def after(stored: Array, final: Array) -> Array:
        found = pick(stored, (last_time + 1) % ring.capacity, writers)
        keep = cut.reshape(cut.shape + (1,) * (found.ndim - 1))
        return jnp.where(keep, pick(final, place, writers), found)

    final = (store.final_obs, store.final_mask)
    obs_t, mask_t = jax.tree.map(after, (rows.obs, rows.mask), final)
    weight = jnp.logical_and(valid, jnp.logical_or(~cut, held)).astype(jnp.float32)
    return Transition(obs_tm1, a_tm1, r_t, discount_t, obs_t, mask_tm1, mask_t), weight


def transition_store(
    capacity: int, num_envs: int, n_step: int, time_limit: int, every_row_valid: bool, annealed: bool = False
) -> Store:
    """The store for an environment that resets in the step that ends an episode, whose last observation is then no row.

    Args:
      capacity: vector steps to hold.
      num_envs: environments.
      n_step: longest fold.
      time_limit: fewest steps between two truncations of one environment (see `init_store`).
      every_row_valid: whether every row of the environment is a transition.
      annealed: whether a fold has the `n_step_final` steps of the hypers that it is read with.
    """

    def read(store: TransitionStore, times: Array, writers: Array, h: Hypers) -> tuple[Transition, Array]:
        return read_transitions(store, times, writers, n_step, h.gamma, h.n_step_final if annealed else None)

    return Store(
        capacity=capacity,
        num_envs=num_envs,
        n_step=n_step,
        history=0,
        every_row_valid=every_row_valid,
        init=lambda row: init_store(row, capacity, num_envs, time_limit),
        add=add_steps,
        read=read,
    )
