"""Fractions of iqn and fqf: how they are drawn, proposed and embedded, and where their gradients go."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.networks import Network, make_network
from purejaxdqn.networks.fractions import cosines, draw_fractions, partition
from purejaxdqn.types import Outputs

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A, N = 5, 3, 4
SPEC = EnvSpec("Test-v0", A, (7,), "float32", None, 100)
COUNTS = {"num_quantiles": N, "num_target_quantiles": 6, "num_policy_quantiles": 8, "num_cosines": 10}
BY_ROLE = {"online": 4, "target": 6, "select": 8, "act": 8, "greedy": 8}
IQN, FQF = Outputs(1, (0.0,), "sampled"), Outputs(1, (0.0,), "proposed")


def compiled(network):
    """The same network with its functions compiled, which is quicker than op by op."""
    refresh = network.refresh and jax.jit(network.refresh)
    return Network(jax.jit(network.init), jax.jit(network.apply, static_argnums=3), refresh)


def observations(batch):
    return np.random.default_rng(2).standard_normal((batch, 7), np.float32)


@functools.cache
def make(outputs, **settings):
    """A network with parameters all of which are random, and observations."""
    settings = {"hidden": (9,), "norm": "none", "activation": "tanh", **COUNTS, **settings}
    network = compiled(make_network(Config(**settings), SPEC, outputs))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: (0.5 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)
    return network, params, observations(B)


def twin(params, obs, tau):
    """Quantile values [B, A, N] of one hidden layer and a linear output, in numpy, and the torso's features."""
    p, tau = params["params"], np.asarray(tau)
    dense = lambda x, layer: x @ layer["kernel"] + layer["bias"]  # noqa: E731
    psi = np.tanh(dense(obs, p["Hidden_0"]["Dense_0"]))
    waves = np.cos(np.pi * tau[:, :, None] * np.arange(10))
    phi = np.maximum(dense(waves, p["fraction_embedding"]["Dense_0"]), 0.0)
    return np.moveaxis(dense(psi[:, None] * phi, p["Output"]), 1, 2), psi


def test_cosines_by_hand():
    """cos(π i τ) from i = 0: τ = 1/2 gives 1, 0, -1; τ = 1/3 gives 1, 1/2, -1/2."""
    out = jax.jit(cosines, static_argnums=1)(np.float32([[0.5, 1 / 3]]), 3)
    np.testing.assert_allclose(out[:, 0], [[1.0, 1.0], [0.0, 0.5], [-1.0, -0.5]], atol=1e-6)


@pytest.mark.parametrize("role", BY_ROLE)
def test_iqn_equals_numpy_at_its_own_fractions(role):
    network, params, obs = make(IQN)
    dist = network.apply(params, obs, jax.random.key(3), role)
    assert dist.support.shape == (B, BY_ROLE[role])
    np.testing.assert_allclose(dist.x, twin(params, obs, dist.support)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dist.weight, 1 / BY_ROLE[role])
    assert dist.proposal is None


@pytest.mark.parametrize("role", ["online", "target", "select", "act"])
def test_drawn_fractions_are_uniform_and_apart(role):
    """χ² of ten equal bins exceeds 50 once in 1e7 times; correlations of neighbours, five errors once in 2e6."""
    config = Config(**COUNTS)
    batch = 80_000 // BY_ROLE[role]
    tau = np.asarray(draw_fractions(config, jax.random.key(0), role, batch), np.float64)
    assert tau.shape[1] == BY_ROLE[role] and tau.min() > 0.0 and tau.max() < 1.0
    counts, _ = np.histogram(tau, bins=10, range=(0, 1))
    assert np.sum((counts - tau.size / 10) ** 2) / (tau.size / 10) < 50.0
    for pair in ((tau[1:, 0], tau[:-1, 0]), (tau[:, 0], tau[:, 1])):
        assert abs(np.corrcoef(*pair)[0, 1]) < 5 / np.sqrt(batch - 1)
    again, other = (draw_fractions(config, jax.random.key(k), role, batch) for k in (0, 1))
    np.testing.assert_array_equal(again, tau.astype(np.float32))
    assert np.mean(np.asarray(other) == tau) < 0.01


def test_greedy_fractions_are_even_and_need_no_key():
    """Eight parts: 1/16, 3/16, …, 15/16, and the mean of a quantile function by the midpoint rule."""
    network, params, obs = make(IQN, noisy=True)
    dist = network.apply(params, obs, None, "greedy")
    np.testing.assert_allclose(dist.support, np.tile(np.arange(1, 16, 2) / 16, (B, 1)), rtol=1e-6)


