"""The jitted functions of the host loop for a sharded run: each shard has a contiguous part of every group."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config
from purejaxdqn.loops.host_functions import Actor, HostFunctions, make_shard_functions
from purejaxdqn.loops.sharding import Spread, over_shards, shapes_of_one, shard_axes, shardings
from purejaxdqn.machine.threefry import run_key_of
from purejaxdqn.types import Hypers, Row


def spread_functions(config: Config, parts: Parts, functions: HostFunctions, spread: Spread) -> HostFunctions:
    """The functions of all shards, on their devices.

    Args:
      config: static settings, with `data_parallel` above 1.
      parts: from `build`, those of one shard.
      functions: those of an unsharded run; the ones that an evaluation needs are kept.
      spread: placement of the shards.
    """
    shard = make_shard_functions(config, parts)
    axes = shard_axes(shapes_of_one(shard.init, jnp.zeros(2, jnp.uint32), Hypers().as_arrays()))
    memory, placed, own = axes.memory, shardings(spread, axes), shardings(spread, 0)

    def over(fn: Any, in_axes: tuple[Any, ...], out_axes: Any, donate: tuple[int, ...] = ()) -> Any:
        return jax.jit(
            over_shards(spread, fn, in_axes, out_axes),
            donate_argnums=donate,
            in_shardings=shardings(spread, in_axes),
            out_shardings=shardings(spread, out_axes),
        )

    received = over(shard.receive, (0, 0), (0, 0))

    def receive(actor: Actor, packed: np.ndarray) -> tuple[Actor, Row]:
        parts_of_shards = packed.reshape(spread.num_shards, -1, packed.shape[1])
        return received(actor, jax.device_put(parts_of_shards, own))

    def init(key: Array, hypers: Hypers) -> Any:
        return start(jax.random.key_data(run_key_of(key)), hypers.as_arrays())

    start = over(shard.init, (None, None), axes)
    return functions._replace(
        init=init,
        receive=receive,
        act=over(shard.act, (None, 0, 0, 0, None, None, None, None, None), (0, 0)),
        add=over(shard.add, (memory, 0), memory, donate=(0,)),
        follow=over(shard.follow, (None, 0, None), None),
        learn=over(shard.learn, (None, memory, None, 0, None, None), (None, memory, None), donate=(0, 1, 2)),
        place=lambda state: jax.device_put(state, placed),
    )
