"""Trains the units of a sweep one after another, and keeps the results that the whole sweep needs."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from purejaxdqn.build import Parts
from purejaxdqn.config import SettingError
from purejaxdqn.envs.names import loop_of
from purejaxdqn.loops.device import Agent, make_agent
from purejaxdqn.loops.lanes import Lanes, make_lanes
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.machine.stopwatch import Stopwatch
from purejaxdqn.recipes.recipes import Recipe
from purejaxdqn.runs.claims import claim
from purejaxdqn.runs.folder import Settings
from purejaxdqn.runs.program_cache import compiler_of
from purejaxdqn.runs.sweep_folder import (
    CURVE_COLUMNS,
    CURVES,
    LANE_COLUMNS,
    LANES,
    POLICY,
    POPULATION,
    UNITS,
    as_columns,
    join_columns,
    population_columns,
    read_columns,
    write_columns,
)
from purejaxdqn.runs.training import Chunk, Training, open_lanes
from purejaxdqn.sweep import checkpoints as saved
from purejaxdqn.sweep.definition import Definition, settings_of
from purejaxdqn.sweep.gather import gather
from purejaxdqn.sweep.layout import Group, Layout, Unit
from purejaxdqn.sweep.outcome import best_place, newest_scores, out_of_memory, rows_of, with_scores
from purejaxdqn.sweep.population import Exchange, Populations, explored
from purejaxdqn.types import Hypers

DONE = LANES
"""The file that a finished unit has: it is written last."""
UNIT_COLUMNS = LANE_COLUMNS | {"score": "float32"}
"""Columns of a unit's lanes.npz: the score is the newest evaluation, by which halving chooses."""


class Interrupted(Exception):
    """Raised when a sweep was asked to stop and has saved its unit."""


def filled_up(lanes: Sequence[int], width: int) -> list[int]:
    """Lanes, padded with copies of them up to a width."""
    return [lanes[i % len(lanes)] for i in range(width)]


def rows_until(columns: Mapping[str, np.ndarray], env_steps: int) -> dict[str, np.ndarray]:
    """Rows of a table up to an environment step."""
    before = columns["env_steps"] <= env_steps
    return {name: column[before] for name, column in columns.items()}


