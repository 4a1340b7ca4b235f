"""Running means and variances, joined pairwise, and observations normalised by them.

Two sets of numbers are joined by the update of Chan, Golub and LeVeque (1979), of which Welford's (1962) is the case of
one new number. Rows are joined in pairs, then the pairs in pairs, so that no error grows with their number.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.config import EnvSpec
from purejaxdqn.machine.shapes import assert_array, assert_arrays
from purejaxdqn.machine.shards import Shards
from purejaxdqn.observations.leaves import Leaf, leaves_of

RUNNING = "running"
"""Collection, next to a network's `params`, of running statistics of what a run has seen: `obs` has `Moments` of every
array of floats, `reward` a `RewardScale`. Its gradients are zero, and only steps that an environment makes move it."""
MOST_ROWS = 2.0**20
"""Rows that a count stands for at most. float32 counts to 2²⁴, and long before, a row would weigh too little to move a
mean of some deviations. From here on the moments are moving averages, of which a row's share is a millionth."""
LEAST_VARIANCE = 1e-8
"""Added to a variance before its root is taken, as by Stable-Baselines3's VecNormalize and Gymnasium's wrappers."""
LARGEST = 10.0
"""Deviations beyond which a normalised number is cut, as by VecNormalize."""


@struct.dataclass
class Moments:
    """Mean and variance of some rows, or of N sets of them."""

    count: Array
    """float32 [] or [N], rows; at most `MOST_ROWS`."""
    mean: Array
    """float32 [...] or [N, ...]."""
    variance: Array
    """The same, of the population; 1 before the first row."""


def no_moments(shape: tuple[int, ...]) -> Moments:
    """Before the first row: by these a number stays what it is."""
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def join_moments(a: Moments, b: Moments) -> Moments:
    """Moments of two sets of rows together (Chan et al. 1979), in shares instead of sums.

    Args:
      a: one set, or N.
      b: as many others; without a row it changes nothing.
    """
    assert_arrays(a.mean.shape, float, a_mean=a.mean, a_variance=a.variance, b_mean=b.mean, b_variance=b.variance)
    assert_arrays(a.count.shape, float, a_count=a.count, b_count=b.count)
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1.0)
    share = share.reshape(share.shape + (1,) * (a.mean.ndim - share.ndim))
    way = b.mean - a.mean
    spread = share * (1.0 - share) * jnp.square(way)
    variance = (1.0 - share) * a.variance + share * b.variance + spread
    return Moments(jnp.minimum(count, MOST_ROWS), a.mean + share * way, variance)


def halves(many: Moments) -> tuple[Moments, Moments]:
    """The first and the second half of N sets; to an odd number one without rows is added."""
    half = -(-many.count.shape[0] // 2)

    def second(leaf: Array) -> Array:
        rest = leaf[half:]
        return jnp.pad(rest, [(0, half - rest.shape[0]), *[(0, 0)] * (leaf.ndim - 1)])

    return jax.tree.map(lambda leaf: leaf[:half], many), jax.tree.map(second, many)


def join_all(many: Moments) -> Moments:
    """Moments of N sets [N, ...] together, in pairs: in an order that no machine chooses, and lanes do not change."""
    while many.count.shape[0] > 1:
        many = join_moments(*halves(many))
    return jax.tree.map(lambda leaf: leaf[0], many)


def moments_of(x: Array, counted: Array) -> Moments:
    """Moments of rows.

    Args:
      x: [N, ...], numbers.
      counted: bool [N], the rows that count; what others hold is not read.
    """
    assert_array("counted", counted, (None,), bool)
    assert_array("x", x, (*counted.shape, ...))
    here = counted.reshape(-1, *[1] * (x.ndim - 1))
    rows = jnp.where(here, x.astype(jnp.float32), 0.0)
    return join_all(Moments(counted.astype(jnp.float32), rows, jnp.zeros_like(rows)))


def normalize(moments: Moments, x: Array) -> Array:
    """Deviations from the mean in units of the standard deviation, at most ±`LARGEST`; float32 [..., *shape].

    Args:
      moments: of an array's rows, [*shape].
      x: [..., *shape].
    """
    assert_array("x", x, (..., *moments.mean.shape))
    batch = tuple(range(x.ndim - moments.mean.ndim))
    # A root of its own: XLA would make of a division by a root a product with one over it, which is rounded otherwise.
    deviation = jax.lax.optimization_barrier(jnp.sqrt(moments.variance + LEAST_VARIANCE))
    mean, deviation = (jnp.expand_dims(part, batch) for part in (moments.mean, deviation))
    return jnp.clip((x.astype(jnp.float32) - mean) / deviation, -LARGEST, LARGEST)


def is_real(leaf: Leaf) -> bool:
    """Whether an array is normalised: it is of floats. Whole numbers and bytes have their own scale, or are names."""
    return "float" in leaf.dtype


def no_obs_moments(spec: EnvSpec) -> Any:
    """`Moments` before the first row of every array that is normalised, and None in place of each other one."""
    return jax.tree.map(lambda leaf: no_moments(leaf.shape) if is_real(leaf) else None, leaves_of(spec))


def follow_obs(shards: Shards, spec: EnvSpec, before: Any, obs: Any, counted: Array) -> Any:
    """Moments of observations after some rows, those of all shards.

    Args:
      shards: of the run.
      spec: of the observations.
      before: from `no_obs_moments`, or of earlier rows.
      obs: [T, E, ...], or a tree of such.
      counted: bool [T, E], the rows that count.
    """

    def follow(leaf: Leaf, old: Moments | None, x: Array) -> Moments | None:
        if old is None:
            return None
        own = moments_of(x.reshape(-1, *leaf.shape), counted.reshape(-1))
        return join_moments(old, join_all(shards.gather(own)))

    return jax.tree.map(follow, leaves_of(spec), before, obs)


def normalize_obs(spec: EnvSpec, moments: Any, obs: Any) -> Any:
    """Observations as a network is fed them: arrays of floats normalised, the others as they are.

    Args:
      spec: of the observations.
      moments: of them; None to leave all as they are.
      obs: [..., *shape], or a tree of such.
    """
    if moments is None:
        return obs

    def read(leaf: Leaf, found: Moments | None, x: Array) -> Array:
        # The network divides by what an array says that it is divided by, which has no say here.
        return x if found is None else normalize(found, x) * leaf.divisor

    return jax.tree.map(read, leaves_of(spec), moments, obs)


def without_running(params: Any) -> Any:
    """A network's own parameters."""
    return {name: part for name, part in params.items() if name != RUNNING}
