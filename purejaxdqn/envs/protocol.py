"""What an environment on the device gives, checked by shapes and by a few steps before anything is trained."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import EnvSpec, SettingError, one_line, require
from purejaxdqn.envs.actions import EMPTY_MASK
from purejaxdqn.envs.interface import Env, Goals
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.machine.random_bits import random_actions
from purejaxdqn.observations.leaves import check_leaves, check_same, check_values, describe, leaves_of

T = TypeVar("T")
GOAL = ("achieved_goal", "desired_goal")
"""Parts of the observations of an environment with goals."""
PLAYED = 64
"""Steps that an environment which is not gymnax's own plays before anything is trained."""


def tried(name: str, what: str, call: Callable[[], T]) -> T:
    """Calls something of a user's.

    Raises:
      SettingError: with what it raised, in one sentence that has the name.
    """
    try:
        return call()
    except SettingError as error:
        # Under the name by which it was asked for.
        raise SettingError(error.field, name if error.field == "env" else error.value, error.remedy) from error
    except Exception as error:
        raise SettingError("env", name, f"{what} raised {type(error).__name__}: {one_line(error)}") from error


def made_to_render(make: Callable[..., Any]) -> Any:
    """An environment of Gymnasium that gives pictures, where it can be made so: not every class takes a render mode."""
    try:
        return make(render_mode="rgb_array")
    except TypeError:
        return make()


def has_methods(env: Any, *names: str) -> bool:
    """Whether an object has methods of all these names."""
    return all(callable(getattr(env, name, None)) for name in names)


def check_protocol(
    name: str, reset: Callable[..., Any], step: Callable[..., Any], num_obs_values: Any, obs_scale: Any
) -> dict[str, Any]:
    """The fields of `EnvSpec` that say what one environment's observations are.

    Args:
      name: of the environment, for errors.
      reset: (key) -> obs, state, with plain trees of arrays as observations.
      step: (key, state, action) -> obs, state, reward, terminated, truncated.
      num_obs_values: what is said of the observations, as in `EnvSpec`.
      obs_scale: likewise.

    Raises:
      SettingError: where what it gives is not what a run can learn from.
    """
    key = jax.random.key(0)
    obs, state = jax.eval_shape(reset, key)
    fields = describe(name, obs, num_obs_values, obs_scale)
    keys = any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    require(not keys, "env", name, "its state holds a typed PRNG key: keep its words, jax.random.key_data(key)")
    after, _, reward, terminated, truncated = jax.eval_shape(step, key, state, jnp.int32(0))
    spec = EnvSpec(env_id=name, num_actions=1, time_limit=1, **fields)
    check_same(spec, after, "its observations{of} are {said}, and {found} later")
    for what, found in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
        require(found.shape == (), "env", name, f"its {what} has the shape {found.shape}: give a scalar")
    return fields


def check_state(name: str, reset: Callable[..., Any], step: Callable[..., Any]) -> None:
    """Raises `SettingError` where one environment's state changes its structure, or a leaf its shape or dtype."""
    key = jax.random.key(0)
    _, state = jax.eval_shape(reset, key)
    _, after, *_ = jax.eval_shape(step, key, state, jnp.int32(0))
    parts = [jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (state, after)]
    first, later = ({jax.tree_util.keystr(path): leaf for path, leaf in part} for part in parts)
    remedy = "its state changes its structure from reset to step: give back what came in, with new values"
    before, now_is = (str(jax.tree.structure(tree)) for tree in (state, after))
    require(before == now_is, "env", name, remedy)
    for path, leaf in first.items():
        was, now = (f"{found.shape} {found.dtype}" for found in (leaf, later[path]))
        require(was == now, "env", name, f"its state{path} is {was} at a reset, and {now} after a step")


def check_mask(name: str, reset: Callable[..., Any], mask: Callable[[Any], Any], action_sizes: tuple[int, ...]) -> bool:
    """Whether an environment of one has an action mask.

    Args:
      name: of the environment, for errors.
      reset: (key) -> obs, state.
      mask: (state) -> mask, or None.
      action_sizes: choices of each part of an action.

    Raises:
      SettingError: where it is not one truth value for each action.
    """
    found = jax.eval_shape(lambda key: mask(reset(key)[1]), jax.random.key(0))
    if found is None:
        return False
    require(isinstance(found, jax.ShapeDtypeStruct), "env", name, "its mask is not one array: give one of truth values")
    remedy = f"its mask is {found.shape} {found.dtype}: give {action_sizes} bool, True for each action that is legal"
    require((found.shape, found.dtype) == (action_sizes, bool), "env", name, remedy)
    return True


