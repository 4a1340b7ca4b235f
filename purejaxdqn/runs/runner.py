"""Trains a run chunk by chunk, and writes its tables, events, checkpoints and summary."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.config import require
from purejaxdqn.machine.files import remove_unfinished, write_atomically
from purejaxdqn.machine.stopwatch import Stopwatch
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.runs.events import Events
from purejaxdqn.runs.folder import CHECKPOINTS, EPISODES, EVENTS, METRICS, SUMMARY, Settings, finite, hardware, versions
from purejaxdqn.runs.hooks import NO_HOOKS, CallbackRaised, Hook, Hooks, Logged, Probe, asks_to_stop
from purejaxdqn.runs.records import (
    describe_returns,
    episode_rows,
    event_values,
    mean_of,
    metric_rows,
    note_scores,
)
from purejaxdqn.runs.tables import append_rows, describe_table, more_columns, old_table, saved_table, write_table
from purejaxdqn.runs.training import Chunk, Training, crosses, open_fitting

TABLES_KEY = "tables"
"""In a checkpoint's progress: what the tables were when it was made."""
SAVED_AT_MOST_EVERY = 120.0
"""Seconds between checkpoints of a run that has not been told when to make them."""


class Diverged(Exception):
    """A loss that is no finite number in every seed. Its text says which seed came last, and at which step."""


class Interrupted(Exception):
    """A run that was asked to stop and has saved itself."""

    def __init__(self, by: Hook | None = None):
        """`by` is the callback that asked; None for whoever runs the run."""
        super().__init__(by)
        self.by = by


class ChunkReport(NamedTuple):
    """Means over seeds of one chunk, for a display; None is a missing number."""

    env_steps: int
    """Environment steps of each seed so far."""
    steps_per_second: float
    """Environment steps of all seeds per second of training in this chunk."""
    episode_return: float | None
    loss: float | None
    q_value: float | None
    epsilon: float
    eval_return: float | None
    """Mean over seeds of the newest evaluation."""
    probed: tuple[tuple[str, float | None], ...] = ()
    """What a probe gave, by column."""


class Listener(Protocol):
    """What shows a run to somebody."""

    def started(self, plan: Any, settings: Settings, env_steps: int, compile_seconds: float) -> None: ...

    def chunk(self, report: ChunkReport) -> None: ...


