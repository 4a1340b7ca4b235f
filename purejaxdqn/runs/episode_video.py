"""Records one episode as a GIF or MP4, with its action values."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.build import Parts
from purejaxdqn.envs.actions import check_masks
from purejaxdqn.envs.interface import HostEnv
from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.learning.masks import legal_values
from purejaxdqn.loops.host_functions import greet, pack
from purejaxdqn.machine.part_values import PartValues
from purejaxdqn.networks.windows import begin
from purejaxdqn.observations.leaves import as_one, zeros
from purejaxdqn.pictures.render import ACTION_NAMES, annotate, render_frame, save_gif
from purejaxdqn.pictures.video import save_mp4

MAX_FRAMES = 1_000
MAX_VIDEO_FRAMES = 6_000
"""Maximum frames of a video, whose frames cost little; nearly seven minutes of a game."""
FPS = {"CartPole-v1": 50, "MountainCar-v0": 30, "Acrobot-v1": 15}
"""Frames per second where the environment's own clock says so; others play at `GRID_FPS`."""
GRID_FPS = 12
SCREEN_FPS = 60
"""Frames per second of the emulator, of which a step takes several."""


MIN_WIDTH = 320
"""Width of a picture, in pixels."""


class Moment(NamedTuple):
    """One step of an episode."""

    picture: np.ndarray
    """uint8 [H, W, 3], before the action."""
    q_values: np.ndarray
    """float32 [A], -inf for an illegal action; none of an action whose parts have values of their own."""
    action: int
    reward: float


def make_decide(parts: Parts, epsilon: float) -> Callable[..., tuple[jax.Array, jax.Array, Any]]:
    """(parameters, obs [1, ...], what a memory carries, mask [1, A] or None, key) -> action values [1, A], action [1],
    carried; without noise in the network."""

    @jax.jit
    def decide(params: Any, obs: Any, recall: Any, mask: Any, key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        dist, recall = parts.network.step(params, obs, recall, key, "greedy")
        q_values = parts.head.q_values(dist)
        # Of parts there is no bar for each action.
        shown = jnp.zeros((1, 0)) if isinstance(q_values, PartValues) else legal_values(q_values, mask)
        return shown, epsilon_greedy(key, q_values, epsilon, mask), recall

    return decide


def play_on_device(parts: Parts, params: Any, key: jax.Array, epsilon: float) -> Iterator[Moment]:
    """One episode of an environment that steps on the device."""
    decide = make_decide(parts, epsilon)

    # One call a step: an episode has hundreds of them, and what is called is small.
    @jax.jit
    def advance(params: Any, env: Any, recall: Any, key: jax.Array, index: int) -> tuple[Any, Any, Any]:
        action_key, step_key = jax.random.split(jax.random.fold_in(key, index))
        obs = parts.env.observe(env)
        q_values, action, recall = decide(params, obs, recall, parts.env.mask(env), action_key)
        after, _, row = parts.env.step(step_key, env, action)
        shown = (parts.env.picture_state(env), obs, q_values, action, row)
        return after, recall, jax.tree.map(lambda leaf: leaf[0], shown)

    env, _ = jax.jit(parts.env.reset, static_argnums=1)(key, 1)
    recall = parts.network.init_carry(1)
    env_params = jax.device_get(parts.env.params)
    done, index = False, 0
    while not done:
        env, recall, shown = advance(params, env, recall, key, index)
        state, obs, q_values, action, row = jax.device_get(shown)
        picture = render_frame(parts.env.spec.env_id, state, as_one(obs), env_params)
        yield Moment(picture, q_values, int(action), float(row.reward))
        done, index = bool(row.terminated) or bool(row.truncated), index + 1


def play_on_host(parts: Parts, params: Any, key: jax.Array, epsilon: float) -> Iterator[Moment]:
    """One whole game of an environment that steps on the host, as its screen shows it."""
    env: HostEnv = parts.env
    show, decide = jax.jit(partial(greet, env.spec)), make_decide(parts, epsilon)
    pool = env.open_pool(1, int(jax.random.bits(key, dtype=jnp.uint32)), 1)
    try:
        pool.reset()
        step = pool.receive(0)
        obs, recall = zeros(env.spec, 1), parts.network.init_carry(1)
        done, index = False, 0
        while not done:
            check_masks(env.spec, step)
            obs = show(obs, pack(step))
            recall = begin(recall, jnp.asarray(step.begins))
            q_values, action, recall = decide(params, obs, recall, step.mask, jax.random.fold_in(key, index))
            picture = pool.screen()
            pool.send(0, np.asarray(action))
            step = pool.receive(0)
            # Large enough for words on the strip beneath.
            times = -(-MIN_WIDTH // picture.shape[1])
            picture = picture.repeat(times, axis=0).repeat(times, axis=1)
            yield Moment(picture, np.asarray(q_values)[0], int(action[0]), float(step.reward[0]))
            done, index = bool(step.ended[0]), index + 1
    finally:
        # Also where nobody wants the rest of the game.
        pool.close()


def record_episode(
    parts: Parts,
    params: Any,
    key: jax.Array,
    epsilon: float = 0.0,
    *,
    max_frames: int = MAX_FRAMES,
    show_q_values: bool = True,
) -> Iterator[np.ndarray]:
    """Plays one episode and draws every step, with its action values beneath.

    Args:
      parts: the run's functions.
      params: parameters of the network, of one lane.
      key: PRNG key.
      epsilon: probability of a random action.
      max_frames: maximum number of pictures; the episode is cut there.
      show_q_values: whether to draw action values; without them there is the picture alone.

    Yields:
      Pictures, uint8 [H, W, 3], `max_frames` at most.
    """
    host = isinstance(parts.env, HostEnv)
    play = play_on_host if host else play_on_device
    names = parts.env.action_names if host else ACTION_NAMES.get(parts.env.spec.env_id)
    episode_return = 0.0
    for index, moment in enumerate(play(parts, params, key, epsilon)):
        if index == max_frames:
            break
        if show_q_values:
            yield annotate(
                moment.picture,
                step=index,
                episode_return=episode_return,
                q_values=moment.q_values,
                action=moment.action,
                action_names=names,
            )
        else:
            yield moment.picture
        episode_return += moment.reward


def frames_per_second(parts: Parts) -> int:
    """Playback speed for an environment."""
    if isinstance(parts.env, HostEnv):
        return max(1, SCREEN_FPS // parts.env.frames_per_step)
    return FPS.get(parts.env.spec.env_id, GRID_FPS)


def write_gif(
    parts: Parts, params: Any, key: jax.Array, path: Path, epsilon: float = 0.0, show_q_values: bool = True
) -> None:
    """Records one episode into a GIF; see `record_episode`."""
    frames = list(record_episode(parts, params, key, epsilon, show_q_values=show_q_values))
    save_gif(frames, path, fps=frames_per_second(parts))


def write_mp4(
    parts: Parts, params: Any, key: jax.Array, path: Path, epsilon: float = 0.0, show_q_values: bool = True
) -> None:
    """Records one episode into a video; see `record_episode` and, for errors, `video.save_mp4`."""
    frames = record_episode(parts, params, key, epsilon, max_frames=MAX_VIDEO_FRAMES, show_q_values=show_q_values)
    save_mp4(frames, path, fps=frames_per_second(parts))
