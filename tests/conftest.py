"""Settings of every test: two CPU devices, settled before a backend of JAX starts, and shared fixtures.

PUREJAXDQN_TEST_DEVICE=gpu runs what a test computes on an accelerator instead.
"""

import os
from collections.abc import Callable, Iterator

import pytest

from purejaxdqn.machine.devices import use_platform

use_platform(os.environ.get("PUREJAXDQN_TEST_DEVICE", "cpu"))

import jax  # noqa: E402

NUM_DEVICES = 2
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)

from purejaxdqn.config import Config  # noqa: E402

COMPILATIONS: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _seconds, **_: COMPILATIONS.append(event) if "backend_compile" in event else None
)


def pytest_sessionstart() -> None:
    """Fails at once, not in a hundred places, where something started a backend too early."""
    assert len(jax.devices("cpu")) == NUM_DEVICES, "a backend of JAX started before conftest.py could set it up"


@pytest.fixture
def count_compilations() -> Callable[[], int]:
    """How many programs XLA has compiled since the test began; differences tell whether a call compiled one."""
    before = len(COMPILATIONS)
    return lambda: len(COMPILATIONS) - before


@pytest.fixture(scope="module")
def strict_ranks() -> Iterator[None]:
    """Refuses implicit rank promotion, [3] + [2, 3], behind which batching mistakes hide.

    For a whole module: `pytestmark = pytest.mark.usefixtures("strict_ranks")`.
    """
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)


@pytest.fixture
def debug_nans() -> Iterator[None]:
    """Raises as soon as anything computes a NaN."""
    with jax.debug_nans(True):
        yield


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """A run of CartPole-v1 that compiles and runs in seconds; every size differs, so that mixed-up axes show."""
    return Config(
        env="CartPole-v1",
        num_envs=4,
        total_steps=4_000,
        buffer_size=200,
        batch_size=8,
        learning_starts=40,
        n_step=3,
        hidden=(16,),
        loss="huber",
    )
