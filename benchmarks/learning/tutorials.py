"""Runs the tutorials' recipes over many seeds and counts how many reach each tutorial's headline.

python -m benchmarks.tutorials                                    # all of them, 128 seeds each
python -m benchmarks.tutorials --only note51-cartpole --seeds 128

Writes results/tutorials.json after every recipe; with --keep, recipes that are in it are left alone.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import commit, read_result, write_result
from benchmarks.learning.defaults import evaluate, run_train
from purejaxdqn.pictures.plots import read_episodes, trailing_mean
from purejaxdqn.runs.folder import versions
from purejaxdqn.statistics.comparison import wilson
from purejaxdqn.statistics.intervals import bootstrap_interval, iqm

WHAT = "tutorials' recipes over many seeds: the share that reaches each headline, with a 95 % Wilson interval"
POINTS = 100
"""Of a curve."""


def share_of(reached: np.ndarray) -> dict[str, Any]:
    """How many of all seeds, bool [N], with the interval of their share."""
    count, total = int(reached.sum()), len(reached)
    return {"reached": count, "seeds": total, "share": count / total, "interval_95": list(wilson(count, total))}


def best_episodes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Each seed's largest return in one episode of training, in the environment's rewards and in the learner's."""
    _, returns, learning = read_episodes(folder / "episodes.csv")
    return np.nanmax(returns, axis=1), np.nanmax(learning, axis=1)


def torchkeras(folder: Path) -> dict[str, Any]:
    """288.5: the best checkpoint over 2 episodes of at most 300 steps, and the same over 100 episodes."""
    return {
        f"best checkpoint, mean of {episodes} episodes of at most 300 steps at 288.5": share_of(
            evaluate(folder, "best", "--episodes", str(episodes), "--max-steps", "300") >= 288.5
        )
        for episodes in (2, 100)
    } | solved(folder, 475.0, 500)


def note51(folder: Path) -> dict[str, Any]:
    """1,682: a shaped return of one episode of training, by episode 300."""
    _, shaped = best_episodes(folder)
    return {"a shaped return of 1,682 by episode 300": share_of(shaped >= 1_682.0)} | solved(folder, 475.0, 500)


def keras(folder: Path) -> dict[str, Any]:
    """An episode of training that is over by its 199th step, and −110 over 100 episodes."""
    returns, _ = best_episodes(folder)
    return {"an episode under 199 steps": share_of(returns >= -199.0)} | solved(folder, -110.0, 200)


def solved(folder: Path, bar: float, max_steps: int) -> dict[str, Any]:
    """Last and best parameters at the environment's own bar, over 100 episodes."""
    return {
        f"{which} parameters, mean of 100 episodes at {bar:g}": share_of(
            evaluate(folder, which, "--max-steps", str(max_steps)) >= bar
        )
        for which in ("last", "best")
    }


HEADLINES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "keras-mountaincar": keras,
    "keras-mountaincar-copy": keras,
    "keras-mountaincar-tuned": keras,
    "torchkeras-cartpole": torchkeras,
    "torchkeras-cartpole-tuned": torchkeras,
    "note51-cartpole": note51,
    "note51-cartpole-masked": note51,
    "note51-cartpole-tuned": note51,
}


def thin(x: np.ndarray, curves: np.ndarray) -> dict[str, Any]:
    """Interquartile mean over seeds with its interval, at some hundred places."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int))
    curves = curves[:, keep]
    low, high = bootstrap_interval(curves)
    values = {"iqm": iqm(curves), "low": low, "high": high}
    # Before the first seed's memory is full there is nothing.
    lists = {name: np.round(np.asarray(value, float), 3).tolist() for name, value in values.items()}
    return {"x": x[keep].tolist()} | {name: [v if v == v else None for v in found] for name, found in lists.items()}


def episode_curve(folder: Path) -> dict[str, Any]:
    """Mean return of the newest 20 episodes, in the learner's rewards too; a seed that has ended keeps its last."""
    numbers, returns, learning = read_episodes(folder / "episodes.csv")
    found = {}
    for name, table in (("return", returns), ("learning_return", learning)):
        means = trailing_mean(table)
        for row in means:
            ended = np.flatnonzero(~np.isnan(row))[-1]
            row[ended + 1 :] = row[ended]
        found[name] = thin(numbers, means)
    return found


def measure(recipe: str, seeds: int, first_seed: int) -> dict[str, Any]:
    """Trains and judges one recipe by the command lines."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        flags = ["--recipe", recipe, "--seeds", str(seeds), "--seed", str(first_seed), "--quiet"]
        trained = run_train(flags, folder)
        seeds_ended = trained.summary["evaluation"]
        causes = [entry["ended_by"] for entry in seeds_ended]
        return {
            "commit": commit(),
            "versions": versions(),
            **trained.settings,
            "seconds": trained.seconds,
            "ended_by": {cause: causes.count(cause) for cause in sorted(set(causes))},
            "env_steps": [entry["env_steps"] for entry in seeds_ended],
            "episodes": [entry["training_episodes"] for entry in seeds_ended],
            "headlines": HEADLINES[recipe](folder),
            "curve": episode_curve(folder),
        }


def main() -> None:
    """Reads the command line, measures, writes the results and prints every headline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(HEADLINES), default=list(HEADLINES))
    parser.add_argument("--seeds", type=int, default=128)
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds that no tuning saw (default: 1000)")
    parser.add_argument("--keep", action="store_true", help="leave recipes that were measured alone")
    args = parser.parse_args()
    found: dict[str, Any] = (read_result("tutorials") or {"recipes": {}})["recipes"]
    for recipe in args.only:
        if args.keep and recipe in found:
            continue
        found[recipe] = measure(recipe, args.seeds, args.first_seed)
        ordered = {known: found[known] for known in HEADLINES if known in found}
        write_result("tutorials", WHAT, {"recipes": ordered})
        for what, share in found[recipe]["headlines"].items():
            low, high = share["interval_95"]
            print(f"{recipe}: {what}: {share['share']:.1%} ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
