"""gymnax environments behind the `Env` interface."""

import dataclasses
import difflib
import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.bounds import ANY, INT32, POSITIVE, real, whole
from purejaxdqn.config import EnvSpec, SettingError, require
from purejaxdqn.envs.interface import Env
from purejaxdqn.machine.lazy_imports import defer_import
from purejaxdqn.types import Row

# gymnax imports them for pictures of its own, which nothing here draws: three quarters of the time that it takes.
for name in ("seaborn", "matplotlib", "matplotlib.colors", "matplotlib.pyplot"):
    defer_import(name)

import gymnax  # noqa: E402
from gymnax.environments import spaces  # noqa: E402


def env_names() -> list[str]:
    """Ids of all environments that gymnax has registered, continuous ones included."""
    return list(gymnax.registered_envs)


def unknown_env(env_id: str) -> SettingError:
    """The error for an id that gymnax does not know, with the nearest names."""
    folded = {name.lower(): name for name in env_names()}
    near = [folded[name] for name in difflib.get_close_matches(env_id.lower(), folded, n=3, cutoff=0.4)]
    hint = f"the nearest names are {', '.join(near)}" if near else f"gymnax has {', '.join(env_names())}"
    return SettingError("env", env_id, f"no such environment; {hint}")


PLAYED = 64
"""Steps that an environment which is not gymnax's own plays before anything is trained."""

Changes = tuple[tuple[str, Any], ...]
"""(name, value) pairs of an environment's settings that differ from its defaults."""


def default_params(env_id: str) -> Any:
    """The environment's own default parameters, a dataclass.

    Raises:
      SettingError: for an unknown id, or an environment that cannot be made here.
    """
    return make_raw(env_id)[1]


def env_settings(env_id: str) -> dict[str, Any]:
    """Everything that can be set of an environment by one number, with its default.

    These are its parameters, and what its class is made with, such as DeepSea's size. For the errors see
    `default_params`.
    """
    env, params = make_raw(env_id)
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: value for name, value in fields.items() if is_number(value)} | constructor_defaults(env)


def is_number(value: Any) -> bool:
    """Whether a value is a Python number, truth values among them."""
    return isinstance(value, bool | int | float)


def constructor_defaults(env: Any) -> dict[str, Any]:
    """The numbers that an environment's class is made with."""
    arguments = inspect.signature(type(env).__init__).parameters.values()
    return {argument.name: argument.default for argument in arguments if is_number(argument.default)}


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
    options = constructor_defaults(env)
    names = [field.name for field in dataclasses.fields(params)]
    for name, value in changes:
        remedy = f"{env_id} has no such parameter; it has {', '.join([*names, *options])}"
        require(name in names or name in options, f"env_params.{name}", value, remedy)
        default = options[name] if name in options else getattr(params, name)
        check_parameter(name, value, default, is_size=name in options and is_number(default) and default >= 1)
    # gymnax computes with a parameter's type: a whole number for a float one would fail deep inside it.
    made_with = {name: as_type_of(options[name], value) for name, value in changes if name in options}
    if made_with:
        env, params = make_raw(env_id, **made_with)
    typed = {name: as_type_of(getattr(params, name), value) for name, value in changes if name in names}
    return env, params.replace(**typed)


def check_parameter(name: str, value: Any, default: Any, is_size: bool) -> None:
    """Raises `SettingError` where a parameter cannot have a value.

    Args:
      name: of the parameter.
      value: for it.
      default: the environment's own; what is no number is not checked.
      is_size: whether the environment's class is made with it, and it is at least 1 by default.
    """
    field = f"env_params.{name}"
    if isinstance(default, bool):
        require(isinstance(value, bool | int | float) and value in (0, 1), field, value, "use True or False")
    elif isinstance(default, int) or (is_number(default) and name == "max_steps_in_episode"):
        at_least_1 = is_size or name == "max_steps_in_episode"
        whole(field, value, (1 if at_least_1 else -INT32, INT32))
    elif is_number(default):
        # There is no mass, length or time step of 0 or less, whatever the equations make of it.
        physical = default > 0 and (any(part in name for part in ("mass", "length")) or name in ("tau", "dt"))
        real(field, value, POSITIVE if physical else ANY)


def as_type_of(default: Any, value: Any) -> Any:
    """A value in the type of a default, where that is a Python number."""
    return type(default)(value) if isinstance(default, bool | int | float) else value


