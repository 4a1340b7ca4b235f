"""Jumanji's environments with discrete or multi-discrete actions (Bonnet et al. 2024).

Jumanji ends an episode at its time limit as if it had terminated. So its limit is put out of reach, and the episode is
cut here, in the same step. An action mask in the observation becomes the mask.
"""

from functools import reduce
from operator import getitem
from typing import Any

import jax
import jumanji
import numpy as np
from jax import Array

from purejaxdqn.bounds import INT32
from purejaxdqn.config import require
from purejaxdqn.envs.actions import joint_mask
from purejaxdqn.envs.parameters import numeric_defaults
from purejaxdqn.envs.spaces import read_bounds
from purejaxdqn.envs.suites import Parts
from purejaxdqn.observations.leaves import part_of, plain


def names() -> list[str]:
    """All ids."""
    return sorted(jumanji.registered_environments())


def settings(name: str) -> dict[str, Any]:
    """The numbers that an environment is made with, and its time limit, if it has one."""
    env = jumanji.make(name)
    found = {key: getattr(env, key, value) for key, value in numeric_defaults(type(env).__init__).items()}
    return found | ({"time_limit": env.time_limit} if hasattr(env, "time_limit") else {})


def make(name: str, **given: Any) -> Parts:
    """An environment, whose state is Jumanji's and the mask."""
    env = jumanji.make(name, **given)
    sizes: Any = getattr(env.action_spec, "num_values", None)
    finds = f"its actions are a {type(env.action_spec).__name__}, its rewards {env.reward_spec.shape}"
    remedy = f"{finds}, and value learning needs discrete ones and one reward: use one such as jumanji/Snake-v1"
    require(sizes is not None and env.reward_spec.shape == (), "env", f"jumanji/{name}", remedy)
    limit, env.time_limit = getattr(env, "time_limit", INT32), INT32

    def parted(timestep: Any) -> tuple[Any, Array | None]:
        obs = plain(timestep.observation)
        mask = jax.tree.map(lambda each: joint_mask(each, tuple(np.ravel(sizes))), obs.pop("action_mask", None))
        # A surrounded snake has no legal action left, and whatever it does ends the episode.
        return obs, jax.tree.map(lambda legal: legal | ~legal.any(), mask)

    shapes = jax.eval_shape(lambda key: parted(env.reset(key)[1])[0], jax.random.PRNGKey(0))
    found = jax.tree_util.tree_map_with_path(
        lambda path, _: read_bounds(reduce(getitem, map(part_of, path), env.observation_spec)), shapes
    )
    lows, values, scales = (jax.tree.map(lambda _, leaf, i=i: leaf[i], shapes, found) for i in range(3))

    def seen(state: Any, timestep: Any) -> tuple[Any, tuple[Any, Array | None]]:
        obs, mask = parted(timestep)
        return jax.tree.map(lambda array, low: array - low if low else array, obs, lows), (state, mask)

    def step(key: Array, held: Any, action: Array) -> tuple[Any, ...]:
        state, timestep = env.step(held[0], action)
        return *seen(state, timestep), timestep.reward, timestep.last()

    said = {"num_obs_values": values, "obs_scale": scales, "mask": lambda held: held[1]}
    return {"reset": lambda key: seen(*env.reset(key)), "step": step, "num_actions": sizes, "time_limit": limit, **said}
