"""Is an environment that steps on the host, or one of a suite in JAX, learnt? A run for each seed, 100 greedy episodes.

python -m benchmarks.host_worlds --env gymnasium/LunarLander-v3 --bar 200 --total-steps 500000
python -m benchmarks.host_worlds --env gymnasium/MiniGrid-DoorKey-5x5-v0 --bar 0.9 --import minigrid --algo n-step
python -m benchmarks.host_worlds --env pgx/2048 --bar 3300 --total-steps 1000000

Two seeds train at a time. Further flags go to the training command. Writes results/world-NAME.json after every seed;
with --keep, seeds that are in it already are left alone.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import read_result, write_result
from benchmarks.learning.defaults import summarize
from benchmarks.learning.host_learning import measure

WHAT = "greedy mean return of every seed over 100 fresh episodes, last and best parameters, and evaluations in training"


def measure_seed(flags: list[str]) -> dict[str, Any]:
    """Trains one seed by the command line, and its scores with the last and the best parameters."""
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(flags, Path(scratch) / "run")
        return {**found, **{which: float(found[which][0]) for which in ("last", "best")}}


def main() -> None:
    """Reads the command line, measures, writes the results and prints a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True)
    parser.add_argument("--bar", type=float, required=True, help="return that a seed has to reach")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds that no tuning saw (default: 1000)")
    parser.add_argument("--keep", action="store_true", help="leave seeds that were measured alone")
    parser.add_argument("--name", help="of the result file, after world- (default: the environment)")
    args, extra = parser.parse_known_args()
    name = f"world-{args.name or args.env.split('/')[-1]}"
    found: dict[str, Any] = (read_result(name) or {"runs": {}})["runs"] if args.keep else {}
    seeds = [seed for seed in range(args.first_seed, args.first_seed + args.seeds) if str(seed) not in found]
    with ThreadPoolExecutor(2) as pool:
        begun = {pool.submit(measure_seed, ["--env", args.env, "--seed", str(seed), *extra]): seed for seed in seeds}
        for done in as_completed(begun):
            seed = begun[done]
            found[str(seed)] = done.result()
            data: dict[str, Any] = {"env": args.env, "bar": args.bar, "seeds": args.seeds}
            for which in ("last", "best"):
                scores = np.array([run[which] for run in found.values()])
                data[which] = {"seeds_at_bar": int((scores >= args.bar).sum()), **summarize(scores)}
            write_result(name, WHAT, {**data, "runs": dict(sorted(found.items()))})
            last, best = found[str(seed)]["last"], found[str(seed)]["best"]
            print(f"{args.env}, seed {seed}: last {last:.2f}, best {best:.2f}", flush=True)


if __name__ == "__main__":
    main()
