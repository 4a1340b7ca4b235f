"""Heads, backups and one gradient step made of them, by hand and against rlax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purejaxdqn.config import Config
from purejaxdqn.learn import batch_targets, init_learner, make_replay_learn
from purejaxdqn.learning.backups import greedy
from purejaxdqn.learning.heads import scalar
from purejaxdqn.networks import Network
from purejaxdqn.replay.interface import Replay
from purejaxdqn.types import Dist, Hypers, Learner, Transition, counter

pytestmark = pytest.mark.usefixtures("strict_ranks")

B, A, D = 12, 3, 4
H = Hypers().as_arrays()


def dist(*values):
    one = np.ones(1, np.float32)
    return Dist(x=np.array(values, np.float32)[:, None], support=0.0 * one, weight=one)


def test_scalar_head_reads_action_values():
    np.testing.assert_array_equal(jax.jit(scalar("squared").q_values)(dist(1, 2, 3)), [1.0, 2.0, 3.0])


def test_scalar_target_is_the_policys_expectation():
    # Policy (¼, ¾) over values (4, 8) with penalties (0, 2): ¼·4 + ¾·(8 - 2) = 5.5; 1 + ½ · 5.5 = 3.75.
    target = scalar("squared").target
    policy, penalty = np.float32([0.25, 0.75]), np.float32([0.0, 2.0])
    y = target(dist(4, 8), policy, penalty, np.float32(1.0), np.float32(0.5))
    np.testing.assert_allclose(y, 3.75)
    np.testing.assert_allclose(target(dist(4, 8), policy, penalty, np.float32(1.0), np.float32(0.0)), 1.0)


@pytest.mark.parametrize(("loss", "expected"), [("squared", 4.5), ("huber", 2.5)])
def test_scalar_loss_by_hand(loss, expected):
    # The target 5 misses the value 2 by 3: ½ · 9, or with δ = 1, 1 · (3 - ½).
    value, abs_error, priority = scalar(loss).loss(dist(7, 2), jnp.int32(1), jnp.float32(5.0), H)
    assert float(value) == expected and float(abs_error) == float(priority) == 3.0


def test_huber_delta_is_a_hyper():
    """δ = 2: 2 · (3 - 1) = 4, without another compilation."""
    value, *_ = scalar("huber").loss(dist(7, 2), jnp.int32(1), jnp.float32(5.0), H.replace(huber_delta=2.0))
    assert float(value) == 4.0


def test_largest_valid_huber_delta_gives_no_nan():
    """What `validate` lets through must give a loss: an infinite threshold is the squared error, or an error."""
    try:
        h = Hypers(huber_delta=float("inf"))
    except ValueError:
        return
    value, *_ = scalar("huber").loss(dist(7, 2), jnp.int32(1), jnp.float32(5.0), h.as_arrays())
    assert float(value) == 4.5


def test_greedy_backup():
    """All of the policy on the best action, the lowest index of several; no penalty, no bonus."""
    for double in (False, True):
        backup = greedy(double)
        policy, penalty = backup.policy(jnp.array([1.0, 5.0, 5.0]), H)
        np.testing.assert_array_equal(policy, [0.0, 1.0, 0.0])
        assert penalty is None
        assert backup.selects_online is double and not backup.needs_bonus
        assert float(backup.bonus(jnp.array([1.0, 2.0, 3.0]), jnp.int32(0), H)) == 0.0


def linear_init(key):
    return {"w": jax.random.normal(key, (D, A))}


def linear_apply(params, obs, key, role):
    one = jnp.ones((obs.shape[0], 1))
    return Dist(x=(obs @ params["w"])[..., None], support=0.0 * one, weight=one)


LINEAR = Network(init=linear_init, apply=linear_apply)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(5)
    return Transition(
        obs_tm1=rng.standard_normal((B, D), np.float32),
        a_tm1=rng.integers(A, size=B, dtype=np.int32),
        r_t=rng.standard_normal(B, np.float32),
        discount_t=np.float32(0.9) * (rng.random(B) < 0.7),
        obs_t=rng.standard_normal((B, D), np.float32),
    )


@pytest.fixture(scope="module")
def learner():
    online, target = jax.random.split(jax.random.key(6))
    params = linear_init(online)
    optimizer_state = init_learner(Config(optimizer="sgd"), LINEAR, online, H).opt_state
    return Learner(params=params, target_params=linear_init(target), opt_state=optimizer_state, updates=counter())


def fixed_replay(batch, weight):
    """A replay that always returns one batch."""
    return Replay(
        init=lambda row: (),
        add=lambda memory, rows: memory,
        sample=lambda memory, key, h: (batch, (), weight),
        update=lambda memory, index, priority, h: memory,
    )


def rlax_errors(double, params, learner, batch):
    """Target minus prediction [B] by rlax, of the linear network with these online parameters."""
    q_tm1, online = batch.obs_tm1 @ params["w"], batch.obs_t @ params["w"]
    value = batch.obs_t @ learner.target_params["w"]
    if double:
        return jax.vmap(rlax.double_q_learning)(q_tm1, batch.a_tm1, batch.r_t, batch.discount_t, value, online)
    return jax.vmap(rlax.q_learning)(q_tm1, batch.a_tm1, batch.r_t, batch.discount_t, value)


@partial(jax.jit, static_argnums=0)
def our_targets(double, learner, batch):
    return batch_targets(LINEAR, scalar("squared"), greedy(double), learner, batch, jax.random.key(0), H)


def predictions(learner, batch):
    """Of the actions taken, [B]."""
    return (batch.obs_tm1 @ np.asarray(learner.params["w"]))[np.arange(B), batch.a_tm1]


@pytest.mark.parametrize("double", [False, True])
def test_targets_equal_rlax(double, batch, learner):
    """Targets of a batch: those of rlax's (double) Q-learning, whose error is target minus prediction."""
    y = our_targets(double, learner, batch)
    error = jax.jit(rlax_errors, static_argnums=0)(double, learner.params, learner, batch)
    assert y.shape == (B,)
    np.testing.assert_allclose(y, error + predictions(learner, batch), atol=1e-5)


