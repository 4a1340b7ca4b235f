"""The benchmarks' own bookkeeping; what they measure is theirs to run."""

import json
import sys

import pytest

from benchmarks import common
from benchmarks.learning import atari_learning, atari_suite, family, gotchas, tutorials


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Calls the family's command line with a measurement that takes no time, and returns what the file then holds."""

    def measure(env, algo, seeds, first_seed, extra):
        return {"algo": algo, "flags": extra, "last": {"iqm": 1.0, "scores": [1.0]}, "train_wall_seconds": 1.0}

    monkeypatch.setattr(family, "measure", measure)
    monkeypatch.setattr(common, "RESULTS", tmp_path)

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["family", "--env", "DeepSea-bsuite", *flags])
        family.main()
        return json.loads((tmp_path / "family-DeepSea-bsuite.json").read_text())["algorithms"]

    return call


def test_an_ablation_stands_beside_its_algorithm(measured):
    """Under its own label, after the algorithms, which keep their order; none of them is overwritten or lost."""
    measured("--algos", "rainbow", "--label", "rainbow without noise", "--no-noisy")
    found = measured("--algos", "rainbow", "dqn")
    assert list(found) == ["dqn", "rainbow", "rainbow without noise"]
    assert [entry["algo"] for entry in found.values()] == ["dqn", "rainbow", "rainbow"]
    assert [entry["flags"] for entry in found.values()] == [[], [], ["--no-noisy"]]


def test_one_label_cannot_name_two_results(measured, capsys):
    with pytest.raises(SystemExit) as stopped:
        measured("--label", "without noise", "--algos", "dqn", "rainbow")
    assert stopped.value.code == 2
    assert "--label without noise" in capsys.readouterr().err


def test_wilsons_interval_by_hand():
    """Of 128 of 128: from n / (n + z²) to 1; the others are from the closed form with z = 1.96."""
    square = 1.959964**2
    low, high = tutorials.wilson(128, 128)
    assert abs(low - 128 / (128 + square)) < 1e-9 and abs(high - 1.0) < 1e-9
    low, high = tutorials.wilson(5, 10)
    assert abs(low + high - 1.0) < 1e-9 and abs(low - 0.2366) < 1e-4


def test_effects_are_differences_seed_by_seed():
    task = gotchas.TASKS["CartPole-v1"]
    base = {"last": [500.0, 500.0, 0.0, 0.0], "curve": [[500.0, 500.0]] * 4}
    worse = {"last": [500.0, 0.0, 0.0, 0.0], "curve": [[250.0, 250.0]] * 4}
    found = gotchas.effects(task, {"base": base, "huber": worse})
    assert found["base"]["solved"] == 0.5 and found["base"]["area"] == 1.0 and found["base"]["area_effect"] == 0.0
    assert found["huber"]["solved_effect"] == -0.25 and found["huber"]["area_effect"] == -0.5
    assert found["huber"]["area_effect_interval_95"] == [-0.5, -0.5], "every seed differs by the same"


@pytest.mark.parametrize("env", gotchas.TASKS)
def test_every_variant_changes_the_base_and_runs_as_a_group_of_its_program(env):
    """Only hypers differ within a group, and no variant is the base itself."""
    task = gotchas.TASKS[env]
    grouped = gotchas.groups(task, list(gotchas.VARIANTS))
    assert {name for _, members in grouped for name in members} == set(gotchas.VARIANTS)
    assert len(grouped) < len(gotchas.VARIANTS)
    base_config = next(config for config, members in grouped if "base" in members)
    base = next(members["base"] for _, members in grouped if "base" in members)
    for config, members in grouped:
        for name, hypers in members.items():
            assert name == "base" or config != base_config or hypers != base


def test_a_suite_goes_on_with_what_is_unfinished(monkeypatch, tmp_path, capsys):
    """One seed of everything first; a run that ended is left alone, and the time bounds the whole call."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    (tmp_path / "atari-A-v5-pqn-1.json").write_text('{"finished": true}')
    (tmp_path / "atari-B-v5-pqn-1.json").write_text('{"finished": false}')
    calls = []

    def run(command, check):
        name = command[command.index("--name") + 1]
        calls.append((name, command[command.index("--minutes") + 1]))
        (tmp_path / f"atari-{name}.json").write_text('{"finished": true}')

    moments = iter([0.0, 0.0, 300.0, 550.0])
    monkeypatch.setattr(atari_suite.subprocess, "run", run)
    monkeypatch.setattr(atari_suite.time, "perf_counter", lambda: next(moments))
    flags = ["--games", "A-v5", "B-v5", "--recipes", "pqn", "--seeds", "1", "2", "--minutes", "10"]
    monkeypatch.setattr(sys, "argv", ["atari_suite", *flags])
    atari_suite.main()
    assert calls == [("B-v5-pqn-1", "9.8"), ("A-v5-pqn-2", "4.8")]
    assert capsys.readouterr().out == "1 run left, the next is B-v5-pqn-2\n"


def test_training_is_scored_by_its_last_games(tmp_path):
    """From the last row back until there are enough; rows without an episode count for nothing."""
    rows = ["0,5,1.0", "1,60,2.0", "2,0,", "3,50,8.0"]
    (tmp_path / "metrics.csv").write_text("\n".join(["env_steps,episodes,episode_return", *rows]))
    assert atari_learning.last_games(tmp_path) == {"games": 110, "mean_return": round((50 * 8 + 60 * 2) / 110, 2)}
    assert atari_learning.last_games(tmp_path, 50) == {"games": 50, "mean_return": 8.0}
    (tmp_path / "metrics.csv").write_text("env_steps,episodes,episode_return\n0,0,")
    assert atari_learning.last_games(tmp_path) == {"games": 0}