def test_partition_by_hand():
    """Widths 1/2, 1/4, 1/4: boundaries 1/2 and 3/4, midpoints 1/4, 5/8 and 7/8, entropy 1.5 ln 2."""
    parts = jax.jit(partition)(np.log(np.float32([[2.0, 1.0, 1.0]])))
    np.testing.assert_allclose(parts.width, [[0.5, 0.25, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(parts.boundary, [[0.5, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(parts.midpoint, [[0.25, 0.625, 0.875]], rtol=1e-6)
    np.testing.assert_allclose(parts.entropy, [1.5 * np.log(2)], rtol=1e-6)


def test_one_fraction_has_no_boundary():
    network, params, obs = make(FQF, num_quantiles=1)
    dist = network.apply(params, obs, None, "online")
    assert dist.proposal.boundary.shape == (B, 0) and dist.proposal.x.shape == (B, A, 0)
    np.testing.assert_allclose(dist.support, 0.5)


@pytest.mark.parametrize("role", BY_ROLE)
def test_fqf_equals_numpy(role):
    """Fractions from the proposal's softmax, quantile values at their midpoints and, online, at their boundaries."""
    network, params, obs = make(FQF)
    dist = jax.device_get(network.apply(params, obs, None, role))
    _, psi = twin(params, obs, np.zeros((B, 1)))
    layer = jax.tree.map(np.asarray, params["params"]["fraction_proposal"])
    logits = psi @ layer["kernel"] + layer["bias"]
    width = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    edges = np.concatenate([np.zeros((B, 1)), np.cumsum(width, axis=1)], axis=1)
    np.testing.assert_allclose(dist.weight, width, rtol=1e-4)
    np.testing.assert_allclose(dist.support, (edges[:, 1:] + edges[:, :-1]) / 2, rtol=1e-4)
    np.testing.assert_allclose(dist.x, twin(params, obs, dist.support)[0], rtol=1e-4, atol=1e-5)
    assert (dist.proposal is None) == (role != "online")
    if dist.proposal is not None:
        boundary = dist.proposal.boundary
        np.testing.assert_allclose(boundary, edges[:, 1:-1], rtol=1e-4)
        np.testing.assert_allclose(dist.proposal.x, twin(params, obs, boundary)[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(dist.proposal.entropy, -np.sum(width * np.log(width), axis=1), rtol=1e-4)
        assert np.all(np.diff(boundary, axis=1) > 0) and np.all((boundary > 0) & (boundary < 1))
    np.testing.assert_allclose(dist.weight.sum(axis=1), 1.0, rtol=1e-6)


def test_fractions_start_nearly_even():
    """Normalised features of a wide layer give logits of deviation about 0.1 at most, so widths within 1.6 of even."""
    network = compiled(make_network(Config(hidden=(120,), **COUNTS), SPEC, FQF))
    weight = np.asarray(network.apply(network.init(jax.random.key(0)), observations(100), None, "act").weight)
    assert weight.min() * N > 1 / 1.6 and weight.max() * N < 1.6
    assert weight.std() > 1e-3, "a proposal of zeros could not tell observations apart"


PARTS = {
    "x": lambda dist: dist.x,
    "boundary": lambda dist: dist.proposal.boundary,
    "entropy": lambda dist: dist.proposal.entropy,
    "boundary values": lambda dist: dist.proposal.x,
    "support": lambda dist: dist.support,
    "weight": lambda dist: dist.weight,
}


@pytest.mark.parametrize(("dueling", "norm"), [(False, "none"), (True, "layer"), (False, "batch")])
def test_gradients_of_fqf_are_routed(dueling, norm):
    """Names of the top modules that have a gradient from each part of the online network's output."""
    network, params, obs = make(FQF, dueling=dueling, norm=norm, noisy=True)

    @jax.jit
    def gradients(params):
        def parts(p):
            dist = network.apply(p, obs, jax.random.key(4), "online")
            return {name: jnp.sum(jnp.sin(3.0 * part(dist))) for name, part in PARTS.items()}

        return jax.jacrev(parts)(params)

    moved = {
        name: {path[1].key for path, leaf in jax.tree_util.tree_leaves_with_path(grad) if np.any(leaf != 0.0)}
        for name, grad in jax.device_get(gradients(params)).items()
    }
    outputs = {"Value_Output", "Advantage_Output"} if dueling else {"Output"}
    assert moved == {
        "x": {"Hidden_0", "fraction_embedding", *outputs},
        "boundary": {"fraction_proposal"},
        "entropy": {"fraction_proposal"},
        "boundary values": set(),
        "support": set(),
        "weight": set(),
    }


@pytest.mark.parametrize("role", ["online", "act"])
def test_all_fractions_of_an_example_see_the_same_noise(role):
    """Where the embedding is constant, so are the quantile values, however noisy the streams; boundaries included."""
    for outputs in (IQN, FQF):
        network, params, obs = make(outputs, noisy=True, hidden=(9, 6))
        zeros = jax.tree.map(np.zeros_like, params["params"]["fraction_embedding"])
        zeros["Dense_0"]["bias"] += 1.0
        constant = {"params": {**params["params"], "fraction_embedding": zeros}}
        dist = jax.device_get(network.apply(constant, obs, jax.random.key(4), role))
        np.testing.assert_allclose(dist.x, np.broadcast_to(dist.x[..., :1], dist.x.shape), rtol=1e-4, atol=1e-4)
        if dist.proposal is not None:
            np.testing.assert_allclose(dist.proposal.x, dist.x[..., :-1], rtol=1e-4, atol=1e-4)
        quiet = jax.device_get(network.apply(constant, obs, None, "greedy"))
        assert np.all(np.abs(dist.x[..., 0] - quiet.x[..., 0]) > 1e-5)
