"""What was tried to make updates faster: each choice undone, or added, in turns with the library as it is.

python -m benchmarks.tried

CartPole-v1 at PureJaxRL's settings, one lane on one thread. An update is from batches that lie ready; an iteration is a
step of ten environments and an update. XLA's flags are of a process: each has processes of its own, in turns as well.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.common import last_json, run, write_result
from benchmarks.peers.contests import CONTESTS
from benchmarks.peers.ours_dqn import settings_of
from benchmarks.speed.learners import PLAIN, learners, make_update
from benchmarks.speed.timing import calibrated, loop_timer, medians, take_turns
from purejaxdqn.config import Config
from purejaxdqn.loops.device import make_agent
from purejaxdqn.machine.devices import use_platform

AS_IT_IS = "as it is"
HALVES = "wide products in bfloat16"
CONTEST = "purejaxrl"


def array_by_array(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """In place of `optax.flatten`."""
    return inner


def norm_by_array(config: Config, grads: Any) -> Array:
    """The gradients' norm."""
    del config
    return jnp.asarray(optax.tree.norm(grads))


def as_they_lie(kernel: Array, columns: Array) -> Array:
    """kernelᵀ columns, however narrow."""
    return jax.lax.dot_general(kernel, columns, (((0,), (0,)), ((), ())))


def halve(x: Array) -> Array:
    """As bfloat16."""
    return x.astype(jnp.bfloat16)


def multiply_halves(a: Array, b: Array, turned: bool = False) -> Array:
    """a b or a bᵀ of bfloat16 numbers, summed in float32."""
    dimensions = (((1,), (1 if turned else 0,)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


@jax.custom_vjp
def wide_in_bfloat16(kernel: Array, columns: Array) -> Array:
    """kernelᵀ columns. XLA has a fast product only of arrays that lie so: a transposition alone would not do."""
    turned = jax.lax.optimization_barrier(halve(kernel).T.reshape(-1)).reshape(kernel.T.shape)
    return multiply_halves(turned, halve(columns))


def wide_forward(kernel: Array, columns: Array) -> tuple[Array, tuple[Array, Array]]:
    """The product, and what its gradients need."""
    return wide_in_bfloat16(kernel, columns), (kernel, columns)


def wide_backward(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Gradients, in bfloat16 too."""
    kernel, columns, gradient = map(halve, (*factors, gradient))
    return multiply_halves(columns, gradient, turned=True), multiply_halves(kernel, gradient)


wide_in_bfloat16.defvjp(wide_forward, wide_backward)


def by_index(q: Array, action: Array) -> Array:
    """Q(s, a) by a gather."""
    return q[action]


BY_ARRAY = {"learning.optim.optax.flatten": array_by_array, "learn.global_norm": norm_by_array}
BY_INDEX = {"learning.heads.value_of": by_index, "learn.value_of": by_index}
AS_THEY_LIE = {"networks.layers.multiply_columns": as_they_lie}
JAX_DRAWS = {"loops.device.FUSED_IMPL": "threefry2x32"}
VARIANTS: dict[str, dict[str, Any]] = {
    AS_IT_IS: {},
    "clipping and Adam array by array": BY_ARRAY,
    "narrow products as they lie": AS_THEY_LIE,
    "action values by index, not by mask": BY_INDEX,
    "JAX's own Threefry": JAX_DRAWS,
    "all of these at once, as it was": {**BY_ARRAY, **AS_THEY_LIE, **BY_INDEX, **JAX_DRAWS},
    HALVES: {"networks.products.multiply_wide": wide_in_bfloat16},
}
FLAGS = (
    "",
    "--xla_cpu_prefer_vector_width=256",
    "--xla_cpu_prefer_vector_width=512",
    "--xla_cpu_experimental_ynn_fusion_type=",
    "--xla_cpu_experimental_ynn_fusion_type=dot,eltwise,reduce",
    "--xla_cpu_enable_fast_math=true",
    "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
)


@contextlib.contextmanager
def patched(replaced: dict[str, Any]) -> Iterator[None]:
    """The library with functions of it replaced, for as long as a program is traced."""
    with contextlib.ExitStack() as stack:
        for name, value in replaced.items():
            stack.enter_context(mock.patch(f"purejaxdqn.{name}", value))
        yield


def iteration_timer(seconds: float) -> Callable[[], float]:
    """A contender: seconds of one iteration."""
    config, hypers = settings_of(CONTESTS[CONTEST], 300_000)
    agent = make_agent(config)
    iterate = jax.jit(agent.iterate, donate_argnums=0)
    held = [jax.jit(agent.init)(jax.random.key(0), hypers)]

    def run_on(n: int) -> float:
        begin = time.perf_counter()
        held[0] = jax.block_until_ready(iterate(held[0], hypers, n)[0])
        return time.perf_counter() - begin

    return calibrated(run_on, seconds)


def make_timers(names: list[str], seconds: float) -> dict[str, Callable[[], float]]:
    """Contenders: an update and an iteration of each variant."""
    timers = {}
    for name in names:
        with patched(VARIANTS[name]):
            timers[f"update: {name}"] = loop_timer(*make_update(*learners(True)[PLAIN]), seconds)
            timers[f"iteration: {name}"] = iteration_timer(seconds)
    return timers


def by_part(found: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Microseconds of update and iteration, by variant."""
    result: dict[str, dict[str, Any]] = {}
    for key, seconds in found.items():
        part, name = key.split(": ", 1)
        micro = [round(value * 1e6, 2) for value in seconds]
        result.setdefault(name, {})[part] = {"median": statistics.median(micro), "microseconds": micro}
    return result


def measure_flags(repetitions: int, seconds: float) -> dict[str, dict[str, Any]]:
    """The library as it is, in processes with flags."""
    command = [sys.executable, "-m", "benchmarks.tried", "--as-it-is", "--seconds", str(seconds), "--repetitions", "3"]
    found: dict[str, list[float]] = {}
    for _ in range(repetitions):
        for flags in FLAGS:
            for part, value in last_json(run(command, {"XLA_FLAGS": flags}).output).items():
                found.setdefault(f"{part}: {flags}", []).append(value)
    return by_part(found)


def main() -> None:
    """Measures, writes results/tried.json and prints a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as-it-is", action="store_true", help="only that, and print it as JSON")
    parser.add_argument("--seconds", type=float, default=0.1, help="of one timing (default: 0.1)")
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--flag-repetitions", type=int, default=3)
    args = parser.parse_args()
    use_platform("cpu", 1)
    if args.as_it_is:
        median = medians(take_turns(make_timers([AS_IT_IS], args.seconds), args.repetitions))
        print(json.dumps({name.split(":")[0]: value for name, value in median.items()}))
        return
    variants = by_part(take_turns(make_timers(list(VARIANTS), args.seconds), args.repetitions))
    flags = measure_flags(args.flag_repetitions, args.seconds)
    for name, found in {**variants, **{name or "no flag": found for name, found in flags.items()}}.items():
        print(f"{name}: update {found['update']['median']:.1f} µs, iteration {found['iteration']['median']:.1f} µs")
    what = "microseconds of an update and of an iteration at PureJaxRL's settings, by what was tried"
    write_result("tried", what, {"variants": variants, "flags": flags})


if __name__ == "__main__":
    main()
