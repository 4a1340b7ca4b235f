"""Quantile fractions τ (fixed for QR-DQN, sampled for IQN, proposed for FQF) and their cosine embedding."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.machine.shards import make_shards
from purejaxdqn.networks.layers import INITIALIZERS, FeatureMajorDense
from purejaxdqn.types import PROPOSAL, Role


def cosines(tau: Array, num_cosines: int) -> Array:
    """cos(π i τ) for i = 0, …, n - 1 (Dabney et al. 2018b, equation 4).

    Args:
      tau: fractions [B, N].
      num_cosines: n.

    Returns:
      float32 [n, B, N].
    """
    assert_array("tau", tau, (None, None), float)
    half_turns = jnp.arange(num_cosines, dtype=jnp.float32).reshape(-1, 1, 1) * tau[None]
    return cosine_of_turns(0.5 * half_turns)


TAYLOR = tuple((-1.0) ** n * (2.0 * math.pi) ** (2 * n) / math.factorial(2 * n) for n in range(9))
"""Coefficients of cos(2πx) in x². On [-½, ½] the next term is below 2e-7."""


def cosine_of_turns(x: Array) -> Array:
    """cos(2πx), any shape, as a polynomial: XLA's own cosine took 25 times as long on a CPU, half of iqn's time.

    Whole turns are subtracted before the multiplication by 2π, which also makes it more accurate.
    """
    y = jnp.square(x - jnp.round(x))
    value = jnp.full_like(y, TAYLOR[-1])
    for coefficient in TAYLOR[-2::-1]:
        value = value * y + coefficient
    return value


class FractionEmbedding(nn.Module):
    """ψ(x) ∘ φ(τ), with φ(τ) = relu(dense(cosines of τ)) (Dabney et al. 2018b, equation 4)."""

    config: Config

    @nn.compact
    def __call__(self, psi: Array, tau: Array) -> Array:
        """Features [F, B, N] from those of the torso, psi [F, B], and fractions tau [B, N]."""
        assert_array("psi", psi, (None, None), float)
        assert_array("tau", tau, (psi.shape[1], None), float)
        dense = FeatureMajorDense(psi.shape[0], INITIALIZERS[self.config.initializer](), name="Dense_0")
        return psi[:, :, None] * nn.relu(dense(cosines(tau, self.config.num_cosines)))


def even_fractions(batch: int, count: int) -> Array:
    """The midpoints of `count` equal parts of (0, 1), [batch, count]."""
    return jnp.broadcast_to((jnp.arange(count, dtype=jnp.float32) + 0.5) / count, (batch, count))


def draw_fractions(config: Config, key: Array | None, role: Role, batch: int) -> Array:
    """iqn's fractions: drawn from U(0, 1) for every example; evenly spaced when acting greedily.

    Args:
      config: has the number of fractions of each role.
      key: unused when acting greedily.
      role: see `Role`.
      batch: B.

    Returns:
      float32 [B, N], N by the role.
    """
    if role == "greedy":
        return even_fractions(batch, config.num_policy_quantiles)
    assert key is not None, "fractions are drawn: give a key, or the role greedy"
    counts = {"online": config.num_quantiles, "target": config.num_target_quantiles}
    # Shards share the key, and each takes its examples' fractions of those of the whole batch.
    shards = make_shards(config.data_parallel)
    shape = (batch * shards.number, counts.get(role, config.num_policy_quantiles))
    # Layers fold in a checksum of their names; 0 is that of no name.
    tau = jax.random.uniform(jax.random.fold_in(key, 0), shape, minval=jnp.finfo(jnp.float32).tiny)
    return shards.own_part(tau)


class Partition(NamedTuple):
    """(0, 1) cut into N parts."""

    width: Array
    """float32 [B, N], summing to one."""
    boundary: Array
    """float32 [B, N - 1], increasing: τ_1, …, τ_{N-1}."""
    midpoint: Array
    """float32 [B, N]: τ̂ of each part."""
    entropy: Array
    """float32 [B], of the widths, in nats."""


def partition(logits: Array) -> Partition:
    """Parts whose widths are the softmax of logits [B, N] (Yang et al. 2019, section 3.1)."""
    assert_array("logits", logits, (None, None), float)
    log_width = jax.nn.log_softmax(logits, axis=-1)
    width = jnp.exp(log_width)
    boundary = jnp.cumsum(width, axis=-1)[:, :-1]
    ends = jnp.zeros((logits.shape[0], 1))
    edges = jnp.concatenate([ends, boundary, ends + 1.0], axis=-1)
    return Partition(
        width=width,
        boundary=boundary,
        midpoint=0.5 * (edges[:, :-1] + edges[:, 1:]),
        entropy=-jnp.sum(width * log_width, axis=-1),
    )


def make_proposal_layer(num_quantiles: int) -> FeatureMajorDense:
    """fqf's proposal, features [F, B] -> logits [N, B]; small weights, so that the widths are nearly even at first."""
    small = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
    return FeatureMajorDense(num_quantiles, small, name=PROPOSAL)
