"""Locks on folders: one process at a time writes in a folder, and a dead process holds no lock."""

import contextlib
import fcntl
import itertools
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from purejaxdqn.config import SettingError, require

LOCK = ".lock"
"""Lock file in a claimed folder; it is removed with the claim, and one that a kill left behind locks nothing."""

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""Start of a bucket's or a host's URL, which would otherwise silently be used as a path."""


@contextlib.contextmanager
def claim(folder: Path, flag: str, name: str = LOCK) -> Iterator[Path]:
    """Locks a folder against other writers for its body; the system releases the lock when the process ends.

    Args:
      folder: an existing folder.
      flag: the flag that named it.
      name: of the lock file; a folder can have several.

    Raises:
      SettingError: on `flag`, if another process holds it; the error names the process.
      OSError: if nothing can be written in the folder.
    """
    path = folder / name
    with contextlib.ExitStack() as files:
        while True:
            file = files.enter_context(open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                who = file.read().strip() or "another process"
                remedy = f"{who} is writing in it: wait for it, or choose another folder"
                raise SettingError(flag, str(folder), remedy) from error
            except OSError:
                # A file system without locks has no claims; better so than no runs.
                pass
            # Whoever had it before may have removed the file between the two calls above.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield folder
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def claim_new(out: str | None, default: str, held: str, what: str, name: str = LOCK) -> Iterator[Path]:
    """Creates the folder of a new run or sweep, and claims it.

    Args:
      out: requested folder; by default a new one, which no other process gets.
      default: name of the new folder; a number is added if it is taken.
      held: name of the file that marks a folder as taken.
      what: such a folder holds, for the error.
      name: of the lock file.

    Raises:
      SettingError: if the folder is not empty, or cannot be created.
    """
    shown = default if out is None else out
    require(out != "", "out", "''", "name a folder, or leave the flag out")
    require(not ADDRESS.match(shown), "out", shown, "it is an address: name a folder that this machine sees as one")
    with contextlib.ExitStack() as claims:
        try:
            folder = make_new(Path(default)) if out is None else Path(out)
            check_free(folder, held, what, name)
            folder.mkdir(parents=True, exist_ok=True)
            claims.enter_context(claim(folder, "out", name))
            # Another process may have come and gone.
            check_free(folder, held, what, name)
        except OSError as error:
            remedy = f"it cannot be made ({error.strerror}); choose another folder"
            raise SettingError("out", shown, remedy) from error
        yield folder


def make_new(folder: Path) -> Path:
    """Creates a new folder, under another name if this one exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        made = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            made.mkdir()
            return made
    raise AssertionError


def check_free(folder: Path, held: str, what: str, name: str) -> None:
    """Raises `SettingError` if a folder holds anything but a claim."""
    if not folder.exists():
        return
    remedy = f"it holds a {what} already: choose another folder, or go on with it by --resume"
    require(not (folder / held).exists(), "out", str(folder), remedy)
    occupied = any(path.name != name for path in folder.iterdir())
    require(not occupied, "out", str(folder), "the folder is not empty: choose a new one")
