"""A stopwatch that tells when a period has passed."""

import time


class Stopwatch:
    """How long ago something was last done."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether it is time to do it again; if so the next time is counted from now."""
        if time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True
