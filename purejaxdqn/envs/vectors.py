"""Vector environments of a user's own (`gymnasium.vector.VectorEnv`), behind the `HostEnv` interface."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from purejaxdqn.config import require
from purejaxdqn.envs.gymnasium import import_gymnasium, look_at, on_host
from purejaxdqn.envs.interface import HostEnv
from purejaxdqn.envs.protocol import tried

POOL_OPTIONS: dict[str, Any] = {"num_groups": 1}
"""Groups that are stepped in turn; whether one has processes is its factory's affair."""


def check_vector(name: str, env: Any, num_envs: int) -> Any:
    """A vector environment, if it has as many environments as it was asked for and resets as it has to.

    Raises:
      SettingError: where it does not.
    """
    modes = import_gymnasium(name).vector.AutoresetMode
    remedy = f"asked for num_envs={num_envs}, its factory gave {env.num_envs} environments: make as many as it is told"
    require(env.num_envs == num_envs, "env", name, remedy)
    mode = (env.metadata or {}).get("autoreset_mode")
    found = "names no mode" if mode is None else f"is {getattr(mode, 'name', mode)}"
    remedy = (
        f'its metadata["autoreset_mode"] {found}, and the step that ends an episode has to give its last observation: '
        "reset in the next step, gymnasium.vector.AutoresetMode.NEXT_STEP"
    )
    require(mode in (modes.NEXT_STEP, modes.NEXT_STEP.value), "env", name, remedy)
    return env


class OneOf:
    """A vector environment of one environment, as that one."""

    def __init__(self, env: Any):
        self.env, self.spec = env, env.spec
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

    def reset(self, seed: int | None = None) -> tuple[Any, Any]:
        """The first observation and info."""
        return self.first_of(self.env.reset(seed=seed))

    def step(self, action: Any) -> tuple[Any, ...]:
        """What the environment gives, each without its leading axis."""
        return self.first_of(self.env.step(np.asarray(action)[None]))

    def first_of(self, found: tuple[Any, ...]) -> tuple[Any, ...]:
        """Of each array of a batch the first; of the infos, the last of what is found, the mask alone."""
        *parts, infos = found
        read = {key: value for key, value in infos.items() if key == "action_mask"}
        return tuple(jax.tree.map(lambda leaf: leaf[0], part) for part in (*parts, read))

    def close(self) -> None:
        """Closes it."""
        self.env.close()


def wrap(name: str, make: Callable[..., Any], options: Mapping[str, Any]) -> HostEnv:
    """Vector environments with discrete actions, as environments that step on the host.

    Args:
      name: of the environment.
      make: (num_envs) -> a `gymnasium.vector.VectorEnv` of so many; called once for each group, evaluation and video.
      options: those of `POOL_OPTIONS`.

    Raises:
      SettingError: where it has another number of environments, another mode than NEXT_STEP, or for what
        `gymnasium.look_at` refuses.
    """

    def open_group(num_envs: int) -> Any:
        return check_vector(name, tried(name, "its factory", lambda: make(num_envs=num_envs)), num_envs)

    seen = look_at(name, OneOf(open_group(1)))
    return on_host(name, seen, options["num_groups"], open_group, seen.observed.to_frame, one_seed=True)
