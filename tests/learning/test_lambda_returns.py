"""λ-returns: by hand, against their definition as a weighted sum of n-step returns, and against rlax.

In a loop, and all at once as for a GPU, tried on a CPU that says it is one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purejaxdqn.learning.returns import lambda_returns

pytestmark = pytest.mark.usefixtures("strict_ranks")

T = 6
NO, YES = jnp.zeros(3, bool), jnp.ones(3, bool)
REWARD, VALUE = jnp.array([1.0, 2.0, 4.0]), jnp.array([8.0, 8.0, 16.0])
COMPILED = {platform: jax.jit(lambda *args: lambda_returns(*args)) for platform in ("cpu", "gpu")}


@pytest.fixture(autouse=True, params=list(COMPILED))
def platform(request, monkeypatch):
    """What is traced is for a platform."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)


def compiled(*args):
    return COMPILED[jax.default_backend()](*args)


def definition(reward, terminated, truncated, valid, value_t, gamma, trace_lambda):
    """Σ_n (1 - λ) λ^(n-1) G^(n), with all that is left of the weights on the longest n-step return that there is."""
    steps, out = len(reward), []
    for t in range(steps):
        last = t
        while last + 1 < steps and not terminated[last] and not truncated[last] and valid[last + 1]:
            last += 1
        longest = last - t + 1
        total = 0.0
        for n in range(1, longest + 1):
            value = 0.0 if terminated[t + n - 1] else gamma**n * value_t[t + n - 1]
            n_step_return = sum(gamma**k * reward[t + k] for k in range(n)) + value
            total += trace_lambda ** (n - 1) * (1.0 if n == longest else 1.0 - trace_lambda) * n_step_return
        out.append(total)
    return out


def flags(*positions, steps=T):
    return np.isin(np.arange(steps), positions)


