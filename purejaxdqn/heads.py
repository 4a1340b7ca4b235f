"""Heads: what a network's outputs mean. Each is a record of functions of one example."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from purejaxdqn.losses import huber, squared_error
from purejaxdqn.types import Dist, Hypers


class Head(NamedTuple):
    """How to read action values from a `Dist`, make a target and lose against it; every function is of one example."""

    q_values: Callable[[Dist], Array]
    """dist -> action values [A]."""
    target: Callable[[Dist, Array, Array, Array, Array], Array]
    """(dist_t, policy [A], bonus [A], r_t [], discount_t []) -> y [N], before any gradient is stopped."""
    loss: Callable[[Dist, Array, Array, Hypers], tuple[Array, Array]]
    """(dist_tm1, a_tm1 [], y [N], hypers) -> (loss [], |TD error| [])."""
    num_atoms: int


def scalar_loss(error: Array, h: Hypers, name: str) -> Array:
    """The configured loss of a TD error of any shape."""
    losses: dict[str, Callable[[], Array]] = {
        "squared": lambda: squared_error(error),
        "huber": lambda: huber(error, h.huber_delta),
    }
    return losses[name]()


def scalar(loss_name: str) -> Head:
    """One expected return per action (Mnih et al. 2015).

    Args:
      loss_name: `squared` or `huber`.
    """

    def q_values(dist: Dist) -> Array:
        return dist.x[..., 0]

    def target(dist_t: Dist, policy: Array, bonus: Array, r_t: Array, discount_t: Array) -> Array:
        # Entropy penalties are zero for greedy backups; for soft ones they lower the value action by action.
        value = jnp.sum(policy * (q_values(dist_t) - bonus))
        return (r_t + discount_t * value)[None]

    def loss(dist_tm1: Dist, a_tm1: Array, y: Array, h: Hypers) -> tuple[Array, Array]:
        error = y[0] - q_values(dist_tm1)[a_tm1]
        return scalar_loss(error, h, loss_name), jnp.abs(error)

    return Head(q_values=q_values, target=target, loss=loss, num_atoms=1)
