"""Noise of noisy layers (Fortunato et al. 2018), a function of a key and of a layer's path; drawn alone or at once."""

import itertools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from purejaxdqn.machine.threefry import in_a_loop

NOISE = "noise"
"""Collection of what `draw_at_once` draws before a pass; a layer that finds nothing there draws for itself."""
DRAWN = "drawn"
"""Name of a layer's two arrays in it."""


def scale(normal: Array) -> Array:
    """f(ε) = sign(ε) √|ε| of standard normal ε (section 3.1)."""
    # Made once, and not anew in each of the products that it scales.
    return jax.lax.optimization_barrier(jnp.sign(normal) * jnp.sqrt(jnp.abs(normal)))


def scaled_noise(key: Array, shape: tuple[int, ...]) -> Array:
    """f(ε) in a shape."""
    return scale(jax.random.normal(in_a_loop(key), shape))


def number_of(path: tuple[str, ...]) -> int:
    """What tells a layer's keys from another's."""
    return zlib.crc32("/".join(path).encode())


def draw_alone(key: Array, path: tuple[str, ...], sizes: tuple[int, int], draws: int) -> tuple[Array, Array]:
    """Noise [inputs, draws] and [outputs, draws] of one layer."""
    key_in, key_out = jax.random.split(jax.random.fold_in(key, number_of(path)))
    return scaled_noise(key_in, (sizes[0], draws)), scaled_noise(key_out, (sizes[1], draws))


def draw_at_once(params: Any, key: Array, draws: int) -> dict[str, Any]:
    """What `draw_alone` gives for each noisy layer of a network, number for number, in three kernels of a GPU.

    There each layer's keys and numbers are four kernels of their own in every pass.

    Args:
      params: the network's, without other collections; a layer with a `kernel_sigma` is a noisy one.
      key: of the pass.
      draws: for each layer.

    Returns:
      The collection `NOISE`.
    """
    layers = {path[:-1]: leaf.shape for path, leaf in flatten_dict(params).items() if path[-1] == "kernel_sigma"}
    numbers = jnp.array([number_of(path) for path in layers], jnp.uint32)
    keys = jax.vmap(lambda number: jax.random.split(jax.random.fold_in(key, number)))(numbers)
    sizes = [draws * size for shape in layers.values() for size in shape]
    normal = [jax.random.normal(in_a_loop(keys[divmod(i, 2)]), (size,)) for i, size in enumerate(sizes)]
    drawn = iter(jnp.split(scale(jnp.concatenate(normal)), list(itertools.accumulate(sizes))[:-1]))
    found = {(*path, DRAWN): tuple(next(drawn).reshape(size, draws) for size in layers[path]) for path in layers}
    return {NOISE: unflatten_dict(found)}
