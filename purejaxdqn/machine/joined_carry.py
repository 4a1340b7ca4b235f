"""Loops that carry few arrays: a GPU launches a kernel or a copy in every trip for each array that a loop carries."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LONGEST = 2**10
"""Elements of a vector up to which it is joined with others: to launch a kernel takes longer than to move these."""

Step = Callable[[Any, Any], tuple[Any, Any]]
"""(carry, x) -> carry, y: the body of a `jax.lax.scan`."""


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
    structure: Any
    leaves, structure = jax.tree.flatten(carry, is_leaf=apart)
    groups: dict[Any, list[int]] = {}
    for index, leaf in enumerate(leaves):
        if not apart(leaf) and leaf.ndim <= 1 and leaf.size <= LONGEST:
            groups.setdefault(leaf.dtype, []).append(index)
    shapes = {index: leaves[index].shape for group in groups.values() for index in group}

    def join(tree: Any) -> tuple[list[Any], list[Any]]:
        found = structure.flatten_up_to(tree)
        vectors = [jnp.concatenate([jnp.ravel(found[index]) for index in group]) for group in groups.values()]
        return vectors, [None if index in shapes else leaf for index, leaf in enumerate(found)]

    def split(joined: tuple[list[Any], list[Any]]) -> Any:
        found = list(joined[1])
        for vector, group in zip(joined[0], groups.values(), strict=True):
            start = 0
            for index in group:
                size = leaves[index].size
                found[index] = vector[start : start + size].reshape(shapes[index])
                start += size
        return jax.tree.unflatten(structure, found)

    def joined_step(joined: Any, x: Any) -> tuple[Any, Any]:
        after, y = step(split(joined), x)
        return join(after), y

    return joined_step, join(carry), split
