"""Sweeps: every lane is its solo run, however lanes are cut up, stopped, resumed or dropped on the way."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_lines import refused, stop_after

from purejaxdqn import train
from purejaxdqn.config import SettingError
from purejaxdqn.recipes.files import find_recipe
from purejaxdqn.recipes.recipes import make_settings
from purejaxdqn.runs.claims import claim
from purejaxdqn.runs.sweep_folder import (
    CURVE_COLUMNS,
    CURVES,
    LANES,
    SWEEP_COLUMNS,
    UNITS,
    read_columns,
    read_sweep,
)
from purejaxdqn.sweep import command, engine, layout

pytestmark = pytest.mark.exact_lanes

SIZES = [
    *("--num-envs", "4", "--buffer-size", "200", "--batch-size", "8", "--learning-starts", "40", "--hidden", "16"),
    *("--total-steps", "2000", "--log-every", "200", "--eval-every", "400", "--eval-episodes", "3"),
]
GRID = ["--env", "CartPole-v1", *SIZES, "--seeds", "3", "--learning-rate", "1e-3", "1e-2", "--gamma", "0.9", "0.99"]
QUIET = ["--quiet", "--no-report", "--device", "cpu"]


def sweep(folder, *more):
    """Runs a sweep and returns its tables and summary."""
    assert command.main([*GRID, *QUIET, "--out", str(folder), *more]) == 0
    return outcome(folder)


def outcome(folder):
    """The tables and the summary of a sweep."""
    return (
        read_columns(folder / CURVES),
        read_columns(folder / LANES),
        json.loads((folder / "summary.json").read_text()),
    )


def assert_same(found, expected):
    """Both tables, bit for bit; NaN equals NaN."""
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert list(one) == list(other)
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name], err_msg=name)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "grid"
    return folder, sweep(folder)


def test_the_folder_has_every_lane_and_chunk(grid):
    folder, (curves, lanes, summary) = grid
    assert {name: column.dtype.name for name, column in curves.items()} == CURVE_COLUMNS
    assert {name: column.dtype.name for name, column in lanes.items()} == SWEEP_COLUMNS
    assert lanes["lane"].tolist() == list(range(12))
    assert lanes["setting"].tolist() == np.repeat(range(4), 3).tolist() and lanes["seed"].tolist() == [0, 1, 2] * 4
    assert len(curves["lane"]) == 12 * 10 and len(set(zip(curves["lane"], curves["env_steps"], strict=True))) == 120
    assert (lanes["env_steps"] == 2000).all() and (lanes["dropped_at"] == -1).all() and not lanes["diverged"].any()
    for lane in range(12):
        evaluated = curves["eval_return"][(curves["lane"] == lane) & np.isfinite(curves["eval_return"])]
        assert len(evaluated) == 5
        assert lanes["area"][lane] == pytest.approx(evaluated.mean(), rel=1e-6)
    data = read_sweep(folder)
    assert data["varied"] == ["learning_rate", "gamma"]
    assert [entry["values"] for entry in data["settings"]] == [
        {"learning_rate": rate, "gamma": gamma} for rate in (1e-3, 1e-2) for gamma in (0.9, 0.99)
    ]
    assert not (folder / UNITS).exists() and summary["compilations"] == 1 and summary["env_steps"] == 24_000
    ranking = summary["ranking"]
    assert sorted(entry["setting"] for entry in ranking) == [0, 1, 2, 3]
    assert [entry["iqm"] for entry in ranking] == sorted((entry["iqm"] for entry in ranking), reverse=True)
    first = ranking[0]
    mine = lanes["last_mean_return"][lanes["setting"] == first["setting"]]
    assert first["iqm"] == pytest.approx(mine.mean(), rel=1e-6), "of three seeds it is the mean"


@pytest.mark.parametrize("lane", [0, 4, 11])
def test_a_lane_is_the_solo_run(grid, lane, tmp_path):
    """Every logged number and both final scores; means in CSV are rounded twice, which may cost the last bit."""
    _, (curves, lanes, _) = grid
    values = read_sweep(grid[0])["settings"][lane // 3]["values"]
    flags = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    run = ["--env", "CartPole-v1", *SIZES, "--seed", str(lane % 3), *flags, "--quiet", "--device", "cpu"]
    assert train.main([*run, "--out", str(tmp_path / "solo")]) == 0
    with open(tmp_path / "solo" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    mine = curves["lane"] == lane
    assert len(rows) == mine.sum()
    for name in set(CURVE_COLUMNS) - {"lane", "setting"}:
        solo = np.array([float(row[name] or "nan") for row in rows], np.float32)
        both = (np.nan_to_num(x, nan=-1e30) for x in (curves[name][mine].astype(np.float32), solo))
        np.testing.assert_array_max_ulp(*both, maxulp=1)
    told = json.loads((tmp_path / "solo" / "summary.json").read_text())["evaluation"][0]
    assert np.float32(told["last_mean_return"]) == lanes["last_mean_return"][lane]
    assert np.float32(told["best_mean_return"]) == lanes["best_mean_return"][lane]
    assert told["best_env_steps"] == lanes["best_env_steps"][lane]


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 5])
def test_however_lanes_are_cut_up(grid, size, tmp_path, monkeypatch):
    """Units of 2 lanes (one for each of two devices) and of 10, the last one filled up: the same numbers."""
    monkeypatch.setattr(layout, "LANES_PER_CORE", size)
    found = sweep(tmp_path / "other")
    assert_same(found, grid[1])
    assert found[2]["compilations"] == 1, "units of one program share its compilation"
    assert [entry["setting"] for entry in found[2]["ranking"]] == [entry["setting"] for entry in grid[1][2]["ranking"]]


def test_memory_that_does_not_last_halves_the_lanes_and_goes_on(grid, tmp_path, monkeypatch):
    """A machine that holds 3 lanes at most: 12, then 6, then 3 at a time, and the same numbers."""
    real, tried = engine.make_plan, []

    def small(agent, num_lanes, block=None):
        tried.append(num_lanes)
        if num_lanes > 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return real(agent, num_lanes, block)

    monkeypatch.setattr(engine, "make_plan", small)
    assert_same(sweep(tmp_path / "small"), grid[1])
    assert tried == [12, 6, 3]


def test_a_lane_too_large_for_the_machine_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layout, "available_bytes", lambda: 1000)
    said = refused(capsys, command.main, [*GRID, *QUIET, "--out", str(tmp_path / "no")])
    assert "--lanes-per-block 1" in said and "smaller buffer" in said and not (tmp_path / "no").exists()
    monkeypatch.undo()

    def nothing(agent, num_lanes, block=None):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(engine, "make_plan", nothing)
    said = refused(capsys, command.main, [*GRID, *QUIET, "--out", str(tmp_path / "none")])
    assert "one lane needs more memory" in said


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path, monkeypatch):
    def broken(agent, num_lanes, block=None):
        raise RuntimeError("something else")

    monkeypatch.setattr(engine, "make_plan", broken)
    with pytest.raises(RuntimeError, match="something else"):
        command.main([*GRID, *QUIET, "--out", str(tmp_path / "no")])


@pytest.mark.parametrize("stops", [(3,), pytest.param((1, 14, 2), marks=pytest.mark.long)])
def test_stopped_and_resumed(grid, stops, tmp_path, monkeypatch):
    """Interrupted after some chunks, once or often, in the first unit or a later one."""
    monkeypatch.setattr(layout, "LANES_PER_CORE", 3)
    folder, real = tmp_path / "halted", engine.Engine.save
    args = [*GRID, *QUIET, "--out", str(folder)]
    for count in stops:
        stop_after(monkeypatch, count)
        assert command.main(args) == 130
        args = ["--resume", str(folder), *QUIET]
    stop_after(monkeypatch, None)
    assert command.main(args) == 0
    assert engine.Engine.save is real
    assert_same(outcome(folder), grid[1])
    assert command.main(args) == 0, "what has come to its end stays as it is"


def test_checkpoints_follow_the_clock(grid, tmp_path, monkeypatch):
    """With no time to lose every chunk but a rung's last is saved, which changes nothing."""
    saved, real = [], engine.Engine.save
    monkeypatch.setattr(engine.Engine, "save", lambda self, *args: saved.append(real(self, *args)))
    assert_same(sweep(tmp_path / "often", "--checkpoint-minutes", "1e-9"), grid[1])
    assert len(saved) == 9


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "halved"
    return folder, sweep(folder, "--halving", "--halving-first", "0.25")


