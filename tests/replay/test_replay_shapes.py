"""Arguments of a wrong shape, rank or dtype are refused by name; ring and sum tree are the same jitted and not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.replay import sum_tree
from purejaxdqn.replay.prioritized import importance_weights
from purejaxdqn.replay.ring import add_rows, init_ring, read_rows
from purejaxdqn.replay.transitions import add_steps, init_store, read_transitions
from purejaxdqn.types import Row


def rows_of(**others):
    shape, mask = (2, 3), jnp.zeros((2, 3), bool)
    fields = {
        "obs": jnp.zeros((2, 3, 4)),
        "action": jnp.zeros(shape, jnp.int32),
        "reward": jnp.zeros(shape),
        "terminated": mask,
        "truncated": mask,
        "final_obs": jnp.zeros((2, 3, 4)),
        "valid": mask,
    }
    return Row(**fields | others)


ROW = jax.tree.map(lambda leaf: leaf[0, 0], rows_of())


def store():
    return init_store(ROW, capacity=8, num_writers=3)


def ring():
    return init_ring({"reward": jnp.float32(0.0)}, 8, 3)


TWO, TIMES = jnp.ones(2), jnp.zeros(2, jnp.int32)
WRONG = {
    "rows.terminated": lambda: add_steps(store(), rows_of(terminated=jnp.zeros((2, 3)))),
    "rows.valid": lambda: add_steps(store(), rows_of(valid=jnp.zeros(3, bool))),
    "rows.action": lambda: add_steps(store(), rows_of(action=jnp.zeros((2, 3)))),
    "rows.final_obs": lambda: add_steps(store(), rows_of(final_obs=jnp.zeros((2, 4)))),
    "rows.obs": lambda: add_steps(store(), rows_of(obs=jnp.zeros((2, 3, 5)))),
    "rows['reward']": lambda: add_rows(ring(), {"reward": jnp.zeros((2, 3, 1))}),
    "times": lambda: read_rows(ring(), TWO, TIMES),
    "writers": lambda: read_transitions(store(), TIMES, TIMES[:1], 1, 0.9),
    "index": lambda: sum_tree.set_leaves(sum_tree.init_tree(4), TWO, TWO),
    "value": lambda: sum_tree.set_leaves(sum_tree.init_tree(4), TIMES, jnp.ones(3)),
    "mass": lambda: sum_tree.find(sum_tree.init_tree(4), jnp.float32(0.0)),
    "leaf": lambda: importance_weights(jnp.ones((2, 2)), jnp.float32(0.5)),
}


@pytest.mark.parametrize("argument", WRONG)
def test_a_wrong_argument_is_named(argument):
    with pytest.raises(AssertionError) as error:
        WRONG[argument]()
    assert f"`{argument}`" in str(error.value)


class SameJittedAndNot(chex.TestCase):
    """`chex.variants` needs a class of absl's."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_row_written_is_read(self):
        held = self.variant(add_rows)(ring(), {"reward": jnp.arange(6.0).reshape(2, 3)})
        read = self.variant(read_rows)(held, jnp.asarray([1, 0]), jnp.asarray([2, 1]))
        np.testing.assert_array_equal(read["reward"], [5.0, 1.0])

    @chex.variants(with_jit=True, without_jit=True)
    def test_masses_fall_in_their_leaves(self):
        tree = self.variant(sum_tree.set_leaves)(sum_tree.init_tree(4), jnp.asarray([1, 3]), jnp.asarray([2.0, 1.0]))
        # Leaf 1 holds [0, 2) and leaf 3 holds [2, 3).
        np.testing.assert_array_equal(self.variant(sum_tree.find)(tree, jnp.asarray([0.0, 1.5, 2.0])), [1, 1, 3])
