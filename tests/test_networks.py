"""Networks: shapes, inputs of every rank and dtype, sizes counted by hand, order of normalisation and activation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.networks import ACTIVATIONS, INITIALIZERS, Dense, MinAtarTorso, make_network, to_features

B, A, N = 5, 3, 2


def spec(shape, dtype="float32", values=None):
    return EnvSpec("Test-v0", A, shape, dtype, values, 100)


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


OBSERVATIONS = [
    # spec, convolution or not, inputs of the first dense layer
    (spec((), "int32", 16), False, 16),
    (spec((7,)), False, 7),
    (spec((4, 5)), False, 20),
    (spec((10, 10, 4)), True, 8 * 8 * 16),
    (spec((6, 7, 2), "uint8"), True, 4 * 5 * 16),
    (spec((3, 3, 1), "bool"), True, 16),
]


@pytest.mark.parametrize(("env", "convolution", "inputs"), OBSERVATIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_shapes_and_number_of_parameters(env, convolution, inputs, layer_norm):
    """Every rank of observation gives [B, A, N]; parameters counted by hand (a norm has a scale and an offset)."""
    network = make_network(Config(hidden=(12, 9), layer_norm=layer_norm), env, N)
    params = network.init(jax.random.key(0))
    obs = jnp.ones((B, *env.obs_shape), env.obs_dtype)
    out = jax.jit(network.apply)(params, obs, jax.random.key(1))
    assert out.x.shape == (B, A, N) and out.x.dtype == jnp.float32 and out.support.shape == (N,)
    norm = 2 if layer_norm else 0
    expected = (inputs * 12 + 12 + 12 * norm) + (12 * 9 + 9 + 9 * norm) + (9 * A * N + A * N)
    if convolution:
        expected += 3 * 3 * env.obs_shape[-1] * 16 + 16 + 16 * norm
    assert size(params) == expected


def test_default_network_on_cartpole_by_hand():
    # 4·120 + 120, 120·84 + 84, 84·2 + 2, and two norms of 2·120 and 2·84.
    network = make_network(Config(), EnvSpec("CartPole-v1", 2, (4,), "float32", None, 500), 1)
    assert size(network.init(jax.random.key(0))) == 600 + 10_164 + 170 + 240 + 168


def test_no_hidden_layers_is_linear():
    network = make_network(Config(hidden=()), spec((7,)), 1)
    params = network.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (2, 7))
    one, other, both = (network.apply(params, x[None], None).x for x in (obs[0], obs[1], obs[0] + obs[1]))
    np.testing.assert_allclose(one + other, both, atol=1e-5)
    assert size(params) == 7 * A + A


def test_features_by_dtype():
    """Pixels are scaled to [0, 1]; booleans and integers become 0.0, 1.0, …; discrete observations one-hot."""
    np.testing.assert_allclose(to_features(jnp.array([[0, 51, 255]], jnp.uint8), None), [[0.0, 0.2, 1.0]], rtol=1e-6)
    np.testing.assert_array_equal(to_features(jnp.array([[True, False]]), None), [[1.0, 0.0]])
    np.testing.assert_array_equal(to_features(jnp.array([[3, -4]], jnp.int32), None), [[3.0, -4.0]])
    np.testing.assert_array_equal(to_features(jnp.array([[0.5, 300.0]]), None), [[0.5, 300.0]])
    np.testing.assert_array_equal(to_features(jnp.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
    for obs, values in ((jnp.zeros((1, 2), jnp.uint8), None), (jnp.zeros(1, jnp.int32), 3)):
        assert to_features(obs, values).dtype == jnp.float32


def test_layer_norm_precedes_the_activation():
    """Dense (here the identity), then (x - mean) / deviation, then ReLU: -1, 1, 3 gives 0, 0, 1.2247."""
    layer = Dense(3, "relu", "lecun_normal", layer_norm=True)
    x = jnp.array([[-1.0, 1.0, 3.0]])
    params = layer.init(jax.random.key(0), x)
    params["params"]["Dense_0"]["kernel"] = jnp.eye(3)
    # Mean 1, variance 8/3: 2 / √(8/3) = 1.2247. The other order would give (0, 1, 3) normalised: -1.069 first.
    np.testing.assert_allclose(layer.apply(params, x), [[0.0, 0.0, 1.2247]], atol=1e-4)
    plain = Dense(3, "relu", "lecun_normal", layer_norm=False)
    np.testing.assert_allclose(plain.apply({"params": {"Dense_0": params["params"]["Dense_0"]}}, x), [[0.0, 1.0, 3.0]])


def kernel_and_bias(initializer, width=256):
    network = make_network(Config(hidden=(width,), initializer=initializer, layer_norm=False), spec((128,)), 1)
    layer = network.init(jax.random.key(0))["params"]["Dense_0"]["Dense_0"]
    return np.asarray(layer["kernel"]), np.asarray(layer["bias"])


# Variances for 128 inputs and 256 outputs: 1/fan_in, 2/fan_in, 2/fan_in, 2/(fan_in + fan_out); 32 768 draws each, so
# five standard errors are at most 5·√(2/32768) = 4 %.
VARIANCES = {"lecun_normal": 1 / 128, "he_normal": 2 / 128, "he_uniform": 2 / 128, "glorot_uniform": 2 / 384}


@pytest.mark.parametrize(("initializer", "variance"), VARIANCES.items())
def test_initializers_have_their_variance(initializer, variance):
    kernel, bias = kernel_and_bias(initializer)
    np.testing.assert_allclose(np.var(kernel), variance, rtol=0.04)
    np.testing.assert_array_equal(bias, 0.0)


def test_orthogonal_initializer_is_orthogonal_and_the_list_is_complete():
    kernel, _ = kernel_and_bias("orthogonal")
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(128), atol=1e-4)
    assert set(INITIALIZERS) == {*VARIANCES, "orthogonal"}


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activations_are_used(activation):
    """Each activation gives values of its own: the function itself on a layer that is the identity."""
    layer = Dense(3, activation, "lecun_normal", layer_norm=False)
    x = jnp.array([[-1.0, 0.5, 2.0]])
    params = {"params": {"Dense_0": {"kernel": jnp.eye(3), "bias": jnp.zeros(3)}}}
    expected = {
        "relu": [0.0, 0.5, 2.0],
        "tanh": [-0.76159, 0.46212, 0.96403],
        "gelu": [-0.15881, 0.34571, 1.95460],  # the tanh approximation
        "silu": [-0.26894, 0.31123, 1.76159],
        "elu": [-0.63212, 0.5, 2.0],
    }[activation]
    np.testing.assert_allclose(layer.apply(params, x), [expected], atol=1e-4)


def test_different_keys_give_different_parameters_and_the_same_key_the_same():
    network = make_network(Config(), spec((7,)), 1)
    one, again, other = (network.init(jax.random.key(k)) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    kernel = lambda p: p["params"]["Dense_0"]["Dense_0"]["kernel"]  # noqa: E731
    assert not np.any(np.asarray(kernel(one)) == np.asarray(kernel(other)))


class ReferenceTorso(nn.Module):
    """The MinAtar torso with Flax's own convolution."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(16, (3, 3), padding="VALID", kernel_init=nn.initializers.he_normal())(x))


