"""Environments with goals, of this package: bits to flip, and a place to go to in four rooms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import require
from purejaxdqn.envs.interface import Env
from purejaxdqn.envs.single import batch_env


def equal(achieved: Array, desired: Array) -> Array:
    """Whether a goal is reached."""
    return jnp.all(achieved == desired)


def sparse(achieved: Array, desired: Array) -> Array:
    """0 where the goal is reached, and -1 elsewhere."""
    return jnp.where(equal(achieved, desired), 0.0, -1.0)


def seen(achieved: Array, desired: Array) -> dict[str, Array]:
    """An observation that is all of the state."""
    return {"observation": achieved, "achieved_goal": achieved, "desired_goal": desired}


def bit_flip(bits: int = 15) -> Env:
    """Flip one of n bits in each of n steps until they are those of the goal (Andrychowicz et al. 2017, section 3.1).

    Raises `SettingError` for fewer than 1 bit or more than 4,096.
    """
    require(1 <= bits <= 4_096, "env_params.bits", bits, "use a whole number from 1 to 4096")

    def reset(key: Array) -> tuple[Any, Any]:
        state = jax.random.bernoulli(key, 0.5, (2, bits))
        # One that is reached already would leave nothing to do.
        state = state.at[0, 0].set(jnp.where(equal(*state), ~state[1, 0], state[0, 0]))
        return seen(*state), state

    def step(key: Array, state: Array, action: Array) -> tuple[Any, ...]:
        state = state.at[0, action].set(~state[0, action])
        return seen(*state), state, sparse(*state), equal(*state)

    goals = {"compute_reward": sparse, "compute_terminated": equal}
    return batch_env(reset, step, num_actions=bits, time_limit=bits, name="BitFlip", **goals)


def goal_grid(size: int = 11, time_limit: int = 50) -> Env:
    """Go from one cell to another of four rooms with a door between two neighbours (Sutton et al. 1999, with goals).

    Actions are up, right, down and left; a wall leaves one where one is. Raises `SettingError` for a size that is even
    or not from 5 to 65.
    """
    require(size % 2 == 1 and 5 <= size <= 65, "env_params.size", size, "use an odd number from 5 to 65")
    middle, doors = size // 2, jnp.array([size // 4, size - 1 - size // 4])
    rooms = jnp.ones((size, size), bool).at[middle].set(False).at[:, middle].set(False)
    free = rooms.at[middle, doors].set(True).at[doors, middle].set(True)
    ways = jnp.array([[-1, 0], [0, 1], [1, 0], [0, -1]])

    def cell(place: Array) -> Array:
        return place[0] * size + place[1]

    def reset(key: Array) -> tuple[Any, Any]:
        start, goal = jax.random.choice(key, size * size, (2,), replace=False, p=rooms.ravel() / rooms.sum())
        state = jnp.stack(jnp.divmod(start, size)).astype(jnp.int32), goal.astype(jnp.int32)
        return seen(cell(state[0]), state[1]), state

    def step(key: Array, state: tuple[Array, Array], action: Array) -> tuple[Any, ...]:
        place, goal = state
        ahead = jnp.clip(place + ways[action], 0, size - 1)
        place = jnp.where(free[ahead[0], ahead[1]], ahead, place)
        at = cell(place)
        return seen(at, goal), (place, goal), sparse(at, goal), equal(at, goal)

    return batch_env(
        reset,
        step,
        num_actions=4,
        time_limit=time_limit,
        num_obs_values=seen(size * size, size * size),  # type: ignore[arg-type]
        compute_reward=sparse,
        compute_terminated=equal,
        name="GoalGrid",
    )


FACTORIES: dict[str, Callable[..., Env]] = {"BitFlip": bit_flip, "GoalGrid": goal_grid}
"""By the name that `--env` knows them by."""
