"""Postpones garbage collection until a program has started."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def collect_later() -> Iterator[Callable[[], None]]:
    """Postpones garbage collection until the returned function is called, or until the process ends.

    Importing JAX and tracing a training loop create a million long-lived objects, and Python would scan all of them
    again each time their number grows by a quarter: a tenth of the time from the command to the first update.
    """
    was_on = gc.isenabled()
    gc.disable()

    def collect_now() -> None:
        if was_on:
            gc.enable()

    try:
        yield collect_now
    finally:
        collect_now()