@pytest.mark.parametrize("shape", [(2, 10, 10, 4), (1, 3, 5, 1)])
def test_minatar_torso_equals_flax_convolution(shape):
    """The same parameters from the same key, the same outputs and gradients, on pictures that are not square too."""
    torso, reference = MinAtarTorso("relu", "he_normal", layer_norm=False), ReferenceTorso()
    x = jax.random.normal(jax.random.key(0), shape)
    params = torso.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, params, reference.init(jax.random.key(1), x))
    np.testing.assert_allclose(torso.apply(params, x), reference.apply(params, x), atol=1e-5)
    ours, theirs = (jax.grad(lambda p, m=m: jnp.sum(m.apply(p, x) ** 2))(params) for m in (torso, reference))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, theirs)


def test_torso_by_name():
    """`mlp` flattens what `auto` would convolve."""
    params = make_network(Config(network="mlp", hidden=(8,)), spec((10, 10, 4)), 1).init(jax.random.key(0))
    assert not any("Torso" in name for name in params["params"])
    params = make_network(Config(network="minatar-cnn", hidden=(8,)), spec((10, 10, 4)), 1).init(jax.random.key(0))
    assert any("Torso" in name for name in params["params"])


@pytest.mark.parametrize(
    ("network", "shape"), [("minatar-cnn", (4,)), ("minatar-cnn", ()), ("minatar-cnn", (2, 9, 1)), ("auto", (9, 2, 1))]
)
def test_refuses_a_cnn_for_what_is_no_picture(network, shape):
    with pytest.raises(SettingError, match=r"Test-v0 gives observations of shape .*: use mlp"):
        make_network(Config(network=network), spec(shape), 1)


@pytest.mark.xfail(strict=True, reason="Config does not check its names: a wrong one is a bare KeyError, later")
@pytest.mark.parametrize(
    "field",
    [
        "network",
        "activation",
        "initializer",
        "loss",
        "reduction",
        "optimizer",
        "epsilon_schedule",
        "learning_rate_schedule",
    ],
)
def test_a_wrong_name_is_a_setting_error(field):
    """Config is validated: an unknown name is refused where it is given, with the field in the message."""
    with pytest.raises(SettingError, match=field):
        Config(**{field: "nonsense"})


@pytest.mark.xfail(strict=True, reason="Config takes a list of widths and can then not be hashed")
def test_an_accepted_config_is_hashable():
    """Configs are static arguments of compiled functions: a list is refused or made a tuple."""
    try:
        config = Config(hidden=[16, 16])
    except SettingError:
        return
    hash(config)
