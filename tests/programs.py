"""How tests compare states; settings of tiny runs on CartPole; an explorer that counts."""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.learning.explorers import Explorer

TINY = {"num_envs": 4, "total_steps": 2_000, "hidden": (8, 8)}
TINY_REPLAY = TINY | {"buffer_size": 200, "batch_size": 8, "learning_starts": 40, "updates_per_rollout": 1}
TINY_ROLLOUT = TINY | {"rollout_length": 8, "num_minibatches": 2, "num_epochs": 2}
TINY_WINDOWS = TINY_REPLAY | {"memory_size": 4, "burn_in": 2, "unroll": 3, "window_period": 3}


def same_bits(a, b):
    """Whether two trees have the same leaves, bit for bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def counting_explorer():
    """ε-greedy, which carries how often it acted in the episode."""

    def act(key, q_values, epsilon, carried, h):
        return epsilon_greedy(key, q_values, epsilon), carried + 1

    return Explorer(act, lambda n: jnp.zeros(n, jnp.int32), lambda carried, begins: jnp.where(begins, 0, carried))
