"""Trains algorithms side by side on one environment and judges every seed on fresh greedy episodes.

python -m benchmarks.family --env CartPole-v1                                   # every algorithm, 16 seeds
python -m benchmarks.family --env Breakout-MinAtar --algos dqn rainbow pqn --seeds 5 --total-steps 1000000

Writes results/family-ENV.json after every algorithm; with --keep, algorithms that are in it already are left alone.
Further flags go to the training command; with --label, an ablation that they make stands beside its algorithm.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import commit, read_result, write_result
from benchmarks.learning.defaults import evaluate, summarize, train
from purejaxdqn.recipes.algorithms import ALGORITHMS
from purejaxdqn.runs.folder import versions

WHAT = "every seed's greedy mean return over 100 fresh episodes, last and best parameters, by algorithm"
MINATAR = ("Breakout-MinAtar", "Asterix-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar", "Seaquest-MinAtar")


def measure(env: str, algo: str, seeds: int, first_seed: int, extra: list[str]) -> dict[str, Any]:
    """Trains and evaluates one algorithm by the command lines."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        flags = ["--env", env, "--algo", algo, "--seeds", str(seeds), "--seed", str(first_seed), "--quiet", *extra]
        return {
            "commit": commit(),
            "versions": versions(),
            **train(flags, folder),
            **{which: summarize(evaluate(folder, which)) for which in ("last", "best")},
        }


def in_order(found: dict[str, Any]) -> dict[str, Any]:
    """Results by label: algorithms as they are listed, then ablations as they were measured."""
    places = {algo: place for place, algo in enumerate(ALGORITHMS)}
    return {label: found[label] for label in sorted(found, key=lambda label: places.get(label, len(places)))}


def main() -> None:
    """Reads the command line, measures, writes the results and prints a line for each algorithm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True)
    parser.add_argument("--algos", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds that no tuning saw (default: 1000)")
    parser.add_argument("--keep", action="store_true", help="leave algorithms that were measured alone")
    parser.add_argument("--name", help="of the result file, after family- (default: the environment)")
    parser.add_argument("--label", help="of the result, where further flags make an ablation of one algorithm")
    args, extra = parser.parse_known_args()
    if args.label and len(args.algos) > 1:
        parser.error(f"--label {args.label} names one result: give one algorithm with --algos, not {len(args.algos)}")
    name = f"family-{args.name or args.env}"
    found = (read_result(name) or {"algorithms": {}})["algorithms"]
    for algo in args.algos:
        label = args.label or algo
        if args.keep and label in found:
            continue
        found[label] = measure(args.env, algo, args.seeds, args.first_seed, extra)
        write_result(name, WHAT, {"env": args.env, "seeds": args.seeds, "algorithms": in_order(found)})
        last, seconds = found[label]["last"], found[label]["train_wall_seconds"]
        scores = " ".join(f"{score:.1f}" for score in sorted(last["scores"])[:4])
        print(f"{args.env} {label}: IQM {last['iqm']:.1f}, lowest {scores}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
