"""Evaluation on fresh episodes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.machine.threefry import run_key_of
from purejaxdqn.networks.windows import begin

MAX_STEPS = 27_000
"""Steps after which an evaluation cuts an episode, as the Arcade Learning Environment does, if nothing else does."""


@struct.dataclass
class Evaluation:
    """One entry for each episode; every episode counts once, whatever its length."""

    returns: Array
    """float32 [episodes], undiscounted sums of raw rewards."""
    lengths: Array
    """int32 [episodes], environment steps."""


Playing = tuple[Any, Any, Array, Array, Array, Array]
"""Environments, what a memory carries, bool [E] whose first episode goes on, its return and length so far, steps."""


def make_evaluate(parts: Parts) -> Callable[..., Evaluation]:
    """The evaluation of one network's parameters, on the device."""

    def evaluate(
        params: Any, key: Array, *, episodes: int, epsilon: float | Array = 0.0, max_steps: int | None = None
    ) -> Evaluation:
        """Plays the first episode of each of `episodes` fresh environments, side by side, without noise in the network.

        Args:
          params: parameters of the network.
          key: PRNG key.
          episodes: episodes, static.
          epsilon: probability of a random action; 0 is greedy.
          max_steps: environment steps after which an episode is cut and scored, static; by default `MAX_STEPS`.
        """
        limit = min(parts.env.spec.time_limit, max_steps or MAX_STEPS)
        reset_key, play_key = jax.random.split(run_key_of(key))
        env, _ = parts.env.reset(reset_key, episodes)

        def playing(carry: Playing) -> Array:
            _, _, running, _, _, step = carry
            return jnp.logical_and(jnp.any(running), step < limit)

        def play(carry: Playing) -> Playing:
            env, recall, running, returns, lengths, step = carry
            network_key, action_key, step_key = jax.random.split(jax.random.fold_in(play_key, step), 3)
            dist, recall = parts.network.step(params, parts.env.observe(env), recall, network_key, "greedy")
            action = epsilon_greedy(action_key, parts.head.q_values(dist), epsilon, parts.env.mask(env))
            env, _, row = parts.env.step(step_key, env, action)
            counts = jnp.logical_and(running, row.valid)
            returns = returns + jnp.where(counts, row.reward, 0.0)
            ended = jnp.logical_or(row.terminated, row.truncated)
            running = jnp.logical_and(running, ~ended)
            return env, begin(recall, ended), running, returns, lengths + counts, step + 1

        nothing = (jnp.ones(episodes, bool), jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32), jnp.int32(0))
        carry = (env, parts.network.init_carry(episodes), *nothing)
        _, _, _, returns, lengths, _ = jax.lax.while_loop(playing, play, carry)
        return Evaluation(returns=returns, lengths=lengths)

    return evaluate
