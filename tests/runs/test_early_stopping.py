"""What ends a seed before the run does, and that no seed's end depends on the others."""

import csv
import json

import numpy as np
import pytest
from command_lines import refused

from purejaxdqn import evaluate, train
from purejaxdqn.runs.early_stopping import Budget, Endings

pytestmark = [pytest.mark.exact_lanes, pytest.mark.usefixtures("shared_programs")]

SMALL = ["--total-steps", "3000", "--num-envs", "2", "--learning-starts", "40", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--log-every", "100", "--eval-every", "200"]
SMALL += ["--no-compilation-cache", "--quiet"]


def test_episodes_end_a_lane_at_its_budget():
    endings = Endings(Budget(total_episodes=5), 3)
    endings.train(np.array([4, 5, 0]), np.zeros(3), 100)
    assert endings.running.tolist() == [True, False, True]
    endings.train(np.array([1, 9, 1]), np.zeros(3), 200)
    assert endings.ended_by == ["episodes", "episodes", None] and endings.env_steps.tolist() == [200, 100, 0]
    assert endings.episodes.tolist() == [5, 5, 1], "an ended lane is no longer counted"


def test_a_return_ends_a_lane_and_comes_before_the_budget():
    endings = Endings(Budget(total_episodes=5, stop_at_return=-199.0), 3)
    endings.train(np.array([5, 1, 1]), np.array([-199.0, -200.0, -np.inf]), 100)
    assert endings.ended_by == ["return", None, None]


def test_patience_counts_evaluations_without_a_better_one():
    endings = Endings(Budget(patience=2), 2)
    both, first = np.array([True, True]), np.array([True, False])
    endings.evaluate(both, np.array([True, False]), 10)
    endings.evaluate(first, np.array([False, False]), 20)
    assert endings.without_better.tolist() == [1, 1] and endings.running.all()
    endings.evaluate(both, np.array([True, False]), 30)
    assert endings.ended_by == [None, "patience"] and endings.env_steps.tolist() == [0, 30]


def test_nothing_ends_a_lane_by_default():
    endings = Endings(Budget(), 2)
    endings.train(np.array([10**6, 1]), np.array([1e9, 0.0]), 100)
    endings.evaluate(np.ones(2, bool), np.zeros(2, bool), 100)
    assert endings.running.all()


def test_endings_survive_json_and_a_longer_run_forgets_the_old_end():
    endings = Endings(Budget(total_episodes=5), 2)
    endings.train(np.array([5, 2]), np.zeros(2), 100)
    endings.end(np.ones(2, bool), "steps", 200)
    saved = json.loads(json.dumps(endings.saved()))
    same, longer = Endings(endings.budget, 2), Endings(endings.budget, 2)
    same.restore(saved)
    longer.restore(saved, again="steps")
    assert same.ended_by == ["episodes", "steps"] and same.episodes.tolist() == [5, 2]
    assert longer.ended_by == ["episodes", None]


def run(tmp_path, name, *flags):
    folder = tmp_path / name
    assert train.main([*SMALL, "--out", str(folder), *flags]) == 0
    return folder, json.loads((folder / "summary.json").read_text()), tables(folder)


def tables(folder):
    names = ("metrics.csv", "episodes.csv")
    return {name: list(csv.DictReader((folder / name).read_text().splitlines())) for name in names}


BUDGET = ["--total-episodes", "30", "--log-episodes", "40", "--epsilon-final", "1"]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three seeds that end after 30 episodes each, at different steps."""
    return run(tmp_path_factory.mktemp("endings"), "three", "--seeds", "3", "--seed", "5", *BUDGET)


def test_every_seed_ends_after_its_episodes(three):
    _, summary, rows = three
    ends = [entry["env_steps"] for entry in summary["evaluation"]]
    assert len(set(ends)) > 1 and max(ends) < 3_000
    assert all(entry["ended_by"] == "episodes" for entry in summary["evaluation"])
    for seed, end in zip((5, 6, 7), ends, strict=True):
        mine = [row for row in rows["episodes.csv"] if row["seed"] == str(seed)]
        assert [int(row["episode"]) for row in mine] == list(range(1, 31))
        assert all(int(row["episode_length"]) == float(row["episode_return"]) for row in mine)
        steps = [int(row["env_steps"]) for row in rows["metrics.csv"] if row["seed"] == str(seed)]
        assert steps[-1] == end and int(mine[-1]["env_steps"]) <= end
        last = [row for row in rows["metrics.csv"] if row["seed"] == str(seed)][-1]
        assert last["eval_return"] != "", "the end is always evaluated"


def test_a_seed_ends_as_it_would_alone(three, tmp_path):
    """Its rows, its final score and its parameters, though the others went on for longer or shorter."""
    folder, summary, rows = three
    ends = [entry["env_steps"] for entry in summary["evaluation"]]
    seed = 5 + int(np.argmin(ends))
    _, alone, solo = run(tmp_path, "solo", "--seed", str(seed), *BUDGET)
    assert alone["evaluation"][0] == summary["evaluation"][seed - 5]
    for table in rows:
        assert solo[table] == [row for row in rows[table] if row["seed"] == str(seed)]
    del folder


@pytest.mark.long
def test_going_on_with_a_run_of_which_seeds_have_ended(three, tmp_path, monkeypatch):
    """Interrupted after the first seed's end: the same rows and the same scores in the end."""
    _, summary, rows = three
    ends = [entry["env_steps"] for entry in summary["evaluation"]]
    moment = min(ends)
    folder = tmp_path / "halted"
    from purejaxdqn.runs.runner import Run

    real = Run.train

    def halting(self, listener, stop_requested, *others):
        real(self, listener, lambda: self.env_steps >= moment, *others)

    monkeypatch.setattr(Run, "train", halting)
    assert train.main([*SMALL, "--out", str(folder), "--seeds", "3", "--seed", "5", *BUDGET]) == 130
    monkeypatch.setattr(Run, "train", real)
    assert train.main(["--resume", str(folder), "--quiet"]) == 0
    resumed = json.loads((folder / "summary.json").read_text())
    assert resumed["evaluation"] == summary["evaluation"]
    assert tables(folder) == rows


@pytest.mark.long
def test_episodes_of_the_prefill_count_where_they_are_asked_to(tmp_path):
    """2 environments fall several times in 400 random steps: so many episodes fewer are trained on."""
    flags = ["--learning-starts", "400", *BUDGET]
    ends = {}
    for name, more in (("after", []), ("all", ["--count-prefill"])):
        _, summary, rows = run(tmp_path, name, *flags, *more)
        numbers = [int(row["episode"]) for row in rows["episodes.csv"]]
        assert numbers == list(range(numbers[0], 31)) and summary["evaluation"][0]["ended_by"] == "episodes"
        ends[name] = numbers[0]
    assert ends["after"] == 1 and 400 / 60 < ends["all"] - 1 < 400 / 10


def test_patience_and_evaluations_by_episodes(tmp_path):
    """Random play gets no better for long: the run ends long before its steps, an evaluation for every 5 episodes."""
    flags = ["--patience", "4", "--eval-every-episodes", "5", "--log-episodes", "40", "--learning-rate", "1e-9"]
    _, summary, rows = run(tmp_path, "patient", *flags)
    entry = summary["evaluation"][0]
    assert entry["ended_by"] == "patience" and entry["env_steps"] < 3_000
    scores = [float(row["eval_return"]) for row in rows["metrics.csv"] if row["eval_return"]]
    best = int(np.argmax(scores))
    assert len(scores) - 1 - best == 4
    passed = np.cumsum([int(row["episodes"]) for row in rows["metrics.csv"]]) // 5
    assert len(scores) == np.count_nonzero(np.diff(passed, prepend=0)) and passed[-1] == entry["training_episodes"] // 5


def test_a_return_ends_the_run(tmp_path):
    _, summary, rows = run(tmp_path, "reached", "--stop-at-return", "25", "--log-episodes", "40")
    assert summary["evaluation"][0]["ended_by"] == "return"
    returns = [float(row["episode_return"]) for row in rows["episodes.csv"]]
    last_chunk = summary["evaluation"][0]["env_steps"] - 100
    before = [float(row["episode_return"]) for row in rows["episodes.csv"] if int(row["env_steps"]) <= last_chunk]
    assert max(returns) >= 25 and max(before, default=0.0) < 25


@pytest.mark.long
def test_evaluations_stop_where_they_are_told(tmp_path):
    folder, summary, _ = run(tmp_path, "short", "--eval-max-steps", "5", "--log-episodes", "40")
    assert summary["evaluation"][0]["last_mean_return"] == 5.0
    assert evaluate.main([str(folder), "--episodes", "3", "--max-steps", "4", "--json"]) == 0


def test_beginning_with_another_runs_parameters(three, tmp_path, capsys):
    """With steps of no size they are what the new run ends with; the seeds must fit, and so must the network."""
    folder, summary, _ = three
    flags = [*BUDGET, "--learning-rate", "0", "--init-from", str(folder)]
    new, told, _ = run(tmp_path, "new", "--seeds", "3", "--seed", "50", *flags, "--init-which", "last")
    from purejaxdqn.runs.policy import load_policy

    obs = np.random.default_rng(0).normal(size=(4, 4))
    for lane in range(3):
        given, found = (load_policy(path, lane, "last").q_values(obs) for path in (folder, new))
        np.testing.assert_array_equal(given, found)
    assert [entry["seed"] for entry in told["evaluation"]] == [50, 51, 52]
    said = refused(capsys, train.main, [*SMALL, "--seeds", "2", *flags, "--out", str(tmp_path / "no")])
    assert "--init-from" in said and "3 seeds and this run 2" in said
    said = refused(capsys, train.main, [*SMALL, "--seeds", "3", *flags, "--hidden", "9", "--out", str(tmp_path / "no")])
    assert "--init-from" in said and "whose network is this run's" in said
    said = refused(capsys, train.main, [*SMALL, "--init-from", str(tmp_path), "--out", str(tmp_path / "no")])
    assert "holds no config.json" in said
    assert not (tmp_path / "no").exists() and summary


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--count-prefill"], ["--count-prefill True", "--total-episodes"]),
        (["--patience", "0"], ["--patience 0", "at least 1"]),
        (["--total-episodes", "0"], ["--total-episodes 0", "at least 1"]),
        (["--eval-max-steps", "0"], ["--eval-max-steps 0", "at least 1"]),
        (["--init-which", "last"], ["--init-which last", "--init-from"]),
        (["--env", "CartPole-v1", "--log-episodes", "-1"], ["--log-episodes -1"]),
    ],
)
def test_bad_budgets_are_one_sentence(flags, words, capsys, tmp_path):
    said = refused(capsys, train.main, [*SMALL, *flags, "--out", str(tmp_path / "no")])
    assert all(word in said for word in words), said
    assert not (tmp_path / "no").exists()
