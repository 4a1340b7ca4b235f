"""One learning phase from replay: write the rollout's rows, then make u gradient updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from purejaxdqn.backups import Backup
from purejaxdqn.config import Config
from purejaxdqn.heads import Head
from purejaxdqn.networks import Network
from purejaxdqn.optim import make_optimizer, periodic_update
from purejaxdqn.replay.uniform import Replay
from purejaxdqn.types import Counter, Dist, Hypers, Learner, Row, Transition, counter


class LearnMetrics(NamedTuple):
    """Means over the batches of one learning phase, summed over its updates; all float32 []."""

    loss: Array
    q: Array
    abs_td_error: Array
    grad_norm: Array


DIST_AXES = Dist(x=0, support=None)  # type: ignore[arg-type]
"""Of a batch for `jax.vmap`: the examples share one support."""

LearnFn = Callable[[Learner, Any, Row, Array, Hypers], tuple[Learner, Any, LearnMetrics]]


def init_learner(config: Config, network: Network, key: Array, h: Hypers) -> Learner:
    """Fresh parameters, a target equal to them, and an optimiser at rest."""
    params = network.init(key)
    opt_state = make_optimizer(config, h, jnp.zeros((), jnp.int32)).init(params)
    # A copy, not an alias: donating a state in which two leaves are one buffer is an error.
    target_params = jax.tree.map(jnp.copy, params)
    return Learner(params=params, target_params=target_params, opt_state=opt_state, updates=counter())


def batch_targets(
    network: Network, head: Head, backup: Backup, learner: Learner, batch: Transition, key: Array, h: Hypers
) -> Array:
    """Targets y [B, N] of a batch, from the target network; the online one selects where the backup says so."""
    value_key, select_key, bonus_key = jax.random.split(key, 3)
    dist_t = network.apply(learner.target_params, batch.obs_t, value_key)
    q_select = head.q_values(dist_t)
    if backup.selects_online:
        q_select = head.q_values(network.apply(learner.params, batch.obs_t, select_key))
    reward = batch.r_t
    if backup.needs_bonus:
        q_tm1 = head.q_values(network.apply(learner.target_params, batch.obs_tm1, bonus_key))
        reward = reward + jax.vmap(backup.bonus, in_axes=(0, 0, None))(q_tm1, batch.a_tm1, h)
    policy, penalty = jax.vmap(backup.policy, in_axes=(0, None))(q_select, h)
    return jax.vmap(head.target, in_axes=(DIST_AXES, 0, 0, 0, 0))(dist_t, policy, penalty, reward, batch.discount_t)


def make_learn(config: Config, network: Network, head: Head, backup: Backup, replay: Replay) -> LearnFn:
    """The learning phase as one pure function of learner, memory, rows [T, E], key and hypers."""
    reduce = {"mean": jnp.mean, "sum": jnp.sum}[config.reduction]

    def loss_fn(params: Any, batch: Transition, y: Array, weight: Array, key: Array, h: Hypers) -> tuple[Array, Any]:
        dist_tm1 = network.apply(params, batch.obs_tm1, key)
        losses, abs_td_error = jax.vmap(head.loss, in_axes=(DIST_AXES, 0, 0, None))(dist_tm1, batch.a_tm1, y, h)
        q_taken = jnp.take_along_axis(head.q_values(dist_tm1), batch.a_tm1[:, None], axis=1)
        return reduce(weight * losses), (abs_td_error, jnp.mean(q_taken))

    def gradient_step(
        learner: Learner, batch: Transition, weight: Array, key: Array, h: Hypers
    ) -> tuple[Learner, Array, LearnMetrics]:
        target_key, online_key = jax.random.split(key)
        y = jax.lax.stop_gradient(batch_targets(network, head, backup, learner, batch, target_key, h))
        (loss, (abs_td_error, q)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            learner.params, batch, y, weight, online_key, h
        )
        optimizer = make_optimizer(config, h, learner.updates.count)
        changes, opt_state = optimizer.update(grads, learner.opt_state, learner.params)
        params = optax.apply_updates(learner.params, changes)
        updates = learner.updates.count + 1
        target_params = periodic_update(params, learner.target_params, updates, h.target_period, h.tau)
        metrics = LearnMetrics(loss, q, jnp.mean(abs_td_error), optax.tree.norm(grads))
        return Learner(params, target_params, opt_state, Counter(updates)), abs_td_error, metrics

    def learn(learner: Learner, memory: Any, rows: Row, key: Array, h: Hypers) -> tuple[Learner, Any, LearnMetrics]:
        memory = replay.add(memory, rows)

        def update(_: Array, carry: tuple[Learner, Any, LearnMetrics]) -> tuple[Learner, Any, LearnMetrics]:
            learner, memory, total = carry
            sample_key, step_key = jax.random.split(jax.random.fold_in(key, learner.updates.count))
            batch, where, weight = replay.sample(memory, sample_key, h)
            learner, abs_td_error, metrics = gradient_step(learner, batch, weight, step_key, h)
            return learner, replay.update(memory, where, abs_td_error), jax.tree.map(jnp.add, total, metrics)

        nothing = LearnMetrics(*(jnp.zeros((), jnp.float32) for _ in LearnMetrics._fields))
        # A number of updates that XLA cannot see, and keys that no two of them share, keep this a loop of its own. One
        # update that it could merge with the writing above would read a ring with the new rows fused in, for which the
        # whole old ring is copied: in every phase, and the more the larger the ring.
        count = jnp.minimum(config.updates_per_rollout, config.updates_per_rollout + learner.updates.count)
        return jax.lax.fori_loop(0, count, update, (learner, memory, nothing))

    return learn
