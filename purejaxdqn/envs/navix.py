"""Navix's MiniGrid (Pignatelli et al. 2024).

Its `step` resets in the step after an episode's last one; `_step` resets nothing.
"""

from typing import Any

import jax
import navix
from jax import Array

from purejaxdqn.envs.parameters import numeric_fields
from purejaxdqn.envs.suites import Parts


def names() -> list[str]:
    """All ids."""
    return list(navix.registry())


def settings(name: str) -> dict[str, Any]:
    """The numbers of an environment but γ, which nothing in it reads."""
    found = numeric_fields(navix.make(name))
    return {key: value for key, value in found.items() if key != "gamma"}


def make(name: str, **given: Any) -> Parts:
    """An environment, whose grid is of numbers of kinds. Its state holds no pictures of tiles, which nothing reads."""
    env = navix.make(name).replace(**given)
    ids = vars(navix.entities.EntityIds).values()

    def reset(key: Array) -> tuple[Array, Any]:
        timestep = env.reset(key)
        return timestep.observation, timestep.replace(state=timestep.state.replace(cache=None))

    def step(key: Array, timestep: Any, action: Array) -> tuple[Any, ...]:
        timestep = env._step(timestep, action)
        return timestep.observation, timestep, timestep.reward, timestep.is_termination()

    return {
        "reset": reset,
        "step": step,
        "num_actions": len(env.action_set),
        "time_limit": env.max_steps,
        "num_obs_values": 1 + max(int(kind) for kind in ids if isinstance(kind, jax.Array)),
    }