def numbers(seed, steps=T):
    """Random rewards and values of `steps` steps, in float32."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=steps).astype(np.float32), 3.0 * rng.normal(size=steps).astype(np.float32)


@pytest.mark.parametrize(
    ("terminated", "truncated", "valid", "expected"),
    [
        # 4 + ½·16 = 12; 2 + ½(½·8 + ½·12) = 7; 1 + ½(½·8 + ½·7) = 4.75.
        (NO, NO, YES, (4.75, 7.0, 12.0)),
        (NO.at[2].set(True), NO, YES, (4.25, 5.0, 4.0)),  # 4; 2 + ½(4 + 2) = 5; 1 + ½(4 + 2.5)
        (NO.at[1].set(True), NO, YES, (3.5, 2.0, 12.0)),  # 2; 1 + ½(4 + 1)
        (NO, NO.at[1].set(True), YES, (4.5, 6.0, 12.0)),  # 2 + ½·8 = 6; 1 + ½(4 + 3)
        (NO.at[0].set(True), NO, YES, (1.0, 7.0, 12.0)),
        (NO, NO.at[0].set(True), YES, (5.0, 7.0, 12.0)),  # 1 + ½·8
    ],
)
def test_by_hand(terminated, truncated, valid, expected):
    """γ = λ = ½, rewards 1, 2, 4 and values 8, 8, 16: every number is exact."""
    np.testing.assert_array_equal(lambda_returns(REWARD, terminated, truncated, valid, VALUE, 0.5, 0.5), expected)


@pytest.mark.parametrize("trace_lambda", [0.0, 0.3, 0.65, 1.0])
@pytest.mark.parametrize("kind", ["terminated", "truncated", "both", "invalid"])
@pytest.mark.parametrize("position", [*range(T), None])
def test_definition_at_every_position(position, kind, trace_lambda):
    """One end of an episode of every kind at every step, or none; an invalid row follows a step that was cut."""
    reward, value_t = numbers(1)
    end = flags() if position is None else flags(position)
    terminated = end if kind in ("terminated", "both") else flags()
    truncated = end if kind in ("truncated", "both", "invalid") else flags()
    valid = ~np.roll(end, 1) if kind == "invalid" and position not in (None, T - 1) else ~flags()
    out = compiled(reward, terminated, truncated, valid, value_t, 0.9, trace_lambda)
    expected = definition(reward, terminated, truncated, valid, value_t, 0.9, trace_lambda)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_definition_on_random_patterns(seed):
    """Any pattern of ends and invalid rows, γ and λ anywhere in [0, 1]."""
    rng = np.random.default_rng(seed)
    reward, value_t = numbers(seed, 9)
    terminated, truncated, invalid = (rng.random(9) < p for p in (0.2, 0.2, 0.15))
    gamma, trace_lambda = rng.random(2)
    out = compiled(reward, terminated, truncated, ~invalid, value_t, gamma, trace_lambda)
    expected = definition(reward, terminated, truncated, ~invalid, value_t, gamma, trace_lambda)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_an_invalid_row_cuts_by_itself():
    """Row 1 is no transition: step 0 bootstraps from its own value, 1 + ½·8."""
    out = lambda_returns(REWARD, NO, NO, YES.at[1].set(False), VALUE, 0.5, 0.5)
    assert float(out[0]) == 5.0 and float(out[2]) == 12.0


def test_lambda_zero_is_one_step_and_lambda_one_is_the_longest():
    reward, value_t = numbers(2)
    no = flags()
    np.testing.assert_allclose(compiled(reward, no, no, ~no, value_t, 0.9, 0.0), reward + 0.9 * value_t, rtol=1e-5)
    longest = compiled(reward, no, no, ~no, value_t, 0.9, 1.0)
    np.testing.assert_allclose(longest[0], reward @ 0.9 ** np.arange(T) + 0.9**T * value_t[-1], rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 30])
@pytest.mark.parametrize("trace_lambda", [0.0, 0.65, 1.0])
def test_equals_rlax_where_nothing_is_cut(steps, trace_lambda):
    reward, value_t = numbers(3, steps)
    terminated = np.random.default_rng(4).random(steps) < 0.25
    no = np.zeros(steps, bool)
    out = compiled(reward, terminated, no, ~no, value_t, 0.95, trace_lambda)
    theirs = rlax.lambda_returns(reward, jnp.asarray(0.95 * ~terminated, jnp.float32), value_t, trace_lambda)
    np.testing.assert_allclose(out, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_nothing_of_another_episode_gets_through(poison):
    """Whatever stands in an invalid row or past an end; the value after a termination does not matter either."""
    reward, value_t = numbers(5)
    reward[3], value_t[3] = poison, poison
    for terminated, truncated, valid in (
        (flags(2), flags(), ~flags()),
        (flags(), flags(2), ~flags()),
        (flags(), flags(), ~flags(3)),
    ):
        out = compiled(reward, terminated, truncated, valid, value_t, 0.9, 0.7)
        assert np.all(np.isfinite(out[:3])) and np.all(np.isfinite(out[4:]))
    reward, value_t = numbers(5)
    value_t[2] = poison
    out = compiled(reward, flags(2), flags(), ~flags(), value_t, 0.9, 0.7)
    assert np.all(np.isfinite(out))


def test_environments_lanes_and_gradient():
    """[T, E] by vmap over axis 1, lanes that differ in γ and λ, and the gradient of G_0 with respect to the values."""
    rewards, values = (jnp.stack(x, axis=1) for x in zip(*(numbers(seed) for seed in range(3)), strict=True))
    no, ones = jnp.zeros((T, 3), bool), jnp.ones((T, 3), bool)
    terminated = no.at[2, 1].set(True)
    per_env = jax.vmap(lambda_returns, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
    lanes = jax.vmap(per_env, in_axes=(None, None, None, None, None, 0, 0))
    gammas, lambdas = jnp.array([0.5, 0.99]), jnp.array([0.9, 0.2])
    out = jax.jit(lanes)(rewards, terminated, no, ones, values, gammas, lambdas)
    assert out.shape == (2, T, 3) and out.dtype == jnp.float32
    for lane, e in ((0, 1), (1, 2)):
        single = definition(
            rewards[:, e], terminated[:, e], no[:, e], ones[:, e], values[:, e], gammas[lane], lambdas[lane]
        )
        np.testing.assert_allclose(out[lane, :, e], single, rtol=1e-4, atol=1e-5)

    def first(value_t):
        return lambda_returns(REWARD, NO, NO, YES, value_t, 0.5, 0.5)[0]

    # γ(1-λ), γ²λ(1-λ) and γ³λ².
    np.testing.assert_allclose(jax.grad(first)(VALUE), [0.25, 0.0625, 0.03125])
