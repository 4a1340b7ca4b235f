"""Steps per second beside the peers, the same settings and the same work, interleaved in one run.

python -m benchmarks.speed --purejaxrl CLONE --purejaxrl-python PEER/bin/python --sb3-python SB3/bin/python

Each repetition runs every contender once before the next repetition begins, so that a noisy machine is noisy for all;
medians and ratios of medians are what counts. A contender whose interpreter is not given is left out.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import last_json, run, write_result

PEERS = Path(__file__).parent / "peers"


def contenders(args: argparse.Namespace) -> dict[str, list[str]]:
    """Command lines by name."""
    steps = str(args.total_steps)
    ours = [sys.executable, "-m", "benchmarks.peers.ours_dqn", "--total-steps"]
    found = {f"purejaxdqn, {n} seed{'s' * (n > 1)}": [*ours, steps, "--seeds", str(n)] for n in args.seeds}
    if args.purejaxrl_python:
        script = [args.purejaxrl_python, str(PEERS / "purejaxrl_dqn.py"), "--path", args.purejaxrl]
        for n in args.seeds:
            if n <= args.peer_seeds_limit:
                found[f"purejaxrl, {n} seed{'s' * (n > 1)}"] = [*script, "--total-steps", steps, "--seeds", str(n)]
    if args.sb3_python:
        single = ["--learning-starts", "1000"]
        # One thread is what Stable-Baselines3 is fastest with at these sizes.
        threads = ["--threads", "1"]
        sb3 = [args.sb3_python, str(PEERS / "sb3_dqn.py"), "--total-steps", "30000"]
        found["purejaxdqn, 1 environment"] = [*ours, "30000", "--num-envs", "1", *single]
        found["sb3, 1 environment"] = [*sb3, *single, *threads]
    return found


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """Ours over theirs, at equal seeds or environments."""
    return {
        f"{ours} / {theirs}": round(medians[ours] / medians[theirs], 2)
        for theirs in medians
        for ours in medians
        if ours.startswith("purejaxdqn")
        and not theirs.startswith("purejaxdqn")
        and ours.split(", ")[1] == theirs.split(", ")[1]
    }


def main() -> None:
    """Reads the command line, measures, writes results/speed.json and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--purejaxrl", help="a clone of PureJaxRL")
    parser.add_argument("--purejaxrl-python", help="an interpreter with what it imports")
    parser.add_argument("--sb3-python", help="an interpreter with Stable-Baselines3")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 16, 64], help="default: 1 16 64")
    parser.add_argument("--peer-seeds-limit", type=int, default=16, help="most seeds that peers run (default: 16)")
    parser.add_argument("--total-steps", type=int, default=300_000, help="per seed (default: 300000)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--name", default="speed", help="result file (default: speed)")
    args = parser.parse_args()
    commands = contenders(args)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(args.repetitions):
        for name, command in commands.items():
            runs[name].append(last_json(run(command).output))
            print(f"{name}: {runs[name][-1]['steps_per_second']:,.0f} steps/s", flush=True)
    medians = {name: statistics.median(r["steps_per_second"] for r in found) for name, found in runs.items()}
    per_seed = {
        name: round(statistics.median(r["run_seconds"] for r in found) / found[0]["seeds"], 4)
        for name, found in runs.items()
        if "seed" in name
    }
    data = {
        "settings": "CartPole-v1, MLP 120-84, 10 environments (or 1), batch 128, an update per 10 steps, replay 10,000",
        "median_steps_per_second": medians,
        "ratios": ratios(medians),
        "seconds_per_seed": per_seed,
        "repetitions": runs,
    }
    path = write_result(args.name, "environment steps per second of all seeds together, whole training loop", data)
    for name, value in medians.items():
        print(f"{name:32} {value:12,.0f}")
    for name, value in data["ratios"].items():  # type: ignore[attr-defined]
        print(f"{name:56} {value:8.2f}")
    print(path)


if __name__ == "__main__":
    main()
