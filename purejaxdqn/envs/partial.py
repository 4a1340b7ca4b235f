"""Classics of control that show less than everything: without velocities, or flickering."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.bounds import UNIT, real
from purejaxdqn.envs.interface import Env
from purejaxdqn.envs.parameters import Changes, as_type_of, check_parameter
from purejaxdqn.types import Row

SHOWN = {"CartPole-v1": (0, 2), "MountainCar-v0": (0,), "Acrobot-v1": (0, 1, 2, 3)}
"""Of the numbers that these observe, those that are no velocities."""
OPTIONS: dict[str, Any] = {"hide_velocity": False, "flicker": 0.0}
"""What can be set of them beside gymnax's own parameters: whether velocities are left out, and the probability with
which an observation is nothing but zeros, each time anew (Hausknecht & Stone 2015)."""


def options_of(env_id: str) -> dict[str, Any]:
    """The options of an environment, with their defaults; none of all others."""
    return OPTIONS if env_id in SHOWN else {}


def split_changes(env_id: str, changes: Changes) -> tuple[dict[str, Any], Changes]:
    """Options and their values, and the other changes.

    Raises:
      SettingError: for a value that an option cannot have.
    """
    known = options_of(env_id)
    found = {name: value for name, value in changes if name in known}
    for name, value in found.items():
        check_parameter(name, value, known[name], is_size=False)
    real("env_params.flicker", found.get("flicker", 0.0), UNIT)
    typed = known | {name: as_type_of(known[name], value) for name, value in found.items()}
    return typed, tuple(pair for pair in changes if pair[0] not in known)


def show_less(env: Env, hide_velocity: bool = False, flicker: float = 0.0) -> Env:
    """One of these environments with some of what it observes left out; itself where nothing is.

    Args:
      env: as gymnax has it.
      hide_velocity: whether velocities are no part of the observation.
      flicker: probability of zeros.
    """
    if not (hide_velocity or flicker):
        return env
    shown = np.array(SHOWN[env.spec.env_id] if hide_velocity else range(env.spec.obs_shape[0]))

    def seen(key: Array, obs: Array) -> Array:
        blank = jax.random.bernoulli(key, flicker, obs.shape[:1]) if flicker else jnp.zeros(obs.shape[:1], bool)
        return jnp.where(blank[:, None], 0.0, obs[:, shown])

    def reset(key: Array, num_envs: int) -> tuple[Any, Array]:
        inner, obs = env.reset(key, num_envs)
        obs = seen(jax.random.fold_in(key, 1), obs)
        return (inner, obs), obs

    def step(key: Array, state: tuple[Any, Array], action: Array) -> tuple[Any, Array, Row]:
        inner, obs, row = env.step(key, state[0], action)
        last_key, first_key = jax.random.split(jax.random.fold_in(key, 1))
        # What goes on is the next observation, the same one in both places; an episode's first one is drawn for itself.
        final_obs, ended = seen(last_key, row.final_obs), jnp.logical_or(row.terminated, row.truncated)
        obs = jnp.where(ended[:, None], seen(first_key, obs), final_obs)
        return (inner, obs), obs, row.replace(obs=state[1], final_obs=final_obs)  # type: ignore[attr-defined]

    return env._replace(
        spec=env.spec._replace(obs_shape=(len(shown),)),
        reset=reset,
        step=step,
        observe=lambda state: state[1],
        picture_state=lambda state: env.picture_state(state[0]),
    )
