"""Steps per second beside the peers, each at its own settings and ours at the same, interleaved in one run.

python -m benchmarks.peers.environments --into PEERS
python -m benchmarks.speed --peers PEERS --clone purejaxrl=CLONE purejaxql=CLONE cleanrl=CLONE stoix=CLONE [--only …]

Each repetition runs every contender once before the next repetition begins, so that a noisy machine is noisy for all;
medians and ratios of medians are what counts. A peer runs on all cores or on one thread, whichever it was faster with
in a first trial of both, which does not count. A peer without an environment, or without its clone, is left out.
What is measured stands in benchmarks/peers/contests.py.
"""

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import commit, counted, last_json, read_result, run, write_result
from benchmarks.peers.contests import CONTESTS, Contest
from benchmarks.peers.environments import interpreter
from benchmarks.speed.timing import take_turns

ROOT = Path(__file__).parents[2]
LAYOUTS: dict[str, dict[str, str]] = {
    "all cores": {},
    "one thread": {
        "NPROC": "1",  # XLA's
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "OMP_NUM_THREADS": "1",  # torch's
    },
}
KEPT = ("steps_per_second", "compile_seconds", "run_seconds", "returns_last_tenth", "greedy_return")


class Contender:
    """One program of a contest, and what it said each time."""

    def __init__(self, command: list[str], environment: dict[str, str], layout: str):
        self.command, self.environment, self.layout = command, environment, layout
        self.runs: list[dict[str, Any]] = []

    def measure(self, seed: int) -> float:
        """Runs once; steps per second."""
        self.runs.append(last_json(run([*self.command, "--seed", str(seed)], self.environment).output))
        return float(self.runs[-1]["steps_per_second"])

    def summary(self) -> dict[str, Any]:
        """Medians, and every run."""
        found: dict[str, Any] = {"layout": self.layout}
        for name in KEPT:
            values = [said[name] for said in self.runs if said[name] is not None]
            found[name] = statistics.median(values) if values else None
        said = {name: self.runs[0].get(name) for name in ("device", "versions", "plan", "updates", "total_steps")}
        each = [{name: one[name] for name in KEPT} for one in self.runs]
        return found | {name: value for name, value in said.items() if value is not None} | {"runs": each}


def ours(name: str, seeds: int, steps: int, device: str) -> Contender:
    """purejaxdqn at a contest's settings."""
    command = [sys.executable, "-m", "benchmarks.peers.ours_dqn", "--contest", name, "--seeds", str(seeds)]
    return Contender([*command, "--total-steps", str(steps), "--device", device], {}, "as its command line")


def theirs(contest: Contest, python: Path, clone: str | None, seeds: int, steps: int, trial_steps: int) -> Contender:
    """The peer, on as many threads as it is fastest with."""
    command = [str(python), "-m", f"benchmarks.peers.{contest.module}", *contest.flags]
    command += ["--path", clone] if clone else []
    command += ["--seeds", str(seeds)] if len(contest.seeds) > 1 else []
    trials = {}
    for layout, environment in LAYOUTS.items():
        environment = {**environment, "PYTHONPATH": str(ROOT)}
        trial = Contender([*command, "--total-steps", str(trial_steps)], environment, layout)
        trials[layout] = (trial.measure(0), environment)
    best = max(trials, key=lambda layout: trials[layout][0])
    return Contender([*command, "--total-steps", str(steps)], trials[best][1], best)


def measure(name: str, python: Path, clone: str | None, seeds: int, args: argparse.Namespace) -> dict[str, Any]:
    """One contest at one number of seeds."""
    contest = CONTESTS[name]
    steps = args.total_steps or contest.total_steps
    # A third of the run, and long enough to learn after the longest prefill.
    trial_steps = min(steps, max(steps // 3, 12_000))
    pair = {
        "purejaxdqn": ours(name, seeds, steps, args.device),
        name: theirs(contest, python, clone, seeds, steps, trial_steps),
    }
    turns = {who: partial(one_turn, contender, seeds) for who, contender in pair.items()}
    take_turns(turns, args.repetitions)
    sides = {who: contender.summary() for who, contender in pair.items()}
    ratio = sides["purejaxdqn"]["steps_per_second"] / sides[name]["steps_per_second"]
    return {
        "peer": contest.words,
        "settings": contest.settings,
        "differs": contest.differs,
        "seeds": seeds,
        "steps_per_seed": steps,
        "ratio": round(ratio, 3),
        "bar": contest.bars.get(seeds),
        "commit": commit(),
        "sides": sides,
    }


def one_turn(contender: Contender, seeds: int) -> float:
    """A run with seeds that no earlier run had."""
    return contender.measure(len(contender.runs) * seeds)


def line(found: dict[str, Any]) -> str:
    """A contest for a person."""
    mine, other = found["sides"].values()
    bar = f" (bar {found['bar']:g})" if found["bar"] else ""
    return (
        f"{found['peer']}, {counted(found['seeds'], 'seed')}: {mine['steps_per_second']:,.0f} against "
        f"{other['steps_per_second']:,.0f} steps/s, {found['ratio']:.2f} ×{bar}; returns "
        f"{mine['returns_last_tenth']} and {other['returns_last_tenth']} in training, "
        f"{mine['greedy_return']} and {other['greedy_return']} greedy"
    )


def main() -> None:
    """Reads the command line, measures, writes results/peers.json after every contest and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, metavar="FOLDER", help="the peers' environments")
    parser.add_argument(
        "--clone", nargs="*", default=[], metavar="NAME=FOLDER", help="clones of those not on the index"
    )
    parser.add_argument("--only", nargs="+", choices=list(CONTESTS), default=list(CONTESTS))
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds at once (default: the contest's, 1 and perhaps 16)")
    parser.add_argument("--total-steps", type=int, help="of each seed (default: the contest's)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--device", default="auto", help="ours (default: auto); peers take what their JAX finds")
    parser.add_argument("--name", default="peers", help="result file (default: peers), to which contests are added")
    args = parser.parse_args()
    clones = dict(word.split("=", 1) for word in args.clone)
    before = read_result(args.name) or {}
    contests: dict[str, Any] = before.get("contests", {})
    for name in args.only:
        contest = CONTESTS[name]
        python, clone = interpreter(args.peers, contest.environment), clones.get(contest.environment)
        if not python.exists() or (contest.clone and not clone):
            missing = f"no {python}" if not python.exists() else f"no --clone {contest.environment}=FOLDER"
            print(f"{name} is left out: {missing}", flush=True)
            continue
        for seeds in [n for n in args.seeds or contest.seeds if n == 1 or len(contest.seeds) > 1]:
            found = measure(name, python, clone, seeds, args)
            contests[f"{name}, {counted(seeds, 'seed')}"] = found
            print(line(found), flush=True)
            what = "environment steps per second of all seeds together, whole training loop, beside peers"
            write_result(args.name, what, {"repetitions": args.repetitions, "contests": contests})


if __name__ == "__main__":
    main()
