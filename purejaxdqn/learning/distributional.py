"""Losses and projections of return distributions: one example at a time; `jax.vmap` makes batches."""

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.learning.losses import huber
from purejaxdqn.machine.shapes import assert_array, assert_arrays


def categorical_l2_projection(atoms: Array, probs: Array, support: Array) -> Array:
    """Projects a distribution of atoms onto a support, nearest in the Cramér (L2) distance.

    Each atom's mass goes to the two neighbours in the support, in inverse proportion to its distance from them, and all
    of it to the end atom where it lies outside (Bellemare et al. 2017, eq. 7; Rowland et al. 2018 for
    why this is the Cramér projection). The support may be uneven. The mean is kept where all atoms lie inside.

    Args:
      atoms: returns of the atoms, in any order, [M].
      probs: their probabilities [M].
      support: returns to project onto, strictly increasing, evenly spaced or not, [N].

    Returns:
      Probabilities of the support [N]; they sum to what `probs` sums to.
    """
    assert_arrays((None,), float, atoms=atoms, support=support)
    assert_array("probs", probs, atoms.shape, float)
    per_gap = 1.0 / (support[1:] - support[:-1])
    level = jnp.zeros(1, support.dtype)
    rising, falling = jnp.concatenate([level, per_gap]), jnp.concatenate([per_gap, level])
    # A hat function per entry of the support, 1 there and 0 at its neighbours; level beyond either end. A sum over all
    # M x N of them adds in a fixed order on every device, which scattering would not.
    offset = atoms[:, None] - support[None, :]
    hat = jnp.minimum(1.0 + offset * rising[None, :], 1.0 - offset * falling[None, :])
    return jnp.sum(probs[:, None] * jnp.clip(hat, 0.0, 1.0), axis=0)


def quantile_huber(x: Array, fraction: Array, y: Array, weight: Array, kappa: float | Array) -> Array:
    """Quantile Huber loss of quantile values x against weighted target values y (Dabney et al. 2018b, eq. 3).

    With u = y_j - x_i it is Σ_i Σ_j weight_j |τ_i - 1{u < 0}| huber_κ(u) / κ: a mean over targets, a sum over
    predictions. For κ = 1 and equal weights it is also eq. 10 of Dabney et al. 2018a.

    Args:
      x: predicted quantile values [N]; they alone get a gradient, unless y carries one.
      fraction: τ, the fractions in (0, 1) that x belongs to, [N].
      y: target values [N'].
      weight: probability of each target value, summing to one, [N'].
      kappa: threshold of the Huber loss, above zero, [].

    Returns:
      The loss [], in units of return.
    """
    assert_arrays((None,), float, x=x, y=y)
    assert_array("fraction", fraction, x.shape, float)
    assert_array("weight", weight, y.shape, float)
    assert_array("kappa", kappa, ())
    error = y[None, :] - x[:, None]
    tilt = jnp.abs(jax.lax.stop_gradient(fraction)[:, None] - (error < 0.0))
    return jnp.sum(jax.lax.stop_gradient(weight)[None, :] * tilt * huber(error, kappa) / kappa)


def fraction_loss(boundary: Array, x_boundary: Array, x_mid: Array) -> Array:
    """A surrogate whose gradient is that of the 1-Wasserstein distance to a staircase (Yang et al. 2019, prop. 1).

    The staircase takes the quantile function's value at each interval's midpoint; moving boundary τ_i changes its
    distance at the rate 2F⁻¹(τ_i) - F⁻¹(τ̂_i) - F⁻¹(τ̂_{i-1}). Only the gradient means something, not the value.

    Args:
      boundary: inner boundaries τ_1 … τ_{N-1}, the only input to get a gradient, [N - 1].
      x_boundary: quantile values at the boundaries [N - 1].
      x_mid: quantile values at the midpoints τ̂_0 … τ̂_{N-1} [N].

    Returns:
      The surrogate [].
    """
    assert_array("x_mid", x_mid, (None,), float)
    assert_arrays((x_mid.shape[0] - 1,), float, boundary=boundary, x_boundary=x_boundary)
    slope = 2.0 * x_boundary - x_mid[1:] - x_mid[:-1]
    return jnp.sum(boundary * jax.lax.stop_gradient(slope))
