"""EnvPool by the command lines: what a run leaves, how it goes on, and what is refused."""

import json

import numpy as np
import pytest
from command_lines import refused

from purejaxdqn import evaluate, train
from purejaxdqn.build import build
from purejaxdqn.loops import host_lanes
from purejaxdqn.recipes.recipes import PROTOCOL_ALGOS, RECIPES, default_recipe, make_settings, protocol_of
from purejaxdqn.runs.folder import CHECKPOINTS, CONFIG, CURVE, METRICS, MP4, SCORES, SUMMARY
from purejaxdqn.runs.policy import load_policy
from purejaxdqn.runs.records import MARKS, note_scores

envpool = pytest.importorskip("envpool")

SMALL = ["--env", "envpool/CartPole-v1", "--total-steps", "400", "--num-envs", "4", "--learning-starts", "40"]
SMALL += ["--buffer-size", "200", "--batch-size", "8", "--hidden", "8", "--eval-episodes", "3"]
SMALL += ["--no-compilation-cache", "--quiet"]
ATARI = ["--env", "Breakout-v5", "--total-steps", "400", "--num-envs", "4", "--learning-starts", "40"]
ATARI += ["--buffer-size", "400", "--batch-size", "8", "--network", "mlp", "--hidden", "8", "--eval-episodes", "2"]
ATARI += ["--env-params.max-episode-steps", "60", "--no-compilation-cache", "--quiet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on EnvPool's CartPole."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train.main([*SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def atari_run(tmp_path_factory):
    """A finished run on an Atari game, cut short, whose checkpoint holds the replay."""
    folder = tmp_path_factory.mktemp("runs") / "atari"
    assert train.main([*ATARI, "--checkpoint-replay", "--out", str(folder)]) == 0
    return folder


def rows_of(folder):
    return (folder / METRICS).read_text().splitlines()


def test_a_run_leaves_everything_it_promises(run):
    for name in (CONFIG, METRICS, SUMMARY, CURVE, MP4):
        assert (run / name).stat().st_size > 100, name
    assert (run / MP4).read_bytes()[4:8] == b"ftyp"
    summary = json.loads((run / SUMMARY).read_text())
    assert summary["evaluation"][0]["last_mean_return"] >= 8 and summary["env_steps_per_seed"] == 400
    assert "environments on the host" in summary["plan"]


@pytest.mark.long
def test_a_game_leaves_its_picture_too(atari_run):
    """The very stack that the network is fed: four frames beside each other, 84 by 336."""
    events = next((atari_run / "tensorboard").glob("events*")).read_bytes()
    assert b"input/frames" in events
    width, height = (int.from_bytes(events[(at := events.index(b"IHDR") + 4) + i : at + i + 4], "big") for i in (0, 4))
    assert (width, height) == (4 * 84, 84)


def test_evaluation_and_the_policy_elsewhere(run, tmp_path, capsys):
    video, gif = tmp_path / "x.mp4", tmp_path / "x.gif"
    flags = ["--episodes", "5", "--epsilon", "0.05", "--json", "--mp4", str(video), "--gif", str(gif), "--no-q-values"]
    assert evaluate.main([str(run), *flags, "--no-compilation-cache"]) == 0
    found = json.loads(capsys.readouterr().out)["seeds"][0]
    assert found["episodes"] == 5 and found["mean_return"] >= 8
    assert video.stat().st_size > 500 and gif.read_bytes()[:3] == b"GIF"
    policy = load_policy(run)
    assert policy(np.zeros((3, 4), np.float32)).shape == (3,)


@pytest.mark.long
def test_a_run_goes_on_with_new_games(run):
    """Further than before, with the rows of the metrics from where they stood; the replay is filled anew."""
    before = rows_of(run)
    assert train.main(["--resume", str(run), "--total-steps", "600", "--quiet", "--no-compilation-cache"]) == 0
    after = rows_of(run)
    assert after[: len(before)] == before and len(after) > len(before)
    assert json.loads((run / SUMMARY).read_text())["env_steps_per_seed"] == 600


def test_a_run_goes_on_with_its_replay(atari_run, capsys):
    """As saved; a checkpoint of which a file is damaged is refused and stays as it is."""
    flags = ["--resume", str(atari_run), "--total-steps", "500", "--quiet", "--no-compilation-cache"]
    assert train.main(flags) == 0
    step = max((atari_run / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    largest = max(
        (path for path in (step / "state").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    whole = largest.read_bytes()
    largest.write_bytes(whole[: len(whole) // 2])
    flags[3] = "600"
    sentence = refused(capsys, train.main, flags)
    assert sentence.startswith(f"purejaxdqn-train: --resume {atari_run}: ") and "begin a new run" in sentence
    largest.write_bytes(whole)


@pytest.mark.long
def test_training_games_as_the_score(tmp_path, capsys):
    """With --eval-episodes 0 nothing is played for the score, and the newest games of training are it."""
    folder = tmp_path / "run"
    flags = [flag for flag in SMALL if flag != "--quiet"]
    assert train.main([*flags, "--eval-episodes", "0", "--out", str(folder)]) == 0
    assert "newest 100 episodes of training" in " ".join(capsys.readouterr().out.split())
    entry = json.loads((folder / SUMMARY).read_text())["evaluation"][0]
    returns = [float(row.split(",")[4]) for row in rows_of(folder)[1:] if row.split(",")[4]]
    assert 8 < entry["last_mean_return"] < 60 and returns


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--env", "Pung-v5"], ["--env Pung-v5", "Pong-v5"]),
        (["--env", "Ant-v5"], ["--env Ant-v5", "discrete"]),
        (["--env", "envpool/CartPol-v1"], ["CartPole-v1"]),
        (["--env", "Pong-v5", "--learning-starts", "0"], ["--learning-starts 0", "stacked with 3", "use at least 56"]),
        (["--env", "Pong-v5", "--seeds", "2"], ["--seeds 2", "one seed", "use 1"]),
        (["--env", "Pong-v5", "--env-params.noop-max", "0"], ["--env-params.noop-max 0", "at least 1"]),
        (["--env", "Pong-v5", "--num-envs", "9", "--env-params.num-groups", "2"], ["--num-envs 9", "multiple"]),
        (["--env", "Pong-v5", "--buffer-size", "100000000"], ["--buffer-size 100000000", "GB", "use at most"]),
        (["--env", "Pong-v5", "--algo", "pqn", "--replay-memory", "host"], ["--replay-memory host", "keeps no replay"]),
        (["--env", "CartPole-v1", "--no-overlap"], ["--overlap False", "an environment of gymnax", "EnvPool"]),
        (["--env", "CartPole-v1", "--checkpoint-replay"], ["--checkpoint-replay", "always saves"]),
        (["--env", "CartPole-v1", "--eval-episodes", "0"], ["--eval-episodes 0", "at least 1"]),
        (["--env", "Pong-v5", "--eval-epsilon", "2"], ["--eval-epsilon 2", "[0, 1]"]),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(args, words, capsys, tmp_path):
    sentence = refused(capsys, train.main, [*args, "--out", str(tmp_path / "run")])
    assert [word for word in words if word not in sentence] == [], sentence
    assert not (tmp_path / "run").exists()


def test_a_replay_that_does_not_fit_says_what_would(monkeypatch, capsys, tmp_path):
    """With 2 GB free, of which the replay may take four fifths: 7,200 bytes a frame at the most."""
    monkeypatch.setattr(host_lanes, "available_bytes", lambda: 2_000_000_000)
    sentence = refused(
        capsys, train.main, ["--env", "Pong-v5", "--buffer-size", "1000000", "--out", str(tmp_path / "run")]
    )
    assert "takes 7.1 GB, and 1.6 GB are free here" in sentence and "--replay-memory host" in sentence
    most = int(sentence.split("use at most ")[1].split()[0].rstrip(","))
    assert 220_000 < most < 1.6e9 / 7_056


def test_without_envpool_its_games_name_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "envpool", None)
    from purejaxdqn.envs import envpool as adapter

    adapter.find_spec.cache_clear()
    assert "purejaxdqn[atari]" in refused(capsys, train.main, ["--env", "Pong-v5"])
    adapter.find_spec.cache_clear()


@pytest.mark.parametrize("algo", PROTOCOL_ALGOS)
def test_the_two_protocols_stay_apart(algo):
    """Each recipe keeps to its own on any game, and the two differ in the environment alone."""
    nature, sticky = (make_settings(RECIPES[f"{name}-{algo}"], "Breakout-v5") for name in ("nature", "sticky"))
    assert protocol_of(nature[0]) == "nature" and protocol_of(sticky[0]) == "sticky"
    assert nature[0].replace(env_params=()) == sticky[0].replace(env_params=()) and nature[1] == sticky[1]
    assert dict(sticky[0].env_params)["repeat_action_probability"] == 0.25
    mixed = sticky[0].replace(env_params=(("repeat_action_probability", 0.25),))
    assert protocol_of(mixed) is None
    # The ε of evaluations is the algorithm's: tests/recipes/test_atari.py.
    assert RECIPES[f"nature-{algo}"].run["eval_episodes"] == 30 and RECIPES[f"sticky-{algo}"].run["eval_episodes"] == 0


def test_what_the_protocols_make_of_a_game():
    """Breakout has 4 actions of its own, and 18 with the full set; the caps and frames are the same."""
    specs = [build(make_settings(RECIPES[f"{name}-dqn"], "Breakout-v5")[0]).env.spec for name in ("nature", "sticky")]
    assert [spec.num_actions for spec in specs] == [4, 18]
    assert specs[0]._replace(num_actions=18) == specs[1] and specs[0].obs_shape == (84, 84, 4)


def test_default_recipes():
    """Games have one of their own; EnvPool's CartPole is the same task as gymnax's."""
    assert default_recipe("Pong-v5").name == "atari"
    assert default_recipe("envpool/CartPole-v1").name == "cartpole"
    assert default_recipe("envpool/Taxi-v3").name == "vector"


def test_scores_are_written_as_they_pass(atari_run, tmp_path):
    """Two marks, then another one; a mark that is passed again (by a run that went back) is written over."""
    from purejaxdqn.runs.folder import read_config

    settings, _, _ = read_config(atari_run)
    note_scores(tmp_path, settings, [10_000_000, 40_000_000], 10_000_000, 16.1)
    note_scores(tmp_path, settings, [40_000_000, 50_000_000], 12_500_000, 30.5)
    found = json.loads((tmp_path / SCORES).read_text())
    assert [entry["frames"] for entry in found["scores"]] == [10_000_000, 40_000_000, 50_000_000]
    # Breakout: random 1.7, human 30.5, so 16.1 is half way.
    assert [entry["human_normalized"] for entry in found["scores"]] == pytest.approx([0.5, 1.0, 1.0])
    assert found["protocol"] == "nature" and MARKS[0] == 10_000_000


def test_a_run_without_any_return_ends_well(tmp_path, capsys):
    """No evaluation was asked for and no episode ended: no curve, no score, and everything else."""
    folder = tmp_path / "run"
    small = [*SMALL, "--eval-episodes", "0", "--total-steps", "60", "--learning-starts", "40", "--num-envs", "10"]
    assert train.main([*[word for word in small if word != "--quiet"], "--out", str(folder)]) == 0
    evaluation = json.loads((folder / SUMMARY).read_text())["evaluation"][0]
    assert evaluation["last_mean_return"] is None and evaluation["best_mean_return"] is None
    assert not (folder / CURVE).exists() and (folder / MP4).exists()
    assert CURVE not in capsys.readouterr().out
