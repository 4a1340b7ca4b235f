"""A replay of batches that were sampled beforehand: the device's side of a replay in the host's memory."""

from typing import Any

import jax
from flax import struct
from jax import Array

from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.replay.interface import Replay
from purejaxdqn.types import Hypers, Transition


@struct.dataclass
class DrawnMemory:
    """What the device holds of such a replay: the batches of one learning phase of U updates."""

    batch: Transition
    """[U, B, ...]."""
    weight: Array
    """float32 [U, B]."""
    priority: Array
    """float32 [U, B], written as the updates go."""
    cursor: Array
    """int32 []: the next batch."""


def drawn_replay() -> Replay:
    """A replay whose memory is a `DrawnMemory`: it returns the batches in order and records their priorities."""

    def sample(memory: DrawnMemory, key: Array, h: Hypers) -> tuple[Transition, Any, Array]:
        del key, h
        batch = jax.tree.map(lambda leaf: leaf[memory.cursor], memory.batch)
        return batch, (), memory.weight[memory.cursor]

    def update(memory: DrawnMemory, index: Any, priority: Array, h: Hypers) -> DrawnMemory:
        del index, h
        assert_array("priority", priority, memory.priority.shape[1:], float)
        noted = memory.priority.at[memory.cursor].set(priority)
        return memory.replace(priority=noted, cursor=memory.cursor + 1)  # type: ignore[attr-defined]

    return Replay(init=lambda row: (), add=lambda memory, rows: memory, sample=sample, update=update)
