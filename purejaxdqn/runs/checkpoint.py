"""Checkpoints: folders of plain arrays, which orbax writes, with a checksum of every file, committed by rename.

Loading one executes nothing from it. orbax is imported on first use: importing it takes half as long as importing JAX,
and a run needs it only at its first checkpoint.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.config import one_line
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.machine.quiet import quiet_background

STATE, POLICY, PROGRESS = "state", "policy", "progress"
PROGRESS_FILE = "metadata"
SUMS = "SHA256SUMS"
OLD_MARK = "_CHECKPOINT_METADATA"
"""A file that only checkpoints from before the checksums have."""
UNFINISHED = ".orbax-checkpoint-tmp"
"""Suffix of a checkpoint that is not committed yet."""
PLAIN = re.compile(r"[A-Za-z0-9/_.+,=-]*")
"""Paths that orbax and tensorstore take literally; they read others as patterns, or not at all."""


class DamagedCheckpoint(Exception):
    """A checkpoint that cannot be read, or that belongs to another configuration. Its text is one sentence."""


class Checkpoint(NamedTuple):
    """One saved moment of a run."""

    step: int
    """Iterations made."""
    state: dict[str, np.ndarray]
    """Leaves of the `State` by path, with a leading axis of lanes."""
    policy: dict[str, dict[str, np.ndarray]]
    """`last` and `best` parameters by path, with a leading axis of lanes."""
    progress: dict[str, Any]
    """What the host keeps: best scores and where they were reached."""


def to_flat(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by path, as numpy arrays."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def from_flat(flat: dict[str, np.ndarray], like: Any) -> Any:
    """The tree whose structure, shapes and dtypes `like` gives, with leaves from `to_flat`; empty ones may be missing.

    Raises:
      DamagedCheckpoint: if a leaf is missing or has another shape or dtype.
    """

    def leaf(path: Any, template: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        found = flat.get(name, None if template.size else np.zeros(template.shape, template.dtype))
        if found is None:
            raise DamagedCheckpoint(f"{name} is missing")
        if found.shape != template.shape or found.dtype != template.dtype:
            raise DamagedCheckpoint(
                f"{name} is {found.dtype}{list(found.shape)} where {template.dtype}{list(template.shape)} belongs"
            )
        return found

    return jax.tree_util.tree_map_with_path(leaf, like)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a temporary checkpoint, reads it back and commits it by rename; only then are older ones removed.

    Args:
      folder: of checkpoints; it is created, its parent is not.
      checkpoint: to save.

    Raises:
      OSError: if it cannot be written or read back; the new one is removed and the older checkpoint is kept.
    """
    # On use: see above.
    import orbax.checkpoint as ocp

    folder.mkdir(exist_ok=True)
    older = saved_steps(folder)
    # orbax refuses arrays without numbers, as an environment's state may hold; `from_flat` makes them again.
    state = {name: leaf for name, leaf in checkpoint.state.items() if leaf.size}
    beside = folder / f"{checkpoint.step}{UNFINISHED}"
    try:
        (beside / PROGRESS).mkdir(parents=True)
        with quiet_background(), plain_name(beside) as plain, ocp.PyTreeCheckpointer() as writer:
            writer.save(plain / STATE, state)
            writer.save(plain / POLICY, checkpoint.policy)
        write_atomically(beside / PROGRESS / PROGRESS_FILE, json.dumps(checkpoint.progress))
        write_atomically(beside / SUMS, sums_text(file_sums(beside)))
        check_same(read_checkpoint(beside, checkpoint.step, with_state=False), checkpoint)
        os.replace(beside, folder / str(checkpoint.step))
    except Exception as error:
        shutil.rmtree(beside, ignore_errors=True)
        # tensorstore has exceptions of its own for a full disk; callers need to know one.
        raise OSError(getattr(error, "errno", None), one_line(error)) from error
    for step in older:
        shutil.rmtree(folder / str(step), ignore_errors=True)


