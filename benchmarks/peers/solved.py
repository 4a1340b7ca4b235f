"""Seconds from the command to a policy that solves the task, ours and theirs, interleaved.

python -m benchmarks.solved [--peers PEERS] [--env CartPole-v1 MountainCar-v0]

Solved is a mean return of 20 greedy episodes of at least the task's bar, looked at every 5,000 environment steps, in
MountainCar every 10,000. Ours is `python -m purejaxdqn.train` with its default recipe, from the start of the process to
the row of metrics.csv that has the evaluation, evaluations included; theirs are tuned for the task (see
peers/sb3_solved.py), and their evaluations' time is taken off. Each repetition has another seed and begins with an
empty compilation cache: the first run of a program fills it (cold), the second finds it (warm), SBX's too. A seed that
does not get there counts with its whole run. A task that is not measured stays in the result file as it was. Flags that
are not below are given to `purejaxdqn.train`.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import commit, last_json, read_result, run, write_result
from benchmarks.peers.contest_speed import LAYOUTS, ROOT
from benchmarks.peers.environments import interpreter
from benchmarks.speed.timing import take_turns
from purejaxdqn.recipes.recipes import default_recipe
from purejaxdqn.runs.folder import METRICS, SUMMARY

EVERY = {"CartPole-v1": 5_000, "MountainCar-v0": 10_000}
EPISODES = 20
LIBRARIES = {"sbx": "sbx", "sb3": "stable_baselines3"}
"""Library by the name of its environment."""


def reached(metrics: Path, score: float) -> dict[str, Any] | None:
    """The first row whose evaluation has the score; None while there is none."""
    if not metrics.exists():
        return None
    with metrics.open() as lines:
        rows = csv.DictReader(lines)
        return next((row for row in rows if row.get("eval_return") and float(row["eval_return"]) >= score), None)


def train(env: str, extra: list[str], seed: int, cache: Path) -> dict[str, Any]:
    """Ours: the command as it is typed."""
    score = default_recipe(env).solved_at
    assert score is not None
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        every = str(EVERY[env])
        command = [sys.executable, "-m", "purejaxdqn.train", "--env", env, "--seed", str(seed), "--quiet"]
        command += ["--out", str(out), "--eval-every", every, "--log-every", every, "--eval-episodes", str(EPISODES)]
        begin = time.perf_counter()
        process = subprocess.Popen([*command, *extra], env={**os.environ, "XDG_CACHE_HOME": str(cache)})
        row, seconds = None, 0.0
        while row is None and process.poll() is None:
            time.sleep(0.01)
            row, seconds = reached(out / METRICS, score), time.perf_counter() - begin
        if process.wait() != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        # The last row may have come after the last look.
        row = row or reached(out / METRICS, score)
        compiling = json.loads((out / SUMMARY).read_text())["compile_seconds"]
    return {
        "solved": row is not None,
        "seconds": round(seconds, 3),
        "without_compiling": round(seconds - compiling, 3),
        "env_steps": int(row["env_steps"]) if row else None,
        "greedy_return": float(row["eval_return"]) if row else None,
    }


def train_peer(python: Path, library: str, env: str, layout: str, seed: int, cache: Path) -> dict[str, Any]:
    """Theirs."""
    command = [str(python), "-m", "benchmarks.peers.sb3_solved", "--library", library, "--env", env]
    command += ["--score", str(default_recipe(env).solved_at), "--every", str(EVERY[env])]
    command += ["--episodes", str(EPISODES), "--seed", str(seed), "--begun", str(time.time())]
    variables = {
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return last_json(run(command, {**LAYOUTS[layout], **variables}).output)


Runner = Callable[[int, Path], dict[str, Any]]
"""(seed, folder of the compilation cache) -> what came of it."""


def measure(runners: dict[str, Runner], repetitions: int, first_seed: int) -> dict[str, list[dict[str, Any]]]:
    """Every program once cold and once warm, then again with another seed; all runs by name."""
    runs: dict[str, list[dict[str, Any]]] = {}

    def turn(name: str, runner: Runner) -> float:
        with tempfile.TemporaryDirectory() as cache:
            # PyTorch compiles nothing.
            for state in ("cold",) if name == "sb3" else ("cold", "warm"):
                label = f"{name}, {state}" if name != "sb3" else name
                seed = first_seed + len(runs.setdefault(label, []))
                runs[label].append(runner(seed, Path(cache)))
                said = runs[label][-1]
                print(f"{label}, seed {seed}: {said['seconds']} s, return {said['greedy_return']}", flush=True)
        return 0.0

    take_turns({name: partial(turn, name, runner) for name, runner in runners.items()}, repetitions)
    return runs


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians by program, and how many times as long theirs take as ours with a warm cache."""
    programs = {
        name: {
            "median_seconds": statistics.median(one["seconds"] for one in found),
            "median_without_compiling": statistics.median(
                one.get("without_compiling", one["seconds"]) for one in found
            ),
            "solved": sum(one["solved"] for one in found),
            "runs": found,
        }
        for name, found in runs.items()
    }
    ours = programs["purejaxdqn, warm"]["median_seconds"]
    ratios = {
        name: round(found["median_seconds"] / ours, 2)
        for name, found in programs.items()
        if not name.startswith("purejaxdqn")
    }
    return {"programs": programs, "times_as_long_as_ours_warm": ratios}


def main() -> None:
    """Measures, writes results/solved.json after every task and prints each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="the peers' environments")
    parser.add_argument("--env", nargs="+", choices=list(EVERY), default=list(EVERY))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--peer-layout", choices=list(LAYOUTS), default="one thread")
    parser.add_argument("--name", default="solved", help="result file (default: solved)")
    args, extra = parser.parse_known_args()
    tasks: dict[str, Any] = (read_result(args.name) or {}).get("tasks", {})
    for env in args.env:
        runners: dict[str, Runner] = {"purejaxdqn": partial(train, env, extra)}
        for name, library in LIBRARIES.items():
            python = interpreter(args.peers, name) if args.peers else None
            if python is None or not python.exists():
                print(f"{name} is left out: no environment of it; see --peers")
                continue
            runners[name] = partial(train_peer, python, library, env, args.peer_layout)
        tasks[env] = {
            "bar": default_recipe(env).solved_at,
            "commit": commit(),
            "repetitions": args.repetitions,
            "extra_flags": extra,
            **summary(measure(runners, args.repetitions, args.first_seed)),
        }
        print(f"{env}: {tasks[env]['times_as_long_as_ours_warm']} times as long as ours, warm")
        what = "seconds from the command to a policy that solves the task"
        write_result(args.name, what, {"tasks": tasks})


if __name__ == "__main__":
    main()
