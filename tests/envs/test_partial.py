"""Classics without velocities and with flicker: the same games, seen less of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import SettingError
from purejaxdqn.envs.gymnax import env_settings, make_env
from purejaxdqn.envs.last_step import with_last_step

ENVS, STEPS = 8, 60


def play(env):
    """Rows [T, E] of random play, and the observation after them; the game's randomness is that of its keys alone."""

    def step(state, key):
        state, obs, row = env.step(key, state, jax.random.randint(jax.random.fold_in(key, 7), (ENVS,), 0, 2))
        return state, (row, obs)

    def run(key):
        state, first = env.reset(key, ENVS)
        return first, *jax.lax.scan(step, state, jax.random.split(key, STEPS))[1]

    return jax.tree.map(np.asarray, jax.jit(run)(jax.random.key(0)))


@pytest.fixture(scope="module")
def whole():
    return play(make_env("CartPole-v1"))


def test_positions_alone_are_shown(whole):
    """Of position, speed, angle and its speed the first and the third; rewards and ends are the game's."""
    env = make_env("CartPole-v1", (("hide_velocity", 1),))
    assert env.spec.obs_shape == (2,) and env.spec.time_limit == 500
    first, rows, after = play(env)
    np.testing.assert_array_equal(first, whole[0][:, [0, 2]])
    np.testing.assert_array_equal(rows.obs, whole[1].obs[..., [0, 2]])
    np.testing.assert_array_equal(rows.final_obs, whole[1].final_obs[..., [0, 2]])
    np.testing.assert_array_equal(after, whole[2][..., [0, 2]])
    assert (rows.terminated == whole[1].terminated).all() and rows.terminated.any()
    assert make_env("MountainCar-v0", (("hide_velocity", True),)).spec.obs_shape == (1,)


def test_a_quarter_is_nothing_but_zeros(whole):
    """What follows an observation is the same one in the row after it; the last of an episode flickers by itself."""
    _, rows, after = play(make_env("CartPole-v1", (("flicker", 0.25),)))
    blank = (rows.obs == 0).all(axis=-1)
    # Of 480 draws the mean is within 4 standard errors of 0.02.
    assert abs(blank.mean() - 0.25) < 0.08
    np.testing.assert_array_equal(rows.obs, np.where(blank[..., None], 0.0, whole[1].obs))
    np.testing.assert_array_equal(rows.obs[1:], after[:-1])
    ended = rows.terminated | rows.truncated
    np.testing.assert_array_equal(rows.final_obs[~ended], after[~ended])


def test_the_last_step_is_told_on_top():
    """Zeros first, then the action plus 1 and the reward of 1; at an episode's end only the true last one is told."""
    env = with_last_step(make_env("CartPole-v1", (("hide_velocity", True), ("max_steps_in_episode", 3))))
    assert env.spec.obs_shape == {"obs": (2,), "last_action": (), "last_reward": ()}
    assert env.spec.num_obs_values["last_action"] == 3
    first, rows, after = play(env)
    assert (first["last_action"] == 0).all() and (first["last_reward"] == 0).all()
    np.testing.assert_array_equal(rows.final_obs["last_action"], rows.action + 1)
    np.testing.assert_array_equal(after["last_action"], np.where(rows.truncated, 0, rows.action + 1))
    np.testing.assert_array_equal(after["last_reward"], np.where(rows.truncated, 0.0, 1.0))
    assert rows.truncated[2::3].all() and rows.obs["obs"].shape == (STEPS, ENVS, 2)


def test_only_classics_have_these_options():
    assert env_settings("CartPole-v1")["flicker"] == 0.0 and env_settings("Acrobot-v1")["hide_velocity"] is False
    assert "flicker" not in env_settings("Catch-bsuite")
    for env_id, name, value, words in (
        ("CartPole-v1", "flicker", 1.5, "use a number in [0, 1]"),
        ("CartPole-v1", "hide_velocity", 2, "use True or False"),
        ("CartPole-v1", "hide_velocities", True, "hide_velocity, flicker"),
        ("Catch-bsuite", "hide_velocity", True, "no such parameter"),
    ):
        with pytest.raises(SettingError) as error:
            make_env(env_id, ((name, value),))
        assert words in str(error.value)
    assert jnp.shape(make_env("CartPole-v1", (("hide_velocity", False),)).reset(jax.random.key(0), 1)[1]) == (1, 4)
