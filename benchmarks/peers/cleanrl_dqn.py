"""Times CleanRL's `dqn_jax.py` or `dqn_atari_jax.py` from a clone of its repository and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.cleanrl_dqn --path CLONE [--atari]

The script runs as it stands, in a folder of its own that is thrown away; what it prints is read with the time. It
compiles in its loop, so the timed steps are those after the first line that it prints once learning has begun. Two
names that newer numpy has dropped are put back for the Gymnasium that it needs.
"""

import contextlib
import os
import pathlib
import re
import runpy
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

from benchmarks.peers.outcome import clone_file, mean_of_last_tenth, parser, say

ATARI_FLAGS = ["--buffer-size", "20000", "--learning-starts", "2000"]
STARTS = {"dqn_jax": 10_000, "dqn_atari_jax": 2_000}
FREQUENCY = {"dqn_jax": 10, "dqn_atari_jax": 4}


class Clock:
    """Standard output of the script, line by line with the time."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str]] = []
        self.rest = ""

    def write(self, text: str) -> int:
        """Notes whole lines."""
        *whole, self.rest = (self.rest + text).split("\n")
        self.lines += [(time.perf_counter(), line) for line in whole]
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 60_000)
    flags.add_argument("--path", type=pathlib.Path, metavar="CLONE", help="a clone of CleanRL")
    flags.add_argument("--atari", action="store_true", help="dqn_atari_jax.py, shortened to a test of speed")
    args = flags.parse_args()
    name = "dqn_atari_jax" if args.atari else "dqn_jax"
    script = clone_file(args.path, f"cleanrl/{name}.py").resolve()
    more = ATARI_FLAGS if args.atari else []
    for old, new in (("bool8", np.bool_), ("float_", np.float64)):
        if not hasattr(np, old):
            setattr(np, old, new)
    if args.atari:
        import ale_py  # noqa: F401  registers the games

    sys.path.insert(0, str(args.path.resolve()))
    sys.argv = [str(script), "--total-timesteps", str(args.total_steps), "--seed", str(args.seed), *more]
    clock = Clock()
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(clock):
        os.chdir(scratch)
        begin = time.perf_counter()
        runpy.run_path(str(script), run_name="__main__")
        done = time.perf_counter()
        os.chdir(here)
    report(args, name, clock.lines, begin, done)


def report(args: Any, name: str, lines: list[tuple[float, str]], begin: float, done: float) -> None:
    """What the script's lines come to."""
    first = next(when for when, line in lines if line.startswith("SPS:"))
    # Every hundredth step after learning has begun prints one.
    first_step = STARTS[name] + 100
    episodes = [
        (int(found[1]), float(found[2]))
        for _, line in lines
        if (found := re.search(r"global_step=(\d+), episodic_return=\[?([-\d.]+)", line))
    ]
    say(
        f"cleanrl {name}",
        seeds=1,
        steps=args.total_steps,
        seconds=done - first,
        timed_steps=args.total_steps - first_step,
        updates=(args.total_steps - STARTS[name]) // FREQUENCY[name],
        compile_seconds=first - begin,
        returns_last_tenth=mean_of_last_tenth([e for e, _ in episodes], [r for _, r in episodes], args.total_steps),
        greedy_return=None,
        device=jax.devices()[0].device_kind,
        packages=("jax", "jaxlib", "flax", "optax", "gymnasium", "numpy"),
        compile_seconds_hold="everything before the first line after learning began, the prefill included",
    )


if __name__ == "__main__":
    main()
