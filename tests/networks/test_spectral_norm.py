"""Spectral norm: the largest singular value by numpy, one step of power iteration per refresh, and what reads it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.learn import Examples, init_learner, make_descend
from purejaxdqn.learning.heads import scalar
from purejaxdqn.networks import make_network, make_norm
from purejaxdqn.networks.layers import Conv, SpectralNorm
from purejaxdqn.types import Hypers, Outputs

pytestmark = pytest.mark.usefixtures("strict_ranks")

ROLES = ("online", "target", "select", "act", "greedy")
ENV = EnvSpec("Test-v0", 3, (6, 5, 2), "float32", None, 100)
SCALAR = Outputs(1, (0.0,), "fixed")
CONFIG = Config(network="impala-cnn", spectral_norm=True, hidden=(4,), norm="none", activation="relu")


class Small(nn.Module):
    """Two convolutions with spectral norm, each with the configured norm: a torso that compiles quickly."""

    config: Config

    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = make_norm(self.config, -1)(Conv(3 + i, 2, 1, "lecun_normal", True, name=f"Conv_{i}")(x))
        return x


def kernel_of(seed, shape=(12, 5)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def variables(right):
    return {"batch_stats": {"right": np.asarray(right, np.float32)}}


divide = jax.jit(SpectralNorm().apply)
step = jax.jit(partial(SpectralNorm().apply, mutable=["batch_stats"]))


def unit(x):
    return x / np.linalg.norm(x)


def test_one_pass_is_one_step_of_power_iteration():
    """In numpy: v = W u / ‖W u‖, u' = Wᵀv / ‖Wᵀv‖, σ = vᵀW u'; the length of u does not count."""
    kernel, right = kernel_of(0), np.arange(1.0, 6.0)
    left = unit(kernel @ right)
    following = unit(kernel.T @ left)
    sigma = left @ kernel @ following
    for scale in (1.0, 0.01):
        start = variables(scale * right)
        divided, kept = step(start, kernel)
        np.testing.assert_allclose(divided, kernel / sigma, rtol=1e-5)
        np.testing.assert_allclose(kept["batch_stats"]["right"], following, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(divide(start, kernel), divided, rtol=1e-6)


def test_power_iteration_run_to_its_end_is_the_singular_value():
    """Of a fresh kernel nearly, of any kernel after many steps exactly: numpy's decomposition."""
    kernel = kernel_of(1)
    largest = np.linalg.svd(kernel, compute_uv=False)[0]
    fresh = jax.jit(SpectralNorm().init)(jax.random.key(0), kernel)
    assert fresh["batch_stats"]["right"].shape == (5,)
    found = np.linalg.svd(divide(fresh, kernel), compute_uv=False)[0]
    assert abs(found - 1.0) < 0.02
    other = 3.0 * kernel_of(2)
    for _ in range(200):
        _, fresh = step(fresh, other)
    divided = np.asarray(divide(fresh, other))
    np.testing.assert_allclose(divided * np.linalg.svd(other, compute_uv=False)[0], other, rtol=1e-4)
    assert largest > 1.0  # there was something to divide by


