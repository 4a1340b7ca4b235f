"""The n-step fold: by hand, against a loop, and against rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxdqn.learning.returns import cut_after, n_step_fold

pytestmark = pytest.mark.usefixtures("strict_ranks")

REWARD = jnp.array([1.0, 2.0, 4.0])


def fold(terminated=(0, 0, 0), truncated=(0, 0, 0), gamma=0.5):
    out = n_step_fold(REWARD, jnp.array(terminated, bool), jnp.array(truncated, bool), gamma)
    return tuple(float(x) for x in out)


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        ((0, 0, 0), (0, 0, 0), (3.0, 0.125, 2)),  # 1 + 2/2 + 4/4 = 3; γ³
        ((0, 1, 0), (0, 0, 0), (2.0, 0.0, 1)),  # 1 + 2/2; nothing after a termination
        ((0, 0, 0), (0, 1, 0), (2.0, 0.25, 1)),  # the same, and γ² of the value that goes on
        ((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0)),
        ((0, 0, 0), (1, 0, 0), (1.0, 0.5, 0)),
        ((0, 0, 1), (0, 0, 0), (3.0, 0.0, 2)),
        ((0, 0, 0), (0, 0, 1), (3.0, 0.125, 2)),
        ((0, 0, 1), (1, 0, 0), (1.0, 0.5, 0)),  # a termination after the cut belongs to the next episode
        ((0, 1, 0), (0, 1, 0), (2.0, 0.0, 1)),  # both at once: terminated
        ((1, 1, 1), (0, 0, 0), (1.0, 0.0, 0)),
    ],
)
def test_fold_by_hand(terminated, truncated, expected):
    """With γ = ½ and rewards 1, 2, 4 every number is exact."""
    assert fold(terminated, truncated) == expected


def test_gamma_of_zero_and_one():
    """γ = 0 leaves the first reward (0⁰ is 1); γ = 1 sums."""
    assert fold(gamma=0.0) == (1.0, 0.0, 2)
    assert fold(gamma=1.0) == (7.0, 1.0, 2)


def test_one_step_is_the_reward():
    out = n_step_fold(jnp.array([3.0]), jnp.array([False]), jnp.array([False]), 0.9)
    np.testing.assert_allclose(out, (3.0, 0.9, 0), rtol=1e-6)


@pytest.mark.usual_compilation
def test_one_step_is_folded_by_the_compiler():
    """Reward and γ or zero are all that is left: what XLA found out in some programs only made lanes differ."""
    size = jax.ShapeDtypeStruct((8, 1), bool)
    batch = jax.jit(jax.vmap(n_step_fold, in_axes=(0, 0, 0, None)))
    compiled = batch.lower(jax.ShapeDtypeStruct((8, 1), jnp.float32), size, size, jnp.float32(0.9)).compile().as_text()
    assert "select(" in compiled
    assert not any(f" {name}(" in compiled for name in ("subtract", "convert", "multiply", "gather"))


def test_nothing_of_the_next_episode_leaks_in():
    """Not even a NaN, which a product with zero would let through."""
    reward = jnp.array([1.0, jnp.nan, jnp.inf])
    done = jnp.array([True, False, False])
    for terminated, truncated in ((done, ~done & False), (~done & False, done)):
        assert np.all(np.isfinite(n_step_fold(reward, terminated, truncated, 0.9)))


compiled_fold = jax.jit(n_step_fold)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.data())
def test_fold_equals_a_loop(n, data):
    reward = data.draw(st.lists(st.floats(-10, 10, width=32), min_size=n, max_size=n))
    terminated = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    truncated = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    gamma = data.draw(st.floats(0, 1, width=32))
    total, discount, last = 0.0, 1.0, -1
    for i in range(n):
        total, discount, last = total + discount * reward[i], discount * gamma, i
        if terminated[i]:
            discount = 0.0
        if terminated[i] or truncated[i]:
            break
    out = compiled_fold(jnp.array(reward, jnp.float32), jnp.array(terminated), jnp.array(truncated), gamma)
    np.testing.assert_allclose(out, (total, discount, last), rtol=1e-5, atol=1e-5)


def test_equals_rlax_n_step_returns():
    """Along a whole trajectory with terminations: fold + discount · v equals rlax's n-step bootstrapped returns."""
    steps, n, gamma = 40, 4, 0.9
    keys = jax.random.split(jax.random.key(1), 3)
    reward, values = jax.random.normal(keys[0], (steps,)), jax.random.normal(keys[1], (steps + 1,))
    terminated = jax.random.bernoulli(keys[2], 0.2, (steps,))
    theirs = rlax.n_step_bootstrapped_returns(reward, gamma * (1.0 - terminated), values[1:], n=n)
    starts = jnp.arange(steps - n + 1)
    window = starts[:, None] + jnp.arange(n)[None]
    no_cut = jnp.zeros_like(window, bool)
    total, discount, last = jax.vmap(n_step_fold, in_axes=(0, 0, 0, None))(
        reward[window], terminated[window], no_cut, gamma
    )
    ours = total + discount * values[starts + last + 1]
    np.testing.assert_allclose(ours, theirs[: len(starts)], atol=1e-5)


def test_traced_gamma_vmaps():
    """Lanes may differ in γ."""
    no = jnp.zeros(3, bool)
    gammas = jnp.array([0.0, 0.5, 1.0])
    out = jax.vmap(n_step_fold, in_axes=(None, None, None, 0))(REWARD, no, no, gammas)
    np.testing.assert_allclose(out[0], [1.0, 3.0, 7.0])
    np.testing.assert_allclose(out[1], [0.0, 0.125, 1.0])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("ends", [(0, 0, 0), (0, 1, 0), (1, 0, 1)])
@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_a_fold_that_is_cut_after_n_steps_is_that_of_a_window_of_n(n, ends, kind):
    """Whatever else ends it; more steps than the window has cut nothing."""
    flags = {"terminated": jnp.zeros(3, bool), "truncated": jnp.zeros(3, bool)} | {kind: jnp.array(ends, bool)}
    found = n_step_fold(REWARD, flags["terminated"], cut_after(flags["truncated"], jnp.int32(n)), 0.5)
    shorter = [leaf[:n] for leaf in (REWARD, flags["terminated"], flags["truncated"])]
    assert [float(x) for x in found] == [float(x) for x in n_step_fold(*shorter, 0.5)]
