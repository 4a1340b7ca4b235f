"""Does hindsight reach goals that a plain learner never sees reached? BitFlip, and a grid of four rooms.

python -m benchmarks.hindsight                                  # both worlds, every agent, 8 seeds
python -m benchmarks.hindsight --worlds BitFlip --agents future # one of them, e.g. with --seeds 2

With --keep, what is in the file already is left alone. A seed's score is the share of 100 fresh greedy episodes by its
last parameters that end at their goal. Writes results/hindsight.json after every agent. Further flags go to the
training command.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import commit, run
from benchmarks.learning.deep_sea import flags_of
from benchmarks.learning.defaults import summarize, train
from benchmarks.learning.worlds import measure_worlds

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


if __name__ == "__main__":
    measure_worlds("hindsight", WHAT, __doc__, WORLDS, AGENTS, 8, measure, ".1%", BAR)
