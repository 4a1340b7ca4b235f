"""Postpones garbage collection until a program has started."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def collect_later() -> Iterator[Callable[[], None]]:
    """Puts garbage collection off until the function that it gives is called, or until the end.

    Importing JAX and tracing a training loop make a million objects that stay, and Python would go through all of them
    again each time that they have grown by a quarter: a tenth of the time from the command to the first update.
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
