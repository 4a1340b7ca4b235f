"""Noisy layers: which noise, whose noise and how much of it. Noise is read off the outputs, layer by layer."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.machine.threefry import FUSED_IMPL
from purejaxdqn.networks import Network, make_network
from purejaxdqn.networks.layers import NoisyDense
from purejaxdqn.networks.noise import DRAWN, NOISE, draw_alone, draw_at_once, scaled_noise
from purejaxdqn.networks.qnetwork import QNetwork
from purejaxdqn.types import Outputs

pytestmark = pytest.mark.usefixtures("strict_ranks")

P, Q, B, N = 5, 3, 4, 2
SHARED = ("online", "target", "select")
MEAN_ABS = np.sqrt(2 / np.pi)
"""E f(ε)² = E|ε|."""
layer = NoisyDense(Q, 0.5)
apply_layer = jax.jit(layer.apply, static_argnums=3)


def random_params(module_params, seed=0):
    """Parameters of the same shapes, all of them random and none of them alike."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), module_params)


def normal(*shape):
    return np.random.default_rng(4).standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def params():
    return random_params(
        jax.eval_shape(lambda key: layer.init(key, jnp.ones((P, 1)), None, "greedy"), jax.random.key(0))
    )


@partial(jax.jit, static_argnums=2)
def probe(params, key, role):
    """Outputs [1 + P, Q, B] at zero and at the unit inputs."""
    inputs = jnp.concatenate([jnp.zeros((1, P)), jnp.eye(P)])
    return jax.vmap(lambda x: layer.apply(params, jnp.tile(x[:, None], (1, B)), key, role))(inputs)


def kernels(params, key, role):
    """Effective kernels [B, P, Q] and biases [B, Q], read off a linear layer's outputs at zero and unit inputs."""
    probes = np.asarray(probe(params, key, role))
    bias = probes[0].T
    return np.moveaxis(probes[1:], -1, 0) - bias[:, None, :], bias


def noises(params, key, role):
    """(ε_in [B, P], ε_out [B, Q]) that explain the kernels, after f, by the factorised formula."""
    p = params["params"]
    kernel, bias = kernels(params, key, role)
    noise_out = (bias - p["bias"]) / p["bias_sigma"]
    product = (kernel - p["kernel"]) / p["kernel_sigma"]  # f_in f_outᵀ
    noise_in = product / noise_out[:, None, :]
    # One factor per input, whichever output it is read from.
    np.testing.assert_allclose(noise_in, np.broadcast_to(noise_in[:, :, :1], noise_in.shape), rtol=2e-2, atol=2e-3)
    return noise_in[:, :, 0], noise_out


@pytest.mark.parametrize("role", [*SHARED, "act"])
def test_the_noise_is_factorised_and_the_layer_linear(params, role):
    """Every effective kernel is μ + σ ∘ f_in f_outᵀ, bias included, and random inputs obey it example by example."""
    key = jax.random.key(3)
    kernel, bias = kernels(params, key, role)
    noise_in, noise_out = noises(params, key, role)
    p = params["params"]
    twin = p["kernel"] + p["kernel_sigma"] * np.einsum("bi,bo->bio", noise_in, noise_out)
    np.testing.assert_allclose(kernel, twin, rtol=1e-2, atol=1e-2)
    x = normal(P, B)
    expected = np.einsum("ib,bio->ob", x, kernel) + bias.T
    np.testing.assert_allclose(apply_layer(params, x, key, role), expected, rtol=1e-4, atol=1e-4)


def test_one_draw_for_a_batch_or_one_for_each_environment(params):
    key = jax.random.key(3)
    for role in SHARED:
        for noise in noises(params, key, role):
            np.testing.assert_allclose(noise, np.tile(noise[:1], (B, 1)), rtol=1e-3, atol=1e-4)
    for noise in noises(params, key, "act"):
        apart = np.abs(noise[:, None] - noise[None]) + np.eye(B)[:, :, None]
        assert apart.min() > 1e-4, "two environments share a number"


def test_greedy_is_the_mean_and_needs_no_key(params):
    p, x = params["params"], normal(P, B)
    expected = p["kernel"].T @ x + p["bias"][:, None]
    np.testing.assert_allclose(apply_layer(params, x, None, "greedy"), expected, rtol=1e-5, atol=1e-5)


def test_initial_parameters():
    """16 inputs: σ = 0.5 / 4 throughout; μ within ±1/4, of variance (1/4)²/3.

    Of 16·4000 uniforms the variance errs by √(4/5 / 64000) = 0.35 %; five of these: false alarms of 6e-7.
    """
    init = jax.jit(lambda key: NoisyDense(4000, 0.5).init(key, jnp.ones((16, 1)), None, "greedy"))
    p = jax.device_get(init(jax.random.key(0))["params"])
    for name in ("kernel_sigma", "bias_sigma"):
        np.testing.assert_allclose(p[name], 0.125)
    for name in ("kernel", "bias"):
        assert 0.24 < np.abs(p[name]).max() <= 0.25
    np.testing.assert_allclose(np.var(p["kernel"]), 1 / 48, rtol=0.0175)


