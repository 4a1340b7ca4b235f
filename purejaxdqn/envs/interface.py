"""Environment interfaces: `Env` steps on the device, `HostEnv` on the host."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax import Array

from purejaxdqn.config import EnvSpec, require
from purejaxdqn.types import Row

ENVPOOL_PREFIX = "envpool/"
"""Before the id of an environment of EnvPool that gymnax has too."""
ATARI_SUFFIX = "-v5"
"""Of EnvPool's Atari games, and of nothing that gymnax has."""
GYMNASIUM_PREFIX = "gymnasium/"
"""Before the id of an environment of Gymnasium."""
JAX_PREFIXES = ("craftax/", "jumanji/", "navix/", "octax/", "pgx/", "xminigrid/")
"""Before the ids of suites in JAX, each an extra of this name and a file of this room."""


class Goals(NamedTuple):
    """What an environment with goals says of them, in two functions of ONE environment.

    Its observations are dicts with `achieved_goal` and `desired_goal`, arrays or trees alike, as those of
    Gymnasium-Robotics' GoalEnv are; whatever else is seen, such as `observation`, lies beside them.
    """

    reward: Callable[[Any, Any], Any]
    """(achieved by a step, desired) -> its reward []."""
    terminated: Callable[[Any, Any], Any]
    """(the same) -> bool [], whether it ends the episode by that; others may end it, too."""


class Env(NamedTuple):
    """An environment stepped in batches: pure functions over a state that holds the current observations."""

    spec: EnvSpec
    reset: Callable[[Array, int], tuple[Any, Any]]
    """(key, num_envs E) -> env state, obs [E, ...]: one array, or dicts and tuples of such."""
    step: Callable[[Array, Any, Array], tuple[Any, Any, Row]]
    """(key, env state, actions [E]) -> env state, obs [E, ...] to act on next, row [E]."""
    observe: Callable[[Any], Any]
    """(env state) -> obs [E, ...] to act on."""
    every_row_valid: bool
    """Whether no step is ever swallowed by a reset."""
    picture_state: Callable[[Any], Any]
    """(env state) -> what `render.render_frame` draws, with a leading axis of environments."""
    params: Any
    """The environment's parameters, for drawing."""
    mask: Callable[[Any], Array | None] = lambda env_state: None
    """(env state) -> bool [E, A], the legal actions; None in an environment without action masks (`spec.masked`)."""
    goals: Goals | None = None
    """None where observations hold no goals."""


class HostStep(NamedTuple):
    """Result of one step of B environments on the host, in NumPy."""

    frame: Any
    """[B, *frame_shape] the newest frame, one array, or dicts and tuples of such; after the last step of an episode its
    true last one."""
    reward: np.ndarray
    """float32 [B], as the game gave it."""
    terminated: np.ndarray
    """bool [B]: the game is over."""
    truncated: np.ndarray
    """bool [B]: the episode was cut and the game is not over."""
    life_lost: np.ndarray
    """bool [B]: a life was lost in this step, the last one included; False in games without lives."""
    begins: np.ndarray
    """bool [B]: the frame is the first of an episode, and the action before it was ignored."""
    mask: np.ndarray | None = None
    """bool [B, A]: legal actions of the frame, of no meaning after the last step of an episode; None without masks."""

    @property
    def ended(self) -> np.ndarray:
        """bool [B]: the step was the last one of its episode."""
        return ~self.begins & (self.terminated | self.truncated)


class Pool(Protocol):
    """Environments that step on the host, in groups that are sent and received independently."""

    num_groups: int

    def reset(self) -> None:
        """Starts an episode in every environment; the result is received like that of a step."""

    def send(self, group: int, action: np.ndarray) -> None:
        """Steps the environments of a group, int32 [B], in the background."""

    def receive(self, group: int) -> HostStep:
        """Waits for the step that was sent last."""

    def screen(self) -> np.ndarray:
        """What a person would see of the first environment, uint8 [H, W, 3]."""

    def close(self) -> None:
        """Closes all of them."""


def check_groups(num_envs: int, num_groups: int, num_shards: int = 1) -> None:
    """Raises `SettingError` unless environments divide evenly into groups, and groups evenly into shards."""
    remedy = f"the environments are stepped in {num_groups} groups: use a multiple of that"
    require(num_envs % num_groups == 0, "num_envs", num_envs, remedy)
    remedy = (
        f"{num_shards} shards have a part of each of {num_groups} groups: use a multiple of {num_shards * num_groups}"
    )
    require(num_envs % (num_groups * num_shards) == 0, "num_envs", num_envs, remedy)


class HostEnv(NamedTuple):
    """Environments that step on the host. The step after an episode's last one only resets."""

    spec: EnvSpec
    open_pool: Callable[[int, int, int], Pool]
    """(num_envs, seed, number of groups) -> pool. Another seed is another seed for every environment."""
    learning_view: Callable[[HostStep], HostStep]
    """What the learner sees: clipped rewards, and lost lives as episode ends, if the settings say so."""
    action_names: tuple[str, ...]
    num_groups: int
    """Groups that training steps in turn."""
    frames_per_step: int
    """Frames of the emulator in one environment step; 1 where there is no emulator."""
