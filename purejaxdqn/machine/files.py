"""Files that are written beside and renamed into place, so that a crash leaves the old one or the new one whole."""

import os
import tempfile
from pathlib import Path

UNFINISHED = ".tmp"
"""Ending of a file that is not renamed yet."""


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes beside and renames, so that a reader, or a crash, sees the old file or the new one and nothing between."""
    raw = data.encode() if isinstance(data, str) else data
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes what a crash left of files that were never renamed into place."""
    for left in folder.glob(f".*{UNFINISHED}"):
        left.unlink(missing_ok=True)
