"""Uniform replay: every held transition is as likely as every other (Lin 1992; Mnih et al. 2015)."""

from typing import Any

from jax import Array

from purejaxdqn.replay import transitions
from purejaxdqn.replay.contract import Replay
from purejaxdqn.types import Hypers, Row, Transition


def uniform(
    capacity: int, num_envs: int, batch_size: int, n_step: int, time_limit: int, every_row_valid: bool
) -> Replay:
    """Sampling uniformly, with replacement, in time that depends on the batch alone.

    Args:
      capacity: vector steps to hold.
      num_envs: environments.
      batch_size: transitions in a sample.
      n_step: longest fold.
      time_limit: fewest steps between two truncations of one environment (see `transitions.init_store`).
      every_row_valid: whether the environment never gives rows that are no transitions.
    """
    draws = 1 if every_row_valid else 8

    def init(row: Row) -> transitions.TransitionStore:
        return transitions.init_store(row, capacity, num_envs, time_limit)

    def sample(
        memory: transitions.TransitionStore, key: Array, h: Hypers
    ) -> tuple[Transition, tuple[Array, Array], Array]:
        times, writers = transitions.sample_valid_starts(key, memory, batch_size, n_step, draws)
        batch, weight = transitions.read_transitions(memory, times, writers, n_step, h.gamma)
        return batch, (times, writers), weight

    def update(memory: Any, index: Any, priority: Array, h: Hypers) -> Any:
        del index, priority, h
        return memory

    return Replay(init=init, add=transitions.add_steps, sample=sample, update=update)
