"""Uniform numbers and indices from random bits that are drawn in one call, which is what costs time on a CPU."""

import jax
import jax.numpy as jnp
from jax import Array


def uniform_from_bits(bits: Array) -> Array:
    """Numbers in [0, 1) from 32 random bits each, on the 2²⁴ values that float32 can space evenly.

    Args:
      bits: uint32, any shape.
    """
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def index_from_bits(bits: Array, bound: int | Array) -> Array:
    """Whole numbers in [0, bound), ⌊bits · bound / 2³²⌋ (Lemire 2019, without rejection: probabilities are equal within
    bound / 2³²).

    Args:
      bits: uint32, any shape.
      bound: at least 1, int [] or of the shape of `bits`.

    Returns:
      int32 of the shape of `bits`.
    """
    # The high word of a product of 64 bits, from products of 16 bits that cannot overflow.
    bound = jnp.asarray(bound, jnp.uint32)
    high, low = bits >> 16, bits & 0xFFFF
    bound_high, bound_low = bound >> 16, bound & 0xFFFF
    middle = high * bound_low + ((low * bound_low) >> 16)
    other = low * bound_high + (middle & 0xFFFF)
    return (high * bound_high + (middle >> 16) + (other >> 16)).astype(jnp.int32)


def legal_index_from_bits(bits: Array, mask: Array) -> Array:
    """Legal actions, each equally likely; of a mask of ones what `index_from_bits` gives.

    Args:
      bits: uint32 [E].
      mask: bool [E, A], True for a legal action.

    Returns:
      int32 [E]; 0 where no action is legal.
    """
    legal_so_far = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
    wanted = index_from_bits(bits, legal_so_far[..., -1])
    return jnp.argmax(legal_so_far > wanted[..., None], axis=-1).astype(jnp.int32)


def random_actions(key: Array, num_envs: int, num_actions: int, mask: Array | None) -> Array:
    """Uniformly random actions, int32 [E].

    Args:
      key: PRNG key.
      num_envs: E.
      num_actions: A.
      mask: bool [E, A], the legal ones; None for all.
    """
    if mask is None:
        return jax.random.randint(key, (num_envs,), 0, num_actions)
    return legal_index_from_bits(jax.random.bits(key, (num_envs,), jnp.uint32), mask)