def test_halving_drops_what_trails_and_changes_nothing_else(grid, halved):
    """Rungs at 500, 1000 and 2000 steps, in whole chunks of 200: 4, 2 and 1 settings."""
    _, (curves, lanes, _) = grid
    folder, (found, ended, summary) = halved
    told = summary["halving"]
    assert [rung["settings"] for rung in told["rungs"]] == [4, 2, 1]
    assert not (folder / UNITS).exists()
    kept = np.flatnonzero(ended["dropped_at"] == -1)
    assert len(kept) == 3 and len(set(ended["setting"][kept])) == 1
    # Of each rung the score is the newest evaluation at its end; the first is of 440 steps: prefill, then two chunks.
    for rung, keep in ((0, 2), (1, 1)):
        stop = ended["env_steps"][ended["dropped_at"] == rung][0]
        there = [
            s
            for s in range(4)
            if (ended["dropped_at"][ended["setting"] == s] >= rung).all() or s in ended["setting"][kept]
        ]
        scores = {}
        for setting in there:
            rows = (found["setting"] == setting) & (found["env_steps"] == stop)
            assert np.isfinite(found["eval_return"][rows]).all() and rows.sum() == 3
            scores[setting] = found["eval_return"][rows].mean()
        on = {s for s in there if (ended["dropped_at"][ended["setting"] == s] != rung).all()}
        assert len(on) == keep
        assert min(scores[s] for s in on) >= max(scores[s] for s in set(there) - on)
    for name in set(CURVE_COLUMNS) - {"eval_return", "eval_stderr"}:
        for lane in range(12):
            mine = found[name][found["lane"] == lane]
            np.testing.assert_array_equal(mine, curves[name][curves["lane"] == lane][: len(mine)], err_msg=name)
    for name in ("last_mean_return", "best_mean_return"):
        np.testing.assert_array_equal(ended[name][kept], lanes[name][kept])
        assert np.isnan(ended[name][ended["dropped_at"] >= 0]).all()
    assert told["env_steps"] == ended["env_steps"].sum() and told["env_steps_of_the_grid"] == 24_000
    assert summary["ranking"][0]["setting"] == ended["setting"][kept][0]
    dropped = [entry["dropped_at"] for entry in summary["ranking"]]
    assert dropped == [None, 1, 0, 0]


