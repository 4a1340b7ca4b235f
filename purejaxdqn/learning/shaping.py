"""Reward shaping and episode ends: how the learner sees an environment step.

Reported returns are sums of the environment's own rewards.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp

from purejaxdqn.config import Config, SettingError
from purejaxdqn.types import Row

View = Callable[[Row], Row]
"""rows [..., E] -> the same rows as the learner sees them."""

X_LIMIT, THETA_LIMIT = 2.4, math.radians(12.0)
"""Where CartPole ends: metres from the middle, radians from upright."""


def as_given(row: Row) -> Row:
    """No shaping."""
    return row


def cartpole_distance(row: Row) -> Row:
    """CartPole's reward from the distances of cart and pole to the limits that end an episode, after the step:
    (x_max - |x|)/x_max - 0.8 + (θ_max - |θ|)/θ_max - 0.5, at most 0.7."""
    x, theta = row.final_obs[..., 0], row.final_obs[..., 2]
    cart = (X_LIMIT - jnp.abs(x)) / X_LIMIT - 0.8
    pole = (THETA_LIMIT - jnp.abs(theta)) / THETA_LIMIT - 0.5
    return row.replace(reward=cart + pole)  # type: ignore[attr-defined]


def make_cartpole_distance(config: Config) -> View:
    """`cartpole_distance`, for CartPole alone.

    Raises:
      SettingError: for any other environment.
    """
    if "CartPole-" not in config.env:
        raise SettingError("reward_shaping", config.reward_shaping, f"it knows CartPole alone, not {config.env}")
    return cartpole_distance


def last_step_reward(reward: float) -> View:
    """A reward in place of the environment's on the last step of every episode, whatever ended it."""

    def view(row: Row) -> Row:
        ended = jnp.logical_or(row.terminated, row.truncated)
        return row.replace(reward=jnp.where(ended, jnp.float32(reward), row.reward))  # type: ignore[attr-defined]

    return view


def scaled_reward(scale: float) -> View:
    """Rewards times a number, and so action values too."""
    return lambda row: row.replace(reward=row.reward * jnp.float32(scale))  # type: ignore[attr-defined]


def relabelled_ends(mask_terminals: bool, bootstrap_truncation: bool) -> View:
    """Selects the ends of an episode beyond which the value is zero: terminations alone for (True, True).

    Args:
      mask_terminals: whether a termination is one; if not, it counts as a truncation, and a target bootstraps
        from the last observation of the episode as if it went on.
      bootstrap_truncation: whether a truncation is not one; if False, it counts as a termination.
    """

    def view(row: Row) -> Row:
        ended = jnp.logical_or(row.terminated, row.truncated)
        terminated = row.terminated if mask_terminals else jnp.zeros_like(ended)
        if not bootstrap_truncation:
            terminated = jnp.logical_or(terminated, row.truncated)
        return row.replace(terminated=terminated, truncated=jnp.logical_and(ended, ~terminated))  # type: ignore[attr-defined]

    return view


def make_view(config: Config, shaping: View) -> View:
    """All changes that a configuration makes to the rows that the learner sees.

    Args:
      config: static settings.
      shaping: of the reward, applied first.
    """
    views = [shaping]
    if config.last_step_reward is not None:
        views.append(last_step_reward(config.last_step_reward))
    if config.reward_scale != 1.0:
        views.append(scaled_reward(config.reward_scale))
    if not (config.mask_terminals and config.bootstrap_truncation):
        views.append(relabelled_ends(config.mask_terminals, config.bootstrap_truncation))

    def view(row: Row) -> Row:
        for change in views:
            row = change(row)
        return row

    return view
