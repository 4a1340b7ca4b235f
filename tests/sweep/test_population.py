"""Population-based training: who copies whom, by hand and by a twin; the same population however it is interrupted."""

import contextlib
import json
import time

import jax
import numpy as np
import pytest
from command_lines import refused, stop_after
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind
from test_sweep_processes import finish, start

from purejaxdqn.config import SettingError
from purejaxdqn.recipes.files import find_recipe
from purejaxdqn.recipes.recipes import make_settings
from purejaxdqn.runs.sweep_folder import CURVES, LANES, POPULATION, UNITS, read_columns
from purejaxdqn.sweep import command, layout, lineage, population
from purejaxdqn.sweep.population import (
    Explored,
    Scores,
    decide,
    explored,
    multiplied,
    t_test,
    tournament,
    truncation,
)
from purejaxdqn.sweep.values import parse_axis
from purejaxdqn.types import Episodes, Hypers, Learner, State, counter

FLAGS = [
    *("--env", "CartPole-v1", "--num-envs", "4", "--buffer-size", "200", "--batch-size", "8", "--hidden", "8"),
    *("--learning-starts", "40", "--total-steps", "2000", "--log-every", "200", "--eval-every", "400"),
    *("--eval-episodes", "3", "--seeds", "2", "--random", "5", "--learning-rate", "loguniform:1e-4:1e-2"),
    *("--gamma", "uniform:0.9:0.99", "--target-period", "10", "100", "--pbt"),
]
QUIET = ["--quiet", "--no-report", "--device", "cpu"]
TABLES = (CURVES, LANES, POPULATION)


class Fixed:
    """A generator that draws what it is given."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def integers(self, most, size):
        found = np.array(self.draws.pop(0))
        assert found.shape == (size,) and (found < most).all()
        return found


def scored(mean, error=0.5, episodes=10):
    """Scores of a population, all with one error; a member that diverged has none."""
    mean = np.asarray(mean, float)
    return Scores(mean, np.where(np.isfinite(mean), error, np.nan), episodes)


def test_truncation_by_hand():
    """Ten members: the best two are 4 and 7, the worst two 0 and 9, each of which is given a draw of its own."""
    scores = np.array([0.0, 5, 5, 5, 9, 5, 5, 8, 5, 1])
    wanted = truncation(scored(scores), Fixed([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    assert wanted.tolist() == [7, 1, 2, 3, 4, 5, 6, 7, 8, 4]
    scores[[1, 2]] = -np.inf
    wanted = truncation(scored(scores), Fixed([0, 1, 0, 0, 0, 0, 0, 0, 0, 1]))
    assert wanted.tolist() == [0, 7, 4, 3, 4, 5, 6, 7, 8, 9], "those that diverged are the worst"
    assert truncation(scored([1.0, 2.0]), Fixed([0, 0])).tolist() == [1, 1]


def test_tournament_by_hand():
    """Each meets the member that lies 1 + its draw further on, and never itself."""
    wanted = tournament(scored([3.0, 1.0, -np.inf, 2.0]), Fixed([0, 1, 0, 2]))
    assert wanted.tolist() == [1, 3, 0, 2], "one that diverged asks for the best"


def test_t_test_by_hand():
    """Five episodes with errors of 1 and 2: t = 1.6 and 2.4 with 4 · 25 / 17 = 5.88 degrees of freedom, for which 1.95
    is the point of 5 %. Beside SciPy's own test; and of members without any spread, or that diverged."""
    scores = Scores(np.array([0.0, 1.6 * 5**0.5]), np.array([1.0, 2.0]), 5)
    assert t_test(scores, Fixed([0, 0])).tolist() == [0, 1]
    assert t_test(scores._replace(mean=np.array([0.0, 2.4 * 5**0.5])), Fixed([0, 0])).tolist() == [1, 1]
    rng = np.random.default_rng(3)
    for _ in range(50):
        first, second = rng.normal(0, 1, 6), rng.normal(1, rng.uniform(0.1, 3), 6)
        error = [np.std(each, ddof=1) / 6**0.5 for each in (first, second)]
        found = t_test(Scores(np.array([first.mean(), second.mean()]), np.array(error), 6), Fixed([0, 0]))
        due = ttest_ind(second, first, equal_var=False, alternative="greater").pvalue < 0.05
        assert (found[0] == 1) == due
    sure = Scores(np.array([1.0, 2.0, -np.inf]), np.array([0.0, 0.0, np.nan]), 1)
    assert t_test(sure, Fixed([0, 0, 0]))[[0, 2]].tolist() == [1, 1]


