"""The random generator of every run, Threefry-2x32 (Salmon et al. 2011): JAX's own, and a fused version of it.

On a CPU JAX's own is a loop of five steps for each draw, which for small draws costs more in calls than in arithmetic,
and which cannot be fused with anything (docs/performance.md has the difference). The fused version takes longer to
compile, so it is for the training loop; code that runs once or rarely draws the same numbers with JAX's own, and so
does a layer with noise, which draws many.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.random import define_prng_impl

KEY_IMPL = "threefry2x32"
"""JAX's own; of its generators, the only one whose vmapped draw equals the unbatched draw."""
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
WORDS = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}


def threefry(key: tuple[Array, Array], x: tuple[Array, Array]) -> tuple[Array, Array]:
    """Twenty rounds of Threefry-2x32.

    Args:
      key: two words, uint32, of any shapes that broadcast against the counter's.
      x: two words of a counter, uint32.

    Returns:
      Two random words, uint32.
    """
    words = (*key, key[0] ^ key[1] ^ PARITY)
    a, b = x[0] + words[0], x[1] + words[1]
    for block in range(5):
        for turn in ROTATIONS[block % 2]:
            a = a + b
            b = a ^ ((b << np.uint32(turn)) | (b >> np.uint32(32 - turn)))
        a = a + words[(block + 1) % 3]
        b = b + words[(block + 2) % 3] + np.uint32(block + 1)
    return a, b


@partial(jax.jit, static_argnums=1, inline=True)
def count_up(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The random words of counters 0, 1, 2 … in a shape of fewer than 2³² elements."""
    count = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    first, second = (jnp.broadcast_to(word, shape) for word in key)
    return threefry((first, second), (jnp.zeros_like(count), count))


def make_seed(seed: Array) -> Array:
    """The key uint32 [2] of a whole number."""
    return jax.random.key_data(jax.random.key(seed, impl=KEY_IMPL))


def split(key: Array, shape: tuple[int, ...]) -> Array:
    """Keys uint32 [*shape, 2] from one [2]."""
    return made_once(jnp.stack(count_up(key, shape), axis=-1))


def made_once(key: Array) -> Array:
    """The same key.

    A barrier keeps XLA from recomputing it, and the keys that it was derived from, in everything that draws from it:
    with keys four levels deep in layers with noise an iteration took twice as long, and its compilation ten times as
    long.
    """
    return jax.lax.optimization_barrier(key)


@partial(jax.jit, inline=True)
def fold_in(key: Array, data: Any) -> Array:
    """A key uint32 [2] from one and a number, uint32 []."""
    return made_once(jnp.stack(threefry((key[0], key[1]), (jnp.uint32(0), jnp.asarray(data, jnp.uint32)))))


def random_bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    """Random whole numbers of 8, 16 or 32 bits in a shape."""
    first, second = count_up(key, shape)
    return (first ^ second).astype(WORDS[bit_width])


FUSED_IMPL = define_prng_impl(
    key_shape=(2,),
    seed=make_seed,
    split=split,
    random_bits=random_bits,
    fold_in=fold_in,
    name=f"fused_{KEY_IMPL}",
    tag="ufry",
)
"""The fused version, with the same numbers, for `jax.random.wrap_key_data(words, impl=FUSED_IMPL)`."""


def in_a_loop(key: Array) -> Array:
    """The same key for JAX's own generator, which is faster for many draws at once; other keys are left alone."""
    fused = jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and jax.random.key_impl(key) == FUSED_IMPL
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=KEY_IMPL) if fused else key


def run_key_of(key: Array) -> Array:
    """The key of a run, of `KEY_IMPL`, from a PRNG key, typed or raw, of any of JAX's generators."""
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    # Four words are two keys of `KEY_IMPL`, equal ones where they come of a seed.
    return jax.random.wrap_key_data(words if words.shape == (2,) else words[:2], impl=KEY_IMPL)
