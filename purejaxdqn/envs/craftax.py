"""Craftax and Craftax-Classic (Matthews et al. 2024), with symbols or pixels.

Craftax says `done` of a termination and of its time limit alike. So its limit is put out of reach, and the episode is
cut here, in the same step. A new world is dear to make: worlds are made one after another, where needed.
"""

from typing import Any

from craftax.craftax_env import make_craftax_env_from_name
from jax import Array

from purejaxdqn.bounds import INT32
from purejaxdqn.envs.parameters import numeric_fields
from purejaxdqn.envs.suites import Parts


def names() -> list[str]:
    """All ids."""
    return [f"Craftax-{kind}-v1" for kind in ("Symbolic", "Pixels", "Classic-Symbolic", "Classic-Pixels")]


def settings(name: str) -> dict[str, Any]:
    """The numbers among the parameters of an environment."""
    return numeric_fields(make_craftax_env_from_name(name, auto_reset=False).default_params)


def make(name: str, **given: Any) -> Parts:
    """An environment."""
    env = make_craftax_env_from_name(name, auto_reset=False)
    params = env.default_params.replace(**given)
    endless = params.replace(max_timesteps=INT32)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, ...]:
        obs, state, reward, terminated, _ = env.step_env(key, state, action, endless)
        return obs, state, reward, terminated

    return {
        "reset": lambda key: env.reset_env(key, endless),
        "step": step,
        "num_actions": env.num_actions,
        "time_limit": params.max_timesteps,
        "sequential_resets": True,
    }