@given(
    selection=st.sampled_from(("truncation", "tournament", "t-test")),
    scores=st.lists(st.sampled_from((float("nan"), 0.0, 1.0, 2.0, 3.5)), min_size=2, max_size=12),
    seed=st.integers(0, 2**32 - 1),
    generation=st.integers(0, 50),
)
def test_nobody_copies_what_is_not_better(selection, scores, seed, generation):
    scores = np.array(scores)
    decision = decide(selection, scored(scores), 3, seed, generation)
    again = decide(selection, scored(scores.copy()), 3, seed, generation)
    assert (decision.parents == again.parents).all() and (decision.factors == again.factors).all()
    for member, parent in enumerate(decision.parents):
        if parent == member:
            assert (decision.factors[member] == 1.0).all()
            if np.isnan(scores[member]):
                assert np.isnan(scores).all(), "one that diverged is replaced as long as there is another"
        else:
            assert np.isfinite(scores[parent]) and not scores[parent] <= scores[member]
            assert set(decision.factors[member]) <= {0.8, 1.25}


def test_another_seed_and_another_generation_decide_otherwise():
    scores = np.arange(40.0)
    found = {
        decide("tournament", scored(scores), 1, *key).parents.tobytes() for key in ((0, 0), (0, 1), (1, 0), (1, 1))
    }
    assert len(found) == 4


def test_multiplied_by_hand():
    """0.01 × 1.25 is beyond 0.012; γ = 0.9 is 0.1 from 1, and then 0.08; 10 × 0.8 = 8 whole updates."""
    rate = multiplied(
        np.float32([0.01, 0.01, 0.001]), np.float32([1.25, 1, 0.8]), Explored("learning_rate", 1e-4, 0.012)
    )
    np.testing.assert_allclose(rate, [0.012, 0.01, 0.0008], rtol=1e-6)
    gamma = multiplied(np.float32([0.9, 0.9, 0.98]), np.float32([0.8, 1.25, 0.8]), Explored("gamma", 0.88, 0.983))
    np.testing.assert_allclose(gamma, [0.92, 0.88, 0.983], rtol=1e-6)
    period = multiplied(np.int32([10, 3, 7]), np.float32([0.8, 1.25, 1]), Explored("target_period", 1, 100))
    assert period.dtype == np.int32 and period.tolist() == [8, 4, 7]
    clip = multiplied(np.float32([-1.0]), np.float32([1.25]), Explored("munchausen_clip", -2.0, -0.5))
    assert clip.tolist() == [-1.25]


def test_bounds_are_those_of_the_values():
    axes = [
        parse_axis("learning_rate", ("loguniform:1e-4:1e-2",), float),
        parse_axis("target_period", ("100", "10", "50"), int),
        parse_axis("hidden", ("16",), tuple[int, ...]),
    ]
    assert explored(axes) == (Explored("learning_rate", 1e-4, 1e-2), Explored("target_period", 10, 100))
    with pytest.raises(SettingError, match=r"1\.5"):
        explored([parse_axis("gamma", ("uniform:0.5:1.5",), float)])