@pytest.mark.long
def test_halving_stopped_at_any_chunk_goes_on(halved, tmp_path, monkeypatch):
    folder, args = tmp_path / "halted", None
    for count in (2, 3, 5):
        stop_after(monkeypatch, count)
        first = [*GRID, *QUIET, "--halving", "--halving-first", "0.25", "--out", str(folder)]
        assert command.main(args or first) == 130
        args = ["--resume", str(folder), *QUIET]
    stop_after(monkeypatch, None)
    assert command.main(args) == 0
    assert_same(outcome(folder), halved[1])


def test_survivors_by_hand():
    """Interquartile means 5 (of 0, 5, 5, 9), 4.5 and the lowest score where nothing is known."""
    scores = {
        0: np.array([0.0, 5.0, 5.0, 9.0]),
        1: np.full(4, 4.5),
        2: np.full(4, np.nan),
        3: np.array([9.0] + [0.0] * 3),
    }
    assert layout.survivors(layout.Rung(0.5, 1), scores) == (0,)
    assert layout.survivors(layout.Rung(0.5, 2), scores) == (0, 1)
    assert layout.survivors(layout.Rung(0.5, 3), scores) == (0, 1, 3)


def test_rungs_by_hand():
    options = {"halving": True, "halving_factor": 2, "halving_first": 0.125}
    assert layout.make_rungs(options, 32) == ((0.125, 16), (0.25, 8), (0.5, 4), (1.0, 4))
    assert layout.make_rungs(options, 3) == ((0.125, 2), (0.25, 1), (1.0, 1))
    assert layout.make_rungs(options | {"halving": False}, 3) == ((1.0, 3),)
    with pytest.raises(SettingError, match="one setting"):
        layout.make_rungs(options, 1)


