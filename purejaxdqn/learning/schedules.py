"""Schedules: pure functions of a step, so that they can be traced, vmapped and exchanged."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

Schedule = Callable[[Array, float | Array, float | Array, float | Array], Array]


def linear_schedule(step: Array, start: float | Array, end: float | Array, duration: float | Array) -> Array:
    """`start` at step 0, a straight line to `end` at step `duration`, `end` after (Mnih et al. 2015, for ε).

    Args:
      step: steps so far, of any shape; all four broadcast.
      start: value at step 0.
      end: value from `duration` on.
      duration: length of the path, in the unit of step.
    """
    progress = jnp.clip(step / duration, 0.0, 1.0)
    return start + progress * (jnp.asarray(end, jnp.float32) - start)


def exponential_schedule(step: Array, start: float | Array, end: float | Array, duration: float | Array) -> Array:
    """`start` at step 0, multiplied by the same factor at every step, `end` at step `duration` and after.

    Args:
      step: steps so far, of any shape; all four broadcast.
      start: value at step 0, above zero.
      end: value from `duration` on, above zero (0 is taken as 1e-8, which no geometric path reaches).
      duration: length of the path, in the unit of step.
    """
    progress = jnp.clip(step / duration, 0.0, 1.0)
    floor = jnp.maximum(jnp.asarray(end, jnp.float32), 1e-8)
    top = jnp.maximum(jnp.asarray(start, jnp.float32), 1e-8)
    return top * (floor / top) ** progress


def multiplicative_schedule(step: Array, start: float | Array, end: float | Array, factor: float | Array) -> Array:
    """`start` at step 0, times `factor` in every step, never below `end`.

    Args:
      step: steps so far, of any shape; all four broadcast.
      start: value at step 0.
      end: lowest value.
      factor: what one step does.
    """
    return jnp.maximum(start * jnp.asarray(factor, jnp.float32) ** step, end)


def decremental_schedule(step: Array, start: float | Array, end: float | Array, decrement: float | Array) -> Array:
    """`start` at step 0, `decrement` less in every step, never below `end`.

    Args:
      step: steps so far, of any shape; all four broadcast.
      start: value at step 0.
      end: lowest value.
      decrement: what one step does.
    """
    return jnp.maximum(start - jnp.asarray(decrement, jnp.float32) * step, end)


def constant_schedule(step: Array, start: float | Array, end: float | Array, duration: float | Array) -> Array:
    """`end` at every step; it takes the arguments of the other schedules so that they can be exchanged.

    Args:
      step: of any shape, which the value gets.
      start: not read.
      end: the value.
      duration: not read.
    """
    del start, duration
    return jnp.broadcast_to(jnp.asarray(end, jnp.float32), jnp.shape(step))


BY_STEP = ("multiplicative", "decremental")
"""Schedules whose last argument is what one step does; that of the others is how many steps the whole path takes."""
OFF_LATER = "linear-off"
"""The schedule whose ε is switched off at a later step."""
SCHEDULES: dict[str, Schedule] = {
    **dict.fromkeys(("linear", OFF_LATER), linear_schedule),
    "exponential": exponential_schedule,
    "multiplicative": multiplicative_schedule,
    "decremental": decremental_schedule,
    "constant": constant_schedule,
}
