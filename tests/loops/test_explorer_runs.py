"""Explorers in a run: what they carry follows episodes, lanes are solo runs, and a run in parts is a whole one."""

import jax
import numpy as np
import pytest
from programs import counting_explorer, same_bits

from benchmarks.robustness.product import Combination, check, good
from purejaxdqn import build
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.types import Hypers

KEY = jax.random.key(0, impl="threefry2x32")
EXPLORERS = {
    "ez-greedy": {"explorer": "ez-greedy", "duration_cap": 7, "epsilon_ladder": True},
    "bootstrapped": {"explorer": "bootstrapped", "ensemble": 3, "prior_scale": 1.0},
}


@pytest.fixture
def counting(monkeypatch):
    """An explorer that carries how often it acted in the episode."""
    monkeypatch.setitem(build.EXPLORERS, "counting", build.Choice(lambda config: counting_explorer()))
    return "counting"


def test_what_is_carried_follows_the_episodes(tiny_config, counting):
    """On the device, through prefill and training: as many actions as steps of the episode that goes on."""
    agent = make_agent(tiny_config.replace(explorer=counting, prefill="policy"))
    state = jax.jit(agent.init)(KEY, Hypers())
    for _ in range(3):
        np.testing.assert_array_equal(state.explorer, state.episodes.episode_length)
        assert int(state.episodes.ended) > 0 or int(state.vector_steps.count) < 40
        state, _ = jax.jit(agent.iterate)(state, Hypers(), 37)


@pytest.mark.long
@pytest.mark.exact_lanes
@pytest.mark.parametrize("name", EXPLORERS)
def test_lanes_are_solo_runs_and_parts_make_a_whole(tiny_config, name):
    """Lane 1 of 2 is the solo run, and 20 iterations are 13 and 7, bit for bit on every leaf."""
    agent = make_agent(tiny_config.replace(norm="none", **EXPLORERS[name]))
    pair, solo = make_lanes(agent, make_plan(agent, 2)), make_lanes(agent, make_plan(agent, 1))

    def run(lanes, seeds, *parts):
        h = lanes.put(repeat_hypers(Hypers(epsilon_final=0.3), len(seeds)))
        state = lanes.init(lanes.put(seed_keys(seeds)), h)
        for n in parts:
            state, _ = lanes.iterate(state, h, n)
        return jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else leaf[-1], lanes.get(state))

    whole = run(solo, [1], 20)
    assert same_bits(run(solo, [1], 13, 7), whole)
    assert same_bits(run(pair, [0, 1], 20), whole)
    assert jax.tree.leaves(whole.explorer)


def test_the_default_carries_nothing(tiny_config):
    """So the states of older runs are read, and a ladder or a temperature is a new value and no new state."""
    state = jax.eval_shape(make_agent(tiny_config).init, KEY, Hypers())
    assert jax.tree.leaves(state.explorer) == []


COMBINED = [
    (("iqn", "munchausen", True, True, "prioritized", 3), {"explorer": "bootstrapped", "ensemble": 2}),
    (("categorical", "double", True, False, "uniform", 1), {**EXPLORERS["bootstrapped"], "epsilon_ladder": True}),
    (("fqf", "max", False, True, "uniform", 3), {"explorer": "ez-greedy", "ensemble": 2}),
    (("quantile", "munchausen", False, False, "prioritized", 1), {"explorer": "boltzmann", "ensemble": 2}),
    (("scalar", "double", False, False, "prioritized", 3), {**EXPLORERS["ez-greedy"]}),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("combination", "changes"),
    [pytest.param(*case, marks=[] if case[0][0] == "scalar" else pytest.mark.long) for case in COMBINED],
    ids=[f"{case[0][0]}-{case[1]['explorer']}" for case in COMBINED],
)
def test_explorers_compose_with_the_other_seams(combination, changes):
    """Trains 2,000 steps, stays finite, vmaps over seeds, rates, discounts and τ, and new values compile nothing."""
    result = check(Combination(*combination), **changes)
    assert good(result), result
