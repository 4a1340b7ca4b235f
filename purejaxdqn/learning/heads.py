"""Heads: what a network's outputs mean (expected returns, atoms, quantiles), as functions of one example."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.config import require
from purejaxdqn.learning.distributional import categorical_l2_projection, fraction_loss, quantile_huber
from purejaxdqn.learning.losses import huber, rescale, squared_error, unrescale
from purejaxdqn.machine.part_values import PartValues, places_of
from purejaxdqn.machine.shapes import assert_array, assert_arrays
from purejaxdqn.types import Dist, Hypers, Outputs


class LossParts(NamedTuple):
    """Loss, |TD error| and priority of one example; all float32 []."""

    loss: Array
    abs_td_error: Array
    """|E[target] - Q(s, a)|, in units of return."""
    priority: Array
    """What prioritized replay ranks the transition by, at least 0."""


class Head(NamedTuple):
    """How to read action values from a `Dist`, make a target and compute the loss; every function takes one example."""

    q_values: Callable[[Dist], Any]
    """dist -> action values [A]; `PartValues` of a branching head."""
    target: Callable[[Dist, Array, Array | None, Array, Array], Any]
    """(dist_t, policy [A], entropy penalty [A] or None, r_t [], discount_t []) -> y, any pytree; stops no gradient."""
    loss: Callable[[Dist, Array, Any, Hypers], LossParts]
    """(dist_tm1, a_tm1 [], y, hypers) -> loss, |TD error| and priority."""
    outputs: Outputs
    member_values: Callable[[Dist], Any] | None = None
    """Of an ensemble alone: dist -> action values of every member [K, A]; targets have a policy for each of them."""


def assert_target_arguments(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> None:
    """Asserts the shapes and types that `Head.target` names."""
    assert_array("dist_t.x", dist_t.x, (None, None), float)
    num_actions, num_atoms = dist_t.x.shape
    assert_array("dist_t.support", dist_t.support, (num_atoms,), float)
    assert_array("policy", policy, (num_actions,), float)
    if penalty is not None:
        assert_array("penalty", penalty, (num_actions,), float)
    assert_arrays((), r_t=r_t, discount_t=discount_t)


def assert_loss_arguments(dist_tm1: Dist, a_tm1: Array) -> None:
    """Asserts the shapes and types that `Head.loss` names; those of the target differ from head to head."""
    assert_array("dist_tm1.x", dist_tm1.x, (None, None), float)
    assert_array("dist_tm1.support", dist_tm1.support, dist_tm1.x.shape[1:], float)
    assert_array("a_tm1", a_tm1, (), int)


def value_of(q: Any, action: Array) -> Array:
    """Q(s, a) [] from the values of all actions [A], by a mask: an index costs a gather, and its gradient a scatter.

    Of `PartValues` it is the mean of the parts' values.
    """
    if isinstance(q, PartValues):
        chosen = jnp.arange(q.x.shape[0])[:, None] == places_of(action, q.sizes)
        return jnp.sum(jnp.where(chosen.any(axis=1), q.x, 0.0)) / len(q.sizes)
    return jnp.sum(jnp.where(jnp.arange(q.shape[0]) == action, q, 0.0))


def scalar_loss(error: Array, h: Hypers, name: str) -> Array:
    """The configured loss of a TD error of any shape."""
    losses: dict[str, Callable[[], Array]] = {
        "squared": lambda: squared_error(error),
        "huber": lambda: huber(error, h.huber_delta),
    }
    return losses[name]()


def scalar(loss_name: str) -> Head:
    """One expected return per action (Mnih et al. 2015).

    Args:
      loss_name: `squared` or `huber`.
    """

    def q_values(dist: Dist) -> Array:
        assert_array("dist.x", dist.x, (..., None, None), float)
        return dist.x[..., 0]

    def target(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> Array:
        assert_target_arguments(dist_t, policy, penalty, r_t, discount_t)
        values = q_values(dist_t) if penalty is None else q_values(dist_t) - penalty
        return r_t + discount_t * jnp.sum(policy * values)

    def loss(dist_tm1: Dist, a_tm1: Array, y: Array, h: Hypers) -> LossParts:
        assert_loss_arguments(dist_tm1, a_tm1)
        assert_array("y", y, (), float)
        error = y - value_of(q_values(dist_tm1), a_tm1)
        return LossParts(scalar_loss(error, h, loss_name), jnp.abs(error), jnp.abs(error))

    return Head(q_values=q_values, target=target, loss=loss, outputs=Outputs(1, (0.0,), "fixed"))


def categorical(support: Sequence[float]) -> Head:
    """Probabilities of fixed atoms per action, C51 (Bellemare et al. 2017).

    The target is the mixture over actions a, in the policy's proportions, of r + γ(Z_a - penalty_a), projected onto the
    support; under a greedy policy it is the paper's. The loss is the cross-entropy, and the priority its excess over
    the least possible, KL(y ‖ p), as in Rainbow (Hessel et al. 2018).

    Args:
      support: returns of the atoms, at least 2, strictly increasing, evenly spaced or not.

    Raises:
      SettingError: if the support is invalid.
    """
    support = tuple(map(float, support))
    increasing = all(low < high for low, high in itertools.pairwise(support))
    usable = len(support) >= 2 and all(map(math.isfinite, support)) and increasing
    require(usable, "support", support, "use at least 2 finite returns, each above the one before")

    def q_values(dist: Dist) -> Array:
        assert_array("dist.x", dist.x, (..., None, None), float)
        return jnp.sum(jax.nn.softmax(dist.x) * dist.support[..., None, :], axis=-1)

    def target(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> Array:
        assert_target_arguments(dist_t, policy, penalty, r_t, discount_t)
        probs = policy[:, None] * jax.nn.softmax(dist_t.x)
        if penalty is None:
            # All actions share their atoms, so the mixture comes first, and N atoms are left to project.
            atoms, probs = r_t + discount_t * dist_t.support, jnp.sum(probs, axis=0)
        else:
            # Each action's atoms are shifted by a penalty of their own: A x N of them.
            atoms = r_t + discount_t * (dist_t.support[None, :] - penalty[:, None])
        return categorical_l2_projection(atoms.ravel(), probs.ravel(), jnp.asarray(support, probs.dtype))

    def loss(dist_tm1: Dist, a_tm1: Array, y: Array, h: Hypers) -> LossParts:
        del h
        assert_loss_arguments(dist_tm1, a_tm1)
        assert_array("y", y, dist_tm1.support.shape, float)
        log_p = jax.nn.log_softmax(dist_tm1.x[a_tm1])
        cross_entropy = -jnp.sum(y * log_p)
        error = jnp.sum(y * dist_tm1.support) - value_of(q_values(dist_tm1), a_tm1)
        # 0 log 0 is 0. A divergence of nearly nothing may round to below zero, which no priority may be.
        negative_entropy = jnp.sum(y * jnp.log(jnp.where(y > 0.0, y, 1.0)))
        divergence = jnp.maximum(cross_entropy + negative_entropy, 0.0)
        return LossParts(cross_entropy, jnp.abs(error), divergence)

    return Head(q_values=q_values, target=target, loss=loss, outputs=Outputs(len(support), support, "fixed"))


def rescaled(head: Head) -> Head:
    """A scalar head whose network predicts h(return), the value rescaling of Pohlen et al. 2018.

    Action values and targets stay in units of return: q_values gives h⁻¹(x), a target is r + γ Σ_a π_a h⁻¹(x_a), with
    any backup, and the loss is that of h(y) - x, which is Kapturowski et al. 2019, equation 1. Priorities are of that
    error, too.

    Args:
      head: `scalar`.
    """

    def q_values(dist: Dist) -> Array:
        return unrescale(head.q_values(dist))

    def target(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> Array:
        in_returns: Dist = dist_t.replace(x=unrescale(dist_t.x))  # type: ignore[attr-defined]
        return head.target(in_returns, policy, penalty, r_t, discount_t)

    def loss(dist_tm1: Dist, a_tm1: Array, y: Array, h: Hypers) -> LossParts:
        parts = head.loss(dist_tm1, a_tm1, rescale(y), h)
        return parts._replace(abs_td_error=jnp.abs(y - value_of(q_values(dist_tm1), a_tm1)))

    return Head(q_values=q_values, target=target, loss=loss, outputs=head.outputs)


def even_support(num_atoms: int, v_min: float, v_max: float) -> Head:
    """The categorical head with evenly spaced atoms."""
    return categorical(tuple(np.linspace(v_min, v_max, num_atoms).tolist()))


class QuantileTarget(NamedTuple):
    """What quantile heads predict: a distribution of N' weighted values."""

    values: Array
    """float32 [N']."""
    weight: Array
    """float32 [N'], probability of each, summing to one."""


