"""Progress display of a training run: a live table, or plain lines without a terminal, and the closing table."""

import sys
import time
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from purejaxdqn.runs.folder import Settings
from purejaxdqn.runs.runner import ChunkReport

LINES = 20
"""Plain lines of a whole run."""


def number(value: float | None, digits: int = 1) -> str:
    """A number as text; a dash if it is missing."""
    return "–" if value is None else f"{value:,.{digits}f}"


def small(value: float | None) -> str:
    """A number of any size in three digits."""
    return "–" if value is None else f"{value:.3g}"


def steps_text(count: float) -> str:
    """`1.5M`, `250k` or `900`."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(count) >= unit:
            return f"{count / unit:.4g}{name}"
    return f"{count:.0f}"


def describe(report: ChunkReport, evaluated: float | None) -> str:
    """The numbers of one chunk."""
    return (
        f"{steps_text(report.steps_per_second)} steps/s  return {number(report.episode_return)}  "
        f"eval {number(evaluated)}  loss {small(report.loss)}  Q {number(report.q_value)}  ε {report.epsilon:.3f}"
        + "".join(f"  {name} {small(value)}" for name, value in report.probed)
    )


class Silent:
    """Shows nothing."""

    def started(self, plan: Any, settings: Settings, env_steps: int, compile_seconds: float) -> None:
        """Does nothing."""

    def chunk(self, report: ChunkReport) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Lines(Silent):
    """An occasional line, for logs."""

    def __init__(self) -> None:
        self.total = 1
        self.last_mark = 0
        self.evaluated: float | None = None
        self.begin, self.first_step = time.perf_counter(), 0

    def started(self, plan: Any, settings: Settings, env_steps: int, compile_seconds: float) -> None:
        """Prints the run's layout."""
        self.total, self.first_step, self.begin = settings.config.total_steps, env_steps, time.perf_counter()
        self.last_mark = env_steps * LINES // self.total
        print(f"{plan.describe()}; compiled in {compile_seconds:.1f} s", flush=True)

    def chunk(self, report: ChunkReport) -> None:
        """A line for every twentieth of the run, and for the end."""
        self.evaluated = self.evaluated if report.eval_return is None else report.eval_return
        mark = report.env_steps * LINES // self.total
        if mark == self.last_mark and report.env_steps < self.total:
            return
        self.last_mark = mark
        done = max(report.env_steps - self.first_step, 1)
        left = (time.perf_counter() - self.begin) * max(self.total - report.env_steps, 0) / done
        steps = f"{steps_text(report.env_steps)}/{steps_text(self.total)}"
        print(f"{steps:>12}  {describe(report, self.evaluated)}  {left:.0f} s left", flush=True)


class Bar(Silent):
    """A progress bar with the time left, and the newest numbers beneath it: without a probe's both fit 80 columns."""

    def __init__(self) -> None:
        self.evaluated: float | None = None
        self.total = 1
        self.progress = Progress(
            TextColumn("{task.fields[steps]:>12}"),
            BarColumn(bar_width=36),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task("train", total=None, steps="compiling")
        self.numbers = Text()
        self.live = Live(Group(self.progress, self.numbers), console=Console(), refresh_per_second=8)
        self.live.start()

    def started(self, plan: Any, settings: Settings, env_steps: int, compile_seconds: float) -> None:
        """Prints the run's layout and starts the bar."""
        self.total = settings.config.total_steps
        self.live.console.print(f"{plan.describe()}; compiled in {compile_seconds:.1f} s", highlight=False)
        self.progress.update(self.task, total=self.total, completed=env_steps, steps=steps_text(env_steps))

    def chunk(self, report: ChunkReport) -> None:
        """Moves the bar."""
        self.evaluated = self.evaluated if report.eval_return is None else report.eval_return
        steps = f"{steps_text(report.env_steps)}/{steps_text(self.total)}"
        self.progress.update(self.task, completed=min(report.env_steps, self.total), steps=steps)
        self.numbers.plain = describe(report, self.evaluated)

    def close(self) -> None:
        """Closes the bar and leaves it and the numbers on the screen."""
        self.live.stop()


def make_display(quiet: bool) -> Silent:
    """The display for where standard output goes."""
    if quiet:
        return Silent()
    return Bar() if sys.stdout.isatty() else Lines()


def closing_table(summary: dict[str, Any], solved_at: float | None) -> Table:
    """Results of a run: a row for each seed (of the first ten) and one for all."""
    evaluation = summary["evaluation"]
    episodes = evaluation[0]["episodes"]
    how = f"greedy return over {episodes} episodes"
    if summary["eval_epsilon"] > 0.0:
        how = f"return with ε = {summary['eval_epsilon']:g} over {episodes} episodes"
    table = Table(title=f"{summary['env']}: {how if episodes else 'return of the newest 100 episodes of training'}")
    for name in ("seed", "last", "best", "best at step"):
        table.add_column(name, justify="right")
    shown = evaluation[:10]
    for entry in shown:
        table.add_row(
            str(entry["seed"]),
            f"{number(entry['last_mean_return'])} ± {number(entry['last_stderr'])}",
            f"{number(entry['best_mean_return'])} ± {number(entry['best_stderr'])}",
            steps_text(entry["best_env_steps"]),
        )
    if len(evaluation) > len(shown):
        table.add_row("…", f"{len(evaluation) - len(shown)} more", "", "in summary.json")
    last = np.array([entry["last_mean_return"] for entry in evaluation], float)
    best = np.array([entry["best_mean_return"] for entry in evaluation], float)
    if len(evaluation) > 1:
        table.add_section()
        # Of the seeds that have a score: one that diverged has none.
        means = [number(float(np.nanmean(scores))) if np.isfinite(scores).any() else "–" for scores in (last, best)]
        table.add_row("mean", *means, "")
    if solved_at is not None:
        counts = [f"{int((scores >= solved_at).sum())} of {len(scores)}" for scores in (last, best)]
        table.add_row(f"≥ {solved_at:g}", *counts, "")
    return table


def speed_line(summary: dict[str, Any]) -> str:
    """How long a run took."""
    return (
        f"{steps_text(summary['env_steps_per_seed'])} steps a seed in {summary['run_seconds']:.1f} s, "
        f"{steps_text(summary['steps_per_second'])} steps/s; compiled in {summary['compile_seconds']:.1f} s"
    )
