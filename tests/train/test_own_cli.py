"""The page docs/own-environment.md by the command lines: a file of thirty lines through everything that a run has."""

import json
import signal
import sys

import jax
import numpy as np
import pytest
from command_lines import refused
from doors import SMALL, blocks, write_files

from purejaxdqn import evaluate, load_policy, train
from purejaxdqn.build import build, build_model
from purejaxdqn.config import Config
from purejaxdqn.doctor.command import main as doctor
from purejaxdqn.machine.imports import IMPORTED, import_source
from purejaxdqn.report.command import main as report
from purejaxdqn.runs.checkpoint import from_flat, load_checkpoint
from purejaxdqn.runs.folder import CHECKPOINTS, CONFIG, METRICS, MP4, SUMMARY, read_config
from purejaxdqn.sweep.command import main as sweep
from purejaxdqn.train import display

pytestmark = pytest.mark.usefixtures("own_parts")

CELLS = np.eye(8, dtype=np.float32)
FILES = [
    pytest.param("corridor.py", 2, CELLS, marks=pytest.mark.long),
    ("walls.py", 3, {"cell": CELLS, "way": np.arange(8, dtype=np.float32) / 8}),
]
"""Files of the page, their numbers of actions, and observations of all cells; the second's are dicts, and masked."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder at hand, with the page's files."""
    monkeypatch.chdir(tmp_path)
    return write_files(tmp_path)


@pytest.fixture
def interrupted(monkeypatch):
    """Has a signal sent while a run shows its second chunk."""

    class Listener(display.Silent):
        chunks = 0

        def chunk(self, report):
            self.chunks += 1
            if self.chunks == 2:
                signal.raise_signal(signal.SIGTERM)

    def set_up():
        monkeypatch.setattr(display, "make_display", lambda quiet: Listener())

    return set_up


