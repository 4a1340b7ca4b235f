"""Steps in a ring that keeps every frame once, and stacked observations rebuilt from single frames.

It is for environments that give the last observation of an episode as the observation of one more row, which is not a
transition (EnvPool ignores the action there and resets). So the observation after a step is always the next row's, and
the row after one that is not a transition starts an episode. An observation of four stacked frames takes the memory of
one frame, and so does the observation that follows it: a million frames of 84 × 84 take 7.1 GB, where whole pairs take
56.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.config import EnvSpec
from purejaxdqn.learning.returns import cut_after, n_step_fold
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.observations.leaves import Leaf, leaves_of, longest_stack
from purejaxdqn.replay.interface import Store, assert_rows
from purejaxdqn.replay.ring import Ring, add_rows, init_ring
from purejaxdqn.types import Hypers, Row, Transition

LINE, TILE = 128, 1024
"""Numbers in one line of a TPU's arrays, and in one of their tiles."""


@struct.dataclass
class FrameRow:
    """A `Row` as stored in the ring: the newest frame of its observation, and no final observation."""

    frame: Any
    """[F], flat, or [F / 128, 128] on a TPU (see `as_stored`); of a tree, of each array."""
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    valid: Array
    mask: Array | None = None


@struct.dataclass
class FrameStore:
    """A ring of steps with single frames."""

    ring: Ring
    """Of `FrameRow`s."""


def newest_frame(leaf: Leaf, obs: Array) -> Array:
    """The last frame [..., *frame_shape] of an array of observations [..., *shape]."""
    return obs if leaf.frame_stack == 1 else obs[..., -leaf.frame_shape[-1] :]


def as_stored(leaf: Leaf, obs: Array) -> Array:
    """The newest frames of observations [T, E, *shape] as a ring keeps them: flat, [T, E, F], or whole tiles on a TPU.

    Flat, so that no platform pads a picture's rows. A TPU's compiler lays an array out anew for each program, in
    whichever order pads least: of flat frames those of all time steps beside each other, which it then turns at the
    beginning and the end of a program that reads frames. Of whole tiles, of 8 lines of 128, it keeps the order. So
    there frames of at least a tile are such lines, and zeros.
    """
    frame = newest_frame(leaf, obs)
    flat = frame.reshape(*frame.shape[:2], -1)
    if jax.default_backend() != "tpu" or flat.shape[-1] < TILE:
        return flat
    padded = jnp.pad(flat, ((0, 0), (0, 0), (0, -flat.shape[-1] % TILE)))
    return padded.reshape(*flat.shape[:2], -1, LINE)


def read_stacks(spec: EnvSpec, ring: Ring, times: Array, writers: Array) -> Any:
    """Observations [B, ...] of given rows.

    Args:
      spec: what an observation is made of.
      ring: of `FrameRow`s.
      times: int32 [B], each with frame_stack - 1 time steps before it in the ring, unless its episode began later.
      writers: int32 [B].
    """
    assert_array("times", times, (None,), int)
    assert_array("writers", writers, times.shape, int)
    return jax.tree.map(
        lambda leaf, frames: read_stack(leaf, ring, frames, times, writers), leaves_of(spec), ring.rows.frame
    )


def read_stack(leaf: Leaf, ring: Ring, frames: Array, times: Array, writers: Array) -> Array:
    """One array [B, *shape] of observations, from its frames [capacity, writers, ...]; see `read_stacks`."""
    offsets = jnp.arange(leaf.frame_stack)[None] - (leaf.frame_stack - 1)
    window = times[:, None] + offsets
    # A row begins an episode where the one before it is no transition. Positions before the first row ever lie at the
    # end of a ring that is not full, where nothing is valid yet: so the first row begins one, too.
    after_gap = jnp.logical_not(ring.rows.valid[(window - 1) % ring.capacity, writers[:, None]])
    # The oldest frame is needed whatever came before it, which may have been overwritten.
    begins = jnp.where(jnp.logical_and(after_gap, offsets > offsets[:, :1]), window, window[:, :1])
    # At the start of an episode its first frame stands in for those before it.
    when = jnp.maximum(window, jnp.max(begins, axis=1, keepdims=True))
    stored = frames[when % ring.capacity, writers[:, None]]
    flat = stored.reshape(*when.shape, -1)[..., : math.prod(leaf.frame_shape)]
    window_frames = flat.reshape(*when.shape, *leaf.frame_shape)
    if leaf.frame_stack == 1:
        return window_frames[:, 0]
    stacked = jnp.moveaxis(window_frames, 1, -2)
    return stacked.reshape(times.shape[0], *leaf.shape)


