"""gymnax environments behind the `Env` interface."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.bounds import INT32
from purejaxdqn.config import EnvSpec, SettingError, require
from purejaxdqn.envs.interface import Env
from purejaxdqn.envs.parameters import (
    Changes,
    as_type_of,
    check_parameter,
    is_number,
    numeric_defaults,
    numeric_fields,
)
from purejaxdqn.envs.partial import options_of, show_less, split_changes
from purejaxdqn.envs.protocol import check_played, check_protocol, has_methods, tried
from purejaxdqn.envs.single import no_mask, reset_by_itself
from purejaxdqn.envs.spaces import largest
from purejaxdqn.machine.lazy_imports import defer_import
from purejaxdqn.machine.nearest_names import nearest
from purejaxdqn.observations.leaves import arrays_of, plain
from purejaxdqn.types import Row

# gymnax imports them for pictures of its own, which nothing here draws: three quarters of the time that it takes.
for name in ("seaborn", "matplotlib", "matplotlib.colors", "matplotlib.pyplot"):
    defer_import(name)

import gymnax  # noqa: E402

OF_BITS = ("Catch-bsuite", "DeepSea-bsuite", "Pong-misc")
"""Environments, besides MinAtar's, whose observations are float32 and hold 0 and 1 alone."""


def env_names() -> list[str]:
    """Ids of all environments that gymnax has registered, continuous ones included."""
    return list(gymnax.registered_envs)


def has_discrete_actions(env_id: str) -> bool:
    """Whether the actions of an environment are numbered."""
    # It downloads its images when it is made.
    if env_id == "MNISTBandit-bsuite":
        return True
    env, params = gymnax.make(env_id)
    return hasattr(env.action_space(params), "n")


def unknown_env(env_id: str) -> SettingError:
    """The error for an id that gymnax does not know, with the nearest names."""
    near = nearest(env_id, env_names())
    hint = f"the nearest names are {', '.join(near)}" if near else f"gymnax has {', '.join(env_names())}"
    return SettingError("env", env_id, f"no such environment; {hint}; one of your own needs --import")


def default_params(env_id: str) -> Any:
    """The environment's own default parameters, a dataclass.

    Raises:
      SettingError: for an unknown id, or an environment that cannot be made here.
    """
    return make_raw(env_id)[1]


def env_settings(env_id: str) -> dict[str, Any]:
    """Everything that can be set of an environment by one number, with its default.

    These are its parameters, what its class is made with, such as DeepSea's size, and what `envs.partial` adds. For the
    errors see `default_params`.
    """
    env, params = make_raw(env_id)
    return numeric_fields(params) | numeric_defaults(type(env).__init__) | options_of(env_id)


def make_raw(env_id: str, **options: Any) -> tuple[Any, Any]:
    """gymnax's own environment and its default parameters; see `default_params` for the errors."""
    if env_id not in env_names():
        raise unknown_env(env_id)
    try:
        return gymnax.make(env_id, **options)
    except OSError as error:
        # MNISTBandit-bsuite downloads its images when it is made.
        raise SettingError("env", env_id, f"gymnax could not load what it needs ({error}); try when online") from error


def make_changed(env_id: str, changes: Changes) -> tuple[Any, Any]:
    """gymnax's environment and its parameters, with `changes`.

    Raises:
      SettingError: for a setting that the environment does not have, or a size or time limit below 1.
    """
    env, params = make_raw(env_id)
    options = numeric_defaults(type(env).__init__)
    names = [field.name for field in dataclasses.fields(params)]
    for name, value in changes:
        remedy = f"{env_id} has no such parameter; it has {', '.join([*names, *options, *options_of(env_id)])}"
        require(name in names or name in options, f"env_params.{name}", value, remedy)
        default = options[name] if name in options else getattr(params, name)
        check_parameter(name, value, default, is_size=name in options and is_number(default) and default >= 1)
    # gymnax computes with a parameter's type: a whole number for a float one would fail deep inside it.
    made_with = {name: as_type_of(options[name], value) for name, value in changes if name in options}
    if made_with:
        env, params = make_raw(env_id, **made_with)
    typed = {name: as_type_of(getattr(params, name), value) for name, value in changes if name in names}
    return env, params.replace(**typed)


