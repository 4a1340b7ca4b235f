"""Requests to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP are recorded, so that a run can save its state and exit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Sent by a user, by a scheduler or container, and by a terminal that closes."""


class StopRequest:
    """Whether a signal has asked to stop, and which one did first."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in shells; that of Ctrl-C if there was no signal."""
        return 128 + (signal.SIGINT if self.signal is None else self.signal)

    def note(self, number: int, frame: Any = None) -> None:
        """Records a signal; a second Ctrl-C stops at once.

        Raises:
          KeyboardInterrupt: for SIGINT after another signal.
        """
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number if self.signal is None else self.signal


@contextmanager
def noting_stop_requests() -> Iterator[StopRequest]:
    """Records signals that ask to stop, and restores their previous handlers afterwards.

    Python allows signal handlers in the main thread only; in other threads nothing is recorded or changed.
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
