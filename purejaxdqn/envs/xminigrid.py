"""XLand-MiniGrid's ports of MiniGrid (Nikulin et al. 2023). A termination is told by its discount of 0."""

from typing import Any

import xminigrid
from jax import Array
from xminigrid.core.constants import NUM_COLORS, NUM_TILES

from purejaxdqn.config import require
from purejaxdqn.envs.parameters import numeric_fields
from purejaxdqn.envs.suites import Parts


def names() -> list[str]:
    """All ids."""
    return list(xminigrid.registered_environments())


def settings(name: str) -> dict[str, Any]:
    """The numbers among the parameters of an environment."""
    return numeric_fields(xminigrid.make(name)[1])


def make(name: str, **given: Any) -> Parts:
    """An environment. Tiles and colours are numbers of kinds; the reward depends on the time limit."""
    env, params = xminigrid.make(name, **given)
    remedy = "by its id it has no goal: make it with a ruleset in a file of your own, or use an xminigrid/MiniGrid-*"
    require(not name.startswith("XLand-"), "env", f"xminigrid/{name}", remedy)

    def reset(key: Array) -> tuple[Array, Any]:
        timestep = env.reset(params, key)
        return timestep.observation, timestep

    def step(key: Array, timestep: Any, action: Array) -> tuple[Any, ...]:
        timestep = env.step(params, timestep, action)
        return timestep.observation, timestep, timestep.reward, timestep.last() & (timestep.discount == 0)

    return {
        "reset": reset,
        "step": step,
        "num_actions": env.num_actions(params),
        "time_limit": params.max_steps,
        "num_obs_values": max(NUM_TILES, NUM_COLORS),
    }
