"""Hooks from Python's side: what a probe adds and leaves alone, what is refused, and what callbacks may do."""

import csv
import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build
from purejaxdqn.config import Config, SettingError
from purejaxdqn.loops.counts import zero_metrics
from purejaxdqn.loops.data_parallel import make_data_lanes
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.host_lanes import make_host_lanes
from purejaxdqn.loops.lanes import make_lanes
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.machine.imports import imported
from purejaxdqn.runs import tables
from purejaxdqn.runs.folder import METRICS, Settings
from purejaxdqn.runs.hooks import NO_HOOKS, CallbackRaised, Hook, Hooks, Logged, Probe, asks_to_stop, find_hook
from purejaxdqn.runs.records import event_values
from purejaxdqn.runs.runner import ChunkReport, Run
from purejaxdqn.train.display import Silent, describe
from purejaxdqn.types import Hypers

HOST = "gymnasium/CartPole-v1"
TINY = Config(total_steps=420, num_envs=4, learning_starts=40, buffer_size=200, batch_size=8, hidden=(8,))


def squares(state, metrics):
    """The squared norm of the parameters, and the updates of the chunk."""
    leaves = jax.tree.leaves(state.learner.params)
    return {"squares": sum(jnp.sum(leaf**2) for leaf in leaves), "made": metrics.updates}


def rows_of(folder):
    return list(csv.DictReader((folder / METRICS).open()))


def trained(folder, hooks=NO_HOOKS, seeds=(0, 1, 2), **changes):
    """A run to its end."""
    folder.mkdir()
    config = dataclasses.replace(TINY, **changes)
    others = {"log_every": 100, "eval_every": 200, "eval_episodes": 2, "checkpoint_every": 10_000}
    run = Run(Settings(config=config, hypers=Hypers(), seeds=seeds, recipe="x", algo=None, **others), folder, hooks)
    run.start()
    run.train(Silent(), lambda: False)
    run.lanes.close()
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"log_episodes": 5}, id="lanes"),
        pytest.param({"env": HOST, "seeds": (3,), "replay_memory": "host"}, id="host", marks=pytest.mark.long),
        pytest.param({"data_parallel": 2, "seeds": (3,)}, id="shards", marks=pytest.mark.long),
    ],
)
def test_a_run_with_a_probe_is_the_run_without(changes, tmp_path, request):
    """Every leaf of the state, the best parameters and every other column; its own are of the state at each row."""
    if "env" in changes:
        pytest.importorskip("gymnasium")
    else:
        request.getfixturevalue("shared_programs")
    seen = []
    hooks = Hooks(Hook("probe", "mine:squares", squares), (Hook("callback", "seen.append", seen.append),))
    plain, probed = trained(tmp_path / "plain", **changes), trained(tmp_path / "probed", hooks, **changes)
    for a, b in ((plain.state, probed.state), (plain.best.params, probed.best.params)):
        pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
        for (path, x), y in pairs:
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), jax.tree_util.keystr(path)
    rows = rows_of(probed.folder)
    assert [list(row) for row in rows[:1]] == [[*tables.METRIC_COLUMNS, "made", "squares"]]
    without = [{name: row[name] for name in tables.METRIC_COLUMNS} for row in rows]
    assert without == rows_of(plain.folder) and plain.settings.probe is None
    for lane, row in enumerate(rows[-len(plain.settings.seeds) :]):
        params = jax.tree.leaves(probed.lanes.get(probed.state).learner.params)
        expected = sum(np.sum(np.asarray(leaf[lane], np.float64) ** 2) for leaf in params)
        np.testing.assert_allclose(float(row["squares"]), expected, rtol=1e-5)
    updates = [int(row["updates"]) for row in rows if row["seed"] == rows[0]["seed"]]
    made = [int(row["made"]) for row in rows if row["seed"] == rows[0]["seed"]]
    assert made == np.diff([0, *updates]).tolist() and len(set(made)) == 2, "the last chunk is shorter"
    assert b"probe/squares" in next((probed.folder / "tensorboard").glob("events*")).read_bytes()
    logged = [row for one in seen for row in one.rows]
    assert [f"{row['squares']:.9g}" for row in logged] == [row["squares"] for row in rows]
    assert seen[-1].env_steps == probed.env_steps and seen[-1].folder == probed.folder


