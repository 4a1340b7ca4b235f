"""Heads for learning from a dataset: BCQ's threshold and IQL's expectiles, as functions of one example."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.learning.heads import (
    Head,
    LossParts,
    assert_loss_arguments,
    assert_target_arguments,
    scalar_loss,
    value_of,
)
from purejaxdqn.learning.losses import squared_error
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Dist, Hypers, Outputs

MOST_WEIGHT = 100.0
"""Largest weight of an advantage, as in the authors' code."""


def log_policy(logits: Array, action: Array) -> Array:
    """log softmax(logits)(a) [], of logits [A]."""
    return value_of(jax.nn.log_softmax(logits), action)


def bcq(loss_name: str, threshold: float) -> Head:
    """Discrete BCQ (Fujimoto et al. 2019b): no action counts that the data's policy hardly takes.

    A second output of each action is a logit of the data's policy G, learnt by its cross-entropy. Where G(a|s) is not
    above `threshold` times that of the likeliest action, the action's value counts as one below the lowest of all, so
    that neither a target nor play chooses it. Value and policy share the layers before the last.

    Args:
      loss_name: of the TD error, `squared` or `huber`.
      threshold: 0 for Q-learning, 1 for the likeliest action alone (of which nothing is above its own share).
    """
    least = math.log(threshold) if threshold > 0.0 else -math.inf

    def q_values(dist: Dist) -> Array:
        assert_array("dist.x", dist.x, (..., None, 2), float)
        q, logits = dist.x[..., 0], dist.x[..., 1]
        below = logits - jnp.max(logits, axis=-1, keepdims=True)
        eligible = jnp.logical_or(below > least, below == 0.0)
        return jnp.where(eligible, q, jnp.min(q, axis=-1, keepdims=True) - 1.0)

    def target(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> Array:
        assert_target_arguments(dist_t, policy, penalty, r_t, discount_t)
        values = dist_t.x[:, 0] if penalty is None else dist_t.x[:, 0] - penalty
        return r_t + discount_t * jnp.sum(policy * values)

    def loss(dist_tm1: Dist, a_tm1: Array, y: Array, h: Hypers) -> LossParts:
        assert_loss_arguments(dist_tm1, a_tm1)
        assert_array("y", y, (), float)
        error = y - value_of(dist_tm1.x[:, 0], a_tm1)
        cost = scalar_loss(error, h, loss_name) - log_policy(dist_tm1.x[:, 1], a_tm1)
        return LossParts(cost, jnp.abs(error), jnp.abs(error))

    return Head(q_values=q_values, target=target, loss=loss, outputs=Outputs(2, (0.0, 0.0), "fixed"))


def expectile_loss(error: Array, expectile: Array) -> Array:
    """½|τ - 1{u < 0}| u², whose least mean is at the τ-expectile (Kostrikov et al. 2021, equation 3)."""
    return jnp.abs(expectile - (error < 0.0)) * squared_error(error)


def iql() -> Head:
    """Implicit Q-learning (Kostrikov et al. 2021) of discrete actions: no value of an action outside the data is read.

    Three outputs of each action: Q(s, a), a part of V(s), which is the mean of these parts, and a logit of the policy
    π. V is learnt by expectile regression on Q(s, a) of the data (τ is `expectile`), Q by r + γ V of the target
    network, π by log π(a|s) weighted by exp(β (Q(s, a) - V(s))) (β is `advantage_scale`). It departs from the paper in
    that V regresses on the online Q, whose gradient is stopped, and that all three share the layers before the last.

    A backup's policy is not read: there is no choice to make. What play maximises, and what is shown as an action's
    value, is V(s) + log π(a|s) - max log π(·|s).
    """

    def value(dist: Dist) -> Array:
        return jnp.mean(dist.x[..., 1], axis=-1)

    def q_values(dist: Dist) -> Array:
        assert_array("dist.x", dist.x, (..., None, 3), float)
        logits = dist.x[..., 2]
        return value(dist)[..., None] + logits - jnp.max(logits, axis=-1, keepdims=True)

    def target(dist_t: Dist, policy: Array, penalty: Array | None, r_t: Array, discount_t: Array) -> Array:
        assert_target_arguments(dist_t, policy, penalty, r_t, discount_t)
        return r_t + discount_t * value(dist_t)

    def loss(dist_tm1: Dist, a_tm1: Array, y: Array, h: Hypers) -> LossParts:
        assert_loss_arguments(dist_tm1, a_tm1)
        assert_array("y", y, (), float)
        q = value_of(dist_tm1.x[:, 0], a_tm1)
        error, advantage = y - q, jax.lax.stop_gradient(q) - value(dist_tm1)
        weight = jnp.minimum(jnp.exp(h.advantage_scale * jax.lax.stop_gradient(advantage)), MOST_WEIGHT)
        cost = squared_error(error) + expectile_loss(advantage, jnp.asarray(h.expectile))
        cost -= weight * log_policy(dist_tm1.x[:, 2], a_tm1)
        return LossParts(cost, jnp.abs(error), jnp.abs(error))

    return Head(q_values=q_values, target=target, loss=loss, outputs=Outputs(3, (0.0, 0.0, 0.0), "fixed"))
