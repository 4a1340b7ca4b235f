"""Which explorer finds the treasure of DeepSea? 14 right steps in a row, each at a price, and any wrong one loses it.

python -m benchmarks.deep_sea                                    # every explorer, 16 seeds of 40,000 steps
python -m benchmarks.deep_sea --explorers bootstrapped --keep    # one of them, if it is not in the file already

One double DQN, and in it nothing but the explorer, and for `bootstrapped` the ensemble, differs. A seed's score is the
greedy return of its last parameters over fresh episodes: 0.99 with the treasure, at most 0 without it. Writes
results/deep_sea.json after every explorer. Further flags go to the training command.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import commit, read_result, write_result
from benchmarks.learning.defaults import evaluate, summarize, train

WHAT = "DeepSea-bsuite, every seed's greedy return by its last parameters, and whether it ever held the treasure"
FOUND = 0.9
"""Returns above it have the treasure."""
COMMON: dict[str, Any] = {
    **{"env": "DeepSea-bsuite", "env-params.size": 14, "num-envs": 10, "buffer-size": 50_000, "learning-starts": 500},
    **{"head": "scalar", "backup": "double", "n-step": 1, "hidden": "32 32", "norm": "none", "batch-size": 32},
    **{"updates-per-rollout": 2, "target-period": 50, "learning-rate": 1e-3, "learning-rate-schedule": "constant"},
}
DECAY: dict[str, Any] = {"epsilon-start": 1, "epsilon-final": 0.05, "epsilon-fraction": 0.5}
NEVER: dict[str, Any] = {"epsilon-schedule": "constant", "epsilon-final": 0}
EXPLORERS: dict[str, dict[str, Any]] = {
    "epsilon-greedy": {"explorer": "epsilon-greedy", **DECAY},
    "epsilon-greedy, a ladder": {
        **{"explorer": "epsilon-greedy", "epsilon-ladder": True, "epsilon-schedule": "constant", "epsilon-final": 0.4},
    },
    "ez-greedy": {"explorer": "ez-greedy", **DECAY},
    "boltzmann": {"explorer": "boltzmann", "boltzmann-temperature": 0.01, **NEVER},
    "bootstrapped, no prior": {"explorer": "bootstrapped", "ensemble": 10, **NEVER},
    "bootstrapped": {"explorer": "bootstrapped", "ensemble": 10, "prior-scale": 3, **NEVER},
}
"""By name: flags and their values, True for one that takes none."""


def flags_of(settings: dict[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    return [
        word
        for name, value in settings.items()
        for word in [f"--{name}", *([] if value is True else str(value).split())]
    ]


def measure(name: str, seeds: int, first_seed: int, steps: int, extra: list[str]) -> dict[str, Any]:
    """Trains one explorer's seeds side by side by the command line, and judges their last parameters."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        run = ["--seeds", str(seeds), "--seed", str(first_seed), "--total-steps", str(steps), "--quiet"]
        found = train([*flags_of(COMMON | EXPLORERS[name]), *run, *extra], folder)
        # The environment draws nothing, and a greedy policy neither: every episode is the same.
        scores = evaluate(folder, "last", "--episodes", "2")
        curve = found["curve"]["eval_returns"]
        return {
            "commit": commit(),
            **found,
            "last": summarize(scores),
            "seeds_at_bar": int((scores > FOUND).sum()),
            "seeds_that_ever_held_it": sum(max(returns) > FOUND for returns in zip(*curve, strict=True)),
        }


def main() -> None:
    """Reads the command line, measures, writes the results and prints a line for each explorer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explorers", nargs="+", choices=list(EXPLORERS), default=list(EXPLORERS))
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds that no tuning saw (default: 1000)")
    parser.add_argument("--total-steps", type=int, default=40_000)
    parser.add_argument("--keep", action="store_true", help="leave explorers that were measured alone")
    args, extra = parser.parse_known_args()
    found = (read_result("deep_sea") or {"explorers": {}})["explorers"]
    for name in args.explorers:
        if args.keep and name in found:
            continue
        found[name] = measure(name, args.seeds, args.first_seed, args.total_steps, extra)
        in_order = {label: found[label] for label in EXPLORERS if label in found}
        write_result("deep_sea", WHAT, {"seeds": args.seeds, "explorers": in_order})
        reached, seconds = found[name]["seeds_at_bar"], found[name]["train_wall_seconds"]
        print(f"{name}: {reached} of {args.seeds} seeds by their last parameters, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