@pytest.mark.long
def test_several_algorithms_and_sizes(tmp_path):
    """Each value of a static field is a program of its own; every lane is there."""
    flags = [
        "--env",
        "CartPole-v1",
        *SIZES,
        "--seeds",
        "2",
        "--algo",
        "dqn",
        "c51",
        "--dueling",
        "--total-steps",
        "600",
    ]
    assert command.main([*flags, *QUIET, "--out", str(tmp_path / "two")]) == 0
    _, lanes, summary = outcome(tmp_path / "two")
    assert summary["compilations"] == 2 and lanes["lane"].tolist() == [0, 1, 2, 3]
    data = read_sweep(tmp_path / "two")
    assert [entry["config"]["head"] for entry in data["settings"]] == ["scalar", "categorical"]
    assert all(entry["config"]["dueling"] for entry in data["settings"])


@pytest.mark.long
def test_a_lane_that_diverges_counts_as_the_lowest(tmp_path):
    flags = ["--loss", "squared", "--optimizer", "sgd", "--learning-rate", "1e-3", "1e30", "--gamma", "0.99"]
    base = [word for word in GRID if word not in ("1e-3", "1e-2", "0.9", "0.99", "--learning-rate", "--gamma")]
    assert command.main([*base, *flags, *QUIET, "--out", str(tmp_path / "wild")]) == 0
    _, lanes, summary = outcome(tmp_path / "wild")
    assert lanes["diverged"].tolist() == [False] * 3 + [True] * 3
    assert (lanes["env_steps"][3:] < 2000).all() and np.isnan(lanes["last_mean_return"][3:]).all()
    entry = summary["ranking"][1]
    assert entry["setting"] == 1 and entry["diverged"] == 3
    assert entry["iqm"] == pytest.approx(lanes["last_mean_return"][:3].min())


