"""Collectives between the shards of one run, each with its share of the environments, the replay and every batch.

A shard's code uses a `Shards` for everything that depends on the other shards: for an unsharded run it is `WHOLE`,
whose functions do nothing. Otherwise they are collectives over two named axes, devices and the shards of each, so that
a run's numbers depend on its number of shards, and not on the number of devices that hold them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

DEVICES, SHARDS = "devices", "shards"
AXES = (DEVICES, SHARDS)
"""Names of the axes. Shard i is the one at i // k and i % k, where each device has k."""


class Shards(NamedTuple):
    """Collectives between the shards of a run. Of a batch of B each shard has B / number examples."""

    number: int
    axes: tuple[str, ...] | None
    """Names of the axes over shards, None if there are none."""
    mean: Callable[[Any], Any]
    """Mean over the shards of every leaf of a tree; the same goes for `sum`, `max` and `min`. All shards get it."""
    sum: Callable[[Any], Any]
    max: Callable[[Any], Any]
    min: Callable[[Any], Any]
    own_keys: Callable[[Array], Array]
    """PRNG keys of any shape that all shards share -> as many of this shard's own."""
    own_part: Callable[[Array], Array]
    """Array [B, ...] that all shards share -> this shard's part [B / number, ...]."""
    gather: Callable[[Any], Any]
    """Every leaf [...] of a tree -> those of all shards in their order, [number, ...]. All shards get it."""


def unchanged(value: Any) -> Any:
    """The value itself."""
    return value


def as_only_one(tree: Any) -> Any:
    """Every leaf [...] as [1, ...]."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


WHOLE = Shards(1, None, unchanged, unchanged, unchanged, unchanged, unchanged, unchanged, as_only_one)
"""For an unsharded run."""


def make_shards(count: int) -> Shards:
    """Collectives between `count` shards; `WHOLE` for one.

    The functions of more than one must be called where `AXES` are bound (by `shard_map` or `vmap`).
    """
    if count == 1:
        return WHOLE

    def own_keys(keys: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys.reshape(-1), jax.lax.axis_index(AXES))
        return own.reshape(keys.shape)

    def own_part(whole: Array) -> Array:
        size = whole.shape[0] // count
        return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(AXES) * size, size)

    def gather(tree: Any) -> Any:
        def of_all(leaf: Array) -> Array:
            # A sum in which all others have zeros: `vmap` batches no all_gather over two axes.
            own = jnp.zeros((count, *leaf.shape), leaf.dtype).at[jax.lax.axis_index(AXES)].set(leaf)
            return jax.lax.psum(own, AXES).astype(leaf.dtype)

        return jax.tree.map(of_all, tree)

    return Shards(
        number=count,
        axes=AXES,
        mean=lambda tree: jax.lax.pmean(tree, AXES),
        sum=lambda tree: jax.lax.psum(tree, AXES),
        max=lambda tree: jax.lax.pmax(tree, AXES),
        min=lambda tree: jax.lax.pmin(tree, AXES),
        own_keys=own_keys,
        own_part=own_part,
        gather=gather,
    )
