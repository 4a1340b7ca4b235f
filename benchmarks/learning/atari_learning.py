"""Does it learn from pixels? Trains a game in pieces of some minutes and notes its evaluations.

python -m benchmarks.atari_learning --env Pong-v5 --recipe nature-pqn --total-steps 2500000 --bar 18 --minutes 8

The run's folder is runs/atari-NAME; a second call with the same name goes on where the first one stopped. After every
piece results/atari-NAME.json has what there is. Further flags go to the training command. With --replay 10 the best
policy then plays so many games in the emulator itself, in a process of its own (benchmarks.ale_replay). With
--stop-at-bar a piece ends with the first evaluation that reaches the bar.
"""

import argparse
import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import last_json, run, write_result
from benchmarks.learning.defaults import curve
from purejaxdqn.statistics.atari_scores import human_normalized

WHAT = "evaluations of one training run of an Atari game, by environment steps and minutes"


def newest_steps(folder: Path) -> int:
    """Environment steps of the newest row of metrics.csv; 0 before the first one."""
    file = folder / "metrics.csv"
    rows = file.read_text().splitlines() if file.exists() else []
    return int(rows[-1].split(",")[1]) if len(rows) > 1 else 0


def best_return(found: dict[str, Any]) -> float | None:
    """The best evaluation of a curve; None before the first one."""
    return max((returns[0] for returns in found["eval_returns"]), default=None)


def is_reached(folder: Path, bar: float) -> bool:
    """Whether an evaluation of the run so far is at the bar."""
    best = best_return(curve(folder)) if newest_steps(folder) else None
    return best is not None and best >= bar


def train_for(command: list[str], minutes: float, folder: Path, bar: float | None) -> tuple[int, dict[str, float]]:
    """Trains for so long at most or until the bar is reached, then stops it as Ctrl-C does, so that it saves itself.

    Returns:
      Its exit code, and by environment steps how many seconds after the command that row of metrics.csv was there.
    """
    begin, done = time.perf_counter(), newest_steps(folder)
    moments: dict[str, float] = {}
    process = subprocess.Popen(command)
    while process.poll() is None:
        time.sleep(1.0)
        seconds, steps = time.perf_counter() - begin, newest_steps(folder)
        if steps > done:
            moments.setdefault(str(steps), round(seconds, 1))
        if seconds > 60 * minutes or (bar is not None and is_reached(folder, bar)):
            process.send_signal(signal.SIGINT)
            process.wait()
    return process.returncode, moments


def last_games(folder: Path, games: int = 100) -> dict[str, float]:
    """Mean return of training's last games, the score of Machado et al. 2018, in whole rows of metrics.csv."""
    rows = [row for row in csv.DictReader((folder / "metrics.csv").open()) if int(row["episodes"])]
    counted, total = 0, 0.0
    while rows and counted < games:
        row = rows.pop()
        counted += int(row["episodes"])
        total += int(row["episodes"]) * float(row["episode_return"])
    return {"games": counted, "mean_return": round(total / counted, 2)} if counted else {"games": 0}


def first_at(found: dict[str, Any], bar: float, pieces: list[dict[str, Any]]) -> dict[str, float] | None:
    """Steps and minutes of the first evaluation at the bar, from the first command on; None before it."""
    before, when = 0.0, dict[int, float]()
    for piece in pieces:
        when |= {int(steps): before + seconds for steps, seconds in piece["moments"].items()}
        before += piece["seconds"]
    for steps, returns in zip(found["env_steps"], found["eval_returns"], strict=True):
        if returns[0] >= bar:
            return {"env_steps": steps, "minutes": round(when.get(steps, before) / 60, 2)}
    return None


def main() -> None:
    """Goes on with the run, writes the results and prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pong-v5")
    parser.add_argument("--recipe", default="nature-pqn")
    parser.add_argument("--bar", type=float, default=18.0, help="return to reach (default: 18)")
    parser.add_argument("--minutes", type=float, default=8.0, help="of this piece; 0 trains no further (default: 8)")
    parser.add_argument("--stop-at-bar", action="store_true", help="train no further than that")
    parser.add_argument("--replay", type=int, default=0, metavar="GAMES", help="in ALE afterwards (default: none)")
    parser.add_argument("--name", help="of folder and result (default: ENV-RECIPE)")
    args, extra = parser.parse_known_args()
    name = args.name or f"{args.env}-{args.recipe}"
    folder = Path("runs") / f"atari-{name}"
    pieces_file = folder / "pieces.json"
    pieces = json.loads(pieces_file.read_text()) if pieces_file.exists() else []
    # Of a run that goes on, settings are what they were.
    begins = ["--env", args.env, "--recipe", args.recipe, "--out", str(folder), *extra]
    flags = ["--resume", str(folder)] if (folder / "config.json").exists() else begins
    if args.minutes > 0:
        begin = time.perf_counter()
        bar = args.bar if args.stop_at_bar else None
        code, moments = train_for([sys.executable, "-m", "purejaxdqn.train", *flags], args.minutes, folder, bar)
        pieces.append({"seconds": round(time.perf_counter() - begin, 1), "exit_code": code, "moments": moments})
        pieces_file.write_text(json.dumps(pieces))
    settings = json.loads((folder / "config.json").read_text())
    env_steps, found = newest_steps(folder), curve(folder)
    seconds = sum(piece["seconds"] for piece in pieces)
    best = best_return(found)
    data = {
        "env": args.env,
        "recipe": args.recipe,
        "train_command": settings["command"],
        "config": settings["config"],
        "hypers": settings["hypers"],
        "finished": pieces[-1]["exit_code"] == 0,
        "pieces": pieces,
        "env_steps": env_steps,
        "bar": args.bar,
        "reached": first_at(found, args.bar, pieces),
        "best_evaluation": best,
        "best_human_normalized": None if best is None else human_normalized(args.env, best),
        "last_games_of_training": last_games(folder),
        "curve": found,
    }
    if args.replay:
        replay = [sys.executable, "-m", "benchmarks.ale_replay", str(folder), "--episodes", str(args.replay)]
        data["ale"] = last_json(run(replay).output)
    write_result(f"atari-{name}", WHAT, data)
    print(f"{name}: {env_steps:,} steps in {seconds / 60:.1f} minutes, best {best}, at {args.bar}: {data['reached']}")


if __name__ == "__main__":
    main()
