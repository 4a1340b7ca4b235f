"""EnvPool environments (Atari and others) behind the `HostEnv` interface."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from purejaxdqn.bounds import ANY, INT32, Interval, real, whole
from purejaxdqn.config import EnvSpec, SettingError, one_line, require
from purejaxdqn.envs.interface import ATARI_SUFFIX, ENVPOOL_PREFIX, HostEnv, HostStep, check_groups
from purejaxdqn.envs.parameters import Changes
from purejaxdqn.envs.spaces import read_space
from purejaxdqn.machine.imports import import_extra
from purejaxdqn.machine.nearest_names import nearest
from purejaxdqn.observations.leaves import as_one
from purejaxdqn.pictures.scenes import render_frame

ATARI_OPTIONS = {
    "frame_skip": 4,
    "noop_max": 30,
    "repeat_action_probability": 0.0,
    "full_action_space": False,
    "use_fire_reset": False,
    "max_episode_steps": 27_000,
    "gray_scale": True,
    "img_height": 84,
    "img_width": 84,
    "use_inter_area_resize": True,
    "mode": -1,
    "difficulty": -1,
}
"""Options of EnvPool's games and their defaults, by EnvPool's names; `--env-params.X` sets them."""
OWN_ATARI_OPTIONS = {"stack_num": 4, "reward_clip": True, "episodic_life": True}
"""By EnvPool's names too, but done here: frames are stacked on the device, and the score stays that of whole games."""
POOL_OPTIONS = {"num_threads": 0, "num_groups": 1}
"""Options of any environment: threads (0 for one per core), and groups that are stepped in turn."""
MASK = "action_mask"
"""Part of the observations of Jumanji's environments that is their action mask, and is not observed."""
OFTEN = ("frame_skip", "noop_max", "max_episode_steps", "img_height", "img_width", "stack_num", "num_groups")
"""Options that count something."""

ACTIONS = (
    *("noop", "fire", "up", "right", "left", "down", "up-right", "up-left", "down-right", "down-left"),
    *("up-fire", "right-fire", "left-fire", "down-fire"),
    *("up-right-fire", "up-left-fire", "down-right-fire", "down-left-fire"),
)
"""Names of a game's full set of actions, in the emulator's order."""


def import_envpool(env_id: str) -> Any:
    """Imports EnvPool.

    Raises:
      SettingError: if it is not installed.
    """
    remedy = "EnvPool, which steps it, is not installed: install purejaxdqn[atari]"
    return import_extra("envpool", env_id, remedy)


@contextmanager
def quiet_bounds() -> Iterator[None]:
    """Silences gymnasium's warning that EnvPool gives the bounds of float32 observations in float64."""
    with warnings.catch_warnings():
        message = r".*Box (low|high)'s precision lowered by casting to float32"
        warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield


@cache
def find_spec(env_id: str) -> Any:
    """EnvPool's own description of an environment.

    Raises:
      SettingError: for an unknown id, with the nearest names, for one that cannot be made here, or without EnvPool.
    """
    envpool = import_envpool(env_id)
    name = env_id.removeprefix(ENVPOOL_PREFIX)
    names = envpool.list_all_envs()
    if name not in names:
        # Of 1,651 names most are other packages' tasks; a person who types -v5 wants a game.
        like = [n for n in names if n.endswith(ATARI_SUFFIX)] if name.endswith(ATARI_SUFFIX) else names
        near = nearest(name, like) or ["Pong-v5", "Breakout-v5"]
        raise SettingError("env", env_id, f"EnvPool has no such environment; the nearest names are {', '.join(near)}")
    try:
        return envpool.make_spec(name)
    except (ImportError, RuntimeError) as error:
        raise SettingError("env", env_id, f"EnvPool cannot make it here: {one_line(error)}") from error


def is_atari(spec: Any) -> bool:
    """Whether EnvPool's description is of a game of the Arcade Learning Environment."""
    return hasattr(spec.config, "repeat_action_probability")


def env_settings(env_id: str) -> dict[str, Any]:
    """All settings of an environment that take a single number, with their defaults.

    Raises:
      SettingError: see `find_spec`.
    """
    spec = find_spec(env_id)
    own = ATARI_OPTIONS | OWN_ATARI_OPTIONS if is_atari(spec) else {"max_episode_steps": spec.config.max_episode_steps}
    return own | POOL_OPTIONS