def test_scaled_noise_is_the_signed_root_of_a_normal():
    """sign(f) f² is normal: mean, variance and fourth moment of 200 000 draws within five standard errors (6e-7 each).

    The k-th moments of a normal err by √((m_2k - m_k²) / n): 1/√n, √2/√n, √96/√n.
    """
    f = np.asarray(scaled_noise(jax.random.key(0), (200_000,)), np.float64)
    normal = np.sign(f) * f**2
    for k, moment, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs(np.mean(normal**k) - moment) < 5 * np.sqrt(variance / f.size)
    np.testing.assert_allclose(
        scaled_noise(jax.random.key(0), (3,)) ** 2, np.abs(jax.random.normal(jax.random.key(0), (3,))), rtol=1e-5
    )


def test_variance_of_the_noise_and_independence_of_environments(params):
    """Var y = m (m Σ σ² x² + σ_b²), m = E|ε|; 40 000 environments, five standard errors from the sample itself (6e-7).

    Environments that are neighbours are uncorrelated, to five times 1/√n.
    """
    p, count = params["params"], 40_000
    x = normal(P)
    y = np.asarray(apply_layer(params, np.tile(x[:, None], (1, count)), jax.random.key(5), "act"), np.float64)
    y -= (p["kernel"].T @ x + p["bias"])[:, None]
    expected = MEAN_ABS * (MEAN_ABS * (p["kernel_sigma"] ** 2).T @ x**2 + p["bias_sigma"] ** 2)
    errors = np.std(y**2, axis=1) / np.sqrt(count)
    assert np.all(np.abs(np.mean(y**2, axis=1) - expected) < 5 * errors)
    assert np.all(np.abs(np.mean(y, axis=1)) < 5 * np.sqrt(expected / count))
    for row in y:
        assert abs(np.corrcoef(row[1:], row[:-1])[0, 1]) < 5 / np.sqrt(count)


def test_act_alone_is_a_shared_draw(params):
    """A batch of one has one draw either way, and then the scaled inputs equal the kernel that is formed."""
    x = normal(P, 1)
    one, other = (apply_layer(params, x, jax.random.key(5), role) for role in ("act", "online"))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("role", [*SHARED, "act"])
def test_fractions_of_an_example_share_its_noise(params, role):
    """[p, B, N] gives for each of the N columns what [p, B] gives."""
    x, key = normal(P, B, N), jax.random.key(5)
    together = np.asarray(apply_layer(params, x, key, role))
    assert together.shape == (Q, B, N)
    for n in range(N):
        np.testing.assert_allclose(together[..., n], apply_layer(params, x[..., n], key, role), rtol=1e-4, atol=1e-4)


