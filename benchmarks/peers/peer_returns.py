"""Returns after the same steps as PureJaxRL's DQN, at its settings, over seeds that differ on both sides.

python -m benchmarks.peer_returns --peers PEERS --clone CLONE [--seeds 96]

`benchmarks.speed` runs the peer as it is, whose seeds all go on with one constant key. Here each goes on with its own,
so that there are as many returns to compare as seeds.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import last_json, run, write_result
from benchmarks.learning.defaults import summarize
from benchmarks.peers.contest_speed import LAYOUTS, ROOT
from benchmarks.peers.contests import CONTESTS
from benchmarks.peers.environments import interpreter
from purejaxdqn.statistics.intervals import bootstrap_interval, mean, standard_error

CONTEST = "purejaxrl"


def judge(said: dict[str, Any]) -> dict[str, Any]:
    """Every seed's return, their mean and interquartile mean, with bootstrap intervals."""
    scores = np.array(said["greedy_returns"])
    low, high = bootstrap_interval(scores, mean)
    kept = {name: said[name] for name in ("total_steps", "updates", "returns_last_tenth", "versions")}
    return {"mean": float(scores.mean()), "mean_interval_95": [float(low), float(high)], **summarize(scores), **kept}


def main() -> None:
    """Reads the command line, measures, writes results/peer-returns.json and prints a line for each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, metavar="FOLDER", help="the peers' environments")
    parser.add_argument("--clone", required=True, metavar="FOLDER", help="a clone of PureJaxRL")
    parser.add_argument("--seeds", type=int, default=96)
    parser.add_argument("--total-steps", type=int, default=CONTESTS[CONTEST].total_steps, help="of each seed")
    args = parser.parse_args()
    contest = CONTESTS[CONTEST]
    flags = ["--seeds", str(args.seeds), "--total-steps", str(args.total_steps)]
    ours = [sys.executable, "-m", "benchmarks.peers.ours_dqn", "--contest", CONTEST, *flags]
    python = str(interpreter(args.peers, contest.environment))
    theirs = [python, "-m", f"benchmarks.peers.{contest.module}", "--path", args.clone, "--own-keys", *flags]
    one_thread = {**LAYOUTS["one thread"], "PYTHONPATH": str(ROOT)}
    sides = {
        "purejaxdqn": judge(last_json(run(ours).output)),
        CONTEST: judge(last_json(run(theirs, one_thread).output)),
    }
    for name, found in sides.items():
        low, high = found["mean_interval_95"]
        print(f"{name}: mean {found['mean']:.1f} ({low:.1f} to {high:.1f}), IQM {found['iqm']:.1f}", flush=True)
    difference = sides["purejaxdqn"]["mean"] - sides[CONTEST]["mean"]
    z = difference / float(np.hypot(*(standard_error(found["scores"]) for found in sides.values())))
    print(f"difference of the means: {difference:.1f}, {z:.2f} standard errors")
    what = "greedy returns of the last parameters, every seed, at PureJaxRL's settings"
    found = {"settings": contest.settings, "seeds": args.seeds, "difference": difference, "z": z, "sides": sides}
    write_result("peer-returns", what, found)


if __name__ == "__main__":
    main()
