"""What a replay costs: one write of 10 rows, one sample of 128 and one update, uniform and prioritized.

python -m benchmarks.replay

Rows are CartPole's and the replay is full. One compiled loop runs all trips of a timing. Times are the processor's for
this process, which works on one thread: waiting for others does not count. Contenders take turns, so that a noisy
machine is noisy for all; medians are what counts.
"""

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.common import write_result
from benchmarks.speed.timing import compile_loop, medians, take_turns
from purejaxdqn.machine.devices import use_platform
from purejaxdqn.replay.interface import Replay
from purejaxdqn.replay.prioritized import prioritized
from purejaxdqn.replay.sum_tree import FAN_OUT
from purejaxdqn.replay.transitions import transition_store
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Hypers, Row, Transition

NUM_ENVS, BATCH_SIZE, N_STEP, TIME_LIMIT = 10, 128, 3, 500
Rows = Callable[[int | Array], Row]
"""(number of the call) -> rows [1, E]."""


def cartpole_rows(i: int | Array) -> Row:
    """Rows [1, NUM_ENVS] that differ from call to call, of episodes of about 100 steps."""
    phase = jnp.arange(NUM_ENVS)[None] * 10 + i
    obs = jnp.sin(phase[..., None] * 0.1 + jnp.arange(4.0)[None, None])
    return Row(
        obs=obs,
        action=phase % 2,
        reward=jnp.ones((1, NUM_ENVS)),
        terminated=phase % 100 == 0,
        truncated=jnp.zeros((1, NUM_ENVS), bool),
        final_obs=obs + 0.01,
        valid=jnp.ones((1, NUM_ENVS), bool),
    )


def filled(replay: Replay, capacity: int, rows: Rows) -> Any:
    """A memory that has been written once around."""
    row = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0, 0], rows(0)))
    fill = compile_loop(lambda i, memory: replay.add(memory, rows(i)))
    return fill(replay.init(row), capacity // jax.eval_shape(rows, 0).action.shape[1])


def consume(batch: Transition) -> Array:
    """A number of each transition, [B], in which everything counts, so that no compiler can leave out reading it."""
    axes = tuple(range(1, batch.obs_t.ndim))
    observed = jnp.sum(batch.obs_tm1 * batch.obs_t, axis=axes)
    return observed + batch.r_t * batch.discount_t + batch.a_tm1


def sample_once(replay: Replay, i: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
    """A sample, and the update of its priorities."""
    memory, found = carry
    batch, index, weight = replay.sample(memory, jax.random.fold_in(jax.random.key(0), i), Hypers())
    read = consume(batch)
    memory = replay.update(memory, index, jnp.abs(read), Hypers())
    return memory, found + jnp.sum(read * weight)


def contender(replay: Replay) -> Callable[[tuple[Any, Array], int], tuple[Any, Array]]:
    """((memory, sum), n) -> memory, sum: n times what a training iteration asks of a replay, in place."""

    def body(i: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        return sample_once(replay, i, (replay.add(carry[0], cartpole_rows(i)), carry[1]))

    return compile_loop(body)


def make_replays(capacity: int, fan_outs: list[int], batch_size: int = BATCH_SIZE) -> dict[str, Replay]:
    """The replays to measure, by name."""
    rows = capacity // NUM_ENVS
    store = transition_store(rows, NUM_ENVS, N_STEP, TIME_LIMIT, every_row_valid=True)
    found = {"uniform": uniform(store, batch_size)}
    for fan_out in fan_outs:
        found[f"prioritized, fan-out {fan_out}"] = prioritized(store, batch_size, fan_out=fan_out)
    return found


def measure(capacity: int, fan_outs: list[int], trips: int, repetitions: int) -> dict[str, list[float]]:
    """Microseconds a trip of every replay, by repetition."""
    timers: dict[str, Callable[[], float]] = {}
    for name, replay in make_replays(capacity, fan_outs).items():
        run = contender(replay)
        # Waited for, because what still ran would count as the first timing's time.
        carry = jax.block_until_ready(run((filled(replay, capacity, cartpole_rows), jnp.float32(0)), trips))
        timers[name] = process_timer(run, carry, trips)
    return take_turns(timers, repetitions)


def process_timer(run: Callable[[Any, int], Any], carry: Any, trips: int) -> Callable[[], float]:
    """Microseconds of one trip by the processor's clock; every timing goes on from the last one's carry."""
    held = [carry]

    def timing() -> float:
        jax.block_until_ready(held[0])
        begin = time.process_time()
        held[0] = jax.block_until_ready(run(held[0], trips))
        return round((time.process_time() - begin) / trips * 1e6, 2)

    return timing


def main() -> None:
    """Measures, writes results/replay.json and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacities", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--fan-outs", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--trips", type=int, default=1_000, help="trips of the loop in one timing (default: 1000)")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--dry-run", action="store_true", help="print only")
    args = parser.parse_args()
    use_platform("cpu", 1)
    micros, middle = {}, {}
    for capacity in args.capacities:
        micros[str(capacity)] = measure(capacity, args.fan_outs, args.trips, args.repetitions)
        middle[str(capacity)] = medians(micros[str(capacity)])
        for name, median in middle[str(capacity)].items():
            least = min(micros[str(capacity)][name])
            print(f"{capacity:>9,} transitions, {name:<24} {median:7.2f} µs (least {least:.2f})", flush=True)
        gc.collect()
    if not args.dry_run:
        write_result(
            "replay",
            "microseconds of one write of 10 rows, one sample of 128 and one update, in a compiled loop: "
            "time of one thread",
            {"default_fan_out": FAN_OUT, "trips": args.trips, "median_us": middle, "us": micros},
        )


if __name__ == "__main__":
    main()