@pytest.fixture(scope="module")
def agent():
    return make_agent(TINY)


@pytest.fixture(scope="module")
def lanes(agent):
    return make_lanes(agent, make_plan(agent, 3), 2)


def invented(shapes):
    """Whole numbers in place of arrays, for a state that nobody trained."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.integers(0, 9, leaf.shape).astype(leaf.dtype), shapes)


@pytest.mark.parametrize("block", [1, 2])
def test_a_probe_is_of_one_lane(agent, block, count_compilations):
    """Three lanes on two devices, mapped or vmapped: its number i is of lane i; and it is compiled once."""
    lanes = make_lanes(agent, make_plan(agent, 3, block), 2)

    def look(state, metrics):
        assert state.memory.ring.rows.obs.shape == (50, 4, 4) and metrics.loss_sum.shape == ()
        return {
            "rewards": state.memory.ring.rows.reward.sum(),
            "clock": state.vector_steps.count,
            "loss": 0.0,
            "mean_loss": metrics.loss_sum / metrics.updates,
            "some": metrics.episodes > 1,
            "half": jnp.bfloat16(0.5),
        }

    with pytest.raises(SettingError, match="has a column loss of its own"):
        Probe(Hook("probe", "mine", look), lanes)
    probe = Probe(Hook("probe", "mine", lambda *given: {k: v for k, v in look(*given).items() if k != "loss"}), lanes)
    state = invented(lanes.like)
    metrics = jax.tree.map(lambda leaf: np.arange(3).astype(leaf.dtype), zero_metrics())
    metrics = dataclasses.replace(metrics, updates=np.full(3, 4, np.int32))
    found = probe(lanes.put(state), metrics)
    rewards = state.memory.ring.rows.reward.reshape(3, -1).sum(axis=1)
    assert probe.columns == tuple(found[0]) == ("clock", "half", "mean_loss", "rewards", "some")
    assert [row["rewards"] for row in found] == rewards.tolist() and len(set(rewards.tolist())) == 3
    assert [row["mean_loss"] for row in found] == [0.0, 0.25, 0.5]
    assert [row["some"] for row in found] == [0, 0, 1] and {row["half"] for row in found} == {0.5}
    assert {row["clock"] for row in found} == {int(state.vector_steps.count)}
    before = count_compilations()
    probe(lanes.put(state), metrics)
    assert count_compilations() == before


def test_a_probe_of_a_run_in_shards_or_on_the_host_is_of_all_of_it():
    """What shards have of their own has an axis of them; a replay in the host's memory is not shown."""
    metrics = jax.tree.map(lambda leaf: np.asarray(leaf)[None] + leaf.dtype.type(3), zero_metrics())

    def look(state, metrics):
        return squares(state, metrics) | {"parts": sum(leaf.size for leaf in jax.tree.leaves(state.memory))}

    parts, sharded = make_data_lanes(TINY.replace(data_parallel=2), (0,), 2)
    state = invented(sharded.like)
    (found,) = Probe(Hook("probe", "mine", look), sharded)(sharded.restored(state, None), metrics)
    expected = {"made": 3, "parts": sum(leaf.size for leaf in jax.tree.leaves(state.memory))}
    assert found == expected | {"squares": sum(np.sum(leaf**2) for leaf in jax.tree.leaves(state.learner.params))}
    assert state.memory.ring.rows.reward.shape[:2] == (1, 2) and parts.env.spec.num_actions == 2

    pytest.importorskip("gymnasium")
    for place in ("device", "host"):
        config = TINY.replace(env=HOST, replay_memory=place)
        lanes = make_host_lanes(config, build(config), (0,), 2, keep_replay=True)
        state = invented(lanes.like["run"])
        (found,) = Probe(Hook("probe", "mine", look), lanes)(state, metrics)
        expected["parts"] = sum(leaf.size for leaf in jax.tree.leaves(state.memory)) if place == "device" else 0
        assert found == expected | {"squares": sum(np.sum(leaf**2) for leaf in jax.tree.leaves(state.learner.params))}


