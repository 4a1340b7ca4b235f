"""Places the shards of one run on devices, and turns a function of one shard into one of all shards.

Shards are placed in equal blocks on devices; those of one device are vmapped. Either way the axes of `shards.AXES` are
bound, so a run's numbers do not depend on the devices, except for the order of sums.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from purejaxdqn.machine.shards import AXES, DEVICES, SHARDS
from purejaxdqn.types import lane_axes

SHARED = ("learner", "key_data")
"""Parts of either loop's state that all shards share, besides its counters."""


class Spread(NamedTuple):
    """Shards on devices."""

    num_shards: int
    mesh: Mesh

    @property
    def num_devices(self) -> int:
        """Devices with shards."""
        return int(self.mesh.devices.size)

    @property
    def per_device(self) -> int:
        """Shards of each device."""
        return self.num_shards // self.num_devices

    def describe(self) -> str:
        """The layout as part of a line of text."""
        platform = self.mesh.devices.flat[0].platform
        device = "CPU device" if platform == "cpu" else platform.upper()
        devices = f"{self.num_devices} {device}{'s' if self.num_devices > 1 else ''}"
        return f"{self.num_shards} shards on {devices}{', vmapped on each' if self.per_device > 1 else ''}"


def make_spread(num_shards: int, num_devices: int | None = None) -> Spread:
    """Places shards on devices.

    Args:
      num_shards: of the run.
      num_devices: maximum number of devices; by default all. The largest divisor of `num_shards` is used.
    """
    devices = jax.local_devices()[:num_devices]
    used = max(count for count in range(1, len(devices) + 1) if num_shards % count == 0)
    if used == num_shards:
        # Both axes are of the mesh, and a single shard need not be vmapped.
        return Spread(num_shards, Mesh(np.array(devices[:used]).reshape(used, 1), AXES))
    return Spread(num_shards, Mesh(np.array(devices[:used]), (DEVICES,)))


def is_shared(axis: Any) -> bool:
    """Whether a leaf of a tree of axes marks something that the shards share."""
    return axis is None


def map_axes(fn: Callable[..., Any], axes: Any, *trees: Any) -> Any:
    """`fn` of every leaf of a tree of axes, 0 or None, and of what the trees have there, possibly subtrees."""
    return jax.tree.map(fn, axes, *trees, is_leaf=is_shared)


def map_sharded(fn: Callable[[Any], Any], axes: Any, tree: Any) -> Any:
    """`fn` of every array that differs between shards; the rest is kept."""
    return map_axes(lambda axis, part: part if is_shared(axis) else jax.tree.map(fn, part), axes, tree)


def shardings(spread: Spread, axes: Any) -> Any:
    """The sharding of every leaf of a tree of axes: in blocks of shards, or replicated."""
    return map_axes(lambda axis: NamedSharding(spread.mesh, P() if is_shared(axis) else P(DEVICES)), axes)


def over_shards(spread: Spread, fn: Callable[..., Any], in_axes: Any, out_axes: Any) -> Callable[..., Any]:
    """A function of one shard as a function of all.

    Args:
      spread: placement of the shards.
      fn: of one shard, called where `shards.AXES` are bound.
      in_axes: for each argument, a tree with 0 where every array [N, ...] has a leading axis of shards, and None where
        the shards share it.
      out_axes: the same of the result; what the shards share must be equal by construction.
    """

    def of_one(*args: Any) -> Any:
        out = fn(*(map_sharded(lambda leaf: leaf[0], axes, arg) for axes, arg in zip(in_axes, args, strict=True)))
        return map_sharded(lambda leaf: leaf[None], out_axes, out)

    many = jax.vmap(fn, in_axes=in_axes, out_axes=out_axes, axis_name=SHARDS, axis_size=spread.per_device)

    def specs(axes: Any) -> Any:
        return map_axes(lambda axis: P() if is_shared(axis) else P(DEVICES), axes)

    body = of_one if spread.per_device == 1 else many
    return jax.shard_map(body, mesh=spread.mesh, in_specs=specs(in_axes), out_specs=specs(out_axes), check_vma=False)


def shard_axes(state: Any) -> Any:
    """The axes of a state of either loop: 0 where each shard has its own, None where they share."""
    return lane_axes(state).replace(**dict.fromkeys(SHARED))


def shapes_of_one(fn: Callable[..., Any], *args: Any) -> Any:
    """Shapes of what a function of one shard returns, for arguments that all shards share."""
    for axis in AXES:
        fn = jax.vmap(fn, in_axes=None, axis_name=axis, axis_size=1)
    found = jax.eval_shape(fn, *args)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[len(AXES) :], leaf.dtype), found)


def shapes_of_all(state: Any, num_shards: int) -> Any:
    """Shapes of the state of all shards, from those of one."""
    axes = shard_axes(state)
    return map_sharded(lambda leaf: jax.ShapeDtypeStruct((num_shards, *leaf.shape), leaf.dtype), axes, state)


def bytes_of_device(spread: Spread, size: int) -> int:
    """The part of `size` bytes in shards that one device's memory must hold; the CPU's devices share one memory."""
    return size if spread.mesh.devices.flat[0].platform == "cpu" else size // spread.num_devices


def on_first_device(tree: Any) -> Any:
    """Arrays that all devices have, as the first of them has them."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