def test_no_gradient_goes_into_the_vectors():
    """d/dW of ⟨C, W / σ⟩ with σ = vᵀW u' of constant v and u' is C / σ - ⟨C, W⟩ v u'ᵀ / σ²."""
    kernel, right, weights = kernel_of(3), np.ones(5, np.float32), kernel_of(4)
    left = unit(kernel @ right)
    following = unit(kernel.T @ left)
    sigma = left @ kernel @ following
    expected = weights / sigma - np.sum(weights * kernel) * np.outer(left, following) / sigma**2

    def loss(kernel, right):
        return jnp.sum(weights * SpectralNorm().apply({"batch_stats": {"right": right}}, kernel))

    of_kernel, of_right = jax.jit(jax.grad(loss, (0, 1)))(kernel, right)
    np.testing.assert_allclose(of_kernel, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(of_right, 0.0)


def test_a_kernel_of_zeros_stays_zero():
    divided, kept = step(variables(np.ones(5)), np.zeros((12, 5), np.float32))
    np.testing.assert_array_equal(divided, 0.0)
    np.testing.assert_array_equal(kept["batch_stats"]["right"], 0.0)


def test_a_convolution_keeps_its_parameters_and_divides_its_kernel_alone():
    """With the norm: the same initial kernel, and (y - b) / σ + b of the y without it."""
    x = normal(2, 5, 4, 3)
    plain, divided = (Conv(6, 3, 1, "lecun_normal", norm) for norm in (False, True))
    with_vector, without = jax.jit(lambda key: [module.init(key, x) for module in (divided, plain)])(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, with_vector["params"], without["params"])
    bias = np.arange(6, dtype=np.float32)
    params = {**with_vector["params"], "bias": bias}
    move = jax.jit(partial(divided.apply, mutable=["batch_stats"]))
    for _ in range(100):
        _, kept = move({**with_vector, "params": params}, x)
        with_vector = {**with_vector, **kept}
    sigma = np.linalg.svd(np.asarray(params["kernel"]).reshape(27, 6), compute_uv=False)[0]
    expected = (np.asarray(jax.jit(plain.apply)({"params": params}, x)) - bias) / sigma + bias
    found = jax.jit(divided.apply)({**with_vector, "params": params}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def vectors(params):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def test_it_is_on_the_residual_blocks_of_impala():
    """Four convolutions in each of three stages, none of the first ones: twelve vectors, one entry for each filter."""
    network = make_network(CONFIG, ENV, SCALAR)
    kept = vectors(jax.eval_shape(network.init, jax.random.key(0))["batch_stats"])
    names = [f"Conv_{stage}_{block}_{i}" for stage in range(3) for block in range(2) for i in range(2)]
    assert sorted(leaf.shape for leaf in kept.values()) == sorted([(16,)] * 4 + [(32,)] * 8)
    assert all(any(f"'{name}'" in path for path in kept) for name in names)


def test_every_role_reads_the_same_and_only_a_refresh_moves_the_vectors():
    network = make_network(CONFIG, ENV, SCALAR, Small)
    params = jax.jit(network.init)(jax.random.key(0))
    obs = normal(2, 6, 5, 2)
    outputs = jax.jit(lambda p: [network.apply(p, obs, None, role).x for role in ROLES])(params)
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], rtol=1e-5, atol=1e-6)
    refresh = jax.jit(network.refresh)
    refreshed = refresh(params, obs)
    jax.tree.map(np.testing.assert_array_equal, refreshed["params"], params["params"])
    jax.tree.map(np.testing.assert_array_equal, refreshed, refresh(params, 0.0 * obs))  # no batch is read
    moved = jax.tree.map(lambda a, b: np.not_equal(a, b).any(), refreshed["batch_stats"], params["batch_stats"])
    assert all(jax.tree.leaves(moved)) and len(jax.tree.leaves(moved)) == 2


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_an_update_makes_one_step_of_power_iteration(optimizer):
    """From the vector before it and the kernel after it; with weight decay the vector is not shortened either."""
    config = CONFIG.replace(optimizer=optimizer, batch_size=4)
    network, h = make_network(config, ENV, SCALAR, Small), Hypers(learning_rate=0.1, weight_decay=0.5).as_arrays()
    learner = jax.jit(lambda key: init_learner(config, network, key, h))(jax.random.key(0))
    one = np.ones(4, np.float32)
    examples = Examples(normal(4, 6, 5, 2), np.zeros(4, np.int32), one, one)
    descend = jax.jit(make_descend(config, network, scalar("huber")))
    after = descend(learner, examples, jax.random.key(2), h)[0].params
    (torso,) = (name for name in after["batch_stats"])
    for name, layer in after["batch_stats"][torso].items():
        kernel = np.asarray(after["params"][torso][name]["kernel"])
        assert np.abs(kernel - learner.params["params"][torso][name]["kernel"]).max() > 0.01
        matrix = kernel.reshape(-1, kernel.shape[-1])
        (before,), (found,) = (jax.tree.leaves(tree) for tree in (learner.params["batch_stats"][torso][name], layer))
        expected = unit(matrix.T @ unit(matrix @ np.asarray(before)))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_beside_batch_norm_one_refresh_moves_both():
    network = make_network(CONFIG.replace(norm="batch"), ENV, SCALAR, Small)
    params = jax.jit(network.init)(jax.random.key(0))
    refreshed = jax.jit(network.refresh)(params, normal(4, 6, 5, 2))
    names = {path.split("'")[-2] for path in vectors(refreshed["batch_stats"])}
    assert names == {"right", "mean", "var"}
    moved = jax.tree.map(lambda a, b: np.not_equal(a, b).any(), refreshed["batch_stats"], params["batch_stats"])
    assert all(jax.tree.leaves(moved))
