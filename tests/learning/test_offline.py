"""Constraints and heads for learning from a dataset, by hand and by plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxdqn.learning.constraints import cloning, conservative, margin, on_last
from purejaxdqn.learning.offline_heads import bcq, expectile_loss, iql
from purejaxdqn.types import Dist, Hypers

pytestmark = pytest.mark.usefixtures("strict_ranks")

H = Hypers(constraint_weight=2.0, demo_margin=0.5, expectile=0.75, advantage_scale=2.0)
LN2, LN3 = np.log(2.0), np.log(3.0)


def dist(*outputs):
    """One example's outputs, [A] for each of N."""
    x = jnp.stack([jnp.asarray(column, jnp.float32) for column in outputs], axis=-1)
    return Dist(x, jnp.zeros(x.shape[-1]), jnp.full(x.shape[-1], 1 / x.shape[-1]))


def test_cql_adds_alpha_times_the_logsumexp_above_the_datas_action():
    """Q = (0, ln 3): Σ exp = 4, so 7 + 2 (ln 4 - ln 3) at action 1, and 7 + 2 ln 4 at action 0."""
    q = jnp.array([0.0, LN3])
    np.testing.assert_allclose(conservative(jnp.float32(7), q, jnp.int32(1), H), 7 + 2 * np.log(4 / 3), rtol=1e-6)
    np.testing.assert_allclose(conservative(jnp.float32(7), q, jnp.int32(0), H), 7 + 2 * np.log(4), rtol=1e-6)


def test_the_gradient_of_cql_is_softmax_less_the_datas_action():
    """Kumar et al. 2020: α (softmax(Q) - 1{a}), here 2 (¼ - 1, ¾)."""
    grad = jax.jit(jax.grad(lambda q: conservative(jnp.float32(0), q, jnp.int32(0), H)))(jnp.array([0.0, LN3]))
    np.testing.assert_allclose(grad, [-1.5, 1.5], rtol=1e-6)


def test_cloning_is_the_cross_entropy_alone():
    """Of Q = (0, ln 3) the first action has the probability ¼; the TD loss of 7 is not read."""
    found = cloning(jnp.float32(7), jnp.array([0.0, LN3]), jnp.int32(0), H)
    np.testing.assert_allclose(found, np.log(4), rtol=1e-6)


def test_the_margin_is_nothing_where_the_demonstrated_action_leads_by_it():
    """m = ½, λ = 2. Q = (2, 1): action 0 leads by 1, no more than ½ is asked. At action 1 it is 2 (2 + ½ - 1) = 3."""
    q = jnp.array([2.0, 1.0])
    assert margin(jnp.float32(7), q, jnp.int32(0), H) == 7.0
    assert margin(jnp.float32(7), q, jnp.int32(1), H) == 7.0 + 3.0
    # A lead of ¼ misses ¼ of the margin.
    np.testing.assert_allclose(margin(jnp.float32(0), jnp.array([1.25, 1.0]), jnp.int32(0), H), 0.5, rtol=1e-6)


def test_only_the_last_examples_and_their_legal_actions_are_constrained():
    """Of three examples two are of the dataset; one of them has only its own action, which surprises nobody."""
    q = jnp.array([[0.0, LN3], [0.0, LN3], [0.0, LN3]])
    mask = jnp.array([[True, True], [True, False], [True, True]])
    actions, constrained = jnp.zeros(3, jnp.int32), jax.jit(on_last(cloning, 2))
    found = constrained(jnp.full(3, 7.0), q, actions, mask, H)
    np.testing.assert_allclose(found, [7.0, 0.0, np.log(4)], rtol=1e-6)
    found = constrained(jnp.full(3, 7.0), q, actions, None, H)
    np.testing.assert_allclose(found, [7.0, np.log(4), np.log(4)], rtol=1e-6)
    grad = jax.jit(jax.grad(lambda q: jnp.sum(on_last(conservative, 2)(jnp.full(3, 7.0), q, actions, mask, H))))(q)
    assert np.isfinite(grad).all() and (grad[0] == 0).all() and (grad[1] == 0).all()


