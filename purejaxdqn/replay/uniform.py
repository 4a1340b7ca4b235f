"""Uniform replay: every held transition is as likely as every other (Lin 1992; Mnih et al. 2015)."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from purejaxdqn.replay.interface import Replay, Store
from purejaxdqn.replay.ring import Ring, sample_multiples, sample_starts
from purejaxdqn.types import Hypers, Transition


def sample_valid_starts(key: Array, ring: Ring, batch_size: int, window: int, history: int, draws: int) -> Any:
    """Starts drawn uniformly from the rows that are transitions.

    Args:
      key: PRNG key.
      ring: of rows with a field `valid`.
      batch_size: starts to draw.
      window: time steps that must follow each.
      history: time steps that must come before each.
      draws: candidates for each start, of which the first valid one is taken: 1 where every row is valid. With a share
        p of invalid rows, a start is invalid (and gets weight 0) with probability p ** draws.

    Returns:
      times and writers, int32 [B].
    """
    if draws == 1:
        return sample_starts(key, ring, (batch_size,), window, history)
    times, writers = sample_starts(key, ring, (draws, batch_size), window, history)
    valid = ring.rows.valid[times % ring.capacity, writers]
    pick = jnp.argmax(valid, axis=0)[None]
    return jnp.take_along_axis(times, pick, axis=0)[0], jnp.take_along_axis(writers, pick, axis=0)[0]


def uniform(store: Store, batch_size: int) -> Replay:
    """Sampling uniformly, with replacement, in time that depends on the batch alone.

    Args:
      store: what keeps the steps.
      batch_size: transitions in a sample.
    """
    draws = 1 if store.every_row_valid else 8

    def starts(key: Array, ring: Ring) -> Any:
        if store.period is not None:
            return sample_multiples(key, ring, batch_size, store.n_step, store.history, store.period)
        return sample_valid_starts(key, ring, batch_size, store.n_step, store.history, draws)

    def sample(memory: Any, key: Array, h: Hypers) -> tuple[Transition, tuple[Array, Array], Array]:
        times, writers = starts(key, memory.ring)
        batch, weight = store.read(memory, times, writers, h)
        return batch, (times, writers), weight

    def update(memory: Any, index: Any, priority: Array, h: Hypers) -> Any:
        del index, priority, h
        return memory

    return Replay(init=store.init, add=store.add, sample=sample, update=update)
