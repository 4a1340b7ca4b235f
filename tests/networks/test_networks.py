"""Networks: shapes, inputs of every rank and dtype, sizes counted by hand, order of normalisation and activation."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.networks import ACTIVATIONS, INITIALIZERS, TORSOS, Network, Torso, to_features
from purejaxdqn.networks import make_network as make_plain_network
from purejaxdqn.networks.layers import Conv
from purejaxdqn.networks.qnetwork import duel
from purejaxdqn.types import Outputs

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A, N = 5, 3, 2
ROLES = ("online", "target", "select", "act", "greedy")


def spec(shape, dtype="float32", values=None):
    return EnvSpec("Test-v0", A, shape, dtype, values, 100)


def make_network(*args):
    """The network with its functions compiled, which is quicker than op by op."""
    network = make_plain_network(*args)
    refresh = network.refresh and jax.jit(network.refresh)
    return Network(jax.jit(network.init), jax.jit(network.apply, static_argnums=3), refresh)


def fixed(num_atoms):
    return Outputs(num_atoms, tuple(float(i) - 1.0 for i in range(num_atoms)), "fixed")


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def random_like(shapes):
    """Arrays of the shapes of a tree, all positive, so that a variance may be among them, and none of them alike."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.9, leaf.shape).astype(np.float32), shapes)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


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
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_shapes_and_number_of_parameters(env, convolution, inputs, norm):
    """Every rank of observation gives [B, A, N]; parameters counted by hand (a norm has a scale and an offset)."""
    network = make_network(Config(hidden=(12, 9), norm=norm), env, fixed(N))
    params = random_like(jax.eval_shape(network.init, jax.random.key(0)))
    obs = np.ones((B, *env.obs_shape), env.obs_dtype)
    out = network.apply(params, obs, jax.random.key(1), "online")
    assert out.x.shape == (B, A, N) and out.x.dtype == jnp.float32 and out.support.shape == out.weight.shape == (B, N)
    np.testing.assert_array_equal(out.support, np.tile([-1.0, 0.0], (B, 1)))
    np.testing.assert_array_equal(out.weight, 0.5)
    scales = 2 if norm == "layer" else 0
    expected = (inputs * 12 + 12 + 12 * scales) + (12 * 9 + 9 + 9 * scales) + (9 * A * N + A * N)
    if convolution:
        expected += 3 * 3 * env.obs_shape[-1] * 16 + 16 + 16 * scales
    assert size(params) == expected


def test_number_of_parameters_on_cartpole_by_hand():
    # 4·120 + 120, 120·84 + 84, 84·2 + 2, and two norms of 2·120 and 2·84.
    network = make_network(
        Config(hidden=(120, 84), norm="layer"), EnvSpec("CartPole-v1", 2, (4,), "float32", None, 500), fixed(1)
    )
    assert size(jax.eval_shape(network.init, jax.random.key(0))) == 600 + 10_164 + 170 + 240 + 168


def test_no_hidden_layers_is_linear():
    network = make_network(Config(hidden=()), spec((7,)), fixed(1))
    params = network.init(jax.random.key(0))
    obs = normal(1, 2, 7)
    one, other, both = (
        np.asarray(network.apply(params, x[None], None, "online").x) for x in (obs[0], obs[1], obs[0] + obs[1])
    )
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
    return jax.tree.map(lambda leaf: np.asarray(kernels.get(leaf.shape, leaf), np.float32), params)


def hidden_layer(x, **settings):
    """What a network's one hidden layer makes of x [1, 3], where its kernel is the identity and its bias zero."""
    env = EnvSpec("Test-v0", 4, (3,), "float32", None, 100)
    network = make_network(Config(hidden=(3,), **settings), env, fixed(1))
    kernels = {(3, 3): np.eye(3), (3, 4): np.eye(3, 4)}  # the fourth action is the bias of the output, zero
    params = with_kernels(network.init(jax.random.key(0)), kernels)
    out = np.asarray(network.apply(params, np.float32([x]), None, "online").x)
    assert out[0, 3, 0] == 0.0
    return out[0, :3, 0]


