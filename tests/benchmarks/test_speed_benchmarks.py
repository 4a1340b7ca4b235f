"""What the benchmarks of speed count and compare; the times themselves are theirs to take."""

import json
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from benchmarks import common, run
from benchmarks.pages import performance
from benchmarks.peers import contest_speed as speed
from benchmarks.peers import outcome, solved
from benchmarks.peers.contests import CONTESTS
from benchmarks.peers.environments import ENVIRONMENTS
from benchmarks.peers.ours_dqn import settings_of
from benchmarks.speed import baseline, bounds, kernels, loops, quick, tried
from benchmarks.speed.learners import PLAIN, learners, make_update
from benchmarks.speed.timing import calibrated, take_turns
from purejaxdqn.build import check_read
from purejaxdqn.types import Hypers


def test_products_are_counted_by_shape_and_by_how_often_they_are_made():
    def fn(x, w):
        y, _ = jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), x, None, length=3)
        return jax.lax.fori_loop(0, jnp.int32(x[0, 0]), lambda _, y: y @ w, y), jnp.einsum(
            "bij,bjk->bik", x[None], w[None]
        )

    found = bounds.count_products(fn, jnp.ones((2, 5)), jnp.ones((5, 5)))
    # Three in the scan, one in the loop of unknown length, and one with a batch of one.
    assert found == Counter({(2, 5, 5): 5})
    assert bounds.count_products(lambda x: jnp.einsum("bij,bkj->bik", x, x), jnp.ones((7, 2, 3))) == {(2, 3, 2): 7}


def test_one_update_multiplies_what_a_pen_says():
    """Two passes forward, and the gradients of three weight matrices and two hidden layers."""
    update, carry = make_update(*learners(small=True)[PLAIN])
    found = bounds.count_products(update, jnp.int32(0), carry)
    macs = 128 * (4 * 120 * 3 + 120 * 84 * 4 + 84 * 2 * 4)
    assert sum(times * bounds.operations(shape) for shape, times in found.items()) == 2 * macs


def test_the_update_that_is_timed_learns():
    update, carry = make_update(*learners(small=True)[PLAIN])
    after = jax.jit(lambda c: jax.lax.fori_loop(0, 3, update, c))(carry)
    assert int(after[0].updates.count) == 3
    before, now = (np.asarray(jax.tree.leaves(c[0].params)[0]) for c in (carry, after))
    assert np.isfinite(now).all() and not np.array_equal(before, now)


@pytest.mark.parametrize("name", [name for name in tried.VARIANTS if name not in (tried.AS_IT_IS, tried.HALVES)])
def test_what_made_an_update_faster_left_its_numbers(name):
    """Parameters after 20 updates of 2.5e-4 each, where every choice is undone.

    Adam divides a gradient by its size, so what is nearly zero may differ by a step or two; on average nothing does.
    """
    batches, trips = learners(small=True)[PLAIN], 20

    def train(replaced):
        with tried.patched(replaced):
            update, carry = make_update(*batches)
            return jax.jit(lambda c: jax.lax.fori_loop(0, trips, update, c))(carry)[0]

    mine, other = (np.asarray(ravel_pytree(train(tried.VARIANTS[v]).params)[0]) for v in (tried.AS_IT_IS, name))
    assert np.abs(mine - other).mean() < 1e-7 and np.abs(mine - other).max() < 5e-4


def test_kernels_that_multiply_are_told_from_the_rest():
    program = """%fused.1 (a: f32[2,3]) -> f32[2,4] {
  ROOT %dot.9 = f32[2,4]{1,0} dot(%a, %b), lhs_contracting_dims={1}
}
%fused.2 (a: f32[2]) -> f32[2] {
  ROOT %add.1 = f32[2]{0} add(%a, %a)
}
ENTRY %main {
  %dot_general.3 = f32[2,2]{1,0} dot(%c, %d), lhs_contracting_dims={0}
  %ynn_fusion = f32[2,4]{1,0} fusion(%c), kind=kCustom, calls=%fused.1, metadata={op_name="x"}
  %add_fusion = f32[2]{0} fusion(%e), kind=kLoop, calls=%fused.2
}"""
    found = kernels.product_names(program)
    assert {"dot_general.3", "ynn_fusion"} <= found and "add_fusion" not in found
    rows = kernels.summary(
        {
            name: {"calls": 2.0, "microseconds": us}
            for name, us in {"dot_general.3": 9.0, "ynn_fusion": 7.0, "x": 1.0}.items()
        },
        found,
    )
    assert [row["microseconds"] for row in rows.values()] == [9.0, 7.0, 1.0]


