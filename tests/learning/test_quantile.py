"""Quantile heads, with fixed, drawn and proposed fractions: by hand, by definition, and against rlax with gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purejaxdqn.config import SettingError
from purejaxdqn.learning.backups import greedy
from purejaxdqn.learning.distributional import fraction_loss, quantile_huber
from purejaxdqn.learning.heads import implicit_quantile, proposed_quantile, quantile
from purejaxdqn.types import Dist, Hypers, Proposal

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A = 8, 3
H = Hypers().as_arrays()
huber_of = jax.jit(quantile_huber)
fraction_slope = jax.jit(jax.grad(fraction_loss))
HEADS = {"quantile": quantile(4), "iqn": implicit_quantile(), "fqf": proposed_quantile()}


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def softmax(x):
    """Over the last axis, in numpy."""
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def equal_dist(x, support):
    """A `Dist` whose N quantiles stand for 1 / N each; x [..., A, N], support [..., N]."""
    return Dist(x=x, support=support, weight=np.full(support.shape, 1.0 / support.shape[-1], np.float32))


def proposed_dist(seed, num_fractions, *batch):
    """What fqf's online network gives for one example, or for a batch of this shape, with uneven widths."""
    rng = np.random.default_rng(seed)
    width = softmax(normal(rng, *batch, num_fractions))
    edge = np.concatenate([np.zeros((*batch, 1), np.float32), np.cumsum(width, axis=-1)], axis=-1)
    proposal = Proposal(
        boundary=edge[..., 1:-1],
        x=normal(rng, *batch, A, num_fractions - 1),
        entropy=-np.sum(width * np.log(width), axis=-1),
    )
    x = normal(rng, *batch, A, num_fractions)
    return Dist(x=x, support=0.5 * (edge[..., 1:] + edge[..., :-1]), weight=width, proposal=proposal)


def test_outputs():
    """Midpoints of four equal fractions; heads whose fractions come from the network ask for one output per action."""
    assert quantile(4).outputs == (4, (0.125, 0.375, 0.625, 0.875), "fixed")
    assert quantile(1).outputs == (1, (0.5,), "fixed")
    assert implicit_quantile().outputs == (1, (), "sampled")
    assert proposed_quantile().outputs == (1, (), "proposed")
    with pytest.raises(SettingError, match="num_quantiles=0"):
        quantile(0)


@pytest.mark.parametrize("name", HEADS)
def test_action_values_are_weighted_means(name):
    """¼·4 + ¾·8 = 7 and ¼·0 + ¾·(-4) = -3, of one example and of a batch."""
    x = np.float32([[4.0, 8.0], [0.0, -4.0]])
    dist = Dist(x=x, support=np.float32([0.125, 0.625]), weight=np.float32([0.25, 0.75]))
    np.testing.assert_array_equal(HEADS[name].q_values(dist), [7.0, -3.0])
    batch = jax.tree.map(lambda leaf: np.stack([leaf, 2.0 * leaf]), dist)
    np.testing.assert_array_equal(HEADS[name].q_values(batch), [[7.0, -3.0], [28.0, -12.0]])


@pytest.mark.parametrize("name", HEADS)
def test_target_by_hand(name):
    """Policy (½, ½), penalties (2, 0): quantile 0 is 1 + ½(½(4-2) + ½·0) = 1.5, quantile 1 is 1 + ½(½·6 + ½·(-4))."""
    dist_t = Dist(np.float32([[4.0, 8.0], [0.0, -4.0]]), np.float32([0.125, 0.625]), np.float32([0.25, 0.75]))
    policy, penalty = np.float32([0.5, 0.5]), np.float32([2.0, 0.0])
    target = HEADS[name].target
    values, weight = target(dist_t, policy, penalty, np.float32(1.0), np.float32(0.5))
    np.testing.assert_array_equal(values, [1.5, 1.5])
    np.testing.assert_array_equal(weight, [0.25, 0.75])
    values, _ = target(dist_t, policy, penalty, np.float32(1.0), np.float32(0.0))
    np.testing.assert_array_equal(values, [1.0, 1.0])


@pytest.mark.parametrize("name", HEADS)
def test_greedy_target_is_the_best_actions_distribution(name):
    """And its mean is r + γ max Q, for uneven widths too."""
    dist_t = proposed_dist(1, 5)
    head = HEADS[name]
    q = np.asarray(head.q_values(dist_t))
    policy, penalty = greedy(False).policy(q, H)
    values, weight = head.target(dist_t, policy, penalty, np.float32(0.5), np.float32(0.9))
    np.testing.assert_allclose(values, 0.5 + 0.9 * dist_t.x[q.argmax()], rtol=1e-6)
    np.testing.assert_allclose(np.dot(weight, values), 0.5 + 0.9 * q.max(), rtol=1e-5)