def check_protocol(env_id: str, env: Any, params: Any) -> jax.ShapeDtypeStruct:
    """The shape of an environment's observations.

    Raises:
      SettingError: where what it gives is not what a run can learn from.
    """
    key = jax.random.key(0)
    obs, state = jax.eval_shape(env.reset, key, params)
    require(
        isinstance(obs, jax.ShapeDtypeStruct), "env", env_id, "its observations are not one array: join their parts"
    )
    keys = any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    require(not keys, "env", env_id, "its state holds a typed PRNG key: keep its words, jax.random.key_data(key)")
    after, _, reward, terminated, truncated, _ = jax.eval_shape(env.step, key, state, jnp.int32(0), params)
    same = (after.shape, after.dtype) == (obs.shape, obs.dtype)
    require(same, "env", env_id, f"its observations are {obs.shape} {obs.dtype}, and {after.shape} {after.dtype} later")
    for name, found in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
        require(found.shape == (), "env", env_id, f"its {name} has the shape {found.shape}: give a scalar")
    picture = len(obs.shape) == 3 and obs.shape[0] <= 4 and obs.shape[1] == obs.shape[2] >= 8
    require(not picture, "env", env_id, f"its pictures {obs.shape} seem to have their channels first: give them last")
    return obs


def check_played(env_id: str, env: Any, params: Any, num_values: int | None) -> None:
    """Plays some steps of an environment that is not gymnax's own.

    Raises:
      SettingError: for a reward that is no finite number, or a discrete observation that is none of its values.
    """

    def play(state: Any, key: Array) -> tuple[Any, tuple[Array, Array]]:
        action_key, step_key = jax.random.split(key)
        action = jax.random.randint(action_key, (), 0, env.action_space(params).n)
        obs, state, reward, *_ = env.step(step_key, state, action, params)
        return state, (obs, reward)

    @jax.jit
    def playing() -> tuple[Array, Array]:
        first, state = env.reset(jax.random.key(0), params)
        _, (obs, reward) = jax.lax.scan(play, state, jax.random.split(jax.random.key(1), PLAYED))
        return jnp.concatenate([first[None], obs]), reward

    obs, reward = playing()
    require(bool(jnp.isfinite(reward).all()), "env", env_id, "it gives rewards that are no finite numbers")
    inside = num_values is None or bool(jnp.logical_and(obs >= 0, obs < num_values).all())
    require(inside, "env", env_id, f"it gives observations that are none of its values 0 to {(num_values or 1) - 1}")


def make_env(env_id: str, env_params: Changes = ()) -> Env:
    """A gymnax environment with discrete actions.

    gymnax resets in the same step that ends an episode, so every row is a transition, and the true final observation
    comes in `info`.

    Args:
      env_id: as gymnax registers it.
      env_params: settings that differ from its defaults (see `env_settings`).

    Raises:
      SettingError: for an unknown id, continuous actions, or an unknown parameter.
    """
    env, params = make_changed(env_id, env_params)
    action_space = env.action_space(params)
    require(
        isinstance(action_space, spaces.Discrete),
        "env",
        env_id,
        "it has continuous actions, and value learning needs discrete ones: use an environment such as CartPole-v1",
    )
    obs_space = env.observation_space(params)
    obs_shape = check_protocol(env_id, env, params)
    num_values = int(obs_space.n) if isinstance(obs_space, spaces.Discrete) else None
    limit = float(getattr(params, "max_steps_in_episode", math.inf))
    time_limit = int(min(limit, INT32))
    # gymnax's own environments are known to cut episodes at their limit alone.
    own = type(env).__module__.startswith("gymnax.")
    if not own:
        check_played(env_id, env, params, num_values)
    spec = EnvSpec(
        env_id=env_id,
        num_actions=int(action_space.n),
        obs_shape=tuple(obs_shape.shape),
        obs_dtype=str(obs_shape.dtype),
        num_obs_values=num_values,
        time_limit=time_limit,
        fewest_steps=time_limit if own else 1,
    )

    def reset(key: Array, num_envs: int) -> tuple[Any, Array]:
        obs, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, num_envs), params)
        return (state, obs), obs

    def step(key: Array, env_state: tuple[Any, Array], action: Array) -> tuple[Any, Array, Row]:
        state, obs_tm1 = env_state
        keys = jax.random.split(key, action.shape[0])
        obs, state, reward, terminated, truncated, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            keys, state, action, params
        )
        row = Row(
            obs=obs_tm1,
            action=action,
            reward=reward.astype(jnp.float32),
            terminated=terminated,
            truncated=jnp.logical_and(truncated, jnp.logical_not(terminated)),
            final_obs=info["final_observation"],
            valid=jnp.ones_like(terminated),
        )
        return (state, obs), obs, row

    def picture_state(env_state: tuple[Any, Array]) -> Any:
        return env_state[0]

    return Env(
        spec=spec,
        reset=reset,
        step=step,
        observe=lambda env_state: env_state[1],
        every_row_valid=True,
        picture_state=picture_state,
        params=params,
    )
