"""What every runner beside this file says: one JSON line. Peers' environments run it, so it needs nothing but Python.

A runner is `PEER/bin/python -m benchmarks.peers.NAME`, from the root of this repository.
"""

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def parser(text: str | None, total_steps: int) -> argparse.ArgumentParser:
    """A command line with the flags that every runner has.

    Args:
      text: the module's docstring.
      total_steps: environment steps of each seed by default.
    """
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, default=1, help="seeds trained at once (default: 1)")
    made.add_argument("--seed", type=int, default=0, help="the first of them (default: 0)")
    made.add_argument("--total-steps", type=int, default=total_steps, help=f"of each seed (default: {total_steps})")
    return made


def clone_file(clone: Path | None, name: str) -> Path:
    """A file of a peer's clone; ends the process with a sentence where it is not there."""
    if clone is None or not (clone / name).is_file():
        raise SystemExit(f"--path {clone}: there is no {name} in it; give the folder of the peer's clone")
    return clone / name


def mean_of_last_tenth(ends: Sequence[float], returns: Sequence[float], total_steps: int) -> float | None:
    """Mean return of the episodes that ended in the last tenth of a run; None where none did.

    Args:
      ends: environment steps at which episodes ended.
      returns: of these episodes.
      total_steps: of the run.
    """
    late = [value for end, value in zip(ends, returns, strict=True) if end > 0.9 * total_steps]
    return round(float(sum(late) / len(late)), 2) if late else None


def say(
    peer: str,
    *,
    seeds: int,
    steps: int,
    seconds: float,
    timed_steps: int | None = None,
    updates: int,
    compile_seconds: float,
    returns_last_tenth: float | None,
    greedy_return: float | None,
    device: str,
    packages: Sequence[str],
    **more: Any,
) -> None:
    """Prints the line.

    Args:
      peer: whose code ran.
      seeds: trained at once.
      steps: environment steps of all seeds.
      seconds: of the steps that were timed, compilation left out.
      timed_steps: how many these are; by default all.
      updates: gradient updates of all seeds.
      compile_seconds: before, or what could be told of it.
      returns_last_tenth: mean return of training's episodes, exploration included, in the last tenth of the run.
      greedy_return: mean return of the policy after the last step, without (much) exploration.
      device: what ran it.
      packages: whose versions to name.
      **more: anything else to keep.
    """
    timed = steps if timed_steps is None else timed_steps
    versions = {name: importlib.metadata.version(name) for name in packages}
    found = {
        "peer": peer,
        "seeds": seeds,
        "total_steps": steps,
        "compile_seconds": round(compile_seconds, 3),
        "run_seconds": round(seconds, 3),
        "steps_per_second": round(timed / seconds, 1),
        "returns_last_tenth": returns_last_tenth,
        "greedy_return": None if greedy_return is None else round(float(greedy_return), 2),
        "updates": updates,
        "device": device,
        "versions": {"python": sys.version.split()[0], **versions},
        **more,
    }
    print(json.dumps(found), flush=True)
