"""Explorers in a run: what they carry follows episodes, lanes are solo runs, and a run in parts is a whole one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.robustness.product import Combination, check, good
from purejaxdqn import build
from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.learning.explorers import Explorer
from purejaxdqn.loops.device import make_agent
from purejaxdqn.types import Hypers, lane_axes

KEY = jax.random.key(0, impl="threefry2x32")
EXPLORERS = {
    "ez-greedy": {"explorer": "ez-greedy", "duration_cap": 7, "epsilon_ladder": True},
    "bootstrapped": {"explorer": "bootstrapped", "ensemble": 3, "prior_scale": 1.0},
}


@pytest.fixture
def counting(monkeypatch):
    """An explorer that carries how often it acted in the episode."""

    def act(key, q_values, epsilon, carried, h):
        return epsilon_greedy(key, q_values, epsilon), carried + 1

    counter = Explorer(act, lambda n: jnp.zeros(n, jnp.int32), lambda carried, begins: jnp.where(begins, 0, carried))
    monkeypatch.setitem(build.EXPLORERS, "counting", build.Choice(lambda config: counter))
    return "counting"


def test_what_is_carried_follows_the_episodes(tiny_config, counting):
    """On the device, through prefill and training: as many actions as steps of the episode that goes on."""
    agent = make_agent(tiny_config.replace(explorer=counting, prefill="policy"))
    state = jax.jit(agent.init)(KEY, Hypers())
    for _ in range(3):
        np.testing.assert_array_equal(state.explorer, state.episodes.episode_length)
        assert int(state.episodes.ended) > 0 or int(state.vector_steps.count) < 40
        state, _ = jax.jit(agent.iterate)(state, Hypers(), 37)


def assert_same_bits(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x).view(), np.asarray(y).view()), a, b)


@pytest.mark.parametrize("name", EXPLORERS)
def test_lanes_are_solo_runs_and_parts_make_a_whole(tiny_config, name):
    agent = make_agent(tiny_config.replace(norm="none", **EXPLORERS[name]))
    hypers, keys = Hypers(epsilon_final=0.3), jax.random.split(KEY, 2)
    start, iterate = jax.jit(agent.init), jax.jit(agent.iterate)
    whole = iterate(start(keys[1], hypers), hypers, 20)[0]
    assert_same_bits(iterate(iterate(start(keys[1], hypers), hypers, 13)[0], hypers, 7)[0], whole)
    axes = lane_axes(jax.eval_shape(agent.init, KEY, hypers))
    begun = jax.jit(jax.vmap(agent.init, in_axes=(0, None), out_axes=axes))(keys, hypers)
    run = jax.jit(jax.vmap(lambda s: agent.iterate(s, hypers, 20), in_axes=(axes,), out_axes=(axes, 0)))
    lanes = run(begun)[0]
    assert_same_bits(jax.tree.map(lambda leaf: leaf[1], lanes.explorer), whole.explorer)
    assert_same_bits(jax.tree.map(lambda leaf: leaf[1], lanes.learner.params), whole.learner.params)


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


@pytest.mark.parametrize(
    ("combination", "changes"),
    [pytest.param(*case, marks=[] if i == 0 else pytest.mark.long) for i, case in enumerate(COMBINED)],
    ids=[f"{case[0][0]}-{case[1]['explorer']}" for case in COMBINED],
)
def test_explorers_compose_with_the_other_seams(combination, changes):
    """Trains 2,000 steps, stays finite, vmaps over seeds, rates, discounts and τ, and new values compile nothing."""
    result = check(Combination(*combination), **changes)
    assert good(result), result
