"""How tests compare states; an explorer that counts."""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.learning.explorers import Explorer


def same_bits(a, b):
    """Whether two trees have the same leaves, bit for bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def counting_explorer():
    """ε-greedy, which carries how often it acted in the episode."""

    def act(key, q_values, epsilon, carried, h):
        return epsilon_greedy(key, q_values, epsilon), carried + 1

    return Explorer(act, lambda n: jnp.zeros(n, jnp.int32), lambda carried, begins: jnp.where(begins, 0, carried))
