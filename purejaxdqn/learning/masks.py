"""Action masks: which actions are legal in a state, and what of an illegal one is never read."""

import jax.numpy as jnp
from jax import Array

from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Dist


def legal_values(values: Array, mask: Array | None) -> Array:
    """Action values with -inf at every illegal action, which then is neither a maximum nor part of a softmax.

    A mask without any legal action, as a terminal state may have, counts as one of them all: what comes of it is
    multiplied by a discount of zero, and has to be a number.

    Args:
      values: float32 [..., A].
      mask: bool [A], or of the shape of `values`; None gives the values as they are.
    """
    if mask is None:
        return values
    return jnp.where(jnp.broadcast_to(or_all(mask), values.shape), values, -jnp.inf)


def or_all(mask: Array) -> Array:
    """The mask [..., A], or all actions where it has none."""
    assert_array("mask", mask, (..., None), bool)
    return jnp.logical_or(mask, jnp.logical_not(jnp.any(mask, axis=-1, keepdims=True)))


def without_illegal(dist: Dist, penalty: Array | None, mask: Array | None) -> tuple[Dist, Array | None]:
    """What a head makes a target of, with zeros at illegal actions: these have no share in any policy, and zero times
    an infinite or missing number would not be nothing.

    Args:
      dist: of one example, x [..., A, N].
      penalty: [..., A], or None for none.
      mask: bool [A]; None gives both as they are.
    """
    if mask is None:
        return dist, penalty
    legal = or_all(mask)
    kept = dist.replace(x=jnp.where(jnp.broadcast_to(legal[:, None], dist.x.shape), dist.x, 0.0))  # type: ignore[attr-defined]
    return kept, None if penalty is None else jnp.where(jnp.broadcast_to(legal, penalty.shape), penalty, 0.0)
