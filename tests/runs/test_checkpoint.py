"""Checkpoints and run folders: whole or not at all, and never executed."""

import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.runs import folder as run_folder
from purejaxdqn.runs import tables
from purejaxdqn.sweep import checkpoints as unit_checkpoints
from purejaxdqn.types import Hypers

SPEC = EnvSpec("CartPole-v1", 2, (4,), "float32", None, 500)


def make_checkpoint(step=3, scale=1.0):
    state = {"['a']": np.arange(6, dtype=np.uint8).reshape(2, 3), "['b'].count": np.asarray(step, np.int32)}
    params = {"['w']": np.full((2, 2), scale, np.float32)}
    return ckpt.Checkpoint(step, state, {"last": params, "best": params}, {"best_score": [None, 1.5]})


def save(folder, *checkpoints):
    for checkpoint in checkpoints:
        ckpt.save_checkpoint(folder, checkpoint)


def settings(**changes):
    values = {
        "config": Config(hidden=(8, 4), env_params=(("max_steps_in_episode", 7),)),
        "hypers": Hypers(max_grad_norm=float("inf"), gamma=0.9),
        "seeds": (4, 5),
        "log_every": 10,
        "eval_every": 20,
        "eval_episodes": 3,
        "checkpoint_every": 30,
        "recipe": "cartpole",
        "algo": None,
    }
    return run_folder.Settings(**values | changes)


def test_flat_and_back_keeps_every_leaf():
    tree = {"x": [jnp.arange(3), jnp.float32(2.0)], "y": (jnp.zeros((2, 0), jnp.uint8),)}
    flat = ckpt.to_flat(tree)
    assert len(flat) == 3
    back = ckpt.from_flat(flat, jax.eval_shape(lambda: tree))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True))


@pytest.mark.parametrize("like", [jnp.zeros(4, jnp.int32), jnp.zeros(3, jnp.float32)])
def test_a_leaf_of_another_shape_or_dtype_is_refused_by_name(like):
    with pytest.raises(ckpt.DamagedCheckpoint, match=r"\['x'\]"):
        ckpt.from_flat({"['x']": np.zeros(3, np.int32)}, {"x": like})
    with pytest.raises(ckpt.DamagedCheckpoint, match=r"\['y'\] is missing"):
        ckpt.from_flat({"['x']": np.zeros(3, np.int32)}, {"y": like})


def test_the_newest_checkpoint_comes_back_bit_for_bit(tmp_path):
    save(tmp_path, make_checkpoint(1, 1.0), make_checkpoint(2, 0.1))
    loaded, expected = ckpt.load_checkpoint(tmp_path), make_checkpoint(2, 0.1)
    assert loaded.step == 2 and loaded.progress == expected.progress
    for name, leaf in expected.state.items():
        assert loaded.state[name].dtype == leaf.dtype and np.array_equal(loaded.state[name], leaf)
    assert np.array_equal(loaded.policy["best"]["['w']"], expected.policy["best"]["['w']"])
    assert ckpt.load_checkpoint(tmp_path, with_state=False).state == {}


def test_a_checkpoint_never_committed_is_not_seen(tmp_path):
    save(tmp_path, make_checkpoint(1))
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    assert ckpt.latest_step(tmp_path) == 1
    ckpt.remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]


def test_no_checkpoint_and_a_damaged_one_are_told_in_a_sentence(tmp_path):
    with pytest.raises(ckpt.DamagedCheckpoint, match="no whole checkpoint"):
        ckpt.load_checkpoint(tmp_path / "missing")
    save(tmp_path, make_checkpoint(1))
    for path in (tmp_path / "1").rglob("d/*"):
        path.write_bytes(b"not what it was")
    with pytest.raises(ckpt.DamagedCheckpoint, match="of checkpoint 1 is not the file that was saved"):
        ckpt.load_checkpoint(tmp_path)


def test_the_folder_holds_no_pickle(tmp_path):
    """A pickle begins with the byte 0x80 and a protocol number, and ends with a dot."""
    save(tmp_path, make_checkpoint(1))
    run_folder.write_config(tmp_path, settings(), SPEC, "command", "today")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80" or path.suffix in (".pkl", ".pickle")]


