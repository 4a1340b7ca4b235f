"""The rollout learner: its targets and gradient against numpy, and a run of it under the same rules as any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config
from purejaxdqn.learn import init_learner, make_rollout_learn
from purejaxdqn.learning.heads import scalar
from purejaxdqn.loops.device import make_agent
from purejaxdqn.networks import Network
from purejaxdqn.types import Dist, Hypers, Row

pytestmark = pytest.mark.usefixtures("strict_ranks")

T, E, A, D = 5, 3, 2, 4


def linear_apply(params, obs, key, role):
    one = jnp.ones((obs.shape[0], 1))
    return Dist(x=(obs @ params["w"])[..., None], support=0.0 * one, weight=one)


LINEAR = Network(init=lambda key: {"w": jax.random.normal(key, (D, A))}, apply=linear_apply)
H = Hypers(learning_rate=0.1, gamma=0.9, trace_lambda=0.7, max_grad_norm=float("inf")).as_arrays()


def make_config(**changes):
    plain = {"optimizer": "sgd", "learning_rate_schedule": "constant", "num_epochs": 1, "num_minibatches": 1}
    return Config(learner="rollout", rollout_length=T, num_envs=E, **(plain | changes))


@pytest.fixture
def rows():
    """Environment 0 terminates at step 1, 1 is truncated at step 2, and 2 has a row that is no transition at step 3."""
    rng = np.random.default_rng(3)
    obs, final = rng.normal(size=(2, T, E, D)).astype(np.float32)
    terminated, truncated, invalid = np.zeros((3, T, E), bool)
    terminated[1, 0] = truncated[2, 1] = invalid[3, 2] = True
    return Row(
        obs=obs,
        action=rng.integers(0, A, (T, E)).astype(np.int32),
        reward=rng.normal(size=(T, E)).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        final_obs=final,
        valid=~invalid,
    )


def expected_returns(rows, w, gamma, trace_lambda):
    """λ-returns by their recursion, in float64: from the true next observation, never across the end of an episode."""
    value = (rows.final_obs.astype(np.float64) @ w).max(-1)
    found = np.zeros((T, E))
    for env in range(E):
        for t in reversed(range(T)):
            ends = rows.terminated[t, env] or rows.truncated[t, env]
            alone = ends or t == T - 1 or not rows.valid[t + 1, env]
            bootstrap = value[t, env]
            if not alone:
                bootstrap = (1 - trace_lambda) * value[t, env] + trace_lambda * found[t + 1, env]
            found[t, env] = rows.reward[t, env] + gamma * bootstrap * (not rows.terminated[t, env])
    return found


def test_one_step_equals_numpy(rows):
    """Plain descent on the whole rollout at once: the mean over rows, of which the invalid one weighs nothing."""
    config = make_config()
    learner = init_learner(config, LINEAR, jax.random.key(0), H)
    learn = make_rollout_learn(config, LINEAR, scalar("squared"))
    new, memory, metrics = jax.jit(learn)(learner, (), rows, jax.random.key(1), H)
    w = np.asarray(learner.params["w"], np.float64)
    error = expected_returns(rows, w, 0.9, 0.7) - np.take_along_axis(rows.obs @ w, rows.action[..., None], -1)[..., 0]
    gradient = np.zeros_like(w)
    for t, env in np.ndindex(T, E):
        gradient[:, rows.action[t, env]] -= rows.valid[t, env] * error[t, env] * rows.obs[t, env] / (T * E)
    np.testing.assert_allclose(new.params["w"], w - 0.1 * gradient, atol=1e-5)
    np.testing.assert_allclose(metrics.loss, np.sum(0.5 * error**2 * rows.valid) / (T * E), rtol=1e-5)
    assert memory == () and new.target_params == () and int(new.updates.count) == 1


def test_every_pass_visits_every_step_once(rows):
    """With a learning rate of zero every minibatch has the same parameters, so its losses add up to the whole's."""
    h = H.replace(learning_rate=jnp.float32(0.0))
    losses = {}
    for epochs, minibatches in ((1, 1), (1, 5), (3, 5)):
        config = make_config(num_epochs=epochs, num_minibatches=minibatches)
        learner = init_learner(config, LINEAR, jax.random.key(0), h)
        learn = make_rollout_learn(config, LINEAR, scalar("squared"))
        new, _, metrics = jax.jit(learn)(learner, (), rows, jax.random.key(1), h)
        losses[epochs, minibatches] = float(metrics.loss) / minibatches
        assert int(new.updates.count) == epochs * minibatches == config.updates_per_iteration
    np.testing.assert_allclose(losses[1, 5], losses[1, 1], rtol=1e-5)
    np.testing.assert_allclose(losses[3, 5], 3 * losses[1, 1], rtol=1e-5)


def test_the_order_is_random_and_a_function_of_the_key(rows):
    config = make_config(num_minibatches=5)
    learner = init_learner(config, LINEAR, jax.random.key(0), H)
    learn = jax.jit(make_rollout_learn(config, LINEAR, scalar("squared")))
    ends = [learn(learner, (), rows, jax.random.key(seed), H)[0].params["w"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_there_is_no_prefill_and_no_replay():
    config = Config(learner="rollout", num_envs=8, rollout_length=16, num_minibatches=4, num_epochs=2)
    agent = make_agent(config)
    state = jax.eval_shape(agent.init, jax.random.key(0), Hypers())
    assert config.prefill_steps == 0 and config.steps_per_iteration == 128 and config.updates_per_iteration == 8
    assert jax.tree.leaves(state.memory) == [] and jax.tree.leaves(state.learner.target_params) == []