def read_transitions(
    spec: EnvSpec,
    ring: Ring,
    times: Array,
    writers: Array,
    n_step: int,
    gamma: float | Array,
    n: int | Array | None = None,
) -> tuple[Transition, Array]:
    """n-step transitions that start at given rows.

    Args:
      spec: what an observation is made of.
      ring: of `FrameRow`s.
      times: int32 [B], each with n_step more time steps after it in the ring and frame_stack - 1 before it.
      writers: int32 [B].
      n_step: longest fold; an episode's end shortens it.
      gamma: discount per step, [].
      n: steps of the fold where they are fewer, int [].

    Returns:
      The transitions [B], and weights float32 [B]: 0 if the first row is not a transition, else 1.
    """
    assert_array("times", times, (None,), int)
    assert_array("writers", writers, times.shape, int)
    assert_array("gamma", gamma, ())
    rows: FrameRow = ring.rows

    def window(stored: Array, first: int) -> Array:
        """[B, n_step] from `first` time steps after each start."""
        when = times[:, None] + first + jnp.arange(n_step)[None]
        return stored[when % ring.capacity, writers[:, None]]

    # Where the next row is no transition the episode went no further, whatever stopped it: the end, or that of a run
    # which later went on with new games.
    cut = jnp.logical_or(window(rows.truncated, 0), jnp.logical_not(window(rows.valid, 1)))
    ends = cut if n is None else cut_after(cut, n)
    r_t, discount_t, last = jax.vmap(n_step_fold, in_axes=(0, 0, 0, None))(
        window(rows.reward, 0), window(rows.terminated, 0), ends, gamma
    )
    here = times % ring.capacity

    def masks(when: Array) -> Array | None:
        return None if rows.mask is None else rows.mask[when % ring.capacity, writers]

    transition = Transition(
        obs_tm1=read_stacks(spec, ring, times, writers),
        a_tm1=rows.action[here, writers],
        r_t=r_t,
        discount_t=discount_t,
        obs_t=read_stacks(spec, ring, times + last + 1, writers),
        mask_tm1=masks(times),
        mask_t=masks(times + last + 1),
    )
    return transition, rows.valid[here, writers].astype(jnp.float32)


def frame_store(capacity: int, num_envs: int, n_step: int, spec: EnvSpec, annealed: bool = False) -> Store:
    """A store that keeps every frame once.

    Args:
      capacity: vector steps to hold.
      num_envs: environments.
      n_step: longest fold.
      spec: what an observation is made of.
      annealed: whether a fold has the `n_step_final` steps of the hypers that it is read with.
    """

    def to_stored(row: Row) -> FrameRow:
        frame = jax.tree.map(as_stored, leaves_of(spec), row.obs)
        return FrameRow(frame, row.action, row.reward, row.terminated, row.truncated, row.valid, row.mask)

    def init(row: Row) -> FrameStore:
        many = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, 1, *leaf.shape), leaf.dtype), row)
        one = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), jax.eval_shape(to_stored, many)
        )
        return FrameStore(ring=init_ring(one, capacity, num_envs))

    def add(store: FrameStore, rows: Row) -> FrameStore:
        assert_rows(rows)
        return FrameStore(ring=add_rows(store.ring, to_stored(rows)))

    def read(store: FrameStore, times: Array, writers: Array, h: Hypers) -> tuple[Transition, Array]:
        n = h.n_step_final if annealed else None
        return read_transitions(spec, store.ring, times, writers, n_step, h.gamma, n)

    return Store(
        capacity=capacity,
        num_envs=num_envs,
        n_step=n_step,
        history=longest_stack(spec) - 1,
        every_row_valid=False,
        init=init,
        add=add,
        read=read,
    )
