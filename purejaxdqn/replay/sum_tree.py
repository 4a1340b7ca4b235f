"""A tree of sums over non-negative leaves: changing some, and finding where a mass falls, in logarithmic time.

Usable on its own::

    tree = init_tree(num_leaves=1000)
    tree = jax.jit(set_leaves, donate_argnums=0)(tree, index, value)   # index, value: [K], in place
    index = find(tree, jax.random.uniform(key, (32,)) * total(tree))   # each leaf as often as its share of the total

A parent is always recomputed from its children, never corrected by a difference, so no rounding error survives an
update. Its children are added in one fixed order, which no compiler changes: the tree is, to the last bit, a function
of its leaves, whatever the path to them and whether or not it is vmapped.
"""

import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.machine.shapes import assert_array

FAN_OUT = 8
"""Children of a node. On a CPU core a write, a sample of 128 and an update of a prioritized replay of 100,000 took 32,
28, 29, 51, 74, 105 and 173 µs with 2, 4, 8, 16, 32, 64 and 128 (uniform: 8), see `benchmarks/speed/replay.py`. Of 4
and 8, which are equal there, 8 has fewer levels, so fewer kernels on a GPU, and takes less memory."""
WHOLE = 4096
"""Values of a level up to which all its parents are recomputed: cheaper than picking out those that changed."""


@struct.dataclass
class SumTree:
    """Levels of sums over leaves. The sum over all of them is that of the top level."""

    levels: tuple[Array, ...]
    """float32 [M], M a multiple of the fan-out. The leaves first, then the sums of each fan_out values of the level
    before, up to a level of fan_out values. Each is followed by zeros."""
    num_leaves: int = struct.field(pytree_node=False)
    fan_out: int = struct.field(pytree_node=False)
    """Children of a node, a power of two."""


def init_tree(num_leaves: int, fan_out: int = FAN_OUT) -> SumTree:
    """A tree whose leaves are all zero.

    Args:
      num_leaves: leaves.
      fan_out: children of a node, a power of two.

    Raises:
      ValueError: if there is no leaf, or the fan-out is no power of two from 2 on.
    """
    if num_leaves < 1:
        raise ValueError(f"a tree needs at least 1 leaf, not {num_leaves}")
    if fan_out < 2 or fan_out & (fan_out - 1):
        raise ValueError(f"a fan-out must be a power of two from 2 on, not {fan_out}")
    groups = [-(-num_leaves // fan_out)]
    while groups[-1] > 1:
        groups.append(-(-groups[-1] // fan_out))
    levels = tuple(jnp.zeros(group * fan_out, jnp.float32) for group in groups)
    return SumTree(levels=levels, num_leaves=num_leaves, fan_out=fan_out)


def add_pairs(rows: Array) -> Array:
    """Sums over the last axis, a power of two long, in an explicit order: `jnp.sum` may use any."""
    while rows.shape[-1] > 1:
        half = rows.shape[-1] // 2
        rows = rows[..., :half] + rows[..., half:]
    return rows[..., 0]


def total(tree: SumTree) -> Array:
    """Sum of all leaves, float32 []."""
    return add_pairs(tree.levels[-1])


def get_leaves(tree: SumTree) -> Array:
    """All leaves, float32 [num_leaves]."""
    return tree.levels[0][: tree.num_leaves]


def set_leaves(tree: SumTree, index: Array, value: Array) -> SumTree:
    """Sets leaves and the sums above them. Under jit with the tree donated, the leaves are not copied.

    Args:
      tree: the tree.
      index: int32 [K]. If a leaf is given several values, the largest is kept, on every device. An index outside of
        [0, num_leaves) writes nothing.
      value: float32 [K], finite; a negative one counts as 0.
    """
    assert_array("index", index, (None,), int)
    assert_array("value", value, index.shape, float)
    leaves, *upper = tree.levels
    outside = jnp.logical_or(index < 0, index >= tree.num_leaves)
    place = jnp.where(outside, leaves.shape[0], index)
    # Of two plain writes to one leaf either may come last; clearing and taking the largest are free of any order.
    levels = [leaves.at[place].set(0.0, mode="drop").at[place].max(value, mode="drop")]
    # Recomputing the parent of a leaf that did not change is harmless, so those outside may point anywhere.
    node = jnp.clip(index, 0, tree.num_leaves - 1)
    for above in upper:
        node = node // tree.fan_out
        groups = levels[-1].reshape(-1, tree.fan_out)
        if levels[-1].shape[0] <= WHOLE:
            levels.append(jnp.pad(add_pairs(groups), (0, above.shape[0] - groups.shape[0])))
        else:
            sums = add_pairs(groups.at[node].get(mode="promise_in_bounds"))
            levels.append(above.at[node].set(sums, mode="promise_in_bounds"))
    return tree.replace(levels=tuple(levels))  # type: ignore[attr-defined]


def find(tree: SumTree, mass: Array) -> Array:
    """The leaf in which each mass falls, were the leaves laid end to end: leaf i holds [Σ_{j<i} x_j, Σ_{j≤i} x_j).

    A leaf of zero is never found while any is positive, whatever the rounding: on each level the child is picked from
    the positive ones alone, and a positive sum has a positive child. A mass below 0 falls in the first positive leaf
    on its way, one of the total or more in the last. If all leaves are zero, the result is an arbitrary leaf.

    Args:
      tree: the tree.
      mass: float32 [K], in [0, total).

    Returns:
      int32 [K].
    """
    assert_array("mass", mass, (None,), float)
    node = jnp.zeros(mass.shape, jnp.int32)
    child = jnp.arange(tree.fan_out, dtype=jnp.int32)[None]
    for level in reversed(tree.levels):
        sums = level.reshape(-1, tree.fan_out).at[node].get(mode="promise_in_bounds")
        positive = sums > 0.0
        reached = jnp.logical_and(jnp.cumsum(sums, axis=1) > mass[:, None], positive)
        first = jnp.min(jnp.where(reached, child, tree.fan_out), axis=1)
        # By rounding, a mass just below the total may be beyond the sum of this node's children.
        last = jnp.max(jnp.where(positive, child, 0), axis=1)
        picked = jnp.minimum(first, last)
        mass = mass - jnp.sum(jnp.where(child < picked[:, None], sums, 0.0), axis=1)
        node = node * tree.fan_out + picked
    return node