def check_changes(env_id: str, changes: Changes) -> dict[str, Any]:
    """All of an environment's settings, with `changes`.

    Raises:
      SettingError: for a setting that it does not have, or an invalid value.
    """
    found = env_settings(env_id)
    for name, value in changes:
        flag = f"env_params.{name}"
        require(name in found, flag, value, f"{env_id} has no such parameter; it has {', '.join(found)}")
        # EnvPool would end the process on some of these.
        if name == "repeat_action_probability":
            real(flag, value, Interval(0.0, 1.0 - 1e-6, "a probability below 1"))
        elif isinstance(found[name], bool):
            require(isinstance(value, bool | int | float) and value in (0, 1), flag, value, "use True or False")
        elif isinstance(found[name], int):
            # -1 leaves a game's mode or difficulty to EnvPool.
            whole(flag, value, (1 if name in OFTEN else 0 if name in POOL_OPTIONS else -1, INT32))
        else:
            real(flag, value, ANY)
        found[name] = type(found[name])(value)
    return found


def draw_observation(obs: Any) -> np.ndarray:
    """Draws an observation as uint8 [H, W, 3]: images as they are, matrices as cells, everything else as bars."""
    obs = as_one(obs)
    if obs.dtype == np.uint8 and obs.ndim == 3 and obs.shape[-1] in (1, 3):
        return np.broadcast_to(obs, (*obs.shape[:2], 3)).copy()
    return render_frame("", None, obs, None)


class EnvPoolPool:
    """EnvPool's environments, in groups of equal size. A group's results are in the order of its environments.

    A game's frame is the pixel-wise maximum of the last two frames that the emulator drew in the step. If the game ends
    before those two, EnvPool returns the previous step's frame again: nothing is learnt from it.
    """

    def __init__(self, pool: Any, num_envs: int, num_groups: int, to_frame: Callable[[Any], Any], masked: bool):
        self.num_groups = num_groups
        self._pool, self._to_frame, self._masked = pool, to_frame, masked
        self._size = num_envs // num_groups
        self._ids = np.arange(num_envs, dtype=np.int32).reshape(num_groups, self._size)
        self._waiting: list[list[Any]] = [[] for _ in range(num_groups)]
        self._lives = np.zeros(num_envs, np.int32)
        self._first_frame: Any = np.zeros(0)

    def reset(self) -> None:
        """Starts an episode in every environment; the result is received like that of a step."""
        self._pool.async_reset()

    def send(self, group: int, action: np.ndarray) -> None:
        """Steps the environments of a group in the background."""
        self._pool.send(action, self._ids[group])

    def receive(self, group: int) -> HostStep:
        """Waits for the group's results. Results of other groups that arrive earlier are kept for them."""
        while sum(len(ids) for ids, _ in self._waiting[group]) < self._size:
            result = self._pool.recv()
            groups = result[4]["env_id"] // self._size
            for other in np.unique(groups):
                mine = np.flatnonzero(groups == other)
                self._waiting[other].append((result[4]["env_id"][mine], self._take(result, mine)))
        parts, self._waiting[group] = self._waiting[group], []
        order = np.argsort(np.concatenate([ids for ids, _ in parts]))
        step: HostStep = jax.tree.map(lambda *leaf: np.concatenate(leaf)[order], *(step for _, step in parts))
        if group == 0:
            self._first_frame = jax.tree.map(lambda leaf: leaf[0], step.frame)
        return step

    def _take(self, result: Any, mine: np.ndarray) -> HostStep:
        """The part of EnvPool's results that belongs to some environments."""
        obs, reward, terminated, truncated, info = result
        whole = len(mine) == len(reward)
        pick = (lambda leaf: leaf) if whole else (lambda leaf: leaf[mine])
        ids, begins = pick(info["env_id"]), pick(info["elapsed_step"]) == 0
        lives = pick(info["lives"]) if "lives" in info else np.zeros(len(ids), np.int32)
        lost = np.logical_and(lives < self._lives[ids], ~begins)
        self._lives[ids] = lives
        # At the step limit EnvPool calls a game that is over truncated, too; of games it says apart that they are over.
        over = pick(info["terminated"]).astype(bool) if "terminated" in info else pick(terminated)
        return HostStep(
            frame=jax.tree.map(pick, self._to_frame(obs)),
            reward=pick(reward).astype(np.float32),
            terminated=over,
            truncated=np.logical_and(pick(truncated), ~over),
            life_lost=lost,
            begins=begins,
            mask=pick(obs[MASK]) != 0 if self._masked else None,
        )

    def screen(self) -> np.ndarray:
        """The first environment's screen in colour, uint8 [H, W, 3]; if EnvPool renders none, its observation.

        Some of its renderers (CVRP's, Knapsack's) read files that its wheels lack.
        """
        try:
            return np.asarray(self._pool.render())[0]
        except FileNotFoundError:
            pass
        except RuntimeError as error:
            if "render not implemented" not in str(error):
                raise
        return draw_observation(self._first_frame)

    def close(self) -> None:
        """Closes the environments."""
        self._pool.close()


