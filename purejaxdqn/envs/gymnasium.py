"""Gymnasium's environments, by their ids or made by a user's own factory, behind the `HostEnv` interface.

Its vector environments reset in the step after an episode's last one (their mode NEXT_STEP), which only resets and
ignores its action: that is `HostEnv`'s contract as it stands.
"""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.bounds import INT32, MOST_COMBINATIONS
from purejaxdqn.config import EnvSpec, SettingError, one_line, require
from purejaxdqn.envs.actions import EMPTY_MASK, Actions, find_actions, flat_actions
from purejaxdqn.envs.envpool import draw_observation, env_seeds
from purejaxdqn.envs.interface import GYMNASIUM_PREFIX, HostEnv, HostStep, check_groups
from purejaxdqn.envs.parameters import Changes, changed, is_number, numeric_defaults
from purejaxdqn.envs.protocol import PLAYED, made_to_render, tried
from purejaxdqn.envs.spaces import Observations, read_space
from purejaxdqn.machine.imports import import_extra
from purejaxdqn.observations.leaves import bracketed, build, check_values, find, name_of

POOL_OPTIONS: dict[str, Any] = {"num_groups": 1, "asynchronous": False}
"""Options of any environment: groups that are stepped in turn, and whether each has a process of its own."""
SAY = "let its space say what they are, a Box up to the largest, or MultiDiscrete for one-hot"


def import_gymnasium(env_id: str) -> Any:
    """Imports Gymnasium.

    Raises:
      SettingError: if it is not installed.
    """
    remedy = "Gymnasium, which steps it, is not installed: install purejaxdqn[gymnasium]"
    return import_extra("gymnasium", env_id, remedy)


def find_spec(env_id: str) -> Any:
    """Gymnasium's own description of an environment.

    Raises:
      SettingError: for an unknown id, with the nearest names, or without Gymnasium.
    """
    gymnasium = import_gymnasium(env_id)
    name = env_id.removeprefix(GYMNASIUM_PREFIX)
    remedy = "an environment's name imports nothing: give the id alone, and its module by --import"
    require(":" not in name, "env", env_id, remedy)
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise SettingError("env", env_id, f"Gymnasium has no such environment: {one_line(error)}") from error


def env_settings(env_id: str) -> dict[str, Any]:
    """Everything that can be set of an environment by one number, with its default.

    These are the arguments of its class, its time limit, and `POOL_OPTIONS`.

    Raises:
      SettingError: see `find_spec`, or where its class cannot be imported.
    """
    spec, registration = find_spec(env_id), import_gymnasium(env_id).envs.registration
    entry = spec.entry_point
    made = entry if callable(entry) else tried(env_id, "its class", partial(registration.load_env_creator, entry))
    given = {name: value for name, value in spec.kwargs.items() if is_number(value)}
    limit = {} if spec.max_episode_steps is None else {"max_episode_steps": spec.max_episode_steps}
    return numeric_defaults(made) | given | limit | POOL_OPTIONS


def make_env(env_id: str, env_params: Changes = ()) -> HostEnv:
    """An environment of Gymnasium with discrete actions.

    Args:
      env_id: `gymnasium/` and the id that Gymnasium registers it by.
      env_params: settings that differ from the defaults (see `env_settings`).

    Raises:
      SettingError: for an unknown id or setting, or what `wrap` refuses.
    """
    gymnasium = import_gymnasium(env_id)
    settings = changed(env_id, env_settings(env_id), env_params)
    options = {name: settings[name] for name, _ in env_params if name not in POOL_OPTIONS}
    make = partial(gymnasium.make, find_spec(env_id), disable_env_checker=True, **options)
    return wrap(env_id, make, {name: settings[name] for name in POOL_OPTIONS}, partial(made_to_render, make))


