"""Arguments of a wrong shape, rank or dtype are refused by name."""

import jax
import jax.numpy as jnp
import pytest

from purejaxdqn.config import EnvSpec
from purejaxdqn.networks import make_network
from purejaxdqn.networks.fractions import cosines, partition
from purejaxdqn.networks.layers import affine, patches_of
from purejaxdqn.networks.qnetwork import duel
from purejaxdqn.types import Outputs

WRONG = {
    "tau": lambda: cosines(jnp.ones(3), 4),
    "logits": lambda: partition(jnp.ones((2, 3), int)),
    "x": lambda: affine(jnp.ones((3, 4)), jnp.ones(4), jnp.ones((2, 5))),
    "value": lambda: duel(jnp.ones((2, 5)), jnp.ones((3, 1, 5))),
}


@pytest.mark.parametrize("argument", WRONG)
def test_a_wrong_argument_is_named(argument):
    with pytest.raises(AssertionError, match=f"`{argument}`"):
        WRONG[argument]()


def test_patches_are_of_pictures():
    with pytest.raises(AssertionError, match="`x`"):
        patches_of(jnp.ones((4, 4, 1)), 2, 1)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 2, 4)])
def test_an_observation_is_that_of_the_environment(tiny_config, shape):
    spec = EnvSpec("Test-v0", 2, (4,), "float32", None, 100)
    network = make_network(tiny_config, spec, Outputs(1, (0.0,), "fixed"))
    params = jax.eval_shape(network.init, jax.random.key(0))
    with pytest.raises(AssertionError, match="`obs`"):
        jax.eval_shape(lambda p: network.apply(p, jnp.zeros(shape), None, "greedy"), params)
