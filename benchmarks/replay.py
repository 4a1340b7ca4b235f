"""What a replay costs: one write of 10 rows, one sample of 128 and one update, uniform and prioritized.

python -m benchmarks.replay

Rows are CartPole's and the replay is full. One compiled loop runs all trips of a timing. Times are the processor's for
this process, which works on one thread: waiting for others does not count. Contenders take turns, so that a noisy
machine is noisy for all; medians are what counts.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from purejaxdqn.devices import use_platform

use_platform("cpu", 1)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax import Array  # noqa: E402

from benchmarks.common import write_result  # noqa: E402
from purejaxdqn.replay.contract import Replay  # noqa: E402
from purejaxdqn.replay.prioritized import prioritized  # noqa: E402
from purejaxdqn.replay.sum_tree import FAN_OUT  # noqa: E402
from purejaxdqn.replay.transitions import transition_store  # noqa: E402
from purejaxdqn.replay.uniform import uniform  # noqa: E402
from purejaxdqn.types import Hypers, Row  # noqa: E402

NUM_ENVS, BATCH_SIZE, N_STEP, TIME_LIMIT = 10, 128, 3, 500


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


def filled(replay: Replay, capacity: int) -> Any:
    """A memory that has been written once around."""
    row = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0, 0], cartpole_rows(0)))
    fill = jax.jit(
        lambda memory, n: jax.lax.fori_loop(0, n, lambda i, m: replay.add(m, cartpole_rows(i)), memory),
        donate_argnums=0,
    )
    return fill(replay.init(row), capacity // NUM_ENVS)


def contender(replay: Replay) -> Callable[[Any, Array, int], tuple[Any, Array]]:
    """(memory, sum, n) -> memory, sum: n times what a training iteration asks of a replay, in place."""

    def body(i: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        memory, found = carry
        memory = replay.add(memory, cartpole_rows(i))
        batch, index, weight = replay.sample(memory, jax.random.fold_in(jax.random.key(0), i), Hypers())
        # Everything that was read counts, so that no compiler can leave it out.
        read = jnp.sum(batch.obs_tm1 * batch.obs_t, axis=1) + batch.r_t * batch.discount_t + batch.a_tm1
        memory = replay.update(memory, index, jnp.abs(read), Hypers())
        return memory, found + jnp.sum(read * weight)

    # The number of trips is an argument, so that no compiler can unroll the loop.
    return jax.jit(lambda memory, found, n: jax.lax.fori_loop(0, n, body, (memory, found)), donate_argnums=(0, 1))


def make_replays(capacity: int, fan_outs: list[int]) -> dict[str, Replay]:
    """The replays to measure, by name."""
    rows = capacity // NUM_ENVS
    store = transition_store(rows, NUM_ENVS, N_STEP, TIME_LIMIT, every_row_valid=True)
    found = {"uniform": uniform(store, BATCH_SIZE)}
    for fan_out in fan_outs:
        found[f"prioritized, fan-out {fan_out}"] = prioritized(store, BATCH_SIZE, total_rows=10**6, fan_out=fan_out)
    return found


def measure(capacity: int, fan_outs: list[int], trips: int, repetitions: int) -> dict[str, list[float]]:
    """Microseconds a trip of every replay, by repetition."""
    runs: dict[str, Any] = {}
    carries: dict[str, Any] = {}
    for name, replay in make_replays(capacity, fan_outs).items():
        runs[name] = contender(replay)
        # Waited for, because what still ran would count as the first timing's time.
        carries[name] = jax.block_until_ready(runs[name](filled(replay, capacity), jnp.float32(0), trips))
    micros: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            jax.block_until_ready(carries[name])
            begin = time.process_time()
            carries[name] = jax.block_until_ready(run(*carries[name], trips))
            micros[name].append(round((time.process_time() - begin) / trips * 1e6, 2))
    return micros


def main() -> None:
    """Measures, writes results/replay.json and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacities", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--fan-outs", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--trips", type=int, default=1_000, help="trips of the loop in one timing (default: 1000)")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--dry-run", action="store_true", help="print only")
    args = parser.parse_args()
    micros, medians = {}, {}
    for capacity in args.capacities:
        micros[str(capacity)] = measure(capacity, args.fan_outs, args.trips, args.repetitions)
        medians[str(capacity)] = {name: statistics.median(found) for name, found in micros[str(capacity)].items()}
        for name, median in medians[str(capacity)].items():
            least = min(micros[str(capacity)][name])
            print(f"{capacity:>9,} transitions, {name:<24} {median:7.2f} µs (least {least:.2f})", flush=True)
        gc.collect()
    if not args.dry_run:
        write_result(
            "replay",
            "microseconds of one write of 10 rows, one sample of 128 and one update, in a compiled loop: "
            "time of one thread",
            {"default_fan_out": FAN_OUT, "trips": args.trips, "median_us": medians, "us": micros},
        )


if __name__ == "__main__":
    main()
