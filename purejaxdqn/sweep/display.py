"""Progress display of a sweep: its plan, a line or a bar on the way, and the ranking."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from purejaxdqn.machine.progress import Clock, left_text, make_bar
from purejaxdqn.sweep.definition import ENV_PARAMS
from purejaxdqn.sweep.layout import Layout
from purejaxdqn.train.display import memory_text, number, steps_text

LINES = 20
"""Plain lines of a whole sweep."""


def plan_lines(layout: Layout, widths: Mapping[int, int], devices: int, kind: str, processes: int) -> list[str]:
    """The layout of a sweep, in lines of text.

    Args:
      layout: of the sweep.
      widths: lanes that are trained side by side, by group.
      devices: of each process.
      kind: of the devices: cpu, gpu or tpu.
      processes: that share the work.
    """
    count, seeds = len(layout.settings), len(layout.seeds)
    what = f"{layout.num_lanes} lanes: {count} setting{'s' * (count > 1)} × {seeds} seed{'s' * (seeds > 1)}"
    programs = len(layout.groups)
    device = "core" if kind == "cpu" else kind.upper()
    there = f"{devices} {device}{'s' * (devices > 1)}" + (f" in each of {processes} processes" if processes > 1 else "")
    lines = [f"{what}, {programs} compilation{'s' * (programs > 1)}, on {there}"]
    for group in layout.groups:
        width = widths[group.number]
        lanes = len(group.settings) * seeds
        each = f"{group.lane_bytes / 2**20:.1f} MB a lane, {width * group.lane_bytes / 2**20:.0f} MB at a time"
        name = f"program {group.number}: " if programs > 1 else ""
        lines.append(f"{name}{lanes} lanes, {min(width, lanes)} side by side, {each}")
    if len(layout.batches) > 1:
        lines.append(f"{len(layout.batches[0])} settings are proposed at a time, {len(layout.batches)} times")
    if layout.populations:
        lines.append(f"{seeds} population{'s' * (seeds > 1)} of {count}")
    if len(layout.rungs) > 1:
        steps = ", ".join(f"{rung.keep} after {rung.share:.3g} of the run" for rung in layout.rungs[:-1])
        lines.append(f"halving keeps {steps}")
    return lines


class Progressing:
    """Progress of a sweep, in environment steps of all lanes."""

    def __init__(self, total: int, done: int, quiet: bool):
        """Starts counting.

        Args:
          total: environment steps of the whole sweep.
          done: environment steps of it that are already done.
          quiet: whether to print nothing.
        """
        self.total, self.done, self.quiet = max(total, 1), done, quiet
        self.clock = Clock(done)
        self.mark = done * LINES // self.total
        self.bar = None if quiet else make_bar("compiling")

    @property
    def speed(self) -> float:
        """Environment steps of all lanes per second, compilation and evaluation included."""
        return (self.done - self.clock.first) / max(self.clock.seconds, 1e-9)

    def advance(self, steps: int) -> None:
        """Counts environment steps."""
        self.done += steps
        said = f"{steps_text(self.done)}/{steps_text(self.total)}"
        speed = f"{steps_text(self.speed)} steps/s  {memory_text()}"
        left = left_text(self.clock.left(self.done, self.total))
        if self.bar is not None:
            self.bar.show(said, min(self.done / self.total, 1.0), left, speed)
            return
        mark = self.done * LINES // self.total
        if mark > self.mark and not self.quiet:
            print(f"{said:>20}  {speed}  {left}", flush=True)
        self.mark = mark

    def close(self) -> None:
        """Closes the bar and leaves it on the screen."""
        if self.bar is not None:
            self.bar.close()


def ranking_table(entries: Sequence[Mapping[str, Any]], what: str) -> Table:
    """The best settings of a sweep; what varies has a column each."""
    table = Table(title=what)
    varied = list(entries[0]["values"])
    for name in ("rank", *varied, "IQM", "95 % interval", "solved", "better than next"):
        table.add_column(name.removeprefix(ENV_PARAMS), justify="right")
    for entry in entries[:10]:
        interval, share = entry["iqm_interval_95"], entry["solved_share"]
        better = entry["probability_of_improvement"]
        gone = entry["dropped_at"] is not None
        values = [f"{value:g}" if isinstance(value, float) else str(value) for value in entry["values"].values()]
        table.add_row(
            str(entry["rank"]),
            *values,
            "dropped" if gone else number(entry["iqm"]),
            "" if gone or interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}",
            "–" if share is None else f"{share:.0%}",
            "–" if better is None else f"{better:.2f}",
        )
    if len(entries) > 10:
        table.add_row("…", *[""] * len(varied), f"{len(entries) - 10} more", "in summary.json", "", "")
    return table


def population_table(members: Sequence[Mapping[str, Any]], what: str) -> Table:
    """The best member of each population, with the hyperparameters that it came to."""
    table = Table(title=what)
    for name in ("seed", *members[0]["values"], "score", "copies", "founders left"):
        table.add_column(name, justify="right")
    for best in members[:10]:
        values = [f"{value:.4g}" for value in best["values"].values()]
        table.add_row(
            str(best["seed"]), *values, number(best["score"]), str(best["copies"]), str(best["founders_left"])
        )
    if len(members) > 10:
        blanks = [""] * len(members[0]["values"])
        table.add_row("…", *blanks, f"{len(members) - 10} more", "in summary.json", "")
    return table


def print_table(table: Table) -> None:
    """Prints to standard output."""
    Console().print(table)