class Run(Training):
    """One run and its folder. `train` goes on from wherever the state stands."""

    def __init__(self, settings: Settings, folder: Path, hooks: Hooks = NO_HOOKS):
        """Builds the functions; nothing is compiled, computed or written yet.

        Raises:
          SettingError: where the settings, or the probe, cannot work.
        """
        if hooks.probe is not None:
            settings = dataclasses.replace(settings, probe=hooks.probe.name)
        super().__init__(settings, *open_fitting(settings, settings.seeds))
        self.folder = folder
        self.watch = Stopwatch(SAVED_AT_MOST_EVERY)
        self.probe = None if hooks.probe is None else Probe(hooks.probe, self.lanes)
        self.callbacks = hooks.callbacks

    @property
    def probed(self) -> tuple[str, ...]:
        """Columns of the probe."""
        return () if self.probe is None else self.probe.columns

    @property
    def tables(self) -> dict[str, tuple[str, ...]]:
        """Files that every chunk adds rows to, and the columns of each that other runs' don't have."""
        return {METRICS: self.probed, **({EPISODES: ()} if self.settings.config.log_episodes else {})}

    def start(self) -> None:
        """Makes fresh states, compiles, and begins the tables."""
        self.begin()
        for name, more in self.tables.items():
            write_table(self.folder, name, [], more)

    def restore(self) -> None:
        """Goes back to the newest whole checkpoint, or to the beginning where there is none yet.

        Raises:
          DamagedCheckpoint: where it cannot be read.
          SettingError: where a table does not begin with the rows that the checkpoint counts on, or has not the
            columns of the probe.
        """
        folder = self.folder / CHECKPOINTS
        remove_unfinished(self.folder)
        ckpt.remove_unfinished(folder)
        if ckpt.latest_step(folder) is None:
            return self.start()
        saved = ckpt.load_checkpoint(folder)
        noted = saved.progress.get(TABLES_KEY)
        if noted is None:
            # Of before checkpoints knew their tables.
            kept = {name: old_table(self.folder, name, self.steps_at(saved.step)) for name in self.tables}
        else:
            kept = {name: saved_table(self.folder, name, noted[name]) for name in self.tables}
        self.check_columns(more_columns(kept[METRICS]))
        self.go_back(saved)
        for name, data in kept.items():
            write_atomically(self.folder / name, data)
        return None

    def check_columns(self, begun: tuple[str, ...]) -> None:
        """Raises `SettingError` where the probe's columns are not those with which metrics.csv was begun."""
        held, now = (", ".join(columns) or "no probe" for columns in (begun, self.probed))
        remedy = f"it gives {now}, and {METRICS} was begun with {held}: a run keeps its columns, so begin a new one"
        if self.probe is None:
            remedy = f"{METRICS} has columns of it ({held}), and a folder never imports by itself: add this flag"
        require(begun == self.probed, "probe", self.settings.probe, remedy)

    def train(
        self,
        listener: Listener,
        stop_requested: Callable[[], bool],
        on_evaluation: Callable[[], None] = lambda: None,
    ) -> None:
        """Goes on to the end of the run, chunk by chunk.

        Args:
          listener: told of the start and of every chunk.
          stop_requested: asked after every chunk.
          on_evaluation: called before the first chunk and after every evaluation; it may read the state.

        Raises:
          Interrupted: after `stop_requested`, or where a callback asks for it; the run is saved.
          CallbackRaised: where a callback raises; the run is saved.
          Diverged: where no seed has a finite loss any more; the last checkpoint stays as it is.
          OSError: where the folder cannot be written.
        """
        settings = self.settings
        listener.started(self.plan, settings, self.env_steps, self.compile_seconds)
        if self.iterations == 0:
            on_evaluation()
        with closing(Events(self.folder / EVENTS, self.env_steps)) as events:
            while not self.finished:
                chunk = self.advance()
                rows = self.write(chunk, events)
                listener.chunk(self.report(rows, chunk.iterations, chunk.seconds))
                if chunk.due.any():
                    on_evaluation()
                halt = self.halt(rows, stop_requested)
                if self.finished or halt is not None or self.save_is_due(chunk.before):
                    events.flush()
                    self.save()
                if halt is not None:
                    raise halt

    def halt(self, rows: list[dict[str, Any]], stop_requested: Callable[[], bool]) -> Exception | None:
        """Gives the callbacks a chunk's rows; what is to be raised, if anything, once the run is saved."""
        copies = tuple(dict(row) for row in rows)
        logged = Logged(self.folder, self.env_steps, self.updates, copies)
        try:
            asking = [hook for hook in self.callbacks if asks_to_stop(hook, logged)]
        except CallbackRaised as error:
            return error
        asked = stop_requested()
        if self.finished or not (asked or asking):
            return None
        return Interrupted(None if asked else asking[0])

    def write(self, chunk: Chunk, events: Events) -> list[dict[str, Any]]:
        """Writes a chunk to tables and events; the rows of metrics.csv of the lanes that ran.

        A lane that diverged in it has no row of it: where it went, no number tells.

        Raises:
          Diverged: where all have diverged, before anything is written.
        """
        settings = self.settings
        rows = metric_rows(chunk.metrics, settings.seeds, self.env_steps, self.updates)
        for row, score, error in zip(rows, chunk.eval_return, chunk.eval_stderr, strict=True):
            row["eval_return"], row["eval_stderr"] = (None if np.isnan(v) else float(v) for v in (score, error))
        if self.endings.diverged.all():
            last = int(np.argmax(self.endings.env_steps))
            self.check_environment(chunk, last)
            loss = f"the loss of seed {settings.seeds[last]} became {rows[last]['loss']}"
            raise Diverged(f"{loss} by environment step {self.env_steps}")
        if self.probe is not None:
            rows = [row | more for row, more in zip(rows, self.probe(self.state, chunk.metrics), strict=True)]
        sound = chunk.running & ~self.endings.diverged
        written = [row for row, runs in zip(rows, sound, strict=True) if runs]
        passed = self.passed_marks(chunk.before)
        if passed:
            note_scores(self.folder, settings, passed, self.env_steps, rows[0]["eval_return"])
        append_rows(self.folder, METRICS, written, self.probed)
        if settings.config.log_episodes:
            append_rows(self.folder, EPISODES, self.episode_rows(chunk, {row["seed"] for row in written}))
        events.add_scalars(event_values(written, self.probed), self.env_steps)
        # The very stack that the network is fed, wherever there was an evaluation.
        picture = self.lanes.watch(self.state) if rows[0]["eval_return"] is not None else None
        if picture is not None:
            events.add_picture("input/frames", picture, self.env_steps)
        return written

    def check_environment(self, chunk: Chunk, lane: int) -> None:
        """Raises `SettingError` where what became no finite number is the environment's and not the learner's."""
        env, episodes = (getattr(self.state, name, ()) for name in ("env", "episodes"))
        leaves = jax.tree.leaves((env, episodes, chunk.metrics.return_sum))
        numbers = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        sound = all(np.isfinite(np.asarray(leaf)[lane]).all() for leaf in numbers)
        remedy = f"its observations or rewards became no finite numbers by environment step {self.env_steps}"
        require(sound, "env", self.settings.config.env, f"{remedy}; see what it gives there")

    def episode_rows(self, chunk: Chunk, written: set[int]) -> list[dict[str, Any]]:
        """Rows of episodes.csv of the seeds that are written of."""
        seeds, config = self.settings.seeds, self.settings.config
        rows = episode_rows(chunk.metrics, seeds, chunk.episodes, config.num_envs, self.settings.total_episodes)
        return [row for row in rows if row["seed"] in written]

    def report(self, rows: list[dict[str, Any]], iterations: int, seconds: float) -> ChunkReport:
        """What a display needs of a chunk, from the rows that were written of it."""
        steps = iterations * self.settings.config.steps_per_iteration * len(self.settings.seeds)
        return ChunkReport(
            env_steps=self.env_steps,
            steps_per_second=steps / seconds,
            episode_return=mean_of(rows, "episode_return"),
            loss=mean_of(rows, "loss"),
            q_value=mean_of(rows, "q_value"),
            epsilon=rows[0]["epsilon"] if rows else 0.0,
            eval_return=mean_of(rows, "eval_return"),
            probed=tuple((column, mean_of(rows, column)) for column in self.probed),
        )

    def save_is_due(self, before: int) -> bool:
        """Whether a checkpoint is to be made after a chunk that began at an environment step."""
        every = self.settings.checkpoint_every
        if every is not None:
            return crosses(before, self.env_steps, every)
        # A tenth of a short run is soon trained again, and of a long one it is as much as anybody wants to lose.
        return crosses(before, self.env_steps, max(1, self.settings.config.total_steps // 10)) and self.watch.due()

    def save(self) -> None:
        """Saves everything that going on needs."""
        folder = self.folder / CHECKPOINTS
        if ckpt.latest_step(folder) == self.iterations:
            return
        taken = self.snapshot()
        sizes = {name: describe_table(self.folder, name) for name in self.tables}
        ckpt.save_checkpoint(folder, taken._replace(progress=taken.progress | {TABLES_KEY: sizes}))

    def summarize(self, command: str) -> dict[str, Any]:
        """Evaluates the last and the best parameters on fresh episodes and writes summary.json."""
        assert self.best is not None
        settings = self.settings
        last, best = self.final_returns()
        diverged = self.endings.diverged
        trained = self.iterations * settings.config.steps_per_iteration * len(settings.seeds)
        summary = {
            "env": settings.config.env,
            "recipe": settings.recipe,
            "algo": settings.algo,
            "seeds": list(settings.seeds),
            "eval_epsilon": settings.eval_epsilon,
            "env_steps_per_seed": self.env_steps,
            "updates_per_seed": self.updates,
            "compile_seconds": round(self.compile_seconds, 3),
            "run_seconds": round(self.run_seconds, 3),
            "steps_per_second": round(trained / max(self.run_seconds, 1e-9), 1),
            "evaluation": [
                {
                    "seed": seed,
                    "episodes": settings.eval_episodes,
                    **describe_returns("last", None if diverged[lane] else last, lane),
                    **describe_returns("best", None if self.best.score[lane] == -np.inf else best, lane),
                    "best_env_steps": int(self.best.env_steps[lane]),
                    "env_steps": int(self.endings.env_steps[lane]),
                    "training_episodes": int(self.endings.episodes[lane]),
                    "ended_by": self.endings.ended_by[lane],
                }
                for lane, seed in enumerate(settings.seeds)
            ],
            "plan": self.plan.describe(),
            "hardware": hardware(),
            "versions": versions(),
            "command": command,
        }
        write_atomically(self.folder / SUMMARY, json.dumps(finite(summary), indent=2, allow_nan=False) + "\n")
        return summary
