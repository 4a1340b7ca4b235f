"""Settings, checked once for command line, Python, files and resumed runs; memory is asked before it is taken."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import jax
import pytest
from command_lines import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.robustness.fuzz import a_config, fuzz_configs, kind_of
from purejaxdqn import cli, evaluate, train
from purejaxdqn.config import Config, SettingError
from purejaxdqn.envs import own
from purejaxdqn.loops import plan
from purejaxdqn.loops.device import make_agent
from purejaxdqn.runs import training
from purejaxdqn.runs.folder import CONFIG, METRICS, read_config
from purejaxdqn.sweep.command import main as sweep_main
from purejaxdqn.sweep.outcome import out_of_memory
from purejaxdqn.train.settings import new_settings

pytestmark = pytest.mark.usefixtures("shared_programs")

SMALL = ["--total-steps", "400", "--num-envs", "4", "--learning-starts", "40", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--no-compilation-cache"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has come to its end."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train.main([*SMALL, "--quiet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--gamma 0.5", "--gamma 0.5: the run has come to its end, so nothing would be trained: lengthen it"),
        ("--checkpoint-every -5", "--checkpoint-every -5: use a whole number of at least 1"),
        ("--checkpoint-every 0", "--checkpoint-every 0: use a whole number of at least 1"),
        ("--target-period 0", "--target-period 0: use a whole number of at least 1"),
        ("--learning-rate nan", "--learning-rate nan: use a finite number of at least 0"),
    ],
)
def test_a_finished_run_is_left_as_it_is(words, sentence, run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    said = refused(capsys, train.main, ["--resume", str(run), *words.split(), "--no-compilation-cache"])
    assert sentence in said
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_lengthening_says_what_becomes_of_epsilon(run, capsys):
    """At 400 of 400 steps ε is 0.05; of 800 these are the half where its linear path ends, and of 1,600 a quarter."""
    assert train.main(["--resume", str(run), "--total-steps", "1600", "--no-compilation-cache"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "ε" in line]
    expected = "at environment step 400 ε goes from 0.05 to 0.525, since schedules span --total-steps, now 1,600"
    assert warnings == [f"purejaxdqn-train: {expected}"]
    assert (run / METRICS).read_text().splitlines()[-1].split(",")[1] == "1600"


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": []},
        {"seeds": [0, 0]},
        {"seeds": [-1]},
        {"seeds": 3},
        {"eval_episodes": -1},
        {"eval_episodes": True},
        {"log_every": "x"},
        {"stop_at_return": float("nan")},
        {"config": {"env_params": []}},
        {"config": {"hidden": 5.5}},
        {"config": {"noisy": 1}},
        {"config": {"num_envs": None}},
        {"hypers": {"gamma": None}},
        {"hypers": {"gamma": "0.9"}},
        {"hypers": {"target_period": 2.5}},
        {"hypers": {"epsilon_start": [1.0]}},
        {"env_spec": {"obs_shape": "ab"}},
        {"env_spec": {"num_actions": 0}},
        {"env_spec": {"obs_dtype": "nonsense"}},
    ],
)
def test_wrong_content_of_a_config_is_refused(changes, tmp_path):
    data = a_config(tmp_path)
    for name, value in changes.items():
        data[name] = data[name] | value if kind_of(value) == "dict" else value
    (tmp_path / CONFIG).write_text(json.dumps(data))
    with pytest.raises(SettingError, match=rf"its {CONFIG} is damaged \(.*\); name a whole run") as found:
        read_config(tmp_path)
    assert "\n" not in str(found.value)


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_damaged_configs_are_refused_or_make_sense(seed):
    with pytest.MonkeyPatch.context() as patch:
        # A config may say of CartPole-v1 that it is somebody's own, and this process would believe it from then on.
        patch.setattr(own, "SAVED", {})
        counts, wrong = fuzz_configs(20, seed, build=False)
    assert wrong == [] and sum(counts.values()) == 20


def test_lanes_and_work_that_do_not_fit_are_refused(monkeypatch, capsys, tmp_path):
    """With 1 GiB: 26 bytes of a step in a ring of 2·10⁹ are 50 GB, a million lanes of 0.1 MB are 100."""
    monkeypatch.setattr(plan, "available_bytes", lambda: 2**30)
    out = ["--out", str(tmp_path / "run"), "--no-compilation-cache"]
    for words, sentence in {
        "--buffer-size 2000000000": "--buffer-size 2000000000: a lane takes",
        "--seeds 1000000": "--seeds 1000000: a lane takes",
        "--eval-episodes 2000000000": "--eval-episodes 2000000000: evaluate takes",
        "--batch-size 40000 --buffer-size 50000 --hidden 4096 4096": "--batch-size 40000: iterate takes",
    }.items():
        said = refused(capsys, train.main, [*words.split(), *out])
        assert sentence in said and ("of them fit" in said or "use at most" in said), said
    assert not list(tmp_path.iterdir())


def test_what_fits_is_not_compiled_for_it(monkeypatch):
    """Small programs are let through at once; between small and too large the compiler is asked."""
    monkeypatch.setattr(plan, "available_bytes", lambda: 2**30)
    asked = []

    def needed(program):
        asked.append(program)
        return 2**20

    agent = make_agent(Config())
    lanes = plan.make_plan(agent, 1)
    plan.check_work(agent, lanes, 100, needed)
    assert asked == []
    plan.check_work(agent, lanes, 100_000, needed)
    assert asked == ["evaluate"]
    with pytest.raises(SettingError, match="use at most"):
        plan.check_work(agent, lanes, 100_000, lambda program: 2**33)


def test_programs_of_fewer_lanes_are_tried_where_those_of_all_do_not_fit(monkeypatch):
    """Of 5 lanes 3 and then 2 are vmapped together; a single lane that does not fit is refused."""
    room = 2**30
    monkeypatch.setattr(plan, "available_bytes", lambda: int(room / plan.MEMORY_SHARE))
    agent, tried = make_agent(Config()), []

    def lanes_of(agent, made, *rest):
        tried.append(made.block)
        # What half the lanes need is half as much, and what three of them need is too much by a byte.
        left = room - made.lane_bytes * made.lanes_per_device
        check = partial(plan.check_work, agent, made, 100_000, lambda program: left // 3 * made.block + 3)
        return SimpleNamespace(plan=made, check=check)

    monkeypatch.setattr(training, "make_lanes", lanes_of)
    settings = new_settings(["--eval-episodes", "2"])[0]
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(platform="gpu")])
    assert training.open_fitting(settings, (0, 1, 2, 3, 4))[1].plan.block == 2
    assert tried == [5, 3, 2]
    with pytest.raises(SettingError, match="use at most") as told:
        plan.check_work(agent, plan.make_plan(agent, 5, 1), 100_000, lambda program: room)
    assert not isinstance(told.value, plan.NoRoom)


def test_evaluate_refuses_more_episodes_than_fit(finished, monkeypatch, capsys):
    monkeypatch.setattr(plan, "available_bytes", lambda: 2**30)
    said = refused(capsys, evaluate.main, [str(finished), "--episodes", "2e9", "--no-compilation-cache"])
    assert "--episodes 2000000000: evaluate takes" in said


def test_a_device_that_is_not_there_is_refused(monkeypatch, capsys, tmp_path):
    """JAX falls back to the CPU where "cuda,cpu" was asked for: what has started is looked at."""
    assert jax.local_devices()[0].platform == "cpu"
    with pytest.raises(SettingError, match="JAX finds no such device here"):
        cli.check_device("gpu")
    cli.check_device("cpu")
    cli.check_device("auto")
    said = refused(capsys, train.main, ["--device", "gpu", "--out", str(tmp_path / "run"), "--no-compilation-cache"])
    assert said.startswith("purejaxdqn-train: --device gpu: JAX finds no such device here")
    file = tmp_path / "sweep.toml"
    file.write_text('device = "gpu"\n')
    said = refused(capsys, sweep_main, ["--file", str(file), "--dry-run", "--no-compilation-cache"])
    assert said.startswith("purejaxdqn-sweep: --device gpu: JAX finds no such device here")


MODES = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_DEBUG_INFS": "1",
    "JAX_DEBUG_NANS": "1",
}
PROGRAM = """
import hashlib, sys
import jax, numpy as np
from purejaxdqn import train
from purejaxdqn.loops.device import make_train
from purejaxdqn.recipes.recipes import default_recipe, make_settings
from purejaxdqn.runs.policy import load_policy
for algo in ("dqn", "m-iqn", "pqn"):
    config, hypers = make_settings(default_recipe("CartPole-v1"), "CartPole-v1", algo, total_steps=1_500)
    made = jax.jit(make_train(config, 2))(jax.random.key(0), hypers)
    print(algo, hashlib.md5(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(made))).hexdigest())
words = "--total-steps 1500 --eval-episodes 2 --quiet --no-compilation-cache --out"
assert train.main([*words.split(), sys.argv[1]]) == 0
print(load_policy(sys.argv[1]).q_values(np.ones(4)).tolist())
"""


def trained_in(modes, folder):
    """What a program prints, and the table of a run, where JAX is set up so."""
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, env=os.environ | modes, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, (folder / METRICS).read_text()


@pytest.mark.long
def test_numbers_are_the_same_in_all_of_jaxs_modes(tmp_path):
    assert trained_in(MODES, tmp_path / "odd") == trained_in({}, tmp_path / "usual")


def test_a_plan_without_room_counts_as_out_of_memory(monkeypatch):
    """A sweep then trains half of the lanes at a time."""
    agent = make_agent(Config())
    monkeypatch.setattr(plan, "available_bytes", lambda: 4 * plan.state_bytes(agent) * len(jax.local_devices()))
    with pytest.raises(plan.NoRoom, match="of them fit: use fewer") as found:
        plan.make_plan(agent, 1_000)
    assert out_of_memory(found.value)
