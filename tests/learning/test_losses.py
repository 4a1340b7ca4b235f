"""TD targets and losses: values worked out by hand, and rlax as a second opinion, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purejaxdqn.learning.losses import double_td_target, huber, squared_error, td_error, td_target

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A = 16, 5


@pytest.fixture
def batch():
    """Random q_tm1, a_tm1, r_t, discount_t, q_t_value, q_t_selector; a third of the discounts are zero."""
    keys = jax.random.split(jax.random.key(0), 6)
    discount = jax.random.uniform(keys[3], (B,)) * (jnp.arange(B) % 3 > 0)
    return (
        jax.random.normal(keys[0], (B, A)),
        jax.random.randint(keys[1], (B,), 0, A),
        3.0 * jax.random.normal(keys[2], (B,)),
        discount,
        jax.random.normal(keys[4], (B, A)),
        jax.random.normal(keys[5], (B, A)),
    )


def test_td_target_by_hand():
    # 1 + 0.5 · max(2, 8, -4) = 5; after a termination only the reward is left.
    q_t = jnp.array([2.0, 8.0, -4.0])
    assert td_target(jnp.float32(1.0), jnp.float32(0.5), q_t) == 5.0
    assert td_target(jnp.float32(1.0), jnp.float32(0.0), q_t) == 1.0


def test_double_td_target_by_hand():
    # The selector prefers action 2, whose value is -4: 1 + 0.5 · (-4) = -1, not 5.
    q_t, selector = jnp.array([2.0, 8.0, -4.0]), jnp.array([0.0, 1.0, 2.0])
    assert double_td_target(jnp.float32(1.0), jnp.float32(0.5), q_t, selector) == -1.0


def test_td_error_is_target_minus_prediction():
    # 5 - 3 = 2: positive where the prediction is too low.
    assert td_error(jnp.array([9.0, 3.0]), jnp.int32(1), jnp.float32(5.0)) == 2.0


def test_huber_and_squared_error_by_hand():
    # δ = 2: ½·1² = 0.5; ½·2² = 2 at the seam; 2·(5 - 1) = 8 beyond, on both sides.
    x = jnp.array([0.0, 1.0, -2.0, 5.0, -5.0])
    np.testing.assert_allclose(huber(x, 2.0), [0.0, 0.5, 2.0, 8.0, 8.0], atol=1e-7)
    np.testing.assert_allclose(squared_error(x), [0.0, 0.5, 2.0, 12.5, 12.5], atol=1e-7)


@pytest.mark.parametrize("delta", [0.3, 1.0, 4.0])
def test_huber_gradient_is_the_clipped_error(delta):
    """The gradient is x inside δ and ±δ outside, the error clipping of the DQN paper, at the seam and at zero too."""
    x = jnp.array([-100.0, -4.0, -delta, -0.1, 0.0, 0.1, delta, 4.0, 100.0])
    gradient = jax.vmap(jax.grad(huber), in_axes=(0, None))(x, delta)
    np.testing.assert_allclose(gradient, np.clip(x, -delta, delta), atol=1e-6)
    assert float(jnp.max(jnp.abs(gradient))) <= delta * (1 + 1e-6)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_huber_equals_rlax(delta):
    x = jnp.linspace(-3.0, 3.0, 61)
    np.testing.assert_allclose(huber(x, delta), rlax.huber_loss(x, delta), atol=1e-5)


def test_td_errors_and_gradients_equal_rlax(batch):
    """Q-learning and double Q-learning: errors, and the gradient of their squared loss with respect to q_tm1."""
    q_tm1, a_tm1, r_t, discount_t, q_t_value, q_t_selector = batch

    def ours(q, double):
        if double:
            target = jax.vmap(double_td_target)(r_t, discount_t, q_t_value, q_t_selector)
        else:
            target = jax.vmap(td_target)(r_t, discount_t, q_t_value)
        return jax.vmap(td_error)(q, a_tm1, target)

    def theirs(q, double):
        if double:
            return jax.vmap(rlax.double_q_learning)(q, a_tm1, r_t, discount_t, q_t_value, q_t_selector)
        return jax.vmap(rlax.q_learning)(q, a_tm1, r_t, discount_t, q_t_value)

    for double in (False, True):
        np.testing.assert_allclose(ours(q_tm1, double), theirs(q_tm1, double), atol=1e-5)
        for loss in (squared_error, huber):
            our_grad, their_grad = (jax.grad(lambda q, f=f: jnp.sum(loss(f(q, double))))(q_tm1) for f in (ours, theirs))  # noqa: B023
            np.testing.assert_allclose(our_grad, their_grad, atol=1e-5)
            assert np.count_nonzero(our_grad) == B  # only the action taken learns


def test_double_differs_from_single_only_where_the_networks_disagree(batch):
    """Double Q-learning never bootstraps above the maximum, and equals it where both networks are one."""
    _, _, r_t, discount_t, q_t_value, q_t_selector = batch
    single = jax.vmap(td_target)(r_t, discount_t, q_t_value)
    double = jax.vmap(double_td_target)(r_t, discount_t, q_t_value, q_t_selector)
    same = jax.vmap(double_td_target)(r_t, discount_t, q_t_value, q_t_value)
    np.testing.assert_array_equal(single, same)
    assert np.all(double <= single) and np.any(double < single)


def test_no_gradient_is_stopped_inside():
    """The caller decides what is constant: the target has gradients, 0.5 at the greedy action and 1 at the reward."""
    grads = jax.grad(td_target, argnums=(0, 2))(jnp.float32(1.0), jnp.float32(0.5), jnp.array([1.0, 2.0]))
    assert grads[0] == 1.0
    np.testing.assert_array_equal(grads[1], [0.0, 0.5])


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (td_target, (2, 3, 4)),
        (double_td_target, (2, 3, 4, 5)),
        (td_error, (0, 1, 2)),
        (huber, (2,)),
        (squared_error, (2,)),
    ],
)
def test_jit_and_vmap(fn, args, batch):
    """Every function gives the same under jit and vmap as one example at a time in Python."""
    chosen = [batch[i] for i in args]
    together = jax.jit(jax.vmap(fn))(*chosen)
    one_by_one = [fn(*(array[i] for array in chosen)) for i in range(B)]
    assert together.shape == (B,)
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