def raises(state, metrics):
    raise KeyError("nothing\nhere")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (raises, "it raised KeyError: 'nothing"),
        (lambda state: {}, "it raised TypeError: .*takes 1 positional argument"),
        (lambda state, metrics: {"a": 1.0 if metrics.episodes > 1 else 0.0}, "it raised TracerBoolConversionError"),
        (lambda state, metrics: {"a": "text"}, "it raised TypeError"),
        (lambda state, metrics: metrics.loss_sum, "it gives no dict of numbers"),
        (lambda state, metrics: [metrics.loss_sum], "it gives no dict of numbers"),
        (lambda state, metrics: {}, "it gives no dict of numbers"),
        (lambda state, metrics: {"a": None}, "a is NoneType: give one real number"),
        (lambda state, metrics: {"a": state.learner.updates}, "a is Counter: give one real number"),
        (lambda state, metrics: {"a": state.key_data}, r"a is uint32 \(2,\): give one real number"),
        (lambda state, metrics: {"a": jnp.complex64(1)}, r"a is complex64 \(\): give one real number"),
        (lambda state, metrics: {"a": jax.random.key(0)}, r"a is key<fry> \(\): give one real number"),
        (lambda state, metrics: {"seed": 1.0}, "has a column seed of its own"),
        (lambda state, metrics: {"eval_return": 1.0}, "has a column eval_return of its own"),
        (lambda state, metrics: {"a\nb": 1.0}, r"'a\\nb' is no name of a column"),
        (lambda state, metrics: {" ": 1.0}, "is no name of a column"),
        (lambda state, metrics: {3: 1.0}, "3 is no name of a column"),
    ],
)
def test_what_is_no_probe_is_refused_by_its_shapes(call, words, lanes):
    with pytest.raises(SettingError, match=words) as told:
        Probe(Hook("probe", "mine.py:it", call), lanes)
    assert (told.value.field, told.value.value) == ("probe", "mine.py:it") and "\n" not in told.value.remedy


def test_a_run_keeps_its_columns():
    """The check of a run that goes on, with and without a probe, against columns of its table."""

    def check(begun, now):
        probe = SimpleNamespace(columns=now) if now else None
        stub = SimpleNamespace(probe=probe, probed=now, settings=SimpleNamespace(probe="mine.py:it"))
        Run.check_columns(stub, begun)

    check((), ())
    check(("a", "b"), ("a", "b"))
    for begun, now, words in (
        (("a", "b"), (), r"metrics.csv has columns of it \(a, b\), .*add this flag"),
        (("a", "b"), ("b",), "it gives b, and metrics.csv was begun with a, b: .* begin a new one"),
        ((), ("b",), "it gives b, and metrics.csv was begun with no probe: .* begin a new one"),
    ):
        with pytest.raises(SettingError, match=words) as told:
            check(begun, now)
        assert (told.value.field, told.value.value) == ("probe", "mine.py:it")
    header = tables.format_rows(METRICS, [], header=True, more=("a", 'b, "c"'))
    assert tables.more_columns(header.encode()) == ("a", 'b, "c"') and tables.more_columns(b"") == ()
    assert tables.more_columns(tables.format_rows(METRICS, [], header=True).encode()) == ()


def test_a_probes_numbers_are_in_events_and_on_the_line():
    rows = [dict.fromkeys(tables.METRIC_COLUMNS) | {"mine": value} for value in (1.0, 4.0)]
    assert event_values(rows, ("mine",)) == {"probe/mine": 2.5} and event_values(rows) == {}
    report = ChunkReport(100, 5.0, 1.0, 0.5, 0.25, 0.1, None)
    assert describe(report._replace(probed=(("mine", 2.5), ("other", None))), None) == (
        f"{describe(report, None)}  mine 2.5  other –"
    )


