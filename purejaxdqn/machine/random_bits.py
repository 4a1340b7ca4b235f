"""Uniform numbers and indices from random bits that are drawn in one call, which is what costs time on a CPU."""

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
      bound: at least 1, int [].

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
