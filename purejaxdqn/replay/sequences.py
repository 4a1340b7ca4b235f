"""Windows of consecutive rows in place of single transitions, for networks with a memory (DRQN, R2D2).

A window is burn_in + unroll + n rows of one environment, read from the ring where each observation is kept once. The
first move the network's carry alone, those of the unroll are learnt from, and the last are what these bootstrap from.
Windows begin at every time that is a multiple of a period (Kapturowski et al. 2019 let sequences of 80 begin every 40
steps); with them the carry that acted there is kept, which takes the carry's bytes / period for each row of the ring.

A window may hold ends and starts of episodes anywhere. Its observations are laid out in slots, such that the one after
a step is always the next slot's: where an episode was truncated, its true final observation has a slot of its own. So a
step bootstraps with the memory of its own episode.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.config import EnvSpec
from purejaxdqn.learning.returns import cut_after, n_step_fold
from purejaxdqn.machine.shapes import assert_array, assert_arrays
from purejaxdqn.networks.windows import Window, zero_at
from purejaxdqn.replay.frames import FrameStore, read_stacks
from purejaxdqn.replay.interface import Replay, Store
from purejaxdqn.replay.ring import Ring, read_rows
from purejaxdqn.replay.transitions import TransitionStore
from purejaxdqn.types import Hypers, Row, Transition


class Lengths(NamedTuple):
    """Rows of a window's parts; n_step is the longest fold's."""

    burn_in: int
    unroll: int
    n_step: int

    @property
    def rows(self) -> int:
        """Of a whole window, the last of which only gives an observation."""
        return self.burn_in + self.unroll + self.n_step


class Steps(NamedTuple):
    """The W rows of B windows, and their observations in S slots."""

    obs: Any
    """[S, B, ...], or a tree of such."""
    mask: Array | None
    """bool [S, B, A]; None in an environment without action masks."""
    starts: Array
    """bool [S, B]: an episode begins with this slot; False for the first, whose carry tells."""
    slot: Array
    """int32 [W, B], of each row's observation; the observation after its step is in the next."""
    action: Array
    """int32 [W, B]."""
    reward: Array
    """float32 [W, B]."""
    terminated: Array
    """bool [W, B]."""
    cut: Array
    """bool [W, B]: the row after does not go on with the episode; of a row that terminated either will do."""
    valid: Array
    """bool [W, B]: the row is a transition."""
    followed: Array
    """bool [W, B]: the observation after the row is held."""


ReadSteps = Callable[[Any, Array, Array, int], Steps]
"""(store, times [B], writers [B], W) -> W rows from each time on."""


@struct.dataclass
class WindowStore:
    """Rows as another store keeps them, and the carries of those at which windows begin."""

    steps: Any
    carry: Any
    """Each array [places, writers, ...]; one place, of zeros, where no carries are stored."""

    @property
    def ring(self) -> Ring:
        """Of the rows."""
        return self.steps.ring


def lay_out(inserted: Array, num_slots: int) -> tuple[Array, Array, Array]:
    """Gives each row a slot, and one more to those after which something is inserted.

    Args:
      inserted: bool [W, B], rows after which.
      num_slots: S, at least W; rows that find no room have slots from S on.

    Returns:
      slots int32 [W, B] of the rows; of each slot the row int32 [S, B] that it shows; and bool [S, B], whether it shows
      what is inserted after that row. Slots after the last row's show what is inserted there, if anything.
    """
    assert_array("inserted", inserted, (None, None), bool)
    rows = jnp.arange(inserted.shape[0])[:, None]
    slot = rows + jnp.cumsum(inserted, axis=0) - inserted
    numbers = jnp.arange(num_slots)[:, None]
    row = jnp.sum(slot[None] <= numbers[:, None], axis=1) - 1
    return slot, row, jnp.take_along_axis(slot, row, axis=0) < numbers


def read_ring_steps(store: TransitionStore, times: Array, writers: Array, num_rows: int) -> Steps:
    """Consecutive rows of an environment that resets in the step that ends an episode; see `ReadSteps`."""
    ring, rows = store.ring, store.ring.rows
    when = times[None] + jnp.arange(num_rows)[:, None]

    def field(stored: Array, row: Array | None = None) -> Array:
        found = when if row is None else times[None] + row
        return stored[found % ring.capacity, writers[None]]

    terminated, truncated = field(rows.terminated), field(rows.truncated)
    # Nothing bootstraps from beyond the last row.
    most = -(-(num_rows - 1) // store.time_limit)
    slot, row, is_final = lay_out(truncated, num_rows + most)
    final_place = store.place(times[None] + row)

    def laid_out(stored: Array, final: Array) -> Array:
        found = field(stored, row)
        after = is_final.reshape(is_final.shape + (1,) * (found.ndim - 2))
        return jnp.where(after, final[final_place, writers[None]], found)

    obs, mask = jax.tree.map(laid_out, (rows.obs, rows.mask), (store.final_obs, store.final_mask))
    ended = jnp.logical_or(terminated, truncated)
    follows_end = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])
    held = store.final_time[store.place(when), writers[None]] == when
    return Steps(
        obs=obs,
        mask=mask,
        starts=jnp.logical_and(jnp.take_along_axis(follows_end, row, axis=0), ~is_final),
        slot=slot,
        action=field(rows.action),
        reward=field(rows.reward),
        terminated=terminated,
        cut=truncated,
        valid=field(rows.valid),
        followed=jnp.logical_or(~truncated, held),
    )