def learn_once(config, batch, learner, weight, h):
    """One learning phase on a fixed batch."""
    learn = make_replay_learn(
        config, LINEAR, scalar(config.loss), greedy(config.backup == "double"), fixed_replay(batch, weight)
    )
    return jax.jit(learn)(learner, (), None, jax.random.key(0), h.as_arrays())


@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("double", [False, True])
def test_gradient_step_equals_rlax(loss, double, batch, learner):
    """One step of plain descent moves the parameters along the gradient of rlax's loss, weights included."""
    weight = (np.arange(B) % 4 > 0).astype(np.float32)
    h = Hypers(learning_rate=0.1, max_grad_norm=float("inf"), huber_delta=0.5)
    config = Config(optimizer="sgd", learning_rate_schedule="constant", loss=loss, backup="double" if double else "max")
    new, _, metrics = learn_once(config, batch, learner, weight, h)

    def loss_fn(params):
        error = rlax_errors(double, params, learner, batch)
        per_example = rlax.huber_loss(error, 0.5) if loss == "huber" else rlax.l2_loss(error)
        return jnp.mean(weight * per_example)

    value, grads = jax.device_get(jax.jit(jax.value_and_grad(loss_fn))(learner.params))
    np.testing.assert_allclose(new.params["w"], np.asarray(learner.params["w"]) - 0.1 * grads["w"], atol=1e-5)
    np.testing.assert_allclose(metrics.loss, value, rtol=1e-5)
    np.testing.assert_allclose(metrics.grad_norm, np.linalg.norm(grads["w"]), rtol=1e-5)
    np.testing.assert_array_equal(new.target_params["w"], learner.target_params["w"])
    assert int(new.updates.count) == 1


def test_weight_zero_is_never_learnt_from(batch, learner):
    """Whatever stands in a row of weight zero, the parameters after the step are the same."""
    third, weight = np.arange(B) == 3, np.ones(B, np.float32)
    weight[third] = 0.0
    config = Config(optimizer="sgd", learning_rate_schedule="constant")
    wild = batch.replace(
        r_t=np.where(third, np.float32(1e6), batch.r_t),
        obs_t=np.where(third[:, None], np.float32(-50.0), batch.obs_t),
    )
    results = [learn_once(config, b, learner, weight, Hypers(learning_rate=0.1))[0] for b in (batch, wild)]
    np.testing.assert_array_equal(results[0].params["w"], results[1].params["w"])


def test_sum_is_mean_times_the_batch_size(batch, learner):
    """In plain descent a step under `sum` is batch_size times the one under `mean`, and so is the gradient's norm."""
    h = Hypers(learning_rate=0.01, max_grad_norm=float("inf"))
    moved, norms = {}, {}
    for reduction in ("mean", "sum"):
        config = Config(optimizer="sgd", learning_rate_schedule="constant", reduction=reduction)
        new, _, metrics = learn_once(config, batch, learner, np.ones(B, np.float32), h)
        step = np.subtract(new.params["w"], learner.params["w"])
        moved[reduction], norms[reduction] = step, np.asarray(metrics.grad_norm)
    assert np.abs(moved["mean"]).max() > 1e-4
    np.testing.assert_allclose(moved["sum"], B * moved["mean"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(norms["sum"], B * norms["mean"], rtol=1e-5)


def test_update_receives_the_absolute_errors_and_the_phase_makes_u_updates(batch, learner):
    """What a prioritised replay is given is |TD error| [B], after each of the updates."""

    def update(memory, index, error, h):
        return memory[0] + 1, error

    replay = fixed_replay(batch, np.ones(B, np.float32))._replace(update=update)
    config = Config(optimizer="sgd", learning_rate_schedule="constant", updates_per_rollout=3)
    learn = make_replay_learn(config, LINEAR, scalar("squared"), greedy(True), replay)
    h = Hypers(learning_rate=0.0).as_arrays()
    new, (calls, errors), _ = jax.jit(learn)(
        learner, (np.int32(0), np.zeros(B, np.float32)), None, jax.random.key(0), h
    )
    y = our_targets(True, learner, batch)
    assert int(calls) == 3 and int(new.updates.count) == 3
    np.testing.assert_allclose(errors, np.abs(y - predictions(learner, batch)), atol=1e-5)


def test_a_fresh_learner_has_an_equal_target_in_buffers_of_its_own():
    """Equal values, so that the first targets are the network's own; not one buffer, which could not be donated."""
    learner = init_learner(Config(), LINEAR, jax.random.key(0), H)
    np.testing.assert_array_equal(learner.params["w"], learner.target_params["w"])
    assert learner.params["w"].unsafe_buffer_pointer() != learner.target_params["w"].unsafe_buffer_pointer()
    assert int(learner.updates.count) == 0
