"""Hooks by the command lines, with the files that docs/own-environment.md shows."""

import csv
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from command_lines import refused
from doors import SMALL, blocks, write_files

from purejaxdqn import train
from purejaxdqn.config import Config
from purejaxdqn.recipes.files import write_recipe
from purejaxdqn.runs.checkpoint import load_checkpoint
from purejaxdqn.runs.folder import CHECKPOINTS, CONFIG, METRICS, SUMMARY
from purejaxdqn.runs.hooks import Logged
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("own_parts")

MINE = """
heard = []


def stop_second(logged):
    heard.append(logged.env_steps)
    return len(heard) == 2


def fails(logged):
    raise ValueError("no room for more\\nof it")


def other(state, metrics):
    return {"other": metrics.updates}


def loss(state, metrics):
    return {"loss": metrics.loss_sum}


def raises(state, metrics):
    return {"other": state.no_such_part}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder at hand, with the page's files and one of this test's; all of them are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (write_files(tmp_path) / "mine.py").write_text(MINE)
    yield tmp_path
    for name in ("hooks", "to_mlflow", "mine"):
        sys.modules.pop(name, None)


def rows_of(folder):
    return list(csv.DictReader((folder / METRICS).open()))


def stand_in(monkeypatch, name, **functions):
    """A module in place of a package."""
    module = ModuleType(name)
    module.__dict__.update(functions)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_programs")
def test_the_pages_hooks_from_python_and_by_the_command_line(here, capsys, monkeypatch):
    """One run from Python; the same one stopped by a callback, ended by one that raises, and gone on with."""
    monkeypatch.syspath_prepend(str(here))
    code = next(block for block in blocks() if "callback=stop" in block)
    words = '"--total-steps", "20000"'
    assert code.count(words) == 1
    exec(code.replace(words, ", ".join(map(repr, SMALL))), {})
    sys.modules.pop("hooks")
    whole, stopped = here / "runs" / "hooked", here / "stopped"
    rows = rows_of(whole)
    assert list(rows[0])[-3:] == ["ends_per_step", "param_max", "param_norm"] and len(rows) == 4
    params = load_checkpoint(whole / CHECKPOINTS, with_state=False).policy["last"]
    norm = np.sqrt(sum(np.sum(np.asarray(leaf, np.float64) ** 2) for leaf in params.values()))
    np.testing.assert_allclose(float(rows[-1]["param_norm"]), norm, rtol=1e-5)
    assert float(rows[-1]["param_max"]) == pytest.approx(max(np.abs(leaf).max() for leaf in params.values()))
    for row in rows:
        assert float(row["ends_per_step"]) == pytest.approx(int(row["episodes"]) / 200)
    config = json.loads((whole / CONFIG).read_text())
    assert config["probe"] == "hooks:probe" and config["imports"] == []

    capsys.readouterr()
    probe = ["--probe", "hooks.py:probe"]
    args = ["--env", "CartPole-v1", *SMALL, *probe, "--callback", "mine.py:stop_second", "--out", "stopped"]
    assert train.main(args) == 0
    (line,) = capsys.readouterr().err.splitlines()
    again = "--resume stopped --probe hooks.py:probe --callback mine.py:stop_second"
    said = "--callback mine.py:stop_second stopped the run: saved at 500 environment steps; go on with: "
    assert line == f"{said}python -m purejaxdqn.train {again}"
    assert rows_of(stopped) == rows[:2] and not (stopped / SUMMARY).exists()

    before = {path: path.read_bytes() for path in (stopped / CONFIG, stopped / METRICS)}
    on = ["--resume", "stopped", "--no-compilation-cache", "--quiet"]
    columns = "ends_per_step, param_max, param_norm"
    assert f"--probe hooks.py:probe: metrics.csv has columns of it ({columns})" in refused(capsys, train.main, on)
    said = refused(capsys, train.main, [*on, "--probe", "mine.py:other"])
    assert f"--probe mine.py:other: it gives other, and metrics.csv was begun with {columns}" in said
    assert {path: path.read_bytes() for path in before} == before
    said = refused(capsys, train.main, [*on, *probe, "--callback", "mine.py:fails"])
    assert "--callback mine.py:fails: it raised ValueError: no room for more; saved at 700 environment steps;" in said
    assert load_checkpoint(stopped / CHECKPOINTS, with_state=False).progress["env_steps"] == 700

    noted, handle = [], []
    stand_in(monkeypatch, "mlflow", log_metrics=lambda numbers, step: noted.append((step, numbers)))
    log = SimpleNamespace(log=lambda numbers, step: handle.append((step, numbers)))
    stand_in(monkeypatch, "wandb", init=lambda **known: log)
    assert train.main([*on, *probe, "--callback", "to_mlflow.py:log", "--wandb"]) == 0
    assert (stopped / METRICS).read_bytes() == (whole / METRICS).read_bytes() and (stopped / SUMMARY).exists()
    states = [load_checkpoint(folder / CHECKPOINTS).state for folder in (whole, stopped)]
    assert states[0].keys() == states[1].keys()
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])
    (found,) = noted
    assert found[0] == 900 and f"{found[1]['seed_0/param_norm']:.9g}" == rows[-1]["param_norm"]
    assert handle == [(900, {name: value for name, value in found[1].items() if name != "seed_0/seed"})]


@pytest.mark.parametrize(("scores", "stops"), [((474.0, 475.0), False), ((475.0, 475.0), True), ((None, None), False)])
def test_the_pages_callback_stops_at_its_score(scores, stops, here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    from hooks import stop

    assert stop(Logged(here, 8, 4, tuple({"eval_return": score} for score in scores))) is stops


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--probe", "no_such.py:probe"], ["--probe no_such.py:probe", "there is no file no_such.py"]),
        (["--probe", "hooks.py"], ["--probe hooks.py", "path/to/file.py:function"]),
        (["--probe", "hooks.py:prob"], ["--probe hooks.py:prob", "has no prob", "probe"]),
        (["--probe", "mine.py:raises"], ["--probe mine.py:raises", "it raised AttributeError", "no_such_part"]),
        (["--probe", "mine.py:loss"], ["--probe mine.py:loss", "has a column loss of its own"]),
        (["--callback", "mine.py:stop"], ["--callback mine.py:stop", "has no stop", "stop_second"]),
        (["--recipe", "mine.toml"], ["--recipe mine", "[run] has no option probe"]),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(args, words, here, capsys):
    write_recipe(here / "mine.toml", "mine", "Names a file of somebody's.", Config(), Hypers(), run={"probe": "a.py:b"})
    sentence = refused(capsys, train.main, [*args, "--no-compilation-cache", "--out", "run"])
    assert [word for word in words if word not in sentence] == [], sentence
    assert not (here / "run").exists()
