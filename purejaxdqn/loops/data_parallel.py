"""Data-parallel training: one run over several devices, sharded environments, averaged gradients.

To a run it looks like one lane. Its state has the parameters once, and a leading axis of shards on everything that
differs between shards, so a checkpoint fits any number of devices.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config, require
from purejaxdqn.loops.counts import zero_metrics
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.evaluation import Evaluation
from purejaxdqn.loops.lanes import Lanes, Probed, lane_shapes, map_lane_leaves
from purejaxdqn.loops.plan import MEMORY_SHARE, tree_bytes
from purejaxdqn.loops.sharding import (
    SHARED,
    Spread,
    make_spread,
    on_first_device,
    over_shards,
    shapes_of_all,
    shapes_of_one,
    shard_axes,
    shardings,
)
from purejaxdqn.machine.devices import host_bytes
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.types import EpisodeLog, Hypers, Metrics, State


class DataPlan(NamedTuple):
    """How a run in shards is laid out."""

    spread: Spread
    device_bytes: int
    """Memory of the state on each device."""

    def describe(self) -> str:
        """A one-line description."""
        return f"1 run in {self.spread.describe()}, {self.device_bytes / 2**20:.1f} MB on each"


def device_bytes(spread: Spread, state: Any) -> int:
    """Bytes on each device of a state, given the shapes of all shards."""
    shared = tree_bytes([getattr(state, name) for name in SHARED])
    return shared + (tree_bytes(state) - shared) // spread.num_devices


def check_one_seed(config: Config, seeds: tuple[int, ...]) -> None:
    """Raises `SettingError` for more than one seed."""
    remedy = f"--data-parallel {config.data_parallel} gives all devices to one run: use 1"
    require(len(seeds) == 1, "seeds", len(seeds), remedy)


def check_room(config: Config, plan: DataPlan) -> None:
    """Raises `SettingError` if a state does not fit the devices' memory."""
    limit = (plan.spread.mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit")
    # The devices of a CPU share its memory.
    room = int(MEMORY_SHARE * (host_bytes() // plan.spread.num_devices if limit is None else limit))
    remedy = f"a device's shards take {plan.device_bytes / 2**20:.0f} MB, and {room / 2**20:.0f} MB fit: use less"
    require(plan.device_bytes <= room, "buffer_size", config.buffer_size, remedy)


def without_lane(tree: Any) -> Any:
    """The only lane of a tree with lanes."""
    return map_lane_leaves(lambda leaf: np.asarray(leaf)[0], tree)


def with_lane(tree: Any) -> Any:
    """The reverse of `without_lane`, in NumPy."""
    return map_lane_leaves(lambda leaf: np.asarray(leaf)[None], jax.device_get(tree))


def join_logs(log: EpisodeLog, counts: Array) -> EpisodeLog:
    """The first K episodes of all shards in the order of their ends, from the first K of each.

    Args:
      log: [N, K].
      counts: int32 [N], episodes of each shard; those beyond K are not in its log.
    """
    size = log.vector_steps.shape[1]
    written = jnp.arange(size)[None] < counts[:, None]
    # The environments of one shard come before those of the next, and a stable sort keeps them so.
    times = jnp.where(written, log.vector_steps, jnp.iinfo(jnp.int32).max)
    order = jnp.argsort(times.reshape(-1), stable=True)[:size]
    return jax.tree.map(lambda leaf: leaf.reshape(-1)[order], log)


def join_metrics(metrics: Metrics) -> Metrics:
    """Metrics of a run from those of its shards, [N] each: counts are summed, and shared values taken once."""
    added = {name: getattr(metrics, name).sum(axis=0) for name in ("episodes", "return_sum", "length_sum", "env_steps")}
    joined = jax.tree.map(lambda leaf: leaf[0], metrics)
    log = join_logs(metrics.log, metrics.episodes) if metrics.log else ()
    return dataclasses.replace(joined, **added, return_max=metrics.return_max.max(axis=0), log=log)


def make_data_lanes(
    config: Config,
    seeds: tuple[int, ...],
    eval_episodes: int = 100,
    eval_max_steps: int | None = None,
    num_devices: int | None = None,
) -> tuple[Parts, Lanes]:
    """A run in shards, with its environments on the devices, as the only lane; and its parts.

    Args:
      config: static settings, with `data_parallel` above 1.
      seeds: of the run.
      eval_episodes: episodes of each evaluation.
      eval_max_steps: steps after which an evaluation episode is cut and scored.
      num_devices: maximum number of devices; by default all.

    Raises:
      SettingError: for more than one seed, or a state that does not fit the devices' memory.
    """
    check_one_seed(config, seeds)
    agent = make_agent(config)

    def start(words: Array, hypers: Hypers, *params: Any) -> State:
        return agent.init(jax.random.wrap_key_data(words, impl=KEY_IMPL), hypers, *params)

    spread = make_spread(config.data_parallel, num_devices)
    one = shapes_of_one(start, jnp.zeros(2, jnp.uint32), Hypers().as_arrays())
    axes, shapes = shard_axes(one), shapes_of_all(one, config.data_parallel)
    plan = DataPlan(spread, device_bytes(spread, shapes))
    check_room(config, plan)
    everywhere, placed = shardings(spread, None), shardings(spread, axes)

    def init(*given: Any) -> State:
        return over_shards(spread, start, (None,) * len(given), axes)(*given)

    def iterate(state: State, hypers: Hypers, n: Array) -> tuple[State, Metrics]:
        state, metrics = over_shards(spread, agent.iterate, (axes, None, None), (axes, 0))(state, hypers, n)
        return state, join_metrics(metrics)

    def evaluate(params: Any, words: Array, epsilon: Array) -> Evaluation:
        key = jax.random.wrap_key_data(words, impl=KEY_IMPL)
        return agent.evaluate(params, key, episodes=eval_episodes, epsilon=epsilon, max_steps=eval_max_steps)

    jitted_init = jax.jit(init, out_shardings=placed)
    jitted_iterate = jax.jit(
        iterate,
        donate_argnums=0,
        in_shardings=(placed, everywhere, everywhere),
        out_shardings=(placed, everywhere),
    )
    jitted_evaluate = jax.jit(evaluate)
    metrics_shapes = jax.eval_shape(lambda: zero_metrics(config.log_episodes))
    lanes = Lanes(
        plan=plan,
        init=lambda words, hypers, params=None: jitted_init(*(x for x in (words, hypers, params) if x is not None)),
        iterate=lambda state, hypers, n: jitted_iterate(state, hypers, jnp.asarray(n, jnp.int32)),
        # Every device has the parameters, and the first one plays.
        evaluate=lambda params, words, epsilon: jitted_evaluate(
            *on_first_device((params, words)), jnp.float32(epsilon)
        ),
        put=lambda tree: jax.device_put(without_lane(tree), everywhere),
        get=with_lane,
        saved=with_lane,
        like=lane_shapes(shapes, 1),
        restored=lambda tree, hypers: jax.device_put(without_lane(tree), placed),
        probe=lambda fn: Probed(jax.eval_shape(fn, shapes, metrics_shapes), jax.jit(fn)),
    )
    return agent.parts, lanes
