"""A guard against slowdowns: the library's loop over the plain one of `benchmarks.baseline`, in turns.

python -m benchmarks.quick        (make bench-quick)

Ratios, never absolute times: both do the same work in turns in one process on one core, and the median over repetitions
of their ratio is held against a floor. Times are the processor's for this process, so that waiting for others does not
count. Exits with 1 where a ratio is below its floor.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import counted
from benchmarks.speed.timing import medians, take_turns
from purejaxdqn.machine.devices import use_platform

# Updates per second of the library over those of the baseline, by lanes: four fifths of the medians of six calls, 1.21
# and 1.16, which lay between 1.19 and 1.22 and between 1.12 and 1.31.
FLOORS = {1: 0.97, 8: 0.93}
ITERATIONS, REPETITIONS = 1_000, 9


def library(lanes: int, iterations: int) -> Callable[[], float]:
    """A contender: seconds of so many iterations of purejaxdqn at the baseline's settings."""
    import jax

    from benchmarks.peers.contests import CONTESTS
    from benchmarks.peers.ours_dqn import settings_of
    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
    from purejaxdqn.loops.plan import make_plan

    config, hypers = settings_of(CONTESTS["purejaxrl"], 10**8)
    agent = make_agent(config)
    program = make_lanes(agent, make_plan(agent, lanes))
    stacked = program.put(repeat_hypers(hypers, lanes))
    held: list[Any] = [program.init(program.put(seed_keys(list(range(lanes)))), stacked)]

    def go_on() -> float:
        jax.block_until_ready(held[0])
        begin = time.process_time()
        held[0], _ = program.iterate(held[0], stacked, iterations)
        jax.block_until_ready(held[0])
        return time.process_time() - begin

    return go_on


def plain(lanes: int, iterations: int) -> Callable[[], float]:
    """A contender: seconds of so many iterations of the baseline."""
    import jax

    from benchmarks.speed import baseline

    run_on = jax.jit(baseline.iterate, static_argnums=1, donate_argnums=0)
    held: list[Any] = [jax.vmap(baseline.init)(jax.random.split(jax.random.key(0), lanes))]

    def go_on() -> float:
        jax.block_until_ready(held[0])
        begin = time.process_time()
        held[0] = jax.block_until_ready(run_on(held[0], iterations))
        return time.process_time() - begin

    return go_on


def measure(lanes: int, iterations: int, repetitions: int) -> dict[str, Any]:
    """Both in turns; the first turn compiles and does not count."""
    contenders = {"library": library(lanes, iterations), "baseline": plain(lanes, iterations)}
    found = {name: seconds[1:] for name, seconds in take_turns(contenders, repetitions + 1).items()}
    ratios = [b / a for a, b in zip(found["library"], found["baseline"], strict=True)]
    micros = {name: round(value / iterations / lanes * 1e6, 1) for name, value in medians(found).items()}
    return {"ratio": round(statistics.median(ratios), 3), "microseconds_an_update": micros}


def main() -> int:
    """Prints a line for each number of lanes; 1 where a ratio is below its floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help=f"in one timing (default: {ITERATIONS})")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    args = parser.parse_args()
    use_platform("cpu", 1)
    slow = False
    for lanes, floor in FLOORS.items():
        # As many updates in a timing, however many lanes share them.
        found = measure(lanes, max(1, args.iterations // lanes), args.repetitions)
        slow = slow or found["ratio"] < floor
        verdict = "too slow" if found["ratio"] < floor else "ok"
        each = found["microseconds_an_update"]
        print(
            f"{counted(lanes, 'lane')}: {found['ratio']:.2f} times the baseline's speed (floor {floor:g}): "
            f"{verdict}; {each['library']:.0f} and {each['baseline']:.0f} µs an update",
            flush=True,
        )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
