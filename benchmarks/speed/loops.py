"""The whole training loop on the device: by environments, by lanes, by algorithm, with its compile time and its bound.

python -m benchmarks.loops [--only lanes] [--device cpu]

CartPole-v1's recipe with one thing changed at a time. Each is a process of its own, which compiles anew, times
iterations in turns with the matrix products that they hold, and says which share of the loop's time these alone would
take. Where lanes are vmapped (an accelerator) the products are taken at the rate of 512³. Sections that are not
measured stay in the result file as they were.
"""

import argparse
import json
import sys
import time
from typing import Any

from benchmarks.common import commit, counted, last_json, read_result, run, write_result
from purejaxdqn.machine.devices import PLATFORMS, use_platform
from purejaxdqn.recipes.algorithms import ALGORITHMS

ONE_LANE = {"algo": "dqn", "lanes": 1, "num_envs": 10, "updates_per_rollout": 1}


def settings(section: str, small: bool, gpu: bool) -> dict[str, dict[str, Any]]:
    """What to measure in one section, by name."""
    counts: tuple[int, ...]
    if section == "environments":
        counts = (1, 10) if small else (1, 10, 64, 256, 1024)
        return {counted(n, "environment"): ONE_LANE | {"num_envs": n} for n in counts}
    if section == "lanes":
        counts = (1, 2) if small else (1, 16, 256, 1024) if gpu else (1, 2, 16, 64)
        return {counted(n, "lane"): ONE_LANE | {"lanes": n} for n in counts}
    names = ("dqn",) if small else tuple(ALGORITHMS)
    return {name: {"algo": name, "lanes": 1} for name in names}


SECTIONS = ("environments", "lanes", "algorithms")


def measure(algo: str, lanes: int, device: str, seconds: float, repetitions: int, **changes: Any) -> dict[str, Any]:
    """One setting, in this process."""
    use_platform(device, lanes)
    import jax

    from benchmarks.speed.bounds import SQUARE, Bounds, bound_timers, count_products, operations
    from benchmarks.speed.timing import calibrated, medians, take_turns
    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
    from purejaxdqn.loops.plan import make_plan
    from purejaxdqn.recipes.recipes import RECIPES, make_settings

    config, hypers = make_settings(RECIPES["cartpole"], None, algo, total_steps=10**8, **changes)
    agent = make_agent(config)
    plan = make_plan(agent, lanes)
    program = make_lanes(agent, plan)
    stacked, keys = program.put(repeat_hypers(hypers, lanes)), program.put(seed_keys(list(range(lanes))))
    one = jax.eval_shape(agent.init, jax.random.key(0), hypers)
    products = count_products(lambda state: agent.iterate(state, hypers, 1), one)

    begin = time.perf_counter()
    held = [program.init(keys, stacked)]
    held[0], _ = program.iterate(held[0], stacked, 0)
    jax.block_until_ready(held[0])
    compiling = time.perf_counter() - begin

    def go_on(iterations: int) -> float:
        begin = time.perf_counter()
        held[0], _ = program.iterate(held[0], stacked, iterations)
        jax.block_until_ready(held[0])
        return time.perf_counter() - begin

    # Each of the lanes that take turns gets that long, as in a run: its state comes and goes once in every call.
    turns = plan.lanes_per_device // plan.block
    timers = {"loop": calibrated(go_on, seconds * turns)} | bound_timers([*products, SQUARE], [], seconds / 4)
    found = take_turns(timers, repetitions)
    median = medians(found)
    bounds = Bounds(median)
    multiplied = sum(times * operations(shape) for shape, times in products.items())
    each = bounds.least_products(products) if plan.block == 1 else multiplied / bounds.flops(SQUARE)
    bound = each * plan.lanes_per_device
    steps, updates = config.steps_per_iteration * lanes, config.updates_per_iteration * lanes
    return {
        "steps_per_second": round(steps / median["loop"]),
        "updates_per_second": round(updates / median["loop"]),
        "compile_seconds": round(compiling, 2),
        "iteration_microseconds": round(median["loop"] * 1e6, 2),
        "products_microseconds": round(bound * 1e6, 2),
        "fraction_of_bound": round(bound / median["loop"], 4),
        "gflops": round(multiplied * lanes / median["loop"] / 1e9, 2),
        "gflops_of_512": round(bounds.flops(SQUARE) / 1e9, 2),
        "plan": plan.describe(),
        "seconds": found["loop"],
    }


def main() -> None:
    """Measures, writes results/loops.json after every setting and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", choices=PLATFORMS, default="auto")
    parser.add_argument("--small", action="store_true", help="a few small settings, to try the script")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one timing of a lane (default: 0.3)")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--name", default="loops", help="result file (default: loops)")
    parser.add_argument("--one", type=json.loads, metavar="JSON", help="one setting, in this process")
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(device=args.device, seconds=args.seconds, repetitions=args.repetitions, **args.one)))
        return
    size = ["--seconds", str(args.seconds), "--repetitions", str(args.repetitions), "--device", args.device]
    sections: dict[str, dict[str, Any]] = (read_result(args.name) or {}).get("sections", {})
    for section in args.only:
        sections[section] = {}
        for name, setting in settings(section, args.small, args.device == "gpu").items():
            command = [sys.executable, "-m", "benchmarks.loops", "--one", json.dumps(setting), *size]
            found = last_json(run(command).output)
            sections[section][name] = found | {"setting": setting, "commit": commit()}
            print(
                f"{name}: {found['steps_per_second']:,} steps/s, {found['updates_per_second']:,} updates/s, products "
                f"alone {found['fraction_of_bound']:.0%} of the time, compiled in {found['compile_seconds']:.1f} s",
                flush=True,
            )
            what = "whole iterations of the training loop on CartPole-v1, beside their matrix products alone"
            write_result(args.name, what, {"timing_seconds": args.seconds, "sections": sections})


if __name__ == "__main__":
    main()
