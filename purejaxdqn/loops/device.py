"""The on-device loop: environment, replay and learner inside one jit.

`init` prefills the replay; `iterate` is a loop of k vector steps and u updates, with every period derived from counters
that no lane owns; `make_train` is the whole run as one function.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.build import Parts, build
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.explore import epsilon_at, epsilon_greedy
from purejaxdqn.learn import LearnMetrics, init_learner
from purejaxdqn.loops.evaluation import make_evaluate
from purejaxdqn.types import Counter, Episodes, Hypers, Metrics, Row, State, counter

KEY_IMPL = "threefry2x32"
"""The one generator of which a vmapped draw equals the solo draw."""


class Agent(NamedTuple):
    """A run's pure functions."""

    init: Callable[[Array, Hypers], State]
    """(key, hypers) -> state with a prefilled replay."""
    iterate: Callable[[State, Hypers, int | Array], tuple[State, Metrics]]
    """(state, hypers, n) -> state and metrics after n iterations; n may be traced."""
    evaluate: Callable[..., Any]
    """(params, key, *, episodes, epsilon=0.0) -> Evaluation, see `loops.evaluation`."""
    parts: Parts
    spec: EnvSpec


def run_key_of(key: Array) -> Array:
    """The key of a run, of `KEY_IMPL`, from a PRNG key, typed or raw."""
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return jax.random.wrap_key_data(words, impl=KEY_IMPL)


def zero_metrics() -> Metrics:
    """Metrics of a chunk before its first iteration."""
    integer, real = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
    return Metrics(
        episodes=integer,
        return_sum=real,
        length_sum=real,
        env_steps=integer,
        updates=integer,
        loss_sum=real,
        q_sum=real,
        td_sum=real,
        grad_norm_sum=real,
        epsilon=real,
    )


def follow_episodes(episodes: Episodes, row: Row, metrics: Metrics) -> tuple[Episodes, Metrics]:
    """Adds one vector step to the running returns, and the episodes that it ended to the metrics."""
    valid = row.valid
    done = jnp.logical_and(valid, jnp.logical_or(row.terminated, row.truncated))
    episode_return = episodes.episode_return + jnp.where(valid, row.reward, 0.0)
    episode_length = episodes.episode_length + valid
    metrics = dataclasses.replace(
        metrics,
        episodes=metrics.episodes + jnp.sum(done),
        return_sum=metrics.return_sum + jnp.sum(jnp.where(done, episode_return, 0.0)),
        length_sum=metrics.length_sum + jnp.sum(jnp.where(done, episode_length, 0)),
        env_steps=metrics.env_steps + jnp.sum(valid),
    )
    return Episodes(jnp.where(done, 0.0, episode_return), jnp.where(done, 0, episode_length)), metrics


def add_learning(metrics: Metrics, learned: LearnMetrics, updates: int) -> Metrics:
    """Adds one learning phase to the metrics."""
    return dataclasses.replace(
        metrics,
        updates=metrics.updates + updates,
        loss_sum=metrics.loss_sum + learned.loss,
        q_sum=metrics.q_sum + learned.q,
        td_sum=metrics.td_sum + learned.abs_td_error,
        grad_norm_sum=metrics.grad_norm_sum + learned.grad_norm,
    )


def make_init(config: Config, parts: Parts) -> Callable[[Array, Hypers], State]:
    """The function that makes a state and prefills its replay with uniformly random actions."""

    def init(key: Array, hypers: Hypers) -> State:
        """A run at its first update.

        Args:
          key: PRNG key, typed or raw; another key is another seed in every respect.
          hypers: traced settings.
        """
        h = hypers.as_arrays()
        param_key, env_key, fill_key, run_key = jax.random.split(run_key_of(key), 4)
        env, _ = parts.env.reset(env_key, config.num_envs)
        action = jnp.zeros(config.num_envs, jnp.int32)
        example = jax.eval_shape(parts.env.step, env_key, env, action)[2]
        one_env = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), example)
        learner = init_learner(config, parts.network, param_key, h)
        idle = Episodes(jnp.zeros(config.num_envs), jnp.zeros(config.num_envs, jnp.int32))

        def fill(index: Array, carry: tuple[Any, Any, Episodes]) -> tuple[Any, Any, Episodes]:
            env, memory, episodes = carry
            action_key, step_key = jax.random.split(jax.random.fold_in(fill_key, index))
            action = jax.random.randint(action_key, (config.num_envs,), 0, parts.env.spec.num_actions)
            env, _, row = parts.env.step(step_key, env, action)
            episodes, _ = follow_episodes(episodes, row, zero_metrics())
            return env, parts.replay.add(memory, jax.tree.map(lambda leaf: leaf[None], row)), episodes

        carry = (env, parts.replay.init(one_env), idle)
        env, memory, episodes = jax.lax.fori_loop(0, config.prefill_steps, fill, carry)
        state = State(
            vector_steps=counter(config.prefill_steps),
            learner=learner,
            memory=memory,
            env=env,
            episodes=episodes,
            key_data=jax.random.key_data(run_key),
        )
        # An environment may start from Python numbers, whose weak types a first `iterate` would strengthen, and
        # a second one would then compile anew.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)

    return init