def read_frame_steps(spec: EnvSpec, store: FrameStore, times: Array, writers: Array, num_rows: int) -> Steps:
    """Consecutive rows of an environment whose last observation is a row of its own; see `ReadSteps`.

    Args:
      spec: what an observation is made of.
      store: of single frames.
      times: int32 [B], each with frame_stack - 1 time steps before it in the ring.
      writers: int32 [B].
      num_rows: W.
    """
    when = times[None] + jnp.arange(num_rows)[:, None]
    flat = when.reshape(-1), jnp.broadcast_to(writers[None], when.shape).reshape(-1)
    rows = dataclasses.replace(store.ring.rows, frame=())
    found, obs = jax.tree.map(
        lambda leaf: leaf.reshape(*when.shape, *leaf.shape[1:]),
        (read_rows(dataclasses.replace(store.ring, rows=rows), *flat), read_stacks(spec, store.ring, *flat)),
    )
    gap = jnp.logical_not(found.valid)
    beyond = jnp.zeros_like(gap[:1])
    return Steps(
        obs=obs,
        mask=found.mask,
        starts=jnp.concatenate([beyond, gap[:-1]]),
        slot=jnp.broadcast_to(jnp.arange(num_rows)[:, None], when.shape),
        action=found.action,
        reward=found.reward,
        terminated=found.terminated,
        cut=jnp.logical_or(found.truncated, jnp.concatenate([gap[1:], beyond])),
        valid=found.valid,
        followed=jnp.ones_like(gap),
    )


def fold_windows(
    steps: Steps, carry: Any, lengths: Lengths, gamma: float | Array, n: int | Array | None = None
) -> tuple[Transition, Array]:
    """The n-step transitions of the unroll's rows.

    Args:
      steps: of W rows, as many as the lengths say.
      carry: [B, ...] or a tree, with which the first row's observation is met.
      lengths: of the parts.
      gamma: discount per step, [].
      n: steps of the fold where they are fewer, int [].

    Returns:
      Transitions of U × B rows, row u of window b at u * B + b, whose observations are a `Window` each; and float32
      [U, B], 1 for a row that is learnt from: a transition whose observation to bootstrap from is held.
    """
    assert_arrays((lengths.rows, None), terminated=steps.terminated, reward=steps.reward)
    assert_array("gamma", gamma, ())
    burn_in, unroll, n_step = lengths
    first = burn_in + jnp.arange(unroll)[:, None]
    folded = first + jnp.arange(n_step)[None]

    def ahead(field: Array) -> Array:
        return jnp.moveaxis(field[folded], 1, -1)

    cut = ahead(steps.cut)
    fold = jax.vmap(jax.vmap(n_step_fold, (0, 0, 0, None)), (0, 0, 0, None))
    ends = cut if n is None else cut_after(cut, n)
    r_t, discount_t, last = fold(ahead(steps.reward), ahead(steps.terminated), ends, gamma)
    last_row = first + last
    num_slots = steps.starts.shape[0]
    slot_tm1 = steps.slot[burn_in : burn_in + unroll]
    slot_t = jnp.take_along_axis(steps.slot, last_row, axis=0) + 1
    followed = jnp.take_along_axis(steps.followed, last_row, axis=0)
    # An environment that truncates more often than it said leaves no slot for the last rows.
    learnt = steps.valid[burn_in : burn_in + unroll] & followed & (slot_t < num_slots)
    slot_tm1, slot_t = jnp.minimum(slot_tm1, num_slots - n_step - 1), jnp.minimum(slot_t, num_slots - 1)

    def flat(field: Array) -> Array:
        return field.reshape(-1, *field.shape[2:])

    def mask_at(slot: Array) -> Array | None:
        return None if steps.mask is None else flat(jnp.take_along_axis(steps.mask, slot[..., None], axis=0))

    def window(slot: Array, before: int, end: int) -> Window:
        obs, starts = jax.tree.map(lambda leaf: leaf[:end], (steps.obs, steps.starts))
        return Window(obs, starts, carry, burn_in=before, pick=slot - before)

    batch = Transition(
        obs_tm1=window(slot_tm1, burn_in, num_slots - n_step),
        a_tm1=flat(steps.action[burn_in : burn_in + unroll]),
        r_t=flat(r_t),
        discount_t=flat(discount_t),
        obs_t=window(slot_t, burn_in + 1, num_slots),
        mask_tm1=mask_at(slot_tm1),
        mask_t=mask_at(slot_t),
    )
    return batch, learnt.astype(jnp.float32)


