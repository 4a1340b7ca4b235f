"""Exploration: ε-greedy action selection, and the value of ε at a step of a run."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.bounds import INT32
from purejaxdqn.config import Config
from purejaxdqn.learning.masks import legal_values
from purejaxdqn.learning.schedules import BY_STEP, OFF_LATER, SCHEDULES
from purejaxdqn.machine.part_values import PartValues, best_parts, count_actions, numbers_of, split_parts
from purejaxdqn.machine.random_bits import index_from_bits, legal_index_from_bits, uniform_from_bits
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Hypers


def best_action(q_values: Any, mask: Array | None = None) -> Array:
    """The legal action of largest value, int32 [...]; of equal ones the lowest index.

    Args:
      q_values: [..., A], or `PartValues`, of which the best choice of each part is taken.
      mask: bool [..., A], the legal actions; None for all.
    """
    if isinstance(q_values, PartValues):
        best: Array = best_parts(q_values.x, q_values.sizes).astype(jnp.int32)
        return best
    return jnp.argmax(legal_values(q_values, mask), axis=-1).astype(jnp.int32)


def best_value(q_values: Any, mask: Array | None = None) -> Array:
    """The value of the best legal action, [...]; of `PartValues` the mean of the parts' best."""
    if isinstance(q_values, PartValues):
        return jnp.mean(jnp.stack([jnp.max(q, axis=-1) for q in split_parts(q_values.x, q_values.sizes)]), axis=0)
    return jnp.max(legal_values(q_values, mask), axis=-1)


def drawn_action(bits: Array, num_actions: int, mask: Array | None = None) -> Array:
    """A legal action from uniform bits, int32 [...].

    Args:
      bits: uint32 [...].
      num_actions: A.
      mask: bool [..., A], the legal actions; None for all.
    """
    return index_from_bits(bits, num_actions) if mask is None else legal_index_from_bits(bits, mask)


def epsilon_greedy(key: Array, q_values: Any, epsilon: float | Array, mask: Array | None = None) -> Array:
    """Uniformly random with probability ε, else greedy, drawn independently for every environment.

    Args:
      key: a typed or raw PRNG key.
      q_values: [E, A] (or [A] for one environment), or `PartValues`.
      epsilon: probability of a random action, [] or [E].
      mask: bool of the shape of `q_values`, the legal actions, of which alone one is taken; None for all.

    Returns:
      int32 [E] (or []). Ties of the greedy choice go to the lowest index.
    """
    num_envs = numbers_of(q_values).shape[:-1]
    assert_array("q_values", numbers_of(q_values), (*num_envs[:1], None), float)
    assert_array("epsilon", epsilon, num_envs if jnp.ndim(epsilon) else ())
    if mask is not None:
        assert_array("mask", mask, q_values.shape, bool)
    coin, action = jax.random.bits(key, (2, *num_envs), jnp.uint32)
    explore = uniform_from_bits(coin) < epsilon
    return jnp.where(explore, drawn_action(action, count_actions(q_values), mask), best_action(q_values, mask))


def ladder_of(config: Config, h: Hypers, epsilon: Array, envs: Array) -> Array:
    """ε of every environment: the i-th of N has ε^(1 + α i / (N - 1)) (Horgan et al. 2018).

    Args:
      config: N.
      h: α is `ladder_exponent`.
      epsilon: of the first environment, [].
      envs: i, numbers of the environments in the run, int32 [E].
    """
    assert_array("epsilon", epsilon, ())
    assert_array("envs", envs, (None,), int)
    return epsilon ** (1.0 + h.ladder_exponent * (envs / (config.num_envs - 1)))


def env_steps_at(config: Config, vector_steps: Array) -> Array:
    """Environment steps after a number of vector steps: int32, or float32 if a run has more than int32 holds.

    Args:
      config: for the environments and the run's length.
      vector_steps: int32, any shape.
    """
    fits = config.total_steps + config.steps_per_iteration <= INT32
    return vector_steps * config.num_envs if fits else jnp.float32(vector_steps) * float(config.num_envs)


def epsilon_at(config: Config, h: Hypers, env_steps: Array) -> Array:
    """ε after a number of environment steps of one run.

    Args:
      config: names the schedule and the run's length.
      h: start, end, and the share of the run over which ε decays, or its decay in a step; where it is switched off.
      env_steps: environment steps taken, prefill included, [].
    """
    assert_array("env_steps", env_steps, ())
    name = config.epsilon_schedule
    pace = h.epsilon_decay if name in BY_STEP else h.epsilon_fraction * float(config.total_steps)
    epsilon = SCHEDULES[name](env_steps, h.epsilon_start, h.epsilon_final, pace)
    if name == OFF_LATER:
        epsilon = jnp.where(env_steps < h.epsilon_off * float(config.total_steps), epsilon, 0.0)
    return epsilon
