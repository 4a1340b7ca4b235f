"""What the learner is told of a step: rewards and ends, by hand, in the replay, and through both learners."""

import math

import jax
import numpy as np
import pytest

from purejaxdqn import build
from purejaxdqn.build import register
from purejaxdqn.config import Config, SettingError
from purejaxdqn.learning.shaping import cartpole_distance, make_view
from purejaxdqn.loops.device import make_agent
from purejaxdqn.types import Hypers, Row

pytestmark = pytest.mark.usefixtures("strict_ranks")
X_MAX, THETA_MAX = 2.4, 12 * 2 * math.pi / 360


def rows(size=6, seed=0):
    """Steps of CartPole that go on, terminate and are truncated, by turns."""
    rng = np.random.default_rng(seed)
    return Row(
        obs=rng.normal(size=(size, 4)).astype(np.float32),
        action=np.zeros(size, np.int32),
        reward=np.arange(1, size + 1, dtype=np.float32),
        terminated=np.arange(size) % 3 == 1,
        truncated=np.arange(size) % 3 == 2,
        final_obs=rng.uniform(-3, 3, size=(size, 4)).astype(np.float32),
        valid=np.ones(size, bool),
    )


def view(**settings):
    config = Config(**settings)
    return jax.jit(make_view(config, build.choose("reward_shaping", config).make(config)))


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_by_default_the_learner_is_told_everything_as_it_is():
    assert same(view()(rows()), rows())


def test_cartpole_distance_is_the_texts_formula():
    """r1 + r2 of note 51, in Python's own numbers, of the observation after the step."""
    given = rows(100, seed=1)
    rewards = jax.jit(cartpole_distance)(given).reward
    for row_obs, reward in zip(given.final_obs.tolist(), np.asarray(rewards), strict=True):
        r1 = (X_MAX - abs(row_obs[0])) / X_MAX - 0.8
        r2 = (THETA_MAX - abs(row_obs[2])) / THETA_MAX - 0.5
        assert math.isclose(r1 + r2, float(reward), rel_tol=1e-4, abs_tol=1e-4)


def test_shaping_looks_at_the_last_observation_not_at_the_one_acted_on():
    given = rows(1)
    upright = given.replace(final_obs=np.zeros((1, 4), np.float32))
    np.testing.assert_allclose(jax.jit(cartpole_distance)(upright).reward, [0.7], rtol=1e-6)


def test_cartpole_distance_is_for_cartpole():
    with pytest.raises(SettingError, match="CartPole alone, not MountainCar-v0"):
        view(env="MountainCar-v0", reward_shaping="cartpole-distance")


def test_last_step_reward_whatever_ended_the_episode():
    np.testing.assert_array_equal(view(last_step_reward=-20.0)(rows()).reward, [1, -20, -20, 4, -20, -20])


def test_reward_scale_comes_last():
    found = view(last_step_reward=-20.0, reward_scale=0.5)(rows()).reward
    np.testing.assert_array_equal(found, [0.5, -10, -10, 2, -10, -10])


@pytest.mark.parametrize(
    ("mask", "bootstrap", "terminated", "truncated"),
    [
        (True, True, [0, 1, 0], [0, 0, 1]),
        (False, True, [0, 0, 0], [0, 1, 1]),
        (True, False, [0, 1, 1], [0, 0, 0]),
        (False, False, [0, 0, 1], [0, 1, 0]),
    ],
)
def test_ends(mask, bootstrap, terminated, truncated):
    found = view(mask_terminals=mask, bootstrap_truncation=bootstrap)(rows(3))
    np.testing.assert_array_equal(found.terminated, np.array(terminated, bool))
    np.testing.assert_array_equal(found.truncated, np.array(truncated, bool))


def filled(key=0, **settings):
    """A CartPole run's functions, and a state whose replay has seen several episodes."""
    values = {"num_envs": 4, "learning_starts": 400, "buffer_size": 400, "batch_size": 64, "n_step": 1, "hidden": (4,)}
    config = Config(**values | {"env_params": (("max_steps_in_episode", 15),), "total_steps": 1_000} | settings)
    agent = make_agent(config)
    return agent, jax.jit(agent.init)(jax.random.key(key), Hypers())


@pytest.fixture(scope="module")
def plain():
    """Of the default settings."""
    return filled()


def sampled(agent, state):
    return jax.jit(agent.parts.replay.sample)(state.memory, jax.random.key(5), Hypers().as_arrays())[0]


def test_an_unmasked_target_really_is_unmasked(plain):
    """No discount is zero, and beyond a fall lies the pole's last observation, not that of a reset."""
    masked, unmasked = sampled(*plain), sampled(*filled(mask_terminals=False))
    falls = np.asarray(masked.discount_t) == 0.0
    assert 0 < falls.sum() < len(falls)
    np.testing.assert_allclose(unmasked.discount_t, 0.99, rtol=1e-6)
    # The same batch of the same steps: only what is beyond a fall differs.
    np.testing.assert_array_equal(masked.obs_tm1, unmasked.obs_tm1)
    np.testing.assert_array_equal(masked.obs_t[~falls], unmasked.obs_t[~falls])
    tilt = np.abs(np.asarray(unmasked.obs_t)[falls])
    assert ((tilt[:, 2] > THETA_MAX) | (tilt[:, 0] > X_MAX)).all()


