"""What acting with a memory records in either loop, and what a rollout's steps are worth, against steps by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_host_loop import SPEC, ScriptedPool, learning_view, make_config

from purejaxdqn import Config, Hypers
from purejaxdqn.build import Parts, build, build_env, build_learner, build_model
from purejaxdqn.envs.interface import HostEnv
from purejaxdqn.learn import no_metrics
from purejaxdqn.loops.device import make_init, make_iterate
from purejaxdqn.loops.host import HostLoop
from purejaxdqn.networks.rollouts import observations_after, window_of
from purejaxdqn.networks.windows import Recall
from purejaxdqn.replay.interface import no_replay

MEMORY = {"learner": "rollout", "memory": "gru", "memory_size": 4, "hidden": (6,), "last_inputs": True}
ENVS, STEPS, ROLLOUTS = 4, 16, 3


def keep_rows(learner, memory, rows, key, h):
    """A learning phase that learns nothing, and whose memory is the rollout."""
    del memory, key, h
    return learner, rows, no_metrics()


def zeros_of(row):
    """A rollout of nothing, from one environment's row."""
    return jax.tree.map(lambda leaf: jnp.zeros((STEPS, ENVS, *leaf.shape), leaf.dtype), row)


@pytest.fixture(scope="module")
def played():
    """Parts, parameters, and the rows [T, E] of three rollouts of CartPole, cut after 14 steps."""
    config = Config(
        **MEMORY, num_envs=ENVS, rollout_length=STEPS, total_steps=4_000, env_params={"max_steps_in_episode": 14}
    )
    parts = build(config)._replace(learn=keep_rows, replay=no_replay()._replace(init=zeros_of))
    h = Hypers().as_arrays()
    state = jax.jit(make_init(config, parts))(jax.random.key(0), h)
    iterate, rows = jax.jit(make_iterate(config, parts)), []
    for _ in range(ROLLOUTS):
        state, _ = iterate(state, h, 1)
        rows.append(jax.tree.map(np.asarray, state.memory))
    return parts, state.learner.params, rows


def joined(rows):
    """Rollouts [T, E] in a row."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows)


def by_hand(parts, params, rows):
    """What is carried after each step, [T, E, H], where every episode begins from zeros."""
    step, carry, after = jax.jit(partial(parts.network.step, role="greedy")), np.zeros((ENVS, 4), np.float32), []
    for obs, starts in zip(unstacked(rows.obs), rows.starts, strict=True):
        carry = np.where(starts[:, None], 0.0, carry)
        _, recall = step(params, obs, Recall(carry, np.zeros(ENVS, bool)), None)
        after.append(np.asarray(recall.carry))
        carry = after[-1]
    return np.stack(after)


def unstacked(tree):
    return [jax.tree.map(lambda leaf, t=t: leaf[t], tree) for t in range(len(jax.tree.leaves(tree)[0]))]


def check_last_inputs(rows, clipped):
    """Zeros where an episode begins, else the action before it plus 1 and its reward."""
    before = np.concatenate([np.zeros((1, ENVS), int), rows.action[:-1] + 1])
    rewards = np.concatenate([np.zeros((1, ENVS)), clipped[:-1]])
    np.testing.assert_array_equal(rows.obs["last_action"], np.where(rows.starts, 0, before))
    np.testing.assert_array_equal(rows.obs["last_reward"], np.where(rows.starts, 0.0, rewards))


def test_on_the_device_episodes_begin_with_nothing(played):
    """After terminations and after truncations, in the middle of a rollout and between two; else what was carried."""
    parts, params, rollouts = played
    rows = joined(rollouts)
    ended = rows.terminated | rows.truncated
    assert rows.terminated.any() and rows.truncated.any()
    np.testing.assert_array_equal(rows.starts, np.concatenate([np.ones((1, ENVS), bool), ended[:-1]]))
    after = by_hand(parts, params, rows)
    np.testing.assert_allclose(rows.carry[1:], after[:-1], rtol=1e-5, atol=1e-6)
    check_last_inputs(rows, rows.reward)
    np.testing.assert_array_equal(rows.final_obs["last_action"], rows.action + 1)


def test_a_step_leads_to_the_value_of_its_own_episode(played):
    """The true next observation, a truncated episode's last one too, with what was carried there; and windows."""
    parts, params, rollouts = played
    network, rows = parts.network, joined(rollouts)
    after = by_hand(parts, params, rows)
    value = jax.jit(lambda rows: network.apply(params, observations_after(network, params, rows), None, "target").x)
    found = np.concatenate([np.asarray(value(part)).reshape(STEPS, ENVS, -1) for part in rollouts])
    going = jnp.zeros(ENVS, bool)
    step = jax.jit(lambda obs, carry: network.step(params, obs, Recall(carry, going), None, "greedy")[0].x)
    expected = [step(obs, carry) for obs, carry in zip(unstacked(rows.final_obs), after, strict=True)]
    np.testing.assert_allclose(found, np.stack(expected)[..., 0], rtol=1e-5, atol=1e-5)
    window = jax.jit(lambda rows: network.remember(params, window_of(rows, jnp.array([2, 0])), None, "online"))
    dist, carry = window(rollouts[1])
    np.testing.assert_allclose(carry, after[2 * STEPS - 1][[2, 0]], rtol=1e-5, atol=1e-5)
    assert dist.x.shape == (STEPS * 2, 2, 1)