def has_mask(space: Any, shape: tuple[int, ...]) -> bool:
    """Whether a space of observations has an action mask of a shape in it."""
    parts = getattr(space, "spaces", {})
    return MASK in parts and tuple(parts[MASK].shape) == shape


def make_env(env_id: str, env_params: Changes = ()) -> HostEnv:
    """An EnvPool environment with discrete actions.

    Args:
      env_id: as EnvPool registers it; after `envpool/` where gymnax has the same name.
      env_params: settings that differ from the defaults (see `env_settings`).

    Raises:
      SettingError: for an unknown id, continuous actions, observations that are no arrays of numbers, several players,
        an unknown setting, or without EnvPool.
    """
    envpool = import_envpool(env_id)
    # EnvPool has just brought it.
    from gymnasium import spaces

    settings = check_changes(env_id, env_params)
    name = env_id.removeprefix(ENVPOOL_PREFIX)
    atari = is_atari(find_spec(env_id))
    options = {key: settings[key] for key in (ATARI_OPTIONS if atari else ("max_episode_steps",))}
    made_with = options | ({"stack_num": 1} if atari else {})
    spec = envpool.make_spec(name, **made_with)
    with quiet_bounds():
        actions, observations = spec.gymnasium_action_space, spec.gymnasium_observation_space
    remedy = "it has no discrete actions, which value learning needs: use an environment such as Pong-v5"
    require(isinstance(actions, spaces.Discrete), "env", env_id, remedy)
    require(spec.config.max_num_players == 1, "env", env_id, "it has several players: use one such as Pong-v5")
    stack, masked = int(settings.get("stack_num", 1)), False
    if atari:
        channels, height, width = observations.shape
        shape = (height, width, channels * stack)
        fields: dict[str, Any] = {"obs_shape": shape, "obs_dtype": str(observations.dtype), "num_obs_values": None}
        to_frame: Callable[[Any], Any] = partial(np.moveaxis, source=1, destination=-1)
    else:
        masked = has_mask(observations, (int(actions.n),))
        shown = {key: part for key, part in observations.items() if key != MASK} if masked else {}
        fields, _, to_frame = read_space(env_id, spaces.Dict(shown) if masked else observations)

    def open_pool(num_envs: int, seed: int, num_groups: int = 1) -> EnvPoolPool:
        check_groups(num_envs, num_groups)
        with quiet_bounds():
            pool = envpool.make(
                name,
                env_type="gymnasium",
                num_envs=num_envs,
                batch_size=num_envs // num_groups,
                num_threads=settings["num_threads"],
                env_seed=env_seeds(seed, num_envs),
                render_mode="rgb_array",
                **made_with,
            )
            _ = pool.observation_space  # made on first use, which would else be in the first step
        return EnvPoolPool(pool, num_envs, num_groups, to_frame, masked)

    clips, counts_lives = settings.get("reward_clip", False), settings.get("episodic_life", False)

    def learning_view(step: HostStep) -> HostStep:
        reward = np.clip(step.reward, -1.0, 1.0) if clips else step.reward
        ended = np.logical_or(step.terminated, step.life_lost) if counts_lives else step.terminated
        return step._replace(reward=reward, terminated=ended, truncated=np.logical_and(step.truncated, ~ended))

    num_actions = int(actions.n)
    full = num_actions == len(ACTIONS) and atari
    return HostEnv(
        spec=EnvSpec(
            env_id=env_id,
            num_actions=num_actions,
            **fields,
            # Where it is 0 each task of BabyAI's has its own.
            time_limit=int(settings["max_episode_steps"]) or INT32,
            frame_stack=stack,
            masked=masked,
        ),
        open_pool=open_pool,
        learning_view=learning_view,
        action_names=ACTIONS if full else tuple(f"action {i}" for i in range(num_actions)),
        num_groups=int(settings["num_groups"]),
        frames_per_step=int(settings.get("frame_skip", 1)),
    )


def env_seeds(seed: int, num_envs: int) -> list[int]:
    """A seed for every environment, all distinct; another seed gives entirely different ones."""
    children = np.random.SeedSequence(seed).spawn(num_envs)
    return [int(child.generate_state(1)[0] >> 1) for child in children]
