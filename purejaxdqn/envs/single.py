"""`batch_env`: an environment from two plain functions of one, batched and reset here."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import sequential_vmap

from purejaxdqn.bounds import INT32, MOST_COMBINATIONS, whole
from purejaxdqn.config import EnvSpec, require
from purejaxdqn.envs.actions import flat_actions
from purejaxdqn.envs.interface import Env, Goals
from purejaxdqn.envs.protocol import check_goals, check_mask, check_played, check_protocol, check_state, tried
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.observations.leaves import arrays_of, plain
from purejaxdqn.types import Row

Advance = Callable[[Array, Any, Array, Array], tuple[Any, ...]]
"""(key, state, action, steps of the episode with this one) -> obs, state, reward, terminated, truncated."""


def goes_on(achieved: Any, desired: Any) -> Array:
    """Where no goal ends an episode."""
    del achieved, desired
    return jnp.zeros((), bool)


def no_mask(state: Any) -> None:
    """The mask of an environment that has none."""
    del state


@in_usual_modes
def batch_env(
    reset: Callable[[Array], tuple[Any, Any]],
    step: Callable[[Array, Any, Array], tuple[Any, ...]],
    *,
    num_actions: int | Sequence[int],
    time_limit: int | None = None,
    num_obs_values: Any = None,
    obs_scale: Any = None,
    mask: Callable[[Any], Any] = no_mask,
    sequential_resets: bool = False,
    compute_reward: Callable[[Any, Any], Any] | None = None,
    compute_terminated: Callable[[Any, Any], Any] = goes_on,
    name: str = "environment",
) -> Env:
    """An environment from two pure functions of ONE environment, without a batch and without any reset of its own.

    It is vmapped here, and reset here in the step that ends an episode, whose true last observation is kept.

    Args:
      reset: (key) -> obs, state. The observation is one array, or any tree of arrays, such as a dict; so is the state.
      step: (key, state, action int32 []) -> obs, state, reward, terminated, and where there is no `time_limit` also
        truncated: the episode was cut, and the task is not over.
      num_actions: actions are the whole numbers from 0 to num_actions - 1. Several numbers make an action of several
        parts, each with so many choices: `step` is then given int32 [parts], and a run chooses one of all combinations.
      time_limit: environment steps after which an episode is cut here; None where the step says so itself.
      num_obs_values: number of values of a discrete observation, which the network is fed as one-hot; None for arrays.
        Of a tree it is a tree, too, which may leave out parts: `{"direction": 4}`.
      obs_scale: what an observation's numbers are divided by, likewise; None for 255 of uint8 pictures, and 1 else.
      mask: (state) -> bool [num_actions], True for the actions that are legal there, at least one unless it is a last
        state; of an action of several parts one axis for each part. By default all are legal everywhere.
      sequential_resets: whether environments are reset one after another, and in a step those alone whose episode
        ended, with the same numbers. For a `reset` that is dear: vmapped, it is computed for every environment in
        every step.
      compute_reward: (achieved_goal after a step, desired_goal) -> the step's reward, of an environment whose
        observations are dicts with both, for `--hindsight`.
      compute_terminated: (the same) -> whether the step ends the episode by that; by default none does.
      name: for errors and titles, where no other name is given to it.

    Raises:
      SettingError: where they do not give these, or not twice the same shapes and types.
    """
    if time_limit is not None:
        whole("time_limit", time_limit)
    wanted = "obs, state, reward, terminated" + (", truncated" if time_limit is None else "")

    def advance(key: Array, state: Any, action: Array, count: Array) -> tuple[Any, ...]:
        found = step(key, state, action)
        size = len(found) if isinstance(found, tuple | list) else 1
        remedy = f"its step gives {size} value{'s' * (size > 1)}: give {wanted}"
        require(size == wanted.count(",") + 1, "env", name, remedy)
        cut = count >= time_limit if time_limit is not None else found[4]
        return found[0], found[1], found[2], found[3], cut

    said = {"num_obs_values": num_obs_values, "obs_scale": obs_scale}
    goals = None if compute_reward is None else Goals(compute_reward, compute_terminated)
    return reset_by_itself(name, reset, advance, num_actions, said, time_limit, mask, sequential_resets, goals)


def reset_by_itself(
    name: str,
    reset: Callable[[Array], tuple[Any, Any]],
    advance: Advance,
    num_actions: int | Sequence[int],
    said: dict[str, Any],
    time_limit: int | None,
    mask: Callable[[Any], Any] = no_mask,
    sequential_resets: bool = False,
    goals: Goals | None = None,
) -> Env:
    """What `batch_env` makes, from a step that is told how many steps its episode has had.

    `said` has `num_obs_values` and `obs_scale` as in `EnvSpec`, and observations become plain trees here. Keys are
    split as gymnax splits them, so that its environments give the same numbers either way.
    """
    # A mask has an entry for each combination.
    action_sizes, number = flat_actions(name, num_actions, INT32 if mask is no_mask else MOST_COMBINATIONS)

    def parts_of(action: Array) -> Array:
        return action if action_sizes is None else jnp.stack(jnp.unravel_index(action, action_sizes))

    def flat_mask(state: Any) -> Any:
        return jax.tree.map(jnp.ravel, mask(state))

    def step_one(key: Array, held: Any, action: Array) -> tuple[Any, ...]:
        state, count = held
        step_key, reset_key = jax.random.split(key)
        last, state, reward, terminated, truncated = advance(step_key, state, parts_of(action), count + 1)
        terminated = jnp.asarray(terminated, bool)
        truncated = jnp.logical_and(jnp.asarray(truncated, bool), jnp.logical_not(terminated))
        over, last_mask = jnp.logical_or(terminated, truncated), flat_mask(state)
        told = jnp.asarray(reward, jnp.float32), terminated, truncated, last_mask
        return reset_key, over, (plain(last), state), jnp.where(over, 0, count + 1), told

    def begin_another(key: Array, over: Array, ended: Any) -> Any:
        return jax.tree.map(lambda new, old: jnp.where(over, new, old), begin(key), ended)

    def begin_others_in_turn(keys: Array, over: Array, ended: Any) -> Any:
        places = jnp.argsort(jnp.logical_not(over))

        def one(index: Array, held: Any) -> Any:
            place = places[index]
            return jax.tree.map(lambda old, new: old.at[place].set(new), held, begin(keys[place]))

        return jax.lax.fori_loop(0, over.sum(), one, ended)

    begin_others = begin_others_in_turn if sequential_resets else jax.vmap(begin_another)

    def reset_all(key: Array, num_envs: int) -> tuple[Any, Array]:
        obs, state = jax.vmap(begin)(jax.random.split(key, num_envs))
        return ((state, jnp.zeros(num_envs, jnp.int32)), obs), obs

    def step_all(key: Array, env_state: Any, action: Array) -> tuple[Any, Array, Row]:
        held, obs_tm1 = env_state
        keys = jax.random.split(key, action.shape[0])
        mask_tm1 = masks(env_state)
        reset_keys, over, ended, count, told = jax.vmap(step_one)(keys, held, action)
        obs, state = begin_others(reset_keys, over, ended)
        reward, terminated, truncated, last_mask = told
        row = Row(
            obs=obs_tm1,
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            final_obs=ended[0],
            valid=jnp.ones_like(terminated),
            mask=mask_tm1,
            final_mask=last_mask,
        )
        return ((state, count), obs), obs, row

    def masks(env_state: Any) -> Any:
        return jax.vmap(flat_mask)(env_state[0][0])

    def once(key: Array, state: Any, action: Array) -> tuple[Any, ...]:
        obs, *rest = advance(key, state, parts_of(action), jnp.int32(1))
        return arrays_of(name, obs), *jax.tree.map(jnp.asarray, rest)

    def begin_one(key: Array) -> tuple[Any, Any]:
        found = reset(key)
        pair = isinstance(found, tuple | list) and len(found) == 2
        require(pair, "env", name, "its reset gives no pair: give obs, state")
        return plain(found[0]), found[1]

    # A loop also where environments, or runs, are vmapped.
    begin = sequential_vmap(begin_one) if sequential_resets else begin_one

    def first(key: Array) -> tuple[Any, Any]:
        obs, state = begin(key)
        return arrays_of(name, obs), jax.tree.map(jnp.asarray, state)

    tried(name, "its reset", lambda: jax.eval_shape(first, jax.random.key(0)))
    fields = tried(name, "its step", lambda: check_protocol(name, first, once, **said))
    check_state(name, first, once)
    masked = tried(name, "its mask", lambda: check_mask(name, first, mask, action_sizes or (number,)))
    spec = EnvSpec(
        env_id=name,
        num_actions=number,
        **fields,
        time_limit=INT32 if time_limit is None else int(time_limit),
        fewest_steps=1 if time_limit is None else int(time_limit),
        masked=masked,
        action_sizes=action_sizes,
    )
    env = Env(
        spec=spec,
        reset=reset_all,
        step=step_all,
        observe=lambda env_state: env_state[1],
        every_row_valid=True,
        picture_state=lambda env_state: env_state[0][0],
        params=None,
        mask=masks,
        goals=goals,
    )
    check_goals(spec, goals)
    check_played(env)
    return env