def test_units_hold_whole_populations():
    """Three settings, five seeds, seven lanes at a time: two populations in each unit but the last."""
    sweep = layout.Layout((), (), (None,) * 3, tuple(range(5)), ((0, 1, 2),), populations=True)
    lanes = list(range(15))
    assert sweep.cut(lanes, 7) == [(0, 1, 5, 6, 10, 11), (2, 3, 7, 8, 12, 13), (4, 9, 14)]
    assert [len(part) for part in sweep.cut(lanes, 2)] == [3] * 5


def test_descent_by_hand():
    """Lane 1 copies 0 first; later 0 copies 1, so that all descend from 0."""
    history = {
        "lane": np.array([0, 1, 0, 1, 0, 1]),
        "seed": np.zeros(6, int),
        "env_steps": np.array([0, 0, 5, 5, 9, 9]),
        "parent": np.array([0, 1, 0, 0, 1, 1]),
    }
    assert lineage.founders(history, 0) == {0: 0, 1: 0}


def run(folder, *more):
    assert command.main([*FLAGS, *QUIET, "--out", str(folder), *more]) == 0
    return outcome(folder)


def outcome(folder):
    return {name: read_columns(folder / name) for name in TABLES}


def assert_same(found, expected):
    for name in TABLES:
        assert list(found[name]) == list(expected[name])
        for column, values in found[name].items():
            np.testing.assert_array_equal(values, expected[name][column], err_msg=f"{name} {column}")


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("populations") / "grown"
    return folder, run(folder)


def twin(history, curves, fields):
    """Every generation again, from the scores that the curves have."""
    for seed in np.unique(history["seed"]):
        mine = {name: column[history["seed"] == seed] for name, column in history.items()}
        steps = np.unique(mine["env_steps"])
        lanes = mine["lane"][mine["env_steps"] == steps[0]]
        held = {name: mine[name][mine["env_steps"] == steps[0]].astype(np.float32) for name in fields}
        for generation, step in enumerate(steps[1:]):
            now = mine["env_steps"] == step
            scores = np.array(
                [curves["eval_return"][(curves["lane"] == lane) & (curves["env_steps"] == step)][0] for lane in lanes]
            )
            np.testing.assert_array_equal(scores, mine["score"][now])
            decision = decide("truncation", scored(scores), len(fields), int(seed), generation)
            assert mine["parent"][now].tolist() == lanes[decision.parents].tolist()
            for place, (name, of) in enumerate(fields.items()):
                inherited = held[name][decision.parents]
                inherited = inherited.astype(np.int32) if name == "target_period" else inherited
                held[name] = np.asarray(multiplied(inherited, decision.factors[:, place].astype(np.float32), of))
                np.testing.assert_allclose(held[name], mine[name][now], rtol=1e-6)
                held[name] = mine[name][now].astype(np.float32)


def test_the_history_is_what_the_scores_decide(grown):
    """Nine generations of 200 steps; every lane trains to the end; what was copied goes on where its parent was."""
    folder, found = grown
    history, curves, lanes = found[POPULATION], found[CURVES], found[LANES]
    assert len(history["lane"]) == 10 * 10 and np.unique(history["env_steps"]).tolist() == [40, *range(240, 2000, 200)]
    assert (lanes["env_steps"] == 2000).all() and len(curves["lane"]) == 10 * 10
    fields = {of.field: of for of in (Explored("learning_rate", 1e-4, 1e-2), Explored("gamma", 0.9, 0.99))}
    twin(history, curves, fields | {"target_period": Explored("target_period", 10, 100)})
    copied = history["parent"] != history["lane"]
    assert copied.sum() >= 5
    ends = [history[name][copied] for name in ("learning_rate", "gamma", "target_period")]
    assert (ends[0] <= 0.0100001).all() and (ends[1] <= 0.9900001).all() and (ends[2] >= 10).all()
    # Episodes in progress are copied with everything else: a copy and its parent go on from one state.
    told = json.loads((folder / "summary.json").read_text())
    assert told["compilations"] == 1 and [entry["copies"] for entry in told["population"]] == [
        int(copied[history["seed"] == entry["seed"]].sum()) for entry in told["population"]
    ]
    best = told["population"][0]
    mine = lanes["last_mean_return"][lanes["seed"] == best["seed"]]
    assert best["score"] == pytest.approx(mine.max()) and lanes["last_mean_return"].max() == pytest.approx(
        best["score"]
    )


