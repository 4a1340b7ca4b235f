"""Kills runs with SIGKILL at random moments, resumes them, and compares their metrics with an undisturbed run's.

python -m benchmarks.kill_resume --kills 20
"""

import argparse
import filecmp
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write_result

TRAIN = [sys.executable, "-m", "purejaxdqn.train"]
FLAGS = ["--env", "CartPole-v1", "--total-steps", "200000", "--seeds", "2", "--eval-episodes", "10"]
FLAGS += ["--checkpoint-every", "10000", "--log-every", "2000", "--quiet"]


def begin_or_resume(folder: Path) -> list[str]:
    """The command that goes on with a folder, whatever a kill has left of it."""
    if (folder / "config.json").exists():
        return [*TRAIN, "--resume", str(folder), "--quiet"]
    return [*TRAIN, *FLAGS, "--out", str(folder)]


def survive(folder: Path, rng: random.Random, longest: float) -> list[dict[str, Any]]:
    """Runs to the end through one kill at a random moment; returns what each start did."""
    starts: list[dict[str, Any]] = []
    wait = rng.uniform(0.5, longest)
    while True:
        resumed = (folder / "config.json").exists()
        with subprocess.Popen(begin_or_resume(folder), stderr=subprocess.PIPE, text=True) as process:
            try:
                _, errors = process.communicate(timeout=wait if not starts else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                _, errors = process.communicate()
        starts.append({"resumed": resumed, "exit": process.returncode, "killed_after_seconds": round(wait, 2)})
        if process.returncode != -signal.SIGKILL:
            starts[-1]["killed_after_seconds"] = None
            starts[-1]["stderr"] = errors.strip()
            return starts


def main() -> None:
    """Reads the command line, measures and writes results/kill_resume.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    args = parser.parse_args()
    rng, kills = random.Random(args.seed), 0
    trials: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference"
        subprocess.run([*TRAIN, *FLAGS, "--out", str(reference)], check=True)
        begin = time.perf_counter()
        subprocess.run([*TRAIN, *FLAGS, "--out", str(Path(scratch) / "timing")], check=True)
        whole = time.perf_counter() - begin
        while kills < args.kills:
            folder = Path(scratch) / f"run-{len(trials)}"
            starts = survive(folder, rng, whole * 0.95)
            killed = sum(start["exit"] == -signal.SIGKILL for start in starts)
            same = filecmp.cmp(folder / "metrics.csv", reference / "metrics.csv", shallow=False)
            kills += killed
            trials.append({"starts": starts, "same_metrics": same, "finished": starts[-1]["exit"] == 0})
            print(f"{kills} kills: finished {trials[-1]['finished']}, same metrics {same}", flush=True)
    passed = sum(trial["same_metrics"] and trial["finished"] for trial in trials)
    data = {"kills": kills, "trials": trials, "passed": passed, "run_seconds_undisturbed": round(whole, 2)}
    write_result("kill_resume", "runs killed by SIGKILL at a random moment, then resumed to the end", data)
    print(f"{passed} of {len(trials)} ended as the undisturbed run did")


if __name__ == "__main__":
    main()
