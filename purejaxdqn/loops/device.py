"""The on-device loop: environment, replay and learner inside one jit.

`init` prefills the replay; `iterate` is a loop of k vector steps and u updates, with every period derived from counters
that all lanes share; `make_train` is the whole run as one function.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.bounds import whole
from purejaxdqn.build import Parts, build
from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.envs.interface import Env
from purejaxdqn.envs.names import loop_of
from purejaxdqn.envs.own import as_env
from purejaxdqn.learn import init_learner, start_from
from purejaxdqn.learning.explore import env_steps_at, epsilon_at
from purejaxdqn.learning.normalization import Seen, seen_of, with_seen
from purejaxdqn.loops import offline
from purejaxdqn.loops.acting import make_acting
from purejaxdqn.loops.counts import Followed, add_episodes, add_learning, count_ended, follow_episodes, zero_metrics
from purejaxdqn.loops.evaluation import make_evaluate
from purejaxdqn.machine.joined_carry import join_carry, scan_joined
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.machine.random_bits import random_actions
from purejaxdqn.machine.shards import as_only_one, make_shards
from purejaxdqn.machine.threefry import FUSED_IMPL, run_key_of
from purejaxdqn.networks import network_name
from purejaxdqn.replay.held import with_data
from purejaxdqn.types import Counter, Episodes, Hypers, Metrics, Row, State, counter, is_counter


class Agent(NamedTuple):
    """A run's pure functions."""

    init: Callable[..., State]
    """(key, hypers, params=None) -> state with a prefilled replay."""
    iterate: Callable[..., tuple[State, Metrics]]
    """(state, hypers, n) -> state and metrics after n iterations; n may be traced. With a dataset there is one more
    argument, its steps, by default `parts.data`, which are then constants of the program."""
    evaluate: Callable[..., Any]
    """(params, key, *, episodes, epsilon=0.0) -> Evaluation, see `loops.evaluation`."""
    parts: Parts
    spec: EnvSpec
    config: Config


def make_act(config: Config, parts: Parts) -> Callable[..., tuple[Array, Any]]:
    """(params, env state, carried, keys [2], hypers, vector steps so far) -> actions int32 [E], carried."""
    choose, shards = make_acting(config, parts).choose, make_shards(config.data_parallel)

    def act(params: Any, env: Any, explorer: Any, keys: Array, h: Hypers, vector_steps: Array) -> tuple[Array, Any]:
        pair = tuple(keys)
        epsilon = epsilon_at(config, h, env_steps_at(config, vector_steps))
        obs, mask = parts.env.observe(env), parts.env.mask(env)

        def envs() -> Array:
            return shards.own_part(jnp.arange(config.num_envs))

        return choose(params, obs, mask, explorer, pair, epsilon, envs, h)

    return act


