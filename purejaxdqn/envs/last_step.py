"""The last action and the last reward as part of what is observed: an observation becomes a tree of three arrays.

`obs` is the environment's own, `last_action` the number of the action before it plus 1, and `last_reward` the reward
that came with it; both are 0 where an episode begins.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.config import EnvSpec
from purejaxdqn.envs.interface import Env, HostEnv, HostStep, Pool
from purejaxdqn.types import Row


def tell(obs: Any, action: Any, reward: Any) -> dict[str, Any]:
    """An observation [E, ...] with what came before it, int32 [E] and float32 [E]."""
    return {"obs": obs, "last_action": action, "last_reward": reward}


def told_spec(spec: EnvSpec) -> EnvSpec:
    """What an environment is whose observations are told."""
    return spec._replace(
        obs_shape=tell(spec.obs_shape, (), ()),
        obs_dtype=tell(spec.obs_dtype, "int32", "float32"),
        num_obs_values=tell(spec.num_obs_values, spec.num_actions + 1, None),
        obs_scale=tell(spec.obs_scale, None, None),
        frame_stack=1 if spec.frame_stack == 1 else tell(spec.frame_stack, 1, 1),
    )


def on_device(env: Env) -> Env:
    """An environment on the device whose state holds the last action and reward, too."""
    State = tuple[Any, Array, Array]

    def reset(key: Array, num_envs: int) -> tuple[State, Any]:
        inner, _ = env.reset(key, num_envs)
        state = (inner, jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs))
        return state, observe(state)

    def observe(state: State) -> Any:
        inner, *last = state
        return tell(env.observe(inner), *last)

    def step(key: Array, state: State, action: Array) -> tuple[State, Any, Row]:
        inner, _, row = env.step(key, state[0], action)
        after = (action + 1, row.reward)
        told: Any = row.replace(obs=observe(state), final_obs=tell(row.final_obs, *after))  # type: ignore[attr-defined]
        begins = jnp.logical_or(row.terminated, row.truncated)
        new = (inner, *(jnp.where(begins, 0, last) for last in after))
        return new, observe(new), told

    return env._replace(
        spec=told_spec(env.spec),
        reset=reset,
        step=step,
        observe=observe,
        picture_state=lambda state: env.picture_state(state[0]),
        mask=lambda state: env.mask(state[0]),
    )


class ToldPool:
    """A pool whose frames are told; its rewards as the learner sees them, clipped where they are clipped for it."""

    def __init__(self, env: HostEnv, pool: Pool, num_envs: int):
        """Sends nothing yet.

        Args:
          env: whose environments they are.
          pool: of them.
          num_envs: in all groups.
        """
        self.env, self.pool, self.num_groups = env, pool, pool.num_groups
        self.actions = np.zeros((self.num_groups, num_envs // self.num_groups), np.int32)

    def reset(self) -> None:
        """See `Pool`, as for all of these."""
        self.pool.reset()

    def send(self, group: int, action: np.ndarray) -> None:
        """Steps a group, and remembers how."""
        self.actions[group] = action
        self.pool.send(group, action)

    def receive(self, group: int) -> HostStep:
        """The step that was sent last, with what came before its frame."""
        step = self.pool.receive(group)
        action = np.where(step.begins, 0, self.actions[group] + 1).astype(np.int32)
        reward = np.where(step.begins, 0.0, self.env.learning_view(step).reward).astype(np.float32)
        return step._replace(frame=tell(step.frame, action, reward))

    def screen(self) -> np.ndarray:
        """What a person would see."""
        return self.pool.screen()

    def close(self) -> None:
        """Closes all of them."""
        self.pool.close()


def with_last_step(env: Env | HostEnv) -> Env | HostEnv:
    """An environment whose observations are told of the last step."""
    if isinstance(env, Env):
        return on_device(env)

    def open_pool(num_envs: int, seed: int, num_groups: int) -> ToldPool:
        return ToldPool(env, env.open_pool(num_envs, seed, num_groups), num_envs)

    return env._replace(spec=told_spec(env.spec), open_pool=open_pool)
