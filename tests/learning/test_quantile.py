"""Quantile heads, with fixed, drawn and proposed fractions: by hand, by definition, and against rlax with gradients."""

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
HEADS = {"quantile": quantile(4), "iqn": implicit_quantile(), "fqf": proposed_quantile()}


def equal_dist(x, support):
    """A `Dist` whose N quantiles stand for 1 / N each; x [..., A, N], support [..., N]."""
    return Dist(x=x, support=support, weight=jnp.full_like(support, 1.0 / support.shape[-1]))


def proposed_dist(key, num_fractions, num_actions=A):
    """What fqf's online network gives for one example, with uneven widths."""
    keys = jax.random.split(key, 3)
    width = jax.nn.softmax(jax.random.normal(keys[0], (num_fractions,)))
    edge = jnp.concatenate([jnp.zeros(1), jnp.cumsum(width)])
    proposal = Proposal(
        boundary=edge[1:-1],
        x=jax.random.normal(keys[1], (num_actions, num_fractions - 1)),
        entropy=-jnp.sum(width * jnp.log(width)),
    )
    x = jax.random.normal(keys[2], (num_actions, num_fractions))
    return Dist(x=x, support=0.5 * (edge[1:] + edge[:-1]), weight=width, proposal=proposal)


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
    x = jnp.array([[4.0, 8.0], [0.0, -4.0]])
    dist = Dist(x=x, support=jnp.array([0.125, 0.625]), weight=jnp.array([0.25, 0.75]))
    np.testing.assert_array_equal(HEADS[name].q_values(dist), [7.0, -3.0])
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 2.0 * leaf]), dist)
    np.testing.assert_array_equal(HEADS[name].q_values(batch), [[7.0, -3.0], [28.0, -12.0]])


@pytest.mark.parametrize("name", HEADS)
def test_target_by_hand(name):
    """Policy (½, ½), penalties (2, 0): quantile 0 is 1 + ½(½(4-2) + ½·0) = 1.5, quantile 1 is 1 + ½(½·6 + ½·(-4))."""
    dist_t = Dist(jnp.array([[4.0, 8.0], [0.0, -4.0]]), jnp.array([0.125, 0.625]), jnp.array([0.25, 0.75]))
    policy, penalty = jnp.array([0.5, 0.5]), jnp.array([2.0, 0.0])
    target = HEADS[name].target
    values, weight = target(dist_t, policy, penalty, jnp.float32(1.0), jnp.float32(0.5))
    np.testing.assert_array_equal(values, [1.5, 1.5])
    np.testing.assert_array_equal(weight, [0.25, 0.75])
    values, _ = target(dist_t, policy, penalty, jnp.float32(1.0), jnp.float32(0.0))
    np.testing.assert_array_equal(values, [1.0, 1.0])


@pytest.mark.parametrize("name", HEADS)
def test_greedy_target_is_the_best_actions_distribution(name):
    """And its mean is r + γ max Q, for uneven widths too."""
    dist_t = proposed_dist(jax.random.key(1), 5)
    head = HEADS[name]
    policy, penalty = greedy(False).policy(head.q_values(dist_t), H)
    values, weight = head.target(dist_t, policy, penalty, jnp.float32(0.5), jnp.float32(0.9))
    best = int(jnp.argmax(head.q_values(dist_t)))
    np.testing.assert_allclose(values, 0.5 + 0.9 * dist_t.x[best], rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(weight * values), 0.5 + 0.9 * jnp.max(head.q_values(dist_t)), rtol=1e-5)


def test_loss_by_hand():
    """Prediction 0 at τ = ¼ and 4 at ¾ against 1 (weight ¼) and 8 (¾), κ = 2: errors 1, 8 and -3, 4.

    huber/κ is ¼, 7, 2, 3; tilts ¼, ¼ and |¾ - 1| = ¼, ¾: ¼·¼·¼ + ¾·¼·7 + ¼·¼·2 + ¾·¾·3 = 3.140625.
    """
    x, fraction = jnp.array([[9.0, 9.0], [0.0, 4.0]]), jnp.array([0.25, 0.75])
    y = (jnp.array([1.0, 8.0]), jnp.array([0.25, 0.75]))
    h = H.replace(huber_delta=2.0)
    parts = quantile(2).loss(equal_dist(x, fraction), jnp.int32(1), y, h)
    # The target's mean is 6.25, the prediction's 2.
    np.testing.assert_array_equal(parts, [3.140625, 4.25, 4.25])
    assert float(quantile_huber(x[1], fraction, *y, 2.0)) == 3.140625


