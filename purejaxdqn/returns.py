"""Folding several rewards into one return."""

import jax.numpy as jnp
from jax import Array


def n_step_fold(reward: Array, terminated: Array, truncated: Array, gamma: float | Array) -> tuple[Array, Array, Array]:
    """Folds a window of n consecutive steps of one environment into one step (Sutton 1988; Watkins 1989 for Q).

    The fold stops at the first step that ends an episode, so that nothing of the next episode leaks in.

    Args:
      reward: [n] rewards r_1 … r_n.
      terminated: bool [n].
      truncated: bool [n].
      gamma: discount per step, [].

    Returns:
      The discounted sum of the m rewards folded []; the discount of the value to bootstrap from [], γ^m, or zero where
      step m terminated; and m - 1 [], the offset of the last step folded.
    """
    done = jnp.logical_or(terminated, truncated)
    ended_before = jnp.cumsum(done) - done > 0
    in_fold = jnp.logical_not(ended_before)
    powers = jnp.asarray(gamma, reward.dtype) ** jnp.arange(reward.shape[0], dtype=reward.dtype)
    folded_return = jnp.sum(jnp.where(in_fold, powers * reward, 0.0))
    last = jnp.sum(in_fold) - 1
    stopped_by_termination = jnp.any(jnp.logical_and(in_fold, terminated))
    discount = jnp.where(stopped_by_termination, 0.0, powers[last] * gamma)
    return folded_return, discount, last
