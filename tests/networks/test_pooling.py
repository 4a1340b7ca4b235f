"""Adaptive max pooling against a numpy twin of PyTorch's definition, and the settings of a CNN's width and pooling."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import check_read
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.networks import make_network
from purejaxdqn.networks.layers import adaptive_max_pool
from purejaxdqn.types import Outputs

pytestmark = pytest.mark.usefixtures("strict_ranks")


SCALAR = Outputs(1, (0.0,), "fixed")


def twin(x, size):
    """Each output from its window, ⌊i n / size⌋ to ⌈(i + 1) n / size⌉, one by one."""
    out = np.zeros((x.shape[0], size, size, x.shape[3]), np.float32)
    ends = [[(math.floor(i * n / size), math.ceil((i + 1) * n / size)) for i in range(size)] for n in x.shape[1:3]]
    for i, (top, bottom) in enumerate(ends[0]):
        for j, (left, right) in enumerate(ends[1]):
            out[:, i, j] = x[:, top:bottom, left:right].max(axis=(1, 2))
    return out


@pytest.mark.parametrize(("shape", "size"), [((11, 11), 6), ((12, 9), 6), ((7, 5), 3), ((6, 6), 6), ((4, 9), 1)])
def test_pooling_is_its_numpy_twin(shape, size):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    np.testing.assert_array_equal(adaptive_max_pool(jnp.asarray(x), size), twin(x, size))


def test_pooling_by_hand():
    """Five pixels to three windows: 0-1, 1-3, 3-4, of which neighbours share a pixel; a gradient goes to the maxima."""
    row = jnp.array([1.0, 5.0, 2.0, 4.0, 3.0]).reshape(1, 1, 5, 1)
    x = jnp.concatenate([row, row - 10.0, row - 20.0], axis=1)
    np.testing.assert_array_equal(adaptive_max_pool(x, 3)[0, :, :, 0], [[5, 5, 4], [-5, -5, -6], [-15, -15, -16]])
    gradient = jax.grad(lambda x: jnp.sum(adaptive_max_pool(x, 3)))(x)
    np.testing.assert_array_equal(gradient[0, 0, :, 0], [0.0, 2.0, 0.0, 1.0, 0.0])


def test_of_equal_pixels_the_first_has_the_gradient():
    x = jnp.array([2.0, 2.0, 1.0, 2.0]).reshape(1, 1, 4, 1)
    gradient = jax.grad(lambda x: jnp.sum(adaptive_max_pool(x, 1)))(x)
    np.testing.assert_array_equal(gradient[0, 0, :, 0], [1.0, 0.0, 0.0, 0.0])


def spec(shape):
    return EnvSpec("Test-v0", 18, shape, "uint8", None, 100)


def shapes(shape, outputs=SCALAR, **settings):
    network = make_network(Config(hidden=(512,), norm="none", **settings), spec(shape), outputs)
    return jax.eval_shape(network.init, jax.random.key(0))["params"]


def size(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("network", "shape", "convolutions"),
    [
        # 3·3·2·48 + 48: three times 16 filters.
        ("minatar-cnn", (5, 5, 2), 912),
        # 8·8·4·96 + 96, 4·4·96·192 + 192, 3·3·192·192 + 192.
        ("nature-cnn", (40, 40, 4), 24_672 + 295_104 + 331_968),
        # 4·4·4·48 + 48, 4·4·48·96 + 96, 3·3·96·96 + 96.
        ("half-cnn", (20, 20, 4), 3_120 + 73_824 + 83_040),
        # 3·3·1·48 + 48 and four of 3·3·48·48 + 48; 3·3·48·96 + 96 and nine of 3·3·96·96 + 96.
        ("impala-cnn", (9, 9, 1), 480 + 4 * 20_784 + 41_568 + 9 * 83_040),
    ],
)
def test_a_width_multiplies_the_filters(network, shape, convolutions):
    """Counted by hand for a width of 3."""
    params = shapes(shape, network=network, torso_width=3)
    (torso,) = (layers for name, layers in params.items() if "Torso" in name)
    assert size(torso) == convolutions
    plain = shapes(shape, network=network)
    kernels = [[leaf.shape[-1] for leaf in jax.tree.leaves(p) if len(leaf.shape) == 4] for p in (params, plain)]
    assert kernels[0] == [3 * width for width in kernels[1]]


def test_btrs_network_has_the_papers_number_of_parameters():
    """Figure E7: 2.91 million, 2.52 million of them in linear layers, without the deviations of the noise."""
    sampled = Outputs(1, (0.0,), "sampled")
    settings = {"network": "impala-cnn", "torso_width": 2, "pool": 6, "dueling": True, "spectral_norm": True}
    params = shapes((84, 84, 4), sampled, **settings)
    (torso,) = (layers for name, layers in params.items() if "Torso" in name)
    assert round(size(params) / 1e6, 2) == 2.91 and round((size(params) - size(torso)) / 1e6, 2) == 2.52
    noisy = shapes((84, 84, 4), sampled, noisy=True, **settings)
    # A hidden layer of 6·6·64 inputs and an output in each stream.
    assert size(noisy) - size(params) == 2 * (2_304 * 512 + 512) + 512 + 1 + 18 * 513


@pytest.mark.parametrize(
    ("network", "shape", "most"),
    [("minatar-cnn", (7, 9, 1), 5), ("nature-cnn", (84, 60, 4), 4), ("impala-cnn", (10, 9, 1), 2)],
)
def test_pooling_to_more_than_there_is_is_refused(network, shape, most):
    params = shapes(shape, network=network, pool=most)
    channels = {"minatar-cnn": 16, "nature-cnn": 64, "impala-cnn": 32}[network]
    assert (most * most * channels, 512) in [leaf.shape for leaf in jax.tree.leaves(params)]
    with pytest.raises(
        SettingError, match=rf"^pool={most + 1}: the torso's output is .*: use at most {most}\b"
    ) as error:
        shapes(shape, network=network, pool=most + 1)
    assert "\n" not in str(error.value)


def test_settings_that_a_torso_does_not_read_are_refused():
    """Of an MLP by its name, or where `auto` takes one; and spectral norm of a torso without residual blocks."""
    for name, value in (("torso_width", 2), ("pool", 1)):
        with pytest.raises(SettingError, match=f"{name}={value}: --network mlp does not read it"):
            check_read(Config(network="mlp", **{name: value}), {name: value})
        with pytest.raises(SettingError, match=rf"{name}={value}: .* shape \(7,\), for which auto takes an MLP"):
            make_network(Config(**{name: value}), spec((7,)), SCALAR)
        check_read(Config(**{name: value}), {name: value})
    for network in ("auto", "mlp", "minatar-cnn", "nature-cnn"):
        remedy = f"--network {network} does not read it: leave it out, or use --network impala-cnn"
        with pytest.raises(SettingError, match=remedy):
            check_read(Config(network=network, spectral_norm=True), {"spectral_norm": True})
    for name, value in (("torso_width", 0), ("pool", -1), ("torso_width", 1.5)):
        with pytest.raises(SettingError, match=f"{name}={value}: use a whole number of at least"):
            Config(**{name: value})
