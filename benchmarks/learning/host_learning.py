"""Is learning through the host loop the learning of the device loop? CartPole-v1's recipe through both.

python -m benchmarks.host_learning

EnvPool's CartPole-v1 runs one seed in a process, one process after another; gymnax's runs all seeds in one.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write_result
from benchmarks.learning.defaults import evaluate, summarize, train

WHAT = (
    "CartPole-v1's recipe through EnvPool on the host and in gymnax on the device: greedy mean over 100 fresh episodes"
)


def measure(flags: list[str], scratch: Path) -> dict[str, Any]:
    """Trains by the command line; scores of every seed, last and best parameters."""
    found = train([*flags, "--quiet"], scratch)
    for which in ("last", "best"):
        found[which] = evaluate(scratch, which)
    return found


def main() -> None:
    """Trains, writes the results and prints a line for each loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=2_000, help="seeds that no tuning saw (default: 2000)")
    args, extra = parser.parse_known_args()
    loops: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        device = ["--env", "CartPole-v1", "--seeds", str(args.seeds), "--seed", str(args.first_seed), *extra]
        runs = {"device": [measure(device, folder / "device")]}
        runs["host"] = []
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            flags = ["--env", "envpool/CartPole-v1", "--seed", str(seed), *extra]
            runs["host"].append(measure(flags, folder / f"host-{seed}"))
            print(f"host, seed {seed}: {runs['host'][-1]['last'][0]:.1f}", flush=True)
    for loop, found in runs.items():
        loops[loop] = {
            "train_commands": [run["train_command"] for run in found],
            "train_wall_seconds": [run["train_wall_seconds"] for run in found],
            "config": found[0]["config"],
            "hypers": found[0]["hypers"],
            **{which: summarize(np.concatenate([run[which] for run in found])) for which in ("last", "best")},
        }
        scores = np.array(loops[loop]["last"]["scores"])
        loops[loop]["seeds_at_475"] = int(np.sum(scores >= 475))
        print(f"{loop}: {loops[loop]['seeds_at_475']} of {len(scores)} at 475, lowest {scores.min():.1f}", flush=True)
    write_result("host_learning", WHAT, {"seeds": args.seeds, "loops": loops})


if __name__ == "__main__":
    main()
