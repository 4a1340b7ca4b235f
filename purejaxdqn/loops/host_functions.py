"""The jitted functions of the host loop: unpacking a step, acting, and learning."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.envs.interface import HostStep
from purejaxdqn.learn import LearnMetrics, init_learner
from purejaxdqn.learning.explore import env_steps_at, epsilon_at, epsilon_greedy
from purejaxdqn.learning.normalization import Seen
from purejaxdqn.loops.acting import make_acting
from purejaxdqn.machine.shards import as_only_one, make_shards
from purejaxdqn.machine.threefry import FUSED_IMPL, run_key_of
from purejaxdqn.observations.leaves import Leaf, leaves_of, list_leaves, zeros
from purejaxdqn.types import Counter, Hypers, Learner, Row, counter

LEARNING = 2**31 - 1
"""Stream of the run's key for learning; those of its vector steps never reach this number."""


@struct.dataclass
class Actor:
    """The device's state of a group of environments."""

    obs: Any
    """[B, ...] (or a tree) what the network is fed next, or was fed last."""
    action: Array
    """int32 [B], chosen on it."""
    explorer: Any = ()
    """What acting carries, [B, ...]: the explorer's, and that of a memory; () for nothing."""
    mask: Any = None
    """bool [B, A], the legal actions of obs; None in an environment without action masks."""


@struct.dataclass
class HostState:
    """Everything that a run depends on, except the environments, which live on the host."""

    vector_steps: Counter
    learner: Learner
    memory: Any
    actors: tuple[Actor, ...]
    """One for each group."""
    key_data: Array
    """uint32 [2]: raw threefry key."""


class HostFunctions(NamedTuple):
    """The device's part of the loop, jitted. In a sharded run, per-shard arrays have a leading axis of shards:
    observations are [N, B / N, ...] and actions [N, B / N], in the environments' order."""

    init: Callable[[Array, Hypers], HostState]
    """(key, hypers) -> state with an empty replay and actors that have seen nothing."""
    receive: Callable[[Actor, np.ndarray], tuple[Actor, Row]]
    """(actor, packed step) -> actor with the new observation, and the row completed by the step, [1, B]."""
    act: Callable[..., tuple[Array, Any]]
    """(parameters, obs, mask or None, carried, key data, hypers, vector steps so far, number of the draw, group) ->
    actions int32 [B], carried."""
    begin: Callable[[Any, np.ndarray], Any]
    """(carried, packed step) -> carried, as it is where episodes begin; `receive` does this too."""
    epsilon: Callable[[Hypers, int], Array]
    """(hypers, environment steps) -> ε."""
    greet: Callable[[Any, np.ndarray], Any]
    """(obs, packed step) -> newer obs: all that playing without learning needs of a step."""
    mask: Callable[[np.ndarray], np.ndarray | None]
    """(packed step) -> bool [B, A], the legal actions; None in an environment without action masks."""
    play: Callable[[Any, Array, Any, Any, Array, float], tuple[Array, Any]]
    """(parameters, obs, what a memory carries, mask, key, ε) -> actions int32 [B], carried; without noise in the
    network."""
    add: Callable[[Any, tuple[Row, ...]], Any]
    """(memory, rows) -> memory; the memory given is donated."""
    follow: Callable[[Seen, tuple[Row, ...], Hypers], Seen]
    """(what a learner has seen, rows, hypers) -> the same with these rows, where no learning phase is given them."""
    learn_key: Callable[[Array], Array]
    """Key data of the run -> the key of its learning phases."""
    learn: Callable[..., tuple[Learner, Any, LearnMetrics]]
    """(learner, memory, metrics, rows, key data, hypers) -> the same three; those given are donated."""
    place: Callable[[HostState], HostState] = jax.device_put
    """state on any device -> the same on the devices where it belongs."""


class ShardFunctions(NamedTuple):
    """The part of `HostFunctions` that every shard computes, not jitted; without shards, for the whole run."""

    init: Callable[..., HostState]
    receive: Callable[..., tuple[Actor, Row]]
    act: Callable[..., tuple[Array, Any]]
    add: Callable[..., Any]
    follow: Callable[..., Seen]
    learn: Callable[..., tuple[Learner, Any, LearnMetrics]]


