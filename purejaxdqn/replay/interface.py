"""Replay interfaces: what a learner needs of a replay, and what a replay needs of the store that it samples from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Hypers, Row, Transition


def keep_hypers(h: Hypers, updates: Array) -> Hypers:
    """The hypers as they are: nothing is annealed."""
    del updates
    return h


class Replay(NamedTuple):
    """What a learner needs of a replay; `memory` is any pytree, `index` whatever `update` needs."""

    init: Callable[[Row], Any]
    """(row of one environment) -> memory."""
    add: Callable[[Any, Row], Any]
    """(memory, rows [T, E]) -> memory."""
    sample: Callable[[Any, Array, Hypers], tuple[Transition, Any, Array]]
    """(memory, key, hypers) -> transitions [B], index, weights [B]."""
    update: Callable[[Any, Any, Array, Hypers], Any]
    """(memory, index, the head's priorities [B], hypers) -> memory."""
    now: Callable[[Hypers, Array], Hypers] = keep_hypers
    """(hypers, updates of the run so far) -> hypers of the next sample: annealing follows the run's clock and not the
    replay's contents, which a resumed run may have lost."""


class Store(NamedTuple):
    """How steps are kept and transitions read back; a store's state is any pytree with a `ring` (see `ring.Ring`)."""

    capacity: int
    """Time steps that are kept."""
    num_envs: int
    n_step: int
    """Longest fold: this many newest time steps start no transition."""
    history: int
    """Earlier time steps that are needed to read one: this many oldest time steps start no transition."""
    every_row_valid: bool
    """Whether every row is a transition."""
    init: Callable[[Row], Any]
    """(row of one environment) -> store."""
    add: Callable[[Any, Row], Any]
    """(store, rows [T, E]) -> store."""
    read: Callable[[Any, Array, Array, Hypers], tuple[Any, Array]]
    """(store, times [B], writers [B], hypers) -> transitions [B], weights [B], 0 for a row that is not a transition."""
    period: int | None = None
    """Of windows: times that are multiples of it start one, whatever their row is; None where transitions alone do."""


def assert_rows(rows: Row) -> None:
    """Asserts that rows are [T, E, ...] of the types that `Row` names; the ring asserts their other axes."""
    assert_array("rows.action", rows.action, (None, None), int)
    assert_array("rows.reward", rows.reward, rows.action.shape, float)
    for name in ("terminated", "truncated", "valid"):
        assert_array(f"rows.{name}", getattr(rows, name), rows.action.shape, bool)
    for name in ("obs", "final_obs"):
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(rows, name)):
            assert_array(f"rows.{name}{jax.tree_util.keystr(path)}", leaf, (*rows.action.shape, ...))
    for name in ("mask", "final_mask"):
        if getattr(rows, name) is not None:
            assert_array(f"rows.{name}", getattr(rows, name), (*rows.action.shape, None), bool)


def no_replay() -> Replay:
    """The replay of a learner that keeps nothing."""

    def sample(memory: Any, key: Any, h: Any) -> Any:
        raise LookupError("a rollout learner keeps no transitions, so there are none to sample")

    return Replay(
        init=lambda row: (),
        add=lambda memory, rows: memory,
        sample=sample,
        update=lambda memory, index, priority, h: memory,
    )
