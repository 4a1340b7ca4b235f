"""Runs from Python's side: chunks, saving, resuming, lanes, the best parameters, and what is left in the folder."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.loops.lanes import seed_keys
from purejaxdqn.machine.threefry import run_key_of
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.runs import runner
from purejaxdqn.runs.best_params import Best
from purejaxdqn.runs.folder import CHECKPOINTS, Settings
from purejaxdqn.runs.hooks import Hook
from purejaxdqn.runs.policy import Policy, load_policy
from purejaxdqn.runs.runner import Diverged, Interrupted, Run
from purejaxdqn.runs.training import EVAL_STREAM, FINAL_STREAM, crosses, eval_keys
from purejaxdqn.train.display import Lines, Silent, closing_table, steps_text
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("shared_programs")


def make_settings(tiny_config, seeds=(0, 1), **changes):
    values = {
        "config": tiny_config,
        "hypers": Hypers(),
        "seeds": seeds,
        "log_every": 60,
        "eval_every": 200,
        "eval_episodes": 2,
        "checkpoint_every": 150,
        "recipe": "cartpole",
        "algo": None,
    }
    return Settings(**values | changes)


def train(run, stop_after=None):
    """Trains to the end, or until so many chunks have passed."""
    chunks = []

    def stop():
        return stop_after is not None and len(chunks) >= stop_after

    run.callbacks = (Hook("callback", "chunks.append", chunks.append),)
    run.train(Silent(), stop)
    return chunks


@pytest.fixture(scope="module")
def tiny_config():
    return Config(total_steps=604, num_envs=4, learning_starts=40, buffer_size=200, batch_size=8, hidden=(8,), n_step=2)


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    """An undisturbed run of two seeds."""
    run = Run(make_settings(tiny_config), tmp_path_factory.mktemp("runs"))
    run.start()
    train(run)
    return run


def read_rows(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same_state(a, b):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), leaves(b), strict=True):
        assert np.array_equal(np.asarray(x), y), jax.tree_util.keystr(path)


def test_stopping_saving_and_going_on_equals_never_having_stopped(finished, tiny_config, tmp_path):
    """Every leaf, replay, keys and environment included; the metrics file and the best parameters too."""
    folder = tmp_path / "stopped"
    folder.mkdir()
    run = Run(make_settings(tiny_config), folder)
    run.start()
    for stop_after in (2, 1):
        with pytest.raises(Interrupted):
            train(run, stop_after)
        run = Run(make_settings(tiny_config), folder)
        run.restore()
    train(run)
    assert run.env_steps == finished.env_steps
    assert_same_state(finished.lanes.get(finished.state), run.lanes.get(run.state))
    assert (folder / "metrics.csv").read_text() == (finished.folder / "metrics.csv").read_text()
    assert np.array_equal(run.best.score, finished.best.score)
    for name, leaf in finished.best.params.items():
        assert np.array_equal(leaf, run.best.params[name])


def test_chunk_lengths_do_not_show(finished, tiny_config, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    run = Run(make_settings(tiny_config, log_every=170), folder)
    run.start()
    train(run)
    assert_same_state(finished.lanes.get(finished.state), run.lanes.get(run.state))


def test_a_lane_is_the_solo_run_with_its_seed(finished, tiny_config, tmp_path):
    folder = tmp_path / "solo"
    folder.mkdir()
    run = Run(make_settings(tiny_config, seeds=(1,)), folder)
    run.start()
    train(run)
    lane, solo = finished.lanes.get(finished.state), run.lanes.get(run.state)
    assert_same_state(
        jax.tree.map(lambda x: x[1] if x.ndim else x, lane), jax.tree.map(lambda x: x[0] if x.ndim else x, solo)
    )
    assert [row for row in read_rows(finished.folder) if row["seed"] == "1"] == read_rows(folder)


def test_a_crash_after_a_checkpoint_loses_nothing_but_time(finished, tiny_config, tmp_path):
    """Rows past the newest checkpoint are dropped and made again, equal."""
    folder = tmp_path / "crashed"
    folder.mkdir()
    run = Run(make_settings(tiny_config, checkpoint_every=10_000), folder)
    run.start()
    with pytest.raises(Interrupted):
        train(run, 3)
    with open(folder / "metrics.csv", "a") as file:
        file.write("0,99999,1,1,,,,,,,0.1,,\n1,9")
    (folder / ".summary.json.x.tmp").write_text("half")
    again = Run(make_settings(tiny_config), folder)
    again.restore()
    train(again)
    assert (folder / "metrics.csv").read_text() == (finished.folder / "metrics.csv").read_text()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(("least_seconds", "expected"), [(0.0, 11), (3600.0, 1)])
def test_checkpoints_nobody_asked_for_are_tenths_of_a_run_but_not_close_together(
    tiny_config, tmp_path, monkeypatch, least_seconds, expected
):
    """604 steps, 40 of them prefill: tenths are crossed at 60, 120, ..., 600, and the end is saved in any case."""
    monkeypatch.setattr(runner, "SAVED_AT_MOST_EVERY", least_seconds)
    run = Run(make_settings(tiny_config, checkpoint_every=None, log_every=20), tmp_path)
    run.start()
    saves = []
    monkeypatch.setattr(run, "save", lambda: saves.append(run.env_steps))
    train(run)
    assert len(saves) == expected and saves[-1] == run.env_steps
    assert [step // 60 for step in saves[:-1]] == list(range(1, expected))


def test_without_a_checkpoint_a_resumed_run_begins_again(finished, tiny_config, tmp_path):
    folder = tmp_path / "early"
    folder.mkdir()
    (folder / "metrics.csv").write_text("seed,env_st")
    run = Run(make_settings(tiny_config), folder)
    run.restore()
    train(run)
    assert (folder / "metrics.csv").read_text() == (finished.folder / "metrics.csv").read_text()


def test_a_checkpoint_of_other_shapes_is_refused(finished, tiny_config):
    other = Run(make_settings(tiny_config.replace(hidden=(9,))), finished.folder)
    with pytest.raises(ckpt.DamagedCheckpoint, match="params"):
        other.restore()


def test_metrics_have_a_row_per_seed_and_chunk_and_missing_is_empty(finished, tiny_config):
    rows = read_rows(finished.folder)
    steps = sorted({int(row["env_steps"]) for row in rows})
    assert len(rows) == 2 * len(steps) and steps[-1] == finished.env_steps
    for row in rows:
        assert (row["episode_return"] == "") == (row["episodes"] == "0")
        assert np.isfinite(float(row["loss"])) and row["epsilon"] != ""
    evaluated = sorted({int(row["env_steps"]) for row in rows if row["eval_return"]})
    assert evaluated[-1] == finished.env_steps, "the end is always evaluated"
    crossed = [
        b
        for a, b in zip([tiny_config.prefill_steps * tiny_config.num_envs, *steps], steps, strict=False)
        if b // 200 > a // 200
    ]
    assert set(crossed) <= set(evaluated), "periods cross, they need not coincide"


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tiny_config, tmp_path):
    run = Run(make_settings(tiny_config), tmp_path)
    run.start()
    with pytest.raises(Interrupted):
        train(run, 2)
    step = run.iterations
    bad = Run(make_settings(tiny_config), tmp_path)
    bad.restore()
    bad.state = dataclasses.replace(
        bad.state,
        learner=dataclasses.replace(
            bad.state.learner, params=jax.tree.map(lambda x: x * np.nan, bad.state.learner.params)
        ),
    )
    with pytest.raises(Diverged, match="seed 0 became nan by environment step"):
        train(bad)
    assert ckpt.latest_step(tmp_path / CHECKPOINTS) == step


def test_summary_has_every_seed_with_last_and_best(finished):
    summary = finished.summarize("the command")
    assert json.loads((finished.folder / "summary.json").read_text()) == summary
    assert [entry["seed"] for entry in summary["evaluation"]] == [0, 1]
    assert summary["env_steps_per_seed"] == finished.env_steps and summary["steps_per_second"] > 0
    for entry in summary["evaluation"]:
        assert entry["last_mean_return"] >= 1 and entry["best_mean_return"] >= 1
        assert 0 < entry["best_env_steps"] <= finished.env_steps
    assert closing_table(summary, 475.0).row_count == 4


def test_best_keeps_the_better_and_the_later_of_equals():
    best = Best(np.array([1.0, 5.0, 3.0]), np.array([10, 10, 10]), {"w": np.zeros((3, 2))})
    new = best.update(np.ones(3, bool), np.array([2.0, 4.0, 3.0]), 20, {"w": np.ones((3, 2))})
    assert new.score.tolist() == [2.0, 5.0, 3.0] and new.env_steps.tolist() == [20, 10, 20]
    assert new.params["w"][:, 0].tolist() == [1.0, 0.0, 1.0]


def test_a_loaded_policy_is_the_trained_network(finished, tiny_config):
    from purejaxdqn.runs.folder import write_config

    write_config(finished.folder, finished.settings, finished.parts.env.spec, "", "")
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    parts = finished.parts
    for index in (0, 1):
        params = jax.tree.map(lambda x, i=index: x[i], finished.lanes.get(finished.state).learner.params)
        expected = parts.head.q_values(parts.network.apply(params, obs, None, "greedy"))
        policy = load_policy(finished.folder, index, "last")
        np.testing.assert_allclose(policy.q_values(obs), expected, rtol=1e-5)
        np.testing.assert_allclose(policy.q_values(obs[2]), expected[2], rtol=1e-5, atol=1e-6)
        assert policy(obs).tolist() == np.argmax(expected, axis=1).tolist()
        assert policy(obs[2]) == np.argmax(expected[2])
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        policy(np.zeros(3))


def make_policy(**changes):
    """A policy whose action values are its observation."""
    spec = EnvSpec("mine", 6, (6,), "float32", None, 10, **changes)
    return Policy({}, lambda params, obs, carry: (obs, carry), spec)


def test_a_policy_takes_the_best_legal_action():
    """Where 5 > 4 > … > 0 and 5 is illegal it is 4; of 2 × 3 choices number 4 is (1, 1)."""
    obs, mask = np.arange(6.0), np.arange(6) < 5
    policy, two = make_policy(masked=True), make_policy(masked=True, action_sizes=(2, 3))
    assert policy(obs, mask) == 4 and policy(obs, mask.astype(np.int8)) == 4
    assert policy(np.stack([obs, -obs]), np.stack([mask, ~mask])).tolist() == [4, 5]
    assert make_policy()(obs) == 5 and make_policy()(obs, mask) == 4
    assert make_policy(action_sizes=(2, 3))(np.stack([obs, -obs])).tolist() == [[1, 2], [0, 0]]
    assert two(obs, mask.reshape(2, 3)).tolist() == [1, 1]
    for bad, words in (
        (None, r"policy\(obs, mask\)"),
        (mask[:5], r"bool \(6,\).*not bool \(5,\)"),
        (0.5 * mask, "float64"),
    ):
        with pytest.raises(ValueError, match=words):
            policy(obs, bad)
    with pytest.raises(ValueError, match="leave at least one"):
        policy(np.stack([obs, obs]), np.stack([mask, mask & False]))
    with pytest.raises(ValueError, match=r"bool \(2, 3\)"):
        two(obs, mask)


@pytest.mark.parametrize(
    ("before", "after", "period", "expected"), [(0, 7, 7, True), (7, 13, 7, False), (13, 29, 7, True)]
)
def test_periods_cross(before, after, period, expected):
    assert crosses(before, after, period) is expected


def test_lines_are_few_and_tell_the_end(finished, capsys, tiny_config):
    lines = Lines()
    lines.started(finished.plan, finished.settings, 0, 1.0)
    report = finished.report(
        [{"episode_return": None, "loss": 0.5, "q_value": 1.0, "epsilon": 0.5, "eval_return": None}], 1, 0.1
    )
    for step in range(1, 1_001):
        lines.chunk(report._replace(env_steps=step * tiny_config.total_steps // 1_000))
    said = capsys.readouterr().out.splitlines()
    assert 20 <= len(said) <= 22 and "return –" in said[-1]
    assert [steps_text(x) for x in (900, 1_500, 2_000_000)] == ["900", "1.5k", "2M"]


def test_evaluations_share_no_key_with_training():
    """Keys of evaluations differ from those that `init` splits off, and from those that its environments get."""
    words = seed_keys([3])
    run_key = run_key_of(words[0])
    split = jax.random.split(run_key, 8)
    own = {tuple(row) for row in np.asarray(jax.random.key_data(split))}
    own |= {tuple(row) for key in split for row in np.asarray(jax.random.key_data(jax.random.split(key, 64)))}
    for stream in (EVAL_STREAM, FINAL_STREAM):
        moments = np.arange(64, dtype=np.uint32)
        found = {tuple(row) for row in np.asarray(eval_keys(words.repeat(64, axis=0), moments, np.uint32(stream)))}
        assert len(found) == 64 and not found & own
