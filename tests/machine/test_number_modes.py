"""Precision of matrix products: of every program of a run, forwards and backwards, and of none by default."""

import jax
import jax.numpy as jnp
import pytest

from purejaxdqn.config import Config
from purejaxdqn.loops.device import make_agent
from purejaxdqn.machine.number_modes import in_precision
from purejaxdqn.types import Hypers

# A first layer narrow, another whose gradient products.py writes out, so that every kind of product is there.
SIZES = {
    "hidden": (128, 128),
    "batch_size": 16,
    "num_envs": 2,
    "learning_starts": 64,
    "total_steps": 100,
    "norm": "none",
}


def products(function, *args):
    """Lines of a lowered program that multiply matrices."""
    text = jax.jit(function).lower(*args).as_text()
    return [line for line in text.splitlines() if "stablehlo.dot_general" in line]


@pytest.mark.parametrize("learner", ["replay", "rollout"])
def test_every_product_of_a_run_has_the_precision(learner):
    shape = SIZES | ({"learner": "rollout", "rollout_length": 4} if learner == "rollout" else {})
    if learner == "rollout":
        shape = {name: value for name, value in shape.items() if name not in ("batch_size", "learning_starts")}
    agent = make_agent(Config(**shape, matmul_precision="highest"))
    state = jax.eval_shape(agent.init, jax.random.key(0), Hypers())
    found = products(agent.iterate, state, Hypers(), 1)
    found += products(lambda params: agent.evaluate(params, jax.random.key(0), episodes=2), state.learner.params)
    # Acting, target, prediction and its two gradients, in three layers, less one that nothing needs.
    assert len(found) > 12 and all("HIGHEST, HIGHEST" in line for line in found)


def test_by_default_nothing_is_said_of_it():
    def multiply(x):
        return x @ x

    assert in_precision("default", multiply) is multiply
    assert "DEFAULT" in products(multiply, jnp.ones((2, 2)))[0]
    assert "HIGHEST" in products(in_precision("highest", multiply), jnp.ones((2, 2)))[0]
