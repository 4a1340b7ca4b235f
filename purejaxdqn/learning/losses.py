"""TD targets and per-example losses: one example at a time; `jax.vmap` makes batches."""

import jax.numpy as jnp
from jax import Array

from purejaxdqn.machine.shapes import assert_array, assert_arrays

SLOPE = 1e-3
"""ε of the value rescaling: its slope far from zero, which keeps its inverse Lipschitz."""


def td_target(r_t: Array, discount_t: Array, q_t: Array) -> Array:
    """One-step (or folded n-step) target of Q-learning, r + γ max_a Q(s', a) (Mnih et al. 2015, algorithm 1).

    Args:
      r_t: reward [].
      discount_t: γ, or γ^n, or zero after a termination [].
      q_t: target network's action values at the next observation [A].

    Returns:
      The target []. No gradient is stopped here: the caller decides what is constant.
    """
    assert_arrays((), r_t=r_t, discount_t=discount_t)
    assert_array("q_t", q_t, (None,), float)
    return r_t + discount_t * jnp.max(q_t)


def double_td_target(r_t: Array, discount_t: Array, q_t_value: Array, q_t_selector: Array) -> Array:
    """Target of double Q-learning, r + γ Q_target(s', argmax_a Q_online(s', a)) (van Hasselt et al. 2016, eq. 4).

    Args:
      r_t: reward [].
      discount_t: γ, or γ^n, or zero after a termination [].
      q_t_value: target network's action values at the next observation [A].
      q_t_selector: online network's action values there [A].

    Returns:
      The target [].
    """
    assert_arrays((), r_t=r_t, discount_t=discount_t)
    assert_array("q_t_value", q_t_value, (None,), float)
    assert_array("q_t_selector", q_t_selector, q_t_value.shape, float)
    return r_t + discount_t * q_t_value[jnp.argmax(q_t_selector)]


def td_error(q_tm1: Array, a_tm1: Array, target: Array) -> Array:
    """Target minus prediction, y - Q(s, a).

    Args:
      q_tm1: action values [A].
      a_tm1: the action taken, int [].
      target: y [].

    Returns:
      The TD error [], in units of return.
    """
    assert_array("q_tm1", q_tm1, (None,), float)
    assert_array("a_tm1", a_tm1, (), int)
    assert_array("target", target, ())
    return target - q_tm1[a_tm1]


def squared_error(x: Array) -> Array:
    """Half the square, ½x², elementwise and of any shape; its gradient is x, as that of Huber's near zero."""
    return 0.5 * jnp.square(x)


def huber(x: Array, delta: float | Array = 1.0) -> Array:
    """Huber's loss (1964), ½x² where |x| ≤ δ and δ(|x| - ½δ) beyond, elementwise and of any shape.

    Args:
      x: errors, any shape.
      delta: threshold above zero, broadcast against x. A gradient never exceeds it, so with δ = 1 this is the error
        clipping of Mnih et al. 2015.
    """
    abs_x = jnp.abs(x)
    quadratic = jnp.minimum(abs_x, delta)
    return 0.5 * jnp.square(quadratic) + delta * (abs_x - quadratic)


def rescale(x: Array) -> Array:
    """h(x) = sign(x)(√(|x| + 1) - 1) + εx, elementwise (Pohlen et al. 2018, proposition A.2); ε is `SLOPE`.

    Written as x / (√(|x| + 1) + 1) + εx, which loses no digits near zero.
    """
    return x / (jnp.sqrt(jnp.abs(x) + 1.0) + 1.0) + SLOPE * x


def unrescale(x: Array) -> Array:
    """h⁻¹(x) of `rescale`, elementwise.

    With z = √(|h⁻¹(x)| + 1), |x| is (z - 1)(1 + ε(z + 1)), of which z is the positive root.
    """
    size = SLOPE + 1.0 + jnp.abs(x)
    z = 2.0 * size / (jnp.sqrt(1.0 + 4.0 * SLOPE * size) + 1.0)
    return x * (z + 1.0) / (1.0 + SLOPE * (z + 1.0))
