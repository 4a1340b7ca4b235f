"""Greedy rollouts from fresh resets: predicted values against the returns obtained."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.envs.actions import countable
from purejaxdqn.learning.explore import best_action, best_value
from purejaxdqn.learning.normalization import read_reward
from purejaxdqn.networks.windows import begin
from purejaxdqn.types import Hypers

PRECISION, MOST_STEPS = 1e-3, 2_000
"""Episodes are followed until γ to the power of the number of steps is below the first, or for the second's steps."""


class Played(NamedTuple):
    """Greedy episodes from fresh starts, [N]."""

    start_q: Array
    """float32: greatest action value at the start."""
    discounted_return: Array
    """float32: the return in the learner's rewards, plus γ^T times the greatest action value after T steps
    without a termination."""
    length: Array
    """int32: steps followed."""
    terminated: Array
    truncated: Array
    actions: Array
    """int32 [A]: how often each was taken, all episodes together."""


def make_play(parts: Parts, gamma: float, episodes: int) -> Callable[[Any, Array, Hypers], Played]:
    """(parameters, key, hypers) -> greedy episodes of an environment on the device.

    Args:
      parts: of the run.
      gamma: approximately the discount; it determines for how many steps an episode is followed.
      episodes: N.
    """
    spec = parts.env.spec
    enough = math.ceil(math.log(PRECISION) / math.log(gamma)) if 0.0 < gamma < 1.0 else MOST_STEPS
    limit = min(spec.time_limit, max(1, min(enough, MOST_STEPS)))
    counted = countable(spec)

    # Traced once for its three uses.
    @jax.jit
    def best_q(params: Any, obs: Any, mask: Any, recall: Any) -> tuple[Array, Array, Any]:
        dist, recall = parts.network.step(params, obs, recall, None, "greedy")
        q = parts.head.q_values(dist)
        return best_action(q, mask), best_value(q, mask), recall

    def play(params: Any, key: Array, h: Hypers) -> Played:
        reset_key, step_key = jax.random.split(key)
        env, obs = parts.env.reset(reset_key, episodes)
        no, zeros, recall = jnp.zeros(episodes, bool), jnp.zeros(episodes), parts.network.init_carry(episodes)
        played = Played(
            best_q(params, obs, parts.env.mask(env), recall)[1],
            zeros,
            jnp.zeros(episodes, jnp.int32),
            no,
            no,
            jnp.zeros(counted, jnp.int32),
        )

        def running(so_far: Played) -> Array:
            return jnp.logical_not(jnp.logical_or(so_far.terminated, so_far.truncated))

        def going(carry: tuple[Any, Any, Any, Played, Array]) -> Array:
            _, _, _, so_far, step = carry
            return jnp.logical_and(jnp.any(running(so_far)), step < limit)

        def follow(carry: tuple[Any, Any, Any, Played, Array]) -> tuple[Any, Any, Any, Played, Array]:
            env, recall, last, so_far, step = carry
            action, _, recall = best_q(params, parts.env.observe(env), parts.env.mask(env), recall)
            env, _, row = parts.env.step(jax.random.fold_in(step_key, step), env, action)
            counts = jnp.logical_and(running(so_far), row.valid)
            reward = read_reward(params, parts.view(row).reward)

            def keep(new: Array, old: Array) -> Array:
                return jnp.where(counts.reshape(-1, *[1] * (new.ndim - 1)), new, old)

            after = Played(
                so_far.start_q,
                so_far.discounted_return + jnp.where(counts, h.gamma**step * reward, 0.0),
                so_far.length + counts,
                jnp.logical_or(so_far.terminated, jnp.logical_and(counts, row.terminated)),
                jnp.logical_or(so_far.truncated, jnp.logical_and(counts, row.truncated)),
                so_far.actions + jnp.sum((action[:, None] == jnp.arange(counted)) & counts[:, None], axis=0),
            )
            last = jax.tree.map(keep, (row.final_obs, row.final_mask, recall), last)
            return env, begin(recall, row.terminated | row.truncated), last, after, step + 1

        first = (obs, parts.env.mask(env), recall)
        _, _, last, found, _ = jax.lax.while_loop(going, follow, (env, recall, first, played, jnp.int32(0)))
        tail = jnp.where(found.terminated, 0.0, h.gamma**found.length * best_q(params, *last)[1])
        return found._replace(discounted_return=found.discounted_return + tail)

    return play
