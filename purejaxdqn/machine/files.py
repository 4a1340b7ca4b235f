"""Files written under a temporary name and renamed, so that a crash leaves the old or the new file whole."""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CHECK = "check"
"""Name of the checksum among sealed values."""
UNFINISHED = ".tmp"
"""Suffix of a temporary file that is not renamed yet."""


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a temporary file and renames it, so that a reader, or a crash, sees the old or the new file whole."""
    with written_beside(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file to write to, which becomes `path` where nothing is raised, and is removed where something is."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def make_private(folder: Path) -> bool:
    """Creates a folder for this user alone, whatever the umask; False if others can change it or it cannot be created.

    Missing parent folders are created too.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # Not of what a link points to: who made the link chose it.
        status = os.lstat(folder)
        return stat.S_ISDIR(status.st_mode) and is_private(status) and os.access(folder, os.W_OK)
    except OSError:
        return False


def is_private(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, and no other user can change it."""
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def read_private(path: Path) -> bytes:
    """Bytes of a file that only this user can have written.

    Raises:
      OSError: if it, or its folder, is a link, another user's, or can be changed by others; or if it cannot be read.
    """
    if not (stat.S_ISDIR(os.lstat(path.parent).st_mode) and is_private(os.lstat(path.parent))):
        raise PermissionError(f"{path.parent} is not this user's alone")
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        status = os.fstat(file.fileno())
        if not (stat.S_ISREG(status.st_mode) and is_private(status)):
            raise PermissionError(f"{path} is not this user's alone")
        return file.read()


def remove_unfinished(folder: Path) -> None:
    """Removes temporary files that a crash left behind."""
    for left in folder.glob(f".*{UNFINISHED}"):
        left.unlink(missing_ok=True)


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """JSON values with a checksum of them."""
    return data | {CHECK: checksum(data)}


def check_seal(data: dict[str, Any]) -> None:
    """Raises ValueError where values are not those that were sealed; without a seal (0.1 had none) nothing is known."""
    if CHECK in data and data[CHECK] != checksum({name: value for name, value in data.items() if name != CHECK}):
        raise ValueError("it is not what was written; settings are changed by flags")


def checksum(data: dict[str, Any]) -> str:
    """SHA-256 of JSON values, whatever the order of their names."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
