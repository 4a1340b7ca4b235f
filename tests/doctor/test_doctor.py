"""The doctor: its numbers against naive twins, faults that it has to name, and that it never changes a run."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from command_lines import refused
from rich.console import Console

from purejaxdqn import train
from purejaxdqn.build import build
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.doctor import command
from purejaxdqn.doctor.checks import Case
from purejaxdqn.doctor.examine import REPORT, Examiner, earlier_moments, key_words, subject_of, take_lane
from purejaxdqn.doctor.findings import CHECKS, Finding, judge, since_start
from purejaxdqn.doctor.probes import probe_counts, replay_update
from purejaxdqn.doctor.rollouts import make_play
from purejaxdqn.doctor.samples import BATCHES, Fed, make_look_replay, make_look_rollout
from purejaxdqn.doctor.vitals import Vitals, input_vitals
from purejaxdqn.learning.normalization import RewardScale
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.observations.moments import RUNNING, Moments
from purejaxdqn.replay.transitions import Stored
from purejaxdqn.runs.folder import METRICS, Settings, read_config
from purejaxdqn.runs.training import open_lanes
from purejaxdqn.types import Counter, Hypers, Transition

pytestmark = pytest.mark.usefixtures("shared_programs")

SMALL = ["--total-steps", "400", "--num-envs", "4", "--learning-starts", "40", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--no-compilation-cache"]
HEALTHY = Vitals(
    obs_dtype="float32",
    input_min=-2.0,
    input_max=2.0,
    input_finite=True,
    obs_dims=4,
    obs_dead_dims=0,
    obs_frozen_share=0.0,
    followed_steps=2_000,
    reward_abs_max=1.0,
    reward_zero_share=0.0,
    action_shares=(0.5, 0.5),
    td_percentiles=(0.1, 0.5, 1.0, 5.0),
    td_linear_share=0.1,
    grad_percentiles=(1.0, 2.0, 3.0, 4.0),
    grad_clipped_share=0.0,
    loss=0.1,
    q_rms=80.0,
    q_abs_max=100.0,
    q_jump=0.01,
    policy_churn=0.1,
    target_distance=0.01,
    target_moved=0.0,
    target_sync_error=0.0,
    dead_units={"Hidden_0": 0.1},
    replay_fill=1.0,
    replay_age=25_000.0,
    replay_duplicates=0.01,
    replay_equal_rows=0.0,
    episode_lengths=(100.0, 300.0, 500.0),
    episodes_terminated=0.5,
    greedy_action_shares=(0.5, 0.5),
    start_q=99.0,
    start_return=95.0,
    return_scale=95.0,
)
NO_TARGET = {"target_distance": None, "target_moved": None, "target_sync_error": None, "replay_duplicates": None}


def findings_of(hypers=None, config=None, history=(), **changes):
    """The findings of hand-made vitals, by name."""
    vitals = dataclasses.replace(HEALTHY, **changes)
    case = Case(vitals, config or Config(loss="huber"), hypers or Hypers(), list(history))
    return {finding.name: finding for finding in judge({0: case})}


def alarms_in(findings):
    return [finding.name for finding in findings if finding.severity == "alarm"]


@pytest.fixture(scope="module")
def patient(tiny_config):
    """A tiny run of two seeds after some updates: settings, parts, lanes and state."""
    settings = Settings(
        config=tiny_config,
        hypers=Hypers(target_period=7),
        seeds=(3, 4),
        log_every=40,
        eval_every=400,
        eval_episodes=2,
        checkpoint_every=400,
        recipe="cartpole",
        algo=None,
    )
    parts, lanes = open_lanes(settings, settings.seeds)
    keys = lanes.put(np.array([[0, 3], [0, 4]], np.uint32))
    h = lanes.put(jax.tree.map(lambda leaf: np.full(2, leaf), settings.hypers.as_arrays()))
    state, _ = lanes.iterate(lanes.init(keys, h), h, 60)
    return settings, parts, lanes, state


@pytest.fixture(scope="module")
def examiner(patient):
    """Compiled once: hypers are traced."""
    settings, parts, _, _ = patient
    return Examiner(settings, parts, episodes=4)


def test_a_healthy_run_has_no_alarm_and_no_note():
    found = findings_of()
    assert {finding.severity for finding in found.values()} <= {"ok", "not applicable", "not looked at"}
    assert [name for name, finding in found.items() if finding.severity == "not looked at"] == ["trend"]
    assert found["rewards"].severity == "ok"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"q_jump": 1.1}, "q-jumps"),
        ({"q_jump": float("nan")}, "q-jumps"),
        ({"q_abs_max": 201.0}, "q-bounds"),
        ({"td_percentiles": (0.1, 0.5, 1.0, float("inf"))}, "td-errors"),
        ({"grad_percentiles": (0.0, 0.0, 0.0, 0.0)}, "gradients"),
        ({"target_moved": 1e-6}, "target"),
        ({"target_sync_error": 1e-3}, "target"),
        ({"hypers": Hypers(target_period=1)}, "target"),
        ({"td_linear_share": 0.95, "td_percentiles": (20.0, 30.0, 40.0, 50.0)}, "errors-clipped"),
        ({"obs_frozen_share": 1.0}, "observations"),
        ({"obs_dead_dims": 4}, "observations"),
        ({"input_max": 255.0}, "inputs"),
        ({"input_finite": False}, "inputs"),
        ({"dead_units": {"Hidden_0": 0.1, "Hidden_1": 0.95}}, "dead-units"),
        ({"replay_duplicates": 0.4}, "replay"),
        ({"start_q": 600.0}, "overestimation"),
        ({"history": [{"loss": "nan", "q_value": "1"}]}, "trend"),
    ],
)
def test_a_fault_is_named_and_nothing_else(changes, name):
    found = findings_of(**changes)
    assert alarms_in(found.values()) == [name]
    finding = found[name]
    assert finding.meaning and finding.remedy and finding.where.endswith(f"docs/doctor.md#{name}")
    assert finding.sentence().startswith(f"alarm: {name}: ")


@pytest.mark.parametrize(
    ("changes", "name", "severity"),
    [
        ({"hypers": Hypers(target_period=1, tau=0.005), "target_moved": 1e-3}, "target", "ok"),
        ({"config": Config(learner="rollout"), **NO_TARGET}, "target", "not applicable"),
        ({"config": Config(learner="rollout"), **NO_TARGET}, "replay", "not applicable"),
        ({"config": Config(), "td_linear_share": None}, "errors-clipped", "not applicable"),
        ({"td_linear_share": 1.0, "td_percentiles": (3.0, 4.0, 5.0, 6.0)}, "errors-clipped", "note"),
        ({"replay_duplicates": None}, "replay", "not looked at"),
        ({"replay_duplicates": 0.3, "replay_fill": 0.003}, "replay", "note"),
        ({"replay_equal_rows": 0.99}, "replay", "note"),
        ({"obs_dead_dims": 4, "followed_steps": 0, "obs_frozen_share": None}, "observations", "note"),
        ({"obs_dead_dims": 1}, "observations", "note"),
        ({"obs_dims": 400, "obs_dead_dims": 270}, "observations", "ok"),
        ({"reward_abs_max": 0.0, "reward_zero_share": 1.0}, "rewards", "note"),
        ({"reward_abs_max": 0.0, "reward_zero_share": 1.0}, "q-bounds", "not applicable"),
        ({"reward_clipped_share": 1.0}, "rewards", "note"),
        ({"greedy_action_shares": (1.0, 0.0)}, "actions", "note"),
        ({"greedy_action_shares": None, "episode_lengths": None}, "episodes", "not looked at"),
        ({"start_q": None}, "overestimation", "not looked at"),
        ({"start_q": -500.0}, "overestimation", "ok"),
        ({"config": Config(backup="munchausen"), "start_q": 600.0}, "overestimation", "not applicable"),
        ({"config": Config(backup="munchausen"), "q_abs_max": 350.0}, "q-bounds", "ok"),
        ({"hypers": Hypers(gamma=1.0), "q_abs_max": 1e9}, "q-bounds", "not applicable"),
        ({"history": [{"loss": 1.0, "q_value": 1.0}] * 29 + [{"loss": 9e9, "q_value": 1.0}]}, "trend", "note"),
    ],
)
def test_what_may_be_right_raises_no_alarm(changes, name, severity):
    found = findings_of(**changes)
    assert found[name].severity == severity
    assert alarms_in(found.values()) == []


def test_an_alarm_that_another_one_explains_is_a_note():
    found = findings_of(q_jump=9.0, start_q=600.0, dead_units={"Hidden_0": 1.0})
    assert alarms_in(found.values()) == ["q-jumps"]
    assert found["overestimation"].follows_from == found["dead-units"].follows_from == "q-jumps"
    assert "follows from q-jumps" in found["dead-units"].sentence()


def test_an_earlier_alarm_explains_and_an_alarm_of_the_start_stays():
    case = Case(dataclasses.replace(HEALTHY, dead_units={"Hidden_0": 1.0}), Config(), Hypers(), [])
    now = judge({0: case}, earlier={"q-jumps"})
    start = judge({0: case._replace(vitals=dataclasses.replace(HEALTHY, q_jump=9.0))})
    assert alarms_in(now) == []
    told = since_start(start, now)
    assert alarms_in(told) == ["q-jumps"] and "at the start one update" in told[0].value


def test_the_worst_seed_is_told_and_named():
    good = Case(HEALTHY, Config(), Hypers(), [])
    bad = good._replace(vitals=dataclasses.replace(HEALTHY, q_jump=9.0))
    found = judge({5: good, 6: bad, 7: bad})
    assert found[0].name == "q-jumps" and found[0].seeds == (6, 7) and "by 9 times" in found[0].value


def test_every_check_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    for check in CHECKS:
        assert f"### {check.name}\n" in text, check.name
        assert set(check.explained_by) <= {other.name for other in CHECKS}


def test_vitals_are_those_of_naive_twins(patient, examiner):
    """Loops over one lane's own ring and batches, with the network's plain forward pass."""
    settings, parts, _, state = patient
    found = examiner.examine(subject_of(state), 1, 60)
    lane = jax.tree.map(np.asarray, take_lane(subject_of(state), 1))
    ring = lane.memory.ring
    written, rows = int(ring.written.count), ring.rows
    newest = [(t % 50, e) for t in range(max(0, written - 50), written) for e in range(4)]
    assert written == 70 and found.replay_fill == 1.0 and found.obs_dims == 4
    seen = np.array([rows.obs[place] for place in newest])
    assert found.obs_dead_dims == sum(len(set(seen[:, i])) == 1 for i in range(4)) == 0
    pairs = [
        (rows.obs[t % 50, e], rows.obs[(t + 1) % 50, e])
        for t in range(written - 50, written - 1)
        for e in range(4)
        if not (rows.terminated[t % 50, e] or rows.truncated[t % 50, e])
    ]
    assert found.followed_steps == len(pairs)
    assert found.obs_frozen_share == np.mean([(a == b).all() for a, b in pairs]) == 0.0
    counts = np.bincount([int(rows.action[place]) for place in newest])
    np.testing.assert_allclose(found.action_shares, counts / 200)
    assert found.reward_abs_max == 1.0 and found.reward_zero_share == 0.0 and found.reward_clipped_share is None
    assert found.replay_equal_rows == 0.0

    key = jax.random.wrap_key_data(key_words(4, 60)[0], impl="threefry2x32")
    fed = jax.jit(make_look_replay(parts))(lane.memory, key, settings.hypers.as_arrays())
    assert fed.times.shape == fed.writers.shape == (BATCHES, 8)
    apply_q = jax.jit(lambda params, obs: parts.head.q_values(parts.network.apply(params, obs, None, "greedy")))
    errors, q_all, repeats = [], [], []
    for k in range(BATCHES):
        batch = jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]), fed.batch)
        q, q_t, q_online = (
            np.asarray(apply_q(params, obs))
            for params, obs in (
                (lane.learner.params, batch.obs_tm1),
                (lane.learner.target_params, batch.obs_t),
                (lane.learner.params, batch.obs_t),
            )
        )
        q_all.append(q)
        for i in range(8):
            y = batch.r_t[i] + batch.discount_t[i] * q_t[i, q_online[i].argmax()]
            errors.append(abs(y - q[i, batch.a_tm1[i]]))
        drawn = list(zip(np.asarray(fed.times[k]).tolist(), np.asarray(fed.writers[k]).tolist(), strict=True))
        repeats.append(1 - len(set(drawn)) / 8)
    np.testing.assert_allclose(found.td_percentiles, np.percentile(errors, (50, 90, 99, 100)), rtol=1e-4)
    np.testing.assert_allclose(found.td_linear_share, np.mean(np.array(errors) > 1.0))
    np.testing.assert_allclose(found.q_rms, np.sqrt(np.mean(np.square(q_all))), rtol=1e-5)
    np.testing.assert_allclose(found.q_abs_max, np.abs(q_all).max(), rtol=1e-5)
    np.testing.assert_allclose(found.replay_duplicates, np.mean(repeats))
    np.testing.assert_allclose(found.replay_age, np.mean(written - np.asarray(fed.times)) * 4)
    online, behind = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
        for tree in (lane.learner.params, lane.learner.target_params)
    )
    np.testing.assert_allclose(found.target_distance, np.linalg.norm(online - behind) / np.linalg.norm(online), 1e-5)
    assert found.target_moved == 0.0 and found.target_sync_error == 0.0
    assert 0.0 < found.q_jump < 0.5 and found.grad_percentiles[0] > 0.0
    assert found.episode_lengths[0] >= 8 and found.start_return >= 7.0


def test_policy_churn_counts_greedy_actions_that_one_update_changes(patient, examiner):
    """Of a step size that changes some: from the parameters before and after each update, in NumPy."""
    settings, parts, _, state = patient
    hypers = dataclasses.replace(settings.hypers, learning_rate=0.03)
    words, h = key_words(3, 60), hypers.as_arrays()
    subject = subject_of(state)
    learner = take_lane(subject.learner, 0)
    fed = examiner.look_replay(subject.memory, 0, words[0], h)
    probed = examiner.probe(subject.learner, 0, fed, words[1], h)
    update = jax.jit(replay_update(settings.config, parts))
    greedy = jax.jit(lambda params, obs: parts.head.q_values(parts.network.apply(params, obs, None, "greedy")))
    counts = probe_counts(settings.config, h, learner.updates.count)
    key = jax.random.wrap_key_data(words[1], impl=KEY_IMPL)
    for k in range(BATCHES):
        batch, weight = jax.tree.map(lambda leaf, k=k: leaf[k], (fed.batch, fed.weight))
        one = Fed(fed.window, batch, weight)
        after, _, _ = update(learner.replace(updates=Counter(counts[k])), one, jax.random.fold_in(key, k), h)
        before, new = (np.asarray(greedy(p, batch.obs_tm1)).argmax(axis=1) for p in (learner.params, after.params))
        np.testing.assert_allclose(probed.churn[k], np.mean(before != new))
    assert 0.0 < np.mean(probed.churn) < 1.0


def test_start_returns_are_discounted_and_truncated_ones_go_on(patient, examiner):
    """In CartPole a terminated episode of T steps is worth (1 - γ^T) / (1 - γ) from its start."""
    _, _, _, state = patient
    found = examiner.examine(subject_of(state), 0, 60)
    low, mean, high = found.episode_lengths
    assert found.episodes_terminated == 1.0
    worth = [(1 - 0.99**length) / (1 - 0.99) for length in (low, mean, high)]
    assert worth[0] - 1e-3 <= found.start_return <= worth[2] + 1e-3


def test_target_updates_are_tried_both_when_due_and_when_not():
    config = Config(total_steps=100_000)
    for updates, period in ((0, 50), (49, 50), (48, 50), (3, 2), (10, 1_000_000)):
        counts = np.asarray(probe_counts(config, Hypers(target_period=period).as_arrays(), np.int32(updates)))
        assert ((counts[:BATCHES] + 1) % period != 0).all() and (counts[BATCHES] + 1) % period == 0
        assert (counts >= updates).all()
    late = np.asarray(probe_counts(config, Hypers().as_arrays(), np.int32(config.num_updates)))
    assert late[0] <= config.num_updates // 2 + 1, "a rate that has fallen to zero would hide everything"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"learning_rate": 1.0}, "q-jumps"),
        ({"huber_delta": 1e-3}, "errors-clipped"),
        ({"target_period": 1}, "target"),
    ],
)
def test_a_broken_setting_is_named_and_nothing_else(patient, examiner, changes, name):
    settings, parts, _, state = patient
    broken = dataclasses.replace(settings, hypers=dataclasses.replace(settings.hypers, **changes))
    sick = Examiner(broken, parts)
    # Hypers are traced: what is compiled serves all of them.
    vars(sick).update(look_replay=examiner.look_replay, probe=examiner.probe, play=examiner.play)
    vitals = sick.examine(subject_of(state), 0, 60)
    assert alarms_in(judge({3: Case(vitals, broken.config, broken.hypers, [])})) == [name]


def test_the_settings_of_the_broken_ones_are_healthy(patient, examiner, count_compilations):
    settings, _, _, state = patient
    vitals = examiner.examine(subject_of(state), 0, 60)
    compiled = count_compilations()
    again = examiner.examine(subject_of(state), 0, 60)
    assert alarms_in(judge({3: Case(vitals, settings.config, settings.hypers, [])})) == []
    assert again == vitals and count_compilations() == compiled


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run of two seeds, without and with the doctor, whose target network is none; and what that said."""
    root = tmp_path_factory.mktemp("runs")
    flags = [*SMALL, "--seeds", "2", "--target-period", "1", "--eval-every", "200"]
    assert train.main([*flags, "--quiet", "--out", str(root / "plain")]) == 0
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert train.main([*flags, "--doctor", "--out", str(root / "watched")]) == 0
    (root / "said").write_text(said.getvalue())
    return root