def check_goals(spec: EnvSpec, goals: Goals | None) -> None:
    """Raises `SettingError` where observations hold no goals, though there are functions of them, or these do not fit.

    Args:
      spec: of the environment.
      goals: its functions, or None.
    """
    if goals is None:
        return
    name, leaves = spec.env_id, leaves_of(spec)
    pair = [leaves.get(part) if isinstance(leaves, dict) else None for part in GOAL]
    shapes = [jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), part) for part in pair]
    remedy = "its rewards follow from goals: give observations that are dicts with achieved_goal and desired_goal"
    require(None not in pair, "env", name, remedy)
    require(shapes[0] == shapes[1], "env", name, "its achieved_goal and desired_goal differ: give arrays alike")
    for what, function in goals._asdict().items():
        found = tried(name, f"its {what} of goals", partial(jax.eval_shape, function, *shapes))
        remedy = f"its {what} of goals has the shape {jnp.shape(found)}: give a scalar"
        require(jnp.shape(found) == (), "env", name, remedy)


def broken_promises(goals: Goals | None, row: Any) -> Any:
    """bool [2, E]: a reward is another than that of the goals, a step goes on where they end; None without goals."""
    if goals is None:
        return None
    reward, over = (jax.vmap(function)(*(row.final_obs[part] for part in GOAL)) for function in goals)
    return jnp.stack([jnp.abs(reward - row.reward) > 1e-5 * (1.0 + jnp.abs(reward)), over & ~row.terminated])


def check_env_record(env: Env) -> None:
    """Raises `SettingError` where an `Env` that somebody made by hand does not give what its spec says."""
    spec, count = env.spec, 3
    key, action = jax.random.key(0), jnp.zeros(count, jnp.int32)
    state, obs = jax.eval_shape(lambda key: env.reset(key, count), key)
    _, after, row = jax.eval_shape(env.step, key, state, action)
    check_leaves(spec)
    for what, found in (("reset", obs), ("step", after), ("row.obs", row.obs), ("row.final_obs", row.final_obs)):
        check_same(spec, found, f"{what} gives observations{{of}} {{found}}, and its spec says {{said}}", (count,))
        of_plain = str(jax.tree.structure(found)) == str(jax.tree.structure(leaves_of(spec)))
        require(
            of_plain,
            "env",
            spec.env_id,
            f"{what} gives other trees than dicts and tuples: use observations.leaves.plain",
        )
    for what in ("action", "reward", "terminated", "truncated", "valid"):
        found = getattr(row, what)
        remedy = f"row.{what} has the shape {found.shape}: give one for each environment, {(count,)}"
        require(found.shape == (count,), "env", spec.env_id, remedy)
    masks = {"mask": jax.eval_shape(env.mask, state), "row.mask": row.mask, "row.final_mask": row.final_mask}
    for what, found in masks.items():
        given = "none" if found is None else f"{found.shape} {found.dtype}"
        due = f"{(count, spec.num_actions)} bool" if spec.masked else "none"
        require(given == due, "env", spec.env_id, f"its {what} is {given}, and its spec says {due}")
    check_goals(spec, env.goals)


def check_played(env: Env) -> None:
    """Plays some steps.

    Raises:
      SettingError: for a reward that is no finite number or not that of the goals, a mask without any legal action, or
        what `check_values` refuses.
    """
    spec: EnvSpec = env.spec

    def play(state: Any, key: Array) -> tuple[Any, tuple[Any, ...]]:
        action_key, step_key = jax.random.split(key)
        action = random_actions(action_key, 1, spec.num_actions, env.mask(state))
        state, obs, row = env.step(step_key, state, action)
        return state, (obs, row.reward, env.mask(state), broken_promises(env.goals, row))

    @jax.jit
    @in_usual_modes
    def playing() -> tuple[Any, Array, Any, Any]:
        state, first = env.reset(jax.random.key(0), 1)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)
        _, (obs, *told) = jax.lax.scan(play, state, jax.random.split(jax.random.key(1), PLAYED))
        return jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), first, obs), *told

    obs, reward, mask, broken = playing()
    require(bool(jnp.isfinite(reward).all()), "env", spec.env_id, "it gives rewards that are no finite numbers")
    require(mask is None or bool(mask.any(axis=-1).all()), "env", spec.env_id, EMPTY_MASK)
    for what, found in () if broken is None else zip(("reward", "terminated"), broken.any(axis=(0, 2)), strict=True):
        remedy = f"its step gives another {what} than its goals do for what is achieved after it: give the same"
        require(not found, "env", spec.env_id, remedy)
    check_values(spec, obs)