def window_store(
    base: Store, read_steps: ReadSteps, lengths: Lengths, period: int, stored_carry: bool, annealed: bool = False
) -> Store:
    """A store that reads windows, each of which counts as one draw, from rows as another store keeps them.

    Its `read` gives transitions and learnt [U, B] as `fold_windows` does, and weights [B] of 1.

    Args:
      base: what keeps the rows.
      read_steps: reads its rows.
      lengths: of a window.
      period: vector steps between the first rows of two windows, at least 1.
      stored_carry: whether a window begins with the carry that acted; otherwise with zeros.
      annealed: whether a fold has the `n_step_final` steps of the hypers that it is read with.
    """
    places = base.capacity // period + 2 if stored_carry else 1

    def init(row: Row) -> WindowStore:
        carry = jax.tree.map(lambda leaf: jnp.zeros((places, base.num_envs, *leaf.shape), leaf.dtype), row.carry)
        return WindowStore(base.init(row), carry)

    def add(store: WindowStore, rows: Row) -> WindowStore:
        steps = base.add(store.steps, rows)
        if not stored_carry:
            return WindowStore(steps, store.carry)
        times = store.ring.written.count + jnp.arange(rows.action.shape[0])
        place = jnp.where(times % period == 0, times // period % places, places)

        def keep(kept: Array, new: Array) -> Array:
            return kept.at[place].set(new.astype(kept.dtype), mode="drop")

        assert rows.starts is not None, "only a memory's rows have carries"
        # Zeroed where an episode begins, a stored carry needs no mark of that.
        carry = jax.vmap(zero_at)(rows.starts, rows.carry)
        return WindowStore(steps, jax.tree.map(keep, store.carry, carry))

    def read(store: WindowStore, times: Array, writers: Array, h: Hypers) -> tuple[tuple[Transition, Array], Array]:
        assert_array("times", times, (None,), int)
        assert_array("writers", writers, times.shape, int)
        carry = jax.tree.map(lambda kept: kept[times // period % places, writers], store.carry)
        steps = read_steps(store.steps, times, writers, lengths.rows)
        n = h.n_step_final if annealed else None
        return fold_windows(steps, carry, lengths, h.gamma, n), jnp.ones(times.shape)

    return base._replace(n_step=lengths.rows - 1, period=period, init=init, add=add, read=read)


def window_priority(priority: Array, learnt: Array, eta: float | Array) -> Array:
    """η max + (1 - η) mean of the priorities of a window's rows (Kapturowski et al. 2019, section 2.3).

    Args:
      priority: float32 [U, B], each at least 0.
      learnt: float32 [U, B], 1 for a row that was learnt from; without any a window's priority is 0.
      eta: η in [0, 1], [].

    Returns:
      float32 [B].
    """
    assert_array("priority", priority, (None, None), float)
    assert_array("learnt", learnt, priority.shape, float)
    assert_array("eta", eta, ())
    counted = priority * learnt
    mean = jnp.sum(counted, axis=0) / jnp.maximum(jnp.sum(learnt, axis=0), 1.0)
    return eta * jnp.max(counted, axis=0) + (1.0 - eta) * mean


class DrawnWindows(NamedTuple):
    """The rows of a sample of windows, and the windows themselves."""

    times: Array
    """int32 [U * B], of each row that may be learnt from."""
    writers: Array
    """int32 [U * B]."""
    learnt: Array
    """float32 [U, B], 1 for a row that is learnt from."""
    windows: Any
    """What the replay of windows needs to update their priorities; its first two parts are times and writers [B]."""


def by_rows(replay: Replay, burn_in: int) -> Replay:
    """A replay of windows as a learner needs it: transitions, weights and priorities of all their rows, [U * B].

    Args:
      replay: draws from a `window_store`, and gives its pairs in place of transitions.
      burn_in: rows of a window before those.
    """

    def sample(memory: Any, key: Array, h: Hypers) -> tuple[Transition, Any, Array]:
        pair: Any
        pair, index, weight = replay.sample(memory, key, h)
        batch, learnt = pair
        times = index[0][None] + burn_in + jnp.arange(learnt.shape[0])[:, None]
        writers = jnp.broadcast_to(index[1][None], learnt.shape)
        rows = DrawnWindows(times.reshape(-1), writers.reshape(-1), learnt, index)
        return batch, rows, (weight[None] * learnt).reshape(-1)

    def update(memory: Any, index: DrawnWindows, priority: Array, h: Hypers) -> Any:
        each = priority.reshape(index.learnt.shape)
        return replay.update(memory, index.windows, window_priority(each, index.learnt, h.priority_eta), h)

    return replay._replace(sample=sample, update=update)