@pytest.mark.slow
def test_a_watched_run_is_bit_for_bit_the_same(runs):
    from purejaxdqn.runs.checkpoint import load_checkpoint

    plain, watched = (load_checkpoint(runs / name / "checkpoints") for name in ("plain", "watched"))
    assert (runs / "plain" / METRICS).read_bytes() == (runs / "watched" / METRICS).read_bytes()
    for before, after in ((plain.state, watched.state), (plain.policy["best"], watched.policy["best"])):
        assert before.keys() == after.keys()
        assert all((before[name] == after[name]).all() for name in before)


def test_a_watched_run_keeps_its_history(runs):
    report = json.loads((runs / "watched" / REPORT).read_text())
    assert [moment["env_steps"] for moment in report["moments"]] == [40, 200, 400]
    assert {finding["name"] for finding in report["findings"]} == {check.name for check in CHECKS}
    last = report["moments"][-1]
    assert set(last["vitals"]) == {"0", "1"} and last["vitals"]["0"] != last["vitals"]["1"]
    assert last["vitals"]["0"]["replay_fill"] == 1.0
    assert not (runs / "plain" / REPORT).exists()


def test_an_alarm_is_printed_once(runs):
    said = (runs / "said").read_text()
    assert said.count("alarm: target") == 1 and "doctor: alarms of target" in said