def from_step_env(name: str, env: Any, params: Any) -> Env:
    """The environment by its `reset_env` and `step_env`, which reset nothing, and its `action_mask`, if it has one.

    `step_env` gives obs, state, reward, terminated, truncated, info; or obs, state, reward, done, info, as gymnax's did
    before version 1. Of `done` it is not known which of the two it is: at `max_steps_in_episode` it is a truncation.
    """
    limit = getattr(params, "max_steps_in_episode", INT32)

    def advance(key: Array, state: Any, action: Array, count: Array) -> tuple[Any, ...]:
        found = env.step_env(key, state, action, params)
        remedy = f"its step_env gives {len(found)} values: give obs, state, reward, terminated, truncated, info"
        require(len(found) in (5, 6), "env", name, remedy)
        if len(found) == 6:
            return found[:5]
        obs, state, reward, done, _ = found
        truncated = jnp.logical_and(done, count >= limit)
        return obs, state, reward, jnp.logical_and(done, jnp.logical_not(truncated)), truncated

    num_actions, said = find_spaces(name, env, params)
    mask = partial(asked_for_mask, env, params) if has_methods(env, "action_mask") else no_mask
    return reset_by_itself(name, lambda key: env.reset_env(key, params), advance, num_actions, said, None, mask)


def asked_for_mask(env: Any, params: Any, state: Any) -> Array:
    """The action mask of a state."""
    found: Array = env.action_mask(state, params)
    return found


def as_bits(obs: Any) -> Any:
    """A plain tree of observations that hold 0 and 1 alone as bools, of which a replay holds four times as many."""
    return jax.tree.map(lambda leaf: leaf != 0, plain(obs))


def in_space(space: Any, read: Callable[[Any], Any]) -> Any:
    """What is read of a space of observations; a tree of that, where it has parts."""
    parts = getattr(space, "spaces", None)
    if isinstance(parts, Mapping):
        return {name: in_space(part, read) for name, part in parts.items()}
    return read(space) if parts is None else tuple(in_space(part, read) for part in parts)


def find_spaces(name: str, env: Any, params: Any) -> tuple[int | tuple[int, ...], dict[str, Any]]:
    """Number of actions, or of the choices of each part of one, and `num_obs_values` and `obs_scale` of the
    observations.

    Raises:
      SettingError: for continuous actions.
    """
    # By what a space has, since an environment that only keeps to gymnax's protocol has spaces of its own.
    made = getattr(env, "action_space", None)
    space = made(params) if made else None
    count: Any = getattr(space, "n", getattr(space, "nvec", None)) if made else getattr(env, "num_actions", None)
    require(
        count is not None,
        "env",
        name,
        "it has continuous actions, and value learning needs discrete ones: use an environment such as CartPole-v1",
    )
    made = getattr(env, "observation_space", None)
    observed = made(params) if made else None
    values = in_space(observed, lambda part: int(part.n) if hasattr(part, "n") else None)
    sizes = tuple(map(int, np.ravel(count)))
    said = {"num_obs_values": values, "obs_scale": in_space(observed, largest)}
    return sizes[0] if np.ndim(count) == 0 else sizes, said


DUE = "obs, state, reward, terminated, truncated, and info with the true last observation in final_observation"


def gives_what_is_due(name: str, env: Any, params: Any) -> bool:
    """Whether an environment's `step` gives the six values `DUE`, as gymnax's do, which reset by themselves.

    Raises:
      SettingError: where it raises.
    """

    def once(key: Array) -> Any:
        _, state = env.reset(key, params)
        return env.step(key, state, jnp.int32(0), params)

    found = tried(name, "its reset or step", lambda: jax.eval_shape(once, jax.random.key(0)))
    return len(found) == 6 and "final_observation" in found[5]


