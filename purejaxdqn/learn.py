"""Learner updates from a replay (DQN and its family) or from the newest rollout (PQN), one gradient step for both."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from purejaxdqn.config import Config
from purejaxdqn.kernels.choice import KernelUpdate
from purejaxdqn.learning.backups import Backup
from purejaxdqn.learning.constraints import BatchConstraint
from purejaxdqn.learning.explore import best_value
from purejaxdqn.learning.heads import Head, value_of
from purejaxdqn.learning.masks import legal_values, without_illegal
from purejaxdqn.learning.normalization import read_reward
from purejaxdqn.learning.optim import global_norm, make_optimizer, moving_average, periodic_update
from purejaxdqn.learning.returns import lambda_returns
from purejaxdqn.machine.joined_carry import join_carry
from purejaxdqn.machine.shards import make_shards
from purejaxdqn.networks import Network
from purejaxdqn.networks.rollouts import observations_after, window_of
from purejaxdqn.networks.windows import steps_in_a_row
from purejaxdqn.replay.interface import Replay
from purejaxdqn.types import Counter, Hypers, Learner, Row, Transition, counter, is_counter


class LearnMetrics(NamedTuple):
    """Means over the batches of one learning phase, summed over its updates; all float32 []."""

    loss: Array
    q: Array
    abs_td_error: Array
    grad_norm: Array


LearnFn = Callable[[Learner, Any, Any, Array, Hypers], tuple[Learner, Any, LearnMetrics]]
"""(learner, memory, rows [T, E], key, hypers) -> learner, memory, metrics; no rows for a memory that has them."""


class Examples(NamedTuple):
    """What one gradient step predicts, and what it should have predicted."""

    obs_tm1: Any
    """[B, ...], or a tree of such; the `Window` of B steps for a network with a memory."""
    a_tm1: Array
    """int32 [B]."""
    y: Any
    """Targets of the head, each leaf [B, ...], constant."""
    weight: Array
    """float32 [B], of each loss."""
    mask: Array | None = None
    """bool [B, A], legal actions; read by a constraint alone."""


def init_learner(config: Config, network: Network, key: Array, h: Hypers) -> Learner:
    """Fresh parameters, an equal target network if there is one, and a fresh optimiser state."""
    params = network.init(key)
    opt_state = make_optimizer(config, h, jnp.zeros((), jnp.int32)).init(params)
    # A copy, not an alias: donating a state in which two leaves are one buffer is an error.
    target_params = jax.tree.map(jnp.copy, params) if config.learner != "rollout" else ()
    average = jax.tree.map(jnp.copy, params) if config.average_params else ()
    returns = jnp.zeros(config.num_envs) if config.normalize_reward else ()
    return Learner(params, target_params, opt_state, counter(), average, returns)


def start_from(learner: Learner, params: Any) -> Learner:
    """A fresh learner with given parameters, also in its target network and its average if there are such."""
    # A copy, not an alias: donating a state in which two leaves are one buffer is an error.
    target_params = jax.tree.map(jnp.copy, params) if jax.tree.leaves(learner.target_params) else ()
    average = jax.tree.map(jnp.copy, params) if jax.tree.leaves(learner.average) else ()
    return learner.replace(params=params, target_params=target_params, average=average)  # type: ignore[attr-defined]


def batch_targets(
    network: Network, head: Head, backup: Backup, learner: Learner, batch: Transition, key: Array, h: Hypers
) -> Any:
    """Targets of a batch, each leaf [B, ...]: the target network's, but the backup may let the online one select.

    Of an illegal action a backup is given the value -inf, and a head zeros.
    """
    value_key, select_key, bonus_key = jax.random.split(key, 3)
    # Every member of an ensemble has a policy of its own, and so a target.
    values_of, legal = head.member_values or head.q_values, jax.vmap(legal_values)
    dist_t = network.apply(learner.target_params, batch.obs_t, value_key, "target")
    q_select = legal(values_of(dist_t), batch.mask_t)
    # Sampled fractions are drawn anew for the choice of the action (Dabney et al. 2018b, eq. 3).
    if backup.selects_online or head.outputs.fractions == "sampled":
        selector = learner.params if backup.selects_online else learner.target_params
        q_select = legal(values_of(network.apply(selector, batch.obs_t, select_key, "select")), batch.mask_t)
    reward = batch.r_t
    if backup.needs_bonus:
        q_tm1 = values_of(network.apply(learner.target_params, batch.obs_tm1, bonus_key, "select"))
        q_tm1 = legal(q_tm1, batch.mask_tm1)
        # After n steps the bonus is that of the first alone: those of the others would need their own forward passes.
        reward = jax.vmap(lambda r, q, a: r + backup.bonus(q, a, h))(reward, q_tm1, batch.a_tm1)
    policy, penalty = jax.vmap(backup.policy, in_axes=(0, None))(q_select, h)
    dist_t, penalty = jax.vmap(without_illegal)(dist_t, penalty, batch.mask_t)
    return jax.vmap(head.target)(dist_t, policy, penalty, reward, batch.discount_t)


DescendFn = Callable[[Learner, Examples, Array, Hypers], tuple[Learner, Array, LearnMetrics]]


def make_descend(config: Config, network: Network, head: Head, constraint: BatchConstraint | None = None) -> DescendFn:
    """One gradient step on given targets: (learner, examples, key, hypers) -> learner, priorities [B], metrics.

    Each shard has the examples that it drew, and all take the same step, computed from all of their examples.
    """
    shards = make_shards(config.data_parallel)
    reduce, join = {"mean": (jnp.mean, shards.mean), "sum": (jnp.sum, shards.sum)}[config.reduction]

    def loss_fn(params: Any, examples: Examples, key: Array, h: Hypers) -> tuple[Array, Any]:
        dist_tm1 = network.apply(params, examples.obs_tm1, key, "online")
        parts = jax.vmap(head.loss, in_axes=(0, 0, 0, None))(dist_tm1, examples.a_tm1, examples.y, h)
        q_tm1, losses = head.q_values(dist_tm1), parts.loss
        q_taken = jax.vmap(value_of)(q_tm1, examples.a_tm1)
        if constraint is not None:
            losses = constraint(losses, q_tm1, examples.a_tm1, examples.mask, h)
        return reduce(examples.weight * losses), (parts.priority, jnp.mean(parts.abs_td_error), jnp.mean(q_taken))

    def descend(learner: Learner, examples: Examples, key: Array, h: Hypers) -> tuple[Learner, Array, LearnMetrics]:
        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (priority, *means)), grads = grad_fn(learner.params, examples, key, h)
        (loss, grads), (abs_td_error, q) = join((loss, grads)), shards.mean(means)
        changes, opt_state = make_optimizer(config, h, learner.updates.count).update(
            grads, learner.opt_state, learner.params
        )
        params = optax.apply_updates(learner.params, changes)
        if network.refresh is not None:
            params = network.refresh(params, examples.obs_tm1)
        average = learner.average
        if config.average_params:
            average = moving_average(params, average, learner.updates.count, h.average_decay)
        made = Counter(learner.updates.count + 1)
        learner = Learner(params, learner.target_params, opt_state, made, average, learner.returns)
        return learner, priority, LearnMetrics(loss, q, abs_td_error, global_norm(config, grads))

    return descend


def no_metrics() -> LearnMetrics:
    """Metrics before the first update."""
    return LearnMetrics(*(jnp.zeros((), jnp.float32) for _ in LearnMetrics._fields))


def update_keys(key: Array, updates: Array) -> tuple[Array, Array, Array]:
    """Keys of one update's sample, targets and predictions, from the phase's key and the number of earlier updates."""
    sample_key, target_key, online_key = jax.random.split(jax.random.fold_in(key, updates), 3)
    return sample_key, target_key, online_key


def anneal_importance(config: Config, h: Hypers, updates: Array) -> Hypers:
    """Hypers with the importance exponent β of an update, annealed linearly to its final value over the run's steps.

    Args:
      config: the run's length, and the steps and updates of an iteration.
      h: β goes from `importance_exponent` to `importance_exponent_final`, and stays there.
      updates: made before it, int32 [].
    """
    iterations = updates // config.updates_per_rollout + 1
    vector_steps = config.prefill_steps + iterations * config.rollout_length
    share = jnp.minimum(vector_steps / -(-config.total_steps // config.num_envs), 1.0)
    if config.learner == "dataset":
        share = (updates + 1) / config.num_updates
    beta = h.importance_exponent + share * (h.importance_exponent_final - h.importance_exponent)
    return h.replace(importance_exponent=beta)  # type: ignore[attr-defined]


Updated = tuple[Learner, Array, LearnMetrics]
"""The learner with its target network, priorities [B] and metrics, after one update."""
UpdateFn = Callable[[Learner, Transition, Array, tuple[Array, Array], Hypers], Updated]
"""(learner, batch, importance weights [B], keys of targets and predictions, hypers) -> all of one update."""


def by_kernel(made: KernelUpdate) -> UpdateFn:
    """An update that a kernel makes; it draws nothing, and needs no keys."""

    def update(learner: Learner, batch: Transition, weight: Array, keys: tuple[Array, Array], h: Hypers) -> Updated:
        del keys
        learner, priority, metrics = made(learner, batch, weight, h)
        return learner, priority, LearnMetrics(*(metrics[i] for i in range(len(LearnMetrics._fields))))

    return update


FEW_LANES = 64
"""Lanes up to which a GPU is told the number of updates: on an H200 that saved 40 of 119 µs an iteration with 1 lane,
and cost 90 of 665 with 1,024. In between nothing is measured; a cost that grows with the lanes would be 6 with 64."""


def number_of_updates(updates: int, made: Array, of_lane: Array) -> Array:
    """The number of updates of a learning phase, int32 [], which XLA cannot see where that is the faster way.

    Hidden, it keeps the updates a loop of their own. One update that XLA could merge with the writing before it would
    read a ring with the new rows fused in, for which a CPU copies the whole old ring: in every phase, and the more the
    larger the ring. A GPU copies nothing where lanes are few, but waits for the number on every turn.

    Args:
      updates: of each phase.
      made: before it, [], the same for all lanes.
      of_lane: anything that every lane has one of; how many lanes there are is seen when it is batched.
    """

    def hidden(made: Array) -> Array:
        return jnp.minimum(updates, updates + made)

    @jax.custom_batching.custom_vmap
    def told(made: Array, of_lane: Array) -> Array:
        del of_lane
        return jnp.full_like(made, updates)

    @told.def_vmap
    def lanes(size: int, batched: Any, made: Array, of_lane: Array) -> tuple[Array, bool]:
        assert not batched[0], "control flow follows from counters without an axis of lanes"
        return told(made, of_lane[0]) if size <= FEW_LANES else hidden(made), False

    return jax.lax.platform_dependent(made, of_lane, cuda=told, default=lambda made, of_lane: hidden(made))


def make_replay_learn(
    config: Config,
    network: Network,
    head: Head,
    backup: Backup,
    replay: Replay,
    kernel: tuple[KernelUpdate, KernelUpdate] | None = None,
    constraint: BatchConstraint | None = None,
) -> LearnFn:
    """The learning phase of DQN and its family: write the rollout's rows, then make updates from the replay.

    Args:
      config: static settings.
      network, head, backup, replay: the seams.
      kernel: an update as one kernel, of a CUDA program and of others, if there is one: see `kernels.choice`.
      constraint: what keeps values near a dataset's actions, if anything does.
    """
    descend, shards = make_descend(config, network, head, constraint), make_shards(config.data_parallel)

    def plain(learner: Learner, batch: Transition, weight: Array, keys: tuple[Array, Array], h: Hypers) -> Updated:
        y = jax.lax.stop_gradient(batch_targets(network, head, backup, learner, batch, keys[0], h))
        examples = Examples(batch.obs_tm1, batch.a_tm1, y, weight, batch.mask_tm1)
        learner, priority, metrics = descend(learner, examples, keys[1], h)
        target_params = periodic_update(
            learner.params, learner.target_params, learner.updates.count, h.target_period, h.tau
        )
        return learner.replace(target_params=target_params), priority, metrics  # type: ignore[attr-defined]

    def update_once(*args: Any) -> Updated:
        if kernel is None:
            return plain(*args)
        on_cuda, elsewhere = kernel
        return jax.lax.platform_dependent(*args, cuda=by_kernel(on_cuda), default=by_kernel(elsewhere))

    def update(memory: Any, learner: Learner, key: Array, h: Hypers) -> tuple[Learner, Any, LearnMetrics]:
        sample_key, *keys = update_keys(key, learner.updates.count)
        batch, where, weight = replay.sample(memory, shards.own_keys(sample_key), replay.now(h, learner.updates.count))
        batch = batch.replace(r_t=read_reward(learner.params, batch.r_t))  # type: ignore[attr-defined]
        learner, priority, metrics = update_once(learner, batch, weight, tuple(keys), h)
        return learner, replay.update(memory, where, priority, h), metrics

    def learn(learner: Learner, memory: Any, rows: Row, key: Array, h: Hypers) -> tuple[Learner, Any, LearnMetrics]:
        memory = replay.add(memory, rows)

        def step(_: Array, carry: tuple[Learner, Any, Array]) -> tuple[Learner, Any, Array]:
            learner, memory, total = carry
            learner, memory, metrics = update(memory, learner, key, h)
            # One vector: four sums would be four kernels of a GPU.
            return learner, memory, total + jnp.stack(metrics)

        count = number_of_updates(config.updates_per_rollout, learner.updates.count, jnp.asarray(h.gamma))
        learner, memory, total = jax.lax.fori_loop(0, count, step, (learner, memory, jnp.stack(no_metrics())))
        return learner, memory, LearnMetrics(*total)

    return learn


PartFn = Callable[[Array], Examples]
"""(numbers of parts of a rollout) -> their examples."""


def cut_steps(examples: Examples) -> tuple[int, PartFn]:
    """Examples [T, E] cut into single steps: how many there are, and any of them."""
    steps = steps_in_a_row(examples)
    return examples.weight.size, lambda index: jax.tree.map(lambda leaf: leaf[index], steps)


def cut_environments(rows: Row, examples: Examples) -> tuple[int, PartFn]:
    """Examples [T, E] cut into environments, whose observations are windows: how many there are, and any of them."""

    def part_of(index: Array) -> Examples:
        part = steps_in_a_row(jax.tree.map(lambda leaf: leaf[:, index], examples))
        return part._replace(obs_tm1=window_of(rows, index))

    return examples.weight.shape[1], part_of


def make_rollout_learn(config: Config, network: Network, head: Head) -> LearnFn:
    """The learning phase of PQN (Gallici et al. 2024): λ-returns of the newest rollout, no replay, no target network.

    Every pass (epoch) goes through the rollout's T × E steps in a new random order, in `num_minibatches` updates. For a
    network with a memory it is an order of environments, whose steps stay together, from what was carried at the first.
    """
    descend, shards = make_descend(config, network, head), make_shards(config.data_parallel)

    def rollout_targets(params: Any, rows: Row, key: Array, h: Hypers) -> Array:
        """λ-returns [T, E] with the parameters that acted."""
        q_t = head.q_values(network.apply(params, observations_after(network, params, rows), key, "target"))
        mask_t = None if rows.final_mask is None else rows.final_mask.reshape(q_t.shape)
        value_t = best_value(q_t, mask_t).reshape(rows.reward.shape)
        per_env = jax.vmap(lambda_returns, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
        reward = read_reward(params, rows.reward)
        return per_env(reward, rows.terminated, rows.truncated, rows.valid, value_t, h.gamma, h.trace_lambda)

    def learn(learner: Learner, memory: Any, rows: Row, key: Array, h: Hypers) -> tuple[Learner, Any, LearnMetrics]:
        target_key, epoch_key = jax.random.split(jax.random.fold_in(key, learner.updates.count))
        y = jax.lax.stop_gradient(rollout_targets(learner.params, rows, target_key, h))
        examples = Examples(rows.obs, rows.action, y, rows.valid.astype(jnp.float32))
        size, part_of = cut_environments(rows, examples) if network.remember else cut_steps(examples)

        def minibatch(carry: tuple[Learner, Array], step: tuple[Array, Array]) -> tuple[Any, None]:
            learner, total = carry
            index, online_key = step
            learner, _, metrics = descend(learner, part_of(index), online_key, h)
            return (learner, total + jnp.stack(metrics)), None

        step, joined, back = join_carry(minibatch, (learner, jnp.stack(no_metrics())), is_counter)

        def epoch(carry: Any, key: Array) -> tuple[Any, None]:
            order_key, online_key = jax.random.split(key)
            order = jax.random.permutation(shards.own_keys(order_key), size).reshape(config.num_minibatches, -1)
            return jax.lax.scan(step, carry, (order, jax.random.split(online_key, config.num_minibatches)))

        epochs = jax.random.split(epoch_key, config.num_epochs)
        learner, total = back(jax.lax.scan(epoch, joined, epochs)[0])
        return learner, memory, LearnMetrics(*total)

    return learn