def pack(step: HostStep) -> np.ndarray:
    """Packs everything that the device needs into one uint8 array [B, bytes]: one transfer instead of five."""
    size = len(step.reward)
    flags = np.stack([step.terminated, step.truncated, step.begins], axis=1).view(np.uint8)
    reward = np.ascontiguousarray(step.reward, np.float32).view(np.uint8).reshape(size, 4)
    mask = [] if step.mask is None else [step.mask.view(np.uint8)]
    arrays = [np.ascontiguousarray(leaf).reshape(size, -1).view(np.uint8) for leaf in jax.tree.leaves(step.frame)]
    return np.concatenate([*arrays, reward, flags, *mask], axis=1)


def unpack(spec: EnvSpec, packed: Array) -> tuple[Any, Array, Array, Array, Array]:
    """The reverse of `pack`: frame [B, *frame_shape] or a tree, reward, terminated, truncated and begins, each [B].

    The action mask is apart: see `packed_mask`.
    """
    if spec.masked:
        packed = packed[:, : -spec.num_actions]
    ends = np.cumsum([*(frame_bytes(leaf) for leaf in list_leaves(spec)), 4])
    *arrays, reward, flags = jnp.split(packed, ends.tolist(), axis=1)
    terminated, truncated, begins = (flags != 0).T
    leaves = leaves_of(spec)
    return (
        jax.tree.map(as_frame, leaves, jax.tree.unflatten(jax.tree.structure(leaves), arrays)),
        jax.lax.bitcast_convert_type(reward, jnp.float32),
        terminated,
        truncated,
        begins,
    )


def packed_mask(spec: EnvSpec, packed: Any) -> Any:
    """The action mask of a packed step, in NumPy or JAX, bool [B, A]; None where there are no masks."""
    return packed[:, -spec.num_actions :] != 0 if spec.masked else None


def as_frame(leaf: Leaf, packed: Array) -> Array:
    """Frames [B, *frame_shape] of one array from their bytes."""
    size, dtype = packed.shape[0], jnp.dtype(leaf.dtype)
    if dtype.itemsize > 1:
        packed = jax.lax.bitcast_convert_type(packed.reshape(size, -1, dtype.itemsize), dtype)
    return packed.astype(dtype).reshape(size, *leaf.frame_shape)


def push_frame(spec: EnvSpec, obs: Any, frame: Any, begins: Array) -> Any:
    """Observations [B, ...] with a newer frame. The first frame of an episode fills the whole stack."""

    def push(leaf: Leaf, obs: Array, frame: Array) -> Array:
        if leaf.frame_stack == 1:
            return frame
        channels = leaf.frame_shape[-1]
        pushed = jnp.concatenate([obs[..., channels:], frame], axis=-1)
        tiled = jnp.concatenate([frame] * leaf.frame_stack, axis=-1)
        return jnp.where(begins.reshape(-1, *[1] * (obs.ndim - 1)), tiled, pushed)

    return jax.tree.map(push, leaves_of(spec), obs, frame)


def greet(spec: EnvSpec, obs: Any, packed: Array) -> Any:
    """Observations [B, ...] after a packed step: all that playing without learning needs of it."""
    frame, _, _, _, begins = unpack(spec, packed)
    return push_frame(spec, obs, frame, begins)


def learn_key(key_data: Array) -> Array:
    """The key of a run's learning phases."""
    return jax.random.fold_in(jax.random.wrap_key_data(key_data, impl=FUSED_IMPL), LEARNING)


