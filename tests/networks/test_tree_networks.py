"""Networks that read trees: against numpy, against the network of one array, and what does not fit."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build_model
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.networks import TORSOS, make_network, own_torso, to_features, torso_name
from purejaxdqn.types import Outputs

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A = 5, 3
ONE = Outputs(1, (0.0,), "fixed")
SHAPES = {"eye": (4, 5, 2), "id": (), "spot": (2,)}
DTYPES = {"eye": "uint8", "id": "int32", "spot": "float32"}
TREE = EnvSpec("Tree-v0", A, SHAPES, DTYPES, {"id": 3}, 100, obs_scale={"eye": 10.0})
VECTORS = EnvSpec("Tree-v0", A, ((), (2,)), ("int32", "float32"), (3,), 100)


def observations():
    rng = np.random.default_rng(0)
    eye, number = rng.integers(0, 11, (B, 4, 5, 2)).astype(np.uint8), rng.integers(0, 3, B).astype(np.int32)
    return {"eye": eye, "id": number, "spot": rng.normal(size=(B, 2)).astype(np.float32)}


def random_params(network):
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 4, jnp.float32), shapes)


def relu(x):
    return np.maximum(x, 0.0)


def dense(params, x):
    return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def convolved(params, x):
    """3 × 3, one output position at a time."""
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    rows = [
        [np.einsum("bijc,ijcw->bw", x[:, i : i + 3, j : j + 3], kernel) + bias for j in range(x.shape[2] - 2)]
        for i in range(x.shape[1] - 2)
    ]
    return relu(np.stack([np.stack(row, axis=1) for row in rows], axis=1))


def test_a_picture_and_other_arrays_against_numpy():
    """A convolution of the picture over 10, a dense layer for each other array, joined in the order of their names."""
    network = make_network(Config(hidden=(6, 7), norm="none"), TREE, ONE)
    params, obs = random_params(network), observations()
    p, torso = params["params"], params["params"]["TreeTorso_0"]
    eye = convolved(torso["MinAtarTorso_0"]["Conv_0"], obs["eye"] / np.float32(10)).reshape(B, -1)
    number = relu(dense(torso["Hidden_0"]["Dense_0"], np.eye(3, dtype=np.float32)[obs["id"]]))
    spot = relu(dense(torso["Hidden_1"]["Dense_0"], obs["spot"]))
    joined = np.concatenate([eye, number, spot], axis=1)
    assert joined.shape == (B, 2 * 3 * 16 + 6 + 6)
    x = relu(dense(p["Hidden_0"]["Dense_0"], joined))
    x = dense(p["Output"], relu(dense(p["Hidden_1"]["Dense_0"], x)))
    found = network.apply(params, obs, jax.random.key(0), "online").x[..., 0]
    np.testing.assert_allclose(found, x, rtol=2e-4, atol=2e-4)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    conv, own = 3 * 3 * 2 * 16 + 16, (3 * 6 + 6) + (2 * 6 + 6)
    assert count == conv + own + (108 * 6 + 6) + (6 * 7 + 7) + (7 * A + A)


@pytest.mark.parametrize(("spec", "network"), [(TREE, "mlp"), (VECTORS, "auto")])
def test_an_mlp_is_that_of_all_numbers_in_a_row(spec, network):
    """Bit for bit: by its name, and by `auto` where there is no picture."""
    obs = observations()
    hot = np.eye(3, dtype=np.float32)[obs["id"]]
    obs, parts = (
        (obs, [np.asarray(to_features(obs["eye"], None, 10.0)).reshape(B, -1)])
        if spec is TREE
        else ((obs["id"], obs["spot"]), [])
    )
    row = np.concatenate([*parts, hot, observations()["spot"]], axis=1)
    config = Config(hidden=(6,), network=network)
    tree = make_network(config, spec, ONE)
    plain = make_network(config, EnvSpec("Row-v0", A, row.shape[1:], "float32", None, 100), ONE)
    params = random_params(plain)
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(tree.init, jax.random.key(0)))
    one, other = tree.apply(params, obs, None, "greedy"), plain.apply(params, row, None, "greedy")
    np.testing.assert_array_equal(one.x, other.x)


def test_discrete_pictures_stay_pictures():
    """Channel c of value v becomes channel 3 c + v of 0 and 1."""
    picture = np.array([0, 2, 1, 1, 2, 2, 0, 1], np.uint8).reshape(1, 2, 2, 2)
    found = np.asarray(to_features(jnp.asarray(picture), 3))
    assert found.shape == (1, 2, 2, 6)
    for i, j, c in np.ndindex(2, 2, 2):
        expected = [float(v == picture[0, i, j, c]) for v in range(3)]
        np.testing.assert_array_equal(found[0, i, j, 3 * c : 3 * c + 3], expected)
    np.testing.assert_allclose(
        to_features(jnp.array([[0, 5, 10]], jnp.uint8), None, 10.0), [[0.0, 0.5, 1.0]], rtol=1e-6
    )


def test_an_ensemble_and_resets_know_the_torso_of_a_tree():
    config = Config(hidden=(6, 7), ensemble=2)
    network, _ = build_model(config, TREE)
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]
    assert torso_name(config, TREE) == "TreeTorso_0" and torso_name(config, VECTORS) is None
    assert params["TreeTorso_0"]["MinAtarTorso_0"]["Conv_0"]["kernel"].shape == (3, 3, 2, 16)
    assert params["Hidden_0"]["Dense_0"]["kernel"].shape == (2, 108, 6)


def test_each_picture_is_pooled_by_itself():
    network = make_network(Config(hidden=(6,), pool=1), TREE, ONE)
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]
    assert params["Output"]["kernel"].shape == (6, A) and params["Hidden_0"]["Dense_0"]["kernel"].shape[0] == 16 + 6 + 6


class Reader(nn.Module):
    """A torso of a user's own that reads a tree by its names."""

    @nn.compact
    def __call__(self, features):
        assert {name: x.shape[1:] for name, x in features.items()} == {"eye": (4, 5, 2), "id": (3,), "spot": (2,)}
        assert all(x.dtype == jnp.float32 for x in features.values())
        return nn.Dense(4)(features["spot"]) * features["id"].sum(axis=1, keepdims=True)


