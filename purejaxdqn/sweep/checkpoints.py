"""Checkpoints of a sweep's units: one file of plain arrays each, written atomically.

orbax, which writes a run's checkpoints, treats all processes of `jax.distributed` as one writer; here each process
writes the units that it trains.
"""

import json
import os
from pathlib import Path

import numpy as np

from purejaxdqn.config import one_line
from purejaxdqn.machine.files import UNFINISHED
from purejaxdqn.runs.checkpoint import Checkpoint, DamagedCheckpoint

SAVED = "checkpoint.npz"
PROGRESS, STEP = "progress", "step"


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, replacing the previous one."""
    arrays = {f"state/{name}": leaf for name, leaf in checkpoint.state.items()}
    for which, params in checkpoint.policy.items():
        arrays |= {f"{which}/{name}": leaf for name, leaf in params.items()}
    arrays |= {PROGRESS: np.array(json.dumps(checkpoint.progress)), STEP: np.array(checkpoint.step)}
    beside = folder / f".{SAVED}{UNFINISHED}"
    try:
        with open(beside, "wb") as file:
            # Straight to the disk, and not compressed: replays are large, and hardly get smaller.
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, folder / SAVED)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint of a folder, None if there is none.

    Raises:
      DamagedCheckpoint: if it cannot be read.
    """
    (folder / f".{SAVED}{UNFINISHED}").unlink(missing_ok=True)
    path = folder / SAVED
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        parts: dict[str, dict[str, np.ndarray]] = {"state": {}, "last": {}, "best": {}}
        progress, step = json.loads(str(arrays.pop(PROGRESS))), int(arrays.pop(STEP))
        for name, leaf in arrays.items():
            part, _, leaf_name = name.partition("/")
            parts[part][leaf_name] = leaf
    except Exception as error:
        # zipfile and NumPy tell a damaged file by a dozen kinds of exceptions.
        raise DamagedCheckpoint(f"{path} cannot be read ({one_line(error)})") from error
    return Checkpoint(step, parts.pop("state"), parts, progress)


def forget(folder: Path) -> None:
    """Removes the checkpoint of a folder."""
    (folder / SAVED).unlink(missing_ok=True)
