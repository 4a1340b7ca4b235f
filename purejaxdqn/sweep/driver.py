"""Drives a sweep: its folder, its rungs, the share of each process, and the end."""

import dataclasses
import datetime
import json
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from purejaxdqn.config import SettingError, one_line, require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.plan import state_bytes
from purejaxdqn.machine.commit import read_commit
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.machine.imports import imported
from purejaxdqn.recipes.recipes import Recipe
from purejaxdqn.runs.folder import finite, hardware, settings_from_json, settings_to_json, versions
from purejaxdqn.runs.sweep_folder import FORMAT, SUMMARY, SWEEP, UNITS
from purejaxdqn.runs.training import Chunk, Training
from purejaxdqn.sweep import results
from purejaxdqn.sweep.definition import Definition, Setting, settings_of, to_json
from purejaxdqn.sweep.engine import Engine, Interrupted
from purejaxdqn.sweep.layout import Group, Layout, Unit, group_settings, make_layout, survivors, total_steps, unit_size
from purejaxdqn.sweep.processes import Processes, wait_until
from purejaxdqn.sweep.values import Axis, Drawn

CALIBRATION_SECONDS = 0.5
"""How long a program is timed before a sweep begins."""


def make_groups(definition: Definition, settings: Sequence[Setting], processes: int) -> list[Group]:
    """Programs of a sweep, each with as many lanes side by side as this machine holds and the processes share.

    Raises:
      SettingError: if a program cannot be built, or if not even one lane fits.
    """
    devices, on_cpu = jax.local_device_count(), jax.default_backend() == "cpu"
    groups = []
    for number, (config, members) in enumerate(group_settings(settings).items()):
        remedy = "a sweep gives every run one device: leave it out"
        require(config.data_parallel == 1, "data_parallel", config.data_parallel, remedy)
        # An environment on the host has one lane to a process.
        lane_bytes, size = 0, 1
        if loop_of(config.env) == "device":
            lane_bytes = state_bytes(make_agent(config))
            share = -(-len(members) * len(definition.seeds) // processes)
            size = unit_size(lane_bytes, devices, on_cpu, definition.options["lanes_per_block"], share)
        groups.append(Group(number, config, members, lane_bytes, size))
    return groups


def to_file(definition: Definition, recipe: Recipe, layout: Layout, command: str) -> dict[str, Any]:
    """sweep.json's content: everything that is needed to resume."""
    varied = [axis.field for axis in definition.axes if axis.drawn is not None or len(axis.values) > 1]
    algos = {setting.algo for setting in layout.settings}
    settings = []
    for setting in layout.settings:
        run = settings_of(definition, recipe, setting.config, definition.seeds)
        full = dataclasses.replace(run, hypers=setting.hypers, algo=setting.algo)
        settings.append({"setting": setting.number, "values": setting.values, **settings_to_json(full)})
    return {
        "format": FORMAT,
        "definition": to_json(definition),
        "env": definition.env,
        "algo": algos.pop() if len(algos) == 1 else None,
        "recipe": recipe.name,
        "recipe_run": dict(recipe.run),
        "solved_at": recipe.solved_at,
        "seeds": list(definition.seeds),
        "total_steps": max(setting.config.total_steps for setting in layout.settings),
        "varied": varied,
        "settings": settings,
        "unit_sizes": [group.unit_size for group in layout.groups],
        "lane_bytes": [group.lane_bytes for group in layout.groups],
        "imports": imported(),
        "versions": versions(),
        "commit": read_commit(),
        "hardware": hardware(),
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def from_file(data: Mapping[str, Any], folder: Path) -> tuple[Definition, Recipe, Layout]:
    """The reverse of `to_file`.

    Raises:
      SettingError: if it is damaged.
    """
    try:
        said = data["definition"]
        axes = tuple(
            Axis(field, (), Drawn(**given)) if isinstance(given, dict) else Axis(field, tuple(given))
            for field, given in said["axes"].items()
        )
        definition = Definition(said["env"], said["recipe"], axes, dict(said["options"]))
        recipe = Recipe(data["recipe"], "", {"env": data["env"]}, {}, data["solved_at"], data["recipe_run"])
        settings = []
        for entry in data["settings"]:
            full = settings_from_json(entry)
            settings.append(Setting(entry["setting"], entry["values"], full.config, full.hypers, full.algo))
        found = group_settings(settings).items()
        sizes = zip(found, data["lane_bytes"], data["unit_sizes"], strict=True)
        groups = [Group(number, c, m, each, size) for number, ((c, m), each, size) in enumerate(sizes)]
        return definition, recipe, make_layout(definition, settings, groups)
    except (KeyError, TypeError, ValueError) as error:
        remedy = f"its {SWEEP} is damaged ({one_line(error)}); name a whole sweep"
        raise SettingError("resume", str(folder), remedy) from error


def save_sweep(folder: Path, data: Mapping[str, Any]) -> None:
    """Writes sweep.json."""
    write_atomically(folder / SWEEP, json.dumps(finite(dict(data)), indent=1, allow_nan=False) + "\n")


class Sweep:
    """A sweep whose folder exists. `run` continues from its current state."""

    def __init__(
        self,
        definition: Definition,
        recipe: Recipe,
        layout: Layout,
        folder: Path,
        minutes: float,
        processes: Processes,
    ):
        """Computes nothing yet; see `Engine` for the arguments."""
        self.definition, self.recipe, self.layout, self.folder = definition, recipe, layout, folder
        self.processes = processes
        self.engine = Engine(definition, recipe, layout, folder, minutes)
        self.alive: list[tuple[int, ...]] = [tuple(setting.number for setting in layout.settings)]
        """Settings of each rung, as far as it is known."""
        self.seconds = 0.0

    @property
    def full_steps(self) -> int:
        """Environment steps of all lanes if none is dropped."""
        everything = [self.alive[0]] * len(self.layout.rungs)
        return total_steps(self.layout, everything, self.chunks)

    @property
    def planned_steps(self) -> int:
        """Environment steps of all lanes, with those that halving will drop left out."""
        return planned(self.layout, self.alive, self.chunks)

    @property
    def chunks(self) -> dict[int, int]:
        """Iterations of a chunk, by group."""
        return {group.number: self.engine.chunk_iterations(group) for group in self.layout.groups}

    def units(self, rung: int) -> list[Unit]:
        """Units of a rung whose settings are known."""
        return self.layout.units(rung, self.alive[rung])

    def run(self, on_steps: Callable[[int], None], stop_requested: Callable[[], bool]) -> None:
        """Trains this process's units, rung after rung; afterwards all units of all processes are done.

        Args:
          on_steps: given the environment steps that were just made, of all lanes.
          stop_requested: asked after every chunk.

        Raises:
          Interrupted: if it was asked to stop; what was trained is saved.
          SettingError: if another process is using the folder.
        """
        engine = self.engine
        engine.stop_requested = stop_requested
        engine.on_chunk = lambda training, chunk, lanes: on_steps(steps_of(training, chunk, lanes))
        begin = time.perf_counter()
        previous: list[Unit] = []
        for rung in range(len(self.layout.rungs)):
            units = self.units(rung)
            for unit in self.processes.mine(units):
                if not engine.is_done(unit):
                    engine.run(unit, units, previous)
            self.wait_for(units, stop_requested)
            if is_finished(self.folder):
                # The process that joins the units needed no more of this one, and has cleared them away.
                return
            if rung + 1 < len(self.layout.rungs):
                self.alive.append(survivors(self.layout.rungs[rung], engine.scores(units)))
            if self.processes.number == 0:
                engine.forget(previous)
            previous = units
        self.seconds = time.perf_counter() - begin

    def wait_for(self, units: Sequence[Unit], stop_requested: Callable[[], bool]) -> None:
        """Waits for the units of other processes. Raises `Interrupted` if it was asked to stop."""
        if not wait_until(lambda: is_finished(self.folder) or all(map(self.engine.is_done, units)), stop_requested):
            raise Interrupted

    def finish(self, command: str, report: bool) -> dict[str, Any]:
        """Joins the results of all units, ranks the settings, and writes the sweep's final files."""
        units = [unit for rung in range(len(self.layout.rungs)) for unit in self.units(rung)]
        lanes = results.merge(self.folder, units)
        rank_by = self.definition.options["rank_by"]
        entries = results.ranking(self.layout, lanes, rank_by, self.recipe.solved_at)
        steps = int(lanes["env_steps"].astype("int64").sum())
        told = {
            "env": self.definition.env,
            "ranked_by": rank_by,
            "lanes": self.layout.num_lanes,
            "settings": len(self.layout.settings),
            "seeds": list(self.layout.seeds),
            "env_steps": steps,
            "run_seconds": round(self.seconds, 3),
            "compile_seconds": round(self.engine.compile_seconds, 3),
            "compilations": self.engine.compilations,
            "steps_per_second": round(self.engine.trained_steps / max(self.engine.train_seconds, 1e-9), 1),
            "processes": self.processes.total,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "halving": results.halving_report(self.layout, self.alive, steps, self.full_steps),
            "command": command,
        }
        best = entries[0]
        group = next(group for group in self.layout.groups if best["setting"] in group.settings)
        results.write_best(self.folder, self.definition, self.layout, self.recipe, best)
        if report:
            parts = self.engine.open(group, 1, (self.layout.seeds[0],))[1]
            params = results.keep_policy(self.folder, units, self.layout, parts, best["setting"])
            if params is not None:
                epsilon = self.definition.options["eval_epsilon"]
                on_host = loop_of(group.config.env) == "host"
                results.animate(self.folder, parts, params, self.layout.seeds[0], epsilon, on_host)
        summary = results.write_summary(self.folder, entries, told)
        shutil.rmtree(self.folder / UNITS, ignore_errors=True)
        return summary

    def estimate(self) -> dict[int, tuple[float, float]]:
        """For each program, from a brief measurement: seconds to compile, and for all its lanes without evaluations."""
        found = {}
        for group in self.layout.groups:
            lanes = [lane for setting in group.settings for lane in self.layout.lanes_of(setting)]
            count = -(-len(lanes) // group.unit_size)
            width = -(-len(lanes) // count)
            training = self.engine.make_training(group, lanes[:width], width)
            training.begin()
            each = seconds_per_iteration(training)
            found[group.number] = (training.compile_seconds, each * count * group.config.num_iterations)
            training.lanes.close()
        return found


def planned(layout: Layout, alive: Sequence[Sequence[int]], chunks: Mapping[int, int]) -> int:
    """Environment steps of all lanes; of rungs whose settings are not known yet, the best that halving could keep."""
    known = [list(settings) for settings in alive]
    while len(known) < len(layout.rungs):
        known.append(known[-1][: layout.rungs[len(known) - 1].keep])
    return total_steps(layout, known, chunks)


def steps_of(training: Training, chunk: Chunk, lanes: int) -> int:
    """Environment steps of a chunk of lanes, with their prefill if it is the first."""
    config = training.settings.config
    first = chunk.before == config.prefill_steps * config.num_envs
    return (training.env_steps - (0 if first else chunk.before)) * lanes


def seconds_per_iteration(training: Training) -> float:
    """Seconds for one iteration of all lanes of a started training, whose state is consumed."""
    count = 1
    while True:
        begin = time.perf_counter()
        training.state, metrics = training.lanes.iterate(training.state, training.hypers, count)
        jax.block_until_ready(metrics)
        seconds = time.perf_counter() - begin
        if seconds > CALIBRATION_SECONDS or count >= training.settings.config.num_iterations:
            return seconds / count
        count *= 4


def is_finished(folder: Path) -> bool:
    """Whether a sweep is finished."""
    return (folder / SUMMARY).is_file()
