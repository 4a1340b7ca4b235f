"""The random generator against JAX's own, number for number, solo and vmapped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxdqn.machine.threefry import FUSED_IMPL, KEY_IMPL, in_a_loop

DRAWS = {
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "bits of one place": lambda key: jax.random.bits(key, ()),
    "bytes": lambda key: jax.random.bits(key, (7,), "uint8"),
    "words of 16 bits": lambda key: jax.random.bits(key, (7,), "uint16"),
    "normal": lambda key: jax.random.normal(key, (4, 2)),
    "randint": lambda key: jax.random.randint(key, (6,), -3, 11),
    "permutation": lambda key: jax.random.permutation(key, 13),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**32 - 1)),
    "drawn from keys that were split": lambda key: jax.vmap(jax.random.uniform)(jax.random.split(key, 4)),
}


@pytest.mark.parametrize("name", DRAWS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_draws_are_those_of_jax(name, seed):
    """From the same seed, whatever is drawn."""
    ours, theirs = (DRAWS[name](jax.random.key(seed, impl=impl)) for impl in (FUSED_IMPL, KEY_IMPL))
    np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=10, deadline=None)
@given(seeds=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=4))
def test_a_vmapped_draw_is_the_solo_draw(seeds):
    """Lane by lane, bit for bit, with keys that were folded and split on the way."""

    def draw(seed):
        first, second = jax.random.split(jax.random.fold_in(jax.random.key(seed, impl=FUSED_IMPL), 3))
        return jax.random.normal(first, (3,)), jax.random.bits(second, (2,))

    together = jax.jit(jax.vmap(draw))(jnp.array(seeds, jnp.int32))
    alone = [jax.jit(draw)(jnp.int32(seed)) for seed in seeds]
    jax.tree.map(lambda lanes, *solo: np.testing.assert_array_equal(lanes, np.stack(solo)), together, *alone)


def test_each_key_is_made_once():
    """XLA would compute keys anew in everything that draws from them, and their keys in those, and so on.

    Threefry has 20 rounds with an exclusive or each, 2 for its third key word, and a draw has 1 to join its words. Four
    keys, six beneath them and a draw from each are sixteen calls; with keys remade they would be thirty-six and more.
    """

    def draws(words):
        key = jax.random.wrap_key_data(words, impl=FUSED_IMPL)
        for place in range(2):
            key = jax.random.fold_in(key, place)
            key = jax.random.split(key)[1]
        return [jax.random.bits(jax.random.fold_in(key, place), (64,)) for place in range(6)]

    program = jax.jit(draws).lower(jnp.zeros(2, jnp.uint32)).compile().as_text()
    calls = 4 + 6 + 6
    assert 20 * calls <= program.count(" xor(") <= 25 * calls


@pytest.mark.parametrize("impl", [FUSED_IMPL, KEY_IMPL, "rbg"])
def test_a_key_for_many_draws_draws_the_same(impl):
    key = jax.random.key(5, impl=impl)
    found = in_a_loop(key)
    assert str(jax.random.key_impl(found)) == (KEY_IMPL if impl is FUSED_IMPL else impl)
    np.testing.assert_array_equal(jax.random.bits(found, (9,)), jax.random.bits(key, (9,)))
    raw = jnp.zeros(2, jnp.uint32)
    assert in_a_loop(raw) is raw