def test_the_best_setting_is_a_recipe(grid, tmp_path):
    folder, (_, _, summary) = grid
    recipe = find_recipe(str(folder / "best.toml"))
    config, hypers = make_settings(recipe)
    values = summary["ranking"][0]["values"]
    assert {name: getattr(hypers, name) for name in values} == values and config.hidden == (16,)
    said = read_sweep(folder)["settings"][summary["ranking"][0]["setting"]]
    assert config.num_envs == said["config"]["num_envs"] and config.total_steps == 2000
    assert (
        train.main(
            ["--recipe", str(folder / "best.toml"), "--total-steps", "400", "--quiet", "--out", str(tmp_path / "run")]
        )
        == 0
    )
    told = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["hypers"]["gamma"] == values["gamma"] and told["eval_episodes"] == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--learning-rate", "log:1e-4:1e-2"], ["--learning-rate log:1e-4:1e-2", "lin:LOW:HIGH:N"]),
        (["--learning-rate", "loguniform:1e-4:1e-2"], ["--learning-rate loguniform", "--random N"]),
        (["--num-envs", "uniform:2:8"], ["--num-envs uniform:2:8", "compilation of its own"]),
        (["--gama", "0.9"], ["--gama", "did you mean --gamma"]),
        (["--gamma", "1.5"], ["--gamma 1.5", "[0, 1]"]),
        (["--algo", "dqm"], ["--algo dqm", "use one of"]),
        (["--v-max", "5", "7"], ["--v-max", "head"]),
        (["--seeds", "0"], ["--seeds 0", "at least 1"]),
        (["--halving"], ["--halving", "one setting"]),
        (
            ["--gamma", "0.9", "0.99", "--halving-factor", "3"],
            ["--halving-factor 3", "nothing reads it without --halving"],
        ),
        (["--file", "nowhere.toml"], ["--file nowhere.toml", "cannot be read"]),
        (["--recipe", "nowhere.toml"], ["--recipe nowhere.toml", "cannot be read"]),
        (["--recipe", "cartpol"], ["--recipe cartpol", "cartpole"]),
        (["--resume", "nowhere"], ["--resume nowhere", "no such folder"]),
        (["--probe", "hooks.py:probe"], ["--probe hooks.py:probe", "no hooks", "purejaxdqn.train --seeds"]),
        (["--callback=hooks.py:stop"], ["--callback hooks.py:stop", "no hooks"]),
        (["--num-processes", "2"], ["--num-processes 2", "go together"]),
        (["--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "1"], ["--out", "name it"]),
        (
            ["--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "2", "--out", "x"],
            ["--process-id 2", "use 0 to 1"],
        ),
        (
            [
                *("--coordinator", "127.0.0.1:9", "--num-processes", "2", "--process-id", "1", "--out", "x"),
                "--coordinator-timeout",
                "1",
            ],
            ["--coordinator 127.0.0.1:9", "did not answer for 1 s"],
        ),
    ],
)
def test_bad_input_is_one_sentence(flags, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, command.main, ["--env", "CartPole-v1", *flags, *QUIET])
    assert all(word in said for word in words), said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gamma", "0.9", "0.98"], ["--gamma 0.9 0.98", "it was 0.9 0.99"]),
        (["--tau", "0.5"], ["--tau 0.5", "the recipe's own"]),
        (["--seeds", "4"], ["--seeds 4", "it was 3"]),
        (["--env", "Acrobot-v1"], ["--env Acrobot-v1", "it was CartPole-v1"]),
        (["--out", "elsewhere"], ["--out elsewhere", "stays in its folder"]),
    ],
)
def test_a_resumed_sweep_is_the_same_sweep(grid, flags, words, capsys):
    said = refused(capsys, command.main, ["--resume", str(grid[0]), *flags, *QUIET])
    assert all(word in said for word in words), said


def test_what_was_typed_at_first_may_be_typed_again(grid):
    assert command.main([*GRID, *QUIET, "--resume", str(grid[0])]) == 0


def test_a_folder_has_one_sweep_and_one_process(grid, capsys, tmp_path):
    folder, _ = grid
    said = refused(capsys, command.main, [*GRID, *QUIET, "--out", str(folder)])
    assert "holds a sweep already" in said and "--resume" in said
    with (
        claim(tmp_path, "out"),
        pytest.raises(SettingError, match=r"process [0-9]+ on .* is writing in it"),
        claim(tmp_path, "out"),
    ):
        raise AssertionError("two processes hold one folder")


def test_a_damaged_sweep_is_one_sentence(grid, capsys, tmp_path):
    data = read_sweep(grid[0])
    for text, said in (
        ("{", "damaged"),
        ('{"format": 99}', "reads 1"),
        (json.dumps(data | {"settings": [{}]}), "damaged"),
    ):
        (tmp_path / "sweep.json").write_text(text)
        assert said in refused(capsys, command.main, ["--resume", str(tmp_path), *QUIET])


