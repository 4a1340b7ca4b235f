"""Hypothetical updates on a copy of the learner, and the measurements taken from them.

They use the same function that the run learns with. The measurements are small arrays, which `vitals.py` reduces to
numbers in NumPy; the caller supplies the keys.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from purejaxdqn.build import Parts, build_backup
from purejaxdqn.config import Config
from purejaxdqn.doctor.samples import BATCHES, Fed
from purejaxdqn.learn import LearnMetrics, batch_targets, make_replay_learn, make_rollout_learn
from purejaxdqn.learning.backups import greedy
from purejaxdqn.learning.explore import best_action
from purejaxdqn.learning.heads import Head, LossParts
from purejaxdqn.learning.normalization import read_reward
from purejaxdqn.learning.optim import soft_update
from purejaxdqn.machine.part_values import numbers_of
from purejaxdqn.machine.shards import as_only_one
from purejaxdqn.networks.layers import Hidden
from purejaxdqn.observations.moments import without_running
from purejaxdqn.replay.presampled import DrawnMemory, drawn_replay
from purejaxdqn.types import Counter, Hypers, Learner, Transition


class Probed(NamedTuple):
    """Effects of hypothetical updates: one for each of K batches, and one more at which a target update is due."""

    abs_td_error: Array
    """float32 [K + 1, B]."""
    metrics: LearnMetrics
    """float32 [K + 1]."""
    q: Array
    """float32 [K + 1, B, A] before any update, without noise; the least legal one at an illegal action. With branching
    A are the choices of all parts."""
    q_change: Array
    """float32 [K + 1]: root mean square of the change of Q over the batch and all actions."""
    churn: Array
    """float32 [K + 1]: share of the batch whose greedy action the update changes."""
    distance: Array
    """float32 []: ‖θ - θ⁻‖ / ‖θ‖ as the run stands; 0 without a target network."""
    target_moved: Array
    """float32 [K + 1]: largest change of a target parameter."""
    sync_error: Array
    """float32 [K + 1]: largest distance of a target parameter from τθ + (1 - τ)θ⁻."""
    ranges: dict[str, tuple[Array, Array]]
    """By hidden layer, for each unit: its smallest and its largest activation over each batch, [K + 1, F] both."""


def one_update_config(config: Config) -> Config:
    """A run with the same number of updates, so the same learning rates, but one update per learning phase."""
    one = {"updates_per_rollout": 1} if config.learner == "replay" else {"num_epochs": 1, "num_minibatches": 1}
    prefill = config.prefill_steps * config.num_envs
    return config.replace(**one, total_steps=prefill + config.num_updates * config.steps_per_iteration)


def observed_pass(parts: Parts, params: Any, obs: Array) -> tuple[Any, dict[str, tuple[Array, Array]]]:
    """Action values [B, A] without noise, and by hidden layer each unit's least and greatest activation, [F] both."""
    seen: dict[str, Array] = {}

    def keep(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        out = call(*args, **kwargs)
        module, path = context.module, context.module.path
        if context.method_name == "__call__" and isinstance(module, Hidden):
            seen["/".join(path)] = out.reshape(out.shape[0], -1)
        elif context.method_name == "__call__" and len(path) == 1 and getattr(out, "ndim", 0) == 4:
            # A torso's channels, at all of a picture's places.
            seen["/".join(path)] = jnp.moveaxis(out, -1, 0).reshape(out.shape[-1], -1)
        return out

    # Of an ensemble, whose members run in one vmap, the first member's layers are seen.
    network, own = parts.network.first(params) if parts.network.first else (parts.network, params)
    with nn.intercept_methods(keep):
        dist = network.apply(own, obs, None, "greedy")
    if parts.network.first:
        dist = parts.network.apply(params, obs, None, "greedy")
    return parts.head.q_values(dist), {name: (out.min(axis=1), out.max(axis=1)) for name, out in seen.items()}


def of_legal(q: Any, mask: Array | None) -> Any:
    """Action values [B, A] with the least legal one in place of those of illegal actions, which nothing learns."""
    if mask is None:
        return q
    return jnp.where(mask, q, jnp.min(q, axis=-1, keepdims=True, where=mask, initial=jnp.inf))


def flat(tree: Any) -> Array:
    """All parameters in one vector, without what is known of observations and rewards; one zero for no network."""
    return ravel_pytree(without_running(tree))[0] if jax.tree.leaves(tree) else jnp.zeros(1)


def probe_counts(config: Config, h: Hypers, updates: Array) -> Array:
    """Update counts int32 [K + 1] that the hypothetical updates assume: K after which no target update is due, and one
    after which one is.

    None is in the second half of the run: a learning rate that has decayed to zero would hide the effects.
    """
    base = jnp.minimum(updates, config.num_updates // 2)
    quiet = jnp.where((base + 1) % h.target_period == 0, base + 1, base)
    due = (base // h.target_period + 1) * h.target_period - 1
    return jnp.concatenate([jnp.full(BATCHES, quiet), due[None]]).astype(jnp.int32)


def noting_errors(head: Head) -> Head:
    """The head with |TD error| as its priority, so that an update leaves the errors of its batch in the memory."""

    def loss(*args: Any) -> LossParts:
        parts = head.loss(*args)
        return parts._replace(priority=parts.abs_td_error)

    return head._replace(loss=loss)


UpdateFn = Callable[[Learner, Fed, Array, Hypers], tuple[Learner, LearnMetrics, Array]]
"""(learner, fed with one batch, key, hypers) -> learner, metrics, |TD error| [B]."""


def replay_update(config: Config, parts: Parts) -> UpdateFn:
    """One update of a replay learner on a given batch."""
    backup, head = build_backup(config, parts.env.spec), noting_errors(parts.head)
    learn = make_replay_learn(one_update_config(config), parts.network, head, backup, drawn_replay())

    def update(learner: Learner, fed: Fed, key: Array, h: Hypers) -> tuple[Learner, LearnMetrics, Array]:
        one = as_only_one((fed.batch, fed.weight))
        memory = DrawnMemory(one[0], one[1], jnp.zeros_like(fed.weight)[None], jnp.zeros((), jnp.int32))
        after, memory, metrics = learn(learner, memory, (), key, h)
        return after, metrics, memory.priority[0]

    return update


def rollout_update(config: Config, parts: Parts) -> UpdateFn:
    """One update of a rollout learner on given rows; the errors are those of one step, not of λ-returns."""
    network, head = parts.network, parts.head
    learn = make_rollout_learn(one_update_config(config), network, head)

    def update(learner: Learner, fed: Fed, key: Array, h: Hypers) -> tuple[Learner, LearnMetrics, Array]:
        target_key, online_key = jax.random.split(key)
        valued = learner.replace(target_params=learner.params)  # type: ignore[attr-defined]
        batch = fed.batch.replace(r_t=read_reward(learner.params, fed.batch.r_t))  # type: ignore[attr-defined]
        y = batch_targets(network, head, greedy(double=False), valued, batch, target_key, h)
        dist = network.apply(learner.params, fed.batch.obs_tm1, online_key, "online")
        error = jax.vmap(head.loss, in_axes=(0, 0, 0, None))(dist, fed.batch.a_tm1, y, h).abs_td_error
        after, _, metrics = learn(learner, (), fed.rows, key, h)
        return after, metrics, error

    return update


def make_probe(config: Config, parts: Parts) -> Callable[[Learner, Fed, Array, Hypers], Probed]:
    """(learner, fed, key, hypers) -> effects of hypothetical updates on the batches, each from the same learner.

    They use the same function that the run learns with.
    """
    from_replay = config.learner == "replay"
    update = (replay_update if from_replay else rollout_update)(config, parts)

    # Traced once for the values before and after an update.
    @jax.jit
    def observed(params: Any, batch: Transition) -> tuple[Any, dict[str, tuple[Array, Array]]]:
        q, ranges = observed_pass(parts, params, batch.obs_tm1)
        return of_legal(q, batch.mask_tm1), ranges

    def probe(learner: Learner, fed: Fed, key: Array, h: Hypers) -> Probed:
        params, target_before = flat(learner.params), flat(learner.target_params)

        def try_one(entry: tuple[Array, Array]) -> tuple[Any, ...]:
            k, count = entry
            batch, weight, rows = jax.tree.map(lambda leaf: leaf[k], (fed.batch, fed.weight, fed.rows))
            one = Fed(fed.window, batch, weight, rows)
            before = learner.replace(updates=Counter(count))  # type: ignore[attr-defined]
            q, ranges = observed(learner.params, batch)
            after, metrics, error = update(before, one, jax.random.fold_in(key, k), h)
            q_after = observed(after.params, batch)[0]
            change = jnp.sqrt(jnp.mean(jnp.square(numbers_of(q_after) - numbers_of(q))))
            churn = jnp.mean(best_action(q_after) != best_action(q), dtype=jnp.float32)
            target = flat(after.target_params)
            wanted = soft_update(flat(after.params), target_before, h.tau) if from_replay else target
            moved, off = jnp.max(jnp.abs(target - target_before)), jnp.max(jnp.abs(target - wanted))
            return error, metrics, q, change, churn, moved, off, ranges

        index = jnp.append(jnp.arange(BATCHES), 0)
        counts = probe_counts(config, h, learner.updates.count)
        error, metrics, q, change, churn, moved, sync_error, ranges = jax.lax.map(try_one, (index, counts))
        gap = params - target_before if from_replay else jnp.zeros(1)
        return Probed(
            abs_td_error=error,
            metrics=metrics,
            q=numbers_of(q),
            q_change=change,
            churn=churn,
            distance=jnp.linalg.norm(gap) / jnp.maximum(jnp.linalg.norm(params), 1e-12),
            target_moved=moved,
            sync_error=sync_error,
            ranges=ranges,
        )

    return probe
