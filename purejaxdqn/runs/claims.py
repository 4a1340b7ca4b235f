"""Claims on folders: one process at a time writes in a folder, and a dead one keeps nobody out."""

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
"""File in a folder that is claimed; it goes with the claim, and what a kill left of it keeps nobody out."""

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How an address of a bucket or a host begins, which a path would be made of in silence."""


@contextlib.contextmanager
def claim(folder: Path, flag: str, name: str = LOCK) -> Iterator[Path]:
    """Keeps others from writing in a folder meanwhile; the system lets go of it when the process ends, however it ends.

    Args:
      folder: to claim, which exists.
      flag: that named it.
      name: of the claim; a folder can have several.

    Raises:
      SettingError: on `flag`, where another process has it, with who it is.
      OSError: where nothing can be written in the folder.
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
    """Makes the folder of a new run or sweep, and claims it.

    Args:
      out: asked for; by default a new one, which no other process gets.
      default: name of that, to which a number is added where it is taken.
      held: the file by which a folder that is taken is known.
      what: it holds then, in a word.
      name: of the claim.

    Raises:
      SettingError: where it holds something already, or cannot be made.
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
    """Makes a folder that was not there, by another name where there is one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        made = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            made.mkdir()
            return made
    raise AssertionError


def check_free(folder: Path, held: str, what: str, name: str) -> None:
    """Raises `SettingError` where a folder holds anything but a claim."""
    if not folder.exists():
        return
    remedy = f"it holds a {what} already: choose another folder, or go on with it by --resume"
    require(not (folder / held).exists(), "out", str(folder), remedy)
    occupied = any(path.name != name for path in folder.iterdir())
    require(not occupied, "out", str(folder), "the folder is not empty: choose a new one")
