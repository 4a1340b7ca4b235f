"""The rules of runs for whole algorithms: chunks do not show, a saved state goes on, lanes are solo runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import TINY, TINY_REPLAY, TINY_ROLLOUT, TINY_WINDOWS, same_bits

from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan, state_bytes
from purejaxdqn.recipes.recipes import RECIPES, make_settings
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.types import Hypers

KEY = jax.random.key(0, impl="threefry2x32")
BREAKOUT = "breakout-minatar"
ALGORITHMS = {
    "prioritized": TINY_REPLAY,
    "rainbow": TINY_REPLAY | {"num_atoms": 7},
    "m-iqn": TINY_REPLAY | {"num_quantiles": 4, "num_cosines": 6, "replay": "prioritized"},
    "btr": TINY_REPLAY | {"num_quantiles": 4, "num_target_quantiles": 3, "num_policy_quantiles": 5, "num_cosines": 6},
    "pqn": TINY_ROLLOUT,
    "r2d2": TINY_WINDOWS,
    "pqn-rnn": TINY | {"rollout_length": 8, "num_minibatches": 2, "norm": "batch", "memory_size": 4},
}


@pytest.mark.parametrize(
    "algo",
    [
        pytest.param(algo, marks=pytest.mark.exact_lanes if algo == "prioritized" else pytest.mark.long)
        for algo in ALGORITHMS
    ],
)
def test_chunks_checkpoints_and_lanes_do_not_show(algo, tmp_path):
    """Four iterations are two and two, with a checkpoint on disk between them; and lane 1 of 2 is the solo run, bit for
    bit on every leaf."""
    recipe = RECIPES[BREAKOUT if algo == "btr" else "cartpole"]
    config, hypers = make_settings(recipe, algo=algo, **ALGORITHMS[algo])
    agent = make_agent(config)
    lanes = make_lanes(agent, make_plan(agent, 2))
    stacked = lanes.put(repeat_hypers(hypers, 2))
    start = lanes.get(lanes.init(lanes.put(seed_keys([0, 1])), stacked))
    whole, metrics = lanes.iterate(lanes.put(start), stacked, 40)
    half, _ = lanes.iterate(lanes.put(start), stacked, 20)
    flat = ckpt.to_flat(lanes.get(half))
    ckpt.save_checkpoint(tmp_path / "checkpoints", ckpt.Checkpoint(20, flat, {"last": flat, "best": flat}, {}))
    saved = ckpt.load_checkpoint(tmp_path / "checkpoints").state
    restored = lanes.put(ckpt.from_flat(saved, jax.eval_shape(lambda: start)))
    rest, _ = lanes.iterate(restored, stacked, 20)
    assert same_bits(lanes.get(whole), lanes.get(rest))
    solo_lanes = make_lanes(agent, make_plan(agent, 1))
    solo_hypers = solo_lanes.put(repeat_hypers(hypers, 1))
    solo, _ = solo_lanes.iterate(solo_lanes.init(solo_lanes.put(seed_keys([1])), solo_hypers), solo_hypers, 40)
    one = jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else leaf[1], lanes.get(whole))
    other = jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else leaf[0], solo_lanes.get(solo))
    assert same_bits(one, other)
    assert (
        np.isfinite(lanes.get(metrics).loss_sum).all()
        and (lanes.get(metrics).updates == 40 * config.updates_per_iteration).all()
    )


@pytest.mark.long
def test_prioritized_replay_is_not_copied():
    """With 10⁶ transitions, a chunk reuses the state, and its scratch space has no room for a copy of ring or tree."""
    config, hypers = make_settings(
        RECIPES["cartpole"], replay="prioritized", **TINY_REPLAY | {"buffer_size": 1_000_000}
    )
    agent = make_agent(config)
    state = jax.eval_shape(agent.init, KEY, Hypers())
    compiled = jax.jit(agent.iterate, donate_argnums=0).lower(state, hypers, jnp.int32(4)).compile()
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes > 0.99 * state_bytes(agent)
    assert memory.temp_size_in_bytes < 1_000_000