def test_the_best_member_is_a_recipe(grown):
    folder, found = grown
    best = json.loads((folder / "summary.json").read_text())["population"][0]
    recipe = find_recipe(str(folder / "best.toml"))
    _, hypers = make_settings(recipe)
    last = found[POPULATION]["lane"] == best["lane"]
    for name, value in best["values"].items():
        assert getattr(hypers, name) == value == found[POPULATION][name][last][-1]


@pytest.mark.long
@pytest.mark.exact_lanes
def test_populations_do_not_show(tmp_path, monkeypatch):
    """One population to a unit, saved after every chunk: the same numbers, by one program each."""
    together = run(tmp_path / "together")
    monkeypatch.setattr(layout, "LANES_PER_CORE", 1)
    assert_same(run(tmp_path / "apart", "--checkpoint-minutes", "1e-9"), together)


def test_stopped_and_resumed(grown, tmp_path, monkeypatch):
    """After the first chunk, then after seven more: the same population, bit for bit."""
    folder, args = tmp_path / "halted", [*FLAGS, *QUIET, "--out", str(tmp_path / "halted")]
    for count in (1, 7):
        stop_after(monkeypatch, count)
        assert command.main(args) == 130
        args = ["--resume", str(folder), *QUIET]
    stop_after(monkeypatch, None)
    assert command.main(args) == 0
    assert_same(outcome(folder), grown[1])


@pytest.mark.long
def test_members_that_diverge_are_replaced(tmp_path):
    """One of three begins with a rate that no network stands; a generation later it is a copy of another."""
    flags = [word for word in FLAGS if word not in ("--random", "5")]
    flags[flags.index("loguniform:1e-4:1e-2")] = "1e-3"
    wild = [*flags, "--loss", "squared", "--optimizer", "sgd", "--learning-rate", "1e-3", "2e-3", "1e30"]
    assert command.main([*wild, "--gamma", "0.99", "--target-period", "50", *QUIET, "--out", str(tmp_path / "w")]) == 0
    history, lanes = read_columns(tmp_path / "w" / POPULATION), read_columns(tmp_path / "w" / LANES)
    first = history["env_steps"] == 240
    third = first & (history["setting"] == 2)
    assert np.isnan(history["score"][third]).all() and (history["parent"][third] != history["lane"][third]).all()
    assert not lanes["diverged"].any() and (history["learning_rate"][history["env_steps"] > 40] < 1).all()