def test_loss_by_hand():
    """Prediction 0 at τ = ¼ and 4 at ¾ against 1 (weight ¼) and 8 (¾), κ = 2: errors 1, 8 and -3, 4.

    huber/κ is ¼, 7, 2, 3; tilts ¼, ¼ and |¾ - 1| = ¼, ¾: ¼·¼·¼ + ¾·¼·7 + ¼·¼·2 + ¾·¾·3 = 3.140625.
    """
    x, fraction = np.float32([[9.0, 9.0], [0.0, 4.0]]), np.float32([0.25, 0.75])
    y = (np.float32([1.0, 8.0]), np.float32([0.25, 0.75]))
    h = H.replace(huber_delta=2.0)
    parts = jax.jit(quantile(2).loss)(equal_dist(x, fraction), np.int32(1), y, h)
    # The target's mean is 6.25, the prediction's 2.
    np.testing.assert_array_equal(parts, [3.140625, 4.25, 4.25])
    assert float(huber_of(x[1], fraction, *y, 2.0)) == 3.140625


@partial(jax.jit, static_argnames="double")
def our_losses(x_tm1, fraction, a_tm1, r_t, discount_t, selector, x_t, kappa, fraction_t, double):
    """Losses [B] and their gradients with respect to the predicted values."""
    h, head, backup = H.replace(huber_delta=kappa), implicit_quantile(), greedy(double)

    def total(x):
        dist_t = equal_dist(x_t, fraction_t)
        policy, penalty = jax.vmap(backup.policy, in_axes=(0, None))(head.q_values(equal_dist(selector, fraction_t)), h)
        y = jax.vmap(head.target)(dist_t, policy, penalty, r_t, discount_t)
        per_example = jax.vmap(head.loss, in_axes=(0, 0, 0, None))(equal_dist(x, fraction), a_tm1, y, h).loss
        return jnp.sum(per_example), per_example

    return jax.grad(total, has_aux=True)(x_tm1)


@partial(jax.jit, static_argnames="kappa")
def rlax_losses(x_tm1, fraction, a_tm1, r_t, discount_t, selector, x_t, kappa):
    """The same by rlax, which does not divide its Huber loss by κ."""

    def total(x):
        per_example = jax.vmap(rlax.quantile_q_learning, in_axes=(0, 0, 0, 0, 0, 0, 0, None))(
            *(jnp.swapaxes(x, 1, 2), fraction, a_tm1, r_t, discount_t),
            *(jnp.swapaxes(selector, 1, 2), jnp.swapaxes(x_t, 1, 2), kappa),
        )
        return jnp.sum(per_example / kappa), per_example / kappa

    return jax.grad(total, has_aux=True)(x_tm1)


