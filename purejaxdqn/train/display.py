"""Progress display of a training run: a live table, or plain lines without a terminal, and the closing table."""

from typing import Any

import numpy as np
from rich.table import Table

from purejaxdqn.machine.devices import used_bytes
from purejaxdqn.machine.progress import Bar, Clock, duration, left_text, make_bar
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


def memory_text() -> str:
    """Most memory that the run has taken."""
    return f"{used_bytes() / 2**20:,.0f} MB"


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

    def phase(self, name: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Lines(Silent):
    """An occasional line, for logs."""

    def __init__(self) -> None:
        self.total = 1
        self.last_mark = 0
        self.evaluated: float | None = None
        self.clock = Clock()

    def started(self, plan: Any, settings: Settings, env_steps: int, compile_seconds: float) -> None:
        """Prints the run's layout."""
        self.total, self.clock = settings.config.total_steps, Clock(env_steps)
        self.last_mark = env_steps * LINES // self.total
        print(f"{plan.describe()}; compiled in {compile_seconds:.1f} s", flush=True)

    def chunk(self, report: ChunkReport) -> None:
        """A line for every twentieth of the run, and for the end."""
        self.evaluated = self.evaluated if report.eval_return is None else report.eval_return
        mark = report.env_steps * LINES // self.total
        if mark == self.last_mark and report.env_steps < self.total:
            return
        self.last_mark = mark
        left = left_text(self.clock.left(report.env_steps, self.total))
        steps = f"{steps_text(report.env_steps)}/{steps_text(self.total)}"
        print(f"{steps:>12}  {describe(report, self.evaluated)}  {memory_text()}  {left}", flush=True)


class Live(Silent):
    """A bar with the time left, evaluations included, and the newest numbers beneath it: without a probe's both fit 80
    columns."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.evaluated: float | None = None
        self.steps, self.total, self.clock = 0, 1, Clock()
        self.evaluating = Clock()
        self.evaluation_seconds: float | None = None

    def started(self, plan: Any, settings: Settings, env_steps: int, compile_seconds: float) -> None:
        """Prints the run's layout and starts the bar."""
        self.steps, self.total, self.clock = env_steps, settings.config.total_steps, Clock(env_steps)
        print(f"{plan.describe()}; compiled in {compile_seconds:.1f} s", flush=True)
        self.draw(steps_text(env_steps))

    def chunk(self, report: ChunkReport) -> None:
        """Moves the bar."""
        self.evaluated = self.evaluated if report.eval_return is None else report.eval_return
        self.steps = min(report.env_steps, self.total)
        self.draw(self.label, f"{describe(report, self.evaluated)}  {memory_text()}")

    def phase(self, name: str) -> None:
        """An evaluation begins or ends; the last one's time is what the next one may take."""
        if name == "evaluating":
            self.evaluating = Clock()
            before = self.evaluation_seconds
            self.bar.show(name, left="" if before is None else f"of about {duration(before)}")
        else:
            self.evaluation_seconds = self.evaluating.seconds
            self.draw(self.label)

    @property
    def label(self) -> str:
        """Steps of all."""
        return f"{steps_text(self.steps)}/{steps_text(self.total)}"

    def draw(self, label: str, text: str | None = None) -> None:
        """Shows how far training has come."""
        self.bar.show(label, self.steps / self.total, left_text(self.clock.left(self.steps, self.total)), text)

    def close(self) -> None:
        """Leaves the bar and the numbers."""
        self.bar.close()


def make_display(quiet: bool) -> Silent:
    """The display for where standard output goes."""
    bar = None if quiet else make_bar("compiling")
    if bar is not None:
        return Live(bar)
    return Silent() if quiet else Lines()


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
