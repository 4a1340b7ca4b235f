"""Resets, what follows them, an explorer that carries and an average of parameters in one run: lanes are solo runs, and
a run in parts is a whole one."""

import jax
import numpy as np
import pytest
from programs import same_bits

from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.types import Hypers


@pytest.fixture(scope="module")
def agent(tiny_config):
    carried = {"explorer": "ez-greedy", "duration_cap": 7, "epsilon_ladder": True, "average_params": True}
    resets = {"resets": True, "anneal_horizon": True, "updates_per_rollout": 2}
    return make_agent(tiny_config.replace(norm="none", **resets, **carried))


@pytest.mark.long
@pytest.mark.exact_lanes
def test_lanes_are_solo_runs_and_parts_make_a_whole(agent):
    """Lane 1 of 2 is the solo run, and 20 iterations are 10 and 10, with a reset between them, on every leaf."""
    pair, solo = make_lanes(agent, make_plan(agent, 2)), make_lanes(agent, make_plan(agent, 1))

    def run(lanes, seeds, periods, *parts):
        same = Hypers(n_step_final=1, anneal_updates=8)
        h = lanes.put(repeat_hypers(same, len(seeds)).replace(reset_period=np.array(periods, np.int32)))
        state = lanes.init(lanes.put(seed_keys(seeds)), h)
        for n in parts:
            state, _ = lanes.iterate(state, h, n)
        return jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else leaf[-1], lanes.get(state))

    whole = run(solo, [1], [20], 20)
    assert same_bits(run(solo, [1], [20], 10, 10), whole)
    assert same_bits(run(pair, [0, 1], [8, 20], 20), whole)
    assert not same_bits(run(solo, [1], [40], 20), whole)