def make_shard_functions(config: Config, parts: Parts) -> ShardFunctions:
    """The functions of one shard of a configuration, or of all of a run without shards."""
    spec, shards, acting = parts.env.spec, make_shards(config.data_parallel), make_acting(config, parts)
    group_size = config.shard_envs // parts.env.num_groups

    def init(key: Array, hypers: Hypers) -> HostState:
        h = hypers.as_arrays()
        param_key, run_key = jax.random.split(run_key_of(key))
        idle = Actor(
            obs=zeros(spec, group_size),
            action=jnp.zeros(group_size, jnp.int32),
            explorer=acting.init(group_size),
            mask=jnp.zeros((group_size, spec.num_actions), bool) if spec.masked else None,
        )
        no_step = jnp.zeros((group_size, packed_bytes(spec)), jnp.uint8)
        _, row = jax.eval_shape(receive, idle, no_step)
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), row)
        return HostState(
            vector_steps=counter(),
            learner=init_learner(config, parts.network, param_key, h),
            memory=parts.replay.init(one),
            actors=tuple(jax.tree.map(jnp.copy, idle) for _ in range(parts.env.num_groups)),
            key_data=jax.random.key_data(run_key),
        )

    def receive(actor: Actor, packed: Array) -> tuple[Actor, Row]:
        frame, reward, terminated, truncated, begins = unpack(spec, packed)
        obs, mask = push_frame(spec, actor.obs, frame, begins), packed_mask(spec, packed)
        row = Row(
            obs=actor.obs,
            action=actor.action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            # Where the episode goes on or has just ended this is the true next one; elsewhere the row is no transition.
            final_obs=obs,
            valid=jnp.logical_not(begins),
            mask=actor.mask,
            final_mask=mask,
        )
        newer = Actor(obs=obs, action=actor.action, explorer=acting.begin(actor.explorer, begins), mask=mask)
        return newer, as_only_one(acting.record(parts.view(row), actor.explorer))

    def act(
        params: Any,
        obs: Any,
        mask: Array | None,
        carried: Any,
        key_data: Array,
        h: Hypers,
        vector_steps: Array,
        draw: Array,
        group: Array,
    ) -> tuple[Array, Any]:
        key = jax.random.fold_in(jax.random.wrap_key_data(key_data, impl=FUSED_IMPL), draw)
        network_key, action_key = jax.random.split(shards.own_keys(jax.random.fold_in(key, group)))
        epsilon = epsilon_at(config, h, env_steps_at(config, vector_steps))
        if config.prefill == "random":
            epsilon = jnp.where(vector_steps < config.prefill_steps, 1.0, epsilon)

        def envs() -> Array:
            return (group * shards.number) * group_size + shards.own_part(jnp.arange(shards.number * group_size))

        return acting.choose(params, obs, mask, carried, (network_key, action_key), epsilon, envs, h)

    def join(rows: tuple[Row, ...]) -> Row:
        """Rows [T, E] joined from those of every group at every step, in time order."""
        groups = parts.env.num_groups
        steps = [rows[i : i + groups] for i in range(0, len(rows), groups)]
        whole = [jax.tree.map(lambda *leaf: jnp.concatenate(leaf, axis=1), *step) for step in steps]
        return jax.tree.map(lambda *leaf: jnp.concatenate(leaf, axis=0), *whole)

    def add(memory: Any, rows: tuple[Row, ...]) -> Any:
        return parts.replay.add(memory, join(rows))

    def follow(seen: Seen, rows: tuple[Row, ...], h: Hypers) -> Seen:
        return parts.follow(seen, join(rows), h)

    def learn(
        learner: Learner, memory: Any, total: LearnMetrics, rows: tuple[Row, ...], key_data: Array, h: Hypers
    ) -> tuple[Learner, Any, LearnMetrics]:
        key = learn_key(key_data)
        learner, memory, metrics = parts.learn(learner, memory, join(rows) if rows else None, key, h)
        return learner, memory, jax.tree.map(jnp.add, total, metrics)

    return ShardFunctions(init=init, receive=receive, act=act, add=add, follow=follow, learn=learn)


def make_host_functions(config: Config, parts: Parts) -> HostFunctions:
    """The device's part of the loop for a configuration; with `data_parallel`, see `loops.host_sharding`."""
    functions, acting = make_shard_functions(config, parts), make_acting(config, parts)

    def play(params: Any, obs: Any, recall: Any, mask: Array | None, key: Array, epsilon: Array) -> tuple[Array, Any]:
        network_key, action_key = jax.random.split(key)
        dist, recall = parts.network.step(params, obs, recall, network_key, "greedy")
        return epsilon_greedy(action_key, parts.head.q_values(dist), epsilon, mask), recall

    return HostFunctions(
        init=jax.jit(functions.init),
        receive=jax.jit(functions.receive),
        act=jax.jit(functions.act),
        begin=jax.jit(lambda carried, packed: acting.begin(carried, unpack(parts.env.spec, packed)[4])),
        epsilon=jax.jit(lambda h, vector_steps: epsilon_at(config, h, env_steps_at(config, vector_steps))),
        greet=jax.jit(partial(greet, parts.env.spec)),
        mask=partial(packed_mask, parts.env.spec),
        play=jax.jit(play),
        add=jax.jit(functions.add, donate_argnums=0),
        follow=jax.jit(functions.follow),
        learn_key=learn_key,
        learn=jax.jit(functions.learn, donate_argnums=(0, 1, 2)),
    )


def packed_bytes(spec: EnvSpec) -> int:
    """Bytes of one environment's packed step."""
    mask = spec.num_actions if spec.masked else 0
    return sum(frame_bytes(leaf) for leaf in list_leaves(spec)) + 7 + mask


def frame_bytes(leaf: Leaf) -> int:
    """Bytes of one environment's frame of one array."""
    return int(np.prod(leaf.frame_shape)) * jnp.dtype(leaf.dtype).itemsize