def make_host(learn=None, **changes):
    """A loop on scripted games, two groups of environments, that learns as it is told."""
    settings = {**MEMORY, "num_envs": ENVS, "rollout_length": STEPS, "num_minibatches": 1, **changes}
    config = make_config(**settings)
    names = ("a", "b", "c")
    scripted = HostEnv(SPEC, lambda count, _, groups: ScriptedPool(count, groups), learning_view, names, 2, 4)
    env = build_env(config, scripted)
    network, head = build_model(config, env.spec)
    replay, own = build_learner(config, env, network, head)
    parts = Parts(env, network, head, replay._replace(init=zeros_of) if learn else replay, learn or own)
    return HostLoop(config, parts, 0), Hypers().as_arrays()


@pytest.mark.parametrize("overlap", [False, pytest.param(True, marks=pytest.mark.long)])
def test_on_the_host_episodes_begin_with_nothing(overlap):
    """A lost life is an end to the learner, and no beginning; the row of a reset only ends what is carried."""
    loop, h = make_host(keep_rows, overlap=overlap)
    state = loop.begin(loop.init(jax.random.key(0), h), h, fill=True)
    found = []
    for _ in range(2):
        state, _ = loop.iterate(state, h, 1)
        found.append(jax.tree.map(np.asarray, state.memory))
    rows = joined(found)
    begins = np.concatenate([np.ones((1, ENVS), bool), ~rows.valid[:-1]])
    np.testing.assert_array_equal(rows.starts, begins)
    assert (rows.terminated & ~rows.starts)[:-1].any() and rows.truncated.any()
    # The first row is what there was before anything was received, and nothing was asked of it.
    after = by_hand(loop.parts, state.learner.params, rows)
    np.testing.assert_allclose(rows.carry[2:], after[1:-1], rtol=1e-5, atol=1e-6)
    # Rewards of 5, clipped as the learner has them.
    check_last_inputs(rows, np.where(rows.valid, rows.reward, 0.0))
    assert set(np.unique(rows.obs["last_reward"])) == {0.0, 1.0}


def test_a_memory_learns_and_plays_whole_games_on_the_host():
    """Losses are finite numbers, and greedy games last as long as the script says."""
    loop, h = make_host()
    state = loop.begin(loop.init(jax.random.key(0), h), h, fill=True)
    state, metrics = loop.iterate(state, h, 2)
    assert np.isfinite(metrics.loss_sum) and metrics.updates == 2 * loop.config.num_epochs
    assert sorted(loop.evaluate(state.learner.params, 0, 4, 0.0).lengths.tolist()) == [3, 4, 5, 6]
    loop.close()