@contextlib.contextmanager
def plain_name(folder: Path) -> Iterator[Path]:
    """A name of a folder that libraries cannot mistake for a pattern or a URL: its own, or that of a link to it."""
    path = folder.absolute()
    if PLAIN.fullmatch(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as beside:
        link = Path(beside) / "checkpoint"
        link.symlink_to(path, target_is_directory=True)
        yield link


def file_sums(folder: Path, with_state: bool = True) -> dict[str, str]:
    """SHA-256 of every file beneath a folder, by its path in it; without those of the state if it is not needed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    names = [path.relative_to(folder).as_posix() for path in files]
    names = [name for name in names if with_state or not is_state(name)]
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: file_sum(folder / name), names), strict=True))


def is_state(name: str) -> bool:
    """Whether a file of a checkpoint belongs to the state, and so to the replay."""
    return name.startswith(f"{STATE}/")


def file_sum(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_text(sums: Mapping[str, str]) -> str:
    """Sums as the lines that `sha256sum --check` reads."""
    return "".join(f"{found}  {name}\n" for name, found in sums.items())


def check_sums(folder: Path, with_state: bool) -> None:
    """Raises `DamagedCheckpoint` if a file of a checkpoint is not what was written."""
    path = folder / SUMS
    if not path.is_file() and (folder / OLD_MARK).is_file():
        # Of before there were sums.
        return
    try:
        lines = [line.split("  ", 1) for line in path.read_text().splitlines()]
        noted = {name: found for found, name in lines if with_state or not is_state(name)}
        found = file_sums(folder, with_state)
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"{SUMS} of checkpoint {folder.name} cannot be read ({one_line(error)})") from error
    for name in sorted({*noted, *found}):
        if noted.get(name) != found.get(name):
            what = "is missing" if name not in found else "is not the file that was saved"
            raise DamagedCheckpoint(f"{name} of checkpoint {folder.name} {what}")


def check_same(read: Checkpoint, saved: Checkpoint) -> None:
    """Raises `OSError` if policy or progress do not read back as they were saved."""
    same = read.progress == json.loads(json.dumps(saved.progress)) and all(
        np.array_equal(np.asarray(leaf), read.policy[which][name], equal_nan=True)
        for which, params in saved.policy.items()
        for name, leaf in params.items()
    )
    if not same:
        raise OSError("the checkpoint does not come back as it was written")


def remove_unfinished(folder: Path) -> None:
    """Removes what a crash left of a checkpoint that was never committed, and of older ones."""
    for left in folder.glob(f"*{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    for step in saved_steps(folder)[:-1]:
        shutil.rmtree(folder / str(step), ignore_errors=True)


def saved_steps(folder: Path) -> list[int]:
    """Iterations at the complete checkpoints of a folder, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())


def latest_step(folder: Path) -> int | None:
    """Iterations at the newest complete checkpoint of a folder, None if there is none."""
    return max(saved_steps(folder), default=None)


def load_checkpoint(folder: Path, with_state: bool = True) -> Checkpoint:
    """Reads the newest complete checkpoint.

    Args:
      folder: the folder of checkpoints.
      with_state: False leaves the state, and so the replay, unread.

    Raises:
      DamagedCheckpoint: if there is none, or it is not what was saved.
    """
    step = latest_step(folder)
    if step is None:
        raise DamagedCheckpoint("there is no whole checkpoint")
    return read_checkpoint(folder / str(step), step, with_state)


def read_checkpoint(folder: Path, step: int, with_state: bool) -> Checkpoint:
    """Reads one checkpoint. Raises `DamagedCheckpoint` if it is not what was saved."""
    # On use: see above.
    import orbax.checkpoint as ocp

    check_sums(folder, with_state)
    try:
        with plain_name(folder) as plain, ocp.PyTreeCheckpointer() as reader:
            state = dict(reader.restore(plain / STATE)) if with_state else {}
            policy = dict(reader.restore(plain / POLICY))
        progress = dict(json.loads((folder / PROGRESS / PROGRESS_FILE).read_text()))
        return Checkpoint(step, state, policy, progress)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"checkpoint {step} cannot be read ({one_line(error)})") from error