def make_iterate(config: Config, parts: Parts) -> Callable[[State, Hypers, int | Array], tuple[State, Metrics]]:
    """The function that goes on with a run."""

    def act_and_step(
        carry: tuple[Any, Episodes, Metrics, Array], keys: Array, params: Any, h: Hypers
    ) -> tuple[tuple[Any, Episodes, Metrics, Array], Row]:
        env, episodes, metrics, vector_steps = carry
        network_key, action_key, step_key = keys
        obs = parts.env.observe(env)
        epsilon = epsilon_at(config, h, vector_steps * config.num_envs)
        q_values = parts.head.q_values(parts.network.apply(params, obs, network_key, "act"))
        env, _, row = parts.env.step(step_key, env, epsilon_greedy(action_key, q_values, epsilon))
        episodes, metrics = follow_episodes(episodes, row, metrics)
        return (env, episodes, dataclasses.replace(metrics, epsilon=epsilon), vector_steps + 1), row

    def iteration(state: State, metrics: Metrics, h: Hypers) -> tuple[State, Metrics]:
        # Keys are a function of the run's key and its clock, so a restored run draws what an undisturbed one would.
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data, impl=KEY_IMPL), state.vector_steps.count)
        keys = jax.random.split(key, 1 + 3 * config.rollout_length)
        learn_key, rollout_keys = keys[0], keys[1:].reshape(config.rollout_length, 3)
        (env, episodes, metrics, vector_steps), rows = jax.lax.scan(
            lambda carry, step_keys: act_and_step(carry, step_keys, state.learner.params, h),
            (state.env, state.episodes, metrics, state.vector_steps.count),
            rollout_keys,
        )
        learner, memory, learned = parts.learn(state.learner, state.memory, rows, learn_key, h)
        new = State(Counter(vector_steps), learner, memory, env, episodes, state.key_data)
        return new, add_learning(metrics, learned, config.updates_per_iteration)

    def iterate(state: State, hypers: Hypers, n: int | Array) -> tuple[State, Metrics]:
        """Goes on for n iterations of `rollout_length` vector steps and `updates_per_iteration` updates.

        Args:
          state: from `init` or an earlier call; `iterate(4)` equals `iterate(2)` twice, bit for bit.
          hypers: traced settings.
          n: iterations, int or int32 [].

        Returns:
          The new state, and the metrics of these iterations.
        """
        h = hypers.as_arrays()
        return jax.lax.fori_loop(0, n, lambda _, carry: iteration(carry[0], carry[1], h), (state, zero_metrics()))

    return iterate


def make_agent(config: Config) -> Agent:
    """A run's pure functions, none of them jitted: jit and vmap them as you like (see `types.lane_axes`).

    Raises:
      SettingError: where the environment, or what it needs, cannot be had.
    """
    parts = build(config)
    return Agent(
        init=make_init(config, parts),
        iterate=make_iterate(config, parts),
        evaluate=make_evaluate(parts),
        parts=parts,
        spec=parts.env.spec,
    )


def make_train(config: Config, num_chunks: int = 100) -> Callable[[Array, Hypers], tuple[State, Metrics]]:
    """The whole run as one pure function of a key and hypers, to jit and to vmap over either.

    Args:
      config: static settings.
      num_chunks: at most so many rows of metrics, evenly spread; memory does not depend on the run's length.

    Returns:
      train(key, hypers) -> final state, and `Metrics` with a leading axis of chunks.
    """
    agent = make_agent(config)
    num_chunks = min(num_chunks, config.num_iterations)
    chunk, longer = divmod(config.num_iterations, num_chunks)

    def train(key: Array, hypers: Hypers) -> tuple[State, Metrics]:
        lengths = chunk + (jnp.arange(num_chunks) < longer)
        return jax.lax.scan(lambda state, n: agent.iterate(state, hypers, n), agent.init(key, hypers), lengths)

    return train
