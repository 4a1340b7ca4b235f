"""The categorical head and its projection: by hand, by their definitions, and against rlax with gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purejaxdqn.config import SettingError
from purejaxdqn.learning.backups import greedy
from purejaxdqn.learning.distributional import categorical_l2_projection
from purejaxdqn.learning.heads import categorical
from purejaxdqn.learning.returns import n_step_fold
from purejaxdqn.types import Dist, Hypers

pytestmark = pytest.mark.usefixtures("strict_ranks")

B = 16
H = Hypers().as_arrays()
EVEN = tuple(np.linspace(-3.0, 3.0, 11).tolist())
UNEVEN = (-4.0, -3.9, -1.0, 0.0, 0.25, 2.0, 7.0)
PAIR = (-1.0, 1.0)
project = jax.jit(categorical_l2_projection)
rlax_project = jax.jit(rlax.categorical_l2_project)


def dist_of(x, support):
    """A batch's `Dist` with logits x [B, A, N]."""
    support = np.tile(np.asarray(support, np.float32), (len(x), 1))
    return Dist(x=x, support=support, weight=np.full_like(support, 1.0 / support.shape[-1]))


def one(*logits, support):
    """One example's `Dist`, an action per list of logits."""
    return jax.tree.map(lambda leaf: leaf[0], dist_of(np.array([logits], np.float32), support))


def softmax(x):
    """Over the last axis, in numpy."""
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def example(support, num_actions, seed=0):
    """Random logits at both ends (target's and online's), actions, rewards and discounts; a third of these are zero."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: 2.0 * rng.standard_normal(shape, np.float32)  # noqa: E731
    shape = (B, num_actions, len(support))
    actions, discounts = rng.integers(num_actions, size=B, dtype=np.int32), rng.random(B, np.float32)
    return normal(*shape), actions, normal(B), discounts * (np.arange(B) % 3 > 0), normal(*shape), normal(*shape)


@pytest.mark.parametrize(
    ("atom", "expected"),
    [
        (0.0, (1.0, 0.0, 0.0, 0.0)),
        (1.0, (0.0, 1.0, 0.0, 0.0)),
        (0.25, (0.75, 0.25, 0.0, 0.0)),
        (2.0, (0.0, 0.5, 0.5, 0.0)),  # halfway from 1 to 3
        (6.0, (0.0, 0.0, 0.25, 0.75)),  # three quarters of the way from 3 to 7
        (-5.0, (1.0, 0.0, 0.0, 0.0)),
        (7.0, (0.0, 0.0, 0.0, 1.0)),
        (1e6, (0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_projection_of_one_atom_by_hand(atom, expected):
    """On the uneven support 0, 1, 3, 7 each atom splits between its neighbours."""
    out = project(np.float32([atom]), np.ones(1, np.float32), np.float32([0.0, 1.0, 3.0, 7.0]))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("support", [EVEN, UNEVEN, PAIR])
@pytest.mark.parametrize("num_atoms", [1, 2, 9, 40])
def test_projection_by_its_definition_and_against_rlax(support, num_atoms):
    """The Cramér-nearest distribution's CDF on each gap is the mean there of the CDF projected (least squares)."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        atoms, logits = 4.0 * rng.standard_normal(num_atoms, np.float32), rng.standard_normal(num_atoms, np.float32)
        probs = softmax(2.0 * logits)
        out = project(atoms, probs, np.float32(support))
        theirs = rlax_project(atoms, probs, np.float32(support))
        np.testing.assert_allclose(out, theirs, atol=1e-5)
        z, p, q = (np.asarray(x, np.float64) for x in (atoms, probs, support))
        share_below = np.clip((q[1:, None] - z[None]) / np.diff(q)[:, None], 0.0, 1.0)
        np.testing.assert_allclose(np.cumsum(out)[:-1], share_below @ p, atol=1e-5)
        np.testing.assert_allclose(np.sum(out), 1.0, atol=1e-6)
        assert np.all(np.asarray(out) >= 0.0)


def test_projection_keeps_the_mean_of_what_lies_inside():
    atoms = np.linspace(-3.9, 6.9, 30, dtype=np.float32)
    probs = softmax(np.sin(7.0 * atoms))
    out = project(atoms, probs, np.float32(UNEVEN))
    np.testing.assert_allclose(np.dot(out, np.float32(UNEVEN)), np.dot(probs, atoms), atol=1e-5)


