"""Whole networks of a user's own: their numbers are the head's, settings of layers are refused, objects have names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn import make_agent, make_train, register, whole_network
from purejaxdqn.build import build, build_model
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.networks import TORSOS
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("own_parts")
VECTOR = EnvSpec("Here-v0", 3, (4,), "float32", None, 100)
SMALL = {"total_steps": 400, "num_envs": 4, "buffer_size": 200, "batch_size": 8, "learning_starts": 40}


class Linear(nn.Module):
    """Outputs of one matrix, of a shape that is given."""

    shape: tuple[int, ...] = (3,)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        flat = nn.Dense(int(np.prod(self.shape)))(x.reshape(x.shape[0], -1))
        return flat.reshape(x.shape[0], *self.shape).astype(self.dtype)


class Counted(Linear):
    """It keeps how often it was called."""

    @nn.compact
    def __call__(self, x):
        self.variable("calls", "count", jnp.zeros, ())
        return nn.Dense(3)(x)


def named(module, spec=VECTOR, **settings):
    register("network", "mine", whole_network(module))
    return build_model(Config(network="mine", **settings), spec)


@pytest.mark.parametrize(
    ("head", "shape", "numbers"),
    [
        ({"head": "scalar"}, (3,), lambda x: x[..., 0]),
        ({"head": "scalar"}, (3, 1), lambda x: x[..., 0]),
        ({"head": "quantile", "num_quantiles": 2}, (3, 2), lambda x: x.mean(axis=-1)),
        ({"head": "categorical", "num_atoms": 3}, (3, 3), lambda x: jax.nn.softmax(x) @ jnp.array([-10.0, 0, 10])),
    ],
)
def test_its_outputs_are_what_the_head_reads(head, shape, numbers):
    """By a product in NumPy, with no parameter beside its own."""
    network, head = named(Linear(shape), **head)
    params, obs = network.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 4))
    assert set(params) == {"params"} and set(params["params"]) == {"Dense_0"}
    own = params["params"]["Dense_0"]
    x = (np.asarray(obs) @ own["kernel"] + own["bias"]).reshape(5, 3, -1)
    found = head.q_values(network.apply(params, obs, None, "online"))
    np.testing.assert_allclose(found, numbers(jnp.asarray(x)), rtol=1e-5, atol=1e-5)


def test_pictures_of_bytes_are_numbers_up_to_one():
    network, _ = named(Linear(), VECTOR._replace(obs_shape=(4, 4, 2), obs_dtype="uint8"))
    params = network.init(jax.random.key(0))
    white = network.apply(params, jnp.full((1, 4, 4, 2), 255, jnp.uint8), None, "target").x[0, :, 0]
    np.testing.assert_allclose(white, params["params"]["Dense_0"]["kernel"].sum(axis=0), rtol=1e-5)


def test_members_of_an_ensemble_share_nothing():
    network, _ = named(Linear(), ensemble=3)
    assert jax.eval_shape(network.init, jax.random.key(0))["params"]["Dense_0"]["kernel"].shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        (Linear((2,)), {}, r"network='mine': of 2 observations it gives \(2, 2\) float32: give float32 \(2, 3\)"),
        (Linear((3, 5)), {"head": "quantile"}, r"gives \(2, 3, 5\) float32: give float32 \(2, 3, 32\)"),
        (Linear(dtype="int32"), {}, r"gives \(2, 3\) int32: give float32 \(2, 3\)"),
        (nn.Conv(3, (3, 3, 3)), {}, "network='mine': it raised "),
        (Counted(), {}, "keeps the collection calls beside its parameters"),
        (Linear(), {"head": "iqn"}, "head='iqn': .* use --head scalar, categorical or quantile"),
    ],
)
def test_what_does_not_fit_is_a_sentence(module, settings, words):
    with pytest.raises(SettingError, match=words):
        named(module, **settings)


@pytest.mark.parametrize("settings", [{"hidden": (8,)}, {"dueling": True}, {"pool": 2}, {"resets": True}])
def test_settings_of_layers_are_read_by_none_of_it(settings):
    """And by every other network as before."""
    register("network", "mine", whole_network(Linear((2,))))
    (name,) = settings
    with pytest.raises(SettingError, match=f"{name}=.*--network mine does not read it: leave it out, or use --netw"):
        build(Config(network="mine", **settings))
    build(Config(network="auto", hidden=(8,), dueling=True))


def test_an_object_has_its_class_as_its_name():
    """The same object the same one, and another of its class another; as a torso and as a whole they differ."""
    module = Linear((2,))
    agents = [make_agent(Config(**SMALL), network=whole_network(module)) for _ in range(2)]
    others = [make_agent(Config(**SMALL), network=network) for network in (module, whole_network(Linear((2,))))]
    assert [agent.config.network for agent in agents + others] == ["Linear", "Linear", "Linear-2", "Linear-3"]
    assert {"Linear", "Linear-2", "Linear-3"} < set(TORSOS)
    params = jax.eval_shape(others[0].parts.network.init, jax.random.key(0))["params"]
    assert {"Linear_0", "Output"} < set(params), "a torso is followed by layers"


@pytest.mark.long
def test_it_learns_and_lanes_are_runs_of_their_own():
    train = make_train(Config(**SMALL), num_chunks=2, network=whole_network(Linear((2,))))
    keys = jax.random.split(jax.random.key(0), 2)
    states, metrics = jax.jit(jax.vmap(train, in_axes=(0, None)))(keys, Hypers())
    alone, _ = jax.jit(train)(keys[1], Hypers())
    kernel = states.learner.params["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kernel[1], alone.learner.params["params"]["Dense_0"]["kernel"])
    assert (kernel[0] != kernel[1]).all() and (metrics.loss_sum > 0).any()