def test_a_resumed_run_keeps_the_moments_before_it(tmp_path):
    moments = [{"env_steps": steps, "alarms": ["target"], "vitals": {}} for steps in (40, 200, 400)]
    (tmp_path / REPORT).write_text(json.dumps({"moments": moments}))
    assert earlier_moments(tmp_path, 400) == moments[:2]
    (tmp_path / REPORT).write_text("{")
    assert earlier_moments(tmp_path, 400) == []


@pytest.mark.slow
def test_the_command_names_checks_and_changes_nothing(runs, capsys):
    folder = runs / "plain"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert command.main([str(folder), "--json", "--episodes", "3", "--no-compilation-cache"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["env_steps"] == 400 and set(found["vitals"]) == {"0", "1"}
    assert [finding["name"] for finding in found["findings"]] == [check.name for check in CHECKS]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert alarms_in(Finding(**finding) for finding in found["findings"]) == ["target"]


def test_a_person_gets_a_table_and_what_to_try(patient):
    settings, _, _, _ = patient
    findings = judge(
        {3: Case(HEALTHY, Config(), Hypers(), []), 4: Case(HEALTHY, Config(), Hypers(target_period=1), [])}
    )
    console = Console(record=True, width=100, file=io.StringIO())
    command.show(console, settings, 400, findings)
    said = " ".join(console.export_text().split())
    assert "CartPole-v1, 2 seeds, at 400 environment steps" in said and said.endswith("1 alarm")
    assert said.count("alarm: target") == 1 and "(seeds 4)" in said and "docs/doctor.md#target" in said


@pytest.mark.slow
def test_a_run_without_a_checkpoint_is_examined_at_its_start(patient, tmp_path):
    """One that diverged in its first chunk."""
    settings, _, _, _ = patient
    config = settings.config.replace(optimizer="sgd")
    settings = dataclasses.replace(settings, config=config, hypers=Hypers(learning_rate=1e3))
    steps, vitals, found = command.examine(tmp_path, settings, [1], 4)
    assert steps == 40 and list(vitals) == [4] and vitals[4].replay_fill == 40 / 200
    assert alarms_in(found) == ["q-jumps"]


@pytest.mark.long
def test_a_rollout_learner_is_examined_as_far_as_it_goes(tmp_path):
    flags = ["--algo", "pqn", "--total-steps", "512", "--num-envs", "4", "--rollout-length", "16"]
    flags += ["--num-minibatches", "4", "--hidden", "8", "--eval-episodes", "2", "--eval-every", "512", "--quiet"]
    assert train.main([*flags, "--no-compilation-cache", "--doctor", "--out", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / REPORT).read_text())
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["target"]["severity"] == found["replay"]["severity"] == "not applicable"
    assert found["q-jumps"]["severity"] == found["observations"]["severity"] == "ok"
    vitals = report["moments"][-1]["vitals"]["0"]
    assert vitals["followed_steps"] > 80 and vitals["td_percentiles"][3] > 0.0 and vitals["target_moved"] is None


@pytest.mark.long
@pytest.mark.slow
def test_environments_on_the_host_are_not_played(tmp_path):
    pytest.importorskip("envpool")
    flags = [*SMALL, "--quiet", "--env", "envpool/CartPole-v1", "--eval-every", "400"]
    assert train.main([*flags, "--doctor", "--out", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / REPORT).read_text())
    found = {finding["name"]: finding["severity"] for finding in report["findings"]}
    assert found["episodes"] == found["overestimation"] == "not looked at"
    assert found["q-jumps"] == found["replay"] == "ok"
    # The checkpoint keeps no replay, so nothing is compiled and only the history is judged.
    settings, _, _ = read_config(tmp_path / "run")
    steps, _, findings = command.examine(tmp_path / "run", settings, [0], 4)
    with pytest.raises(SettingError, match="no checkpoint yet"):
        command.examine(tmp_path, settings, [0], 4)
    assert steps == 400 and {f.name for f in findings if f.severity != "not looked at"} <= {
        "trend",
        "errors-clipped",
        "ends",
    }


def test_bad_input_is_one_sentence(runs, tmp_path, capsys):
    assert "no such folder" in refused(capsys, command.main, [str(tmp_path / "nowhere")])
    assert "config.json" in refused(capsys, command.main, [str(tmp_path)])
    assert "--seed-index 2" in refused(capsys, command.main, [str(runs / "plain"), "--seed-index", "2"])
    assert "--episodes 0" in refused(capsys, command.main, [str(runs / "plain"), "--episodes", "0"])
    damaged = tmp_path / "damaged"
    shutil.copytree(runs / "plain", damaged)
    for path in (damaged / "checkpoints").rglob("*"):
        if path.is_file() and "state" in path.parts:
            path.write_bytes(b"")
    said = refused(capsys, command.main, [str(damaged), "--no-compilation-cache"])
    assert said.startswith("purejaxdqn-doctor: --run") and "is not the file that was saved" in said


@pytest.mark.parametrize(
    ("changes", "severity", "words"),
    [
        ({}, "ok", ["time limits do not"]),
        ({"mask_terminals": False}, "note", ["bootstrap where an episode terminated"]),
        ({"bootstrap_truncation": False}, "note", ["time limit counts as the end"]),
    ],
)
def test_ends_are_told_from_the_settings(changes, severity, words):
    found = findings_of(config=Config(loss="huber", **changes))["ends"]
    assert found.severity == severity and all(word in found.sentence() for word in words)


def test_what_was_obtained_is_in_the_learners_rewards():
    """Else a run with scaled rewards would seem to overestimate them."""
    played = {}
    for scale in (1.0, 10.0):
        parts = build(Config(reward_scale=scale, hidden=(4,)))
        params = parts.network.init(jax.random.key(0))
        found = make_play(parts, 0.9, 4)(params, jax.random.key(1), Hypers(gamma=0.9).as_arrays())
        played[scale] = np.asarray(found.discounted_return), np.asarray(found.start_q), np.asarray(found.terminated)
    assert played[1.0][2].all(), "an untrained network's pole falls, so that nothing of Q is in what was obtained"
    np.testing.assert_allclose(played[10.0][0], 10.0 * played[1.0][0], rtol=1e-5)
    np.testing.assert_array_equal(played[10.0][1], played[1.0][1])


def test_what_was_obtained_is_in_units_of_a_normalised_reward():
    """With a variance of 16 and no larger reward than 1, a reward counts a quarter."""
    parts = build(Config(normalize_reward=True, hidden=(4,)))
    params = parts.network.init(jax.random.key(0))
    scaled = {**params, RUNNING: {"reward": RewardScale(Moments(9.0, 0.0, 16.0), 1.0)}}
    play, h = make_play(parts, 0.9, 4), Hypers(gamma=0.9).as_arrays()
    plain, found = (play(p, jax.random.key(1), h) for p in (params, jax.tree.map(np.float32, scaled)))
    assert np.asarray(plain.terminated).all()
    np.testing.assert_allclose(found.discounted_return, np.asarray(plain.discounted_return) / 4.0, rtol=1e-5)


def test_inputs_and_rewards_are_seen_as_a_normalised_run_reads_them():
    """1,020 is two deviations of 10 beyond 1,000, and a reward of 3 is 1.5 units; what is constant still is."""
    obs = np.array([[[1020.0, 1.0]], [[990.0, 1.0]]], np.float32)
    no, reward = np.zeros((2, 1), bool), np.array([[3.0], [0.0]], np.float32)
    window = Stored(obs, np.zeros((2, 1), np.int32), reward, no, no, ~no)
    fed = Fed(window, Transition(obs, *(np.zeros(2) for _ in range(3)), obs), np.ones(2))
    spec = EnvSpec("Test-v0", 2, (2,), "float32", None, 9)
    moments = Moments(np.float32(9), np.array([1e3, 1.0], np.float32), np.array([100.0, 0.0], np.float32))
    scale = RewardScale(Moments(np.float32(9), np.float32(0), np.float32(4)), np.float32(3))
    plain = input_vitals(fed, Config(), spec, {})
    found = input_vitals(fed, Config(), spec, {"obs": moments, "reward": scale})
    assert (plain["input_min"], plain["input_max"], plain["reward_abs_max"]) == (1.0, 1020.0, 3.0)
    np.testing.assert_allclose(
        [found["input_min"], found["input_max"], found["reward_abs_max"]], [-1.0, 2.0, 1.5], 1e-5
    )
    assert found["obs_dead_dims"] == plain["obs_dead_dims"] == 1


def test_values_of_earlier_units_are_no_alarm():
    """Q of 900 lies far beyond what rewards of 1 add up to; of a normalised run it is not known what they were then."""
    history = [{"q_value": "900.0"}]
    assert findings_of(history=history)["q-bounds"].severity == "alarm"
    assert findings_of(config=Config(normalize_reward=True), history=history)["q-bounds"].severity == "ok"


@pytest.mark.long
def test_a_rollout_learner_is_looked_at_as_it_is_told():
    """The same steps with other rewards and ends: those of the learner, in the rows, the batches and the window."""
    looked = []
    told = {"reward_scale": 10.0, "last_step_reward": -5.0, "mask_terminals": False}
    for changes in ({}, told):
        config = Config(learner="rollout", num_envs=4, rollout_length=16, num_minibatches=2, hidden=(4,), **changes)
        parts = build(config)
        env, _ = parts.env.reset(jax.random.key(0), 4)
        params = parts.network.init(jax.random.key(1))
        look = jax.jit(make_look_rollout(config, parts))
        looked.append(look(env, params, np.int32(0), jax.random.key(2), Hypers(gamma=0.9).as_arrays()))
    plain, found = looked
    np.testing.assert_array_equal(found.window.obs, plain.window.obs)
    ended = np.asarray(plain.window.terminated)
    assert ended.any() and not ended.all()
    reward = np.where(ended, -50.0, 10.0)
    for rewards in (found.window.reward, found.batch.r_t, found.rows.reward):
        np.testing.assert_array_equal(np.ravel(rewards), np.ravel(reward))
    assert not np.asarray(found.window.terminated).any() and not np.asarray(found.rows.terminated).any()
    np.testing.assert_array_equal(found.window.truncated, ended)
    np.testing.assert_allclose(found.batch.discount_t, 0.9)