@pytest.mark.parametrize("support", [(), (1.0,), (0.0, 0.0), (0.0, 2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_an_unusable_support_is_refused(support):
    with pytest.raises(SettingError, match="support="):
        categorical(support)


def test_outputs_and_action_values_by_hand():
    """Probabilities (¼, ¾) on -1 and 3: -¼ + 9/4 = 2."""
    head = categorical([-1, 3])
    assert head.outputs == (2, (-1.0, 3.0), "fixed")
    values = head.q_values(one([0.0, np.log(3.0)], [5.0, 5.0], support=(-1.0, 3.0)))
    np.testing.assert_allclose(values, [2.0, 1.0], rtol=1e-6)


def test_target_by_hand():
    """Certain returns 2 and 0 under policy (¼, ¾), penalties (1, -1): 1 + ½·1 and 1 + ½·1, so 1.5 with certainty."""
    support = (0.0, 1.0, 2.0)
    dist_t = one([-200.0, -200.0, 0.0], [0.0, -200.0, -200.0], support=support)
    policy, penalty = np.float32([0.25, 0.75]), np.float32([1.0, -1.0])
    target = jax.jit(categorical(support).target)
    np.testing.assert_allclose(target(dist_t, policy, penalty, np.float32(1.0), np.float32(0.5)), [0.0, 0.5, 0.5])
    # Without penalties ¼ on 1 + ½·2 = 2 and ¾ on 1; after a termination all of it on the reward.
    none = np.zeros(2, np.float32)
    np.testing.assert_allclose(target(dist_t, policy, none, np.float32(1.0), np.float32(0.5)), [0.0, 0.75, 0.25])
    np.testing.assert_allclose(target(dist_t, policy, penalty, np.float32(1.0), np.float32(0.0)), [0.0, 1.0, 0.0])


def test_loss_error_and_priority_by_hand():
    """y = (½, ½, 0) against p = (¼, ¼, ½) on 0, 1, 3: cross-entropy log 4, KL log 2, means ½ and 1¾."""
    support = (0.0, 1.0, 3.0)
    dist_tm1 = one([9.0, 0.0, 0.0], np.log([0.25, 0.25, 0.5]), support=support)
    parts = jax.jit(categorical(support).loss)(dist_tm1, np.int32(1), np.float32([0.5, 0.5, 0.0]), H)
    np.testing.assert_allclose(parts, [np.log(4.0), 1.25, np.log(2.0)], rtol=1e-6)


def our_losses(support, double, x_tm1, a_tm1, r_t, discount_t, x_t, x_select):
    head, backup = categorical(support), greedy(double)
    dist_t = dist_of(x_t, support)
    q_select = head.q_values(dist_of(x_select if double else x_t, support))
    policy, penalty = jax.vmap(backup.policy, in_axes=(0, None))(q_select, H)
    y = jax.vmap(head.target)(dist_t, policy, penalty, r_t, discount_t)
    return jax.vmap(head.loss, in_axes=(0, 0, 0, None))(dist_of(x_tm1, support), a_tm1, y, H).loss


def rlax_losses(support, double, x_tm1, a_tm1, r_t, discount_t, x_t, x_select):
    atoms = jnp.array(support)
    if not double:
        per_example = jax.vmap(rlax.categorical_q_learning, in_axes=(None, 0, 0, 0, 0, None, 0))
        return per_example(atoms, x_tm1, a_tm1, r_t, discount_t, atoms, x_t)
    selector = jnp.sum(jax.nn.softmax(x_select) * atoms[None, None], axis=-1)
    per_example = jax.vmap(rlax.categorical_double_q_learning, in_axes=(None, 0, 0, 0, 0, None, 0, 0))
    return per_example(atoms, x_tm1, a_tm1, r_t, discount_t, atoms, x_t, selector)


@partial(jax.jit, static_argnums=(0, 1))
def graded(support, double, x_tm1, *rest):
    """Our losses [B] and their gradients with respect to the predicted logits [B, A, N], and those of rlax."""

    def total(losses, x):
        per_example = losses(support, double, x, *rest)
        return jnp.sum(per_example), per_example

    return [jax.grad(partial(total, losses), has_aux=True)(x_tm1) for losses in (our_losses, rlax_losses)]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("support", [EVEN, UNEVEN, PAIR])
@pytest.mark.parametrize("num_actions", [1, 2, 5])
@pytest.mark.parametrize("double", [False, True])
def test_loss_and_gradient_equal_rlax(support, num_actions, double):
    for ours, theirs in zip(*graded(support, double, *example(support, num_actions)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_double_n_step_target_from_first_principles():
    """Three rewards folded, the online network's action, the target network's distribution: atom by atom in numpy."""
    support, gamma = UNEVEN, 0.9
    x_t, _, _, _, x_select, _ = example(support, 4, seed=3)
    reward = np.random.default_rng(8).standard_normal((B, 3), np.float32)
    terminated = np.zeros((B, 3), bool)
    terminated[::4, 1] = True
    head, backup = categorical(support), greedy(True)

    @jax.jit
    def targets(reward, terminated, dist_select, dist_t):
        fold = jax.vmap(n_step_fold, in_axes=(0, 0, 0, None))
        r_t, discount_t, _ = fold(reward, terminated, jnp.zeros_like(terminated), gamma)
        policy, penalty = jax.vmap(backup.policy, in_axes=(0, None))(head.q_values(dist_select), H)
        return jax.vmap(head.target)(dist_t, policy, penalty, r_t, discount_t)

    y = targets(reward, terminated, dist_of(x_select, support), dist_of(x_t, support))
    z, reward = np.array(support), reward.astype(np.float64)
    for b in range(B):
        best = np.argmax(softmax(x_select[b]) @ z)
        probs = softmax(x_t[b, best])
        if b % 4:
            returns = reward[b] @ [1, gamma, gamma**2] + gamma**3 * z
        else:
            returns = np.full(len(z), reward[b, 0] + gamma * reward[b, 1])
        expected = np.zeros(len(z))
        for value, p in zip(np.clip(returns, z[0], z[-1]), probs, strict=True):
            # np.interp of an indicator is the hat function of that entry of the support.
            expected += p * np.array([np.interp(value, z, unit) for unit in np.eye(len(z))])
        np.testing.assert_allclose(y[b], expected, atol=1e-5)


def test_mean_of_the_target_is_that_of_the_mixture():
    """E[y] = r + γ Σ π (Q - penalty) where the support is wide enough, for a soft policy with a penalty per action."""
    support = tuple(np.linspace(-60.0, 60.0, 31).tolist())
    x_t, _, r_t, discount_t, _, _ = example(support, 5)
    # Masses near the middle, so that nothing is clipped.
    x_t = x_t - 0.05 * np.square(np.float32(support))
    rng = np.random.default_rng(4)
    policy, penalty = softmax(rng.standard_normal((B, 5), np.float32)), rng.standard_normal((B, 5), np.float32)
    head, dist_t = categorical(support), dist_of(x_t, support)
    y = jax.jit(jax.vmap(head.target))(dist_t, policy, penalty, r_t, discount_t)
    expected = r_t + discount_t * np.sum(policy * (jax.jit(head.q_values)(dist_t) - penalty), axis=-1)
    np.testing.assert_allclose(np.asarray(y) @ np.float32(support), expected, atol=1e-4)


def test_priority_is_the_divergence_and_zero_at_a_perfect_prediction():
    """Against numpy in float64; cross-entropy alone would not vanish where prediction and target agree."""
    x_tm1, a_tm1, _, _, x_t, _ = example(EVEN, 3)
    head = categorical(EVEN)
    loss = jax.jit(jax.vmap(head.loss, in_axes=(0, 0, 0, None)))
    y = softmax(x_t[:, 0])
    parts = loss(dist_of(x_tm1, EVEN), a_tm1, y, H)
    log_p = np.asarray(x_tm1, np.float64)[np.arange(B), a_tm1]
    log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    exact = np.asarray(y, np.float64)
    np.testing.assert_allclose(parts.priority, (exact * (np.log(exact) - log_p)).sum(axis=1), rtol=1e-4, atol=1e-5)
    perfect = loss(dist_of(x_tm1, EVEN), a_tm1, softmax(x_tm1)[np.arange(B), a_tm1], H)
    assert float(perfect.priority.min()) >= 0.0
    np.testing.assert_allclose(perfect.priority, 0.0, atol=1e-6)
    assert float(perfect.loss.min()) > 0.1


def test_extreme_logits_stay_finite(debug_nans):
    """A prediction sure of the wrong atom costs much, not infinity, and its gradient is p - y."""
    support = (-1.0, 0.0, 1.0)
    head, y = categorical(support), jnp.array([0.0, 0.0, 1.0])

    def loss(x):
        dist_tm1 = Dist(x=x, support=jnp.array(support), weight=jnp.full(3, 1 / 3))
        return head.loss(dist_tm1, jnp.int32(0), y, H).loss

    value, gradient = jax.value_and_grad(loss)(jnp.array([[1e4, 0.0, 0.0]]))
    assert float(value) == 1e4
    np.testing.assert_allclose(gradient, [[1.0, 0.0, -1.0]], atol=1e-6)


def test_lanes_batches_and_compilation_agree():
    """jit(vmap(vmap)) over a lane axis gives what one example at a time does."""
    x_tm1, a_tm1, r_t, discount_t, x_t, _ = example(UNEVEN, 3)
    head = categorical(UNEVEN)

    def parts(dist_tm1, a_tm1, dist_t, r_t, discount_t):
        policy, penalty = greedy(False).policy(head.q_values(dist_t), H)
        return head.loss(dist_tm1, a_tm1, head.target(dist_t, policy, penalty, r_t, discount_t), H)

    batch = (dist_of(x_tm1, UNEVEN), a_tm1, dist_of(x_t, UNEVEN), r_t, discount_t)
    lanes = jax.tree.map(lambda leaf: leaf.reshape(2, B // 2, *leaf.shape[1:]), batch)
    out = jax.tree.map(lambda leaf: leaf.reshape(B), jax.jit(jax.vmap(jax.vmap(parts)))(*lanes))
    for b in (0, 7, B - 1):
        single = jax.jit(parts)(*jax.tree.map(lambda leaf, b=b: leaf[b], batch))
        np.testing.assert_allclose([leaf[b] for leaf in out], single, rtol=1e-4, atol=1e-5)
