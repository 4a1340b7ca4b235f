"""An ensemble is its members: each is a network of its own on a shared torso, with its own target; priors stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build_backup, build_model
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.learn import Examples, batch_targets, init_learner, make_descend
from purejaxdqn.networks.ensemble import PRIOR
from purejaxdqn.types import Hypers, Learner, Transition, counter

pytestmark = pytest.mark.usefixtures("quick_compilation")

K, B, A = 3, 5, 4
KEY = jax.random.key(0)
VECTOR = EnvSpec("Test-v0", A, (3,), "float32", None, 100)
PICTURE = EnvSpec("Test-v0", A, (6, 6, 2), "float32", None, 100)
SMALL = {"hidden": (7, 6), "num_atoms": 5, "num_quantiles": 4, "num_target_quantiles": 3, "num_policy_quantiles": 2}


def observations(spec, seed=1, batch=B):
    return jax.random.normal(jax.random.key(seed), (batch, *spec.obs_shape))


def member(tree, index, shared=()):
    """One member's part of a tree; `shared` names modules that have no axis of members."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if any(getattr(part, "key", None) in shared for part in path) else leaf[index], tree
    )


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6), a, b)


def test_members_share_a_torso_and_nothing_else():
    """Of a picture's network: the convolution is there once, every dense layer once for each member, all different."""
    network, _ = build_model(Config(ensemble=K, **SMALL), PICTURE)
    alone, _ = build_model(Config(**SMALL), PICTURE)
    params = network.init(KEY)["params"]
    for name, part in alone.init(KEY)["params"].items():
        lead = () if name == "MinAtarTorso_0" else (K,)
        assert jax.tree.map(jnp.shape, params[name]) == jax.tree.map(lambda leaf, lead=lead: (*lead, *leaf.shape), part)
    kernels = np.asarray(params["Output"]["kernel"])
    assert (kernels[0] != kernels[1]).any() and (kernels[1] != kernels[2]).any()


@pytest.mark.parametrize("spec", [VECTOR, PICTURE], ids=["mlp", "cnn"])
@pytest.mark.parametrize("head", ["categorical", "iqn", "fqf"])
def test_each_member_is_a_network_of_its_own(spec, head):
    config = Config(ensemble=K, head=head, dueling=True, **SMALL)
    network, read = build_model(config, spec)
    alone, read_one = build_model(config.replace(ensemble=1), spec)
    params, obs = network.init(KEY), observations(spec)
    dist = network.apply(params, obs, KEY, "online")
    for index in range(K):
        own = alone.apply(member(params, index, ("MinAtarTorso_0",)), obs, KEY, "online")
        assert_close(jax.tree.map(lambda leaf, index=index: leaf[:, index], dist), own)
        assert_close(read.member_values(dist)[:, index], read_one.q_values(own))
    assert_close(read.q_values(dist), read.member_values(dist).mean(axis=1))
    first, own = network.first(params)
    assert_close(first.apply(own, obs, KEY, "online").x, dist.x[:, 0])


@pytest.mark.parametrize(
    ("head", "backup"),
    [("scalar", "double"), ("categorical", "munchausen"), ("quantile", "max"), ("iqn", "munchausen")],
)
def test_each_member_learns_from_its_own_target(head, backup):
    """Targets are those of K learners alone, and the loss and its gradient their mean."""
    config, h = Config(ensemble=K, head=head, backup=backup, optimizer="sgd", norm="none", **SMALL), Hypers()
    one = config.replace(ensemble=1)
    (network, read), (alone, read_one) = build_model(config, VECTOR), build_model(one, VECTOR)
    learner = init_learner(config, network, KEY, h).replace(target_params=network.init(jax.random.key(2)))
    rng = np.random.default_rng(0)
    batch = Transition(
        *(observations(VECTOR, 3), jnp.asarray(rng.integers(A, size=B), jnp.int32)),
        *(jnp.asarray(rng.normal(size=B), jnp.float32), jnp.full(B, 0.9)),
        observations(VECTOR, 4),
    )
    y = batch_targets(network, read, build_backup(config), learner, batch, KEY, h)
    after, priority, metrics = make_descend(config, network, read)(
        learner, Examples(batch.obs_tm1, batch.a_tm1, y, jnp.ones(B)), KEY, h
    )
    singles = []
    for index in range(K):
        own = Learner(member(learner.params, index), member(learner.target_params, index), (), counter())
        own = own.replace(opt_state=init_learner(one, alone, KEY, h).opt_state)
        target = batch_targets(alone, read_one, build_backup(one), own, batch, KEY, h)
        assert_close(jax.tree.map(lambda leaf, index=index: leaf[:, index], y), target)
        examples = Examples(batch.obs_tm1, batch.a_tm1, target, jnp.ones(B))
        singles.append(make_descend(one, alone, read_one)(own, examples, KEY, h))
        # A member's step is a K-th of its step alone.
        moved = jax.tree.map(lambda a, b, index=index: K * (a[index] - b[index]), after.params, learner.params)
        expected = jax.tree.map(jnp.subtract, singles[-1][0].params, own.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6), moved, expected)
    assert_close(metrics.loss, np.mean([single[2].loss for single in singles]))
    assert_close(priority, np.mean([single[1] for single in singles], axis=0))


def test_a_prior_is_added_and_never_changes():
    """f + β p, in every role; the gradient of p is zero, so an update of Adam leaves it as it was, bit for bit."""
    config, h = Config(ensemble=K, prior_scale=2.5, norm="none", **SMALL), Hypers()
    network, read = build_model(config, VECTOR)
    without, _ = build_model(config.replace(prior_scale=0.0), VECTOR)
    params, obs = network.init(KEY), observations(VECTOR)
    own = {"params": params["params"]}
    for role in ("online", "target", "greedy"):
        expected = without.apply(own, obs, KEY, role).x + 2.5 * without.apply(params[PRIOR], obs, KEY, role).x
        np.testing.assert_allclose(network.apply(params, obs, KEY, role).x, expected, rtol=1e-5, atol=1e-6)
    learner = init_learner(config, network, KEY, h)
    examples = Examples(obs, jnp.zeros(B, jnp.int32), jnp.ones((B, K)), jnp.ones(B))
    after, *_ = make_descend(config, network, read)(learner, examples, KEY, h)
    jax.tree.map(np.testing.assert_array_equal, after.params[PRIOR], learner.params[PRIOR])
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (after.params, learner.params)), strict=True))


def test_running_statistics_are_each_members_own():
    """Batch norm of an ensemble is refreshed as that of each member alone is."""
    config = Config(ensemble=K, norm="batch", **SMALL)
    (network, _), (alone, _) = build_model(config, PICTURE), build_model(config.replace(ensemble=1), PICTURE)
    params, obs = network.init(KEY), observations(PICTURE)
    found = network.refresh(params, obs)
    for index in range(K):
        expected = alone.refresh(member(params, index, ("MinAtarTorso_0",)), obs)
        assert_close(member(found, index, ("MinAtarTorso_0",)), expected)
