"""Constraints: what keeps values near the actions of a dataset (CQL, cloning, DQfD's margin), one example each."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from purejaxdqn.learning.heads import value_of
from purejaxdqn.learning.masks import legal_values
from purejaxdqn.machine.shapes import assert_array, assert_arrays
from purejaxdqn.types import Hypers

Constraint = Callable[[Array, Array, Array, Hypers], Array]
"""(the head's loss [], action values [A], a_tm1 [] of the dataset, hypers) -> loss []."""


def assert_arguments(loss: Array, q_tm1: Array, a_tm1: Array) -> None:
    """Asserts the shapes and types that `Constraint` names."""
    assert_array("loss", loss, (), float)
    assert_array("q_tm1", q_tm1, (None,), float)
    assert_array("a_tm1", a_tm1, (), int)


def surprise(q_tm1: Array, a_tm1: Array) -> Array:
    """-log softmax(Q)(a), which is log Σ exp Q - Q(a), []."""
    return logsumexp(q_tm1) - value_of(q_tm1, a_tm1)


def conservative(loss: Array, q_tm1: Array, a_tm1: Array, h: Hypers) -> Array:
    """CQL(H) of discrete actions, ℓ + α (log Σ_a exp Q(s, a) - Q(s, a_data)) (Kumar et al. 2020, equation 4).

    α is `constraint_weight`.
    """
    assert_arguments(loss, q_tm1, a_tm1)
    return loss + h.constraint_weight * surprise(q_tm1, a_tm1)


def cloning(loss: Array, q_tm1: Array, a_tm1: Array, h: Hypers) -> Array:
    """Behaviour cloning, -log softmax(Q)(a_data) alone (Pomerleau 1991): action values are logits, rewards unread."""
    del h
    assert_arguments(loss, q_tm1, a_tm1)
    return surprise(q_tm1, a_tm1)


def margin(loss: Array, q_tm1: Array, a_tm1: Array, h: Hypers) -> Array:
    """DQfD's, ℓ + λ (max_a [Q(s, a) + m 1{a ≠ a_demo}] - Q(s, a_demo)) (Hester et al. 2018, equation 2).

    λ is `constraint_weight` and m `demo_margin`.
    """
    assert_arguments(loss, q_tm1, a_tm1)
    other = jnp.arange(q_tm1.shape[0]) != a_tm1
    return loss + h.constraint_weight * (jnp.max(q_tm1 + h.demo_margin * other) - value_of(q_tm1, a_tm1))


BatchConstraint = Callable[[Array, Array, Array, Array | None, Hypers], Array]
"""(losses [B], action values [B, A], a_tm1 [B], mask_tm1 [B, A] or None, hypers) -> losses [B]."""


def on_last(constraint: Constraint, size: int) -> BatchConstraint:
    """A constraint on the last `size` examples of a batch, which are those of a dataset; illegal actions have no part
    in it."""

    def constrained(losses: Array, q_tm1: Array, a_tm1: Array, mask_tm1: Array | None, h: Hypers) -> Array:
        assert_arrays(losses.shape, int, a_tm1=a_tm1)
        first = losses.shape[0] - size
        q = legal_values(q_tm1[first:], None if mask_tm1 is None else mask_tm1[first:])
        held = jax.vmap(constraint, in_axes=(0, 0, 0, None))(losses[first:], q, a_tm1[first:], h)
        return jnp.concatenate([losses[:first], held])

    return constrained
