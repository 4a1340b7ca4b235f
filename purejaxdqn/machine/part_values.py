"""Action values of each part of a multi-discrete action, in place of those of all combinations (action branching)."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array


@struct.dataclass
class PartValues:
    """What a branching head (`learning.branching`) reads: a sum of choices, where combinations would be a product."""

    x: Array
    """float32 [..., S], the values of the first part's choices, then the second's and so on."""
    sizes: tuple[int, ...] = struct.field(pytree_node=False)
    """Choices of each part, S together."""


def split_parts(x: Any, sizes: Sequence[int], axis: int = -1) -> list[Any]:
    """An axis of S numbers as those of each part."""
    return (np if isinstance(x, np.ndarray) else jnp).split(x, np.cumsum(sizes)[:-1], axis)


def best_parts(x: Any, sizes: Sequence[int]) -> Any:
    """The combination of the best choice of each part, whole numbers [...], from values [..., S]."""
    action: Any = 0
    for values, size in zip(split_parts(x, sizes), sizes, strict=True):
        action = action * size + values.argmax(axis=-1)
    return action


def parts_of(action: Array, sizes: Sequence[int]) -> Array:
    """The choices of each part, int32 [..., parts], of combinations int32 [...]."""
    return jnp.stack(jnp.unravel_index(action, tuple(sizes)), axis=-1).astype(jnp.int32)


def places_of(action: Array, sizes: Sequence[int]) -> Array:
    """Where in [S] the choices of combinations are, int32 [..., parts]."""
    begins = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
    return parts_of(action, sizes) + begins


def numbers_of(values: Any) -> Any:
    """The array in action values of either kind, [..., A] or [..., S]."""
    return values.x if isinstance(values, PartValues) else values


def count_actions(values: Any) -> int:
    """Actions that are chosen from."""
    return math.prod(values.sizes) if isinstance(values, PartValues) else int(values.shape[-1])
