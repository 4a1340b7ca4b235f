"""The Munchausen backup, alone and under every kind of head, against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.learning.backups import greedy, munchausen
from purejaxdqn.learning.heads import categorical, implicit_quantile, proposed_quantile, quantile, scalar
from purejaxdqn.types import Dist, Hypers

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A = 6, 4
H = Hypers().as_arrays()
BACKUP = munchausen()
policy = jax.jit(BACKUP.policy)
bonus = jax.jit(BACKUP.bonus)
QS = {
    "equal": [3.0, 3.0, 3.0, 3.0],
    "close": [0.01, 0.0, -0.02, 0.015],
    "apart": [1.0, -1.0, 0.5, 0.0],
    "large": [1e4, 1e4 - 0.125, -1e4, 0.0],
    "negative": [-1e4, -1e4 + 0.0625, -1e4, -2e4],
    "one": [7.0],
}


def twin(q, temperature):
    """softmax(q / τ) and τ log softmax(q / τ), in float64."""
    q = np.asarray(q, np.float64)
    advantage = q - q.max()
    log_sum = np.log(np.exp(advantage / temperature).sum())
    return np.exp(advantage / temperature - log_sum), advantage - temperature * log_sum


@pytest.mark.parametrize("temperature", [1e-3, 0.03, 1.0, 50.0])
@pytest.mark.parametrize("name", QS)
def test_policy_and_penalty_equal_the_twin(name, temperature):
    q = jnp.array(QS[name], jnp.float32)
    h = H.replace(munchausen_temperature=jnp.float32(temperature))
    pi, penalty = policy(q, h)
    expected_pi, expected_penalty = twin(q, float(h.munchausen_temperature))
    np.testing.assert_allclose(pi, expected_pi, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(penalty, expected_penalty, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jnp.sum(pi), 1.0, rtol=1e-6)
    assert float(penalty.max()) <= 0.0


@pytest.mark.parametrize("temperature", [0.03, 1.0])
@pytest.mark.parametrize("name", QS)
def test_bonus_equals_the_twin(name, temperature):
    """α times τ log π(a|s), no lower than the clip."""
    q = jnp.array(QS[name], jnp.float32)
    h = H.replace(munchausen_temperature=jnp.float32(temperature), munchausen_alpha=0.7, munchausen_clip=-0.5)
    _, log_policy = twin(q, float(h.munchausen_temperature))
    for action in range(len(q)):
        expected = 0.7 * max(log_policy[action], -0.5)
        np.testing.assert_allclose(bonus(q, jnp.int32(action), h), expected, rtol=1e-5, atol=1e-5)


def test_by_hand():
    """Equal values of two actions: π = ½ each, τ log ½; with τ = 2 that is -2 log 2, below a clip of -1."""
    q, h = jnp.array([5.0, 5.0]), H.replace(munchausen_temperature=2.0)
    pi, penalty = policy(q, h)
    np.testing.assert_allclose(pi, [0.5, 0.5])
    np.testing.assert_allclose(penalty, [-2.0 * np.log(2.0)] * 2, rtol=1e-6)
    np.testing.assert_allclose(bonus(q, jnp.int32(0), h), -0.9, rtol=1e-6)
    np.testing.assert_allclose(bonus(q, jnp.int32(0), h.replace(munchausen_clip=-10.0)), -1.8 * np.log(2.0), rtol=1e-6)


def test_the_target_network_selects_and_a_bonus_is_asked_for():
    assert BACKUP.needs_bonus is True and BACKUP.selects_online is False


def test_the_bonus_is_never_a_reward():
    """Between α × clip and zero for any values, so that it cannot pay for itself."""
    q = 100.0 * jax.random.normal(jax.random.key(0), (50, A))
    values = jax.vmap(jax.vmap(bonus, in_axes=(None, 0, None)), in_axes=(0, None, None))(q, jnp.arange(A), H)
    assert values.shape == (50, A)
    assert float(values.max()) <= 0.0 and float(values.min()) >= -0.9 - 1e-6
    assert float(values.min()) < -0.89 and float(values.max()) > -1e-3


def test_a_low_temperature_is_greedy():
    """Without ties the policy is then the greedy one, and the soft value max q."""
    q = jnp.array([1.0, 4.0, -2.0])
    pi, penalty = policy(q, H.replace(munchausen_temperature=1e-4))
    np.testing.assert_allclose(pi, greedy(False).policy(q, H)[0], atol=1e-6)
    np.testing.assert_allclose(jnp.sum(pi * (q - penalty)), 4.0, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.03, 0.5, 5.0])
def test_soft_value_is_the_scaled_log_sum(temperature):
    """Σ π (q - τ log π) = τ log Σ exp(q / τ)."""
    q = jnp.array([1.0, 1.2, -2.0, 0.9])
    pi, penalty = policy(q, H.replace(munchausen_temperature=temperature))
    exact = np.asarray(q, np.float64)
    expected = exact.max() + temperature * np.log(np.exp((exact - exact.max()) / temperature).sum())
    np.testing.assert_allclose(jnp.sum(pi * (q - penalty)), expected, rtol=1e-5)


def test_lanes_may_differ_in_temperature_and_gradients_are_finite(debug_nans):
    temperatures = jnp.array([0.03, 1.0])
    h = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), H).replace(munchausen_temperature=temperatures)
    q = jnp.array([[1.0, 0.5, 2.0], [1e4, -1e4, 0.0]])
    pi, penalty = jax.jit(jax.vmap(jax.vmap(BACKUP.policy, in_axes=(0, None)), in_axes=(None, 0)))(q, h)
    for lane in range(2):
        for i in range(2):
            expected_pi, expected_penalty = twin(q[i], float(temperatures[lane]))
            np.testing.assert_allclose(pi[lane, i], expected_pi, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(penalty[lane, i], expected_penalty, rtol=1e-5, atol=1e-5)
    gradient = jax.grad(lambda q: jnp.sum(jnp.prod(jnp.stack(BACKUP.policy(q, H)), axis=0)))(q[1])
    assert np.all(np.isfinite(gradient))


def quantile_dist(key, num):
    """A batch with uneven weights."""
    keys = jax.random.split(key, 2)
    weight = jax.nn.softmax(jax.random.normal(keys[0], (B, num)))
    edge = jnp.concatenate([jnp.zeros((B, 1)), jnp.cumsum(weight, axis=1)], axis=1)
    return Dist(0.2 * jax.random.normal(keys[1], (B, A, num)), 0.5 * (edge[:, 1:] + edge[:, :-1]), weight)


def batch_targets(head, dist_tm1, a_tm1, dist_t, r_t, discount_t, h):
    """A batch's targets as a learning phase makes them: values, bonus, policy, target."""
    reward = r_t + jax.vmap(BACKUP.bonus, in_axes=(0, 0, None))(head.q_values(dist_tm1), a_tm1, h)
    pi, penalty = jax.vmap(BACKUP.policy, in_axes=(0, None))(head.q_values(dist_t), h)
    return jax.vmap(head.target)(dist_t, pi, penalty, reward, discount_t)


