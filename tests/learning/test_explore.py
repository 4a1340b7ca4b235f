"""ε-greedy: one coin per environment, the right frequencies, ties, edges.

Statistical checks use fixed seeds; each states how often a correct implementation would fail on a fresh seed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.learning.explore import epsilon_greedy

pytestmark = pytest.mark.usefixtures("strict_ranks")

E, A = 8, 4
Q = jnp.tile(jnp.array([0.0, 3.0, 1.0, 2.0]), (E, 1))


def draw(num_draws, epsilon, q=Q, seed=0):
    keys = jax.random.split(jax.random.key(seed), num_draws)
    return np.asarray(jax.jit(jax.vmap(epsilon_greedy, in_axes=(0, None, None)))(keys, q, epsilon))


def test_epsilon_zero_is_greedy_and_ties_go_to_the_lowest_index():
    assert np.all(draw(500, 0.0) == 1)
    assert np.all(draw(500, 0.0, q=jnp.array([[1.0, 5.0, 5.0, 5.0]])) == 1)


def test_greedy_follows_each_environments_own_values():
    q = jnp.eye(A)
    np.testing.assert_array_equal(epsilon_greedy(jax.random.key(0), q, 0.0), np.arange(A))


def test_epsilon_one_is_uniform():
    """Pearson's χ² over 80 000 draws and 3 degrees of freedom: above 37.3 with probability 4e-8."""
    actions = draw(10_000, 1.0)
    counts = np.bincount(actions.ravel(), minlength=A)
    expected = actions.size / A
    assert np.sum((counts - expected) ** 2 / expected) < 37.3


@pytest.mark.parametrize("epsilon", [0.05, 0.4])
def test_share_of_greedy_actions(epsilon):
    """A random action is greedy by chance too: 1 - ε + ε/A. Five and a half standard errors: 4e-8 of fresh seeds."""
    actions = draw(10_000, epsilon)
    p = 1 - epsilon + epsilon / A
    assert abs(np.mean(actions == 1) - p) < 5.5 * np.sqrt(p * (1 - p) / actions.size)


def test_one_coin_per_environment():
    """Environments explore independently. Were the coin shared, all 8 would explore together in half of the draws.

    With ε = ½ and A = 4, one action is not greedy with probability 3/8, so all 8 in 0.04 % of the draws: of 10 000
    more than 30 with probability 2e-16; and pairs are uncorrelated: |ρ| < 0.055 but for 4e-8 of fresh seeds each, so
    1e-6 for all 28 pairs.
    """
    explored = draw(10_000, 0.5) != 1
    assert np.sum(explored.all(axis=1)) <= 30
    correlation = np.corrcoef(explored.T) - np.eye(E)
    assert np.abs(correlation).max() < 0.055


def test_random_actions_differ_between_environments():
    """At ε = 1 two environments agree in a quarter of the draws; 5.5 standard errors, 1e-6 for all 28 pairs."""
    actions = draw(10_000, 1.0)
    for i in range(E):
        for j in range(i):
            assert abs(np.mean(actions[:, i] == actions[:, j]) - 0.25) < 5.5 * np.sqrt(0.25 * 0.75 / 10_000)


def test_coin_and_action_are_independent():
    """At ε = ½ the exploring actions are still uniform: χ² of the three that greed never takes, 2 degrees, 1e-7."""
    actions = draw(10_000, 0.5)
    counts = np.bincount(actions.ravel(), minlength=A)[[0, 2, 3]]
    expected = counts.sum() / 3
    assert np.sum((counts - expected) ** 2 / expected) < 32.3


def test_epsilon_of_each_environment():
    epsilon = jnp.array([0.0] * 4 + [1.0] * 4)
    actions = draw(2_000, epsilon)
    assert np.all(actions[:, :4] == 1)
    assert np.all(np.mean(actions[:, 4:] == 1, axis=0) < 0.35)


def test_dtype_shape_and_raw_keys():
    """int32 of [E], or of [] for one environment; a raw threefry key draws what its typed twin draws."""
    typed = jax.random.key(3, impl="threefry2x32")
    batch = epsilon_greedy(typed, Q, 0.5)
    assert batch.shape == (E,) and batch.dtype == jnp.int32
    assert epsilon_greedy(typed, Q[0], 0.5).shape == ()
    np.testing.assert_array_equal(batch, epsilon_greedy(jax.random.key_data(typed), Q, 0.5))


def test_jit_equals_eager():
    np.testing.assert_array_equal(
        jax.jit(epsilon_greedy)(jax.random.key(1), Q, 0.5), epsilon_greedy(jax.random.key(1), Q, 0.5)
    )
