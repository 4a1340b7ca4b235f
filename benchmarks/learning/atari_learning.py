"""Does it learn from pixels? Trains a game in pieces of some minutes and notes its evaluations.

python -m benchmarks.atari_learning --env Pong-v5 --recipe nature-pqn --total-steps 2500000 --bar 18 --minutes 8

The run's folder is runs/atari-NAME; a second call with the same name goes on where the first one stopped. After every
piece results/atari-NAME.json has what there is. Further flags go to the training command.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write_result
from benchmarks.learning.defaults import curve
from purejaxdqn.statistics.atari_scores import human_normalized

WHAT = "evaluations of one training run of an Atari game, by environment steps and minutes"


def train_for(command: list[str], minutes: float) -> int:
    """Trains for so long at most, then stops it as Ctrl-C does, so that it saves itself; its exit code."""
    process = subprocess.Popen(command)
    try:
        return process.wait(60 * minutes)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.wait()


def first_at(found: dict[str, Any], bar: float, seconds: float, env_steps: int) -> dict[str, float] | None:
    """Steps and minutes of the first evaluation at the bar, the minutes at the run's mean speed; None before it."""
    for steps, returns in zip(found["env_steps"], found["eval_returns"], strict=True):
        if returns[0] >= bar:
            return {"env_steps": steps, "minutes": round(seconds / 60 * steps / max(env_steps, 1), 2)}
    return None


def main() -> None:
    """Goes on with the run, writes the results and prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pong-v5")
    parser.add_argument("--recipe", default="nature-pqn")
    parser.add_argument("--bar", type=float, default=18.0, help="return to reach (default: 18)")
    parser.add_argument("--minutes", type=float, default=8.0, help="of this piece (default: 8)")
    parser.add_argument("--name", help="of folder and result (default: ENV-RECIPE)")
    args, extra = parser.parse_known_args()
    name = args.name or f"{args.env}-{args.recipe}"
    folder = Path("runs") / f"atari-{name}"
    pieces_file = folder / "pieces.json"
    pieces = json.loads(pieces_file.read_text()) if pieces_file.exists() else []
    # Of a run that goes on, settings are what they were.
    begins = ["--env", args.env, "--recipe", args.recipe, "--out", str(folder), *extra]
    flags = ["--resume", str(folder)] if (folder / "config.json").exists() else begins
    begin = time.perf_counter()
    code = train_for([sys.executable, "-m", "purejaxdqn.train", *flags], args.minutes)
    pieces.append({"seconds": round(time.perf_counter() - begin, 1), "exit_code": code})
    pieces_file.write_text(json.dumps(pieces))
    settings = json.loads((folder / "config.json").read_text())
    rows = (folder / "metrics.csv").read_text().splitlines()
    env_steps = int(rows[-1].split(",")[1]) if len(rows) > 1 else 0
    seconds, found = sum(piece["seconds"] for piece in pieces), curve(folder)
    best = max((returns[0] for returns in found["eval_returns"]), default=None)
    data = {
        "env": args.env,
        "recipe": args.recipe,
        "train_command": settings["command"],
        "config": settings["config"],
        "hypers": settings["hypers"],
        "finished": code == 0,
        "pieces": pieces,
        "env_steps": env_steps,
        "bar": args.bar,
        "reached": first_at(found, args.bar, seconds, env_steps),
        "best_evaluation": best,
        "best_human_normalized": None if best is None else human_normalized(args.env, best),
        "curve": found,
    }
    write_result(f"atari-{name}", WHAT, data)
    print(f"{name}: {env_steps:,} steps in {seconds / 60:.1f} minutes, best {best}, at {args.bar}: {data['reached']}")


if __name__ == "__main__":
    main()