def wrap(name: str, env: Any, params: Any) -> Env:
    """An environment of gymnax's protocol with discrete actions.

    gymnax resets in the same step that ends an episode, so every row is a transition, and the true final observation
    comes in `info`.

    Args:
      name: of the environment.
      env: as `gymnax.make` gives it, or anything with `reset(key, params)` and `step(key, state, action, params)`, or
        with `reset_env` and `step_env`, which do not reset by themselves. Where `action_mask(state, params)` says which
        actions are legal, or an action has several parts, it is the latter two that are called.
      params: what these are called with.

    Raises:
      SettingError: for continuous actions, or where it does not give what is needed.
    """
    # gymnax's own environments are known to cut episodes at their limit alone.
    own = type(env).__module__.startswith("gymnax.")
    num_actions, said = find_spaces(name, env, params)
    if has_methods(env, "action_mask") or not isinstance(num_actions, int):
        remedy = "with an action_mask, or actions of several parts, it needs reset_env and step_env: give these"
        require(has_methods(env, "reset_env", "step_env"), "env", name, remedy)
        return from_step_env(name, env, params)
    if not (has_methods(env, "reset", "step") and gives_what_is_due(name, env, params)):
        wants = "or give reset_env and step_env, which reset nothing"
        wants = "install gymnax>=1.0 anew, which another package has overwritten" if own else wants
        remedy = f"its step does not give the 6 values that are due, {DUE}: {wants}"
        require(has_methods(env, "reset_env", "step_env") and not own, "env", name, remedy)
        return from_step_env(name, env, params)

    see = as_bits if own and (name in OF_BITS or name.endswith("-MinAtar")) else plain

    def one_reset(key: Array) -> Any:
        obs, state = env.reset(key, params)
        return arrays_of(name, see(obs)), state

    def one_step(key: Array, state: Any, action: Array) -> Any:
        obs, *rest = env.step(key, state, action, params)[:5]
        return arrays_of(name, see(obs)), *rest

    fields = check_protocol(name, one_reset, one_step, **said)
    limit = float(getattr(params, "max_steps_in_episode", math.inf))
    time_limit = int(min(limit, INT32))
    spec = EnvSpec(
        env_id=name,
        num_actions=num_actions,
        **fields,
        time_limit=time_limit,
        fewest_steps=time_limit if own else 1,
    )

    def reset(key: Array, num_envs: int) -> tuple[Any, Array]:
        obs, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, num_envs), params)
        obs = see(obs)
        return (state, obs), obs

    def step(key: Array, env_state: tuple[Any, Array], action: Array) -> tuple[Any, Array, Row]:
        state, obs_tm1 = env_state
        keys = jax.random.split(key, action.shape[0])
        obs, state, reward, terminated, truncated, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            keys, state, action, params
        )
        obs = see(obs)
        row = Row(
            obs=obs_tm1,
            action=action,
            reward=reward.astype(jnp.float32),
            terminated=terminated,
            truncated=jnp.logical_and(truncated, jnp.logical_not(terminated)),
            final_obs=see(info["final_observation"]),
            valid=jnp.ones_like(terminated),
        )
        return (state, obs), obs, row

    def picture_state(env_state: tuple[Any, Array]) -> Any:
        return env_state[0]

    made = Env(
        spec=spec,
        reset=reset,
        step=step,
        observe=lambda env_state: env_state[1],
        every_row_valid=True,
        picture_state=picture_state,
        params=params,
    )
    if not own:
        check_played(made)
    return made


def make_env(env_id: str, env_params: Changes = ()) -> Env:
    """A gymnax environment with discrete actions.

    Args:
      env_id: as gymnax registers it.
      env_params: settings that differ from its defaults (see `env_settings`).

    Raises:
      SettingError: for an unknown id, continuous actions, or an unknown parameter.
    """
    options, changes = split_changes(env_id, env_params)
    return show_less(wrap(env_id, *make_changed(env_id, changes)), **options)
