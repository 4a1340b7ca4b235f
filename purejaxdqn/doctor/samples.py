"""The data that a learner is trained on: sampled batches, and consecutive rows of its replay or newest rollout."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config
from purejaxdqn.loops.acting import make_acting
from purejaxdqn.loops.device import make_act
from purejaxdqn.networks.windows import Window
from purejaxdqn.replay.ring import Ring
from purejaxdqn.replay.transitions import Stored, without_final
from purejaxdqn.types import Hypers, Row, Transition

BATCHES = 8
"""Batches drawn, each for a hypothetical update of its own."""
WINDOW_ROWS, WINDOW_WRITERS, WINDOW_BYTES = 2_048, 16, 2**23
"""Maximum rows, environments and bytes of observations that are examined as consecutive steps."""


class Fed(NamedTuple):
    """The learner's data: K batches of B transitions."""

    window: Stored
    """Consecutive rows [T, E, ...] of some environments, oldest first; observations are single frames
    where the replay stores those."""
    batch: Transition
    """[K, B, ...], of one step each for a rollout learner."""
    weight: Array
    """float32 [K, B], 0 for a row that is not a transition."""
    rows: Any = ()
    """Rows [K, T, E] of a rollout learner, else ()."""
    times: Any = ()
    """int32 [K, B] of the rows drawn from a replay, else ()."""
    writers: Any = ()
    written: Any = ()
    """int32 []: time steps that the replay has been given."""


def find_ring(memory: Any) -> Ring | None:
    """The ring in a replay's memory, None if it has none."""
    nodes = jax.tree.leaves(memory, is_leaf=lambda node: isinstance(node, Ring))
    return next((node for node in nodes if isinstance(node, Ring)), None)


def newest_rows(ring: Ring) -> Stored:
    """The newest rows of some of a ring's writers; rows from before the first one ever written are marked not valid."""
    rows: Any = ring.rows
    obs = rows.obs if hasattr(rows, "obs") else rows.frame
    writers = min(ring.num_writers, WINDOW_WRITERS)
    row_bytes = max(1, sum(math.prod(leaf.shape[2:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(obs)))
    steps = min(ring.capacity, max(2, min(WINDOW_ROWS, WINDOW_BYTES // row_bytes) // writers))
    times = ring.written.count - steps + jnp.arange(steps)

    def read(stored: Array) -> Array:
        return stored[times % ring.capacity, :writers]

    valid = jnp.logical_and(read(rows.valid), (times >= 0)[:, None])
    action, reward, terminated, truncated = map(read, (rows.action, rows.reward, rows.terminated, rows.truncated))
    return Stored(jax.tree.map(read, obs), action, reward, terminated, truncated, valid)


LookReplay = Callable[[Any, Array, Hypers], Fed]
LookRollout = Callable[[Any, Any, Array, Array, Hypers], Fed]


def make_look_replay(parts: Parts) -> LookReplay:
    """(memory, key, hypers) -> a replay learner's data, sampled by the run's own replay."""

    def look(memory: Any, key: Array, h: Hypers) -> Fed:
        batch, where, weight = jax.lax.map(lambda k: parts.replay.sample(memory, k, h), jax.random.split(key, BATCHES))
        ring = find_ring(memory)
        if ring is None:
            empty = jnp.zeros((0, 0))
            return Fed(Stored(empty, empty, empty, empty, empty, empty), batch, weight)
        # A replay of one's own may name its rows as it likes.
        named = isinstance(where, tuple) and len(where) >= 2
        times, writers = where[:2] if named else ((), ())
        return Fed(newest_rows(ring), batch, weight, (), times, writers, ring.written.count)

    return look


def make_look_rollout(config: Config, parts: Parts) -> LookRollout:
    """(environments, parameters, vector steps so far, key, hypers) -> a rollout learner's next data.

    The environments continue from their current states, as in the run, with other keys. Each of the K batches has the
    size of a minibatch.
    """
    steps = max(1, config.rollout_length // config.num_minibatches)
    act, acting = make_act(config, parts), make_acting(config, parts)
    remembers = parts.network.remember is not None

    def look(env: Any, params: Any, vector_steps: Array, key: Array, h: Hypers) -> Fed:
        def act_and_step(carry: tuple[Any, Any], key: Array) -> tuple[Any, Row]:
            env, explorer = carry
            keys = jax.random.split(key, 3)
            action, explorer = act(params, env, explorer, keys[:2], h, vector_steps)
            env, _, row = parts.env.step(keys[2], env, action)
            learnt = acting.record(parts.view(row), explorer)
            return (env, acting.begin(explorer, row.terminated | row.truncated)), learnt

        carry = (env, acting.init(config.shard_envs))
        # With a memory one step more, which says what was carried after the last.
        _, rows = jax.lax.scan(act_and_step, carry, jax.random.split(key, BATCHES * steps + remembers))
        after = jax.tree.map(lambda leaf: leaf[1:], rows.carry)
        rows = jax.tree.map(lambda leaf: leaf[: BATCHES * steps], rows)
        flat = jax.tree.map(lambda leaf: leaf.reshape(BATCHES, -1, *leaf.shape[2:]), rows)
        parted = jax.tree.map(lambda leaf: leaf.reshape(BATCHES, steps, *leaf.shape[1:]), rows)
        obs_tm1, obs_t = flat.obs, flat.final_obs
        if remembers:
            start = jax.tree.map(lambda leaf: leaf[:, 0], parted.carry)
            obs_tm1 = Window(parted.obs, parted.starts, start)
            last, going = jax.tree.map(lambda leaf: leaf[:, None], (flat.final_obs, jnp.zeros_like(flat.starts)))
            obs_t = Window(last, going, jax.tree.map(lambda leaf: leaf.reshape(BATCHES, -1, *leaf.shape[2:]), after))
        discount = h.gamma * (1.0 - flat.terminated)
        batch = Transition(obs_tm1, flat.action, flat.reward, discount, obs_t, flat.mask, flat.final_mask)
        return Fed(without_final(rows), batch, flat.valid.astype(jnp.float32), parted)

    return look
