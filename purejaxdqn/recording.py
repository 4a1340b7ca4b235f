"""One greedy episode as pictures."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from purejaxdqn.build import Parts
from purejaxdqn.explore import epsilon_greedy
from purejaxdqn.render import ACTION_NAMES, annotate, render_frame, save_gif

MAX_FRAMES = 1_000
FPS = {"CartPole-v1": 50, "MountainCar-v0": 30, "Acrobot-v1": 15}
"""Frames per second where the environment's own clock says so; others play at `GRID_FPS`."""
GRID_FPS = 12


def record_episode(parts: Parts, params: Any, key: jax.Array, epsilon: float = 0.0) -> list[np.ndarray]:
    """Plays one episode and draws every step with its action values.

    Args:
      parts: the run's functions.
      params: parameters of the network, of one lane.
      key: PRNG key.
      epsilon: probability of a random action.

    Returns:
      Pictures, uint8 [H, W, 3], `MAX_FRAMES` at most.
    """
    env_id = parts.env.spec.env_id
    names = ACTION_NAMES.get(env_id)
    step = jax.jit(parts.env.step)

    @jax.jit
    def decide(params: Any, env: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        q_values = parts.head.q_values(parts.network.apply(params, parts.env.observe(env), key, "greedy"))
        return q_values, epsilon_greedy(key, q_values, epsilon)

    env, _ = jax.jit(parts.env.reset, static_argnums=1)(key, 1)
    env_params = jax.device_get(parts.env.params)
    frames, episode_return = [], 0.0
    for index in range(MAX_FRAMES):
        action_key, step_key = jax.random.split(jax.random.fold_in(key, index))
        q_values, action = decide(params, env, action_key)
        state, obs = jax.device_get((parts.env.picture_state(env), parts.env.observe(env)))
        state = jax.tree.map(lambda leaf: leaf[0], state)
        picture = render_frame(env_id, state, obs[0], env_params)
        frames.append(
            annotate(
                picture,
                step=index,
                episode_return=episode_return,
                q_values=np.asarray(q_values)[0],
                action=int(action[0]),
                action_names=names,
            )
        )
        env, _, row = step(step_key, env, action)
        episode_return += float(row.reward[0])
        if bool(row.terminated[0]) or bool(row.truncated[0]):
            break
    return frames


def write_gif(parts: Parts, params: Any, key: jax.Array, path: Path, epsilon: float = 0.0) -> None:
    """Records one episode into a GIF; see `record_episode`."""
    frames = record_episode(parts, params, key, epsilon)
    save_gif(frames, path, fps=FPS.get(parts.env.spec.env_id, GRID_FPS))
