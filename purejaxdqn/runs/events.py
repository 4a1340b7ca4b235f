"""TensorBoard events, written by the training thread: a failing disk is an error, and never blocks.

tensorboardX's `SummaryWriter` passes events to its own thread through a queue of ten: if that thread dies because the
disk is full, adding an eleventh event blocks forever. Its file writer has no thread.
"""

import os
import time
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from purejaxdqn.machine.stopwatch import Stopwatch

FLUSHED_EVERY = 10.0
"""Seconds, at most, after which events are on the disk, as long as any are added."""


class Events:
    """A file of events."""

    def __init__(self, folder: Path, purge_step: int):
        """Creates a file.

        Args:
          folder: in which it is made.
          purge_step: step from which TensorBoard discards the events of earlier files in the folder.

        Raises:
          OSError: if it cannot be written; so do the other methods.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{time.monotonic_ns()}")
        self._watch = Stopwatch(FLUSHED_EVERY)
        self._add(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add_scalars(self, values: dict[str, float], step: int) -> None:
        """Adds numbers by tag, and from time to time flushes them to disk."""
        for tag, value in values.items():
            self._add(Event(step=step, summary=summary.scalar(tag, value)))
        if self._watch.due():
            self.flush()

    def add_picture(self, tag: str, picture: Any, step: int) -> None:
        """Adds a picture, uint8 [H, W, 3]."""
        self._add(Event(step=step, summary=summary.image(tag, picture, dataformats="HWC")))

    def flush(self) -> None:
        """Flushes everything to disk."""
        self._writer.flush()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)

    def close(self) -> None:
        """Flushes everything to disk and closes the file."""
        self._writer.close()