def quantile_head(outputs: Outputs) -> Head:
    """What quantile heads share: `Dist.support` holds their fractions, `Dist.weight` the probability of each.

    The target is made quantile by quantile, r + γ Σ_a π_a (x_a - penalty_a) at each fraction, as in Munchausen-IQN
    (Vieillard et al. 2020); under a greedy policy it is the best action's distribution.

    Args:
      outputs: what the head asks of the network.
    """

    def q_values(dist: Dist) -> Array:
        assert_array("dist.x", dist.x, (..., None, None), float)
        return jnp.sum(dist.weight[..., None, :] * dist.x, axis=-1)

    def target(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> QuantileTarget:
        assert_target_arguments(dist_t, policy, penalty, r_t, discount_t)
        values = dist_t.x if penalty is None else dist_t.x - penalty[:, None]
        return QuantileTarget(r_t + discount_t * jnp.sum(policy[:, None] * values, axis=0), dist_t.weight)

    def loss(dist_tm1: Dist, a_tm1: Array, y: QuantileTarget, h: Hypers) -> LossParts:
        assert_loss_arguments(dist_tm1, a_tm1)
        values, weight = y
        cost = quantile_huber(dist_tm1.x[a_tm1], dist_tm1.support, values, weight, h.huber_delta)
        error = jnp.abs(jnp.sum(weight * values) - value_of(q_values(dist_tm1), a_tm1))
        return LossParts(cost, error, error)

    return Head(q_values=q_values, target=target, loss=loss, outputs=outputs)


def quantile(num_quantiles: int) -> Head:
    """Quantile values at the midpoints of N equal fractions per action, QR-DQN (Dabney et al. 2018a).

    Args:
      num_quantiles: N, at least 1.

    Raises:
      SettingError: if it is below 1.
    """
    require(num_quantiles >= 1, "num_quantiles", num_quantiles, "use at least 1")
    midpoints = tuple((2 * i + 1) / (2 * num_quantiles) for i in range(num_quantiles))
    return quantile_head(Outputs(num_quantiles, midpoints, "fixed"))


def implicit_quantile() -> Head:
    """Quantile values at fractions that the network draws for each forward pass, IQN (Dabney et al. 2018b)."""
    return quantile_head(Outputs(1, (), "sampled"))


def proposal_loss(dist: Dist, action: Array, h: Hypers) -> Array:
    """The loss of fqf's proposal for one example: its fraction loss at the action taken, minus its weighted entropy.

    Args:
      dist: of one example; without a proposal the loss is zero.
      action: int [].
      h: hypers.

    Returns:
      The loss [], whose gradient does not reach the quantile values.
    """
    if dist.proposal is None:
        return jnp.zeros((), dist.x.dtype)
    proposal = dist.proposal
    return fraction_loss(proposal.boundary, proposal.x[action], dist.x[action]) - h.fraction_entropy * proposal.entropy


def proposed_quantile() -> Head:
    """Quantile values at the midpoints of N fractions that the network proposes, FQF (Yang et al. 2019).

    It departs from the paper in one way. The paper takes the target's quantiles at the online network's fractions of
    the other state; here they are at the fractions that the target network proposes, weighted by their widths, so that
    the target's mean is exactly the target network's action value.

    The reported loss includes the fraction loss, a surrogate that may have any sign; the priority is |TD error|.
    """
    head = quantile_head(Outputs(1, (), "proposed"))

    def loss(dist_tm1: Dist, a_tm1: Array, y: QuantileTarget, h: Hypers) -> LossParts:
        parts = head.loss(dist_tm1, a_tm1, y, h)
        return parts._replace(loss=parts.loss + proposal_loss(dist_tm1, a_tm1, h))

    return head._replace(loss=loss)


def ensemble_head(head: Head) -> Head:
    """A head that reads K members, with `Dist` of [K, A, N]: each learns from its own target, and losses are averaged.

    An action's value is the mean of the members'. Unlike their majority vote it is a value, so that evaluations, videos
    and the doctor read the same thing; where all members agree on the best action, so does their mean.

    Args:
      head: reads one member.
    """

    def q_values(dist: Dist) -> Any:
        return jax.tree.map(lambda q: jnp.mean(q, axis=-2), head.q_values(dist))

    def target(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> Any:
        assert_array("policy", policy, (None, None), float)
        assert_array("dist_t.x", dist_t.x, (*policy.shape, None), float)
        # A Munchausen bonus differs between members, a reward does not.
        rewards = jnp.broadcast_to(r_t, policy.shape[:1])
        return jax.vmap(head.target, in_axes=(0, 0, 0, 0, None))(dist_t, policy, penalty, rewards, discount_t)

    def loss(dist_tm1: Dist, a_tm1: Array, y: Any, h: Hypers) -> LossParts:
        return jax.tree.map(jnp.mean, jax.vmap(head.loss, in_axes=(0, None, 0, None))(dist_tm1, a_tm1, y, h))

    return Head(q_values=q_values, target=target, loss=loss, outputs=head.outputs, member_values=head.q_values)