@pytest.fixture
def batch():
    """Actions, rewards and discounts, some of them zero; a temperature at which several actions matter."""
    keys = jax.random.split(jax.random.key(9), 3)
    discount = jax.random.uniform(keys[2], (B,)) * (jnp.arange(B) % 3 > 0)
    h = H.replace(munchausen_temperature=jnp.float32(0.1))
    return jax.random.randint(keys[0], (B,), 0, A), jax.random.normal(keys[1], (B,)), discount, h


def twin_parts(q_tm1, a_tm1, q_t, r_t, h):
    """For each example: reward with bonus, policy, penalty, in float64."""
    for b in range(B):
        temperature = float(h.munchausen_temperature)
        _, log_tm1 = twin(q_tm1[b], temperature)
        pi, log_t = twin(q_t[b], temperature)
        added = float(h.munchausen_alpha) * max(log_tm1[int(a_tm1[b])], float(h.munchausen_clip))
        yield float(r_t[b]) + added, pi, log_t


@pytest.mark.parametrize(
    "head", [quantile(5), implicit_quantile(), proposed_quantile()], ids=["quantile", "iqn", "fqf"]
)
def test_quantile_targets_equal_the_twin(head, batch):
    """Munchausen-IQN, quantile by quantile (Vieillard et al. 2020, appendix), and its relatives."""
    a_tm1, r_t, discount_t, h = batch
    dist_tm1, dist_t = quantile_dist(jax.random.key(1), 5), quantile_dist(jax.random.key(2), 7)
    values, weight = jax.jit(batch_targets, static_argnums=0)(head, dist_tm1, a_tm1, dist_t, r_t, discount_t, h)
    x = np.asarray(dist_t.x, np.float64)
    q_tm1, q_t = (np.einsum("ban,bn->ba", np.float64(d.x), np.float64(d.weight)) for d in (dist_tm1, dist_t))
    for b, (reward, pi, log_t) in enumerate(twin_parts(q_tm1, a_tm1, q_t, r_t, h)):
        expected = reward + float(discount_t[b]) * (pi @ (x[b] - log_t[:, None]))
        np.testing.assert_allclose(values[b], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(weight, dist_t.weight)


def test_categorical_targets_equal_the_twin(batch):
    """The mixture of every action's atoms, each shifted by its own penalty, projected one atom at a time."""
    a_tm1, r_t, discount_t, h = batch
    support = (-3.0, -1.0, -0.5, 0.0, 0.75, 1.0, 4.0)
    z, head = np.array(support), categorical(support)
    every = jnp.broadcast_to(jnp.array(support), (B, 7))
    dist_tm1, dist_t = (
        Dist(jax.random.normal(jax.random.key(seed), (B, A, 7)), every, jnp.full_like(every, 1 / 7)) for seed in (3, 4)
    )
    y = jax.jit(batch_targets, static_argnums=0)(head, dist_tm1, a_tm1, dist_t, r_t, discount_t, h)
    probs_tm1, probs_t = (np.exp(np.asarray(d.x, np.float64)) for d in (dist_tm1, dist_t))
    probs_tm1, probs_t = (p / p.sum(axis=-1, keepdims=True) for p in (probs_tm1, probs_t))
    for b, (reward, pi, log_t) in enumerate(twin_parts(probs_tm1 @ z, a_tm1, probs_t @ z, r_t, h)):
        expected = np.zeros(7)
        for action in range(A):
            returns = np.clip(reward + float(discount_t[b]) * (z - log_t[action]), z[0], z[-1])
            hats = np.array([np.interp(returns, z, unit) for unit in np.eye(7)])
            expected += pi[action] * (hats @ probs_t[b, action])
        np.testing.assert_allclose(y[b], expected, atol=1e-4)


def test_scalar_targets_equal_the_twin(batch):
    """M-DQN itself."""
    a_tm1, r_t, discount_t, h = batch
    dist_tm1, dist_t = (
        Dist(jax.random.normal(jax.random.key(seed), (B, A, 1)), jnp.zeros((B, 1)), jnp.ones((B, 1))) for seed in (5, 6)
    )
    y = jax.jit(batch_targets, static_argnums=0)(scalar("squared"), dist_tm1, a_tm1, dist_t, r_t, discount_t, h)
    q_tm1, q_t = (np.asarray(d.x, np.float64)[..., 0] for d in (dist_tm1, dist_t))
    for b, (reward, pi, log_t) in enumerate(twin_parts(q_tm1, a_tm1, q_t, r_t, h)):
        np.testing.assert_allclose(y[b], reward + float(discount_t[b]) * (pi @ (q_t[b] - log_t)), rtol=1e-4, atol=1e-5)
