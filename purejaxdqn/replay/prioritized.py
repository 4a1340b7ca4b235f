"""Prioritized replay, the proportional variant (Schaul et al. 2016, "Prioritized Experience Replay")."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.machine.random_bits import uniform_from_bits
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.machine.shards import WHOLE, Shards
from purejaxdqn.replay import sum_tree
from purejaxdqn.replay.interface import Replay, Store, keep_hypers
from purejaxdqn.replay.ring import Ring
from purejaxdqn.types import Hypers, Row, Transition

SMALLEST_LEAF, LARGEST_LEAF = 2.0**-100, 2.0**90
"""Bounds of the leaf of a row that can be drawn. Powers far from usual ones would else underflow to a leaf of zero,
which is never drawn again, or overflow; 2³⁰ leaves of either kind still have a finite, positive sum."""


@struct.dataclass
class PrioritizedMemory:
    """Steps, and for each of them a leaf, to which its probability of being drawn is proportional."""

    store: Any
    tree: sum_tree.SumTree
    """Leaves in the order position in the ring × writers + writer; 0 for a row that cannot be drawn."""
    max_leaf: Array
    """float32 []: the largest leaf ever set, which new rows get."""


class Drawn(NamedTuple):
    """The rows of a sample."""

    times: Array
    """int32 [B]."""
    writers: Array
    """int32 [B]."""
    leaf: Array
    """float32 [B], when they were drawn. An update that reads it here cannot start before the leaves have been read,
    without which order a compiler must copy them all."""


def to_leaf(priority: Array, h: Hypers) -> Array:
    """(p + ε)^α, Schaul et al. 2016, equation 1 and section 3.3; an exponent of 0 makes all leaves equal.

    Args:
      priority: float32, any shape, at least 0.
      h: for `priority_epsilon` ε and `priority_exponent` α.
    """
    return jnp.clip((priority + h.priority_epsilon) ** h.priority_exponent, SMALLEST_LEAF, LARGEST_LEAF)


def importance_weights(leaf: Array, beta: Array, shards: Shards = WHOLE) -> Array:
    """(1 / (N P(i)))^β over its maximum in the batch (Schaul et al. 2016, section 3.4), which is (min P / P(i))^β.

    The number N of rows that can be drawn and the total of the leaves cancel in the division, so neither is needed.

    Args:
      leaf: float32 [B], leaves of the rows drawn; one of 0 (drawn only where all are 0) gets the weight 0. For a batch
        drawn by several shards, each from its own leaves, leaves over their total.
      beta: float32 [].
      shards: those that drew the batch.

    Returns:
      float32 [B], in [0, 1].
    """
    assert_array("leaf", leaf, (None,), float)
    assert_array("beta", beta, ())
    drawable = leaf > 0.0
    least = shards.min(jnp.min(jnp.where(drawable, leaf, LARGEST_LEAF)))
    return jnp.where(drawable, (least / jnp.where(drawable, leaf, 1.0)) ** beta, 0.0)


def prioritized(
    store: Store,
    batch_size: int,
    now: Callable[[Hypers, Array], Hypers] = keep_hypers,
    fan_out: int = sum_tree.FAN_OUT,
    shards: Shards = WHOLE,
) -> Replay:
    """Sampling in proportion to priority^α, with replacement, in time logarithmic in the capacity.

    The newest n_step time steps, the oldest ones that others need as their history, and rows that are not transitions
    are never drawn. A row becomes drawable with the largest leaf seen so far (1 at first), so that it is likely to be
    drawn soon. `add` needs a capacity above n_step, history and the time steps it writes, and raises ValueError
    otherwise.

    Draws have the resolution of float32, 2⁻²⁴ of the total: next to a leaf's share of it this is 1 % at 100,000 equal
    leaves.

    Args:
      store: what keeps the steps.
      batch_size: transitions in a sample.
      now: anneals β, which is `importance_exponent` of the hypers that `sample` is given (see `Replay.now`).
      fan_out: children of a node of the sum tree, a power of two.
      shards: those that draw a batch together, each an equal part from its own tree.
    """
    capacity, num_envs, n_step, history = store.capacity, store.num_envs, store.n_step, store.history
    # One tree's total cancels in the weights, those of several do not.
    shares = (lambda leaf, total: leaf) if shards.number == 1 else jnp.divide

    def flat(times: Array, writers: Array) -> Array:
        return times % capacity * num_envs + writers

    def may_start(ring: Ring, times: Array) -> Array:
        if store.period is None:
            return ring.rows.valid[times % capacity]
        return jnp.broadcast_to((times % store.period == 0)[:, None], (times.shape[0], num_envs))

    def init(row: Row) -> PrioritizedMemory:
        return PrioritizedMemory(
            store=store.init(row),
            tree=sum_tree.init_tree(capacity * num_envs, fan_out),
            max_leaf=jnp.ones((), jnp.float32),
        )

    def add(memory: PrioritizedMemory, rows: Row) -> PrioritizedMemory:
        num_steps = rows.action.shape[0]
        if capacity <= n_step + history + num_steps:
            needs = n_step + history
            raise ValueError(
                f"a capacity of {capacity} must exceed {needs} + {num_steps}, n_step, history and time steps"
            )
        kept = store.add(memory.store, rows)
        written = kept.ring.written.count
        # As many time steps get their last step as are written. Before the first row there is none: these positions lie
        # at the end of a ring that is not full, where every leaf is 0 and stays so.
        complete = written - n_step - num_steps + jnp.arange(num_steps)
        drawable = jnp.logical_and(may_start(kept.ring, complete), (complete >= history)[:, None])
        leaf = jnp.where(drawable, memory.max_leaf, 0.0)
        # The newest wait for theirs, and lie where older rows had a leaf. Those between the two are waiting already.
        # The oldest that are left lose theirs to their successors' history; in a ring that is not full they have none.
        num_new, num_old = min(num_steps, n_step), min(num_steps, history)
        newest = written - num_new + jnp.arange(num_new)
        oldest = written - capacity + history - num_old + jnp.arange(num_old)
        times = jnp.concatenate([complete, newest, oldest])
        value = jnp.concatenate([leaf, jnp.zeros((num_new + num_old, num_envs), jnp.float32)])
        index = flat(times[:, None], jnp.arange(num_envs)[None])
        tree = sum_tree.set_leaves(memory.tree, index.reshape(-1), value.reshape(-1))
        return dataclasses.replace(memory, store=kept, tree=tree)

    def sample(memory: PrioritizedMemory, key: Array, h: Hypers) -> tuple[Transition, Drawn, Array]:
        written = memory.store.ring.written.count
        # One draw from each of batch_size equal strata of the total mass (Schaul et al. 2016, section 3.3).
        u = uniform_from_bits(jax.random.bits(key, (batch_size,), jnp.uint32))
        strata = jnp.arange(batch_size) + u
        total = sum_tree.total(memory.tree)
        mass = strata * (total / batch_size)
        index = sum_tree.find(memory.tree, mass)
        position, writers = index // num_envs, index % num_envs
        # The newest time that lies at a position.
        times = written - 1 - (written - 1 - position) % capacity
        batch, weight = store.read(memory.store, times, writers, h)
        leaf = memory.tree.levels[0][index]
        importance = importance_weights(shares(leaf, total), jnp.asarray(h.importance_exponent), shards)
        return batch, Drawn(times, writers, leaf), weight * importance

    def update(memory: PrioritizedMemory, index: Drawn, priority: Array, h: Hypers) -> PrioritizedMemory:
        assert_array("priority", priority, index.times.shape, float)
        ring = memory.store.ring
        # A row that has been overwritten since, or that could not be drawn, keeps the leaf that it has.
        changes = jnp.logical_and(index.times >= ring.written.count - ring.size, index.leaf > 0.0)
        leaf = to_leaf(priority, h)
        place = jnp.where(changes, flat(index.times, index.writers), -1)
        tree = sum_tree.set_leaves(memory.tree, place, leaf)
        max_leaf = jnp.maximum(memory.max_leaf, shards.max(jnp.max(jnp.where(changes, leaf, 0.0))))
        return dataclasses.replace(memory, tree=tree, max_leaf=max_leaf)

    return Replay(init=init, add=add, sample=sample, update=update, now=now)
