"""Trains every single-player environment of EnvPool with discrete actions for 2,000 steps, with a small network.

python -m benchmarks.every_envpool
python -m benchmarks.every_envpool --only MiniGrid- BabyAI-

Those that cannot be made are counted by what is said of them. Several are trained in a process, one after another. Of
Atari's games, which differ by their ROMs alone, a few are trained. A run's video is cut after 20 frames, which
would take most of its time. Writes results/every_envpool.json after each; with --keep, those that are in it already are
left alone.
"""

import argparse
import collections
import contextlib
import io
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.common import read_result, write_result

SMALL = [
    *("--num-envs", "4", "--hidden", "16", "--buffer-size", "1000", "--batch-size", "16", "--learning-starts", "200"),
    *(
        "--eval-episodes",
        "1",
        "--eval-max-steps",
        "100",
        "--env-params.num-threads",
        "1",
        "--quiet",
        "--recipe",
        "vector",
    ),
]
GAMES = ("Breakout-v5", "Freeway-v5", "Pong-v5")
"""Of Atari's."""
IN_A_PROCESS = 20
FRAMES = 20
"""Of a run's video."""


def refusal(env: str) -> str | None:
    """What is said of an environment that cannot be trained on; None of one that can."""
    from purejaxdqn.config import SettingError
    from purejaxdqn.envs.envpool import make_env

    try:
        make_env(env)
    except SettingError as error:
        return error.remedy.split(":")[0]
    return None


def attempt(env: str, total_steps: int) -> dict[str, Any]:
    """One training run: its exit code, what it said on stderr, and its files."""
    from purejaxdqn import train
    from purejaxdqn.runs import episode_video

    said = io.StringIO()
    short = mock.patch.object(episode_video, "MAX_VIDEO_FRAMES", FRAMES)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(said), short:
        out = Path(scratch) / "run"
        try:
            code: Any = train.main(["--env", env, "--total-steps", str(total_steps), *SMALL, "--out", str(out)])
        except SystemExit as end:
            code = end.code
        files = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    return {"exit": code, "stderr": said.getvalue().strip()[-300:], "files": files}


def fresh_process() -> ProcessPoolExecutor:
    """A process for some runs."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=IN_A_PROCESS)


def main() -> None:
    """Trains them all, writes the results and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-steps", type=int, default=2_000)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of ids")
    parser.add_argument("--keep", action="store_true", help="leave environments that were trained alone")
    args = parser.parse_args()
    import envpool

    names = [name for name in envpool.list_all_envs() if not name.endswith("-v5") or name in GAMES]
    reasons = {name: refusal(f"envpool/{name}") for name in sorted(names)}
    refused = collections.Counter(reason for reason in reasons.values() if reason is not None)
    can = [name for name, reason in reasons.items() if reason is None]
    found: dict[str, Any] = (read_result("every_envpool") or {"envs": {}})["envs"] if args.keep else {}
    print(f"{len(can)} of {len(names)} can be made", flush=True)
    process = fresh_process()
    for name in can:
        if name in found or not name.startswith(tuple(args.only)):
            continue
        try:
            found[name] = process.submit(attempt, f"envpool/{name}", args.total_steps).result()
        except BrokenProcessPool:
            found[name] = {"exit": None, "stderr": "it ended the process", "files": []}
            process = fresh_process()
        print(f"{name:44} exit {found[name]['exit']}  {found[name]['stderr'][:90]}", flush=True)
        trained = sum(result["exit"] == 0 for result in found.values())
        data = {"can_be_made": len(can), "trained": trained, "other": len(found) - trained, "refused": dict(refused)}
        what = f"EnvPool's single-player environments with discrete actions, trained for {args.total_steps:,} steps"
        write_result("every_envpool", what, {**data, "envs": dict(sorted(found.items()))})
    process.shutdown()


if __name__ == "__main__":
    main()
