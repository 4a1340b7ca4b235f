"""Batch norm: whose statistics each role reads, and that only a refresh moves the running ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.networks import Network, make_network
from purejaxdqn.types import Outputs

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A = 6, 3
ROLES = ("online", "target", "select", "act", "greedy")
HEADS = {
    "atoms": Outputs(2, (0.0, 1.0), "fixed"),
    "iqn": Outputs(1, (0.0,), "sampled"),
    "fqf": Outputs(1, (0.0,), "proposed"),
}
EPSILON = 1e-5


def compiled(network):
    """The same network with its functions compiled, which is quicker than op by op."""
    refresh = network.refresh and jax.jit(network.refresh)
    return Network(jax.jit(network.init), jax.jit(network.apply, static_argnums=3), refresh)


@functools.cache
def make(outputs=HEADS["atoms"], shape=(7,), hidden=(4,), **settings):
    """A network whose parameters and running statistics are random (variances positive), and observations."""
    env = EnvSpec("Test-v0", A, shape, "float32", None, 100)
    sizes = {"num_quantiles": 3, "num_target_quantiles": 4, "num_policy_quantiles": 5, "num_cosines": 6}
    network = compiled(
        make_network(Config(hidden=hidden, norm="batch", activation="tanh", **sizes, **settings), env, outputs)
    )
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.uniform(-0.5, 0.5, leaf.shape).astype(np.float32), shapes)
    params["batch_stats"] = jax.tree.map(lambda leaf: leaf + np.float32(1.0), params["batch_stats"])
    return network, params, 1.0 + 2.0 * rng.standard_normal((B, *shape), np.float32)


def numpy_network(params, obs, online):
    """One hidden layer, in numpy: (outputs [B, A, 2], mean and variance of the batch before the norm)."""
    p, running = params["params"], params["batch_stats"]
    dense = lambda x, layer: x @ layer["kernel"] + layer["bias"]  # noqa: E731
    x = dense(obs, p["Hidden_0"]["Dense_0"])
    (norm,), (stats,) = (leaf_dicts(tree["Hidden_0"]) for tree in ({"Hidden_0": norms_of(p)}, running))
    batch = x.mean(axis=0), x.var(axis=0)
    mean, variance = batch if online else (stats["mean"], stats["var"])
    x = (x - mean) / np.sqrt(variance + EPSILON) * norm["scale"] + norm["bias"]
    return dense(np.tanh(x), p["Output"]).reshape(len(obs), A, 2), batch


def norms_of(p):
    return {name: value for name, value in p["Hidden_0"].items() if "Norm" in name}


def leaf_dicts(tree):
    """The innermost dictionaries of a nested one."""
    if not any(isinstance(value, dict) for value in tree.values()):
        return [tree]
    return [found for value in tree.values() for found in leaf_dicts(value)]


def test_statistics_start_at_zero_and_one():
    network, _, _ = make()
    (stats,) = leaf_dicts(network.init(jax.random.key(0))["batch_stats"])
    np.testing.assert_array_equal(stats["mean"], 0.0)
    np.testing.assert_array_equal(stats["var"], 1.0)


@pytest.mark.parametrize("role", ROLES)
def test_network_equals_numpy(role):
    """The batch's own statistics under a gradient, the running ones in every other role."""
    network, params, obs = make()
    expected, _ = numpy_network(params, obs, role == "online")
    np.testing.assert_allclose(network.apply(params, obs, None, role).x, expected, rtol=1e-4, atol=1e-4)


def test_refresh_moves_the_running_statistics_by_a_hundredth():
    """0.99 of the old and 0.01 of the batch's mean and (biased) variance; parameters stay."""
    network, params, obs = make()
    _, (mean, variance) = numpy_network(params, obs, True)
    (old,) = leaf_dicts(params["batch_stats"])
    refreshed = network.refresh(params, obs)
    assert jax.tree.structure(refreshed) == jax.tree.structure(params)
    (new,) = leaf_dicts(refreshed["batch_stats"])
    np.testing.assert_allclose(new["mean"], 0.99 * old["mean"] + 0.01 * mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new["var"], 0.99 * old["var"] + 0.01 * variance, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, refreshed["params"], params["params"])


@pytest.mark.parametrize("shape", [(7,), (4, 5, 2)])
def test_many_refreshes_make_every_role_agree(shape):
    """After 2000 refreshes with one batch the running statistics are its own, so that all roles give the same."""
    network, params, obs = make(shape=shape, hidden=(4, 3), dueling=True)
    params = jax.jit(lambda p: jax.lax.fori_loop(0, 2000, lambda _, p: network.refresh(p, obs), p))(params)
    online = network.apply(params, obs, None, "online").x
    np.testing.assert_allclose(network.apply(params, obs, None, "target").x, online, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("role", ROLES)
def test_who_depends_on_the_rest_of_the_batch(role):
    """Another last example changes the first one's outputs online, and in no other role; pictures too."""
    for network, params, obs in (make(), make(shape=(4, 5, 2))):
        changed = np.concatenate([obs[:-1], obs[-1:] + 3.0])
        one, other = (np.asarray(network.apply(params, o, None, role).x)[0] for o in (obs, changed))
        assert np.allclose(one, other, atol=1e-6) == (role != "online")


@pytest.mark.parametrize("outputs", HEADS.values(), ids=HEADS)
def test_gradients_of_the_running_statistics_are_zero(outputs):
    """Online, nothing reads them; and a bias before the norm has no gradient, as the batch's mean takes it away."""
    network, params, obs = make(outputs)
    loss = lambda p: jnp.sum(jnp.sin(network.apply(p, obs, jax.random.key(3), "online").x))  # noqa: E731
    grad = jax.jit(jax.grad(loss))(params)
    assert jax.tree.structure(grad) == jax.tree.structure(params)
    for leaf in jax.tree.leaves(grad["batch_stats"]):
        np.testing.assert_array_equal(leaf, 0.0)
    dense = grad["params"]["Hidden_0"]["Dense_0"]
    np.testing.assert_allclose(dense["bias"], 0.0, atol=1e-4)
    assert np.abs(dense["kernel"]).max() > 1e-2


@pytest.mark.parametrize("outputs", HEADS.values(), ids=HEADS)
def test_apply_leaves_the_parameters_alone_and_every_head_can_be_refreshed(outputs):
    """`apply` returns a Dist and no statistics; a refresh needs no key, whatever the head draws, and moves them all."""
    network, params, obs = make(outputs, hidden=(4, 3), dueling=True, noisy=True)
    before = jax.tree.map(np.array, params)
    network.apply(params, obs, jax.random.key(3), "online")
    jax.tree.map(np.testing.assert_array_equal, params, before)
    old, new = (jax.tree.leaves(p["batch_stats"]) for p in (params, jax.device_get(network.refresh(params, obs))))
    assert len(new) == 6  # means and variances of one shared layer and of one in each stream
    for a, b in zip(old, new, strict=True):
        assert np.all(a != b)


def test_only_a_network_with_statistics_has_a_refresh():
    env = EnvSpec("Test-v0", A, (7,), "float32", None, 100)
    for norm in ("none", "layer"):
        assert make_network(Config(norm=norm), env, HEADS["atoms"]).refresh is None