def test_layer_norm_precedes_the_activation():
    """Dense (here the identity), then (x - mean) / deviation, then ReLU: -1, 1, 3 gives 0, 0, 1.2247."""
    # Mean 1, variance 8/3: 2 / √(8/3) = 1.2247. The other order would give (0, 1, 3) normalised: -1.069 first.
    np.testing.assert_allclose(
        hidden_layer([-1.0, 1.0, 3.0], activation="relu", norm="layer"), [0.0, 0.0, 1.2247], atol=1e-4
    )
    np.testing.assert_allclose(hidden_layer([-1.0, 1.0, 3.0], activation="relu", norm="none"), [0.0, 1.0, 3.0])


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_network_equals_numpy(norm):
    """Two hidden layers written out in numpy, with biases, scales and offsets that are not zero or one."""
    network = make_network(Config(hidden=(12, 9), activation="tanh", norm=norm), spec((7,)), fixed(N))
    rng = np.random.default_rng(1)
    change = lambda leaf: leaf + np.float32(0.3) * rng.standard_normal(leaf.shape, np.float32)  # noqa: E731
    params = jax.tree.map(change, jax.device_get(network.init(jax.random.key(0))))
    obs = normal(2, B, 7)
    layers, x = named(params), obs
    for inputs, width in ((7, 12), (12, 9)):
        x = x @ layers["kernel", (inputs, width)] + layers["bias", (width,)]
        if norm == "layer":
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
            x = x * layers["scale", (width,)] + layers["offset", (width,)]
        x = np.tanh(x)
    x = x @ layers["kernel", (9, A * N)] + layers["bias", (A * N,)]
    np.testing.assert_allclose(network.apply(params, obs, None, "online").x, x.reshape(B, A, N), rtol=1e-4, atol=1e-5)


def test_examples_of_a_batch_do_not_mix():
    """Each row of a batch gives what it gives alone: nothing is normalised, or reshaped, across the batch."""
    for env in (spec((7,)), spec((10, 10, 4))):
        network = make_network(Config(hidden=(12,)), env, fixed(N))
        params = network.init(jax.random.key(0))
        obs = normal(1, B, *env.obs_shape)
        together = np.asarray(network.apply(params, obs, None, "online").x)
        for i in range(B):
            alone = network.apply(params, obs[i : i + 1], None, "online").x
            np.testing.assert_allclose(alone, together[i : i + 1], atol=1e-5)


def kernel_and_bias(initializer):
    network = make_network(Config(hidden=(256,), initializer=initializer, norm="none"), spec((128,)), fixed(1))
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
    assert set(INITIALIZERS) == {*VARIANCES, "orthogonal", "normal"}


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
    out = hidden_layer([-1.0, 0.5, 2.0], activation=activation, norm="none")
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_different_keys_give_different_parameters_and_the_same_key_the_same():
    network = make_network(Config(hidden=(120,)), spec((7,)), fixed(1))
    one, again, other = (network.init(jax.random.key(k)) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    kernel = lambda params: np.asarray(named(params)["kernel", (7, 120)])  # noqa: E731
    assert not np.any(kernel(one) == kernel(other))


@pytest.mark.parametrize("shape", [(10, 10, 4), (3, 5, 1)])
def test_minatar_torso_is_a_convolution(shape):
    """Outputs and gradients are those of XLA's own convolution, on pictures that are not square too."""
    network = make_network(Config(hidden=(), activation="relu", norm="none"), spec(shape), fixed(1))
    params = network.init(jax.random.key(0))
    x = normal(1, 2, *shape)

    def reference(params):
        layers, features = named(params), (shape[0] - 2) * (shape[1] - 2) * 16
        kernel = layers["kernel", (3, 3, shape[2], 16)]
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = jnp.maximum(y + layers["bias", (16,)].reshape(1, 1, 1, 16), 0.0).reshape(2, features)
        return y @ layers["kernel", (features, A)] + layers["bias", (A,)].reshape(1, A)

    ours = lambda params: network.apply(params, x, None, "online").x[..., 0]  # noqa: E731

    def graded(f):
        def loss(params):
            y = f(params)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    (our_grads, our_y), (their_grads, their_y) = map(graded, (ours, reference))
    np.testing.assert_allclose(our_y, their_y, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), our_grads, their_grads)


