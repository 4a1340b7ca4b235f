"""Every environment of gymnax behind the library's contract: those with discrete actions run, others say why not."""

import subprocess
import sys

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from purejaxdqn.config import Config, SettingError
from purejaxdqn.envs.gymnax import OF_BITS, default_params, env_names, env_settings, make_env
from purejaxdqn.loops.device import make_agent
from purejaxdqn.types import Hypers

NEEDS_DOWNLOAD = "MNISTBandit-bsuite"
CONTINUOUS = ["Pendulum-v1", "MountainCarContinuous-v0", "PointRobot-misc", "Reacher-misc", "Swimmer-misc"]
DISCRETE = [name for name in gymnax.registered_envs if name not in (*CONTINUOUS, NEEDS_DOWNLOAD)]
OFTEN = ("Breakout-MinAtar", "FrozenLake-misc")
"""Of each make one, CartPole apart: pictures, observations that are numbers, a limit that is a float."""
LIMIT = 4


@pytest.mark.parametrize(
    "env_id", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in DISCRETE]
)
def test_every_discrete_environment_trains(env_id):
    """Prefill and three iterations with an update each; episodes are cut at the limit that the replay is told of."""
    limit = type(default_params(env_id).max_steps_in_episode)(LIMIT)  # one environment has it as a float
    config = Config(
        env=env_id,
        env_params=(("max_steps_in_episode", limit),),
        num_envs=2,
        total_steps=200,
        buffer_size=28,
        batch_size=4,
        learning_starts=8,
        rollout_length=2,
        hidden=(8,),
    )
    agent = make_agent(config)
    assert agent.spec.time_limit == LIMIT
    run = jax.jit(lambda key, h: agent.iterate(agent.init(key, h), h, 3))
    state, metrics = jax.device_get(run(jax.random.key(0), Hypers()))
    assert metrics.updates == 3 and metrics.env_steps == 12
    assert np.isfinite(metrics.loss_sum) and np.isfinite(metrics.td_sum)
    for leaf in jax.tree.leaves(state.learner.params):
        assert np.all(np.isfinite(leaf))
    rows = state.memory.ring.rows
    assert rows.obs.dtype == agent.spec.obs_dtype and rows.obs.shape[2:] == agent.spec.obs_shape
    written = int(state.memory.ring.written.count)
    assert written == 4 + 6
    done = (rows.terminated | rows.truncated)[:written]
    for writer in range(2):
        ends = [-1, *np.flatnonzero(done[:, writer])]
        lengths = np.diff(ends)
        assert np.all(lengths <= LIMIT)
        truncated = rows.truncated[ends[1:], writer]
        np.testing.assert_array_equal(lengths[truncated], LIMIT)
        assert written - 1 - ends[-1] < LIMIT


@pytest.mark.parametrize("env_id", CONTINUOUS)
def test_continuous_actions_are_refused(env_id):
    with pytest.raises(SettingError, match=rf"{env_id}.*continuous actions"):
        make_env(env_id)


def test_the_lists_above_are_gymnaxs():
    """Whether an action space is discrete is gymnax's own word, and no environment is forgotten."""
    assert set(env_names()) == {*DISCRETE, *CONTINUOUS, NEEDS_DOWNLOAD}
    for env_id in DISCRETE:
        env, params = gymnax.make(env_id)
        assert isinstance(env.action_space(params), spaces.Discrete)


def test_a_failed_download_is_a_setting_error(monkeypatch):
    """MNISTBandit-bsuite downloads its images: offline the message names it and says what would help."""

    def offline(env_id, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(gymnax, "make", offline)
    with pytest.raises(SettingError, match=rf"{NEEDS_DOWNLOAD}.*Name or service not known.*online"):
        make_env(NEEDS_DOWNLOAD)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("CartPole", "CartPole-v1"), ("cartpole-v1", "CartPole-v1"), ("Breakout-Minatar", "Breakout-MinAtar")],
)
def test_unknown_names_get_the_nearest(wrong, right):
    with pytest.raises(SettingError, match=rf"env='{wrong}'.*{right}"):
        make_env(wrong)