@pytest.mark.parametrize("kappa", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("num", "num_target"), [(1, 1), (4, 4), (8, 3), (5, 32)])
@pytest.mark.parametrize("double", [False, True])
def test_loss_and_gradient_equal_rlax(num, num_target, kappa, double):
    """Fractions are drawn."""
    rng = np.random.default_rng(num)
    x_tm1, fraction = normal(rng, B, A, num), rng.random((B, num), np.float32)
    a_tm1, r_t = rng.integers(A, size=B, dtype=np.int32), normal(rng, B)
    discount_t = rng.random(B, np.float32) * (np.arange(B) % 3 > 0)
    x_t, x_select = 2.0 * normal(rng, B, A, num_target), 2.0 * normal(rng, B, A, num_target)
    fraction_t = rng.random((B, num_target), np.float32)
    batch = x_tm1, fraction, a_tm1, r_t, discount_t, x_select if double else x_t, x_t
    our_gradient, our_loss = our_losses(*batch, np.float32(kappa), fraction_t, double=double)
    their_gradient, their_loss = rlax_losses(*batch, kappa=kappa)
    np.testing.assert_allclose(our_loss, their_loss, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(our_gradient, their_gradient, rtol=1e-5, atol=1e-5)


def test_a_weight_is_a_number_of_copies():
    """Targets of weights ⅛, ⅜, ½ are eight targets of equal weight: rlax's plain mean over the copies."""
    x, fraction, y = np.float32([-1.0, 0.5, 3.0]), np.float32([0.1, 0.5, 0.8]), np.float32([2.0, -0.7, 0.1])
    ours = huber_of(x, fraction, y, np.float32([0.125, 0.375, 0.5]), 1.0)
    theirs = jax.jit(rlax.quantile_regression_loss, static_argnums=3)(x, fraction, np.repeat(y, [1, 3, 4]), 1.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@jax.jit
@jax.grad
def slope(x, tau, y):
    """Of the loss of one quantile value with a small κ, against targets of equal weight."""
    return quantile_huber(x[None], tau[None], y, jnp.full_like(y, 1.0 / y.size), 1e-3)


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
def test_the_minimum_is_the_quantile(tau):
    """Of targets 0.5, 1.5 … 99.5 with a small κ, the slope in x is (share below x) - τ: zero at 100 τ only."""
    y = np.arange(100, dtype=np.float32) + 0.5
    for x in (3.0, 100.0 * tau, 97.0):
        np.testing.assert_allclose(slope(np.float32(x), np.float32(tau), y), x / 100.0 - tau, atol=1e-5)


def test_fractions_and_weights_get_no_gradient_from_the_quantile_loss():
    """Else fqf's proposal and iqn's draws would be trained to make their own loss small."""
    dist = proposed_dist(2, 4)
    y = (np.float32([1.0, -2.0, 0.3]), np.float32([0.2, 0.3, 0.5]))
    for head in HEADS.values():
        gradient = jax.jit(jax.grad(lambda d, head=head: head.loss(d, jnp.int32(1), y, H).loss))(dist)
        np.testing.assert_array_equal(gradient.support, np.zeros(4))
        np.testing.assert_array_equal(gradient.weight, np.zeros(4))
        assert np.abs(gradient.x[1]).min() > 1e-3
        np.testing.assert_array_equal(gradient.x[0], np.zeros(4))
    target_weight = jax.jit(jax.grad(quantile_huber, argnums=3))(dist.x[0], dist.support, *y, 1.0)
    np.testing.assert_array_equal(target_weight, np.zeros(3))


def smooth_quantiles(tau):
    """The logistic distribution's quantile function, in float64."""
    return np.log(tau) - np.log1p(-tau)


def staircase_distance(inner):
    """∫ |F⁻¹(ω) - F⁻¹(midpoint of ω's interval)| dω over [0.01, 0.99], exactly.

    With the antiderivative Φ of F⁻¹, an increasing F⁻¹ and midpoint m of [a, b] it is Φ(b) - 2 Φ(m) + Φ(a), as the
    constant stands for as much on either side.
    """
    edge = np.concatenate([[0.01], inner, [0.99]])
    mid = 0.5 * (edge[1:] + edge[:-1])
    at_low, at_mid, at_high = (t * np.log(t) + (1 - t) * np.log1p(-t) for t in (edge[:-1], mid, edge[1:]))
    return np.sum(at_high - 2 * at_mid + at_low)


def test_staircase_distance_is_the_integral():
    """The closed form above, against a sum over cells of 5e-6, which is what its jumps may be misplaced by."""
    inner = np.array([0.2, 0.35, 0.8])
    edge = np.concatenate([[0.01], inner, [0.99]])
    mid = 0.5 * (edge[1:] + edge[:-1])
    omega = 0.01 + 0.98 * (np.arange(200_000) + 0.5) / 200_000
    step = smooth_quantiles(mid)[np.searchsorted(inner, omega)]
    np.testing.assert_allclose(staircase_distance(inner), 0.98 * np.mean(np.abs(smooth_quantiles(omega) - step)), 1e-5)


@pytest.mark.parametrize("inner", [(0.5,), (0.2, 0.35, 0.8), (0.05, 0.1, 0.4, 0.41, 0.9)])
def test_fraction_gradient_is_that_of_the_wasserstein_distance(inner):
    """Proposition 1 of the FQF paper, against central differences in float64."""
    inner = np.array(inner)
    edge = np.concatenate([[0.01], inner, [0.99]])
    mid = 0.5 * (edge[1:] + edge[:-1])
    ours = fraction_slope(*map(np.float32, (inner, smooth_quantiles(inner), smooth_quantiles(mid))))
    step = 1e-5
    numeric = [
        (staircase_distance(inner + step * unit) - staircase_distance(inner - step * unit)) / (2 * step)
        for unit in np.eye(len(inner))
    ]
    np.testing.assert_allclose(ours, numeric, rtol=1e-4, atol=1e-5)


def test_descent_on_the_fraction_loss_finds_the_best_boundary():
    """Of two steps on [0.01, 0.99] the best boundary of a symmetric distribution is the middle."""
    boundary = np.array([0.2], np.float32)
    for _ in range(200):
        mid = np.array([0.5 * (0.01 + boundary[0]), 0.5 * (boundary[0] + 0.99)])
        x_boundary, x_mid = (smooth_quantiles(t).astype(np.float32) for t in (boundary, mid))
        boundary = boundary - 0.02 * np.asarray(fraction_slope(boundary, x_boundary, x_mid))
    np.testing.assert_allclose(boundary, 0.5, atol=1e-3)


def test_proposal_adds_its_cost_and_leaves_quantile_values_alone():
    """fqf's loss is iqn's, plus Σ τ_i (2 F(τ_i) - F(τ̂_i) - F(τ̂_{i-1})) of the action taken, minus c × entropy."""
    dist, action, h = proposed_dist(3, 4), np.int32(2), H.replace(fraction_entropy=np.float32(0.3))
    y = (np.float32([1.0, -2.0, 0.3]), np.float32([0.2, 0.3, 0.5]))
    heads = proposed_quantile(), implicit_quantile()

    @jax.jit
    def both(dist):
        parts = [head.loss(dist, action, y, h) for head in heads]
        gradients = [jax.grad(lambda d, head=head: head.loss(d, action, y, h).loss)(dist) for head in heads]
        return parts, gradients, heads[0].loss(dist.replace(proposal=None), action, y, h)

    ((loss, *rest), (plain, *plain_rest)), (gradient, plain_gradient), without = both(dist)
    mid, at_boundary = np.asarray(dist.x[2], np.float64), np.asarray(dist.proposal.x[2], np.float64)
    slope = [2 * at_boundary[i] - mid[i + 1] - mid[i] for i in range(3)]
    extra = float(np.dot(dist.proposal.boundary, slope)) - 0.3 * float(dist.proposal.entropy)
    np.testing.assert_allclose(loss - plain, extra, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient.proposal.boundary, slope, rtol=1e-5)
    np.testing.assert_allclose(gradient.proposal.entropy, -0.3, rtol=1e-6)
    np.testing.assert_array_equal(gradient.proposal.x, np.zeros((A, 3)))
    np.testing.assert_array_equal(gradient.x, plain_gradient.x)
    assert rest == plain_rest
    np.testing.assert_array_equal(without.loss, plain)


def test_mean_of_the_target_is_that_of_the_mixture():
    """Σ w y = r + γ Σ π (Q - penalty), for uneven widths and a penalty per action."""
    rng, dist_t = np.random.default_rng(5), proposed_dist(6, 6, B)
    policy, penalty = softmax(normal(rng, B, A)), normal(rng, B, A)
    r_t, discount_t = normal(rng, B), rng.random(B, np.float32)
    for head in HEADS.values():
        values, weight = jax.jit(jax.vmap(head.target))(dist_t, policy, penalty, r_t, discount_t)
        expected = r_t + discount_t * np.sum(policy * (np.asarray(head.q_values(dist_t)) - penalty), axis=-1)
        np.testing.assert_allclose(np.sum(np.multiply(weight, values), axis=-1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_lanes_batches_and_compilation_agree(name):
    """jit(vmap(vmap)) over lanes that differ in κ gives what one example at a time does."""
    head = HEADS[name]
    dists = proposed_dist(6, 4, 2, B)
    a_tm1 = np.random.default_rng(7).integers(A, size=(2, B), dtype=np.int32)
    h = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), H).replace(huber_delta=np.float32([0.5, 2.0]))

    def parts(dist, a_tm1, h):
        policy, penalty = greedy(False).policy(head.q_values(dist), h)
        return head.loss(dist, a_tm1, head.target(dist, policy, penalty, jnp.float32(1.0), jnp.float32(0.9)), h)

    out = jax.jit(jax.vmap(jax.vmap(parts, in_axes=(0, 0, None))))(dists, a_tm1, h)
    for lane, b in ((0, 1), (1, 5)):
        single_dist, single_h = (jax.tree.map(lambda leaf, i=i: leaf[i], t) for t, i in ((dists, (lane, b)), (h, lane)))
        single = jax.jit(parts)(single_dist, a_tm1[lane, b], single_h)
        np.testing.assert_allclose([leaf[lane, b] for leaf in out], single, rtol=1e-4, atol=1e-5)
