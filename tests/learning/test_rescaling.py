"""Value rescaling: by hand, its inverse, and against rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purejaxdqn.learning.heads import rescaled, scalar
from purejaxdqn.learning.losses import rescale, unrescale
from purejaxdqn.types import Dist, Hypers

H = Hypers().as_arrays()


def dist_of(values):
    """What a scalar network gives for one example."""
    x = jnp.asarray(values, jnp.float32)[:, None]
    return Dist(x=x, support=jnp.zeros(1), weight=jnp.ones(1))


def test_by_hand():
    """h(3) = √4 - 1 + 0.003, h(-8) = -(√9 - 1) - 0.008, h(0) = 0."""
    np.testing.assert_allclose(rescale(jnp.array([3.0, -8.0, 0.0])), [1.003, -2.008, 0.0], rtol=1e-6)
    np.testing.assert_allclose(unrescale(jnp.array([1.003, -2.008, 0.0])), [3.0, -8.0, 0.0], rtol=1e-6)


def test_is_its_own_inverse_near_zero_and_far_from_it():
    """To float32's digits: also where subtracting roots would leave none."""
    size = np.logspace(-8, 8, 400)
    x = jnp.asarray(np.concatenate([-size, size]), jnp.float32)
    np.testing.assert_allclose(unrescale(rescale(x)), x, rtol=2e-6)
    assert jnp.all(jnp.diff(rescale(jnp.sort(x))) > 0.0)


def test_equals_rlax():
    """Its signed hyperbolic and signed parabolic functions, with the same ε."""
    x = jnp.linspace(-300.0, 300.0, 1_001)
    np.testing.assert_allclose(rescale(x), rlax.signed_hyperbolic(x), rtol=1e-5, atol=1e-6)
    # rlax subtracts nearly equal numbers divided by 2ε, and so has errors of 1e-3 itself.
    np.testing.assert_allclose(unrescale(x / 20), rlax.signed_parabolic(x / 20), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_a_double_n_step_target_equals_rlax(loss):
    """`transformed_n_step_q_learning` of rlax on a sequence of one step: h(r + γ h⁻¹(q(argmax)))."""
    rng = np.random.default_rng(0)
    head = rescaled(scalar(loss))
    for _ in range(5):
        q_tm1, q_t, q_select = (jnp.asarray(rng.normal(size=3) * 4, jnp.float32) for _ in range(3))
        r_t, discount, action = jnp.float32(rng.normal() * 50), jnp.float32(0.97**3), int(rng.integers(3))
        theirs = rlax.transformed_n_step_q_learning(
            q_tm1[None], jnp.array([action]), q_t[None], jnp.array([int(jnp.argmax(q_select))]), r_t[None],
            discount[None], 1, tx_pair=rlax.SIGNED_HYPERBOLIC_PAIR,
        )[0]  # fmt: skip
        policy = jax.nn.one_hot(jnp.argmax(q_select), 3)
        y = head.target(dist_of(q_t), policy, None, r_t, discount)
        parts = head.loss(dist_of(q_tm1), jnp.int32(action), y, H)
        np.testing.assert_allclose(parts.priority, abs(theirs), rtol=1e-3, atol=1e-3)
        assert parts.loss == scalar(loss).loss(dist_of(q_tm1), jnp.int32(action), rescale(y), H).loss


def test_values_are_returns_and_keep_their_order():
    """So acting, Munchausen's softmax, λ-returns and the printed Q-values know nothing of the rescaling."""
    head, dist = rescaled(scalar("squared")), dist_of([1.003, -2.008, 0.5])
    values = head.q_values(dist)
    np.testing.assert_allclose(values[:2], [3.0, -8.0], rtol=1e-6)
    assert int(jnp.argmax(values)) == 0
    np.testing.assert_allclose(head.loss(dist, jnp.int32(0), jnp.float32(5.0), H).abs_td_error, 2.0, rtol=1e-6)
