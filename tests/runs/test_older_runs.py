"""Runs and sweeps that version 0.1 wrote are evaluated, resumed, reported, examined and loaded; see tests/fixtures."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from purejaxdqn import evaluate, train
from purejaxdqn.doctor import command as doctor
from purejaxdqn.doctor.findings import CHECKS
from purejaxdqn.recipes.files import find_recipe
from purejaxdqn.recipes.recipes import make_settings
from purejaxdqn.report import command as report
from purejaxdqn.runs.folder import read_config
from purejaxdqn.runs.policy import load_policy
from purejaxdqn.runs.sweep_folder import CURVES, LANES, UNITS, read_columns, read_sweep
from purejaxdqn.sweep import command as sweep

OLDER = Path(__file__).parents[1] / "fixtures" / "0.1"
RUNS, SWEEPS = OLDER / "runs", OLDER / "sweeps"
CPU = ["--device", "cpu"]
OBS = np.array([[0.1, -0.2, 0.03, 0.4], [-1.0, 0.5, -0.1, -0.6]], np.float32)
Q_VALUES = {
    ("finished", 0, "last"): [[6.2558293, 0.7067188], [2.3840978, 2.2590680]],
    ("finished", 1, "best"): [[6.1688466, 1.9600043], [4.5322709, 1.5183140]],
    ("unfinished", 0, "best"): [[2.5278161, -0.0880062], [0.6573849, 1.3009989]],
    ("unfinished", 1, "last"): [[5.2599883, 1.6861703], [3.9838653, 1.3734688]],
}
"""Of `OBS`, by run, seed and parameters, as version 0.1 gave them."""


@pytest.fixture
def older(tmp_path):
    """A function that copies a fixture's folder, for a test to write in."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / folder.name))


def rows_of(folder, name="metrics.csv"):
    with open(folder / name, encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("run", "seed", "which"), Q_VALUES)
def test_a_policy_is_loaded(run, seed, which):
    policy = load_policy(RUNS / run, seed, which)
    np.testing.assert_allclose(policy.q_values(OBS), Q_VALUES[run, seed, which], rtol=1e-5)


def test_a_run_is_evaluated(capsys):
    """With the mean returns that version 0.1 printed for this command."""
    assert evaluate.main([str(RUNS / "finished"), "--episodes", "5", "--json", *CPU]) == 0
    found = json.loads(capsys.readouterr().out)["seeds"]
    assert [(one["seed"], one["mean_return"]) for one in found] == [(0, 9.2), (1, 9.6)]


@pytest.mark.usual_compilation
def test_an_interrupted_run_goes_on(older):
    """What was written stays; the rows that follow have the steps, updates and ε of the run that nobody interrupted."""
    folder = older(RUNS / "unfinished")
    before = {name: (folder / name).read_bytes() for name in ("metrics.csv", "episodes.csv")}
    assert train.main(["--resume", str(folder), "--quiet", *CPU]) == 0
    for name, content in before.items():
        assert (folder / name).read_bytes().startswith(content)
    clock = ("seed", "env_steps", "updates", "epsilon")
    rows, expected = rows_of(folder), rows_of(RUNS / "finished")
    assert [[row[name] for name in clock] for row in rows] == [[row[name] for name in clock] for row in expected]
    assert [bool(row["eval_return"]) for row in rows] == [bool(row["eval_return"]) for row in expected]
    for seed in ("0", "1"):
        numbers = [int(row["episode"]) for row in rows_of(folder, "episodes.csv") if row["seed"] == seed]
        assert numbers == list(range(1, len(numbers) + 1))
    assert json.loads((folder / "summary.json").read_text())["env_steps_per_seed"] == 4000


@pytest.mark.parametrize(("run", "env_steps"), [("finished", 4000), ("unfinished", 1640)])
def test_a_run_is_examined(run, env_steps, capsys):
    assert doctor.main([str(RUNS / run), "--json", "--episodes", "2", *CPU]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["env_steps"] == env_steps and set(found["vitals"]) == {"0", "1"}
    assert {finding["name"] for finding in found["findings"]} == {check.name for check in CHECKS}


def test_runs_and_sweeps_are_reported(tmp_path):
    folders = [RUNS / "finished", RUNS / "unfinished", SWEEPS / "finished"]
    for index, chosen in enumerate([*([folder] for folder in folders), folders]):
        out = tmp_path / f"{index}.html"
        assert report.main([*map(str, chosen), "--out", str(out)]) == 0
        assert "CartPole-v1" in out.read_text(encoding="utf-8")


def test_an_interrupted_sweep_goes_on(older):
    """What was written stays; the sweep comes to the lanes and steps of the one that nobody interrupted."""
    folder = older(SWEEPS / "unfinished")
    before = read_columns(next((folder / UNITS).glob("*/*/curves.npz")))
    assert sweep.main(["--resume", str(folder), "--quiet", "--no-report", *CPU]) == 0
    for name in ("lane", "setting", "seed", "env_steps", "updates", "epsilon"):
        expected = read_columns(SWEEPS / "finished" / CURVES)[name]
        np.testing.assert_array_equal(read_columns(folder / CURVES)[name], expected, err_msg=name)
    curves = read_columns(folder / CURVES)
    for lane in range(4):
        for name, column in before.items():
            mine = column[before["lane"] == lane]
            np.testing.assert_array_equal(curves[name][curves["lane"] == lane][: len(mine)], mine, err_msg=name)
    assert (read_columns(folder / LANES)["env_steps"] == 4000).all()
    assert not (folder / UNITS).exists()
    assert read_sweep(folder)["varied"] == ["learning_rate"]


def test_a_finished_sweep_has_come_to_its_end(capsys):
    assert sweep.main(["--resume", str(SWEEPS / "finished"), "--no-report", *CPU]) == 0
    assert "has come to its end already" in capsys.readouterr().out
    assert sorted(path.name for path in (SWEEPS / "finished").iterdir()) == [
        *("best.toml", "curves.npz", "lanes.npz", "summary.json", "sweep.json")
    ]


def test_the_recipe_of_a_sweep_is_read():
    config, hypers = make_settings(find_recipe(str(SWEEPS / "finished" / "best.toml")))
    assert config == read_config(RUNS / "finished")[0].config.replace(log_episodes=0)
    assert hypers.learning_rate == 0.01
