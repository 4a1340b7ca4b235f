"""A network that is fed normalised observations: in every role, in ensembles and beside a batch's statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build_model
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.observations.moments import RUNNING, Moments, without_running
from purejaxdqn.types import STATISTICS

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY = jax.random.key(0)
SPEC = EnvSpec("Test-v0", 3, (4,), "float32", None, 100)
MEAN, DEVIATION = jnp.array([1e3, -5.0, 0.0, 2.0]), jnp.array([10.0, 1e-2, 3.0, 1.0])
SEEN = {"obs": Moments(jnp.float32(50.0), MEAN, jnp.square(DEVIATION))}
SMALL = {"hidden": (6,), "num_quantiles": 4, "num_policy_quantiles": 3}


def built(**changes):
    """The network that normalises, the same one that does not, and parameters of the first with statistics."""
    config = Config(normalize_obs=True, **SMALL | changes)
    network, _ = build_model(config, SPEC)
    plain, _ = build_model(config.replace(normalize_obs=False), SPEC)
    return network, plain, {**jax.jit(network.init)(KEY), RUNNING: SEEN}


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        (
            {"head": "iqn", "noisy": True, "norm": "batch", "dueling": True},
            ("online", "act"),
        ),
        ({"ensemble": 2, "prior_scale": 0.5}, ("greedy",)),
    ],
    ids=["drawn", "ensemble"],
)
def test_it_is_the_network_on_normalised_observations(changes, roles):
    """Whatever the role; fresh parameters are those of the other, and have seen nothing."""
    network, plain, params = built(**changes)
    fresh = jax.jit(network.init)(KEY)
    assert float(fresh[RUNNING]["obs"].count) == 0.0
    jax.tree.map(np.testing.assert_array_equal, without_running(fresh), jax.jit(plain.init)(KEY))
    obs = MEAN[None] + DEVIATION[None] * jax.random.normal(KEY, (8, 4))
    entered = (obs - MEAN[None]) / DEVIATION[None]
    of_both = [jax.jit(net.apply, static_argnums=3) for net in (network, plain)]
    for role in roles:
        found, expected = of_both[0](params, obs, KEY, role), of_both[1](without_running(params), entered, KEY, role)
        np.testing.assert_allclose(found.x, expected.x, rtol=2e-3, atol=2e-4)
    if network.first is not None:
        member, own = network.first(params)
        one, others = plain.first(without_running(params))
        of_first = [jax.jit(lambda p, x, net=net: net.apply(p, x, None, "greedy").x) for net in (member, one)]
        np.testing.assert_allclose(of_first[0](own, obs), of_first[1](others, entered), rtol=2e-3, atol=2e-4)


def test_neither_a_gradient_nor_a_batch_moves_its_statistics():
    """A refresh moves batch norm's, towards those of what is entered."""
    network, plain, params = built(norm="batch")
    obs = MEAN[None] + DEVIATION[None] * jax.random.normal(KEY, (8, 4))
    grads = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(network.apply(p, obs, KEY, "online").x))))(params)
    assert all((leaf == 0.0).all() for leaf in jax.tree.leaves(grads[RUNNING]))
    assert any((leaf != 0.0).any() for leaf in jax.tree.leaves(grads["params"]))
    refreshed = jax.jit(network.refresh)(params, obs)
    jax.tree.map(np.testing.assert_array_equal, refreshed[RUNNING], params[RUNNING])
    expected = jax.jit(plain.refresh)(without_running(params), (obs - MEAN[None]) / DEVIATION[None])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), refreshed[STATISTICS], expected[STATISTICS]
    )