def dense_size(inputs, outputs, noisy=False):
    """A kernel and a bias; a noisy layer has the deviations of both too."""
    return (2 if noisy else 1) * (inputs * outputs + outputs)


HEADS = {
    "scalar": fixed(1),
    "atoms": fixed(5),
    "iqn": Outputs(1, (0.0,), "sampled"),
    "fqf": Outputs(1, (0.0,), "proposed"),
}
KINDS = list(itertools.product(HEADS, (False, True), (False, True), ("none", "layer", "batch"), ("mlp", "cnn")))
# Every fifth of the 96, in which each two choices meet; the rest are long ones.
EVERY_KIND = [pytest.param(*kind, marks=pytest.mark.long if i % 5 else ()) for i, kind in enumerate(KINDS)]


@pytest.mark.parametrize(("head", "dueling", "noisy", "norm", "torso"), EVERY_KIND)
def test_shapes_and_number_of_parameters_of_every_kind(head, dueling, noisy, norm, torso):
    """Counted by hand: shared layers, one or two streams, embedding and proposal; shapes in every role."""
    outputs, shape = HEADS[head], (7,) if torso == "mlp" else (4, 5, 2)
    counts = {"num_quantiles": 4, "num_target_quantiles": 6, "num_policy_quantiles": 8, "num_cosines": 10}
    config = Config(hidden=(12, 9), dueling=dueling, noisy=noisy, norm=norm, **counts)
    network = make_plain_network(config, spec(shape), outputs)
    variables = jax.eval_shape(network.init, jax.random.key(0))
    params = variables["params"]

    norms = 12 + 9 * (1 + dueling) + (16 if torso == "cnn" else 0)  # numbers of normalised features
    expected = dense_size(2 * 3 * 16, 12) + dense_size(3 * 3 * 2, 16) if torso == "cnn" else dense_size(7, 12)
    for width in (outputs.num_atoms, A * outputs.num_atoms) if dueling else (A * outputs.num_atoms,):
        expected += dense_size(12, 9, noisy) + dense_size(9, width, noisy)
    expected += 0 if norm == "none" else 2 * norms
    expected += dense_size(10, 12) if head in ("iqn", "fqf") else 0
    expected += dense_size(12, 4) if head == "fqf" else 0
    assert size(params) == expected
    assert set(variables) == ({"params", "batch_stats"} if norm == "batch" else {"params"})
    assert norm != "batch" or size(variables["batch_stats"]) == 2 * norms
    assert (network.refresh is None) == (norm != "batch")
    assert ("fraction_proposal" in params) == (head == "fqf")

    for role in ROLES:
        count = {"iqn": {"online": 4, "target": 6}.get(role, 8), "fqf": 4}.get(head, outputs.num_atoms)
        apply = lambda p, o, k, role=role: network.apply(p, o, k, role)  # noqa: E731
        dist = jax.eval_shape(apply, variables, np.ones((B, *shape), np.float32), jax.random.key(1))
        assert (dist.x.shape, dist.support.shape, dist.weight.shape) == ((B, A, count), (B, count), (B, count))
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(dist)} == {"float32"}
        assert (dist.proposal is not None) == (head == "fqf" and role == "online")
        if dist.proposal is not None:
            assert dist.proposal.x.shape == (B, A, 3)
            assert (dist.proposal.boundary.shape, dist.proposal.entropy.shape) == ((B, 3), (B,))


@pytest.mark.parametrize(("head", "role"), [("atoms", "online"), ("atoms", "act"), ("iqn", "act"), ("fqf", "online")])
def test_lanes_of_a_network_are_networks(head, role):
    """vmap over parameters and keys, noise and batch norm included, gives what each lane gives alone."""
    config = Config(hidden=(6,), noisy=True, norm="batch", num_quantiles=4, num_cosines=5)
    network = make_network(config, spec((7,)), HEADS[head])
    keys = jax.random.split(jax.random.key(0), 3)
    params = random_like(jax.eval_shape(jax.vmap(network.init), keys))
    obs = normal(1, 3, B, 7)
    lane = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)  # noqa: E731
    lanes = jax.device_get(jax.jit(jax.vmap(lambda p, o, k: network.apply(p, o, k, role)))(params, obs, keys))
    for i in range(3):
        alone = network.apply(lane(params, i), obs[i], keys[i], role)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), lane(lanes, i), alone)
    refreshed = jax.device_get(jax.jit(jax.vmap(network.refresh))(params, obs))
    alone = network.refresh(lane(params, 1), obs[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), lane(refreshed, 1), alone)


