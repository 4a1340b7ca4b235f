"""Search by Optuna: its proposals are lanes of one program, and the same ones however a sweep is interrupted."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from command_lines import refused, stop_after
from test_sweep_processes import finish, start

from purejaxdqn.config import SettingError
from purejaxdqn.runs.sweep_folder import CURVES, LANES, STUDY, read_columns, read_sweep
from purejaxdqn.sweep import command
from purejaxdqn.sweep.definition import check_same, defining_defaults
from purejaxdqn.sweep.options import DEFINING, SweepOptions
from purejaxdqn.sweep.search import ends
from purejaxdqn.sweep.values import parse_axis, varied

SIZES = [
    *("--env", "CartPole-v1", "--num-envs", "4", "--buffer-size", "200", "--batch-size", "8", "--hidden", "8"),
    *("--learning-starts", "40", "--total-steps", "2000", "--log-every", "200", "--eval-every", "400"),
    *("--eval-episodes", "3", "--seeds", "2"),
]
SPACE = ["--learning-rate", "loguniform:1e-4:1e-2", "--gamma", "uniform:0.9:0.99", "--target-period", "10", "100"]
SEARCH = [*SIZES, *SPACE, "--search", "tpe", "--trials", "10", "--trials-at-once", "4"]
QUIET = ["--quiet", "--no-report", "--device", "cpu"]


def test_ends_by_hand():
    axes = [
        parse_axis("learning_rate", ("loguniform:1e-4:1e-2",), float),
        parse_axis("target_period", ("uniform:9.6:100",), int),
        parse_axis("gamma", ("0.99", "0.9"), float),
        parse_axis("tau", ("0.5",), float),
    ]
    assert varied(axes) == tuple(axes[:3])
    assert [ends(axis) for axis in axes] == [(1e-4, 1e-2), (10, 100), (0.99, 0.9), (0.5, 0.5)]


def test_a_sweep_of_before_there_were_searches_goes_on():
    """What its sweep.json lacks has its default: the same typed again is the same sweep, another value is not."""
    saved = {"options": {name: getattr(SweepOptions(), name) for name in DEFINING if name not in ("search", "pbt")}}
    check_same(saved, {"options": {"search": None, "pbt": False}})
    with pytest.raises(SettingError, match="it was None"):
        check_same(saved, {"options": {"search": "tpe"}})
    assert set(defining_defaults()) == set(DEFINING) <= {field.name for field in dataclasses.fields(SweepOptions)}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--search", "tpe"], ["--search tpe", "nothing varies"]),
        (["--search", "bayes", *SPACE], ["--search", "tpe"]),
        (["--search", "tpe", "--num-envs", "2", "4"], ["--num-envs 2 4", "compiled in"]),
        (["--search", "tpe", "--gamma", "uniform:0.5:1.5"], ["--gamma 1.5", "[0, 1]"]),
        (["--search", "cmaes", *SPACE], ["--search cmaes", "two ranges"]),
        (["--search", "tpe", "--random", "4", *SPACE], ["--random 4", "leave out --random"]),
        (["--search", "tpe", "--trials", "0", *SPACE], ["--trials 0", "at least 1"]),
        (["--trials", "8", "--gamma", "0.9", "0.99"], ["--trials 8", "nothing reads it without --search"]),
        (["--study", "x.log", "--gamma", "0.9", "0.99"], ["--study x.log", "nothing reads it without --search"]),
    ],
)
def test_bad_input_is_one_sentence(flags, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, command.main, ["--env", "CartPole-v1", *flags, *QUIET])
    assert all(word in said for word in words), said
    assert list(tmp_path.iterdir()) == []


def test_without_optuna_it_is_one_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    said = refused(capsys, command.main, [*SEARCH, *QUIET, "--out", str(tmp_path / "no")])
    assert "--search tpe: cmaes is missing; install purejaxdqn[optuna]" in said and not (tmp_path / "no").exists()


@pytest.fixture(scope="module")
def optuna():
    """Optuna, where it is installed."""
    pytest.importorskip("cmaes", reason="needs the extra optuna")
    return pytest.importorskip("optuna", reason="needs the extra optuna")


def run(folder, *more):
    assert command.main([*SEARCH, *QUIET, "--out", str(folder), *more]) == 0
    return outcome(folder)


def outcome(folder):
    return read_columns(folder / CURVES), read_columns(folder / LANES), read_sweep(folder)["settings"]


def assert_same(found, expected):
    for one, other in zip(found[:2], expected[:2], strict=True):
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name], err_msg=name)
    assert [entry["values"] for entry in found[2]] == [entry["values"] for entry in expected[2]]


def load(optuna, folder):
    """The study, as Optuna's own tools open it."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / STUDY))
    return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))


