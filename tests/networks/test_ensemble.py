"""An ensemble is its members: each is a network of its own on a shared torso, with its own target; priors stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build_backup, build_model
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.learn import Examples, batch_targets, init_learner, make_descend
from purejaxdqn.types import PRIOR, STATISTICS, Hypers, Learner, Transition, counter

K, B, A = 3, 5, 4
KEY = jax.random.key(0)
VECTOR = EnvSpec("Test-v0", A, (3,), "float32", None, 100)
PICTURE = EnvSpec("Test-v0", A, (6, 6, 2), "float32", None, 100)
SMALL = {"hidden": (7, 6), "num_atoms": 5, "num_quantiles": 4, "num_target_quantiles": 3, "num_policy_quantiles": 2}


def observations(spec, seed=1, batch=B):
    return np.random.default_rng(seed).standard_normal((batch, *spec.obs_shape), np.float32)


def member(tree, index, shared=()):
    """One member's part of a tree; `shared` names modules that have no axis of members."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if any(getattr(part, "key", None) in shared for part in path) else leaf[index], tree
    )


def of_each(function):
    """Of every member's number, stacked [K, ...], one member after the other."""
    return jax.lax.map(function, jnp.arange(K))


def by_member(tree):
    """Outputs [B, K, ...] as [K, B, ...], in numpy."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).swapaxes(0, 1), tree)


def assert_close(a, b, atol=2e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=atol), a, b)


def test_members_share_a_torso_and_nothing_else():
    """Of a picture's network: the convolution is there once, every dense layer once for each member, all different."""
    network, _ = build_model(Config(ensemble=K, **SMALL), PICTURE)
    alone, _ = build_model(Config(**SMALL), PICTURE)
    params = jax.jit(network.init)(KEY)["params"]
    for name, part in jax.eval_shape(alone.init, KEY)["params"].items():
        lead = () if name == "MinAtarTorso_0" else (K,)
        assert jax.tree.map(jnp.shape, params[name]) == jax.tree.map(lambda leaf, lead=lead: (*lead, *leaf.shape), part)
    kernels = np.asarray(params["Output"]["kernel"])
    assert (kernels[0] != kernels[1]).any() and (kernels[1] != kernels[2]).any()


@pytest.mark.parametrize(("spec", "head"), [(VECTOR, "categorical"), (PICTURE, "iqn"), (VECTOR, "fqf")], ids=str)
def test_each_member_is_a_network_of_its_own(spec, head):
    config = Config(ensemble=K, head=head, dueling=True, **SMALL)
    network, read = build_model(config, spec)
    alone, read_one = build_model(config.replace(ensemble=1), spec)
    obs = observations(spec)

    @jax.jit
    def both(key):
        params = network.init(key)
        dist = network.apply(params, obs, key, "online")
        own = of_each(lambda i: alone.apply(member(params, i, ("MinAtarTorso_0",)), obs, key, "online"))
        first, its = network.first(params)
        values = read.member_values(dist), read.q_values(dist), of_each(lambda i: read_one.q_values(member(own, i)))
        return dist, own, values, first.apply(its, obs, key, "online")

    # fqf's fractions go through cosines of up to 64 times their size, and so does how they are rounded.
    atol = 2e-4 if head == "fqf" else 2e-6
    dist, own, (of_members, mean, alone_values), first = both(KEY)
    assert_close(by_member(dist), own, atol)
    assert_close(by_member(of_members), alone_values, atol)
    assert_close(mean, np.mean(alone_values, axis=0), atol)
    assert_close(first, member(jax.device_get(own), 0), atol)