def test_a_name_like_nothing_gets_the_whole_list():
    with pytest.raises(SettingError, match=r"gymnax has CartPole-v1, .*FrozenLake-misc"):
        make_env("zzzzzzzz")


def test_env_params_override():
    """An override reaches the dynamics, not only the time limit: with ten times the force the cart moves faster."""
    speeds = []
    for force in (10.0, 100.0):
        env = make_env("CartPole-v1", (("force_mag", force),))
        state, _ = env.reset(jax.random.key(0), 3)
        _, obs, _ = env.step(jax.random.key(1), state, jnp.ones(3, jnp.int32))
        speeds.append(np.asarray(obs[:, 1]))
    assert np.all(speeds[1] > speeds[0] + 1.0)


def test_env_params_take_the_type_of_their_default():
    """BernoulliBandit-misc has a float limit, 100.0: the whole number 50 is as good as 50.0."""
    assert make_env("BernoulliBandit-misc", (("max_steps_in_episode", 50),)).spec.time_limit == 50


def test_what_an_environment_is_made_with_can_be_set():
    """DeepSea's size is an argument of its class, and its time limit follows from it."""
    assert env_settings("DeepSea-bsuite")["size"] == 8 and "gravity" in env_settings("CartPole-v1")
    spec = make_env("DeepSea-bsuite", (("size", 12),)).spec
    assert (spec.obs_shape, spec.time_limit) == ((12, 12), 12)
    with pytest.raises(SettingError, match=r"env_params.size"):
        make_env("DeepSea-bsuite", (("size", 0),))


def test_unknown_env_params_are_refused():
    with pytest.raises(SettingError, match=r"env_params.gravitas.*gravity"):
        make_env("CartPole-v1", (("gravitas", 1.0),))


@pytest.mark.parametrize("limit", [0, -3])
def test_time_limits_below_one_are_refused(limit):
    with pytest.raises(SettingError, match=r"max_steps_in_episode"):
        make_env("CartPole-v1", (("max_steps_in_episode", limit),))


def test_spec():
    assert make_env("CartPole-v1").spec == (
        *("CartPole-v1", 2, (4,), "float32", None, 500, 1, 500),
        *(None, None, False, None),
    )
    assert make_env("FrozenLake-misc").spec[1:5] == (4, (), "int32", 16)
    assert make_env("Breakout-MinAtar").spec[1:4] == (3, (10, 10, 4), "bool")


MINATAR = [name for name in env_names() if name.endswith("-MinAtar")]


@pytest.mark.parametrize(
    "name",
    [name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in (*OF_BITS, *MINATAR)],
)
def test_bools_are_all_that_gymnax_gives(name):
    """800 random steps and their ends: gymnax's own numbers are float32, and each is 0 or 1 as the bool says."""
    raw, params = gymnax.make(name)
    env = make_env(name)

    def step(carry, key):
        state, seen, wrapped = carry
        action = jax.random.randint(key, (4,), 0, env.spec.num_actions)
        keys = jax.random.split(key, 4)
        obs, state, _, _, _, info = jax.vmap(raw.step, in_axes=(0, 0, 0, None))(keys, state, action, params)
        wrapped, _, row = env.step(key, wrapped, action)
        return (state, obs, wrapped), (seen, info["final_observation"], row.obs, row.final_obs)

    def play(key):
        obs, state = jax.vmap(raw.reset, in_axes=(0, None))(jax.random.split(key, 4), params)
        return jax.lax.scan(step, (state, obs, env.reset(key, 4)[0]), jax.random.split(key, 200))[1]

    *numbers, obs, final_obs = jax.jit(play)(jax.random.key(0))
    for given, bools in zip(numbers, (obs, final_obs), strict=True):
        assert given.dtype == jnp.float32 and bools.dtype == bool
        np.testing.assert_array_equal(given, bools)
    assert 0 < obs.mean() < 1