def test_a_torso_of_ones_own_is_given_the_tree(monkeypatch):
    monkeypatch.setitem(TORSOS, "reader", own_torso(Reader()))
    network = make_network(Config(hidden=(6,), network="reader"), TREE, ONE)
    params = random_params(network)
    assert params["params"]["Hidden_0"]["Dense_0"]["kernel"].shape == (4, 6) if "Hidden_0" in params["params"] else True
    assert network.apply(params, observations(), None, "greedy").x.shape == (B, A, 1)


@pytest.mark.parametrize(
    ("spec", "config", "words"),
    [
        (TREE, {"network": "nature-cnn"}, r"Tree-v0 gives eye of shape \(4, 5, 2\), and nature-cnn takes .* use mlp"),
        (VECTORS, {"network": "minatar-cnn"}, r"Tree-v0 gives 0 of shape \(\), and minatar-cnn takes .* use mlp"),
        (VECTORS, {"torso_width": 2}, "for which auto takes an MLP, and that does not read it: leave it out"),
        (TREE, {"pool": 3}, "the torso's output is 2 by 3: use at most 2"),
    ],
)
def test_what_does_not_fit_names_the_array(spec, config, words):
    with pytest.raises(SettingError, match=words):
        make_network(Config(**config), spec, ONE)


def test_another_shape_is_told_by_the_name_of_its_array():
    network = make_network(Config(hidden=(6,)), TREE, ONE)
    params = jax.eval_shape(network.init, jax.random.key(0))
    wrong = {**observations(), "spot": np.zeros((B, 3), np.float32)}
    with pytest.raises(AssertionError, match="argument `obs spot`"):
        jax.eval_shape(lambda p: network.apply(p, wrong, None, "greedy"), params)