class GymnasiumPool:
    """Vector environments of Gymnasium, one for each group."""

    def __init__(
        self,
        groups: list[Any],
        seeds: Sequence[list[int] | int],
        to_frame: Callable[[Any], Any],
        actions: Actions,
        masked: bool,
    ):
        """Resets nothing yet.

        Args:
          groups: vector environments.
          seeds: of the environments of each group, or one for each.
          to_frame: observations as a vector environment gives them -> as the rest of a run knows them.
          actions: of the environment.
          masked: whether their infos have an action mask.
        """
        self.num_groups = len(groups)
        self._groups, self._seeds, self._to_frame = groups, seeds, to_frame
        self._actions, self._masked = actions, masked
        self._over = [np.zeros(group.num_envs, bool) for group in groups]
        self._waiting: list[Callable[[], HostStep]] = []
        self._first_frame: Any = np.zeros(0)

    def reset(self) -> None:
        """Starts an episode in every environment; the result is received like that of a step."""
        self._waiting = [partial(self._begin, group) for group in range(self.num_groups)]

    def send(self, group: int, action: np.ndarray) -> None:
        """Steps the environments of a group: in the background where they have processes of their own."""
        env, action = self._groups[group], self._actions.given(action)
        if hasattr(env, "step_async"):
            env.step_async(action)
            self._waiting[group] = partial(self._after, group, env.step_wait)
        else:
            # When it is waited for, so that the device learns meanwhile.
            self._waiting[group] = partial(self._after, group, partial(env.step, action))

    def receive(self, group: int) -> HostStep:
        """Waits for the group's results."""
        step = self._waiting[group]()
        if group == 0:
            self._first_frame = jax.tree.map(lambda leaf: leaf[0], step.frame)
        return step

    def _begin(self, group: int) -> HostStep:
        """The first observations."""
        obs, infos = self._groups[group].reset(seed=self._seeds[group])
        no = np.zeros(self._groups[group].num_envs, bool)
        return HostStep(self._to_frame(obs), no.astype(np.float32), no, no, no, ~no, self._mask(infos, len(no)))

    def _mask(self, infos: Mapping[str, Any], count: int) -> np.ndarray | None:
        """The legal actions, bool [B, A], if the environment has masks."""
        return self._actions.mask(infos, count) if self._masked else None

    def _after(self, group: int, step: Callable[[], Any]) -> HostStep:
        """The results of a step."""
        obs, reward, terminated, truncated, infos = step()
        begins, self._over[group] = self._over[group], np.logical_or(terminated, truncated)
        return HostStep(
            frame=self._to_frame(obs),
            reward=np.asarray(reward, np.float32),
            terminated=np.asarray(terminated, bool),
            truncated=np.logical_and(truncated, ~np.asarray(terminated, bool)),
            life_lost=np.zeros(len(begins), bool),
            begins=begins,
            mask=self._mask(infos, len(begins)),
        )

    def screen(self) -> np.ndarray:
        """The first environment's own picture, uint8 [H, W, 3]; if it has none, its observation."""
        gymnasium = import_gymnasium("")
        try:
            pictures = self._groups[0].render()
        except (AttributeError, AssertionError, NotImplementedError, ImportError, gymnasium.error.Error):
            pictures = None
        picture = np.zeros(0) if pictures is None else np.asarray(pictures[0])
        shown = picture.ndim == 3 and picture.dtype == np.uint8 and picture.shape[-1] == 3
        return picture if shown else draw_observation(self._first_frame)

    def close(self) -> None:
        """Closes the environments."""
        for env in self._groups:
            env.close()


def check_played(name: str, env: Any, observed: Observations, actions: Actions) -> bool:
    """Plays some steps of one environment; returns whether it has action masks.

    Raises:
      SettingError: for observations that are not of its space's shape and type, a step that does not give five values,
        a reward that is no finite number, a mask that is none or without any legal action, or what `check_values`
        refuses.
    """
    rng, frames = np.random.default_rng(0), []

    def check(obs: Any) -> None:
        for path, space in observed.spaces.items():
            try:
                found = np.asarray(find(obs, path))
            except ValueError as error:
                says = f"its space has {name_of(path)}, and it gives observations without it"
                raise SettingError("env", name, says) from error
            fits = found.shape == space.shape and np.can_cast(found.dtype, space.dtype, "same_kind")
            gives = f"it gives observations{bracketed(path)} {found.shape} {found.dtype}"
            require(fits, "env", name, f"its space says {space.shape} {space.dtype}, and {gives}")
        frames.append(observed.to_frame(obs))

    obs, info = env.reset(seed=0)
    masked = "action_mask" in info
    if masked and actions.sizes is not None:
        flat_actions(name, actions.sizes, MOST_COMBINATIONS)

    def drawn(info: Mapping[str, Any]) -> np.ndarray:
        found = {key: np.asarray(value)[None] for key, value in info.items() if key == "action_mask"}
        mask = actions.mask(found, 1)[0] if masked else None
        require(mask is None or bool(mask.any()), "env", name, EMPTY_MASK)
        return rng.choice(actions.number if mask is None else np.flatnonzero(mask), size=1)

    check(obs)
    for _ in range(PLAYED):
        found = env.step(actions.given(drawn(info))[0])
        due = "obs, reward, terminated, truncated, info"
        require(len(found) == 5, "env", name, f"its step gives {len(found)} values: give {due}")
        check(found[0])
        require(bool(np.isfinite(found[1])), "env", name, "it gives rewards that are no finite numbers")
        info = found[4]
        if found[2] or found[3]:
            obs, info = env.reset()
            check(obs)
    spec = EnvSpec(env_id=name, num_actions=1, time_limit=1, **observed.fields)
    check_values(spec, jax.tree.map(lambda *steps: np.stack(steps), *frames), SAY)
    return masked


