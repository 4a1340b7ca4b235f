"""What prioritized replay costs a whole training loop: CartPole settings, capacity 100k, 16 lanes, against uniform.

python -m benchmarks.replay_loop
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.common import write_result
from benchmarks.speed.timing import medians, take_turns
from purejaxdqn.machine.devices import use_platform

SEEDS, CAPACITY = 16, 100_000


def contender(replay: str) -> Callable[[int], float]:
    """(iterations) -> seconds of 16 lanes on all cores, going on from where the last call ended."""
    import jax

    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
    from purejaxdqn.loops.plan import make_plan
    from purejaxdqn.recipes.recipes import RECIPES, make_settings

    settings = {"buffer_size": CAPACITY, "replay": replay, "norm": "none", "backup": "max", "n_step": 1}
    config, hypers = make_settings(RECIPES["cartpole"], None, None, **settings)
    agent = make_agent(config)
    lanes = make_lanes(agent, make_plan(agent, SEEDS))
    stacked = lanes.put(repeat_hypers(hypers, SEEDS))
    carry: list[Any] = [lanes.init(lanes.put(seed_keys(list(range(SEEDS)))), stacked)]

    def go_on(iterations: int) -> float:
        begin = time.perf_counter()
        carry[0], _ = lanes.iterate(carry[0], stacked, iterations)
        jax.block_until_ready(carry[0])
        return time.perf_counter() - begin

    # Once around the whole ring, so that every leaf of the tree is in use; it compiles too.
    go_on(CAPACITY // config.num_envs)
    return go_on


def main() -> None:
    """Measures in turns, writes results/replay_loop.json and prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=4_000, help="of one timing: an update and 10 steps a lane")
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()
    use_platform("auto", SEEDS)
    contenders = {name: contender(name) for name in ("uniform", "prioritized")}
    seconds = take_turns(
        {name: partial(go_on, args.iterations) for name, go_on in contenders.items()}, args.repetitions
    )
    micros = {
        name: [round(spent / args.iterations / SEEDS * 1e6, 2) for spent in found] for name, found in seconds.items()
    }
    middle = medians(micros)
    ratio = middle["prioritized"] / middle["uniform"]
    what = "microseconds of one iteration (10 steps, one update of 128) of one of 16 lanes, capacity 100k, interleaved"
    write_result("replay_loop", what, {"median_us": middle, "ratio": ratio, "us": micros})
    print(f"uniform {middle['uniform']:.0f} µs, prioritized {middle['prioritized']:.0f} µs: {ratio:.2f} times")


if __name__ == "__main__":
    main()
