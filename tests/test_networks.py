"""Networks: shapes, inputs of every rank and dtype, sizes counted by hand, order of normalisation and activation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.networks import ACTIVATIONS, INITIALIZERS, make_network, to_features

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


def test_number_of_parameters_on_cartpole_by_hand():
    # 4·120 + 120, 120·84 + 84, 84·2 + 2, and two norms of 2·120 and 2·84.
    network = make_network(
        Config(hidden=(120, 84), layer_norm=True), EnvSpec("CartPole-v1", 2, (4,), "float32", None, 500), 1
    )
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


def named(params):
    """Parameters by (kind, shape), however the layers are called: kernel, bias, scale and offset (of a norm)."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [entry.key for entry in path]
        kind = "offset" if names[-1] == "bias" and "LayerNorm" in names[-2] else names[-1]
        assert (kind, leaf.shape) not in found, "choose sizes that tell the layers apart"
        found[kind, leaf.shape] = leaf
    return found


def with_kernels(params, kernels):
    """Parameters with the kernels of the given shapes exchanged."""
    return jax.tree.map(lambda leaf: jnp.asarray(kernels.get(leaf.shape, leaf), jnp.float32), params)


def hidden_layer(x, **settings):
    """What a network's one hidden layer makes of x [1, 3], where its kernel is the identity and its bias zero."""
    env = EnvSpec("Test-v0", 4, (3,), "float32", None, 100)
    network = make_network(Config(hidden=(3,), **settings), env, 1)
    kernels = {(3, 3): np.eye(3), (3, 4): np.eye(3, 4)}  # the fourth action is the bias of the output, zero
    out = network.apply(with_kernels(network.init(jax.random.key(0)), kernels), jnp.array([x]), None).x
    assert out[0, 3, 0] == 0.0
    return out[0, :3, 0]


def test_layer_norm_precedes_the_activation():
    """Dense (here the identity), then (x - mean) / deviation, then ReLU: -1, 1, 3 gives 0, 0, 1.2247."""
    # Mean 1, variance 8/3: 2 / √(8/3) = 1.2247. The other order would give (0, 1, 3) normalised: -1.069 first.
    np.testing.assert_allclose(
        hidden_layer([-1.0, 1.0, 3.0], activation="relu", layer_norm=True), [0.0, 0.0, 1.2247], atol=1e-4
    )
    np.testing.assert_allclose(hidden_layer([-1.0, 1.0, 3.0], activation="relu", layer_norm=False), [0.0, 1.0, 3.0])


@pytest.mark.parametrize("layer_norm", [False, True])
def test_network_equals_numpy(layer_norm):
    """Two hidden layers written out in numpy, with biases, scales and offsets that are not zero or one."""
    network = make_network(Config(hidden=(12, 9), activation="tanh", layer_norm=layer_norm), spec((7,)), N)
    params = network.init(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 20))
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape), params)
    obs = np.asarray(jax.random.normal(jax.random.key(2), (B, 7)))
    layers, x = named(params), obs
    for inputs, width in ((7, 12), (12, 9)):
        x = x @ layers["kernel", (inputs, width)] + layers["bias", (width,)]
        if layer_norm:
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
            x = x * layers["scale", (width,)] + layers["offset", (width,)]
        x = np.tanh(x)
    x = x @ layers["kernel", (9, A * N)] + layers["bias", (A * N,)]
    np.testing.assert_allclose(network.apply(params, obs, None).x, x.reshape(B, A, N), rtol=1e-4, atol=1e-5)


def test_examples_of_a_batch_do_not_mix():
    """Each row of a batch gives what it gives alone: nothing is normalised, or reshaped, across the batch."""
    for env in (spec((7,)), spec((10, 10, 4))):
        network = make_network(Config(hidden=(12,)), env, N)
        params = network.init(jax.random.key(0))
        obs = jax.random.normal(jax.random.key(1), (B, *env.obs_shape))
        together = network.apply(params, obs, None).x
        for i in range(B):
            np.testing.assert_allclose(network.apply(params, obs[i : i + 1], None).x[0], together[i], atol=1e-5)


def kernel_and_bias(initializer):
    network = make_network(Config(hidden=(256,), initializer=initializer, layer_norm=False), spec((128,)), 1)
    layers = named(network.init(jax.random.key(0)))
    return np.asarray(layers["kernel", (128, 256)]), np.asarray(layers["bias", (256,)])


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
    expected = {
        "relu": [0.0, 0.5, 2.0],
        "tanh": [-0.76159, 0.46212, 0.96403],
        "gelu": [-0.15881, 0.34571, 1.95460],  # the tanh approximation
        "silu": [-0.26894, 0.31123, 1.76159],
        "elu": [-0.63212, 0.5, 2.0],
    }[activation]
    out = hidden_layer([-1.0, 0.5, 2.0], activation=activation, layer_norm=False)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_different_keys_give_different_parameters_and_the_same_key_the_same():
    network = make_network(Config(hidden=(120,)), spec((7,)), 1)
    one, again, other = (network.init(jax.random.key(k)) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    kernel = lambda params: np.asarray(named(params)["kernel", (7, 120)])  # noqa: E731
    assert not np.any(kernel(one) == kernel(other))


@pytest.mark.parametrize("shape", [(10, 10, 4), (3, 5, 1)])
def test_minatar_torso_is_a_convolution(shape):
    """Outputs and gradients are those of XLA's own convolution, on pictures that are not square too."""
    network = make_network(Config(hidden=(), activation="relu", layer_norm=False), spec(shape), 1)
    params = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, *shape))

    def reference(params):
        layers, features = named(params), (shape[0] - 2) * (shape[1] - 2) * 16
        kernel = layers["kernel", (3, 3, shape[2], 16)]
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = jnp.maximum(y + layers["bias", (16,)], 0.0).reshape(2, features)
        return y @ layers["kernel", (features, A)] + layers["bias", (A,)]

    ours = lambda params: network.apply(params, x, None).x[..., 0]  # noqa: E731
    np.testing.assert_allclose(ours(params), reference(params), atol=1e-5)
    grads = [jax.grad(lambda p, f=f: jnp.sum(jnp.sin(f(p))))(params) for f in (ours, reference)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *grads)


def has_convolution(params):
    return any(leaf.ndim == 4 for leaf in jax.tree.leaves(params))


def test_torso_by_name():
    """`mlp` flattens what `auto` would convolve."""
    params = make_network(Config(network="mlp", hidden=(8,)), spec((10, 10, 4)), 1).init(jax.random.key(0))
    assert not has_convolution(params)
    params = make_network(Config(network="minatar-cnn", hidden=(8,)), spec((10, 10, 4)), 1).init(jax.random.key(0))
    assert has_convolution(params)


@pytest.mark.parametrize(
    ("network", "shape"), [("minatar-cnn", (4,)), ("minatar-cnn", ()), ("minatar-cnn", (2, 9, 1)), ("auto", (9, 2, 1))]
)
def test_refuses_a_cnn_for_what_is_no_picture(network, shape):
    with pytest.raises(SettingError, match=r"Test-v0 gives observations of shape .*: use mlp"):
        make_network(Config(network=network), spec(shape), 1)


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


def test_an_accepted_config_is_hashable():
    """Configs are static arguments of compiled functions: a list is refused or made a tuple."""
    try:
        config = Config(hidden=[16, 16])
    except SettingError:
        return
    assert hash(config) == hash(Config(hidden=(16, 16)))
