"""Settings of every test: two CPU devices, settled before a backend of JAX starts, and shared fixtures.

PUREJAXDQN_TEST_DEVICE=gpu runs what a test computes on an accelerator instead.
"""

import ctypes
import functools
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

IN_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not IN_WORKER:
    # One folder for all processes of a session, commands among them, and empty when it begins.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="purejaxdqn-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # For the commands that tests start; here it is chosen test by test.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

from purejaxdqn.machine.devices import use_platform  # noqa: E402

use_platform(os.environ.get("PUREJAXDQN_TEST_DEVICE", "cpu"))

import jax  # noqa: E402
from jax._src import compiler  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402

jax.config.update("jax_disable_most_optimizations", False)
NUM_DEVICES = 2
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)

from purejaxdqn.config import Config  # noqa: E402

COMPILATIONS: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _seconds, **_: COMPILATIONS.append(event) if "backend_compile" in event else None
)


def pytest_sessionstart() -> None:
    """Fails at once, not in a hundred places, where something started a backend too early."""
    # `nohup make test &` would have every process ignore them.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tracing makes and drops millions of small objects; collecting them as rarely as this saves 4 % of the time.
    gc.freeze()
    gc.set_threshold(200_000, 50, 1_000)
    assert len(jax.devices("cpu")) == NUM_DEVICES, "a backend of JAX started before conftest.py could set it up"


def pytest_unconfigure() -> None:
    """Removes what the session compiled."""
    if not IN_WORKER:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process still has one to go when the other one is done."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


MOST_MEMORY = 2 * 2**30
"""Bytes that a test process may take."""
MUCH_MEMORY = 2**30
"""Bytes from which what was compiled is forgotten; small programs until then save the next modules time, some 7 %."""


def memory(which: str) -> int:
    """Bytes that this process holds (VmRSS), or the most that it held so far (VmHWM); all it may where none tells."""
    if sys.platform != "linux":
        return MOST_MEMORY
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module", autouse=True)
def release_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forgets what was compiled once it is much, and fails where a module took the process beyond `MOST_MEMORY`.

    A module may have a `MOST_MEMORY` of its own.

    Without this, what all modules compiled stays: 3 to 4 GB a process at the end of the suite.
    """
    before = memory("VmHWM")
    yield
    if memory("VmRSS") > MUCH_MEMORY:
        jax.clear_caches()
        gc.collect()
    if sys.platform == "linux":
        # glibc keeps what was freed; systems with another C library have no such call.
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    peak = memory("VmHWM")
    on_cpu, most = jax.default_backend() == "cpu", getattr(request.module, "MOST_MEMORY", MOST_MEMORY)
    assert not on_cpu or peak <= max(before, most), f"{request.node.name} took {peak / 2**30:.2f} GiB"


@pytest.fixture(scope="module", autouse=True)
def one_context() -> Iterator[None]:
    """Has JAX write a module's programs in one context of MLIR: to make one takes 5 ms, and they are 14,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", functools.cache(mlir.make_ir_context))
        yield


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


GET_COMPILE_OPTIONS = compiler.get_compile_options
FUSED: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
OPTIONS: dict[str, dict[str, Any]] = {"usual_compilation": {}, "exact_lanes": FUSED, "learning": {}, "long": {}}
"""Options of XLA by marker, of which the first counts."""


@functools.cache
def quickest() -> dict[str, Any]:
    """Options without a marker, which take a quarter of the usual time; from jaxlib 0.12 on those of `exact_lanes`."""
    options = FUSED | {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except jax.errors.JaxRuntimeError:
        return FUSED
    return options


@contextmanager
def compiling(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles programs as a marker says, or else quickly."""
    marked = [options for name, options in OPTIONS.items() if request.node.get_closest_marker(name)]
    chosen = (marked or [quickest()])[0]

    def get_compile_options(*args: Any, env_options_overrides: Any = None, **kwargs: Any) -> Any:
        return GET_COMPILE_OPTIONS(*args, env_options_overrides={**chosen, **(env_options_overrides or {})}, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", get_compile_options)
        yield


@pytest.fixture(scope="module", autouse=True)
def compilation_of_fixtures(request: pytest.FixtureRequest) -> Iterator[None]:
    """How what a module's fixtures compile is compiled."""
    with compiling(request):
        yield


@pytest.fixture(autouse=True)
def compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """How what a test compiles is compiled."""
    with compiling(request):
        yield


@pytest.fixture(scope="module")
def shared_programs() -> Iterator[None]:
    """Lets a module's runs of one configuration share their programs; on the device, where functions keep nothing."""
    from purejaxdqn.envs.names import loop_of
    from purejaxdqn.runs import training

    made: dict[Any, Any] = {}
    open_lanes = training.open_lanes

    def open_once(settings: Any, seeds: tuple[int, ...], block: int | None = None) -> Any:
        config = settings.config
        if loop_of(config.env) == "host" or config.data_parallel > 1:
            return open_lanes(settings, seeds, block)
        key = config, len(seeds), settings.eval_episodes, settings.eval_max_steps, block
        if key not in made:
            made[key] = open_lanes(settings, seeds, block)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "open_lanes", open_once)
        yield


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


@pytest.fixture
def own_parts() -> Iterator[None]:
    """Forgets afterwards what a test registers and imports."""
    from purejaxdqn import build
    from purejaxdqn.envs import own
    from purejaxdqn.machine.imports import IMPORTED
    from purejaxdqn.networks import TORSOS

    tables: list[dict[str, Any]] = [IMPORTED, own.FACTORIES, own.SAVED, TORSOS, *build.SEAMS.values()]
    before, modules, path = [dict(table) for table in tables], set(sys.modules), list(sys.path)
    yield
    for table, held in zip(tables, before, strict=True):
        table.clear()
        table.update(held)
    folders = tuple(set(sys.path) - set(path))
    for name in set(sys.modules) - modules:
        if folders and str(getattr(sys.modules[name], "__file__", "")).startswith(folders):
            del sys.modules[name]
    sys.path[:] = path
    own._first.cache_clear()
    own._made.cache_clear()