def test_noise_depends_on_the_key_alone(params):
    x = np.ones((P, B), np.float32)
    one, again, other = (np.asarray(apply_layer(params, x, jax.random.key(k), "online")) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.all(one != other)
    raw = apply_layer(params, x, jax.random.key_data(jax.random.key(0)), "online")
    np.testing.assert_allclose(raw, one, rtol=1e-6)


def test_gradients_reach_means_and_deviations(params):
    """dL/dσ is the noise times dL/dμ, for L the sum of the outputs."""
    key, x = jax.random.key(5), np.ones((P, B), np.float32)
    for role in ("online", "act"):
        grad = jax.jit(jax.grad(lambda p, role=role: jnp.sum(layer.apply(p, x, key, role))))(params)["params"]
        noise_in, noise_out = noises(params, key, role)
        np.testing.assert_allclose(grad["kernel"], np.full((P, Q), B), rtol=1e-5)
        expected = np.einsum("bi,bo->io", noise_in, noise_out)
        np.testing.assert_allclose(grad["kernel_sigma"], expected, rtol=2e-2, atol=2e-2)
        np.testing.assert_allclose(grad["bias_sigma"], noise_out.sum(axis=0), rtol=1e-3, atol=1e-3)


SPEC = EnvSpec("Test-v0", 3, (7,), "float32", None, 100)
HEADS = {"atoms": Outputs(2, (0.0, 1.0), "fixed"), "iqn": Outputs(1, (0.0,), "sampled")}


def compiled(network):
    """The same network with its functions compiled, which is quicker than op by op."""
    refresh = network.refresh and jax.jit(network.refresh)
    return Network(jax.jit(network.init), jax.jit(network.apply, static_argnums=3), refresh)


def network_and_params(outputs, **settings):
    config = Config(hidden=(6, 4), noisy=True, norm="none", activation="tanh", num_cosines=5, **settings)
    network = compiled(make_network(config, SPEC, outputs))
    return network, random_params(jax.eval_shape(network.init, jax.random.key(0)))


@pytest.mark.parametrize("dueling", [False, True])
def test_the_streams_are_noisy_and_the_torso_is_not(dueling):
    _, params = network_and_params(HEADS["iqn"], dueling=dueling)
    noisy = {path[1].key for path, _ in jax.tree_util.tree_leaves_with_path(params) if "sigma" in path[-1].key}
    prefixes = ("Value_", "Advantage_") if dueling else ("",)
    assert noisy == {f"{prefix}{name}" for prefix in prefixes for name in ("Hidden_1", "Output")}
    assert {"Hidden_0", "fraction_embedding"} <= set(params["params"]) - noisy


@pytest.mark.parametrize("outputs", HEADS.values(), ids=HEADS)
def test_environments_that_see_the_same_act_apart(outputs):
    network, params = network_and_params(outputs, dueling=True)
    obs = np.ones((B, 7), np.float32)
    for role, apart in (("act", True), ("greedy", False)):
        x = np.asarray(network.apply(params, obs, jax.random.key(1), role).x)
        assert np.any(np.abs(x[1:] - x[:1]) > 1e-6, axis=(1, 2)).all() == apart
    x = [np.asarray(network.apply(params, obs, jax.random.key(k), "act").x) for k in (1, 1, 2)]
    np.testing.assert_array_equal(x[0], x[1])
    assert np.all(x[0] != x[2])


def test_a_shared_draw_is_shared_by_a_whole_batch():
    network, params = network_and_params(HEADS["atoms"], dueling=True)
    for role in SHARED:
        x = np.asarray(network.apply(params, np.ones((B, 7), np.float32), jax.random.key(1), role).x)
        np.testing.assert_allclose(x, np.tile(x[:1], (B, 1, 1)), rtol=1e-5, atol=1e-6)


STREAMS = QNetwork(
    Config(hidden=(6, 4), noisy=True, dueling=True, norm="none", activation="tanh"), SPEC, HEADS["atoms"], None
)


@partial(jax.jit, static_argnums=2)
def hidden_layers(params, key, role):
    """What the hidden layers of both streams give for equal observations."""
    _, seen = STREAMS.apply(params, jnp.ones((B, 7)), key, role, capture_intermediates=True, mutable="intermediates")
    return [seen["intermediates"][f"{name}_Hidden_1"]["__call__"][0] for name in ("Value", "Advantage")]


@pytest.mark.parametrize("role", ["online", "act"])
def test_layers_of_two_streams_have_noise_of_their_own(role):
    """With equal parameters the streams' hidden layers differ, and without noise they do not."""
    shapes = jax.eval_shape(lambda key: STREAMS.init(key, jnp.ones((1, 7)), None, "greedy"), jax.random.key(0))
    params = random_params(shapes)["params"]
    params = {"params": {**params, "Advantage_Hidden_1": params["Value_Hidden_1"]}}
    value, advantage = jax.device_get(hidden_layers(params, jax.random.key(1), role))
    assert np.all(np.abs(value - advantage) > 1e-6)
    np.testing.assert_array_equal(*hidden_layers(params, None, "greedy"))


@pytest.mark.parametrize("draws", [1, B])
def test_noise_of_all_layers_at_once_is_that_of_each_alone(draws):
    """Number for number, whatever the kind of key, for layers at any depth and for no others."""
    params = {
        "A": {"Dense_0": {"kernel": jnp.ones((P, Q)), "kernel_sigma": jnp.ones((P, Q))}},
        "B": {"kernel_sigma": jnp.ones((Q, 2)), "bias_sigma": jnp.ones(2)},
        "C": {"kernel": jnp.ones((2, 2))},
    }
    typed = jax.random.key(3)
    words = jax.random.key_data(typed)
    for key in (typed, words, jax.random.wrap_key_data(words, impl=FUSED_IMPL)):
        found = draw_at_once(params, key, draws)[NOISE]
        for path, sizes in ((("A", "Dense_0"), (P, Q)), (("B",), (Q, 2))):
            one = draw_alone(key, path, sizes, draws)
            for drawn, expected in zip(reduce(dict.get, path, found)[DRAWN], one, strict=True):
                assert drawn.shape == expected.shape
                np.testing.assert_allclose(drawn, expected, rtol=2e-6)
        assert sorted(found) == ["A", "B"]


@pytest.mark.parametrize("head", HEADS)
def test_a_network_for_a_gpu_is_the_same_function(head, monkeypatch):
    """There all noise is drawn before the pass, for every role that has some."""
    network, params = network_and_params(HEADS[head], dueling=True)
    obs, key = normal(B, 7), jax.random.key(2)
    found = {role: network.apply(params, obs, key, role).x for role in (*SHARED, "act", "greedy")}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    other, _ = network_and_params(HEADS[head], dueling=True)
    for role, x in found.items():
        np.testing.assert_allclose(other.apply(params, obs, key, role).x, x, rtol=1e-4, atol=1e-5)
