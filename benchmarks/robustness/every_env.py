"""Trains every environment of gymnax for 20k steps, and records which ones are refused and how.

python -m benchmarks.every_env
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import write_result
from purejaxdqn.envs.gymnax import env_names


def attempt(env: str, total_steps: int, scratch: Path) -> dict[str, Any]:
    """One training command: its exit code, what it said on stderr, and the returns it reached."""
    out = scratch / env
    flags = ["--env", env, "--total-steps", str(total_steps), "--eval-episodes", "10", "--quiet", "--out", str(out)]
    done = subprocess.run([sys.executable, "-m", "purejaxdqn.train", *flags], capture_output=True, text=True)
    found: dict[str, Any] = {"exit": done.returncode, "stderr": done.stderr.strip()[-300:]}
    if done.returncode == 0:
        summary = json.loads((out / "summary.json").read_text())
        found |= {
            "env_steps": summary["env_steps_per_seed"],
            "last_mean_return": summary["evaluation"][0]["last_mean_return"],
            "files": sorted(path.name for path in out.iterdir()),
        }
    return found


def main() -> None:
    """Trains them all, writes results/every_env.json and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-steps", type=int, default=20_000)
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for env in env_names():
            found[env] = attempt(env, args.total_steps, Path(scratch))
            print(f"{env:26} exit {found[env]['exit']}  {found[env]['stderr'][:90]}", flush=True)
    trained = sum(result["exit"] == 0 for result in found.values())
    refused = sum(result["exit"] == 2 for result in found.values())
    data = {"trained": trained, "refused": refused, "other": len(found) - trained - refused, "envs": found}
    write_result("every_env", f"every gymnax environment trained for {args.total_steps:,} steps, or refused", data)
    print(f"{trained} trained, {refused} refused, {data['other']} failed otherwise")


if __name__ == "__main__":
    main()
