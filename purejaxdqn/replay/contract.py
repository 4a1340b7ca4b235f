"""The contract between replays and learners."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from purejaxdqn.types import Hypers, Row, Transition


class Replay(NamedTuple):
    """What a learner needs of a replay; `memory` is any pytree, `index` whatever `update` wants back."""

    init: Callable[[Row], Any]
    """(row of one environment) -> memory."""
    add: Callable[[Any, Row], Any]
    """(memory, rows [T, E]) -> memory."""
    sample: Callable[[Any, Array, Hypers], tuple[Transition, Any, Array]]
    """(memory, key, hypers) -> transitions [B], index, weights [B]."""
    update: Callable[[Any, Any, Array, Hypers], Any]
    """(memory, index, the head's priorities [B], hypers) -> memory."""