@pytest.mark.parametrize("kappa", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("num", "num_target"), [(1, 1), (4, 4), (8, 3), (5, 32)])
@pytest.mark.parametrize("double", [False, True])
def test_loss_and_gradient_equal_rlax(num, num_target, kappa, double):
    """rlax does not divide its Huber loss by κ, so theirs is κ times ours. Fractions are drawn."""
    keys = jax.random.split(jax.random.key(num), 8)
    x_tm1, fraction = jax.random.normal(keys[0], (B, A, num)), jax.random.uniform(keys[1], (B, num))
    x_t, x_select = (2.0 * jax.random.normal(key, (B, A, num_target)) for key in keys[2:4])
    a_tm1, r_t = jax.random.randint(keys[4], (B,), 0, A), jax.random.normal(keys[5], (B,))
    discount_t = jax.random.uniform(keys[6], (B,)) * (jnp.arange(B) % 3 > 0)
    h, head, backup = H.replace(huber_delta=jnp.float32(kappa)), implicit_quantile(), greedy(double)
    fraction_t = jax.random.uniform(keys[7], (B, num_target))
    selector = x_select if double else x_t

    def ours(x):
        dist_t = equal_dist(x_t, fraction_t)
        policy, penalty = jax.vmap(backup.policy, in_axes=(0, None))(head.q_values(equal_dist(selector, fraction_t)), h)
        y = jax.vmap(head.target)(dist_t, policy, penalty, r_t, discount_t)
        per_example = jax.vmap(head.loss, in_axes=(0, 0, 0, None))(equal_dist(x, fraction), a_tm1, y, h).loss
        return jnp.sum(per_example), per_example

    def theirs(x):
        per_example = jax.vmap(rlax.quantile_q_learning, in_axes=(0, 0, 0, 0, 0, 0, 0, None))(
            *(jnp.swapaxes(x, 1, 2), fraction, a_tm1, r_t, discount_t),
            *(jnp.swapaxes(selector, 1, 2), jnp.swapaxes(x_t, 1, 2), kappa),
        )
        return jnp.sum(per_example / kappa), per_example / kappa

    (our_gradient, our_loss), (their_gradient, their_loss) = (
        jax.jit(jax.grad(f, has_aux=True))(x_tm1) for f in (ours, theirs)
    )
    np.testing.assert_allclose(our_loss, their_loss, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(our_gradient, their_gradient, rtol=1e-5, atol=1e-5)


def test_a_weight_is_a_number_of_copies():
    """Targets of weights ⅛, ⅜, ½ are eight targets of equal weight: rlax's plain mean over the copies."""
    x, fraction, y = jnp.array([-1.0, 0.5, 3.0]), jnp.array([0.1, 0.5, 0.8]), jnp.array([2.0, -0.7, 0.1])
    ours = quantile_huber(x, fraction, y, jnp.array([0.125, 0.375, 0.5]), 1.0)
    copies = jnp.repeat(y, jnp.array([1, 3, 4]), total_repeat_length=8)
    np.testing.assert_allclose(ours, rlax.quantile_regression_loss(x, fraction, copies, 1.0), rtol=1e-5)


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
def test_the_minimum_is_the_quantile(tau):
    """Of targets 0.5, 1.5 … 99.5 with a small κ, the slope in x is (share below x) - τ: zero at 100 τ only."""
    y = jnp.arange(100.0) + 0.5
    slope = jax.grad(lambda x: quantile_huber(x[None], jnp.array([tau]), y, jnp.full(100, 0.01), 1e-3))
    for x in (3.0, 100.0 * tau, 97.0):
        np.testing.assert_allclose(slope(jnp.float32(x)), x / 100.0 - tau, atol=1e-5)


def test_fractions_and_weights_get_no_gradient_from_the_quantile_loss():
    """Else fqf's proposal and iqn's draws would be trained to make their own loss small."""
    dist = proposed_dist(jax.random.key(2), 4)
    y = (jnp.array([1.0, -2.0, 0.3]), jnp.array([0.2, 0.3, 0.5]))
    for head in HEADS.values():
        gradient = jax.grad(lambda d, head=head: head.loss(d, jnp.int32(1), y, H).loss)(dist)
        np.testing.assert_array_equal(gradient.support, jnp.zeros(4))
        np.testing.assert_array_equal(gradient.weight, jnp.zeros(4))
        assert float(jnp.abs(gradient.x[1]).min()) > 1e-3
        np.testing.assert_array_equal(gradient.x[0], jnp.zeros(4))
    target_weight = jax.grad(lambda w: quantile_huber(dist.x[0], dist.support, y[0], w, 1.0))(y[1])
    np.testing.assert_array_equal(target_weight, jnp.zeros(3))


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
    boundary, x_boundary, x_mid = (jnp.asarray(x, jnp.float32) for x in (inner, *map(smooth_quantiles, (inner, mid))))
    ours = jax.grad(fraction_loss)(boundary, x_boundary, x_mid)
    step = 1e-5
    numeric = [
        (staircase_distance(inner + step * unit) - staircase_distance(inner - step * unit)) / (2 * step)
        for unit in np.eye(len(inner))
    ]
    np.testing.assert_allclose(ours, numeric, rtol=1e-4, atol=1e-5)


def test_descent_on_the_fraction_loss_finds_the_best_boundary():
    """Of two steps on [0.01, 0.99] the best boundary of a symmetric distribution is the middle."""
    slope, boundary = jax.jit(jax.grad(fraction_loss)), np.array([0.2], np.float32)
    for _ in range(200):
        mid = np.array([0.5 * (0.01 + boundary[0]), 0.5 * (boundary[0] + 0.99)])
        x_boundary, x_mid = (smooth_quantiles(t).astype(np.float32) for t in (boundary, mid))
        boundary = boundary - 0.02 * np.asarray(slope(boundary, x_boundary, x_mid))
    np.testing.assert_allclose(boundary, 0.5, atol=1e-3)


def test_proposal_adds_its_cost_and_leaves_quantile_values_alone():
    """fqf's loss is iqn's, plus Σ τ_i (2 F(τ_i) - F(τ̂_i) - F(τ̂_{i-1})) of the action taken, minus c × entropy."""
    dist, action, h = proposed_dist(jax.random.key(3), 4), jnp.int32(2), H.replace(fraction_entropy=jnp.float32(0.3))
    y = (jnp.array([1.0, -2.0, 0.3]), jnp.array([0.2, 0.3, 0.5]))
    parts, gradient = jax.value_and_grad(lambda d: proposed_quantile().loss(d, action, y, h).loss)(dist)
    plain, plain_gradient = jax.value_and_grad(lambda d: implicit_quantile().loss(d, action, y, h).loss)(dist)
    mid, at_boundary = np.asarray(dist.x[2], np.float64), np.asarray(dist.proposal.x[2], np.float64)
    slope = [2 * at_boundary[i] - mid[i + 1] - mid[i] for i in range(3)]
    extra = float(np.dot(dist.proposal.boundary, slope)) - 0.3 * float(dist.proposal.entropy)
    np.testing.assert_allclose(parts - plain, extra, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient.proposal.boundary, slope, rtol=1e-5)
    np.testing.assert_allclose(gradient.proposal.entropy, -0.3, rtol=1e-6)
    np.testing.assert_array_equal(gradient.proposal.x, jnp.zeros((A, 3)))
    np.testing.assert_array_equal(gradient.x, plain_gradient.x)
    both = [head.loss(dist, action, y, h) for head in (proposed_quantile(), implicit_quantile())]
    assert both[0][1:] == both[1][1:]
    without = proposed_quantile().loss(dist.replace(proposal=None), action, y, h)
    np.testing.assert_array_equal(without.loss, plain)


def test_mean_of_the_target_is_that_of_the_mixture():
    """Σ w y = r + γ Σ π (Q - penalty), for uneven widths and a penalty per action."""
    keys = jax.random.split(jax.random.key(5), 5)
    dist_t = jax.vmap(lambda key: proposed_dist(key, 6))(jax.random.split(keys[0], B))
    policy, penalty = jax.nn.softmax(jax.random.normal(keys[1], (B, A))), jax.random.normal(keys[2], (B, A))
    r_t, discount_t = jax.random.normal(keys[3], (B,)), jax.random.uniform(keys[4], (B,))
    for head in HEADS.values():
        values, weight = jax.jit(jax.vmap(head.target))(dist_t, policy, penalty, r_t, discount_t)
        expected = r_t + discount_t * jnp.sum(policy * (head.q_values(dist_t) - penalty), axis=-1)
        np.testing.assert_allclose(jnp.sum(weight * values, axis=-1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_lanes_batches_and_compilation_agree(name):
    """jit(vmap(vmap)) over lanes that differ in κ gives what one example at a time does."""
    head = HEADS[name]
    dists = jax.vmap(jax.vmap(lambda key: proposed_dist(key, 4)))(jax.random.split(jax.random.key(6), (2, B)))
    a_tm1 = jax.random.randint(jax.random.key(7), (2, B), 0, A)
    h = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), H).replace(huber_delta=jnp.array([0.5, 2.0]))

    def parts(dist, a_tm1, h):
        policy, penalty = greedy(False).policy(head.q_values(dist), h)
        return head.loss(dist, a_tm1, head.target(dist, policy, penalty, jnp.float32(1.0), jnp.float32(0.9)), h)

    out = jax.jit(jax.vmap(jax.vmap(parts, in_axes=(0, 0, None))))(dists, a_tm1, h)
    for lane, b in ((0, 1), (1, 5)):
        single_dist, single_h = (jax.tree.map(lambda leaf, i=i: leaf[i], t) for t, i in ((dists, (lane, b)), (h, lane)))
        single = parts(single_dist, a_tm1[lane, b], single_h)
        np.testing.assert_allclose([leaf[lane, b] for leaf in out], single, rtol=1e-4, atol=1e-5)
