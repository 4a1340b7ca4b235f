"""Bootstrapping of targets: max (DQN), double DQN and Munchausen, each as functions of one example."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Hypers


class Backup(NamedTuple):
    """The policy that a target follows at the next observation, and what it adds to the reward."""

    policy: Callable[[Array, Hypers], tuple[Array, Array | None]]
    """(q_t [A], hypers) -> (policy [A], summing to one; entropy penalty per action [A], or None for none)."""
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

    def policy(q_t: Array, h: Hypers) -> tuple[Array, None]:
        del h
        assert_array("q_t", q_t, (None,), float)
        return jax.nn.one_hot(jnp.argmax(q_t), q_t.shape[0], dtype=q_t.dtype), None

    def bonus(q_tm1: Array, a_tm1: Array, h: Hypers) -> Array:
        del h
        assert_array("q_tm1", q_tm1, (None,), float)
        assert_array("a_tm1", a_tm1, (), int)
        return jnp.zeros((), q_tm1.dtype)

    return Backup(policy=policy, bonus=bonus, selects_online=double, needs_bonus=False)


def munchausen() -> Backup:
    """The softmax policy of the target network, whose log-policy is also added to the reward (Vieillard et al. 2020).

    With π = softmax(q / τ) the target is r + α [τ log π(a|s)]_{l₀}^0 + γ Σ_a' π(a'|s') (q(s', a') - τ log π(a'|s')),
    where τ, α and l₀ are `munchausen_temperature`, `munchausen_alpha` and `munchausen_clip`.
    """

    def scaled_log_policy(q: Array, h: Hypers) -> Array:
        # τ log π in units of return: subtracting the best value first keeps exp and its sum in range for any τ.
        advantage = q - jnp.max(q)
        return advantage - h.munchausen_temperature * jax.nn.logsumexp(advantage / h.munchausen_temperature)

    def policy(q_t: Array, h: Hypers) -> tuple[Array, Array]:
        assert_array("q_t", q_t, (None,), float)
        return jax.nn.softmax((q_t - jnp.max(q_t)) / h.munchausen_temperature), scaled_log_policy(q_t, h)

    def bonus(q_tm1: Array, a_tm1: Array, h: Hypers) -> Array:
        assert_array("q_tm1", q_tm1, (None,), float)
        assert_array("a_tm1", a_tm1, (), int)
        return h.munchausen_alpha * jnp.clip(scaled_log_policy(q_tm1, h)[a_tm1], h.munchausen_clip, 0.0)

    return Backup(policy=policy, bonus=bonus, selects_online=False, needs_bonus=True)


def of_members(backup: Backup) -> Backup:
    """A backup of action values [K, A] of K members, each of which has a policy and a bonus of its own."""
    return backup._replace(
        policy=jax.vmap(backup.policy, in_axes=(0, None)), bonus=jax.vmap(backup.bonus, in_axes=(0, None, None))
    )
