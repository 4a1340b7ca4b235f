"""How tests compile a program of which only the results matter, and compare states; an explorer that counts."""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.learning.explorers import Explorer


def unoptimised(fn):
    """`fn` jitted without optimisation, in a fraction of the time.

    Not for what is compared bit for bit with a program compiled as usual.
    """
    return jax.jit(
        fn, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    )


def same_bits(a, b):
    """Whether two trees have the same leaves, bit for bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def counting_explorer():
    """ε-greedy, which carries how often it acted in the episode."""

    def act(key, q_values, epsilon, carried, h):
        return epsilon_greedy(key, q_values, epsilon), carried + 1

    return Explorer(act, lambda n: jnp.zeros(n, jnp.int32), lambda carried, begins: jnp.where(begins, 0, carried))
