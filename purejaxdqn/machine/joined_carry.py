"""Loops that carry and stack few arrays: a GPU launches a kernel or a copy in every trip for each of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LONGEST = 2**10
"""Elements of a vector up to which it is joined with others: to launch a kernel takes longer than to move these."""
LARGEST = 2**20
"""Elements of an output up to which it is stacked with others, from which it is copied once more after the loop."""

Step = Callable[[Any, Any], tuple[Any, Any]]
"""(carry, x) -> carry, y: the body of a `jax.lax.scan`."""


def join_leaves(
    like: Any, short: Callable[[Any], bool], apart: Callable[[Any], bool] | None = None
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Functions from a tree like this one to one with fewer arrays, and back from that or from a stack of such.

    Args:
      like: a tree of arrays, or of their shapes.
      short: whether an array becomes part of the one vector of its type.
      apart: whether a node of the tree stays as it is.
    """
    structure: Any
    leaves, structure = jax.tree.flatten(like, is_leaf=apart)
    groups: dict[Any, list[int]] = {}
    for index, leaf in enumerate(leaves):
        if not (apart and apart(leaf)) and short(leaf):
            groups.setdefault(leaf.dtype, []).append(index)
    joined = {index for group in groups.values() for index in group}

    def join(tree: Any) -> tuple[list[Any], list[Any]]:
        found = structure.flatten_up_to(tree)
        vectors = [jnp.concatenate([jnp.ravel(found[index]) for index in group]) for group in groups.values()]
        return vectors, [None if index in joined else leaf for index, leaf in enumerate(found)]

    def split(tree: tuple[list[Any], list[Any]]) -> Any:
        found = list(tree[1])
        for vector, group in zip(tree[0], groups.values(), strict=True):
            start = 0
            for index in group:
                size, shape = leaves[index].size, leaves[index].shape
                found[index] = vector[..., start : start + size].reshape(*vector.shape[:-1], *shape)
                start += size
        return jax.tree.unflatten(structure, found)

    return join, split


def join_carry(step: Step, carry: Any, apart: Callable[[Any], bool]) -> tuple[Step, Any, Callable[[Any], Any]]:
    """The body of a loop with its numbers and short vectors carried as one vector of each type; as it is but for a GPU.

    Nothing is computed otherwise. Arrays of more axes, factors of products or pictures, need a place of their own.

    Args:
      step: of the loop.
      carry: before its first trip, a tree of arrays.
      apart: whether a node of the carry stays as it is.

    Returns:
      The body for a joined carry, that carry, and the function from such a carry to one like `carry`.
    """
    if jax.default_backend() != "gpu":
        return step, carry, lambda same: same
    join, split = join_leaves(carry, lambda leaf: leaf.ndim <= 1 and leaf.size <= LONGEST, apart)

    def joined_step(joined: Any, x: Any) -> tuple[Any, Any]:
        after, y = step(split(joined), x)
        return join(after), y

    return joined_step, join(carry), split


def scan_joined(step: Step, carry: Any, xs: Any, apart: Callable[[Any], bool]) -> tuple[Any, Any]:
    """`jax.lax.scan` that carries and stacks few arrays; as it is but for a GPU, and for a single trip.

    There each array that is stacked is one more kernel in every trip. And where a trip only copies into it, XLA makes
    that a copy to an address that the host computes, which keeps the loop out of a CUDA graph. So outputs are stacked
    as one array of each type, and the carry is joined as `join_carry` does it.

    Args:
      step: of the loop.
      carry: before its first trip, a tree of arrays.
      xs: for every trip, [T, ...].
      apart: whether a node of the carry stays as it is.
    """
    if jax.default_backend() != "gpu" or jax.tree.leaves(xs)[0].shape[0] == 1:
        return jax.lax.scan(step, carry, xs)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    outputs = jax.eval_shape(lambda *trip: step(*trip)[1], carry, first)
    join, split = join_leaves(outputs, lambda leaf: leaf.size <= LARGEST)
    joined_step, carry, back = join_carry(step, carry, apart)

    def stacking_step(carry: Any, x: Any) -> tuple[Any, Any]:
        carry, y = joined_step(carry, x)
        return carry, join(y)

    carry, ys = jax.lax.scan(stacking_step, carry, xs)
    return back(carry), split(ys)