def cartpole_step(obs, action):
    """The classic physics of CartPole (Barto, Sutton & Anderson 1983), written out once more; arrays [..., 4]."""
    x, x_dot, theta, theta_dot = np.moveaxis(np.asarray(obs, np.float64), -1, 0)
    force = np.where(action == 1, 10.0, -10.0)
    temp = (force + 0.05 * theta_dot**2 * np.sin(theta)) / 1.1
    theta_acc = (9.8 * np.sin(theta) - np.cos(theta) * temp) / (0.5 * (4 / 3 - 0.1 * np.cos(theta) ** 2 / 1.1))
    x_acc = temp - 0.05 * theta_acc * np.cos(theta) / 1.1
    return np.stack(
        [x + 0.02 * x_dot, x_dot + 0.02 * x_acc, theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc], axis=-1
    )


def rollout(env, num_envs, num_steps, seed=0):
    """Rows [T, E] of uniformly random actions, and the observations [T, E] acted on next."""

    @jax.jit
    def run(key):
        state, _ = env.reset(key, num_envs)

        def body(state, key):
            action = jax.random.randint(key, (num_envs,), 0, env.spec.num_actions)
            state, obs, row = env.step(key, state, action)
            return state, (row, obs, env.observe(state))

        return jax.lax.scan(body, state, jax.random.split(key, num_steps))[1]

    return jax.device_get(run(jax.random.key(seed)))


def test_cartpole_rows_are_the_physics_and_final_observations_are_true():
    """final_obs follows from obs and action in every row, at truncations too, where the next observation is a reset."""
    env = make_env("CartPole-v1", (("max_steps_in_episode", 15),))
    row, obs, observed = rollout(env, num_envs=5, num_steps=120)
    np.testing.assert_array_equal(obs, observed)
    np.testing.assert_allclose(row.final_obs, cartpole_step(row.obs, row.action), atol=1e-5)
    np.testing.assert_array_equal(row.obs[1:], obs[:-1])
    done = row.terminated | row.truncated
    assert row.truncated.sum() > 5 and row.terminated.sum() > 5
    np.testing.assert_array_equal(obs[~done], row.final_obs[~done])
    assert np.abs(obs[done]).max() <= 0.05  # a reset
    assert np.abs(row.final_obs[done]).max(axis=-1).min() > 0.05  # not a reset
    out_of_bounds = (np.abs(row.final_obs[..., 0]) > 2.4) | (np.abs(row.final_obs[..., 2]) > 12 * 2 * np.pi / 360)
    np.testing.assert_array_equal(row.terminated, out_of_bounds)
    assert not np.any(row.terminated & row.truncated)
    assert row.valid.all() and env.every_row_valid
    assert row.reward.dtype == np.float32 and np.all(row.reward == 1.0)


def test_an_episode_that_ends_at_its_limit_by_the_rules_is_terminated():
    """Where the pole falls in the very step of the limit, the row is terminated and not truncated."""
    row, _, _ = rollout(make_env("CartPole-v1", (("max_steps_in_episode", 9),)), num_envs=64, num_steps=9, seed=3)
    at_limit = row.terminated[8] & ~(row.terminated[:8] | row.truncated[:8]).any(axis=0)
    assert at_limit.any()  # the seed has such episodes
    assert not row.truncated[8][at_limit].any()


def test_environments_of_one_batch_differ():
    """Each environment has a reset and, in a random environment, a fate of its own."""
    row, _, _ = rollout(make_env("CartPole-v1"), num_envs=6, num_steps=1)
    assert len(np.unique(row.obs[0, :, 0])) == 6


def test_pictures_of_gymnax_are_not_loaded_before_they_are_wanted():
    """In a process of its own: importing the environments loads no seaborn, and what uses it still finds it."""
    code = (
        "import sys; from purejaxdqn.envs import gymnax; assert 'pandas' not in sys.modules, 'seaborn was loaded'\n"
        "import matplotlib.pyplot, seaborn; matplotlib.use('Agg'); assert seaborn.color_palette('cubehelix', 3)\n"
        "assert 'pandas' in sys.modules and matplotlib.pyplot.figure() is not None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
