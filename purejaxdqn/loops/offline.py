"""The loop of the `dataset` learner: learning phases alone, with no environment step between them.

Its clock counts learning phases, and a run's steps (`Config.total_steps` and the like) are its gradient updates.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config
from purejaxdqn.learn import init_learner, start_from
from purejaxdqn.loops.counts import add_learning, zero_metrics
from purejaxdqn.machine.threefry import FUSED_IMPL, run_key_of
from purejaxdqn.replay.held import begin_memory
from purejaxdqn.types import Counter, Episodes, Hypers, Metrics, State, counter


def make_init(config: Config, parts: Parts) -> Callable[..., State]:
    """The function that makes a state; its memory is what the replay keeps beside the data, priorities say."""
    steps = parts.data
    assert steps is not None, "a dataset learner has one"

    def init(key: Array, hypers: Hypers, params: Any = None) -> State:
        """The state of a run before its first update; see `loops.device.make_init`."""
        param_key, run_key = jax.random.split(run_key_of(key))
        learner = init_learner(config, parts.network, param_key, hypers.as_arrays())
        if params is not None:
            learner = start_from(learner, params)
        real, integer = jnp.zeros(1), jnp.zeros(1, jnp.int32)
        return State(
            vector_steps=counter(),
            learner=learner,
            memory=begin_memory(parts.replay, steps),
            env=(),
            episodes=Episodes(real, integer, real, jnp.zeros((), jnp.int32)),
            key_data=jax.random.key_data(run_key),
        )

    return init


def make_iterate(config: Config, parts: Parts) -> Callable[[State, Hypers, int | Array], tuple[State, Metrics]]:
    """The function that advances a run whose memory has been lent its data."""

    def iteration(state: State, metrics: Metrics, h: Hypers) -> tuple[State, Metrics]:
        # Keys are a function of the run's key and its clock, as in the other loops.
        before = state.vector_steps.count
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data, impl=FUSED_IMPL), before)
        learner, memory, learned = parts.learn(state.learner, state.memory, None, key, h)
        new = state.replace(vector_steps=Counter(before + 1), learner=learner, memory=memory)  # type: ignore[attr-defined]
        return new, add_learning(metrics, learned, config.updates_per_iteration)

    def iterate(state: State, hypers: Hypers, n: int | Array) -> tuple[State, Metrics]:
        """Advances a run by n learning phases; see `loops.device.make_iterate`."""
        h = hypers.as_arrays()
        return jax.lax.fori_loop(0, n, lambda _, carry: iteration(carry[0], carry[1], h), (state, zero_metrics()))

    return iterate
