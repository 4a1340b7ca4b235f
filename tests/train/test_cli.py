"""Command lines: flags from the dataclasses, one sentence per error, and what they leave behind."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from command_lines import refused

from purejaxdqn import cli, evaluate, train
from purejaxdqn.config import Config, SettingError
from purejaxdqn.runs.folder import CONFIG, CURVE, GIF, METRICS, SUMMARY
from purejaxdqn.train.settings import RunOptions
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("shared_programs")

SMALL = ["--total-steps", "400", "--num-envs", "4", "--learning-starts", "40", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--no-compilation-cache"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train.main([*SMALL, "--seeds", "2", "--seed", "3", "--quiet", "--out", str(folder)]) == 0
    return folder


def test_a_run_leaves_everything_it_promises(run):
    for name in (CONFIG, METRICS, SUMMARY, CURVE, GIF):
        assert (run / name).stat().st_size > 100, name
    assert (run / CURVE).read_bytes()[:4] == b"\x89PNG" and (run / GIF).read_bytes()[:3] == b"GIF"
    assert list((run / "tensorboard").glob("events*")) and list((run / "checkpoints").iterdir())
    config = json.loads((run / CONFIG).read_text())
    assert config["config"]["hidden"] == [8] and config["seeds"] == [3, 4]
    assert config["command"].startswith("python -m purejaxdqn.train --total-steps 400")
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_tensorboard_events_hold_what_the_metrics_hold(run):
    events = next((run / "tensorboard").glob("events*")).read_bytes()
    assert b"train/loss" in events and b"eval/return" in events and b"train/epsilon" in events


def test_every_field_is_a_flag_with_help(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for cls in (Config, Hypers, RunOptions):
        docs = cli.field_docs(cls)
        for field in dataclasses.fields(cls):
            name = "env_params.max_steps_in_episode" if field.name == "env_params" else field.name
            assert cli.flag_name(name) in text
            assert len(docs.get(field.name, "")) > 10 or field.name == "env_params", f"{field.name} has no help"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--env", "CartPol-v1"], ["--env CartPol-v1", "CartPole-v1"]),
        (["--env", "Pendulum-v1"], ["--env Pendulum-v1", "continuous"]),
        (["--recipe", "cartpol"], ["--recipe cartpol", "cartpole"]),
        (["--num-envs", "0"], ["--num-envs 0", "at least 1"]),
        (["--num-envs", "ten"], ["--num-envs", "ten"]),
        (["--batch-size", "-3"], ["--batch-size -3", "at least 1"]),
        (["--hidden", "0"], ["--hidden 0", "at least 1"]),
        (["--buffer-size", "5", "--num-envs", "10"], ["--buffer-size 5", "num_envs, 10"]),
        (["--buffer-size", "50", "--batch-size", "64"], ["--buffer-size 50", "batch_size, 64"]),
        (["--buffer-size", "200", "--num-envs", "20", "--n-step", "10"], ["--buffer-size 200", "220"]),
        (["--total-steps", "100"], ["--total-steps 100", "prefill"]),
        (["--gamma", "1.5"], ["--gamma 1.5", "[0, 1]"]),
        (["--epsilon-final", "-0.1"], ["--epsilon-final -0.1", "[0, 1]"]),
        (["--tau", "nan"], ["--tau nan", "[0, 1]"]),
        (["--learning-rate", "-1"], ["--learning-rate -1", "at least 0"]),
        (["--target-period", "0"], ["--target-period 0", "at least 1"]),
        (["--epsilon-fraction", "0"], ["--epsilon-fraction 0", "(0, 1]"]),
        (["--loss", "huber", "--huber-delta", "0"], ["--huber-delta 0", "above 0"]),
        (["--seeds", "0"], ["--seeds 0", "at least 1"]),
        (["--seed", "-1"], ["--seed -1", "at least 0"]),
        (["--network", "minatar-cnn"], ["--network minatar-cnn", "use mlp"]),
        (["--loss", "hubert"], ["--loss", "hubert", "huber"]),
        (["--huber-delta", "2"], ["--huber-delta 2", "--loss squared does not read it", "--loss huber"]),
        (["--head", "c51"], ["--head c51", "categorical"]),
        (["--algo", "rainbo"], ["--algo rainbo", "rainbow"]),
        (["--algo", "fqf", "--loss", "huber"], ["--loss huber", "--head fqf does not read it"]),
        (["--algo", "pqn", "--buffer-size", "50"], ["--buffer-size 50", "--learner rollout does not read it"]),
        (["--algo", "pqn", "--head", "quantile"], ["--head quantile", "--head scalar"]),
        (["--algo", "rainbow", "--head", "scalar", "--v-max=3"], ["--v-max 3", "--head categorical"]),
        (["--algo", "c51", "--v-min", "5", "--v-max", "4"], ["--v-min 5", "v_max, 4"]),
        (["--noisy-sigma", "0.4"], ["--noisy-sigma 0.4", "--no-noisy does not read it", "--noisy"]),
        (["--nun-envs", "3"], ["--nun-envs", "--num-envs"]),
        (["3"], ["'3'"]),
        (["--env-params.max-steps-in-episode", "0"], ["--env-params.max-steps-in-episode 0", "at least 1"]),
        (["--env-params.gravitas", "1"], ["--env-params.gravitas", "--env-params.gravity"]),
        (["--resume", "no-such-run"], ["--resume no-such-run", "no such folder"]),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, train.main, [*args, "--no-compilation-cache"])
    assert all(word in said for word in words), said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--num-envs", "8"], ["--num-envs 8", "was 4"]),
        (["--hidden", "9"], ["--hidden 9", "was 8"]),
        (["--seeds", "3"], ["--seeds 3", "was 2"]),
        (["--env", "Acrobot-v1"], ["--env Acrobot-v1", "CartPole-v1"]),
        (["--total-steps", "300"], ["--total-steps 300", "was 400"]),
        (["--out", "elsewhere"], ["--out elsewhere", "leave the flag out"]),
        (["--env-params.max-steps-in-episode", "9"], ["--env-params"]),
    ],
)
def test_a_resumed_run_refuses_another_program(run, args, words, capsys):
    before = (run / CONFIG).read_text()
    said = refused(capsys, train.main, ["--resume", str(run), *args])
    assert all(word in said for word in words), said
    assert (run / CONFIG).read_text() == before


def test_resume_of_a_foreign_and_of_a_damaged_folder(run, capsys, tmp_path):
    (tmp_path / "foreign").mkdir()
    assert "holds no config.json" in refused(capsys, train.main, ["--resume", str(tmp_path / "foreign")])
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / CONFIG).write_text((run / CONFIG).read_text()[:200])
    assert "damaged" in refused(capsys, train.main, ["--resume", str(damaged)])
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", str(run), str(broken)], check=True)
    for path in (broken / "checkpoints").rglob("d/*"):
        path.write_bytes(b"not what it was")
    said = refused(capsys, train.main, ["--resume", str(broken), "--total-steps", "500"])
    assert f"--resume {broken}" in said and "is not the file that was saved" in said
    assert (broken / CONFIG).read_bytes() == (run / CONFIG).read_bytes()


def test_out_that_holds_a_run_or_cannot_be_made(run, capsys, tmp_path):
    before = sorted(path.name for path in run.iterdir())
    assert "holds a run already" in refused(capsys, train.main, [*SMALL, "--out", str(run)])
    assert sorted(path.name for path in run.iterdir()) == before
    (tmp_path / "file").write_text("")
    said = refused(capsys, train.main, [*SMALL, "--out", str(tmp_path / "file" / "run")])
    assert "cannot be made" in said
    assert "not empty" in refused(capsys, train.main, [*SMALL, "--out", str(tmp_path)])


def test_a_full_disk_is_one_sentence(capsys, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("purejaxdqn.runs.runner.append_rows", full)
    said = refused(capsys, train.main, [*SMALL, "--quiet", "--out", str(tmp_path / "run")])
    assert "No space left on device" in said and "--resume" in said


def test_a_loss_that_diverges_is_one_sentence_with_the_step(capsys, tmp_path):
    args = [*SMALL, "--optimizer", "sgd", "--learning-rate", "1e20", "--max-grad-norm", "inf", "--quiet"]
    said = refused(capsys, train.main, [*args, "--out", str(tmp_path / "run")])
    assert re.search(r"--learning-rate 1e\+20: the loss of seed 0 became (nan|inf) by environment step \d+", said), said


def test_a_finished_run_resumed_longer_goes_on(run, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(run), str(copy)], check=True)
    assert train.main(["--resume", str(copy), "--total-steps", "600", "--quiet"]) == 0
    assert json.loads((copy / SUMMARY).read_text())["env_steps_per_seed"] == 600
    assert (copy / METRICS).read_text().startswith((run / METRICS).read_text())


def test_env_params_reach_the_environment(tmp_path):
    out = str(tmp_path / "run")
    assert train.main([*SMALL, "--env-params.max-steps-in-episode", "7", "--quiet", "--out", out]) == 0
    summary = json.loads((tmp_path / "run" / SUMMARY).read_text())
    assert max(entry["last_mean_return"] for entry in summary["evaluation"]) <= 7


def test_evaluate_prints_json_for_all_seeds(run, capsys):
    assert evaluate.main([str(run), "--json", "--episodes", "3", "--no-compilation-cache"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [seed["seed"] for seed in found["seeds"]] == [3, 4]
    assert all(set(seed) == {"seed", "mean_return", "stderr", "episodes"} for seed in found["seeds"])
    assert all(seed["episodes"] == 3 and seed["mean_return"] > 1 for seed in found["seeds"])


def test_evaluate_one_seed_with_a_gif_and_a_table(run, capsys, tmp_path):
    gif = tmp_path / "x.gif"
    args = [str(run), "--seed-index", "1", "--which", "last", "--epsilon", "0.1", "--gif", str(gif), "--episodes", "2"]
    assert evaluate.main([*args, "--no-compilation-cache"]) == 0
    said = capsys.readouterr().out
    assert "last parameters" in said and " 4 " in said and " 3 " not in said
    assert gif.read_bytes()[:3] == b"GIF"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--seed-index", "2"], ["--seed-index 2", "0 to 1"]),
        (["--episodes", "0"], ["--episodes 0", "at least 1"]),
        (["--epsilon", "2"], ["--epsilon 2", "[0, 1]"]),
        (["--which", "worst"], ["--which", "worst", "best"]),
        (["--gif", "no-folder/x.gif"], ["--gif no-folder/x.gif", "make it first"]),
        (["--gif", "x.mp3"], ["--gif x.mp3", ".gif"]),
    ],
)
def test_evaluate_refuses_in_one_sentence(run, args, words, capsys):
    said = refused(capsys, evaluate.main, [str(run), *args])
    assert all(word in said for word in words), said


def test_evaluate_refuses_a_folder_that_is_no_run(capsys, tmp_path):
    assert "holds no config.json" in refused(capsys, evaluate.main, [str(tmp_path)])


def test_setting_errors_name_the_flag_and_value():
    assert cli.setting_sentence(SettingError("env_params.max_steps", 0, "use 1")) == "--env-params.max-steps 0: use 1"
    assert cli.setting_sentence(SettingError("hidden", (3, 4), "no")) == "--hidden 3 4: no"


@pytest.mark.parametrize(
    ("args", "expected"),
    [(["--env", "a", "--env=b"], "b"), (["--env-x", "a"], None), (["--env"], None), ([], None)],
)
def test_peek_reads_one_flag(args, expected):
    assert cli.peek(args, "--env") == expected


def start(*args):
    """A training process of its own, far longer than the test."""
    command = [
        sys.executable,
        "-m",
        "purejaxdqn.train",
        *SMALL,
        "--total-steps",
        "50000000",
        "--log-every",
        "4000",
        *args,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


@pytest.mark.long
def test_ctrl_c_saves_says_where_and_exits_130(tmp_path):
    folder = tmp_path / "run"
    with start("--out", str(folder)) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and (
            not (folder / METRICS).exists() or len((folder / METRICS).read_text()) < 500
        ):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"--resume {folder}" in errors and "Traceback" not in errors and "saved at" in errors
    assert list((folder / "checkpoints").iterdir())


@pytest.mark.slow
def test_module_exits_with_2_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "purejaxdqn.train", "--env", "Nothing-v0", "--out", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and "--env Nothing-v0" in done.stderr
    assert not (tmp_path / "x").exists()