def test_a_dry_run_says_the_plan_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main([*GRID, "--dry-run", "--device", "cpu", "--num-envs", "4", "2"]) == 0
    said = capsys.readouterr().out
    assert "24 lanes: 8 settings × 3 seeds, 2 compilations, on 2 cores" in said and "MB a lane" in said
    assert "48k environment steps in all" in said and "of training" in said
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_flags_make_one_sweep(grid, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        'env = "CartPole-v1"\nseeds = 3\nlog_every = 200\neval_every = 400\neval_episodes = 3\n'
        "[config]\nnum_envs = 4\nbuffer_size = 200\nbatch_size = 8\nlearning_starts = 40\nhidden = [16]\n"
        "total_steps = 2000\n[hypers]\nlearning_rate = [1e-3, 1e-2]\ngamma = 0.5\n"
    )
    assert command.main(["--file", str(path), "--gamma", "0.9", "0.99", *QUIET, "--out", str(tmp_path / "it")]) == 0
    assert_same(outcome(tmp_path / "it"), grid[1])


def test_pandas_reads_a_table_in_one_line(grid):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(dict(np.load(Path(grid[0]) / CURVES)))
    assert len(table) == 120 and table.groupby("setting")["eval_return"].mean().notna().all()


@pytest.mark.long
def test_blocks_that_are_vmapped_stay_close(grid, tmp_path):
    """Two lanes in a block: the same schedule of steps, and evaluations of the same episodes while actions agree."""
    curves, _, summary = sweep(tmp_path / "vmapped", "--lanes-per-block", "2")
    for name in ("lane", "env_steps", "updates", "epsilon"):
        np.testing.assert_array_equal(curves[name], grid[1][0][name])
    early = curves["env_steps"] == curves["env_steps"].min()
    np.testing.assert_allclose(curves["loss"][early], grid[1][0]["loss"][early], rtol=1e-3)
    assert summary["compilations"] == 1


def test_units_are_sized_for_memory_and_processes():
    """16 lanes for each of 2 cores, no more than fit, and no fewer units than processes."""
    gigabyte = 2**30
    size = layout.unit_size

    def on_cpu(lane_bytes, share, per_block=None, devices=2):
        return size(lane_bytes, devices, True, per_block, share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "available_bytes", lambda: gigabyte)
        assert on_cpu(2**20, 1024) == 32 and on_cpu(2**20, 5) == 6 and on_cpu(2**20, 1024, per_block=64) == 128
        assert on_cpu(gigabyte // 10, 1024) == 8, "0.8 GB for two cores is four lanes each"
        assert size(2**20, 4, False, None, 10_000) == 4 * 819
        assert size(2**20, 4, False, 100, 10_000) == 400
        with pytest.raises(SettingError, match="smaller buffer"):
            on_cpu(gigabyte, 4)


@pytest.mark.long
def test_environments_on_the_host_are_swept_one_lane_at_a_time(tmp_path):
    flags = [word for word in SIZES if word not in ("--total-steps", "2000")]
    both = ["--env", "envpool/CartPole-v1", *flags, "--total-steps", "400", "--seeds", "2", "--learning-rate"]
    assert command.main([*both, "1e-3", "1e-2", *QUIET, "--out", str(tmp_path / "host")]) == 0
    _, lanes, _ = outcome(tmp_path / "host")
    assert lanes["lane"].tolist() == [0, 1, 2, 3] and np.isfinite(lanes["last_mean_return"]).all()
    assert command.main([*both, "1e-2", *QUIET, "--seed", "1", "--seeds", "1", "--out", str(tmp_path / "solo")]) == 0
    assert outcome(tmp_path / "solo")[1]["last_mean_return"][0] == lanes["last_mean_return"][3]


@pytest.mark.long
def test_only_the_first_unit_compiles(tmp_path, monkeypatch, count_compilations):
    """Six units of two lanes with four settings between them: what the first compiled serves all."""
    counts, real = [], engine.Engine.run

    def counting(self, *args):
        real(self, *args)
        counts.append(count_compilations())

    monkeypatch.setattr(engine.Engine, "run", counting)
    monkeypatch.setattr(layout, "LANES_PER_CORE", 1)
    sweep(tmp_path / "six", "--no-compilation-cache")
    assert len(counts) == 6 and counts[0] > 0 and set(counts) == {counts[0]}
