"""A progress bar with the time left, on a terminal of any width or in a notebook's cell."""

import html
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

MOST_OFTEN = 0.25
"""Seconds between two changes of a notebook's cell."""
WIDEST, NARROWEST = 36, 8
"""Columns of a bar; a terminal that has no room for the narrowest gets none."""


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.1 h`."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.2g} {name}"
    return f"{seconds:.0f} s"


class Clock:
    """How long is left, from what was done since a moment."""

    def __init__(self, done: float = 0.0):
        """Starts; `done` was done before."""
        self.begin, self.first = time.perf_counter(), done

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.begin

    def left(self, done: float, total: float) -> float:
        """Seconds until `total` is done, at the speed since the start; infinite before anything is."""
        since = done - self.first
        return max(total - done, 0.0) * self.seconds / since if since > 0 else float("inf")


def left_text(seconds: float) -> str:
    """Seconds that are left, as text; empty where they are not known."""
    return "" if seconds == float("inf") else f"{duration(seconds)} left"


class Bar:
    """What is shown while something takes its time: a label, how much of it is done, and a line of text beneath."""

    def __init__(self, label: str):
        """Shows the label alone, with the seconds that go by."""
        self.label, self.text, self.left = label, "", ""
        self.share: float | None = None
        self.clock = Clock()

    def show(self, label: str, share: float | None = None, left: str = "", text: str | None = None) -> None:
        """Changes what is shown.

        Args:
          label: of what is going on.
          share: that is done, in [0, 1]; None where that is not known, and seconds are counted in its place.
          left: when it will be done.
          text: the line beneath; None leaves what is there.
        """
        if share is None and self.share is not None:
            self.clock = Clock()
        self.label, self.share, self.left = label, share, left
        self.text = self.text if text is None else text

    @property
    def head(self) -> str:
        """What stands beside the bar."""
        done = duration(self.clock.seconds) if self.share is None else f"{self.share:>4.0%}"
        return f"{done}  {self.left}".rstrip()

    def close(self) -> None:
        """Leaves what is shown."""


class TerminalBar(Bar):
    """On a terminal."""

    def __init__(self, label: str, console: Console | None = None):
        super().__init__(label)
        self.console = console or Console()
        self.live = Live(get_renderable=self.render, console=self.console, refresh_per_second=8)
        self.live.start()

    def render(self) -> Group:
        """The bar and the line beneath, as wide as there is room for."""
        label, head = Text(f"{self.label:>12}"), Text(self.head)
        room = self.console.width - label.cell_len - head.cell_len - 2
        if room < NARROWEST:
            return Group(Text(f"{self.label} {self.head}"), Text(self.text))
        row = Table.grid(padding=(0, 1))
        total, done = (None, 0.0) if self.share is None else (1.0, self.share)
        row.add_row(label, ProgressBar(total, done, width=min(room, WIDEST), pulse=self.share is None), head)
        return Group(row, Text(self.text))

    def close(self) -> None:
        """Leaves the bar and the line on the screen."""
        self.live.stop()


class NotebookBar(Bar):
    """In a cell of a notebook, which needs no further package for it."""

    def __init__(self, label: str):
        # Only a notebook has it.
        from IPython.display import HTML, display

        super().__init__(label)
        self.as_html, self.shown = HTML, 0.0
        self.handle: Any = display(self.as_html(self.markup()), display_id=True)

    def markup(self) -> str:
        """The bar as HTML."""
        value = "" if self.share is None else f' value="{self.share:.4f}"'
        line = f"{html.escape(self.label)} <progress max='1'{value}></progress> {html.escape(self.head)}"
        return f"{line}<br>{html.escape(self.text)}"

    def show(self, label: str, share: float | None = None, left: str = "", text: str | None = None) -> None:
        """See `Bar`; the cell changes a few times a second at most, and with every change of the label's first word."""
        before = self.label.split(" ")[0]
        super().show(label, share, left, text)
        now = time.perf_counter()
        if now - self.shown > MOST_OFTEN or label.split(" ")[0] != before:
            self.shown = now
            self.handle.update(self.as_html(self.markup()))

    def close(self) -> None:
        """Leaves the newest."""
        self.handle.update(self.as_html(self.markup()))


def make_bar(label: str) -> Bar | None:
    """The bar for where standard output goes; None where it is neither a terminal nor a notebook."""
    console = Console()
    if console.is_jupyter:
        return NotebookBar(label)
    return TerminalBar(label, console) if console.is_terminal else None
