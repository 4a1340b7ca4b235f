"""Verdicts of checks on a terminal: all in a table, then what to do about alarms and notes."""

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

STYLES = {"alarm": "bold red", "note": "yellow", "ok": "green"}


class Line(NamedTuple):
    """One verdict."""

    name: str
    severity: str
    """alarm, note, ok, or one of the words for what could not be judged."""
    value: str
    """What was found."""
    sentence: str
    """What is said below the table about an alarm or a note."""


def print_verdicts(console: Console, title: str, verdicts: Iterable[Line]) -> None:
    """Prints the table, the sentences, and how many alarms there are."""
    lines = list(verdicts)
    table = Table(title=title)
    for name in ("check", "verdict", "what was found"):
        table.add_column(name)
    for line in lines:
        table.add_row(line.name, f"[{STYLES.get(line.severity, 'dim')}]{line.severity}[/]", line.value)
    console.print(table)
    for line in lines:
        if line.severity in ("alarm", "note"):
            console.print(line.sentence, style=STYLES[line.severity], highlight=False)
    alarms = sum(line.severity == "alarm" for line in lines)
    console.print("no alarm" if alarms == 0 else f"{alarms} alarm{'s' * (alarms > 1)}")
