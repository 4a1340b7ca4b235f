"""Populations and Optuna's proposals beside random search, at equal environment steps.

python -m benchmarks.search --part pbt                            # 16 repeats on each task
python -m benchmarks.search --part tpe                            # 8 repeats of 64 trials on each task
python -m benchmarks.search --part pbt --tasks CartPole-v1 --draws 4 --seeds 4

`pbt`: a population's best member beside the best of as many lanes that nothing is copied between, which begin with
the same settings and seeds. `tpe`: the best of a study's trials beside the best of as many random ones. A repeat is a
draw of settings with seeds of its own; with --seeds each draw is repeated by so many seeds, which share their draw. A
score is the mean return of the last parameters on fresh episodes, or for `tpe` the mean of a lane's evaluations, and of
these the best lane's counts. Each part and task adds itself to results/search.json.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import commit, read_result, write_result
from purejaxdqn.runs.sweep_folder import LANES, read_columns, scores_of
from purejaxdqn.statistics.comparison import probability_of_improvement, probability_of_improvement_interval
from purejaxdqn.statistics.intervals import bootstrap_interval
from purejaxdqn.sweep.command import main as sweep

WHAT = (
    "best lane of a population, of a search by TPE and of random search at equal steps, and how often one beats another"
)
SPACE = [
    *("--learning-rate", "loguniform:1e-5:1e-1", "--gamma", "uniform:0.8:0.999"),
    *("--target-period", "loguniform:10:1000"),
]
"""Ranges as somebody gives them who knows little."""
TASKS = {
    "pbt": {"CartPole-v1": 12_000, "Acrobot-v1": 30_000, "MountainCar-v0": 60_000, "MetaMaze-misc": 60_000},
    "tpe": {"CartPole-v1": 8_000, "Acrobot-v1": 60_000, "MountainCar-v0": 60_000},
}
"""Environment steps of each lane, so few that the best of a random draw of sixteen is seldom the best that there is:
of two that are, neither beats the other."""
FIRST_SEED = 5_000


def lanes_of(env: str, flags: list[str]) -> dict[str, Any]:
    """Runs a sweep; its lanes, and what its summary says of steps and time."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "sweep"
        words = ["--env", env, *SPACE, "--eval-episodes", "30", "--quiet", "--no-report", "--device", "cpu", *flags]
        assert sweep([*words, "--out", str(folder)]) == 0
        summary = json.loads((folder / "summary.json").read_text())
        kept = {name: summary[name] for name in ("env_steps", "run_seconds", "compile_seconds", "compilations")}
        return {"lanes": read_columns(folder / LANES), **kept}


def best_lanes(found: dict[str, Any], rank_by: str) -> list[float]:
    """The best lane's score of each seed."""
    lanes = found["lanes"]
    scores = scores_of(lanes, rank_by)
    return [float(np.nanmax(scores[lanes["seed"] == seed])) for seed in np.unique(lanes["seed"])]


def compare(
    env: str, budget: int, arms: dict[str, list[str]], rank_by: str, draws: int, seeds: int, more: list[str]
) -> dict[str, Any]:
    """Scores of two arms over repeats of so many steps a lane, and how often the first beats the second."""
    scores: dict[str, list[float]] = {name: [] for name in arms}
    steps: dict[str, list[int]] = {name: [] for name in arms}
    for draw in range(draws):
        for name, flags in arms.items():
            repeat = ["--draw-seed", str(draw), "--seed", str(FIRST_SEED + draw * seeds), "--seeds", str(seeds)]
            found = lanes_of(env, ["--total-steps", str(budget), *flags, *repeat, "--rank-by", rank_by, *more])
            scores[name] += best_lanes(found, rank_by)
            steps[name].append(found["env_steps"])
            print(env, name, draw, [round(score, 2) for score in scores[name][-seeds:]], flush=True)
    first, second = scores.values()
    assert all(one == other for one, other in zip(*steps.values(), strict=True)), "not at equal steps"
    return {
        "env_steps": steps,
        "rank_by": rank_by,
        "draws": draws,
        "seeds_per_draw": seeds,
        "scores": scores,
        "probability_of_improvement": probability_of_improvement(first, second),
        "interval_95": probability_of_improvement_interval(first, second),
    }


def repeats_won(scores: dict[str, list[float]]) -> tuple[float, tuple[float, float]]:
    """Share of the repeats that the first arm wins, half of a tie's, with an interval of 95 %.

    The arms of a repeat begin with the same settings and seeds, so they are compared in pairs, too.
    """
    first, second = map(np.array, scores.values())
    won = (first > second) + 0.5 * (first == second)
    return float(won.mean()), bootstrap_interval(won, np.mean)


def measure_pbt(env: str, budget: int, args: argparse.Namespace, more: list[str]) -> dict[str, Any]:
    """A population beside the same lanes without copies."""
    random = ["--random", str(args.members)]
    arms = {"pbt": [*random, "--pbt", "--pbt-every", str(args.every)], "random": random}
    arms["pbt"] += ["--pbt-selection", args.selection]
    told = {"members": args.members, "every": args.every, "selection": args.selection}
    return told | compare(env, budget, arms, "last", args.draws or 16, args.seeds, more)


def measure_tpe(env: str, budget: int, args: argparse.Namespace, more: list[str]) -> dict[str, Any]:
    """TPE's trials beside random ones."""
    count = ["--trials", str(args.trials), "--trials-at-once", str(args.at_once)]
    arms = {name: ["--search", name, *count] for name in ("tpe", "random")}
    told = {"trials": args.trials, "trials_at_once": args.at_once}
    return told | compare(env, budget, arms, "area", args.draws or 8, args.seeds, more)


PARTS = {"pbt": measure_pbt, "tpe": measure_tpe}


def main() -> None:
    """Reads the command line, measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), nargs="+", default=list(PARTS))
    parser.add_argument("--tasks", choices=list(TASKS["pbt"]), nargs="+", default=list(TASKS["pbt"]))
    parser.add_argument("--members", type=int, default=16, help="of a population (default: 16)")
    parser.add_argument("--every", type=float, default=0.0625, help="share of the run between generations")
    parser.add_argument("--selection", default="tournament")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--draws", type=int, help="of settings (default: 16 for pbt, 8 for tpe)")
    parser.add_argument("--seeds", type=int, default=1, help="of each draw (default: 1)")
    parser.add_argument("--name", default="search", help="of the result file")
    args, more = parser.parse_known_args()
    before = read_result(args.name)
    parts: dict[str, Any] = before["parts"] if before else {}
    for part in args.part:
        for env in [task for task in args.tasks if task in TASKS[part]]:
            found = {"commit": commit(), "more": more, **PARTS[part](env, TASKS[part][env], args, more)}
            print(env, part, found["probability_of_improvement"], repeats_won(found["scores"]), flush=True)
            parts.setdefault(part, {})[env] = found
            write_result(args.name, WHAT, {"space": SPACE, "parts": parts})


if __name__ == "__main__":
    main()
