"""Numbers that can be set: their forms, and bounds that Python, flags and files share, with one sentence each."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_lines import refused

from purejaxdqn import evaluate, train
from purejaxdqn.bounds import GREATEST, LIMITS, read_whole
from purejaxdqn.config import Config, SettingError
from purejaxdqn.learning.explore import env_steps_at, epsilon_at
from purejaxdqn.loops.device import make_train
from purejaxdqn.loops.lanes import seed_keys
from purejaxdqn.sweep.command import main as sweep_main
from purejaxdqn.train.settings import RunOptions
from purejaxdqn.types import Hypers


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("1000000", 10**6),
        ("1e6", 10**6),
        ("1_000", 1000),
        *(("100k", 10**5), ("2M", 2 * 10**6), ("1.5K", 1500), ("3B", 3 * 10**9), ("-2k", -2000)),
        *((word, None) for word in ("2m", "1.0005k", "k", "1e3k", "2MB", "1G")),
        ("2.5e3", 2500),
        ("3.0", 3),
        ("-5", -5),
        ("9007199254740993", 2**53 + 1),
        *((word, None) for word in ("1.5", "²", "٣", "1e-2", "", "e6", "1__0", "nan", "inf", "0x10", "1e6 ", "2.5e0")),
    ],
)
def test_words_that_stand_for_whole_numbers(word, number):
    assert read_whole(word) == number


def test_pythons_natural_forms_make_the_same_config():
    plain = Config(num_envs=10, hidden=(64, 64), total_steps=1_000_000, env_params=(("max_steps_in_episode", 100),))
    natural = Config(
        num_envs=np.int64(10),
        hidden=np.array([64, 64]),
        total_steps=1e6,
        v_max=np.float32(10),
        env_params={"max_steps_in_episode": np.int32(100)},
    )
    assert natural == plain and hash(natural) == hash(plain) and repr(natural) == repr(plain)
    assert Config(hidden=64).hidden == (64,) and Config(num_envs=jnp.int32(4)).num_envs == 4
    assert Config(env_params={"b": 1, "a": 2}) == Config(env_params=(("a", 2), ("b", 1)))


@pytest.mark.parametrize("value", [True, 1.5, "10", None, np.nan, [3], 0, 2**31])
def test_what_is_no_number_of_environments_is_refused(value):
    with pytest.raises(SettingError, match=r"num_envs=.*use a whole number of at "):
        Config(num_envs=value)


def test_every_whole_number_has_bounds():
    for cls in (Config, RunOptions, Hypers):
        for field in dataclasses.fields(cls):
            if "int" in str(field.type) and field.name != "hidden":
                least, most = LIMITS[field.name]
                assert 0 <= least < most


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_period", 0),
        ("target_period", 2**31),
        ("gamma", math.nan),
        ("gamma", 1.1),
        ("learning_rate", 1e300),
        ("adam_epsilon", 1e-60),
        ("max_grad_norm", 0.0),
    ],
)
def test_hypers_from_python_are_checked(field, value):
    """Out of range for a float32 too; traced values, and the whole numbers of a tree of axes, are not numbers to it."""
    with pytest.raises(SettingError, match=field):
        Hypers(**{field: value})
    Hypers(max_grad_norm=math.inf, gamma=np.float32(1.0), target_period=np.int64(5))
    assert jax.tree.map(lambda leaf: 0, Hypers()).target_period == 0


@pytest.mark.parametrize(("field", "value"), [("v_max", 1e300), ("v_min", -math.inf), ("reward_scale", GREATEST * 2)])
def test_numbers_beyond_float32_are_refused(field, value):
    with pytest.raises(SettingError, match=field):
        Config(**{field: value})


def test_runs_longer_than_int32():
    """ε of 10¹² environment steps is that of its share of the run, in every schedule, and never infinite."""
    config = Config(total_steps=10**12, num_envs=10_000, buffer_size=10**6, batch_size=64)
    h = Hypers(epsilon_start=1.0, epsilon_final=0.0, epsilon_fraction=0.5).as_arrays()
    for share, expected in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (1.0, 0.0)):
        steps = jnp.int32(share * 10**8)
        np.testing.assert_allclose(epsilon_at(config, h, env_steps_at(config, steps)), expected, atol=1e-6)
    slow = Hypers(epsilon_start=1.0, epsilon_final=0.01, epsilon_decay=0.999).as_arrays()
    for name in ("multiplicative", "decremental"):
        by_step = config.replace(epsilon_schedule=name)
        found = epsilon_at(by_step, slow, env_steps_at(by_step, jnp.int32(5 * 10**7)))
        np.testing.assert_allclose(found, 0.01, rtol=1e-6)
    # The last step of a run that just fits must not wrap either: 2³¹ - 1 and one vector step more.
    edge = Config(total_steps=2**31 - 1, num_envs=8)
    assert float(env_steps_at(edge, jnp.int32(2**28))) == 2.0**31
    assert env_steps_at(Config(), jnp.int32(7)).dtype == jnp.int32


def test_a_clock_that_would_overflow_is_refused():
    with pytest.raises(SettingError, match="vector steps, and a device counts to 2,147,483,647: use more num_envs"):
        Config(total_steps=3 * 10**10, num_envs=10)
    with pytest.raises(SettingError, match="gradient updates"):
        Config(total_steps=10**9, num_envs=10, updates_per_rollout=100)


def test_make_train_refuses_in_a_sentence():
    with pytest.raises(SettingError, match="num_chunks"):
        make_train(Config(), num_chunks=0)
    with pytest.raises(SettingError, match="environments step on the host"):
        make_train(Config(env="Pong-v5"))


def test_keys_of_seeds_are_jaxs_own():
    for seed in (0, 1, 2**31, 2**32 - 1):
        np.testing.assert_array_equal(seed_keys([seed])[0], jax.random.key_data(jax.random.key(seed)))


@pytest.mark.parametrize(
    "words",
    [
        "--seeds ²",
        "--seeds 1.5",
        "--seeds 100000000000",
        "--seed 4294967296",
        "--seed 9223372036854775808",
        "--seed 4294967295 --seeds 2",
        "--total-steps 1.5e0",
        "--total-steps 3e10 --num-envs 10",
        "--target-period 2147483648",
        "--log-episodes 2147483648",
        "--buffer-size 3000000000",
        "--num-atoms 100000000000 --head categorical",
        "--eval-episodes 100000000000",
        "--env-params.max-steps-in-episode 2147483648",
        "--env-params.gravity nan",
        "--env-params.masspole -0.1",
        "--stop-at-return nan",
        "--v-max 1e300 --head categorical",
        "--checkpoint-every -5",
        "--data-parallel 1000000",
        "--hidden 0",
        "--num-envs=1e10",
    ],
)
def test_a_run_refuses_numbers_out_of_bounds(words, capsys, tmp_path):
    flag, *_ = words.replace("=", " ").split()
    said = refused(capsys, train.main, [*words.split(), "--out", str(tmp_path / "run"), "--no-compilation-cache"])
    assert flag in said, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["--seeds 0", "--seed -1", "--eval-episodes 1e11", "--target-period 0", "--seeds ٣"])
def test_a_sweep_refuses_them_too(words, capsys, tmp_path):
    said = refused(capsys, sweep_main, [*words.split(), "--out", str(tmp_path / "sweep"), "--no-compilation-cache"])
    assert said.startswith(f"purejaxdqn-sweep: {words.split()[0]}"), said


@pytest.mark.parametrize("words", ["--key 4294967296", "--key -1", "--episodes 0", "--max-steps 0", "--epsilon nan"])
def test_evaluate_refuses_them_too(words, capsys, tmp_path):
    said = refused(capsys, evaluate.main, [str(tmp_path), *words.split()])
    assert words.split()[0] in said
