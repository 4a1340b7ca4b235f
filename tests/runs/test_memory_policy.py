"""A policy with a memory: asked step by step, told of beginnings, and of as many episodes as it follows."""

import jax
import numpy as np
import pytest

from purejaxdqn.build import build_model
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.networks.windows import Window
from purejaxdqn.runs.policy import Policy

SPEC = EnvSpec("Test-v0", 2, (3,), "float32", None, 100)


@pytest.fixture(scope="module")
def model():
    """Parameters, the policy's function and the network."""
    network, head = build_model(Config(learner="rollout", memory="gru", memory_size=4, hidden=(5,)), SPEC)

    @jax.jit
    def apply_q(params, obs, carry):
        dist, carry = network.step(params, obs, carry, None, "greedy")
        return head.q_values(dist), carry

    return jax.jit(network.init)(jax.random.key(0)), apply_q, network


def test_a_policy_remembers_until_it_is_reset(model):
    """Two episodes of a batch, of which the second begins anew after two steps, are the values of that window."""
    params, apply_q, network = model
    obs = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    starts = np.zeros((4, 2), bool)
    starts[0], starts[2, 1] = True, True
    window = Window(obs, starts, network.init_carry(2).carry)
    expected = np.asarray(jax.jit(lambda: network.apply(params, window, None, "greedy").x)()).reshape(4, 2, 2)
    policy = Policy(params, apply_q, SPEC, network.init_carry)
    policy.reset()
    found = []
    for step, begins in zip(obs, starts, strict=True):
        policy.reset(begins)
        kept = policy.carry
        found.append(policy.q_values(step))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # Put back, what was carried gives the same step again.
    policy.carry = kept
    np.testing.assert_array_equal(policy.q_values(obs[3]), found[3])
    with pytest.raises(ValueError, match=r"memory follows 2 episodes, not 1: call policy.reset\(\) first"):
        policy(obs[0, 0])
    policy.reset()
    np.testing.assert_allclose(policy.q_values(obs[0, 0]), expected[0, 0], rtol=1e-5, atol=1e-6)
