"""Is the average of the parameters a better player than the newest ones? Both play whole games, from one checkpoint.

python -m benchmarks.averaging RUN... --episodes 60

Runs of EnvPool's games with --average-params. Beside both: the newest games of training, played by the moving policy.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write_result
from purejaxdqn.doctor.command import saved_state
from purejaxdqn.loops.host import HostLoop
from purejaxdqn.runs.folder import read_config
from purejaxdqn.runs.runner import Run
from purejaxdqn.runs.tables import read_table
from purejaxdqn.statistics.intervals import bootstrap_interval

WHAT = (
    "greedy games by the newest parameters and by their moving average, both of one checkpoint, and the mean return of "
    "training in the chunk before it"
)


def measure(folder: Path, episodes: int) -> dict[str, Any]:
    """Returns of the two policies of a run's newest checkpoint."""
    settings, _, _ = read_config(folder, "run")
    run = Run(settings, folder)
    state, iterations = saved_state(run)
    loop = HostLoop(settings.config, run.parts, settings.seeds[0])
    steps = run.steps_at(iterations)
    rows = [row for row in read_table(folder, "metrics.csv", steps + 1, "run") if row["episode_return"]]
    found: dict[str, Any] = {
        "recipe": settings.recipe,
        "seed": settings.seeds[0],
        "env_steps": steps,
        "training_return": float(rows[-1]["episode_return"]),
        "average_decay": float(settings.hypers.average_decay),
    }
    for name, params in (("newest", state.learner.params), ("average", state.learner.average)):
        returns = loop.evaluate(params, 10_000, episodes, 0.0, 27_000).returns
        interval = [round(float(end), 2) for end in bootstrap_interval(returns, np.mean)]
        found[name] = {"mean": round(float(np.mean(returns)), 2), "interval": interval, "returns": returns.tolist()}
    return found


def main() -> None:
    """Plays the games and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--episodes", type=int, default=60)
    args = parser.parse_args()
    found = [measure(folder, args.episodes) for folder in args.runs]
    for one in found:
        print(one["env_steps"], one["training_return"], *(one[name]["mean"] for name in ("newest", "average")))
    write_result("averaging", WHAT, {"episodes": args.episodes, "checkpoints": found})


if __name__ == "__main__":
    main()