@pytest.mark.slow
@pytest.mark.parametrize(("file", "num_actions", "obs"), FILES)
def test_a_file_of_thirty_lines_has_everything_that_cartpole_has(
    file, num_actions, obs, here, interrupted, capsys, monkeypatch
):
    corridor = ["--env", f"{file}:make_env", "--env-params.length", "8"]
    assert train.main([*corridor, *SMALL, "--out", "whole"]) == 0
    config = json.loads((here / "whole" / CONFIG).read_text())
    assert config["imports"] == [file] and config["config"]["env_params"] == {"length": 8}
    masked = num_actions == 3
    assert config["env_spec"]["obs_shape"] == ({"cell": [8], "way": []} if masked else [8])
    assert config["env_spec"]["masked"] is masked and config["env_spec"]["own_loop"] == "device"
    assert (here / "whole" / "policy.gif").stat().st_size > 100

    # Stopped, it says how to go on; resumed, it is the run that nobody stopped.
    interrupted()
    assert train.main([*corridor, *SMALL, "--out", "stopped"]) == 143
    assert f"--resume stopped --import {file}" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    more = ["--import", file, "--no-compilation-cache"]
    assert train.main(["--resume", "stopped", *more, "--quiet"]) == 0
    assert (here / "stopped" / METRICS).read_bytes() == (here / "whole" / METRICS).read_bytes()
    policies = [load_policy(name, which="last") for name in ("whole", "stopped")]
    np.testing.assert_array_equal(*(policy.q_values(obs) for policy in policies))

    capsys.readouterr()
    assert evaluate.main(["whole", *more, "--episodes", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"][0]["episodes"] == 4
    assert doctor(["whole", *more, "--episodes", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vitals"]["0"]["obs_dtype"] == "float32"

    # A folder imports nothing: what plays asks for it, a policy and a report do without.
    IMPORTED.clear()
    for main, args in ((evaluate.main, ["whole"]), (doctor, ["whole"]), (train.main, ["--resume", "whole"])):
        assert f"--import {file}: it was trained with it" in refused(capsys, main, args)
    policy, first = load_policy("whole"), jax.tree.map(lambda leaf: leaf[0], obs)
    assert policy.q_values(obs).shape == (8, num_actions)
    for only in range(num_actions):
        mask = np.arange(num_actions) == only
        assert policy(first, mask) == only and (policy(obs, np.tile(mask, (8, 1))) == only).all()
    if masked:
        with pytest.raises(ValueError, match=r"policy\(obs, mask\)"):
            policy(obs)
    else:
        assert policy(obs).shape == (8,)
    assert report(["whole"]) == 0 and (here / "whole" / "report.html").stat().st_size > 1_000


@pytest.mark.long
@pytest.mark.parametrize("file", ["corridor.py", "walls.py"])
def test_a_file_of_thirty_lines_is_swept(file, here, capsys):
    corridor = ["--env", f"{file}:make_env", "--env-params.length", "8"]
    varied = ["--learning-rate", "1e-3", "3e-3", "--gamma", "0.9", "0.99", "--seeds", "1"]
    assert sweep([*corridor, *SMALL, *varied, "--no-report", "--out", "swept"]) == 0
    assert len(json.loads((here / "swept" / SUMMARY).read_text())["ranking"]) == 4
    IMPORTED.clear()
    assert f"--import {file}" in refused(capsys, train.main, ["--recipe", "swept/best.toml", "--quiet"])
    assert f"--import {file}" in refused(capsys, sweep, ["--resume", "swept", "--quiet"])


def stopped_and_resumed(words, whole, more, here, interrupted, monkeypatch):
    """Stops a run and goes on with it: metrics.csv and state are the whole run's, byte for byte. Returns the state."""
    interrupted()
    assert train.main([*words, "--out", "stopped"]) == 143
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert train.main(["--resume", "stopped", *more, "--quiet"]) == 0
    assert (here / "stopped" / METRICS).read_bytes() == (here / whole / METRICS).read_bytes()
    states = [load_checkpoint(here / name / CHECKPOINTS).state for name in (whole, "stopped")]
    assert states[0].keys() == states[1].keys()
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])
    return states[0]


@pytest.mark.long
def test_a_dict_observation_goes_through_all_of_it(here, interrupted, capsys, monkeypatch):
    """The page's room: trained, stopped and resumed byte for byte, examined, drawn, reported and loaded as it shows."""
    room = ["--env", "room.py:make_env", "--env-params.size", "4", *SMALL]
    assert train.main([*room, "--out", "runs/room"]) == 0
    spec = json.loads((here / "runs/room" / CONFIG).read_text())["env_spec"]
    assert spec["obs_shape"] == {"map": [4, 4, 2], "facing": [], "time": []}
    assert (here / "runs/room/policy.gif").stat().st_size > 100
    more = ["--import", "room.py", "--no-compilation-cache"]
    state = stopped_and_resumed(room, "runs/room", more, here, interrupted, monkeypatch)
    assert sum("['map']" in name for name in state) == 3
    capsys.readouterr()
    assert evaluate.main(["runs/room", *more, "--episodes", "4", "--json"]) == 0
    assert doctor(["runs/room", *more, "--episodes", "4", "--json"]) == 0
    vitals = json.loads(capsys.readouterr().out.splitlines()[-1])["vitals"]["0"]
    assert vitals["obs_dtype"] == "int32, uint8, float32" and vitals["input_max"] == 1.0 and vitals["obs_dims"] == 34
    IMPORTED.clear()
    assert report(["runs/room"]) == 0
    names = {}
    exec(next(block for block in blocks() if "load_policy" in block), names)
    assert names["action"] in (0, 1, 2)
    batch = {"map": np.zeros((5, 4, 4, 2)), "facing": [0, 1, 2, 3, 0], "time": np.ones(5)}
    assert names["policy"].q_values(batch).shape == (5, 3)
    with pytest.raises(ValueError, match=r"an observation \(map\) has the shape \(4, 4, 2\)"):
        names["policy"]({**batch, "map": np.zeros((3, 4, 4, 2))})
    with pytest.raises(ValueError, match="an observation has time, and this one has none"):
        names["policy"]({"map": batch["map"], "facing": batch["facing"]})


@pytest.mark.long
def test_a_policy_normalises_as_its_run_did(here, interrupted, capsys, monkeypatch):
    """The page's units: stopped and resumed byte for byte, and a policy is the plain network on numbers that NumPy
    normalised by the statistics that were saved."""
    units = ["--env", "units.py:make_env", "--normalize-obs", "--normalize-reward", *SMALL]
    assert train.main([*units, "--out", "runs/units"]) == 0
    more = ["--import", "units.py", "--no-compilation-cache"]
    state = stopped_and_resumed(units, "runs/units", more, here, interrupted, monkeypatch)
    assert sum("running" in name for name in state) == 14

    settings, spec, _ = read_config(here / "runs/units", "run")
    saved = load_checkpoint(here / "runs/units" / CHECKPOINTS, with_state=False).policy["last"]
    network, head = build_model(settings.config.replace(normalize_obs=False, normalize_reward=False), spec)
    like = jax.eval_shape(network.init, jax.random.key(0))
    params = from_flat({name: leaf[0] for name, leaf in saved.items()}, like)
    count, mean, variance = (saved[f"['running']['obs'].{name}"][0] for name in ("count", "mean", "variance"))
    assert count == 900
    obs = (mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(5, 4))).astype(np.float32)
    entered = np.clip((obs - mean) / np.sqrt(variance + 1e-8), -10, 10)
    expected = head.q_values(network.apply(params, entered, None, "greedy"))
    policy = load_policy("runs/units", which="last")
    np.testing.assert_allclose(policy.q_values(obs), expected, rtol=1e-3, atol=1e-4)
    names = {}
    exec(next(block for block in blocks() if "runs/units" in block), names)
    assert names["action"] in (0, 1)

    capsys.readouterr()
    assert evaluate.main(["runs/units", *more, "--episodes", "4", "--json"]) == 0
    assert doctor(["runs/units", *more, "--episodes", "4", "--json"]) == 0
    vitals = json.loads(capsys.readouterr().out.splitlines()[-1])["vitals"]["0"]
    assert vitals["input_max"] <= 10.0 and 0.0 < vitals["reward_abs_max"] <= 10.0


@pytest.mark.slow
@pytest.mark.parametrize("file", ["climb.py", pytest.param("climbs.py", marks=pytest.mark.long)])
def test_the_pages_environment_of_gymnasium_trains_on_the_host(file, here, capsys):
    small = [word for word in SMALL if word != "900"]
    small.insert(small.index("--total-steps") + 1, "300")
    env = ["--env", f"{file}:make_env", "--env-params.height", "3", "--env-params.num-groups", "2"]
    assert train.main([*env, *small, "--out", "climb"]) == 0
    assert "environments on the host in 2 groups" in json.loads((here / "climb" / SUMMARY).read_text())["plan"]
    assert json.loads((here / "climb" / CONFIG).read_text())["env_spec"]["own_loop"] == "host"
    assert (here / "climb" / MP4).read_bytes()[4:8] == b"ftyp"
    IMPORTED.clear()
    assert f"--import {file}" in refused(capsys, evaluate.main, ["climb"])


def test_the_pages_network_is_made_by_its_name(here):
    import_source("networks.py")
    network = build(Config(network="waves", hidden=(16,))).network
    params = jax.eval_shape(network.init, jax.random.key(0))["params"]
    assert params["Waves_0"]["Dense_0"]["kernel"].shape == (4, 32)
    inputs = [leaf.shape[0] for leaf in jax.tree.leaves(params["Hidden_0"]) if leaf.ndim == 2]
    assert inputs == [32], "the dense layers read the torso's output"


@pytest.mark.slow
def test_the_pages_example_in_python_runs(here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    names = {}
    exec(next(block for block in blocks() if "make_train(" in block), names)
    assert names["metrics"].episodes.shape == (4,) and int(names["metrics"].episodes.sum()) > 100
    assert build(Config(env="corridor", env_params={"length": 5})).env.spec.obs_shape == (5,)
    sys.modules.pop("corridor")


def test_the_pages_networks_are_passed_as_objects(here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    names = {}
    exec(next(block for block in blocks() if "network=Waves" in block), names)
    assert [names[name].config.network for name in ("waves", "quadratic")] == ["Waves", "Quadratic"]


def test_the_page_names_flags_and_commands_that_exist():
    """Each command's words are parsed by the command itself in the tests above; here that none is left out."""
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert {line.split()[2].removeprefix("purejaxdqn.") for line in commands} == {
        *("train", "sweep", "evaluate", "doctor", "report", "check"),
    }


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--env", "no_such.py:make_env"], ["--env no_such.py:make_env", "there is no file no_such.py"]),
        (["--env", "no_such_module_at_all:make"], ["--env no_such_module_at_all:make", "cannot be imported"]),
        (["--env", "corridor.py:make_en"], ["--env corridor.py:make_en", "has no make_en", "make_env"]),
        (["--env", "corridor.py:jax"], ["--env corridor.py:jax", "is no function"]),
        (["--env", "corridor.py:make_env", "--env-params.width", "3"], ["no flag --env-params.width"]),
        (["--env", "corridor.py:make_env", "--env-params.length", "x"], ["--env-params.length x", "whole number"]),
        (["--env", "corridor.py:make_env", "--no-overlap"], ["--overlap False", "device"]),
        (["--import", "no_such.py"], ["--import no_such.py", "there is no file"]),
        (["--import", "broken.py"], ["--import broken.py", "ZeroDivisionError"]),
        (["--env", "broken_factory.py:make_env"], ["--env broken_factory.py:make_env", "raised ValueError: too wide"]),
        (["--env", "broken_factory.py:nothing"], ["--env broken_factory.py:nothing", "its factory gave NoneType"]),
        (["--env", "gymnasium/Pendulum-v1"], ["--env gymnasium/Pendulum-v1", "no discrete actions"]),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(args, words, here, capsys):
    (here / "broken.py").write_text("1 / 0\n")
    code = "def make_env():\n    raise ValueError('too wide')\n\n\ndef nothing(): ...\n"
    (here / "broken_factory.py").write_text(code)
    sentence = refused(capsys, train.main, [*args, "--no-compilation-cache", "--out", "run"])
    assert [word for word in words if word not in sentence] == [], sentence
    assert not (here / "run").exists()
