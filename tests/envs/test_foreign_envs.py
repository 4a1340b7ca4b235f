"""Environments that are not gymnax's own: what they may do without harm, and what is told in a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import spaces

from purejaxdqn import train
from purejaxdqn.config import Config, SettingError
from purejaxdqn.envs import gymnax as adapter
from purejaxdqn.loops.device import make_agent
from purejaxdqn.types import Hypers


@struct.dataclass
class Limits:
    """Parameters with a limit that is not kept."""

    max_steps_in_episode: float = 500.0


@struct.dataclass
class NoLimits:
    """Parameters without a limit."""

    size: float = 1.0


class Counting:
    """Counts its steps and cuts the episode at every seventh; `changes` are functions of what it would give."""

    def __init__(self, space=None, **changes):
        self.space, self.changes = space or spaces.Box(0.0, 1.0, (2,)), changes

    def change(self, name, value):
        return self.changes.get(name, lambda given: given)(value)

    def observe(self, count):
        return self.change("obs", jnp.stack([count, 7 - count]) / 7.0)

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return self.space

    def reset(self, key, params):
        count = jnp.zeros((), jnp.int32)
        return self.observe(count), self.change("state", {"count": count})

    def step(self, key, state, action, params):
        count = state["count"] + 1
        cut = count >= 7
        after = jnp.where(cut, 0, count)
        info = {"final_observation": self.observe(count)}
        reward = self.change("reward", jnp.float32(1.0))
        return self.observe(after), state | {"count": after}, reward, jnp.zeros((), bool), cut, info


@pytest.fixture
def with_env(monkeypatch):
    """Has the id CartPole-v1 make another environment."""

    def set_up(env, params=None):
        monkeypatch.setattr(adapter, "make_raw", lambda env_id, **options: (env, params or Limits()))
        return make_agent(
            Config(num_envs=4, total_steps=2_000, buffer_size=400, batch_size=64, learning_starts=200, hidden=(8,))
        )

    return set_up


@pytest.mark.parametrize("params", [Limits(), Limits(float("inf")), NoLimits()])
def test_an_environment_that_cuts_sooner_than_it_says_loses_no_sample(with_env, params):
    """Three-step windows of episodes of seven steps, under a limit of 500, infinity or none: every weight is 1."""
    agent = with_env(Counting(), params)
    state = agent.init(jax.random.key(0), Hypers())
    batch, _, weight = agent.parts.replay.sample(state.memory, jax.random.key(1), Hypers())
    np.testing.assert_array_equal(weight, 1.0)
    # Windows that reach the end go on to bootstrap from the true last observation, 7 / 7, and not from the first.
    ends = np.asarray(batch.obs_tm1)[:, 0] > 3.5 / 7
    assert (
        ends.any() and (np.asarray(batch.obs_t)[ends][:, 0] == 1.0).all() and (np.asarray(batch.discount_t) > 0).all()
    )


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Counting(obs=lambda obs: {}), "holds no array"),
        (Counting(obs=lambda obs: {"eye": jnp.zeros((3, 16, 16))}), "(eye), pictures (3, 16, 16), seem to have"),
        (Counting(obs=lambda obs: jnp.zeros((3, 16, 16))), "channels first"),
        (Counting(reward=lambda reward: reward[None]), "its reward has the shape (1,)"),
        (Counting(reward=lambda reward: reward * jnp.nan), "rewards that are no finite numbers"),
        (Counting(state=lambda state: state | {"key": jax.random.key(3)}), "typed PRNG key"),
        (Counting(spaces.Discrete(5), obs=lambda obs: jnp.int32(obs[0] * 7)), "none of its values 0 to 4"),
    ],
)
def test_what_cannot_be_learnt_from_is_a_sentence(with_env, env, words):
    with pytest.raises(SettingError, match="env=") as told:
        with_env(env)
    assert words in str(told.value)


def test_observations_that_change_their_type_are_a_sentence(with_env):
    class Changing(Counting):
        def reset(self, key, params):
            obs, state = super().reset(key, params)
            return obs.astype(jnp.float16), state

    with pytest.raises(SettingError, match=r"float16, and .* float32 later"):
        with_env(Changing())


def test_numbers_of_an_environment_that_are_not_finite_are_not_the_learning_rate_s_fault(with_env, tmp_path, capsys):
    """Its rewards become NaN after a while: the sentence names the environment."""
    late = Counting(state=lambda state: state | {"age": jnp.zeros((), jnp.int32)})
    step = late.step

    def later(key, state, action, params):
        obs, after, reward, *rest = step(key, state, action, params)
        return obs, after | {"age": state["age"] + 1}, jnp.where(state["age"] > 150, jnp.nan, reward), *rest

    late.step = later
    with_env(late)
    small = [
        "--env",
        "CartPole-v1",
        "--num-envs",
        "4",
        "--total-steps",
        "2000",
        "--buffer-size",
        "400",
        "--hidden",
        "8",
    ]
    small += ["--batch-size", "8", "--learning-starts", "200", "--eval-episodes", "2", "--quiet"]
    with pytest.raises(SystemExit):
        train.main([*small, "--no-compilation-cache", "--out", str(tmp_path / "run")])
    told = capsys.readouterr().err
    assert "--env CartPole-v1" in told and "reward" in told and "learning rate" not in told and told.count("\n") == 1
