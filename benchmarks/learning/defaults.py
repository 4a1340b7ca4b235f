"""Do the defaults learn? Trains an environment's default recipe over many seeds and judges it on fresh episodes.

python -m benchmarks.learning --env CartPole-v1
"""

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import run, write_result
from purejaxdqn.statistics.intervals import bootstrap_interval, iqm

WHAT = "default recipe, every seed on 100 fresh greedy episodes"


class Bar(NamedTuple):
    """What an environment's default recipe has to reach."""

    seeds: int
    score: float
    """Mean greedy return over 100 episodes that a seed has to reach (or the interquartile mean over seeds)."""
    seeds_needed: int | None
    """Seeds that have to reach it; None where the interquartile mean over seeds has to."""
    step_limit: int


BARS = {
    "CartPole-v1": Bar(32, 475.0, 31, 500_000),
    "MountainCar-v0": Bar(32, -110.0, 29, 500_000),
    "Acrobot-v1": Bar(32, -90.0, 29, 500_000),
    "Breakout-MinAtar": Bar(5, 10.0, None, 2_000_000),
}


def evaluate(folder: Path, which: str, *flags: str) -> np.ndarray:
    """Mean return [N] of every seed over fresh greedy episodes, 100 where flags say no other number."""
    imports = json.loads((folder / "config.json").read_text())["imports"]
    flags = (*flags, "--import", *imports) if imports else flags
    command = [sys.executable, "-m", "purejaxdqn.evaluate", str(folder), "--json", "--which", which, *flags]
    return np.array([seed["mean_return"] for seed in json.loads(run(command).output)["seeds"]])


def play_gymnasium(folder: Path, seeds: int, which: str, episodes: int = 100) -> list[float]:
    """Mean return of each seed's policy, loaded by `load_policy`, in Gymnasium's own CartPole-v1."""
    import gymnasium

    from purejaxdqn import load_policy

    means = []
    for index in range(seeds):
        policy = load_policy(folder, index, which)
        envs = gymnasium.make_vec("CartPole-v1", num_envs=episodes, vectorization_mode="sync")
        obs, _ = envs.reset(seed=1_000 + index)
        returns, running = np.zeros(episodes), np.ones(episodes, bool)
        while running.any():
            obs, reward, terminated, truncated, _ = envs.step(policy(obs))
            returns += np.where(running, reward, 0.0)
            running &= ~(terminated | truncated)
        envs.close()
        means.append(float(returns.mean()))
    return means


def curve(folder: Path) -> dict[str, Any]:
    """Evaluations during training: environment steps, and mean greedy returns of every seed at each of them."""
    with open(folder / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["eval_return"]]
    steps = sorted({int(row["env_steps"]) for row in rows})
    returns = {step: [round(float(r["eval_return"]), 2) for r in rows if int(r["env_steps"]) == step] for step in steps}
    return {"env_steps": steps, "eval_returns": [returns[step] for step in steps]}


def summarize(scores: np.ndarray) -> dict[str, Any]:
    """Scores of all seeds, and their interquartile mean with its stratified bootstrap interval."""
    low, high = bootstrap_interval(scores)
    return {
        "scores": [round(float(score), 3) for score in scores],
        "min": float(scores.min()),
        "iqm": float(iqm(scores)),
        "iqm_interval_95": [float(low), float(high)],
    }


def judge(scores: np.ndarray, bar: Bar) -> dict[str, Any]:
    """Scores of all seeds against a bar."""
    reached, summary = int((scores >= bar.score).sum()), summarize(scores)
    passed = summary["iqm"] >= bar.score if bar.seeds_needed is None else reached >= bar.seeds_needed
    return {"seeds_at_bar": reached, "mean": float(scores.mean()), "passed": bool(passed), **summary}


class Trained(NamedTuple):
    """A training command that ran to its end."""

    settings: dict[str, Any]
    """What was typed, and the Config and Hypers that came of it."""
    seconds: float
    summary: dict[str, Any]


def run_train(flags: list[str], folder: Path) -> Trained:
    """Trains by the command line."""
    finished = run([sys.executable, "-m", "purejaxdqn.train", *flags, "--out", str(folder)])
    saved = json.loads((folder / "config.json").read_text())
    settings = {
        "train_command": " ".join(["python -m purejaxdqn.train", *flags]),
        "config": saved["config"],
        "hypers": saved["hypers"],
    }
    return Trained(settings, round(finished.seconds, 1), json.loads((folder / "summary.json").read_text()))


def train(flags: list[str], folder: Path) -> dict[str, Any]:
    """Trains by the command line; what was typed, the settings, the seconds and the curve of the finished run."""
    trained = run_train(flags, folder)
    kept = ("env_steps_per_seed", "run_seconds", "compile_seconds", "steps_per_second", "recipe", "plan")
    return {
        **trained.settings,
        "train_wall_seconds": trained.seconds,
        **{name: trained.summary[name] for name in kept},
        "curve": curve(folder),
    }


def measure(env: str, bar: Bar, first_seed: int, extra: list[str]) -> dict[str, Any]:
    """Trains and evaluates one environment; see `BARS`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        flags = ["--env", env, "--seeds", str(bar.seeds), "--seed", str(first_seed), "--quiet", *extra]
        result: dict[str, Any] = {"env": env, "bar": bar._asdict(), **train(flags, folder)}
        limit = bar.step_limit + result["config"]["num_envs"]
        result["within_step_limit"] = result["env_steps_per_seed"] <= limit
        for which in ("last", "best"):
            result[which] = judge(evaluate(folder, which), bar)
            if env == "CartPole-v1":
                result[f"{which}_in_gymnasium"] = judge(np.array(play_gymnasium(folder, bar.seeds, which)), bar)
    return result


def main() -> None:
    """Reads the command line, measures, writes results/learning-ENV.json and prints the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True, choices=list(BARS))
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds that no tuning saw (default: 1000)")
    args, extra = parser.parse_known_args()
    result = measure(args.env, BARS[args.env], args.first_seed, extra)
    write_result(f"learning-{args.env}", WHAT, result)
    for name, verdict in result.items():
        if isinstance(verdict, dict) and "passed" in verdict:
            print(
                f"{args.env} {name}: {verdict['seeds_at_bar']} of {result['bar']['seeds']} seeds at the bar, ", end=""
            )
            print(f"min {verdict['min']:.1f}, IQM {verdict['iqm']:.1f}: {'passed' if verdict['passed'] else 'FAILED'}")


if __name__ == "__main__":
    main()