def test_a_bound_is_the_larger_of_two_times():
    found = bounds.Bounds({"product 2 × 3 × 4": 1e-6, "bytes 1024": 1e-6, "bytes 4096": 8e-6, "part": 1.0})
    assert found.flops((2, 3, 4)) == 48 / 1e-6
    assert found.bandwidth(1000) == 2048 / 1e-6, "data of 1000 bytes moves as fast as those of the next larger size"
    assert found.bandwidth(10**9) == 8192 / 8e-6
    seconds, by = found.least_seconds({(2, 3, 4): 5}, 0, 0)
    assert seconds == pytest.approx(5e-6) and by == "products"
    assert found.least_seconds({}, 4096, 1024) == (2e-6, "bytes")


def test_results_name_no_folder_of_a_machine():
    words = ["--peers", "/home/me/peers", "--clone", "purejaxrl=/home/me/src/purejaxrl", "--only", "sbx", "a=b/c"]
    kept = ["--peers", "peers", "--clone", "purejaxrl=purejaxrl", "--only", "sbx", "a=b/c"]
    assert [common.without_folders(word) for word in words] == kept


def test_every_contender_runs_once_before_any_runs_again():
    order = []
    found = take_turns({"a": lambda: order.append("a") or 1.0, "b": lambda: order.append("b") or 2.0}, 3)
    assert order == ["a", "b"] * 3 and found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_call_that_had_to_wait_does_not_shorten_the_timings():
    """One slow call in the middle of the calibration; a trip takes a hundredth of a millisecond."""
    calls = []

    def run_trips(trips):
        calls.append(trips)
        return 1e-5 * trips + (1.0 if len(calls) == 4 else 0.0)

    timer = calibrated(run_trips, seconds=0.1)
    assert timer() == pytest.approx(1e-5) and calls[-1] == 10_000


def test_a_loop_of_which_nothing_is_left_is_no_timing():
    with pytest.raises(RuntimeError, match="left nothing"):
        calibrated(lambda trips: 1e-4, seconds=0.1)


@pytest.mark.parametrize("name", CONTESTS)
def test_ours_reads_every_setting_of_a_contest(name):
    contest = CONTESTS[name]
    config, hypers = settings_of(contest, contest.total_steps)
    check_read(config, {**contest.config, **contest.hypers})
    assert isinstance(hypers.validate(), Hypers) and config.num_iterations > 0
    assert contest.environment in ENVIRONMENTS and set(contest.bars) <= set(contest.seeds)


def test_a_contest_is_won_by_the_ratio_of_medians(monkeypatch, tmp_path, capsys):
    """Ours 300 against 100 steps per second; the peer takes the layout that was faster in its trial."""
    asked = []

    def say(command, environment=None):
        mine = "benchmarks.peers.ours_dqn" in command
        single = (environment or {}).get("NPROC") == "1"
        rate = 300.0 if mine else 100.0 if single else 80.0
        asked.append((mine, single, command[command.index("--seed") + 1]))
        said = dict.fromkeys(speed.KEPT, 1.0) | {"steps_per_second": rate, "greedy_return": None}
        return common.Finished(json.dumps(said), 0.0, 0)

    monkeypatch.setattr(speed, "run", say)
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    (tmp_path / "sb3" / "bin").mkdir(parents=True)
    (tmp_path / "sb3" / "bin" / "python").touch()
    flags = ["--peers", str(tmp_path), "--only", "sb3", "sbx", "--repetitions", "2"]
    monkeypatch.setattr(sys, "argv", ["speed", *flags])
    speed.main()
    found = json.loads((tmp_path / "peers.json").read_text())["contests"]
    assert list(found) == ["sb3, 1 seed"] and found["sb3, 1 seed"]["ratio"] == 3.0
    assert found["sb3, 1 seed"]["sides"]["sb3"]["layout"] == "one thread"
    assert asked[2:] == [(True, False, "0"), (False, True, "0"), (True, False, "1"), (False, True, "1")]
    assert "sbx is left out" in capsys.readouterr().out
    text = performance.peers_table()
    assert "**3.00 ×** | 30 ×" in text and "Theirs ran on one thread." in text


def test_the_guard_fails_where_a_ratio_is_below_its_floor(monkeypatch, capsys):
    def answer(ratio):
        said = {"ratio": ratio, "microseconds_an_update": {"library": 1.0, "baseline": 1.0}}
        return lambda lanes, iterations, repetitions: said

    monkeypatch.setattr(quick, "use_platform", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["quick"])
    monkeypatch.setattr(quick, "measure", answer(max(quick.FLOORS.values())))
    assert quick.main() == 0 and "too slow" not in capsys.readouterr().out
    monkeypatch.setattr(quick, "measure", answer(max(quick.FLOORS.values()) - 0.01))
    assert quick.main() == 1 and "too slow" in capsys.readouterr().out