def test_a_truncation_taken_for_an_end_has_no_value_beyond(plain):
    right, wrong = sampled(*plain), sampled(*filled(bootstrap_truncation=False))
    ends = np.asarray(wrong.discount_t) == 0.0
    assert (ends & (np.asarray(right.discount_t) > 0.0)).any()
    assert ends[np.asarray(right.discount_t) == 0.0].all()


def greedy_values(agent, state, observed):
    """Action values of a run's network, as it plays greedily, of what a function of the state gives."""

    @jax.jit
    def of(state):
        dist = agent.parts.network.apply(state.learner.params, observed(state), jax.random.key(1), "greedy")
        return agent.parts.head.q_values(dist)

    return np.asarray(of(state))


def logged(log_episodes):
    """Metrics of 40 iterations whose learner is told other rewards than the environment's."""
    agent, state = filled(last_step_reward=-5.0, reward_scale=2.0, log_episodes=log_episodes)
    return jax.jit(agent.iterate)(state, Hypers(), 40)[1]


@pytest.fixture(scope="module")
def metrics():
    """Of a log with room for every episode."""
    return logged(50)


def test_returns_are_of_the_environments_own_rewards(metrics):
    """The log has both: what the environment gave, and what the learner was told."""
    count = int(metrics.episodes)
    assert 5 < count < 50
    log = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], metrics.log)
    np.testing.assert_allclose(log.episode_return, log.episode_length)
    # Episodes that the prefill began and ended count whole: 2 a step, and -10 in place of the last 2.
    np.testing.assert_allclose(log.learning_return, 2.0 * log.episode_length - 12.0)
    np.testing.assert_allclose(float(metrics.return_sum), log.episode_return.sum())
    assert float(metrics.return_max) == log.episode_return.max()
    assert (np.diff(log.vector_steps) >= 0).all() and log.vector_steps[0] > 100


def test_the_log_keeps_the_first_and_drops_the_rest(metrics):
    short = logged(3)
    assert int(short.episodes) == int(metrics.episodes) > 3
    np.testing.assert_array_equal(short.log.episode_length, metrics.log.episode_length[:3])


def test_the_rollout_learner_is_told_the_same():
    """With γ = 0 and λ = 0 a network's values become the rewards that it is told."""
    config = Config(
        learner="rollout",
        num_envs=8,
        rollout_length=16,
        num_minibatches=1,
        num_epochs=4,
        total_steps=20_000,
        hidden=(16,),
        reward_scale=3.0,
        epsilon_schedule="constant",
    )
    agent = make_agent(config)
    h = Hypers(gamma=0.0, trace_lambda=0.0, learning_rate=0.01, epsilon_final=1.0)
    state, metrics = jax.jit(agent.iterate)(jax.jit(agent.init)(jax.random.key(0), h), h, 150)
    q = greedy_values(agent, state, lambda state: agent.parts.env.observe(state.env))
    np.testing.assert_allclose(q, 3.0, atol=0.3)
    assert float(metrics.return_sum) == float(metrics.length_sum)


def test_prefill_by_policy_acts_with_the_fresh_network():
    """With ε = 0 the prefill is the fresh network's greedy play; at random it is not."""
    settings = {"epsilon_schedule": "constant", "num_envs": 1, "buffer_size": 100, "learning_starts": 50}
    h = Hypers(epsilon_final=0.0)
    for prefill, greedy in (("policy", True), ("random", False)):
        config = Config(prefill=prefill, n_step=1, batch_size=8, total_steps=1_000, hidden=(8,), **settings)
        agent = make_agent(config)
        state = jax.jit(agent.init)(jax.random.key(3), h)
        q = greedy_values(agent, state, lambda state: state.memory.ring.rows.obs[:50, 0])
        assert (q.argmax(axis=1) == np.asarray(state.memory.ring.rows.action)[:50, 0]).all() == greedy


def test_a_view_of_ones_own(monkeypatch):
    before = dict(build.SHAPINGS)
    register("reward_shaping", "doubled", lambda config: lambda row: row.replace(reward=2.0 * row.reward))
    try:
        np.testing.assert_array_equal(view(reward_shaping="doubled")(rows(3)).reward, [2.0, 4.0, 6.0])
    finally:
        build.SHAPINGS.clear()
        build.SHAPINGS.update(before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"last_step_reward": float("nan")}, "finite number"),
        ({"reward_scale": 0.0}, "above 0"),
        ({"log_episodes": -1}, "whole number of at least 0"),
        ({"env": "Pong-v5", "log_episodes": 5}, "an environment of gymnax"),
        ({"reward_shaping": "nonsense"}, "cartpole-distance"),
    ],
)
def test_what_cannot_work_is_refused(changes, words):
    with pytest.raises(SettingError, match=words):
        config = Config(**changes)
        build.check_read(config, build.changed_settings(config))
        build.choose("reward_shaping", config)
