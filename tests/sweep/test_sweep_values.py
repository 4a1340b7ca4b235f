"""Axes of a sweep: words, ranges and distributions become values, or one sentence that says what would."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purejaxdqn.config import Config, SettingError
from purejaxdqn.sweep.definition import combinations, kind_of, parse_axes, read_file
from purejaxdqn.sweep.options import SweepOptions
from purejaxdqn.sweep.values import Axis, Drawn, field_kinds, parse_axis
from purejaxdqn.types import Hypers


def axis(field, *words, seed=0):
    return parse_axis(field, words, kind_of(field, "CartPole-v1"), seed)


@pytest.mark.parametrize(
    ("field", "words", "values"),
    [
        ("gamma", ("0.97", "0.99"), (0.97, 0.99)),
        ("learning_rate", ("log:1e-4:1e-2:3",), (1e-4, 1e-3, 1e-2)),
        ("learning_rate", ("log:1e-4:1e-2:1",), (1e-4,)),
        ("gamma", ("lin:0.9:1:3",), (0.9, 0.95, 1.0)),
        ("target_period", ("log:1:1000:4",), (1, 10, 100, 1000)),
        ("target_period", ("lin:1:3:9",), (1, 2, 3)),
        ("num_envs", ("4", "8"), (4, 8)),
        ("total_steps", ("1e5", "1_000"), (100_000, 1_000)),
        ("hidden", ("120,84", "64"), ((120, 84), (64,))),
        ("dueling", ("true", "False"), (True, False)),
        ("max_grad_norm", ("inf", "10"), (float("inf"), 10.0)),
        ("last_step_reward", ("None", "-20"), (None, -20.0)),
        ("algo", ("dqn", "c51"), ("dqn", "c51")),
        ("norm", ("layer", "none"), ("layer", "none")),
        ("env_params.max_steps_in_episode", ("200", "500"), (200, 500)),
    ],
)
def test_words_become_values(field, words, values):
    assert axis(field, *words) == Axis(field, values)


@pytest.mark.parametrize(
    ("field", "words", "said"),
    [
        ("learning_rate", ("log:1e-4:1e-2",), "lin:LOW:HIGH:N"),
        ("learning_rate", ("log:1e-2:1e-4:3",), "low end must be below"),
        ("learning_rate", ("log:0:1:3",), "begins above 0"),
        ("learning_rate", ("log:a:1:3",), "'a' is no number"),
        ("learning_rate", ("log:1e-4:inf:3",), "finite"),
        ("learning_rate", ("log:1e-4:1e-2:0",), "use 1 or more"),
        ("learning_rate", ("geom:1e-4:1e-2:3",), "no range geom"),
        ("learning_rate", ("log:1e-4:1e-2:3", "0.5"), "a range stands alone"),
        ("learning_rate", ("fast",), "use a number"),
        ("gamma", ("0.9", "0.90"), "same value twice"),
        ("target_period", ("1.5",), "a whole number"),
        ("num_envs", ("uniform:4:16",), "compilation of its own"),
        ("dueling", ("maybe",), "true or false"),
        ("norm", ("lin:0:1:2",), "takes no numbers"),
        ("hidden", ("64x64",), "joined by commas"),
        ("gamma", (), "at least one value"),
        ("env_params.gravity_of_the_moon", ("1",), "no such parameter"),
        ("learning_rat", ("1",), "no such setting"),
    ],
)
def test_bad_words_are_one_sentence(field, words, said):
    with pytest.raises(SettingError, match=said):
        axis(field, *words)


@given(
    low=st.floats(1e-6, 1.0),
    factor=st.floats(1.5, 1e5),
    count=st.integers(2, 20),
)
def test_log_ranges_have_equal_ratios(low, factor, count):
    """To the six digits that are kept."""
    values = np.array(axis("learning_rate", f"log:{low!r}:{low * factor!r}:{count}").values)
    assert len(values) == count
    np.testing.assert_allclose(values[[0, -1]], [low, low * factor], rtol=1e-5)
    np.testing.assert_allclose(values[1:] / values[:-1], factor ** (1 / (count - 1)), rtol=2e-5)


def test_draws_lie_in_their_range_and_follow_the_seed():
    counted = axis("learning_rate", "loguniform:1e-4:1e-2:50")
    assert len(counted.values) == 50 and all(1e-4 <= value <= 1e-2 for value in counted.values)
    # Half of a logarithmic draw lies below the geometric middle: 50 draws miss 8 to 42 with p < 1e-6.
    assert 8 < sum(value < 1e-3 for value in counted.values) < 42
    assert axis("learning_rate", "loguniform:1e-4:1e-2:50").values == counted.values
    assert axis("learning_rate", "loguniform:1e-4:1e-2:50", seed=1).values != counted.values
    assert axis("learning_rate", "loguniform:1e-4:1e-2") == Axis(
        "learning_rate", (), Drawn("learning_rate", 1e-4, 1e-2, log=True, whole=False)
    )
    assert all(isinstance(value, int) for value in axis("target_period", "uniform:1:9:5").values)


def test_a_grid_has_every_combination_in_order():
    axes = parse_axes({"gamma": ("0.9", "0.99"), "tau": ("1", "0.5")}, "CartPole-v1", 0)
    assert combinations(axes, None, 0) == [
        {"gamma": 0.9, "tau": 1.0},
        {"gamma": 0.9, "tau": 0.5},
        {"gamma": 0.99, "tau": 1.0},
        {"gamma": 0.99, "tau": 0.5},
    ]


def test_random_settings_are_distinct_and_follow_their_seed():
    axes = parse_axes({"gamma": ("0.9", "0.99"), "learning_rate": ("loguniform:1e-4:1e-2",)}, "CartPole-v1", 0)
    points = combinations(axes, 40, 3)
    assert len({tuple(point.values()) for point in points}) == 40
    assert {point["gamma"] for point in points} == {0.9, 0.99}
    assert combinations(axes, 40, 3) == points and combinations(axes, 40, 4) != points
    assert combinations(axes, 10, 3) == points[:10]
    listed = parse_axes({"gamma": ("0.9", "0.99"), "tau": ("1", "0.5")}, "CartPole-v1", 0)
    assert len(combinations(listed, 4, 0)) == 4
    with pytest.raises(SettingError, match="4 combinations"):
        combinations(listed, 5, 0)
    with pytest.raises(SettingError, match="--random N"):
        combinations(axes, None, 0)


def test_every_field_has_a_kind():
    names = {field.name for cls in (Config, Hypers) for field in dataclasses.fields(cls)}
    assert names <= set(field_kinds())


def test_a_file_says_what_flags_say(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        'env = "CartPole-v1"\nalgo = ["dqn", "c51"]\nseeds = 4\nhalving = true\n[config]\nnum_envs = [4, 8]\n'
        'hidden = [[64, 64], [32]]\n[hypers]\nlearning_rate = "log:1e-4:1e-2:3"\ngamma = 0.9\n'
        "[env_params]\nmax_steps_in_episode = 200\n"
    )
    options, words = read_file(path)
    assert options == {"env": "CartPole-v1", "seeds": 4, "halving": True}
    flags = {
        "algo": ("dqn", "c51"),
        "num_envs": ("4", "8"),
        "hidden": ("64,64", "32"),
        "learning_rate": ("log:1e-4:1e-2:3",),
        "gamma": ("0.9",),
        "env_params.max_steps_in_episode": ("200",),
    }
    assert parse_axes(words, "CartPole-v1", 0) == parse_axes(flags, "CartPole-v1", 0)
    path.write_text("[config]\nhidden = [64, 32]\n")
    assert parse_axes(read_file(path)[1], "CartPole-v1", 0) == (Axis("hidden", ((64, 32),)),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hypers]\nnum_envs = 4\n", "num_envs is compiled in: put it under [config]"),
        ("[config]\ngamma = 0.9\n", "gamma is traced: put it under [hypers]"),
        ("[hypers]\ngama = 0.9\n", "no setting gama"),
        ("[hyper]\ngamma = 0.9\n", "no table [hyper]"),
        ("seed_count = 4\n", "no option seed_count"),
        ("seeds = \n", "it is no TOML"),
        (None, "it cannot be read"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, text, said):
    path = tmp_path / "sweep.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingError) as found:
        read_file(path)
    assert found.value.field == "file" and said in found.value.remedy


def test_options_of_a_file_are_those_of_the_flags():
    assert {"seeds", "random", "halving"} <= {field.name for field in dataclasses.fields(SweepOptions)}
