"""Requests to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP are noted, so that what runs can save itself and end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Of a person, of a scheduler or container, and of a terminal that has gone."""


class StopRequest:
    """Whether a signal has asked to stop, and which one did first."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether one has."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it; that of Ctrl-C where there was none."""
        return 128 + (signal.SIGINT if self.signal is None else self.signal)

    def note(self, number: int, frame: Any = None) -> None:
        """Notes a signal; a second Ctrl-C is for somebody who does not want to wait.

        Raises:
          KeyboardInterrupt: for SIGINT after another signal.
        """
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number if self.signal is None else self.signal


@contextmanager
def noting_stop_requests() -> Iterator[StopRequest]:
    """Notes signals that ask to stop, and afterwards gives them back to whoever had them.

    Python lets only the main thread handle signals; in another one nothing is noted, and they are left alone.
    """
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # One that is ignored was meant to be: `nohup` ignores SIGHUP.
    noted = [number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, asked.note) for number in noted}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
