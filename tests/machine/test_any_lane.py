"""Work where a lane needs it: the results of a choice lane by lane, and nothing computed where none does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.machine.any_lane import where_needed

pytestmark = pytest.mark.usefixtures("strict_ranks")


@pytest.fixture
def counted():
    """A function that adds a number to a tree, and the list of its calls."""
    calls = []

    def compute(old, number):
        jax.debug.callback(calls.append, number)
        return jax.tree.map(lambda leaf: leaf + number, old)

    return where_needed(compute), calls


OLD = {"a": jnp.arange(6.0).reshape(3, 2), "b": jnp.array([10, 20, 30])}


def run(fn, calls, *args):
    calls.clear()
    out = jax.block_until_ready(jax.jit(fn)(*args))
    jax.effects_barrier()
    return out, len(calls)


def test_alone_it_is_a_branch(counted):
    fn, calls = counted
    old = jax.tree.map(lambda leaf: leaf[0], OLD)
    out, made = run(fn, calls, True, old, 5)
    assert made == 1 and out["a"].tolist() == [5.0, 6.0] and out["b"] == 15
    out, made = run(fn, calls, False, old, 5)
    assert made == 0 and out["a"].tolist() == [0.0, 1.0] and out["b"] == 10


@pytest.mark.parametrize("needed", [(False, False, False), (False, True, False), (True, True, True)])
@pytest.mark.parametrize("shared", [False, True])
def test_lanes_are_what_they_are_alone_and_work_is_done_where_one_needs_it(counted, needed, shared):
    """Also where the lanes share the number, or everything that is changed."""
    fn, calls = counted
    old = jax.tree.map(lambda leaf: leaf[0], OLD) if shared else OLD
    number = 7 if shared else jnp.array([1, 2, 3])
    lanes = jax.vmap(fn, in_axes=(0, None if shared else 0, None if shared else 0))
    out, made = run(lanes, calls, jnp.array(needed), old, number)
    assert made == (3 if any(needed) else 0)
    for i, need in enumerate(needed):
        one = jax.tree.map(lambda leaf, i=i: leaf if shared else leaf[i], old)
        expected = fn(need, one, 7 if shared else i + 1)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), out, expected)


def test_a_need_that_lanes_share_and_lanes_of_lanes(counted):
    fn, calls = counted
    out, made = run(jax.vmap(fn, in_axes=(None, 0, None)), calls, False, OLD, 5)
    assert made == 0 and out["b"].tolist() == [10, 20, 30]
    twice = jax.vmap(jax.vmap(fn, in_axes=(0, 0, None)), in_axes=(0, None, None))
    needed = jnp.array([[True, False, False], [False, False, True]])
    out, _ = run(twice, calls, needed, OLD, 5)
    assert out["b"].tolist() == [[15, 20, 30], [10, 20, 35]]
