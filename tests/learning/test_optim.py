"""The optimiser against optax used directly, clipping by the global norm, schedules, and target updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxdqn.config import Config
from purejaxdqn.learning.optim import hard_update, make_optimizer, moving_average, periodic_update, soft_update
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("strict_ranks")

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.2])}
STEPS = 5


def gradients(scale, steps=STEPS):
    """Gradients of the shape of PARAMS."""
    keys = jax.random.split(jax.random.key(0), 2)
    return {
        "w": scale * jax.random.normal(keys[0], (steps, 2, 2)),
        "b": scale * jax.random.normal(keys[1], (steps, 2)),
    }


def ours(config, h, grads):
    """Parameters after these updates of the library's optimiser, rebuilt at each from traced hypers."""

    @jax.jit
    def run(h):
        def step(carry, inputs):
            params, opt_state = carry
            count, grad = inputs
            changes, opt_state = make_optimizer(config, h, count).update(grad, opt_state, params)
            return (optax.apply_updates(params, changes), opt_state), None

        start = (PARAMS, make_optimizer(config, h, jnp.int32(0)).init(PARAMS))
        return jax.lax.scan(step, start, (jnp.arange(len(grads["b"])), grads))[0][0]

    return run(h.as_arrays())


def theirs(optimizer, grads):
    """The same with an optax optimiser."""
    params, opt_state = PARAMS, optimizer.init(PARAMS)
    for i in range(len(grads["b"])):
        changes, opt_state = optimizer.update(jax.tree.map(lambda g, i=i: g[i], grads), opt_state, params)
        params = optax.apply_updates(params, changes)
    return params


def assert_trees_close(a, b, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("adam", lambda lr: optax.adam(lr, eps=1e-5)),
        ("adamw", lambda lr: optax.adamw(lr, eps=1e-5, weight_decay=0.3)),
        ("rmsprop", lambda lr: optax.rmsprop(lr, decay=0.95, eps=1e-5, centered=True)),
        ("radam", lambda lr: optax.radam(lr, eps=1e-5)),
        ("sgd", lambda lr: optax.sgd(lr)),
    ],
)
def test_optimizers_equal_optax(name, optimizer):
    """Twelve updates (RAdam rectifies the last) with a constant learning rate and a norm below the limit."""
    config = Config(optimizer=name, learning_rate_schedule="constant")
    grads = gradients(0.1, steps=12)
    h = Hypers(learning_rate=0.01, adam_epsilon=1e-5, max_grad_norm=100.0, weight_decay=0.3)
    # RAdam's rectification is a small difference of large numbers, in optax as here.
    assert_trees_close(ours(config, h, grads), theirs(optimizer(0.01), grads), 2e-5 if name == "radam" else 1e-6)


def test_weight_decay_is_decoupled_from_the_gradient_and_leaves_statistics_and_priors():
    """Without a gradient an update of rate 0.1 and decay 0.5 takes 5 % off each parameter, whatever the clipping."""
    params = {"params": PARAMS, "batch_stats": PARAMS, "prior": {"params": PARAMS}}
    h = Hypers(learning_rate=0.1, weight_decay=0.5, max_grad_norm=1e-3).as_arrays()
    optimizer = make_optimizer(Config(optimizer="adamw", learning_rate_schedule="constant"), h, jnp.int32(0))
    changes, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert_trees_close(changes["params"], jax.tree.map(lambda p: -0.05 * p, PARAMS), atol=1e-7)
    for kept in (changes["batch_stats"], changes["prior"]["params"]):
        assert_trees_close(kept, jax.tree.map(jnp.zeros_like, PARAMS), atol=0)


def test_linear_learning_rate_runs_over_the_updates_of_the_run():
    """Plain descent with gradients of one: the changes are the learning rates 1.0, 0.8, 0.6 … of a run of 5 updates."""
    config = Config(
        optimizer="sgd",
        learning_rate_schedule="linear",
        total_steps=70,
        num_envs=10,
        buffer_size=128,
        learning_starts=20,
        n_step=1,
    )
    assert config.num_updates == 5
    ones = jax.tree.map(lambda p: jnp.ones((STEPS, *p.shape)), PARAMS)
    h = Hypers(learning_rate=1.0, learning_rate_final=0.0, max_grad_norm=100.0)
    after = ours(config, h, ones)
    # 1.0 + 0.8 + 0.6 + 0.4 + 0.2 = 3.0
    assert_trees_close(after, jax.tree.map(lambda p: p - 3.0, PARAMS))


@pytest.mark.parametrize(("limit", "factor"), [(1.0, 0.2), (5.1, 1.0), (float("inf"), 1.0)])
def test_clipping_is_by_the_global_norm(limit, factor):
    """Gradients 3 and 4 in different leaves have norm 5: a limit of 1 scales both by 1/5 and leaves their direction."""
    config = Config(optimizer="sgd", learning_rate_schedule="constant")
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    h = Hypers(learning_rate=1.0, max_grad_norm=limit).as_arrays()
    optimizer = make_optimizer(config, h, jnp.int32(0))
    changes, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose([changes["a"][0], changes["b"][0]], [-3.0 * factor, -4.0 * factor], rtol=1e-6)


