"""Standard output that cannot stop a program: closed, full, without a reader, or in a limited encoding."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Forgiving:
    """A text stream on which a failed write loses only the text: from then on its output is discarded."""

    def __init__(self, stream: Any):
        """`stream` may be None, which is what Python has for one that was closed before it started."""
        self._stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115
        if hasattr(self._stream, "reconfigure"):
            # A character that the encoding lacks becomes a question mark.
            self._stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Writes if possible; returns the number of characters."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self.give_up()
        return len(text)

    def flush(self) -> None:
        """Flushes if possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.give_up()

    def give_up(self) -> None:
        """Discards everything from now on, including what Python flushes at exit."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        """Everything else is delegated to the stream."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Standard output and standard error that cannot stop the body."""
    for number in range(3):
        # A number that is free would be the next file's, and what is printed would end in that.
        with contextlib.suppress(OSError):
            _occupy(number)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Forgiving(sys.stdout), Forgiving(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _occupy(number: int) -> None:
    """Opens the null device under the number of a standard stream that is closed."""
    try:
        os.fstat(number)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
