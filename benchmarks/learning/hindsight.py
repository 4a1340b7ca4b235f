"""Does hindsight reach goals that a plain learner never sees reached? BitFlip, and a grid of four rooms.

python -m benchmarks.hindsight                                  # both worlds, every agent, 8 seeds
python -m benchmarks.hindsight --worlds BitFlip --agents future # one of them, e.g. with --seeds 2

With --keep, what is in the file already is left alone. A seed's score is the share of 100 fresh greedy episodes by its
last parameters that end at their goal. Writes results/hindsight.json after every agent. Further flags go to the
training command.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import commit, read_result, run, write_result
from benchmarks.learning.deep_sea import flags_of
from benchmarks.learning.defaults import summarize, train

WHAT = "every seed's share of 100 fresh greedy episodes that reach their goal by its last parameters"
BAR = 0.95
"""Share from which a seed counts."""
COMMON: dict[str, Any] = {
    **{"algo": "double", "n-step": 1, "num-envs": 16, "updates-per-rollout": 4, "batch-size": 128, "hidden": "256"},
    **{"norm": "none", "gamma": 0.98, "learning-rate": 1e-3, "learning-rate-schedule": "constant"},
    **{"buffer-size": 100_000, "learning-starts": 2_000, "epsilon-schedule": "constant", "epsilon-final": 0.2},
    **{"loss": "huber", "target-period": 500},
}
WORLDS: dict[str, dict[str, Any]] = {
    "BitFlip": {"env": "BitFlip", "env-params.bits": 15, "total-steps": 150_000},
    "GoalGrid": {"env": "GoalGrid", "env-params.size": 11, "total-steps": 150_000},
}
AGENTS: dict[str, dict[str, Any]] = {
    "without": {},
    "future": {"hindsight": "future"},
    "final": {"hindsight": "final"},
}


def success_rates(folder: Path, scratch: Path) -> np.ndarray:
    """Of each seed's fresh greedy episodes the share that terminates, which reaching the goal alone does here."""
    file = scratch / "played.npz"
    command = [sys.executable, "-m", "purejaxdqn.evaluate", str(folder), "--which", "last", "--json"]
    run([*command, "--save-dataset", str(file)])
    with np.load(file) as played:
        last = np.append(played["episode_start"][1:], len(played["action"])) - 1
        reached, seeds = played["terminated"][last], played["episode_seed"]
    return np.array([reached[seeds == seed].mean() for seed in dict.fromkeys(seeds.tolist())])


def measure(world: str, agent: str, seeds: int, first_seed: int, extra: list[str]) -> dict[str, Any]:
    """Trains and judges one agent's seeds by the command lines."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        settings = flags_of(COMMON | WORLDS[world] | AGENTS[agent])
        found = train([*settings, "--seeds", str(seeds), "--seed", str(first_seed), "--quiet", *extra], folder)
        scores = success_rates(folder, Path(scratch))
        last = {**summarize(scores), "seeds_at_bar": int((scores >= BAR).sum())}
        return {"commit": commit(), **found, "last": last}


def main() -> None:
    """Reads the command line, measures, writes the results and prints a line for each agent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--agents", nargs="+", choices=list(AGENTS), default=list(AGENTS))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds that no tuning saw (default: 1000)")
    parser.add_argument("--keep", action="store_true", help="leave what was measured alone")
    args, extra = parser.parse_known_args()
    found = (read_result("hindsight") or {"worlds": {}})["worlds"]
    for world in args.worlds:
        for agent in args.agents:
            agents = found.setdefault(world, {})
            if args.keep and agent in agents:
                continue
            agents[agent] = measure(world, agent, args.seeds, args.first_seed, extra)
            write_result("hindsight", WHAT, {"seeds": args.seeds, "bar": BAR, "worlds": found})
            last, seconds = agents[agent]["last"], agents[agent]["train_wall_seconds"]
            reached = f"{last['seeds_at_bar']} of {args.seeds} seeds at {BAR:.0%}"
            print(f"{world}, {agent}: IQM {last['iqm']:.1%}, {reached}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
