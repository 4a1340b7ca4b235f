"""What a live page costs the run that it shows.

python -m benchmarks.live

The same training with and without `--live`, in turns, and a page that asks as the browser's does: for the state, for
the new body where that has changed, and then not before the time that it is told. Seconds are the run's own of
training, without its start and its evaluations. A browser's drawing is left out: whose cores it takes is the reader's.
"""

import argparse
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.common import run, write_result

WHAT = "seconds of a training run that a live page shows over those of the same run without one"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def look(port: int, done: threading.Event, bodies: list[int]) -> None:
    """Asks as the page does until it is over, and notes how long every new body is."""
    tag = ""
    while not done.is_set():
        wait = 0.2
        with contextlib.suppress(urllib.error.URLError, OSError, json.JSONDecodeError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/state", timeout=30) as answer:
                state = json.load(answer)
            wait = state["wait"]
            if state["tag"] != tag:
                tag = state["tag"]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/body", timeout=30) as answer:
                    bodies.append(len(answer.read()))
        done.wait(wait)


def train(words: list[str], live: bool) -> tuple[float, int]:
    """Seconds of a run, and how many times its page changed."""
    with tempfile.TemporaryDirectory() as scratch:
        out, bodies, done = Path(scratch) / "run", list[int](), threading.Event()
        command = [sys.executable, "-m", "purejaxdqn.train", *words, "--quiet", "--out", str(out)]
        if live:
            port = free_port()
            page = threading.Thread(target=look, args=(port, done, bodies))
            page.start()
            command += ["--live", str(port)]
        run(command)
        if live:
            done.set()
            page.join()
        return float(json.loads((out / "summary.json").read_text())["run_seconds"]), len(bodies)


def main() -> None:
    """Reads the command line, measures and writes results/live.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="pairs of runs (default: 7)")
    args, words = parser.parse_known_args()
    words = words or ["--env", "CartPole-v1", "--total-steps", "1M", "--seeds", "4"]
    seconds: dict[str, list[float]] = {"live": [], "alone": []}
    changes = []
    for turn in range(args.rounds):
        # The other one first every second time.
        for name in ("live", "alone")[:: 1 if turn % 2 else -1]:
            took, changed = train(words, name == "live")
            seconds[name].append(round(took, 3))
            changes += [changed] if name == "live" else []
            time.sleep(1.0)
    ratios = [live / alone for live, alone in zip(seconds["live"], seconds["alone"], strict=True)]
    data: dict[str, Any] = {
        "train": ["python", "-m", "purejaxdqn.train", *words],
        "seconds": seconds,
        "bodies_shown": changes,
        "ratios": [round(ratio, 4) for ratio in ratios],
        "median_ratio": round(statistics.median(ratios), 4),
        "ratio_of_medians": round(statistics.median(seconds["live"]) / statistics.median(seconds["alone"]), 4),
    }
    write_result("live", WHAT, data)
    print(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
