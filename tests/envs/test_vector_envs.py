"""Vector environments of a user's own: the steps of single ones, how many there are, and what is refused."""

import numpy as np
import pytest
from pools import play

from purejaxdqn.build import build_env, register
from purejaxdqn.config import Config, SettingError
from purejaxdqn.envs import own
from purejaxdqn.envs.own import as_env

gymnasium = pytest.importorskip("gymnasium")
spaces, vector = gymnasium.spaces, gymnasium.vector
pytestmark = pytest.mark.usefixtures("own_parts")


class Counters(vector.VectorEnv):
    """Counts from 0; cut at 3, and over at 2 by the action 1. Not made of single ones: it takes one seed, an int."""

    def __init__(self, num_envs, mode=vector.AutoresetMode.NEXT_STEP, masked=True):
        self.num_envs, self.masked, self.seeds = num_envs, masked, []
        self.metadata = {} if mode is None else {"autoreset_mode": mode}
        space = spaces.Dict({"count": spaces.Box(0.0, 9.0, (1,)), "words": spaces.Text(9)})
        self.single_observation_space, self.single_action_space = space, spaces.Discrete(2, start=5)

    def seen(self):
        legal = np.stack([np.ones(self.num_envs, bool), self.count >= 1], axis=1)
        obs = {"count": self.count[:, None].astype(np.float32), "words": ("go",) * self.num_envs}
        return obs, {"action_mask": legal, "other": 3} if self.masked else {}

    def reset(self, *, seed=None, options=None):
        assert seed is None or isinstance(seed, int)
        self.seeds.append(seed)
        self.count, self.over = np.zeros(self.num_envs, int), np.zeros(self.num_envs, bool)
        return self.seen()

    def step(self, actions):
        assert actions.shape == (self.num_envs,) and set(actions.tolist()) <= {5, 6}
        self.count = np.where(self.over, 0, self.count + 1)
        begun = self.over
        terminated, truncated = (self.count == 2) & (actions == 6) & ~begun, (self.count == 3) & ~begun
        self.over = terminated | truncated
        obs, infos = self.seen()
        return obs, np.where(begun, 0.0, 1.0), terminated, truncated, infos


def test_steps_of_two_environments_by_hand():
    """The first is over at 2, the other cut at 3; the step after only begins. The text is no observation."""
    register("env", "counters", lambda num_envs, size=1: Counters(num_envs))
    env = build_env(Config(env="counters", env_params={"size": 2}))
    assert env.spec.obs_shape == {"count": (1,)} and env.spec.masked and env.spec.num_actions == 2
    pool = env.open_pool(2, 0, 1)
    steps = play(pool, [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0]])
    pool.close()
    counts = np.stack([step.frame["count"][:, 0] for step in steps], axis=1)
    np.testing.assert_array_equal(counts, [[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 0, 1]])
    np.testing.assert_array_equal(np.stack([step.begins for step in steps], axis=1), counts == 0)
    assert [step.terminated.tolist() for step in steps][2] == [True, False]
    assert [step.truncated.tolist() for step in steps][3] == [False, True]
    np.testing.assert_array_equal(steps[1].mask, [[True, True]] * 2)
    np.testing.assert_array_equal(steps[0].mask, [[True, False]] * 2)


def test_groups_are_vector_environments_of_their_own_with_seeds_of_their_own():
    made = []

    def make(num_envs=7, masked=False):
        made.append(Counters(num_envs, masked=masked))
        return made[-1]

    register("env", "grouped", make)
    assert own.env_settings("grouped") == {"num_groups": 1, "masked": False}, "the number of them is the run's affair"
    env = build_env(Config(env="grouped", env_params={"num_groups": 2, "masked": True}))
    assert env.num_groups == 2 and env.spec.masked
    made.clear()
    pool = env.open_pool(6, 3, 2)
    pool.reset()
    assert [pool.receive(group).reward.shape for group in (0, 1)] == [(3,), (3,)]
    assert [one.num_envs for one in made] == [3, 3]
    assert made[0].seeds != made[1].seeds


def cartpoles(num_envs: int):
    return vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * num_envs)


def test_gymnasiums_own_give_the_steps_of_single_ones():
    """Of one environment, which both reset by one seed."""
    steps = []
    for make in (cartpoles, lambda: gymnasium.make("CartPole-v1")):
        register("env", f"poles{len(steps)}", make)
        pool = build_env(Config(env=f"poles{len(steps)}")).open_pool(1, 5, 1)
        steps.append(play(pool, [[1]] * 25))
        pool.close()
    assert any(step.terminated.any() for step in steps[0]) and any(step.begins.any() for step in steps[0][1:])
    for one, other in zip(*steps, strict=True):
        for name in one._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_vector_environment_renders_its_first():
    register("env", "seen", lambda num_envs: gymnasium.make_vec("CliffWalking-v1", num_envs, render_mode="rgb_array"))
    pool = build_env(Config(env="seen")).open_pool(1, 0, 1)
    pool.reset()
    pool.receive(0)
    assert pool.screen().shape[2] == 3 and pool.screen().dtype == np.uint8
    pool.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda num_envs: Counters(num_envs, vector.AutoresetMode.SAME_STEP), r'\["autoreset_mode"\] is SAME_STEP'),
        (lambda num_envs: Counters(num_envs, vector.AutoresetMode.DISABLED), r"is DISABLED, .*AutoresetMode.NEXT_STEP"),
        (lambda num_envs: Counters(num_envs, None), r'\["autoreset_mode"\] names no mode, .*AutoresetMode.NEXT_STEP'),
        (lambda num_envs=2: Counters(2), "asked for num_envs=1, its factory gave 2 environments"),
        (lambda: Counters(2), "its factory raised TypeError: .*num_envs"),
        (lambda num_envs: gymnasium.make_vec("Pendulum-v1", num_envs), "no discrete actions"),
    ],
)
def test_what_cannot_be_stepped_is_a_sentence(make, words):
    register("env", "wrong", make)
    with pytest.raises(SettingError, match=f"env='?wrong'?.*{words}"):
        build_env(Config(env="wrong"))


def test_an_object_is_no_function_that_makes_one():
    with pytest.raises(SettingError, match="give a function that makes it"):
        as_env(Counters(1))
