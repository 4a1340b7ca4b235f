"""Loops whose carry is joined for a GPU give what they give otherwise, tried on a CPU that says it is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import same_bits

from purejaxdqn.config import Config
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.lanes import map_lane_leaves, run_block
from purejaxdqn.machine import joined_carry
from purejaxdqn.machine.joined_carry import join_carry, scan_joined
from purejaxdqn.replay.ring import pick
from purejaxdqn.types import Hypers, counter, is_counter

SIZES = {"hidden": (8, 8), "num_envs": 2, "total_steps": 200}
CONFIGS = {
    "replay": Config(**SIZES, batch_size=8, buffer_size=40, learning_starts=20, log_episodes=3, updates_per_rollout=2),
    "rollout": Config(**SIZES, learner="rollout", rollout_length=4, num_minibatches=2),
    "noisy": Config(**SIZES, batch_size=8, buffer_size=40, learning_starts=20, noisy=True, dueling=True),
}


def as_on(platform, monkeypatch):
    """What is traced from here on is for a platform."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)


def check_close(a, b):
    """Whole numbers of two trees are equal, and floats up to rounding: XLA fuses them otherwise."""
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        exact = not np.issubdtype(one.dtype, np.floating)
        np.testing.assert_allclose(one, other, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-5)


def test_numbers_and_short_vectors_are_one_vector_of_each_type(monkeypatch):
    """Three floats and two whole numbers become two vectors; a matrix, a long vector and a counter stay."""
    as_on("gpu", monkeypatch)
    long = jnp.ones(joined_carry.LONGEST + 1)
    carry = {"a": jnp.array([1.0, 2.0]), "b": 3.0 * jnp.ones(()), "c": counter(7), "d": jnp.arange(2), "e": long}
    carry["f"] = jnp.ones((2, 2))
    step, joined, back = join_carry(lambda tree, x: (tree | {"b": tree["b"] + x}, x), carry, is_counter)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(joined)) == [(), (2,), (2, 2), (3,), long.shape]
    assert same_bits(back(joined), carry) and jax.tree.structure(back(joined)) == jax.tree.structure(carry)
    after, last = jax.lax.scan(step, joined, jnp.array([1.0, 2.0]))
    assert float(back(after)["b"]) == 6.0 and last.tolist() == [1.0, 2.0]
    as_on("cpu", monkeypatch)
    assert join_carry(step, carry, is_counter)[:2] == (step, carry)


def test_outputs_are_stacked_as_one_array_of_each_type(monkeypatch):
    """A float and a matrix of floats become one stack, a larger vector stays; nothing does for a single trip."""
    monkeypatch.setattr(joined_carry, "LARGEST", 6)

    def step(carry, x):
        carry = {"a": carry["a"] + x, "b": counter(carry["b"].count + 1), "c": carry["c"] * 0.5}
        long = jnp.full(8, x)
        return carry, {"sum": carry["a"], "square": x * jnp.ones((2, 3)), "index": carry["b"].count, "long": long}

    first = {"a": jnp.float32(1.0), "b": counter(0), "c": jnp.ones(2)}
    for xs in (jnp.array([1.0, 2.0, 4.0, 0.0, 0.0]), jnp.array([8.0])):
        stacked, found = [], []
        for platform in ("cpu", "gpu"):
            as_on(platform, monkeypatch)
            run = lambda carry, xs: scan_joined(step, carry, xs, is_counter)  # noqa: E731
            found.append(run(first, xs))
            (loop,) = (eqn for eqn in jax.make_jaxpr(run)(first, xs).eqns if eqn.primitive.name == "scan")
            shapes = [var.aval.shape for var in loop.outvars]
            stacked.append(sorted(shape[1:] for shape in shapes if shape[:1] == xs.shape))
        assert same_bits(*found) and found[0][1]["square"].shape == (len(xs), 2, 3)
        apart, together = [(), (), (2, 3), (8,)], [(1,), (7,), (8,)]
        assert stacked == [apart, together if len(xs) > 1 else apart]


@pytest.mark.parametrize(
    "learner", ["replay", *(pytest.param(name, marks=pytest.mark.long) for name in ("rollout", "noisy"))]
)
def test_a_run_is_the_same(learner, monkeypatch):
    """State and metrics after some iterations, to rounding; the program for a GPU carries fewer arrays."""
    agent, found, carried = make_agent(CONFIGS[learner]), [], []
    state = jax.jit(agent.init)(jax.random.key(0), Hypers())
    for platform in ("cpu", "gpu"):
        as_on(platform, monkeypatch)
        iterate = jax.jit(lambda state: agent.iterate(state, Hypers(), jnp.int32(5)))
        found.append(iterate(state))
        loops = [line for line in iterate.lower(state).as_text().splitlines() if "stablehlo.while" in line]
        carried.append(max(line.count("iterArg") for line in loops))
        jax.clear_caches()
    check_close(*found)
    assert carried[1] < carried[0]


@pytest.mark.long
def test_lanes_share_their_counters(monkeypatch):
    """Under vmap a joined loop still follows from counters without an axis of lanes."""
    as_on("gpu", monkeypatch)
    agent = make_agent(CONFIGS["replay"])
    states = [jax.jit(agent.init)(jax.random.key(seed), Hypers()) for seed in (0, 1)]
    run = lambda state: agent.iterate(state, Hypers(), jnp.int32(3))[0]  # noqa: E731
    both = map_lane_leaves(lambda *leaves: jnp.stack(leaves), *states)
    lanes = jax.jit(lambda state: run_block(run, 2, state))(both)
    alone, second = jax.jit(run)(states[1]), map_lane_leaves(lambda leaf: leaf[1], lanes)
    check_close(alone, second)


def test_a_row_is_found_by_one_number_as_by_two(monkeypatch):
    stored = jnp.arange(24).reshape(4, 3, 2)
    places, writers = jnp.array([[0, 3], [2, 1]]), jnp.array([[2], [0]])
    expected = np.asarray(stored)[np.asarray(places), np.asarray(writers)]
    for platform in ("cpu", "gpu"):
        as_on(platform, monkeypatch)
        np.testing.assert_array_equal(pick(stored, places, writers), expected)