def test_zero_gradient_without_clipping_is_no_nan():
    """A limit of inf times a norm of zero is nowhere looked at."""
    config = Config(optimizer="adam", learning_rate_schedule="constant")
    optimizer = make_optimizer(config, Hypers(max_grad_norm=float("inf")).as_arrays(), jnp.int32(0))
    changes, _ = optimizer.update(jax.tree.map(jnp.zeros_like, PARAMS), optimizer.init(PARAMS), PARAMS)
    assert_trees_close(changes, jax.tree.map(jnp.zeros_like, PARAMS), atol=0)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_smallest_valid_epsilon_gives_no_nan(name):
    """What `validate` lets through must not destroy the parameters: a dead unit's gradient is exactly zero."""
    try:
        h = Hypers(adam_epsilon=0.0)
    except ValueError:
        return
    optimizer = make_optimizer(Config(optimizer=name), h.as_arrays(), jnp.int32(0))
    changes, _ = optimizer.update(jax.tree.map(jnp.zeros_like, PARAMS), optimizer.init(PARAMS), PARAMS)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(changes))


def test_optimizer_vmaps_over_hypers():
    """Lanes with learning rates of their own end where their solo runs end."""
    config = Config(optimizer="adam", learning_rate_schedule="constant")
    grads = jax.tree.map(lambda g: g[0], gradients(1.0))

    def one(learning_rate, limit):
        h = Hypers(learning_rate=learning_rate, max_grad_norm=limit)
        optimizer = make_optimizer(config, h, jnp.int32(0))
        return optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]

    rates, limits = jnp.array([0.1, 0.01]), jnp.array([0.5, 100.0])
    lanes = jax.jit(jax.vmap(one))(rates, limits)
    for i in range(2):
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], lanes), one(rates[i], limits[i]), atol=1e-7)


TARGET = {"w": jnp.array([[5.0, 6.0], [7.0, 8.0]]), "b": jnp.array([-1.0, 0.3])}


def test_soft_update_by_hand():
    # ¼ · 1 + ¾ · 5 = 4, ¼ · (-2) + ¾ · 6 = 4, …
    new = soft_update(PARAMS, TARGET, 0.25)
    np.testing.assert_allclose(new["w"], [[4.0, 4.0], [5.375, 6.75]], rtol=1e-6)
    np.testing.assert_allclose(new["b"], [-0.725, 0.175], rtol=1e-6)


@pytest.mark.parametrize(("tau", "expected"), [(0.0, TARGET), (1.0, PARAMS)])
def test_soft_update_at_its_ends_is_exact(tau, expected):
    """τ = 0 leaves every bit of the target, τ = 1 copies every bit of the parameters."""
    jax.tree.map(np.testing.assert_array_equal, soft_update(PARAMS, TARGET, jnp.float32(tau)), expected)


@pytest.mark.parametrize("period", [1, 3])
def test_hard_update_copies_at_multiples_of_the_period(period):
    for updates in range(1, 8):
        new = jax.jit(hard_update)(PARAMS, TARGET, jnp.int32(updates), jnp.int32(period))
        expected = PARAMS if updates % period == 0 else TARGET
        jax.tree.map(np.testing.assert_array_equal, new, expected)


def test_periodic_update_vmaps_over_period_and_tau():
    """One clock, lanes with periods and τ of their own: at update 6, period 4 does nothing, 3 moves half, 2 copies."""
    new = jax.vmap(periodic_update, in_axes=(None, None, None, 0, 0))(
        {"x": jnp.float32(2.0)}, {"x": jnp.float32(4.0)}, jnp.int32(6), jnp.array([4, 3, 2]), jnp.array([0.5, 0.5, 1.0])
    )
    np.testing.assert_allclose(new["x"], [4.0, 3.0, 2.0])


def test_a_moving_average_begins_as_the_mean_and_then_forgets():
    """Decay ¾: the mean of 4, 8 is 6, of 4, 8, 0 is 4; from the fourth on a quarter of the new: 8, 5 give 5, 5."""
    average = {"x": jnp.float32(100.0)}
    found = []
    for updates, x in enumerate((4.0, 8.0, 0.0, 8.0, 5.0)):
        average = moving_average({"x": jnp.float32(x)}, average, jnp.int32(updates), 0.75)
        found.append(float(average["x"]))
    np.testing.assert_allclose(found, [4.0, 6.0, 4.0, 5.0, 5.0], rtol=1e-6)


def test_a_moving_average_without_memory_is_the_parameters():
    average = moving_average(PARAMS, TARGET, jnp.int32(7), 0.0)
    jax.tree.map(np.testing.assert_array_equal, average, PARAMS)
