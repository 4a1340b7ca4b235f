"""Schedules: values at and past their edges, and traced arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config
from purejaxdqn.learning.explore import epsilon_at
from purejaxdqn.learning.schedules import (
    SCHEDULES,
    constant_schedule,
    decremental_schedule,
    exponential_schedule,
    linear_schedule,
    multiplicative_schedule,
)
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("strict_ranks")


def test_linear_by_hand():
    # From 1 to 0.2 in 100 steps: 0.8 less in all, 0.2 less each 25.
    steps = jnp.array([0, 25, 50, 100, 101, 10**9])
    np.testing.assert_allclose(linear_schedule(steps, 1.0, 0.2, 100.0), [1.0, 0.8, 0.6, 0.2, 0.2, 0.2], rtol=1e-6)


def test_linear_may_rise():
    np.testing.assert_allclose(linear_schedule(jnp.array([0, 5, 20]), 0.0, 1.0, 10.0), [0.0, 0.5, 1.0], rtol=1e-6)


def test_exponential_by_hand():
    # From 1 to 0.01 in 100 steps: a tenth after each 50.
    steps = jnp.array([0, 50, 100, 1000])
    np.testing.assert_allclose(exponential_schedule(steps, 1.0, 0.01, 100.0), [1.0, 0.1, 0.01, 0.01], rtol=1e-5)


def test_exponential_to_zero_is_finite_and_falls(debug_nans):
    """No geometric path reaches zero; it ends at 1e-8 instead of NaN."""
    path = exponential_schedule(jnp.arange(0, 101, 10), 1.0, 0.0, 100.0)
    assert np.all(np.diff(path) < 0)
    np.testing.assert_allclose(path[-1], 1e-8, rtol=1e-3)


def test_constant_is_the_end_and_has_the_shape_of_the_step():
    np.testing.assert_array_equal(constant_schedule(jnp.arange(3), 1.0, 0.25, 100.0), [0.25] * 3)
    assert constant_schedule(jnp.int32(7), 1.0, 0.25, 100.0).shape == ()


def test_multiplicative_by_hand():
    # 1, ½, ¼, then the floor of 0.2; 0.5**200 is below what float32 holds.
    steps = jnp.array([0, 1, 2, 3, 200])
    np.testing.assert_allclose(multiplicative_schedule(steps, 1.0, 0.2, 0.5), [1.0, 0.5, 0.25, 0.2, 0.2], rtol=1e-6)


def test_decremental_by_hand():
    # 0.1 less 0.04 a step, above the floor of 0.01.
    steps = jnp.array([0, 1, 2, 3, 10**9])
    found = decremental_schedule(steps, 0.1, 0.01, 0.04)
    np.testing.assert_allclose(found, [0.1, 0.06, 0.02, 0.01, 0.01], rtol=1e-5)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_jit_and_vmap_over_everything(name):
    """Lanes may differ in start, end and duration: the traced schedule equals the one of Python numbers."""
    schedule = SCHEDULES[name]
    step, start, end, duration = 30, np.array([1.0, 0.9]), np.array([0.1, 0.2]), np.array([100.0, 60.0])
    lanes = jax.jit(jax.vmap(schedule, in_axes=(None, 0, 0, 0)))(jnp.int32(step), start, end, duration)
    solo = [float(schedule(jnp.int32(step), *map(float, one))) for one in zip(start, end, duration, strict=True)]
    np.testing.assert_allclose(lanes, solo, rtol=1e-6)
    assert lanes.dtype == jnp.float32


def test_epsilon_at_follows_the_config():
    """ε is counted in environment steps, over epsilon_fraction of total_steps."""
    config = Config(total_steps=10_000, epsilon_schedule="linear")
    h = Hypers(epsilon_start=1.0, epsilon_final=0.0, epsilon_fraction=0.5)
    path = [float(epsilon_at(config, h, jnp.int32(step))) for step in (0, 1_250, 2_500, 5_000, 10_000)]
    np.testing.assert_allclose(path, [1.0, 0.75, 0.5, 0.0, 0.0], atol=1e-6)
    assert float(epsilon_at(config.replace(epsilon_schedule="constant"), h, jnp.int32(0))) == 0.0


@pytest.mark.parametrize(
    ("name", "decay", "path"), [("multiplicative", 0.5, [0.8, 0.4, 0.1]), ("decremental", 0.1, [0.8, 0.7, 0.5])]
)
def test_epsilon_by_the_step_does_not_ask_how_long_the_run_is(name, decay, path):
    h = Hypers(epsilon_start=0.8, epsilon_final=0.1, epsilon_decay=decay)
    for total_steps in (10_000, 20_000):
        config = Config(total_steps=total_steps, epsilon_schedule=name)
        found = [float(epsilon_at(config, h, jnp.int32(step))) for step in (0, 1, 3)]
        np.testing.assert_allclose(found, path, rtol=1e-6)


def test_epsilon_that_is_switched_off():
    """Linear to 0.2 over half of 10,000 steps, then 0.2, and 0 from step 8,000 on."""
    config = Config(total_steps=10_000, epsilon_schedule="linear-off")
    h = Hypers(epsilon_start=1.0, epsilon_final=0.2, epsilon_fraction=0.5, epsilon_off=0.8).as_arrays()
    path = [float(epsilon_at(config, h, jnp.int32(step))) for step in (0, 2_500, 5_000, 7_999, 8_000, 20_000)]
    np.testing.assert_allclose(path, [1.0, 0.6, 0.2, 0.2, 0.0, 0.0], atol=1e-6)


def test_epsilon_at_does_not_overflow():
    """Two thousand million environment steps are within int32, and so must their schedule be."""
    config = Config(total_steps=2_000_000_000)
    h = Hypers(epsilon_start=1.0, epsilon_final=0.0, epsilon_fraction=1.0).as_arrays()
    np.testing.assert_allclose(epsilon_at(config, h, jnp.int32(1_500_000_000)), 0.25, rtol=1e-5)
