"""Unrolled cells against a plain loop that JAX differentiates: what is carried, and every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.networks.recurrence import gru_step, lstm_step, unroll_gru, unroll_lstm
from purejaxdqn.networks.windows import zero_at

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, H = 3, 4


def plain_gru(kernel, bias, carry, from_x, starts):
    def step(h, given):
        h = gru_step(kernel, bias, zero_at(given[1], h), given[0])[0]
        return h, h

    return jax.lax.scan(step, carry, (from_x, starts))[1]


def plain_lstm(kernel, carry, from_x, starts):
    def step(carry, given):
        carry = lstm_step(kernel, zero_at(given[1], carry), given[0])[0]
        return carry, carry

    return jax.lax.scan(step, carry, (from_x, starts))[1]


def numbers(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def given_to_gru(rng, steps):
    return numbers(rng, H, 3 * H), numbers(rng, H), numbers(rng, B, H), numbers(rng, steps, B, 3 * H)


def given_to_lstm(rng, steps):
    return numbers(rng, H, 4 * H), (numbers(rng, B, H), numbers(rng, B, H)), numbers(rng, steps, B, 4 * H)


CELLS = {"gru": (unroll_gru, plain_gru, given_to_gru), "lstm": (unroll_lstm, plain_lstm, given_to_lstm)}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_values_and_gradients_are_those_of_a_plain_loop(cell, steps):
    """Of kernel, bias, carry and inputs, for gradients that come in at every step; episodes begin anywhere."""
    ours, plain, make = CELLS[cell]
    rng = np.random.default_rng(steps)
    given, starts = make(rng, steps), jnp.asarray(rng.random((steps, B)) < 0.3)
    weight = jax.tree.map(lambda leaf: numbers(rng, *leaf.shape), plain(*given, starts))

    def loss(unroll, given):
        found = unroll(*given, starts)
        return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * jnp.sin(b)), weight, found))), found

    found, expected = (
        jax.jit(jax.value_and_grad(lambda given, unroll=unroll: loss(unroll, given), has_aux=True))(given)
        for unroll in (ours, plain)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_lanes_have_gradients_of_their_own():
    """Under vmap each lane's gradient is that of its run alone."""
    rng = np.random.default_rng(0)
    lanes = [given_to_gru(rng, 5) for _ in range(2)]
    starts = jnp.asarray(rng.random((5, B)) < 0.3)
    gradient = jax.grad(lambda given: jnp.sum(jnp.sin(unroll_gru(*given, starts))))
    together = jax.vmap(gradient)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes))
    for lane, given in enumerate(lanes):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(gradient(given)), strict=True):
            np.testing.assert_allclose(a[lane], b, rtol=1e-5, atol=1e-6)