@pytest.fixture(scope="module")
def searched_folder(optuna, tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches") / "tpe"
    return folder, run(folder)


def test_the_study_is_the_sweep(optuna, searched_folder):
    """Ten trials in three batches: their values are the settings', their scores the means of two seeds."""
    folder, (curves, lanes, settings) = searched_folder
    study = load(optuna, folder)
    assert len(study.trials) == 10 == len(settings) and lanes["lane"].tolist() == list(range(20))
    for trial, entry in zip(study.trials, settings, strict=True):
        assert trial.params == entry["values"] and entry["values"].items() <= entry["hypers"].items()
        mine = lanes["last_mean_return"][lanes["setting"] == entry["setting"]]
        assert trial.value == pytest.approx(mine.mean())
    assert len({entry["hypers"]["learning_rate"] for entry in settings}) == 10
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["compilations"] == 1 and summary["ranking"][0]["setting"] == study.best_trial.number
    assert len(curves["lane"]) == 200 and read_sweep(folder)["versions"]["optuna"] == optuna.__version__


def test_stopped_and_resumed(searched_folder, tmp_path, monkeypatch):
    """Within the first batch, then within the second: the same proposals and the same numbers."""
    folder, args = tmp_path / "halted", [*SEARCH, *QUIET, "--out", str(tmp_path / "halted")]
    for count in (3, 12):
        stop_after(monkeypatch, count)
        assert command.main(args) == 130
        args = ["--resume", str(folder), *QUIET]
    assert len(read_sweep(folder)["settings"]) == 7
    stop_after(monkeypatch, None)
    assert command.main(args) == 0
    assert_same(outcome(folder), searched_folder[1])


def test_another_version_of_optuna_is_told(searched_folder, tmp_path, monkeypatch, capsys):
    """A sweep that goes on with other proposals than it has would be another one."""
    folder = tmp_path / "foreign"
    asked = iter([False] * 3 + [True] * 9)
    monkeypatch.setattr(command, "stop_of_all", lambda folder, _, processes: lambda: next(asked))
    assert command.main([*SEARCH, *QUIET, "--out", str(folder)]) == 130
    data = json.loads((folder / "sweep.json").read_text())
    data["settings"][0]["values"]["learning_rate"] *= 2
    (folder / "sweep.json").write_text(json.dumps(data))
    monkeypatch.undo()
    capsys.readouterr()
    said = refused(capsys, command.main, ["--resume", str(folder), *QUIET])
    assert "Optuna proposes other values than before" in said


def test_an_earlier_study_is_begun_with(optuna, searched_folder, tmp_path, capsys):
    """Its trials come first in the new study, which proposes other values than without them."""
    folder, (_, _, settings) = searched_folder
    study = tmp_path / "earlier.log"
    shutil.copy(folder / STUDY, study)
    found = run(tmp_path / "longer", "--study", str(study), "--trials", "4")
    trials = load(optuna, tmp_path / "longer").trials
    assert [trial.params for trial in trials[:10]] == [entry["values"] for entry in settings]
    assert [trial.params for trial in trials[10:]] == [entry["values"] for entry in found[2]]
    assert found[2][0]["values"] != settings[0]["values"]
    other = [word if word != "uniform:0.9:0.99" else "uniform:0.8:0.99" for word in SEARCH]
    said = refused(capsys, command.main, [*other, *QUIET, "--study", str(study), "--out", str(tmp_path / "no")])
    assert f"--study {study}: it is of another space: of gamma it has" in said
    study.write_text("nonsense\n")
    for path, words in ((study, "no study of Optuna's"), (tmp_path / "nowhere.log", "no such file")):
        said = refused(capsys, command.main, [*SEARCH, *QUIET, "--study", str(path), "--out", str(tmp_path / "no")])
        assert words in said and not (tmp_path / "no").exists()


def test_a_study_is_read_once(searched_folder, capsys):
    said = refused(capsys, command.main, ["--resume", str(searched_folder[0]), "--study", "x.log", *QUIET])
    assert "--study x.log: a search that goes on has read it when it began" in said


def test_halving_of_a_search_waits_for_no_batch(optuna, tmp_path):
    """Of every batch those continue that are among the better half of all trials so far, at that share of the run."""
    folder = tmp_path / "asha"
    curves, lanes, settings = run(folder, "--halving", "--halving-first", "0.25")
    study = load(optuna, folder)
    rungs = json.loads((folder / "summary.json").read_text())["halving"]["rungs"]
    assert [rung["share"] for rung in rungs] == [0.25, 0.5, 1.0] and rungs[0]["settings"] == 10
    seen = {}
    for batch in (range(4), range(4, 7), range(7, 10)):
        for number in batch:
            mine = (curves["setting"] == number) & (curves["env_steps"] == 440)
            seen[number] = curves["eval_return"][mine].mean()
            # 40 steps of prefill, then 100 iterations of 4.
            assert study.trials[number].intermediate_values[100] == pytest.approx(seen[number])
        ranked = sorted(seen, key=lambda number: (-seen[number], number))
        for number in batch:
            on = (lanes["dropped_at"][lanes["setting"] == number] != 0).all()
            assert on == (number in ranked[: -(-len(seen) // 2)])
    for trial, entry in zip(study.trials, settings, strict=True):
        ended = (lanes["dropped_at"][lanes["setting"] == entry["setting"]] == -1).all()
        assert trial.state.name == ("COMPLETE" if ended else "PRUNED")
    assert any(trial.state.name == "PRUNED" for trial in study.trials)


@pytest.mark.long
@pytest.mark.parametrize("search", ["cmaes", "random"])
def test_other_samplers(optuna, search, tmp_path):
    ranges = ["--learning-rate", "loguniform:1e-4:1e-2", "--gamma", "uniform:0.9:0.99"]
    flags = [*SIZES, *ranges, "--search", search, "--trials", "9", "--trials-at-once", "3", *QUIET]
    assert command.main([*flags, "--out", str(tmp_path / "one")]) == 0
    assert command.main([*flags, "--out", str(tmp_path / "two")]) == 0
    assert_same(outcome(tmp_path / "one"), outcome(tmp_path / "two"))


@pytest.mark.long
def test_two_processes_come_to_what_one_does(optuna, tmp_path):
    for count in (1, 2):
        finish(start(count, [*SEARCH, "--out", str(tmp_path / str(count))]))
    assert_same(outcome(tmp_path / "2"), outcome(tmp_path / "1"))