def make_init(config: Config, parts: Parts) -> Callable[..., State]:
    """The function that makes a state and prefills its replay."""
    act, acting, shards = make_act(config, parts), make_acting(config, parts), make_shards(config.data_parallel)

    def init(key: Array, hypers: Hypers, params: Any = None) -> State:
        """The state of a run before its first update.

        Args:
          key: PRNG key, typed or raw; all randomness of the run comes from it.
          hypers: traced settings.
          params: initial parameters of the network; by default fresh ones.
        """
        h = hypers.as_arrays()
        param_key, env_key, fill_key, run_key = jax.random.split(run_key_of(key), 4)
        env_key, fill_key = shards.own_keys(env_key), shards.own_keys(fill_key)
        env, _ = parts.env.reset(env_key, config.shard_envs)
        action = jnp.zeros(config.shard_envs, jnp.int32)
        example = jax.eval_shape(parts.env.step, env_key, env, action)[2]
        example = jax.eval_shape(acting.record, example, acting.init(config.shard_envs))
        one_env = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), example)
        learner = init_learner(config, parts.network, param_key, h)
        if params is not None:
            learner = start_from(learner, params)
        idle = Episodes(
            episode_return=jnp.zeros(config.shard_envs),
            episode_length=jnp.zeros(config.shard_envs, jnp.int32),
            learning_return=jnp.zeros(config.shard_envs),
            ended=jnp.zeros((), jnp.int32),
        )

        def at_random(env: Any, explorer: Any, seen: Seen, key: Array, index: Array) -> tuple[Array, Any]:
            if parts.network.remember is not None:
                # What the memory carries is that of the steps that were seen, however they were acted in.
                _, explorer = by_policy(env, explorer, seen, key, index)
            mask = parts.env.mask(env)
            return random_actions(key, config.shard_envs, parts.env.spec.num_actions, mask), explorer

        def by_policy(env: Any, explorer: Any, seen: Seen, key: Array, index: Array) -> tuple[Array, Any]:
            return act(with_seen(learner, seen).params, env, explorer, jax.random.split(key), h, index)

        choose = {"random": at_random, "policy": by_policy}[config.prefill]

        def fill(index: Array, carry: tuple[Any, Any, Episodes, Any, Seen]) -> tuple[Any, Any, Episodes, Any, Seen]:
            env, memory, episodes, explorer, seen = carry
            action_key, step_key = jax.random.split(jax.random.fold_in(fill_key, index))
            action, explorer = choose(env, explorer, seen, action_key, index)
            env, _, row = parts.env.step(step_key, env, action)
            # Written as it was computed. XLA may fuse the environment into the writing, where it rounds otherwise than
            # in a program of more lanes, and a lane would not be its solo run to the last bit.
            row = jax.lax.optimization_barrier(row)
            learnt = acting.record(parts.view(row), explorer)
            running, followed = follow_episodes(episodes, row, learnt)
            episodes, explorer = count_ended(running, followed), acting.begin(explorer, followed.done)
            rows = as_only_one(learnt)
            return env, parts.replay.add(memory, rows), episodes, explorer, parts.follow(seen, rows, h)

        carry = (env, parts.replay.init(one_env), idle, acting.init(config.shard_envs), seen_of(learner))
        env, memory, episodes, explorer, seen = jax.lax.fori_loop(0, config.prefill_steps, fill, carry)
        state = State(
            vector_steps=counter(config.prefill_steps),
            learner=with_seen(learner, seen),
            memory=memory,
            env=env,
            episodes=episodes,
            key_data=jax.random.key_data(run_key),
            explorer=explorer,
        )
        # An environment may start from Python numbers, whose weak types a first `iterate` would strengthen, and
        # a second one would then compile anew.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)

    return init


def make_iterate(config: Config, parts: Parts) -> Callable[[State, Hypers, int | Array], tuple[State, Metrics]]:
    """The function that advances a run."""
    act, acting, shards = make_act(config, parts), make_acting(config, parts), make_shards(config.data_parallel)

    def act_and_step(
        carry: tuple[Any, Episodes, Any], step: tuple[Array, Array], params: Any, h: Hypers
    ) -> tuple[tuple[Any, Episodes, Any], tuple[Row, Followed]]:
        env, episodes, explorer = carry
        keys, vector_steps = step
        action, explorer = act(params, env, explorer, keys[:2], h, vector_steps)
        env, _, row = parts.env.step(keys[2], env, action)
        learnt = acting.record(parts.view(row), explorer)
        # What a step adds to the metrics waits for the end of the rollout: it would be a dozen small sums a step.
        episodes, followed = follow_episodes(episodes, row, learnt)
        return (env, episodes, acting.begin(explorer, followed.done)), (learnt, followed)

    def iteration(state: State, metrics: Metrics, h: Hypers) -> tuple[State, Metrics]:
        # Keys are a function of the run's key and its clock, so a restored run draws what an undisturbed one would.
        before = state.vector_steps.count
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data, impl=FUSED_IMPL), before)
        keys = jax.random.split(key, 1 + 3 * config.rollout_length)
        learn_key, rollout_keys = keys[0], keys[1:].reshape(config.rollout_length, 3)
        steps = before + jnp.arange(config.rollout_length)
        (env, episodes, explorer), (rows, followed) = scan_joined(
            lambda carry, step: act_and_step(carry, step, state.learner.params, h),
            (state.env, state.episodes, state.explorer),
            (shards.own_keys(rollout_keys), steps),
            is_counter,
        )
        metrics = add_episodes(metrics, followed, steps + 1)
        metrics = dataclasses.replace(metrics, epsilon=epsilon_at(config, h, env_steps_at(config, steps[-1])))
        learner, memory, learned = parts.learn(state.learner, state.memory, rows, learn_key, h)
        clock = Counter(before + config.rollout_length)
        new = State(clock, learner, memory, env, count_ended(episodes, followed), state.key_data, explorer)
        return new, add_learning(metrics, learned, config.updates_per_iteration)

    def iterate(state: State, hypers: Hypers, n: int | Array) -> tuple[State, Metrics]:
        """Advances a run by n iterations of `rollout_length` vector steps and `updates_per_iteration` updates.

        Args:
          state: from `init` or an earlier call; `iterate(4)` equals `iterate(2)` twice, bit for bit.
          hypers: traced settings.
          n: iterations, int or int32 [].

        Returns:
          The new state, and the metrics of these iterations.
        """
        h = hypers.as_arrays()
        carry = (state, zero_metrics(config.log_episodes))
        step, joined, back = join_carry(lambda carry, _: (iteration(carry[0], carry[1], h), None), carry, is_counter)
        return back(jax.lax.fori_loop(0, n, lambda _, carry: step(carry, None)[0], joined))

    return iterate