def test_bcq_chooses_among_what_the_data_does():
    """G = (½, ¼, ¼): at a threshold of 0.4 all count, at 0.6 the first alone, whatever the values."""
    found = dist([0.0, 5.0, 3.0], [LN2, 0.0, 0.0])
    np.testing.assert_allclose(bcq("squared", 0.4).q_values(found), [0, 5, 3])
    np.testing.assert_allclose(bcq("squared", 0.6).q_values(found), [0, -1, -1])
    np.testing.assert_allclose(bcq("squared", 0.0).q_values(found), [0, 5, 3])
    np.testing.assert_allclose(bcq("squared", 1.0).q_values(found), [0, -1, -1])


def test_bcqs_loss_is_the_td_error_and_the_cross_entropy_and_its_target_reads_values_alone():
    """½ (1 - 5)² - log ¼ at action 1, and 1 + ½ · 3 for a policy of action 2."""
    head, found = bcq("squared", 0.4), dist([0.0, 5.0, 3.0], [LN2, 0.0, 0.0])
    parts = jax.jit(head.loss)(found, jnp.int32(1), jnp.float32(1), H)
    np.testing.assert_allclose(parts.loss, 8 + np.log(4), rtol=1e-6)
    assert parts.abs_td_error == 4.0
    y = head.target(found, jnp.array([0.0, 0.0, 1.0]), None, jnp.float32(1), jnp.float32(0.5))
    assert y == 2.5


def test_expectile_loss_weighs_what_is_above_and_below():
    """½ · ¾ · 4 above, ½ · ¼ · 4 below."""
    np.testing.assert_allclose(expectile_loss(jnp.array([2.0, -2.0]), jnp.float32(0.75)), [1.5, 0.5])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=5, max_size=5), st.sampled_from([0.5, 0.7, 0.9]))
def test_the_minimum_of_the_expectile_loss_is_the_expectile(values, expectile):
    """At it, τ times what lies above balances (1 - τ) times what lies below; found by bisection, in plain floats."""
    low, high = float(min(values)), float(max(values))
    for _ in range(60):
        middle = (low + high) / 2
        pull = sum((expectile if v > middle else 1 - expectile) * (v - middle) for v in values)
        low, high = (middle, high) if pull > 0 else (low, middle)
    x = jnp.asarray(values, jnp.float32)
    slope = jax.grad(lambda v: jnp.sum(expectile_loss(x - v, jnp.float32(expectile))))(jnp.float32(low))
    assert abs(float(slope)) < 1e-3


def test_iql_by_hand():
    """V = mean (1, 3) = 2. At action 0: Q = 3, so an advantage of 1, y = 5 an error of 2; π = (½, ½).

    ½ · 4 + ½ · ¾ · 1 + e² ln 2; and its target is r + γ V, whatever the policy.
    """
    head, found = iql(), dist([3.0, 9.0], [1.0, 3.0], [0.0, 0.0])
    parts = jax.jit(head.loss)(found, jnp.int32(0), jnp.float32(5), H)
    np.testing.assert_allclose(parts.loss, 2 + 0.375 + np.exp(2.0) * LN2, rtol=1e-5)
    assert parts.abs_td_error == 2.0
    for policy in ([1.0, 0.0], [0.0, 1.0]):
        assert head.target(found, jnp.array(policy), None, jnp.float32(1), jnp.float32(0.5)) == 2.0


def test_iqls_three_parts_move_their_own_outputs_alone():
    """Q by its error, V by the expectile, logits by the weighted cross-entropy: no gradient crosses."""
    head = iql()

    def loss(x):
        return head.loss(dist(*x.T), jnp.int32(0), jnp.float32(5), H).loss

    grad = jax.jit(jax.grad(loss))(jnp.array([[3.0, 1.0, 0.0], [9.0, 3.0, 0.0]]))
    # -(5 - 3) on Q; ¾ · 1 · -½ on both parts of V; e² (½ - 1, ½) on the logits.
    np.testing.assert_allclose(grad[:, 0], [-2, 0], atol=1e-6)
    np.testing.assert_allclose(grad[:, 1], [-0.375, -0.375], rtol=1e-5)
    np.testing.assert_allclose(grad[:, 2], np.exp(2) * np.array([-0.5, 0.5]), rtol=1e-5)


def test_iql_plays_its_policy_and_shows_the_states_value():
    found = dist([30.0, 9.0], [1.0, 3.0], [0.0, 1.0])
    np.testing.assert_allclose(iql().q_values(found), [1.0, 2.0], rtol=1e-6)
