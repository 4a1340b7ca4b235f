"""Backups: which policy a target bootstraps with. Each is a record of functions of one example."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.types import Hypers


class Backup(NamedTuple):
    """The policy that a target follows at the next observation, and what it adds to the reward."""

    policy: Callable[[Array, Hypers], tuple[Array, Array]]
    """(q_t [A], hypers) -> (policy [A], summing to one; entropy penalty per action [A])."""
    bonus: Callable[[Array, Array, Hypers], Array]
    """(q_tm1 [A] of the target network, a_tm1 [], hypers) -> what is added to the reward []."""
    selects_online: bool
    """Whether `policy` is given the online network's action values (double Q-learning) or the target's."""
    needs_bonus: bool
    """Whether `bonus` must be called at all: it costs a forward pass of the target network."""


def greedy(double: bool) -> Backup:
    """The greedy policy: max when the target network selects (Mnih 2015), double when the online one does.

    Args:
      double: whether the online network selects (van Hasselt et al. 2016).
    """

    def policy(q_t: Array, h: Hypers) -> tuple[Array, Array]:
        del h
        return jax.nn.one_hot(jnp.argmax(q_t), q_t.shape[0], dtype=q_t.dtype), jnp.zeros_like(q_t)

    def bonus(q_tm1: Array, a_tm1: Array, h: Hypers) -> Array:
        del a_tm1, h
        return jnp.zeros((), q_tm1.dtype)

    return Backup(policy=policy, bonus=bonus, selects_online=double, needs_bonus=False)