def make_agent(config: Config, env: Any = None, network: Any = None) -> Agent:
    """A run's pure functions, none of them jitted: jit and vmap them as you like (see `types.lane_axes`).

    With `data_parallel` they are those of one shard, to be called where its axes are bound (see `loops.data_parallel`).

    Args:
      config: static settings.
      env: an environment in place of the one that `config` names, in any of the forms of `envs.own.as_env`.
      network: a network in place of the one that `config` names, as for `register("network", ...)`: a flax module from
        features to features, (config) -> such a module, or what `whole_network` gives.

    Raises:
      SettingError: if the environment, or a package that it needs, is not available, or the network does not fit.
    """
    if network is not None:
        config = config.replace(network=network_name(network))
    given = None if env is None else as_env(env)
    if given is not None:
        config = config.replace(env=given.spec.env_id, env_params=())
    remedy = "its environments step on the host: use one of gymnax, or train by the command line"
    on_device = loop_of(config.env) == "device" if given is None else isinstance(given, Env)
    require(on_device, "env", config.env, remedy)
    parts = build(config, given)
    begin, go_on = make_init, make_iterate
    if config.learner == "dataset":
        begin, go_on = offline.make_init, offline.make_iterate
    return Agent(
        init=in_usual_modes(begin(config, parts)),
        iterate=in_usual_modes(with_data(go_on(config, parts), parts.data)),
        evaluate=in_usual_modes(make_evaluate(parts)),
        parts=parts,
        spec=parts.env.spec,
        config=config,
    )


def make_train(
    config: Config, num_chunks: int = 100, env: Any = None, network: Any = None
) -> Callable[..., tuple[State, Metrics]]:
    """The whole run as one pure function of a key and hypers, to jit and to vmap over either.

    Args:
      config: static settings.
      num_chunks: maximum number of rows of metrics, evenly spaced; memory does not depend on the run's length.
      env: as in `make_agent`.
      network: likewise.

    Returns:
      train(key, hypers) -> final state, and `Metrics` with a leading axis of chunks.
    """
    remedy = "a run in shards is more than one function: use 1, or train by the command line"
    require(config.data_parallel == 1, "data_parallel", config.data_parallel, remedy)
    num_chunks = min(whole("num_chunks", num_chunks), config.num_iterations)
    agent = make_agent(config, env, network)
    chunk, longer = divmod(config.num_iterations, num_chunks)

    @in_usual_modes
    def train(key: Array, hypers: Hypers) -> tuple[State, Metrics]:
        lengths = chunk + (jnp.arange(num_chunks) < longer)
        return jax.lax.scan(lambda state, n: agent.iterate(state, hypers, n), agent.init(key, hypers), lengths)

    return train