LONGER = [*FLAGS, "--total-steps", "6000", "--log-every", "50", "--checkpoint-minutes", "1e-9"]
"""Saved after each of 120 chunks, so that a kill hits something."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """By one process that nobody disturbs, whose programs are compiled as usual."""
    folder = tmp_path_factory.mktemp("alone") / "populations"
    finish(start(1, [*LONGER, "--out", str(folder)]))
    return outcome(folder)


def newest_save(folder):
    """When a checkpoint was last written, 0.0 before the first; while one is replaced, what is there of the others."""
    found = [0.0]
    for path in folder.glob(f"{UNITS}/*/*/checkpoint.npz"):
        with contextlib.suppress(OSError):
            found.append(path.stat().st_mtime)
    return max(found)


@pytest.mark.long
@pytest.mark.parametrize("counts", [(1,) * 10, (2,) * 10, (1, 2, 4) * 3 + (1,)])
def test_killed_ten_times_and_resumed(alone, counts, tmp_path):
    """By one, two or four processes, killed amid their work without warning: the same population, bit for bit."""
    folder, rng, kills = tmp_path / "killed", np.random.default_rng(0), 0
    args = [*LONGER, "--out", str(folder)]
    for count in counts:
        before, begin = newest_save(folder), time.monotonic()
        processes = start(count, args)
        while newest_save(folder) == before and not (folder / "summary.json").exists():
            assert time.monotonic() - begin < 600
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.1))
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
        if (folder / "summary.json").exists():
            break
        kills += 1
        args = ["--resume", str(folder), "--checkpoint-minutes", "1e-9"]
    assert kills >= 5, "it came to its end before it was disturbed"
    finish(start(counts[-1], args))
    assert_same(outcome(folder), alone)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--pbt", "nothing varies"]),
        (["--num-envs", "2", "4"], ["--num-envs 2 4", "compiled in"]),
        (["--gamma", "0.9", "0.99", "--halving"], ["--halving", "leave out --halving"]),
        (["--gamma", "0.9", "0.99", "--patience", "3"], ["--patience 3", "ends before the others"]),
        (["--gamma", "0.9", "0.99", "--pbt-every", "1"], ["--pbt-every 1", "(0, 1)"]),
        (["--gamma", "0.9", "0.99", "--pbt-selection", "best"], ["--pbt-selection", "tournament"]),
        (
            ["--gamma", "0.9", "0.99", "--pbt-selection", "t-test", "--eval-episodes", "1"],
            ["--eval-episodes 1", "at least 2"],
        ),
        (["--random", "1", "--gamma", "uniform:0.9:0.99"], ["--pbt", "two members"]),
    ],
)
def test_bad_input_is_one_sentence(flags, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, command.main, ["--env", "CartPole-v1", "--pbt", *flags, *QUIET])
    assert all(word in said for word in words), said
    assert list(tmp_path.iterdir()) == []


def test_what_nothing_would_read_is_an_error(capsys):
    said = refused(
        capsys, command.main, ["--env", "CartPole-v1", "--gamma", "0.9", "0.99", "--pbt-every", "0.2", *QUIET]
    )
    assert "--pbt-every 0.2: nothing reads it without --pbt" in said


def test_lanes_are_copied_on_the_devices():
    """A copy has all of its parent but the key; nothing else changes, and one program does it again."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def make():
        row = np.arange(3, dtype=np.float32)
        learner = Learner(row, row + 10, (), counter(7))
        episodes = Episodes(row, row, row, row)
        state = State(
            counter(5), learner, row[:, None] + 20, row, episodes, np.arange(6, dtype=np.uint32).reshape(3, 2)
        )
        hypers = jax.tree.map(lambda leaf: np.full(3, leaf), Hypers().as_arrays())
        hypers = hypers.replace(gamma=np.float32([0.9, 0.95, 0.99]))
        return jax.device_put((state, hypers), sharding)

    exchange = population.make_exchange([Explored("gamma", 0.5, 0.995)], *make())
    names, factors = np.uint32([7, 8, 9]), {"gamma": np.float32([1, 1, 0.8])}
    before = jax.device_get(make())
    state, hypers = jax.device_get(exchange(*make(), np.int32([0, 1, 0]), names, factors))
    assert state.learner.params.tolist() == [0, 1, 0] and state.memory[:, 0].tolist() == [20, 21, 20]
    assert state.vector_steps.count == 5 and state.learner.updates.count == 7
    np.testing.assert_allclose(hypers.gamma, [0.9, 0.95, 0.92], rtol=1e-6)
    assert (state.key_data[:2] == before[0].key_data[:2]).all()
    folded = jax.random.fold_in(jax.random.wrap_key_data(before[0].key_data[2], impl="threefry2x32"), 9)
    assert (state.key_data[2] == np.asarray(jax.random.key_data(folded))).all()
    exchange(*make(), np.int32([2, 2, 2]), names, {"gamma": np.float32([0.8, 0.8, 1])})
    assert exchange._cache_size() == 1
