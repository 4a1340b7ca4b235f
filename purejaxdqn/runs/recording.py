"""Datasets of runs: what a replay holds when training ends, and episodes that a trained policy plays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.build import Parts
from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.loops.evaluation import MAX_STEPS
from purejaxdqn.machine.threefry import run_key_of
from purejaxdqn.networks.windows import begin
from purejaxdqn.observations.leaves import longest_stack
from purejaxdqn.replay.dataset import Dataset, check_path, join, steps_of
from purejaxdqn.replay.frames import FrameStore, read_stacks
from purejaxdqn.replay.hindsight import GoalStore
from purejaxdqn.replay.prioritized import PrioritizedMemory
from purejaxdqn.replay.sequences import WindowStore
from purejaxdqn.types import Row

FIELD = "save_dataset"
READ_AT_ONCE = 4_096
"""Observations that are rebuilt from frames at once."""


def check_saves(config: Config, name: str) -> None:
    """Raises `SettingError` where a run's replay does not hold the steps as the environment gave them, or no file of
    that name can be written."""
    check_path(FIELD, name)
    remedy = f"the {config.learner} learner keeps no steps of its own: play some by python -m purejaxdqn.evaluate RUN"
    require(config.learner == "replay", FIELD, name, remedy)
    require(
        config.data_parallel == 1, FIELD, name, "the replay of a run with --data-parallel is in parts: leave it out"
    )
    plain = {"reward_shaping": "none", "last_step_reward": None, "reward_scale": 1.0}
    plain |= {"mask_terminals": True, "bootstrap_truncation": True}
    changed = [field for field, value in plain.items() if getattr(config, field) != value]
    remedy = (
        f"the replay holds rewards and ends as --{'-'.join(changed)} has them, not the environment's: leave one out"
    )
    require(not changed, FIELD, name, remedy.replace("_", "-"))


def dataset_of(spec: EnvSpec, memory: Any, seeds: tuple[int, ...]) -> Dataset:
    """The steps that the replays of a run hold, environment after environment, each in the order of time.

    Args:
      spec: of the environment.
      memory: of all lanes, in numpy, [L, ...] but for counters.
      seeds: of the lanes.
    """
    memory = getattr(memory, "own", memory)
    store = memory.store if isinstance(memory, PrioritizedMemory) else memory
    store = store.steps if isinstance(store, WindowStore | GoalStore) else store
    parts = []
    for lane, seed in enumerate(seeds):
        written = int(store.ring.written.count)
        rows, final = jax.tree.map(lambda leaf, lane=lane: np.asarray(leaf)[lane], (store.ring.rows, finals_of(store)))
        capacity = rows.action.shape[0]
        times = np.arange(max(0, written - capacity), written)
        if isinstance(store, FrameStore) and written > capacity:
            # The oldest are stacked with what has been overwritten.
            times = times[longest_stack(spec) - 1 :]
        for env in range(rows.action.shape[1]):
            plain, after, known, after_mask = read_writer(spec, store, rows, final, times, env)
            found = steps_of(plain, after, known, after_mask, seed, begins=bool(times[0] == 0))
            parts += [] if found is None else [found]
    return join(parts)


def finals_of(store: Any) -> Any:
    """What a store keeps beside its ring, of all lanes."""
    return () if isinstance(store, FrameStore) else (store.final_obs, store.final_time, store.final_mask)


def read_writer(spec: EnvSpec, store: Any, rows: Any, final: Any, times: np.ndarray, env: int) -> tuple[Any, ...]:
    """One environment's rows of a lane, and the observations after them, as `steps_of` takes them."""
    place = times % rows.action.shape[0]
    names = ("action", "reward", "terminated", "truncated", "valid")
    plain = {name: getattr(rows, name)[place, env] for name in names}
    plain["mask"] = None if rows.mask is None else rows.mask[place, env]
    followed = np.arange(len(times)) < len(times) - 1

    def shifted(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: np.concatenate([leaf[1:], leaf[-1:]]), tree)

    if isinstance(store, FrameStore):
        ring = store.ring.replace(rows=rows)  # type: ignore[attr-defined]
        chunks = [times[i : i + READ_AT_ONCE] for i in range(0, len(times), READ_AT_ONCE)]
        read = [read_stacks(spec, ring, jnp.asarray(chunk), jnp.full(len(chunk), env)) for chunk in chunks]
        obs = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *read)
        return plain | {"obs": obs}, shifted(obs), followed, shifted(plain["mask"])
    obs = jax.tree.map(lambda leaf: leaf[place, env], rows.obs)
    final_obs, final_time, final_mask = final
    slot = (times // store.time_limit) % final_time.shape[0]
    cut, held = plain["truncated"], final_time[slot, env] == times

    def after(following: np.ndarray, kept: np.ndarray) -> np.ndarray:
        return np.where(cut.reshape(-1, *[1] * (following.ndim - 1)), kept[slot, env], following)

    next_obs, next_mask = jax.tree.map(after, shifted((obs, plain["mask"])), (final_obs, final_mask))
    known = np.where(cut, held, followed & ~plain["terminated"])
    return plain | {"obs": obs}, next_obs, known, next_mask


def play_dataset(
    parts: Parts, params: Any, key: jax.Array, seed: int, episodes: int, epsilon: float, max_steps: int | None
) -> Dataset:
    """Plays episodes side by side, as an evaluation does, and keeps their steps.

    Args:
      parts: of a run on the device.
      params: of one seed's network.
      key: PRNG key.
      seed: whose episodes they are said to be.
      episodes: how many.
      epsilon: probability of a random action.
      max_steps: steps after which an episode is cut; by default `MAX_STEPS`.
    """
    limit = min(parts.env.spec.time_limit, max_steps or MAX_STEPS)
    reset_key, play_key = jax.random.split(run_key_of(key))

    @jax.jit
    def step(params: Any, env: Any, recall: Any, index: jax.Array) -> tuple[Any, Any, Row]:
        network_key, action_key, step_key = jax.random.split(jax.random.fold_in(play_key, index), 3)
        dist, recall = parts.network.step(params, parts.env.observe(env), recall, network_key, "greedy")
        action = epsilon_greedy(action_key, parts.head.q_values(dist), epsilon, parts.env.mask(env))
        env, _, row = parts.env.step(step_key, env, action)
        return env, begin(recall, jnp.logical_or(row.terminated, row.truncated)), row

    recall = parts.network.init_carry(episodes)
    env, _ = jax.jit(parts.env.reset, static_argnums=1)(reset_key, episodes)
    running, rows = np.ones(episodes, bool), []
    for index in range(limit):
        env, recall, row = step(params, env, recall, jnp.int32(index))
        found = jax.tree.map(np.asarray, row)
        cut = found.truncated | (~found.terminated & found.valid & (index + 1 == limit))
        rows.append(found.replace(truncated=cut, valid=found.valid & running))
        running = running & ~(found.valid & (found.terminated | cut))
        if not running.any():
            break
    whole = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    names = ("obs", "action", "reward", "terminated", "truncated", "valid", "mask")
    played = []
    for one in range(episodes):
        lane = jax.tree.map(lambda leaf, one=one: leaf[:, one], whole)
        known = np.ones(len(rows), bool)
        played.append(
            steps_of({name: getattr(lane, name) for name in names}, lane.final_obs, known, lane.final_mask, seed, True)
        )
    return join([found for found in played if found is not None])


def check_plays(config: Config, name: str) -> None:
    """Raises `SettingError` where episodes are not played on the device, or no file of that name can be written."""
    check_path(FIELD, name)
    remedy = "its environments step on the host: record a run's own steps by train --save-dataset"
    require(loop_of(config.env) == "device", FIELD, name, remedy)