@pytest.mark.long
def test_the_guard_holds_a_slower_library_for_slower(monkeypatch):
    """The library's contender does its work three times over, and the ratio falls to a third of what it was."""
    fast = quick.measure(1, 100, 5)["ratio"]
    once = quick.library

    def thrice(lanes, iterations):
        go_on = once(lanes, iterations)
        return lambda: go_on() + go_on() + go_on()

    monkeypatch.setattr(quick, "library", thrice)
    assert quick.measure(1, 100, 5)["ratio"] < fast / 2


@pytest.mark.long
def test_the_baseline_learns_what_it_is_timed_at():
    """The yardstick does the work: among the newest 10,000 steps fewer than a third as many fall as at first."""
    go_on = jax.jit(baseline.iterate, static_argnums=1)
    early = go_on(jax.vmap(baseline.init)(jax.random.split(jax.random.key(0), 2)), 1_000)
    late = go_on(early, 5_000)
    falls = [np.asarray(jnp.sum(state["discount"] == 0.0, axis=1)) for state in (early, late)]
    assert late["steps"].tolist() == [6_000, 6_000]
    assert (falls[0] > 500).all() and (falls[1] < falls[0] / 3).all()


def test_the_baselines_cart_is_gymnax_cart():
    import gymnax

    env, params = gymnax.make("CartPole-v1")
    _, state = env.reset(jax.random.key(0), params)
    x = jnp.stack([state.x, state.x_dot, state.theta, state.theta_dot])
    for action in (0, 1, 1, 0):
        x, fell = baseline.step_cartpole(x, jnp.int32(action))
        state = env.step_env(jax.random.key(1), state, jnp.int32(action), params)[1]
        assert np.allclose(x, jnp.stack([state.x, state.x_dot, state.theta, state.theta_dot]), atol=1e-6) and not fell


def test_a_policy_counts_from_the_first_evaluation_at_the_bar(tmp_path):
    metrics = tmp_path / "metrics.csv"
    assert solved.reached(metrics, 475.0) is None
    metrics.write_text("env_steps,eval_return\n5000,\n10000,474.9\n15000,480.0\n20000,500.0\n")
    assert solved.reached(metrics, 475.0)["env_steps"] == "15000" and solved.reached(metrics, 501.0) is None


def test_how_much_longer_theirs_takes_is_told_of_medians():
    def one(seconds, found=True):
        return {"seconds": seconds, "without_compiling": seconds - 1, "solved": found}

    runs = {"purejaxdqn, warm": [one(2.0), one(4.0)], "sb3": [one(30.0), one(60.0, False)]}
    found = solved.summary(runs)
    assert found["times_as_long_as_ours_warm"] == {"sb3": 15.0} and found["programs"]["sb3"]["solved"] == 1


def test_a_runner_says_what_happened_in_its_last_tenth(capsys):
    assert outcome.mean_of_last_tenth([10, 91, 100], [1.0, 2.0, 4.0], 100) == 3.0
    assert outcome.mean_of_last_tenth([10], [1.0], 100) is None
    told = {"updates": 5, "compile_seconds": 1.0, "returns_last_tenth": None, "greedy_return": None, "device": "cpu"}
    outcome.say("peer", seeds=1, steps=100, seconds=2.0, timed_steps=50, packages=("numpy",), **told)
    said = common.last_json(capsys.readouterr().out)
    assert said["steps_per_second"] == 25.0 and said["total_steps"] == 100 and said["versions"]["numpy"]


def test_a_topic_that_fails_costs_only_itself(monkeypatch, capsys):
    called = []

    def call(command):
        called.append(command[2])
        return type("Done", (), {"returncode": int(command[2] == "benchmarks.bounds")})

    monkeypatch.setattr(run.subprocess, "run", call)
    monkeypatch.setattr(sys, "argv", ["run", "--only", "bounds", "parts", "peers"])
    assert run.main() == 1
    said = capsys.readouterr()
    assert called == ["benchmarks.bounds", "benchmarks.parts"] and "failed: bounds" in said.err
    assert "peers: left out" in said.out


def test_a_page_says_how_to_make_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    for name, table in performance.TABLES.items():
        topic = name.replace("kernels", "tried").split("-")[0]
        assert f"python -m benchmarks.run --only {topic}" in table()


def test_every_setting_of_the_loops_can_be_made():
    sections = {section: loops.settings(section, small=False, gpu=False) for section in loops.SECTIONS}
    assert {len(found) > 2 for found in sections.values()} == {True}
    assert sections["lanes"]["1 lane"] == sections["environments"]["10 environments"]
