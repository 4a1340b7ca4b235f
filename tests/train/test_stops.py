"""What stops a run and what must not: signals, threads, whoever reads the output, and a seed that diverges."""

import csv
import io
import json
import signal
import sys
import threading
from functools import partial

import pytest

from purejaxdqn import evaluate, train
from purejaxdqn.train import display

pytestmark = pytest.mark.usefixtures("shared_programs")

SMALL = [
    *("--env", "CartPole-v1", "--total-steps", "3000", "--log-every", "500", "--eval-every", "1500"),
    *("--eval-episodes", "2", "--hidden", "8", "--buffer-size", "1000", "--batch-size", "8"),
]


WILD = [*SMALL, *["--optimizer", "sgd", "--norm", "none", "--learning-rate-schedule", "constant"]]


def rows_of(folder, seed=None):
    """Rows of a run's metrics.csv, or those of one seed."""
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    return [row for row in rows if seed is None or row["seed"] == str(seed)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train.main([*SMALL, "--quiet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def at_chunk(monkeypatch):
    """Has something done while a run shows one of its chunks."""

    def set_up(number, what):
        class Listener(display.Silent):
            chunks = 0

            def chunk(self, report):
                self.chunks += 1
                if self.chunks == number:
                    what()

        monkeypatch.setattr(display, "make_display", lambda quiet: Listener())

    return set_up


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.long) for number in (signal.SIGINT, signal.SIGHUP))],
)
def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_had_been(number, undisturbed, at_chunk, tmp_path, capsys):
    folder = tmp_path / "a run"
    at_chunk(2, lambda: signal.raise_signal(number))
    assert train.main([*SMALL, "--quiet", "--out", str(folder)]) == 128 + number
    assert "saved at" in capsys.readouterr().err and rows_of(folder) == rows_of(undisturbed)[:2]
    assert train.main(["--resume", str(folder), "--quiet"]) == 0
    assert (folder / "metrics.csv").read_bytes() == (undisturbed / "metrics.csv").read_bytes()


def test_a_second_ctrl_c_says_whether_there_is_a_checkpoint(at_chunk, tmp_path, capsys):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_chunk(1, twice)
    assert train.main([*SMALL, "--quiet", "--out", str(tmp_path / "run")]) == 130
    assert "stopped; no checkpoint was made yet" in capsys.readouterr().err


def test_a_run_trains_in_a_thread(undisturbed, tmp_path):
    codes = []
    thread = threading.Thread(
        target=lambda: codes.append(train.main([*SMALL, "--quiet", "--out", str(tmp_path / "run")]))
    )
    thread.start()
    thread.join()
    assert codes == [0]
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (undisturbed / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    "stream",
    [
        lambda: None,
        partial(open, "/dev/full", "w"),
        lambda: io.TextIOWrapper(io.BytesIO(), "ascii"),
        lambda: io.TextIOWrapper(io.BytesIO(), "cp1252"),
    ],
    ids=["closed", "full", "ascii", "cp1252"],
)
def test_output_decides_nothing_over_the_training(stream, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream())
    assert train.main([*SMALL, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (undisturbed / "metrics.csv").read_bytes()


def test_seeds_that_diverge_do_not_end_the_others(tmp_path, capsys):
    """The rows of the others are those of their solo runs; the summary and stderr say which diverged, and when."""
    together = tmp_path / "together"
    assert train.main([*WILD, "--learning-rate", "2", "--seeds", "4", "--quiet", "--out", str(together)]) == 0
    told = capsys.readouterr().err
    entries = json.loads((together / "summary.json").read_text())["evaluation"]
    diverged = [entry["seed"] for entry in entries if entry["ended_by"] == "diverged"]
    sound = [entry["seed"] for entry in entries if entry["ended_by"] == "steps"]
    assert diverged and sound and len(diverged) + len(sound) == 4
    for entry in entries:
        if entry["seed"] in diverged:
            assert entry["last_mean_return"] is None and f"seed {entry['seed']} diverged" in told
            written = [int(row["env_steps"]) for row in rows_of(together, entry["seed"])]
            assert all(step < entry["env_steps"] for step in written)
    solo = tmp_path / "solo"
    assert train.main([*WILD, "--learning-rate", "2", "--seed", str(sound[0]), "--quiet", "--out", str(solo)]) == 0
    assert rows_of(together, sound[0]) == rows_of(solo)
    assert evaluate.main([str(together), "--episodes", "2", "--json"]) == 0


def test_a_run_of_which_every_seed_diverges_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main([*WILD, "--learning-rate", "1e30", "--quiet", "--out", str(tmp_path / "run")])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.count("\n") == 1 and "the loss of seed 0 became" in told