def only_arrays(make: Callable[[], Any], spaces: Mapping[Any, Any]) -> Any:
    """An environment whose observations are one dict of the arrays that are learnt from, by their names.

    Without its text Gymnasium's vector environments can share their memory, and each of them has one batch.
    """
    gymnasium, names = import_gymnasium(""), {path: name_of(path) for path in spaces}
    space = gymnasium.spaces.Dict({names[path]: part for path, part in spaces.items()})
    return gymnasium.wrappers.TransformObservation(
        make(), lambda obs: {name: find(obs, path) for path, name in names.items()}, space
    )


class Seen(NamedTuple):
    """What one environment gave."""

    observed: Observations
    actions: Actions
    masked: bool
    limit: int | None
    """Steps after which Gymnasium cuts its episodes, where its spec says so."""


def look_at(name: str, one: Any) -> Seen:
    """Reads the spaces of one environment, plays it, and closes it.

    Raises:
      SettingError: for continuous actions, observations that are no numbers, or where it does not give what it says.
    """
    spaces = import_gymnasium(name).spaces
    remedy = "it has no discrete actions, which value learning needs: use an environment such as gymnasium/CartPole-v1"
    require(isinstance(one.action_space, (spaces.Discrete, spaces.MultiDiscrete)), "env", name, remedy)
    observed, actions = read_space(name, one.observation_space), find_actions(name, one.action_space)
    masked = tried(name, "its reset or step", partial(check_played, name, one, observed, actions))
    one.close()
    return Seen(observed, actions, masked, getattr(one.spec, "max_episode_steps", None))


def on_host(
    name: str,
    seen: Seen,
    groups: Any,
    open_group: Callable[[int], Any],
    to_frame: Callable[[Any], Any],
    one_seed: bool = False,
) -> HostEnv:
    """The environment that steps on the host.

    Args:
      name: of the environment.
      seen: what one of it gives.
      groups: of environments, which training steps in turn.
      open_group: (number of environments) -> a vector environment, whose mode is NEXT_STEP.
      to_frame: its observations -> as the rest of a run knows them.
      one_seed: whether it is given one seed, and no list of them.
    """
    groups, actions = int(groups), seen.actions
    require(groups >= 1, "env_params.num_groups", groups, "use a whole number of at least 1")

    def open_pool(num_envs: int, seed: int, num_groups: int = 1) -> GymnasiumPool:
        check_groups(num_envs, num_groups)
        size, seeds = num_envs // num_groups, env_seeds(seed, num_envs)
        parts = [seeds[start : start + size] for start in range(0, num_envs, size)]
        given = [part[0] for part in parts] if one_seed else parts
        return GymnasiumPool([open_group(size) for _ in parts], given, to_frame, actions, seen.masked)

    return HostEnv(
        spec=EnvSpec(
            env_id=name,
            num_actions=actions.number,
            **seen.observed.fields,
            time_limit=INT32 if seen.limit is None else int(seen.limit),
            masked=seen.masked,
            action_sizes=actions.sizes,
        ),
        open_pool=open_pool,
        learning_view=lambda step: step,
        action_names=tuple(f"action {i}" for i in range(min(actions.number, MOST_COMBINATIONS))),
        num_groups=groups,
        frames_per_step=1,
    )


def wrap(
    name: str, make: Callable[[], Any], options: Mapping[str, Any], picture: Callable[[], Any] | None = None
) -> HostEnv:
    """Environments of Gymnasium with discrete actions, as one that steps on the host.

    Args:
      name: of the environment.
      make: makes one; called once for each environment. For processes of their own it has to be picklable.
      options: those of `POOL_OPTIONS`.
      picture: makes one that renders, for videos; by default `make`.

    Raises:
      SettingError: for what `look_at` refuses.
    """
    vector, seen = import_gymnasium(name).vector, look_at(name, tried(name, "its factory", make))
    observed, apart = seen.observed, bool(options["asynchronous"])
    batched = {path: path if path == () else (name_of(path),) for path in observed.spaces}

    def to_frame(obs: Any) -> Any:
        return observed.to_frame(build(list(batched), [find(obs, path) for path in batched.values()]))

    def open_group(size: int) -> Any:
        chosen = picture or make if size == 1 else make
        parted = chosen if () in observed.spaces else partial(only_arrays, chosen, observed.spaces)
        if size == 1 or not apart:
            return vector.SyncVectorEnv([parted] * size)
        # A fork of a process that runs JAX may never come back.
        start = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        return vector.AsyncVectorEnv([parted] * size, context=start)

    return on_host(name, seen, options["num_groups"], open_group, to_frame)
