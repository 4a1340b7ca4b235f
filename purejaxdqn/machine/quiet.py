"""Keeps a library's background threads from printing tracebacks of a failure that we report in one sentence."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def say_nothing(*_: Any) -> None:
    """Ignores an exception that no code waits for."""


@contextmanager
def quiet_background() -> Iterator[None]:
    """Silences exceptions in threads and callbacks, and logging; after an exception of the body they stay silent.

    orbax writes a checkpoint by threads and an event loop. Where the disk is full, each of them prints a traceback, up
    to 323 lines, and some only after the caller has seen the error.
    """
    before = sys.excepthook, sys.unraisablehook, threading.excepthook, logging.root.manager.disable
    sys.excepthook = sys.unraisablehook = threading.excepthook = say_nothing
    logging.disable(logging.CRITICAL)
    yield
    sys.excepthook, sys.unraisablehook, threading.excepthook = before[:3]
    logging.disable(before[3])