class Engine:
    """What a process needs to train units: programs, compiled once each, and the sweep's folder."""

    def __init__(self, definition: Definition, recipe: Recipe, layout: Layout, folder: Path, minutes: float):
        """Nothing is compiled yet.

        Args:
          definition: of the sweep.
          recipe: that it starts from.
          layout: of its lanes.
          folder: of the sweep.
          minutes: of work that may be lost at most.
        """
        self.definition, self.recipe, self.layout, self.folder = definition, recipe, layout, folder
        self.watch = Stopwatch(60 * minutes)
        self.limits = {group.number: group.unit_size for group in layout.groups}
        """Most lanes that have been found to fit, by group."""
        self.agents: dict[int, Agent] = {}
        self.programs: dict[tuple[int, int], Lanes] = {}
        self.exchanges: dict[int, Exchange] = {}
        """Programs that copy members of populations, by the number of lanes."""
        self.compilations = 0
        self.compile_seconds = 0.0
        self.train_seconds, self.trained_steps = 0.0, 0
        self.on_chunk: Callable[[Training, Chunk, int], None] = lambda training, chunk, lanes: None
        self.stop_requested: Callable[[], bool] = lambda: False

    def group(self, unit: Unit) -> Group:
        """A unit's group."""
        return self.layout.groups[unit.group]

    def path(self, unit: Unit) -> Path:
        """A unit's folder."""
        return self.folder / UNITS / unit.name

    def is_done(self, unit: Unit) -> bool:
        """Whether a unit has been trained to the end of its rung."""
        return (self.path(unit) / DONE).is_file()

    def open(self, group: Group, width: int, seeds: tuple[int, ...]) -> tuple[Settings, Parts, Lanes]:
        """Settings of lanes, and the functions that all sets of this many lanes of a group share."""
        settings = settings_of(self.definition, self.recipe, group.config, seeds)
        if loop_of(group.config.env) == "host":
            self.compilations += 1
            return (settings, *open_lanes(settings, seeds))
        if group.number not in self.agents:
            self.agents[group.number] = make_agent(group.config)
        agent = self.agents[group.number]
        if (group.number, width) not in self.programs:
            self.compilations += 1
            plan, compiler = make_plan(agent, width, self.block(width)), compiler_of(group.config)
            lanes = make_lanes(agent, plan, settings.eval_episodes, settings.eval_max_steps, compiler)
            self.programs[group.number, width] = lanes
        return settings, agent.parts, self.programs[group.number, width]

    def block(self, width: int) -> int | None:
        """Lanes vmapped together, no more than there are; None uses the machine's default."""
        wanted = self.definition.options["lanes_per_block"]
        return None if wanted is None else min(wanted, -(-width // min(width, jax.local_device_count())))

    def make_training(self, group: Group, lanes: Sequence[int], width: int) -> Training:
        """Training of a group's lanes, padded to a width with copies whose results are ignored."""
        padded = filled_up(lanes, width)
        seeds = tuple(self.layout.seed_of(lane) for lane in padded)
        each = [self.layout.setting_of(lane).hypers.as_arrays() for lane in padded]
        hypers: Hypers = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *each)
        settings, parts, programs = self.open(group, width, seeds)
        return Training(settings, parts, programs, hypers)

    def run(self, unit: Unit, units: Sequence[Unit], previous: Sequence[Unit]) -> None:
        """Trains a unit from its current state to the end of its rung, and writes its results.

        Args:
          unit: to train.
          units: all of its rung.
          previous: units of the previous rung, which are done.

        Raises:
          Interrupted: if it was asked to stop; what was trained is saved.
          SettingError: if another process is training it, or not even one lane fits the memory.
        """
        folder = self.path(unit)
        folder.mkdir(parents=True, exist_ok=True)
        with claim(folder, "out"):
            # Units of one program are as wide as the widest of them, so that they share its compilation.
            width = max(len(other.lanes) for other in units if other.group == unit.group)
            self.finish(unit, self.run_lanes(unit, unit.lanes, width, previous, self.group(unit)))

    def chunk_iterations(self, group: Group) -> int:
        """Iterations of a group's chunks."""
        return settings_of(self.definition, self.recipe, group.config, self.layout.seeds).chunk_iterations

    def forget(self, units: Sequence[Unit]) -> None:
        """Removes checkpoints that the next rung no longer needs."""
        for unit in units:
            for folder in self.path(unit).glob("lanes-*"):
                saved.forget(folder)

    def run_lanes(
        self, unit: Unit, lanes: tuple[int, ...], width: int, previous: Sequence[Unit], group: Group
    ) -> list[Path]:
        """Trains lanes side by side, or half of them at a time if memory runs out; returns the folders of the parts."""
        limit, least = self.limits[unit.group], self.layout.least(group)
        if width > max(limit, least):
            return [
                path
                for part in self.layout.cut(lanes, limit)
                for path in self.run_lanes(unit, part, max(least, min(limit, width)), previous, group)
            ]
        folder = self.path(unit) / f"lanes-{lanes[0]}-{len(lanes)}"
        folder.mkdir(exist_ok=True)
        if (folder / DONE).is_file() or self.try_train(unit, lanes, width, previous, folder):
            return [folder]
        if width == least:
            what = "one lane needs" if least == 1 else f"a population of {least} lanes needs"
            remedy = f"{what} more memory than there is: use a smaller buffer or fewer environments"
            raise SettingError("lanes_per_block", least, remedy)
        # What did not fit is let go of before the half is tried.
        self.programs.pop((unit.group, width), None)
        self.limits[unit.group] = -(-width // 2)
        shutil.rmtree(folder, ignore_errors=True)
        return self.run_lanes(unit, lanes, width, previous, group)

    def try_train(self, unit: Unit, lanes: tuple[int, ...], width: int, previous: Sequence[Unit], folder: Path) -> bool:
        """Trains lanes; False if memory ran out."""
        try:
            self.train(unit, lanes, width, previous, folder)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def train(self, unit: Unit, lanes: tuple[int, ...], width: int, previous: Sequence[Unit], folder: Path) -> None:
        """Trains lanes to the end of the rung; afterwards the folder has their rows, and if they continue a
        checkpoint."""
        group, last_rung = self.group(unit), unit.rung == len(self.layout.rungs) - 1
        training = self.make_training(group, lanes, width)
        populations = self.populations(lanes)
        rows = self.start(training, unit, lanes, width, previous, folder, populations)
        self.compile_seconds += training.compile_seconds
        until = self.layout.iterations_at(group, unit.rung, training.chunk_iterations)
        while training.iterations < until and training.endings.running.any():
            chunk = training.advance(until)
            self.train_seconds += chunk.seconds
            self.trained_steps += (training.env_steps - chunk.before) * len(lanes)
            turn = populations is not None and populations.is_due(training, chunk.iterations)
            if turn or (training.iterations == until and not last_rung):
                chunk = with_scores(training, chunk)
            rows.append(rows_of(training, chunk, lanes, self.layout))
            if populations is not None and turn:
                populations.step(training, chunk.eval_return[: len(lanes)], chunk.eval_stderr[: len(lanes)])
            self.on_chunk(training, chunk, len(lanes))
            if self.stop_requested():
                self.save(training, rows, folder, populations)
                raise Interrupted
            if training.iterations < until and self.watch.due():
                self.save(training, rows, folder, populations)
        curves = join_columns(rows, CURVE_COLUMNS)
        write_columns(folder / CURVES, curves)
        if populations is not None:
            write_columns(folder / POPULATION, populations.history)
        if last_rung:
            saved.forget(folder)
        else:
            saved.save(folder, training.snapshot())
        self.write_lanes(training, lanes, curves, unit, folder)
        training.lanes.close()

    def populations(self, lanes: Sequence[int]) -> Populations | None:
        """The populations of lanes that are trained side by side; None in a sweep without."""
        if not self.layout.populations:
            return None
        return Populations(explored(self.definition.axes), self.definition.options, self.layout, lanes, self.exchanges)

    def start(
        self,
        training: Training,
        unit: Unit,
        lanes: tuple[int, ...],
        width: int,
        previous: Sequence[Unit],
        folder: Path,
        populations: Populations | None,
    ) -> list[dict[str, np.ndarray]]:
        """Restores lanes from their own checkpoint or from the end of the previous rung, or starts them afresh."""
        checkpoint = saved.load(folder)
        if checkpoint is not None:
            steps = training.steps_at(checkpoint.step)
            if populations is not None:
                populations.restore(training, rows_until(read_columns(folder / POPULATION), steps))
            training.go_back(checkpoint)
            return [rows_until(read_columns(folder / CURVES), steps)]
        if unit.rung == 0:
            training.begin()
            if populations is not None:
                populations.begin(training)
            return []
        training.go_back(gather(training, filled_up(lanes, width), self.saved_lanes(previous)))
        return []

    def saved_lanes(self, units: Sequence[Unit]) -> dict[int, tuple[Path, int]]:
        """Folder of the checkpoint of each lane of finished units, and the lane's index in it."""
        found = {}
        for unit in units:
            for folder in sorted(self.path(unit).glob("lanes-*")):
                for place, lane in enumerate(read_columns(folder / LANES)["lane"]):
                    found[int(lane)] = (folder, place)
        return found

    def save(
        self, training: Training, rows: list[dict[str, np.ndarray]], folder: Path, populations: Populations | None
    ) -> None:
        """Writes rows first, then the checkpoint that relies on them."""
        write_columns(folder / CURVES, join_columns(rows, CURVE_COLUMNS))
        if populations is not None:
            write_columns(folder / POPULATION, populations.history)
        saved.save(folder, training.snapshot())

    def write_lanes(
        self, training: Training, lanes: Sequence[int], curves: Mapping[str, np.ndarray], unit: Unit, folder: Path
    ) -> None:
        """Writes each lane's results, and the parameters of each setting's best lane; the table marks them as done."""
        assert training.best is not None
        count, last_rung = len(lanes), unit.rung == len(self.layout.rungs) - 1
        missing = np.full(count, np.nan)
        last, best = training.final_returns() if last_rung else (None, None)
        settings = [self.layout.setting_of(lane).number for lane in lanes]
        diverged = training.endings.diverged[:count]
        columns = {
            "lane": lanes,
            "setting": settings,
            "seed": training.settings.seeds[:count],
            "env_steps": np.where(training.endings.running, training.env_steps, training.endings.env_steps)[:count],
            "dropped_at": np.full(count, -1 if last_rung else unit.rung),
            "best_env_steps": training.best.env_steps[:count],
            "last_mean_return": missing if last is None else np.where(diverged, np.nan, last[:count].mean(axis=1)),
            "best_mean_return": missing if best is None else best[:count].mean(axis=1),
            "diverged": diverged,
            "score": newest_scores(training, lanes, curves),
        }
        if best is not None:
            scores = np.asarray(columns["best_mean_return"], float)
            every = [best_place(scores, settings, setting) for setting in sorted(set(settings))]
            # Of populations the best lane is kept, whatever member it is.
            chosen = list(range(count)) if self.layout.populations else every
            params = {name: leaf[chosen] for name, leaf in training.best.params.items()}
            write_columns(folder / POLICY, params | {"lane": np.array(lanes)[chosen], "score": scores[chosen]})
        write_columns(folder / LANES, as_columns(columns, UNIT_COLUMNS))

    def finish(self, unit: Unit, parts: Sequence[Path]) -> None:
        """Joins the parts of a unit; its own table of lanes, which says that it is done, comes last."""
        folder = self.path(unit)
        write_columns(folder / CURVES, join_columns([read_columns(part / CURVES) for part in parts], CURVE_COLUMNS))
        if self.layout.populations:
            kinds = population_columns([of.field for of in explored(self.definition.axes)])
            write_columns(folder / POPULATION, join_columns([read_columns(p / POPULATION) for p in parts], kinds))
        write_columns(folder / LANES, join_columns([read_columns(part / LANES) for part in parts], UNIT_COLUMNS))

    def scores(self, units: Sequence[Unit]) -> dict[int, np.ndarray]:
        """The newest evaluation of every lane of finished units, by setting, [seeds]; NaN where it diverged."""
        lanes = join_columns([read_columns(self.path(unit) / LANES) for unit in units], UNIT_COLUMNS)
        found = sorted(set(lanes["setting"].tolist()))
        return {setting: lanes["score"][lanes["setting"] == setting] for setting in found}