@pytest.mark.parametrize(
    ("head", "backup"),
    [
        ("scalar", "double"),
        pytest.param("categorical", "munchausen", marks=pytest.mark.long),
        pytest.param("quantile", "max", marks=pytest.mark.long),
        ("iqn", "munchausen"),
    ],
)
def test_each_member_learns_from_its_own_target(head, backup):
    """Targets are those of K learners alone, and the loss and its gradient their mean."""
    config, h = Config(ensemble=K, head=head, backup=backup, optimizer="sgd", norm="none", **SMALL), Hypers()
    one = config.replace(ensemble=1)
    rng = np.random.default_rng(0)
    batch = Transition(
        *(observations(VECTOR, 3), rng.integers(A, size=B, dtype=np.int32)),
        *(rng.standard_normal(B, np.float32), np.full(B, 0.9, np.float32)),
        observations(VECTOR, 4),
    )

    def step(config, learner):
        network, read = build_model(config, VECTOR)
        y = batch_targets(network, read, build_backup(config, VECTOR), learner, batch, KEY, h)
        examples = Examples(batch.obs_tm1, batch.a_tm1, y, jnp.ones(B))
        return y, make_descend(config, network, read)(learner, examples, KEY, h)

    @jax.jit
    def together_and_alone():
        network, _ = build_model(config, VECTOR)
        learner = init_learner(config, network, KEY, h).replace(target_params=network.init(jax.random.key(2)))
        own_state = init_learner(one, build_model(one, VECTOR)[0], KEY, h).opt_state

        def alone(i):
            return step(one, Learner(member(learner.params, i), member(learner.target_params, i), own_state, counter()))

        return learner.params, step(config, learner), of_each(alone)

    before, (y, (after, priority, metrics)), (own_y, own) = jax.device_get(together_and_alone())
    own_after, own_priority, own_metrics = own
    assert_close(by_member(y), own_y)
    # A member's step is a K-th of its step alone.
    moved = jax.tree.map(lambda a, b: K * (a - b), after.params, before)
    expected = jax.tree.map(np.subtract, own_after.params, before)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6), moved, expected)
    assert_close(metrics.loss, np.mean(own_metrics.loss))
    assert_close(priority, np.mean(own_priority, axis=0))


def test_a_prior_is_added_and_never_changes():
    """f + β p, in every role; the gradient of p is zero, so an update of Adam leaves it as it was, bit for bit."""
    config, h = Config(ensemble=K, prior_scale=2.5, norm="none", **SMALL), Hypers()
    network, read = build_model(config, VECTOR)
    without, _ = build_model(config.replace(prior_scale=0.0), VECTOR)
    obs = observations(VECTOR)

    @jax.jit
    def both(key):
        learner = init_learner(config, network, key, h)
        own, prior = {"params": learner.params["params"]}, learner.params[PRIOR]
        roles = ("online", "target", "greedy")
        found = [network.apply(learner.params, obs, key, role).x for role in roles]
        parts = [(without.apply(own, obs, key, role).x, without.apply(prior, obs, key, role).x) for role in roles]
        examples = Examples(obs, jnp.zeros(B, jnp.int32), jnp.ones((B, K)), jnp.ones(B))
        return found, parts, learner.params, make_descend(config, network, read)(learner, examples, key, h)[0].params

    found, parts, before, after = jax.device_get(both(KEY))
    for x, (own, prior) in zip(found, parts, strict=True):
        np.testing.assert_allclose(x, own + 2.5 * prior, rtol=1e-5, atol=1e-6)
        assert np.abs(prior).max() > 0.01
    jax.tree.map(np.testing.assert_array_equal, after[PRIOR], before[PRIOR])
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (after["params"], before["params"])), strict=True))


def test_running_statistics_are_each_members_own():
    """Batch norm of an ensemble is refreshed as that of each member alone is, and every statistic moves."""
    torso, config = "MinAtarTorso_0", Config(ensemble=K, norm="batch", **SMALL)
    (network, _), (alone, _) = build_model(config, PICTURE), build_model(config.replace(ensemble=1), PICTURE)
    obs = observations(PICTURE)

    @jax.jit
    def both(key):
        params = network.init(key)
        refreshed = network.refresh(params, obs)
        members = of_each(lambda i: member(refreshed, i, (torso,)))
        return params, refreshed, members, of_each(lambda i: alone.refresh(member(params, i, (torso,)), obs))

    before, found, members, own = jax.device_get(both(KEY))
    assert_close(members, own)
    assert all(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (found[STATISTICS], before[STATISTICS])), strict=True)
    )