@pytest.mark.parametrize(
    ("said", "stops"), [(True, True), (np.True_, True), (False, False), (None, False), (1, False), ([0], False)]
)
def test_only_true_asks_to_stop(said, stops, tmp_path):
    assert asks_to_stop(Hook("callback", "it", lambda logged: said), Logged(tmp_path, 8, 4, ())) is stops


def test_what_was_logged_has_means(tmp_path):
    logged = Logged(tmp_path, 8, 4, ({"a": 1.0, "b": None}, {"a": 4.0, "b": None}))
    assert logged.mean("a") == 2.5 and logged.mean("b") is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        logged.updates = 5


def test_all_callbacks_hear_of_a_chunk_and_the_first_that_asks_is_named(tmp_path):
    """A signal goes before a callback, and a run that is finished anyway is not stopped."""
    rows, heard = [{"loss": 1.0}], []

    def meddle(logged):
        logged.rows[0]["loss"] = 7.0

    def first(logged):
        return True

    def second(logged):
        heard.append(logged)
        return True

    def third(logged):
        raise ZeroDivisionError("so it ends\nhere")

    hooks = {call: Hook("callback", f"mine.py:{call.__name__}", call) for call in (meddle, first, second, third)}

    def halt(*calls, signal=False, finished=False):
        callbacks = tuple(hooks[call] for call in calls)
        stub = SimpleNamespace(folder=tmp_path, env_steps=8, updates=4, callbacks=callbacks, finished=finished)
        return Run.halt(stub, rows, lambda: signal)

    assert halt(meddle) is None and rows == [{"loss": 1.0}]
    assert halt(first, second).by is hooks[first]
    assert halt(second, first).by is hooks[second] and heard[-1] == Logged(tmp_path, 8, 4, ({"loss": 1.0},))
    assert halt(first, signal=True).by is None and halt(signal=True).by is None
    assert halt() is None and halt(first, second, finished=True) is None and len(heard) == 3
    for finished in (False, True):
        raised = halt(third, finished=finished)
        assert isinstance(raised, CallbackRaised)
        assert str(raised) == "--callback mine.py:third: it raised ZeroDivisionError: so it ends"


@pytest.mark.usefixtures("own_parts")
def test_a_hook_is_found_by_its_name_and_noted_nowhere(tmp_path, monkeypatch):
    """What goes on with a run, or plays it, need not import what only watched it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some_hooks.py").write_text("value = 3\n\n\ndef look(state, metrics): ...\n")
    hook = find_hook("probe", "some_hooks.py:look")
    assert (hook.flag, hook.call.__name__) == ("--probe some_hooks.py:look", "look")
    assert find_hook("callback", "some_hooks:look").call is hook.call and imported() == []
    assert find_hook("callback", None) is None
    assert find_hook("callback", None, len) == ("callback", "builtins:len", len)
    for typed, words in (
        ("some_hooks.py", "use path/to/file.py:function"),
        (":look", "use path/to/file.py:function"),
        ("some_hooks.py:", "use path/to/file.py:function"),
        ("some_hooks.py:lok", "has no lok, and the nearest names are look"),
        ("some_hooks.py:value", "value is no function"),
        ("no_file.py:look", "there is no file no_file.py"),
        ("no_such_module_anywhere:look", "cannot be imported"),
    ):
        with pytest.raises(SettingError, match=words) as told:
            find_hook("callback", typed)
        assert (told.value.field, told.value.value) == ("callback", typed)
    with pytest.raises(SettingError, match="passed from Python too"):
        find_hook("probe", "some_hooks.py:look", len)
    with pytest.raises(SettingError, match="pass a function"):
        find_hook("probe", None, 3)