def test_config_json_comes_back_equal_with_infinities(tmp_path):
    run_folder.write_config(tmp_path, settings(), SPEC, "command", "today")
    back, spec, data = run_folder.read_config(tmp_path)
    assert back == settings() and spec == SPEC
    assert data["command"] == "command" and data["versions"]["jax"] == jax.__version__
    assert "Infinity" not in (tmp_path / "config.json").read_text()


def test_the_versions_are_also_those_of_the_suites_that_were_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", pytest.importorskip("gymnasium"))
    monkeypatch.delitem(sys.modules, "envpool", raising=False)
    run_folder.write_config(tmp_path, settings(), SPEC, "command", "today")
    found = run_folder.read_config(tmp_path)[2]["versions"]
    assert found["gymnasium"] == sys.modules["gymnasium"].__version__ and "envpool" not in found


def test_a_config_that_was_changed_is_refused_even_where_it_makes_sense(tmp_path):
    run_folder.write_config(tmp_path, settings(), SPEC, "command", "today")
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    data["hypers"]["gamma"] /= 2
    path.write_text(json.dumps(data))
    with pytest.raises(
        SettingError, match=r"config.json is damaged \(it is not what was written; settings are changed"
    ):
        run_folder.read_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "damaged"),
        ('{"format": 99}', "format is 99"),
        ('{"format": 1, "config": {}}', "damaged"),
        ("[]", "damaged"),
        ('{"format": 1, "config": {"hidden": [], "env_params": {}, "bogus": 1}, "hypers": {}}', "damaged"),
    ],
)
def test_a_foreign_or_damaged_config_is_refused(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(SettingError, match=said):
        run_folder.read_config(tmp_path)


def test_atomic_writes_leave_the_old_file_when_they_fail(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 7)  # neither text nor bytes
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file"]
    write_atomically(path, b"new")
    assert path.read_text() == "new"


def row(step, **changes):
    values = dict.fromkeys(tables.METRIC_COLUMNS, 1) | {"env_steps": step, "episode_return": None, "loss": 0.1}
    return values | changes


def test_metrics_keep_whole_rows_up_to_a_step(tmp_path):
    tables.write_table(tmp_path, run_folder.METRICS, [])
    tables.append_rows(tmp_path, run_folder.METRICS, [row(10), row(20), row(30)])
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("1,4")  # a crash in the middle of a row
    kept = tables.read_table(tmp_path, run_folder.METRICS, 20)
    assert [r["env_steps"] for r in kept] == ["10", "20"]
    assert kept[0]["episode_return"] == "" and kept[0]["loss"] == "0.1"
    before = (tmp_path / "metrics.csv").read_text().splitlines()[:3]
    tables.write_table(tmp_path, run_folder.METRICS, kept)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == before
    assert tables.read_table(tmp_path / "missing", run_folder.METRICS, 5) == []


def test_json_has_no_infinities():
    text = json.dumps(run_folder.finite({"a": [float("inf"), float("nan"), 1.0]}), allow_nan=False)
    assert json.loads(text) == {"a": ["inf", None, 1.0]}


def flip(path, rng):
    raw = bytearray(path.read_bytes())
    place = rng.integers(8 * len(raw))
    raw[place // 8] ^= 1 << int(place % 8)
    path.write_bytes(bytes(raw))


def cut(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def remove(path, _):
    path.unlink()


@pytest.mark.parametrize("harm", [flip, cut, remove])
def test_a_change_to_any_file_of_a_checkpoint_is_told(tmp_path, harm):
    save(tmp_path, make_checkpoint(1))
    files = sorted(path for path in (tmp_path / "1").rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 10
    rng = np.random.default_rng(0)
    for path in files:
        before = path.read_bytes()
        harm(path, rng)
        with pytest.raises(ckpt.DamagedCheckpoint) as told:
            ckpt.load_checkpoint(tmp_path)
        assert "\n" not in str(told.value) and "checkpoint 1" in str(told.value), path
        path.write_bytes(before)
    assert ckpt.load_checkpoint(tmp_path).step == 1


def test_the_state_is_not_read_for_a_policy(tmp_path):
    save(tmp_path, make_checkpoint(1))
    shutil.rmtree(tmp_path / "1" / "state")
    assert ckpt.load_checkpoint(tmp_path, with_state=False).step == 1
    with pytest.raises(ckpt.DamagedCheckpoint, match="is missing"):
        ckpt.load_checkpoint(tmp_path)


def test_the_older_checkpoint_stays_until_the_newer_one_was_read_back(tmp_path, monkeypatch):
    save(tmp_path, make_checkpoint(1))
    read = ckpt.read_checkpoint

    def read_other(folder, step, with_state):
        assert (tmp_path / "1").is_dir()
        return read(folder, step, with_state)._replace(policy=make_checkpoint(2, 7.0).policy)

    monkeypatch.setattr(ckpt, "read_checkpoint", read_other)
    with pytest.raises(OSError, match="does not come back"):
        save(tmp_path, make_checkpoint(2))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["1"] and ckpt.load_checkpoint(tmp_path).step == 1
    save(tmp_path, make_checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


@pytest.mark.parametrize("name", ["[x]", "proj [2024]", "a*b?", "100% ü", "two\nlines", "{x}~'\""])
def test_a_checkpoint_in_a_folder_of_any_name_comes_back(tmp_path, name):
    (tmp_path / name).mkdir()
    save(tmp_path / name / "checkpoints", make_checkpoint(1), make_checkpoint(2))
    assert np.array_equal(ckpt.load_checkpoint(tmp_path / name / "checkpoints").state["['b'].count"], 2)


def test_a_checkpoint_of_before_there_were_sums_is_read(tmp_path):
    """As orbax's own manager lays it out."""
    import orbax.checkpoint as ocp

    made = make_checkpoint(4)
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(tmp_path, options=options, item_names=("state", "policy", "progress")) as manager:
        arrays = {name: ocp.args.PyTreeSave(getattr(made, name)) for name in ("state", "policy")}
        manager.save(4, args=ocp.args.Composite(**arrays, progress=ocp.args.JsonSave(made.progress)))
    loaded = ckpt.load_checkpoint(tmp_path)
    assert loaded.step == 4 and loaded.progress == made.progress
    assert np.array_equal(loaded.state["['a']"], made.state["['a']"])


def test_a_table_is_what_it_was_at_the_checkpoint(tmp_path):
    tables.write_table(tmp_path, run_folder.METRICS, [])
    tables.append_rows(tmp_path, run_folder.METRICS, [row(10)])
    path, noted = tmp_path / run_folder.METRICS, tables.describe_table(tmp_path, run_folder.METRICS)
    before = path.read_bytes()
    path.write_bytes(before + b"1,2\xff,a crash\n")
    assert tables.saved_table(tmp_path, run_folder.METRICS, noted) == before
    for harmed in (b"", before[: len(before) // 2], before.replace(b"0.1", b"0.2"), before.replace(b"0.1", b"\xff.1")):
        path.write_bytes(harmed)
        with pytest.raises(SettingError, match="not what it was"):
            tables.saved_table(tmp_path, run_folder.METRICS, noted)
    path.unlink()
    with pytest.raises(SettingError, match="cannot be read"):
        tables.saved_table(tmp_path, run_folder.METRICS, noted)


@pytest.mark.parametrize("harmed", [b"\xff", b"x"])
def test_a_table_of_an_older_checkpoint_is_read_or_refused(tmp_path, harmed):
    tables.write_table(tmp_path, run_folder.METRICS, [row(10), row(20)])
    path = tmp_path / run_folder.METRICS
    before = path.read_bytes()
    assert tables.old_table(tmp_path, run_folder.METRICS, 20) == before
    with pytest.raises(SettingError, match="ends before step 30"):
        tables.old_table(tmp_path, run_folder.METRICS, 30)
    path.write_bytes(before.replace(b"0.1", harmed, 1))
    with pytest.raises(SettingError, match="is damaged"):
        tables.old_table(tmp_path, run_folder.METRICS, 20)


def test_a_table_that_was_removed_is_not_made_again(tmp_path):
    with pytest.raises(FileNotFoundError):
        tables.append_rows(tmp_path, run_folder.METRICS, [row(10)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", [flip, cut])
def test_a_change_to_a_sweeps_checkpoint_is_told_or_changes_nothing(tmp_path, harm):
    """The bytes of a zip file that nothing reads may differ."""
    made = make_checkpoint(3)
    unit_checkpoints.save(tmp_path, made)
    path = tmp_path / unit_checkpoints.SAVED
    before, rng, told = path.read_bytes(), np.random.default_rng(1), 0
    for _ in range(200):
        harm(path, rng)
        try:
            assert str(unit_checkpoints.load(tmp_path)) == str(made)
        except ckpt.DamagedCheckpoint:
            told += 1
        path.write_bytes(before)
    assert told > 100
