"""Windows: consecutive steps of environments, which a network with a memory is fed in place of observations."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.machine.shapes import assert_array


@struct.dataclass
class Window:
    """T consecutive steps of B environments. Of its last U = T - burn_in steps a network gives a `Dist` [U · B, ...],
    the environments of one step side by side, so that targets, heads and losses see a batch of U · B examples."""

    obs: Any
    """[T, B, ...], or a tree of such."""
    starts: Array
    """bool [T, B]: an episode begins with the observation, so that what is carried is zeroed before it is seen."""
    carry: Any
    """[B, ...] of the network's memory before the first step; where that begins an episode it is not read."""
    burn_in: int = struct.field(pytree_node=False, default=0)
    """First steps that only move the carry: nothing is given for them, and no gradient goes into them."""
    pick: Any = None
    """int32 [K, B], the steps after the burn-in, counted from 0, for which something is given in place of all U."""


class Recall(NamedTuple):
    """What acting carries from step to step of a network with a memory."""

    carry: Any
    """[E, ...] after the newest observation."""
    starts: Array
    """bool [E]: the next observation begins an episode."""


def begin(recall: Any, begins: Array) -> Any:
    """What is carried where episodes begin with the next observation, bool [E]; () of a network without a memory."""
    return recall._replace(starts=begins) if isinstance(recall, Recall) else recall


def observed(fed: Any) -> Any:
    """The observations of what a network is fed: a window's [T, B, ...], or those that are given."""
    return fed.obs if isinstance(fed, Window) else fed


def one_step(obs: Any, recall: Recall) -> Window:
    """The window of one step of observations [E, ...]."""
    return Window(jax.tree.map(lambda leaf: leaf[None], obs), recall.starts[None], recall.carry)


def steps_in_a_row(tree: Any) -> Any:
    """Arrays [T, B, ...] as [T · B, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def zero_at(starts: Array, carry: Any) -> Any:
    """What is carried, [B, ...], with zeros where an episode begins, bool [B]."""
    assert_array("starts", starts, (None,), bool)
    return jax.tree.map(
        lambda leaf: jnp.where(starts.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.zeros((), leaf.dtype), leaf), carry
    )