def test_dueling_by_hand():
    """One atom: V = 10 and A = 1, 2, 6 (mean 3) give 8, 9, 13; another atom with another mean does not interfere."""
    value = np.float32([10.0, 0.0])[:, None]
    advantage = np.float32([[1.0, 5.0], [2.0, 5.0], [6.0, -4.0]])[:, :, None]
    expected = [[8.0, 3.0], [9.0, 3.0], [13.0, -6.0]]
    np.testing.assert_allclose(jax.jit(duel)(value, advantage)[:, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("hidden", [(), (12,), (12, 9)])
def test_dueling_network_equals_numpy(hidden):
    """Streams part after the first hidden layer; the mean over actions is the value, the rest the advantage."""
    network = make_network(Config(hidden=hidden, dueling=True, norm="none", activation="tanh"), spec((7,)), fixed(N))
    params = network.init(jax.random.key(0))
    obs = normal(2, B, 7)
    p = jax.tree.map(np.asarray, params["params"])
    dense = lambda x, layer: x @ layer["kernel"] + layer["bias"]  # noqa: E731
    x = np.tanh(dense(obs, p["Hidden_0"]["Dense_0"])) if hidden else obs

    def stream(name):
        y = np.tanh(dense(x, p[f"{name}_Hidden_1"]["Dense_0"])) if len(hidden) == 2 else x
        return dense(y, p[f"{name}_Output"])

    value, advantage = stream("Value"), stream("Advantage").reshape(B, A, N)
    expected = value[:, None] + advantage - advantage.mean(axis=1, keepdims=True)
    out = np.asarray(network.apply(params, obs, None, "online").x)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.mean(axis=1), value, rtol=1e-4, atol=1e-5)


def test_an_offset_of_all_advantages_changes_nothing():
    """Identifiability: what all actions share belongs to the value alone."""
    network = make_network(Config(hidden=(12,), dueling=True), spec((7,)), fixed(N))
    params = network.init(jax.random.key(0))
    obs = normal(2, B, 7)
    before = np.asarray(network.apply(params, obs, None, "online").x)
    for name, difference in (("Advantage_Output", 0.0), ("Value_Output", 2.5)):
        layer = params["params"][name]
        moved = {"params": {**params["params"], name: {**layer, "bias": layer["bias"] + 2.5}}}
        np.testing.assert_allclose(network.apply(moved, obs, None, "online").x, before + difference, atol=1e-5)


class Doubling(nn.Module):
    """A torso of its own: twice the features, with a parameter."""

    config: Config

    @nn.compact
    def __call__(self, x):
        return x * self.param("factor", nn.initializers.constant(2.0), ())


def test_a_torso_of_another_package(monkeypatch):
    """By name or as an argument; it keeps one hidden layer for the streams, as a CNN does."""
    monkeypatch.setitem(TORSOS, "doubling", Torso(Doubling, lambda shape: len(shape) == 1, "it takes vectors"))
    by_name = make_network(Config(network="doubling", hidden=(8,), dueling=True), spec((7,)), fixed(1))
    given = make_network(Config(hidden=(8,), dueling=True), spec((7,)), fixed(1), Doubling)
    plain = make_network(Config(hidden=()), spec((7,)), fixed(1))
    doubling = make_network(Config(hidden=()), spec((7,)), fixed(1), Doubling)
    names = {"Doubling_0", "Value_Hidden_0", "Value_Output", "Advantage_Hidden_0", "Advantage_Output"}
    for network in (by_name, given):
        assert set(jax.eval_shape(network.init, jax.random.key(0))["params"]) == names
    params, obs = doubling.init(jax.random.key(0)), np.ones((B, 7), np.float32)
    rest = {"params": {"Output": params["params"]["Output"]}}
    x = doubling.apply(params, obs, None, "online").x
    np.testing.assert_allclose(x, plain.apply(rest, 2 * obs, None, "online").x, rtol=1e-5)
    with pytest.raises(SettingError, match=r"shape \(4, 5\), and it takes vectors: use mlp"):
        make_network(Config(network="doubling"), spec((4, 5)), fixed(1))


def test_an_unknown_torso_is_a_setting_error():
    with pytest.raises(
        SettingError, match="network='nonsense': use one of auto, mlp, minatar-cnn, nature-cnn, half-cnn, impala-cnn"
    ):
        make_network(Config(network="nonsense"), spec((7,)), fixed(1))


CONVOLUTIONS = [
    # size of the kernel, stride, observation
    (8, 4, (84, 84, 4)),
    (4, 2, (20, 20, 3)),
    (4, 2, (7, 9, 3)),  # the last row and the last column are seen by no kernel
    (3, 1, (9, 5, 2)),
    (2, 2, (2, 3, 1)),
]


@pytest.mark.parametrize(("size", "stride", "shape"), CONVOLUTIONS)
def test_a_convolution_is_flax_own(size, stride, shape):
    """The same shapes and initial values of parameters, outputs and gradients of both arguments, under vmap."""
    ours = Conv(6, size, stride, "lecun_normal")
    theirs = nn.Conv(6, (size, size), (stride, stride), padding="VALID")
    keys = jax.random.split(jax.random.key(0), 2)
    x = normal(1, 2, 2, *shape)
    params, own = jax.jit(lambda keys: [jax.vmap(module.init)(keys, x) for module in (theirs, ours)])(keys)
    jax.tree.map(np.testing.assert_array_equal, params, own)

    def loss(module):
        def of(params, x):
            y = module.apply(params, x)
            return jnp.mean(jnp.sin(y)), y

        return jax.jit(jax.vmap(jax.value_and_grad(of, (0, 1), has_aux=True)))

    results = [loss(module)(params, x) for module in (ours, theirs)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *results)


def flax_nature(x, layers, convolutions=((32, 8, 4), (64, 4, 2), (64, 3, 1))):
    """The network of Mnih et al. 2015 on [B, 84, 84, 4] by flax's own layers, from a torso's parameters."""
    for i, (width, size, stride) in enumerate(convolutions):
        convolution = nn.Conv(width, (size, size), (stride, stride), padding="VALID")
        x = nn.relu(convolution.apply({"params": layers[f"Conv_{i}"]}, x))
    return x


def flax_half(x, layers):
    """The same with half the filters, and the first two kernels of half the size."""
    return flax_nature(x, layers, ((16, 4, 2), (32, 4, 2), (32, 3, 1)))


def flax_impala(x, layers):
    """The residual network of Espeholt et al. 2018 by flax's own layers, from a torso's parameters."""

    def convolve(x, name):
        return nn.Conv(layers[name]["bias"].size, (3, 3), padding="SAME").apply({"params": layers[name]}, x)

    for stage in range(3):
        x = nn.max_pool(convolve(x, f"Conv_{stage}"), (3, 3), (2, 2), "SAME")
        for block in range(2):
            y = convolve(nn.relu(x), f"Conv_{stage}_{block}_0")
            x = x + convolve(nn.relu(y), f"Conv_{stage}_{block}_1")
    return nn.relu(x)


ATARI = EnvSpec("Test-v5", 6, (84, 84, 4), "uint8", None, 27_000)
# Nature: 8·8·4·32 + 32, 4·4·32·64 + 64, 3·3·64·64 + 64, then 7·7·64 inputs of the dense layer.
# Half: 4·4·4·16 + 16, 4·4·16·32 + 32, 3·3·32·32 + 32, and 84 -> 41 -> 19 -> 17 pixels a side.
# Impala: 3·3·4·16 + 16 and four of 3·3·16·16 + 16; 3·3·16·32 + 32 and four of 3·3·32·32 + 32; five of these; 11·11·32.
BIG_TORSOS = {
    "nature-cnn": (flax_nature, 8_224 + 32_832 + 36_928, 3_136, 32 + 64 + 64),
    "half-cnn": (flax_half, 1_040 + 8_224 + 9_248, 17 * 17 * 32, 16 + 32 + 32),
    "impala-cnn": (flax_impala, 592 + 4 * 2_320 + 4_640 + 9 * 9_248, 3_872, 16 * 4 + 32 * 9),
}


@pytest.mark.parametrize("name", BIG_TORSOS)
def test_big_torsos_equal_flax_and_have_their_number_of_parameters(name):
    reference, convolutions, features, normalised = BIG_TORSOS[name]
    count = convolutions + features * 512 + 512 + 512 * 6 + 6
    assert name != "nature-cnn" or count == 1_687_206
    for norm, more in (("none", 0), ("layer", 2 * (normalised + 512))):
        config = Config(network=name, hidden=(512,), norm=norm, activation="relu")
        assert size(jax.eval_shape(make_network(config, ATARI, fixed(1)).init, jax.random.key(0))) == count + more

    network = make_network(Config(network=name, hidden=(), norm="none", activation="relu"), ATARI, fixed(1))
    params = network.init(jax.random.key(0))
    obs = np.random.default_rng(1).integers(256, size=(2, 84, 84, 4), dtype=np.uint8)
    (torso,) = (layers for layers in params["params"].values() if "Conv_0" in layers)
    x = np.asarray(jax.jit(reference)(obs / np.float32(255.0), torso)).reshape(2, features)
    output = params["params"]["Output"]
    expected = x @ np.asarray(output["kernel"]) + np.asarray(output["bias"])
    np.testing.assert_allclose(network.apply(params, obs, None, "online").x[..., 0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        *(pytest.param("nature-cnn", head, marks=[] if head == "fqf" else pytest.mark.long) for head in HEADS),
        ("impala-cnn", "scalar"),
    ],
)
def test_big_torsos_under_every_head(name, head):
    """Two streams with noise on bytes start with finite values, which differ between pictures."""
    config = Config(network=name, hidden=(16,), dueling=True, noisy=True, num_quantiles=4, num_cosines=5)
    network = make_plain_network(config, ATARI, HEADS[head])
    obs = np.random.default_rng(1).integers(256, size=(2, 84, 84, 4), dtype=np.uint8)
    x = jax.jit(lambda key: network.apply(network.init(key), obs, key, "online").x)(jax.random.key(0))
    assert x.shape[:2] == (2, 6) and np.all(np.isfinite(x)) and np.any(x[0] != x[1])


def test_auto_takes_a_torso_by_the_size_of_the_picture():
    """36 is the least that Mnih et al.'s convolutions can take: 36 -> 8 -> 3 -> 1."""
    expected = {(36, 36, 1): 3, (84, 84, 4): 3, (35, 84, 4): 1, (84, 35, 4): 1, (84, 84): 0, (84,): 0}
    for shape, convolutions in expected.items():
        variables = jax.eval_shape(make_network(Config(hidden=()), spec(shape), fixed(1)).init, jax.random.key(0))
        assert sum(leaf.ndim == 4 for leaf in jax.tree.leaves(variables)) == convolutions


def has_convolution(params):
    return any(leaf.ndim == 4 for leaf in jax.tree.leaves(params))


def test_torso_by_name():
    """`mlp` flattens what `auto` would convolve."""
    for name in ("mlp", "minatar-cnn"):
        network = make_network(Config(network=name, hidden=(8,)), spec((10, 10, 4)), fixed(1))
        assert has_convolution(jax.eval_shape(network.init, jax.random.key(0))) == (name == "minatar-cnn")


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        ("minatar-cnn", (4,)),
        ("minatar-cnn", ()),
        ("minatar-cnn", (2, 9, 1)),
        ("auto", (9, 2, 1)),
        ("nature-cnn", (35, 84, 4)),
        ("half-cnn", (17, 42, 4)),
        ("impala-cnn", (84, 84)),
    ],
)
def test_refuses_a_cnn_for_what_is_no_picture(network, shape):
    with pytest.raises(SettingError, match=r"Test-v0 gives observations of shape .*: use mlp"):
        make_network(Config(network=network), spec(shape), fixed(1))


@pytest.mark.parametrize(
    "field",
    [
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
