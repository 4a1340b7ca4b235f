"""Drives a sweep: its folder, its rungs, the share of each process, and the end."""

import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purejaxdqn.config import require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.plan import state_bytes
from purejaxdqn.recipes.recipes import Recipe
from purejaxdqn.runs.sweep_folder import SCORE_COLUMNS, SUMMARY, SWEEP, UNITS, read_sweep, scores_of
from purejaxdqn.runs.training import Chunk, Training
from purejaxdqn.sweep import lineage, results
from purejaxdqn.sweep.definition import Definition, Setting, settings_of
from purejaxdqn.sweep.engine import Engine, Interrupted
from purejaxdqn.sweep.layout import Group, Layout, Unit, group_settings, survivors, total_steps, unit_size
from purejaxdqn.sweep.population import check_populations
from purejaxdqn.sweep.processes import Processes, wait_until
from purejaxdqn.sweep.record import add_settings, all_settings
from purejaxdqn.sweep.search import Search, one_score

CALIBRATION_SECONDS = 0.5
"""How long a program is timed before a sweep begins."""


def make_groups(definition: Definition, recipe: Recipe, settings: Sequence[Setting], processes: int) -> list[Group]:
    """Programs of a sweep, each with as many lanes side by side as this machine holds and the processes share.

    Raises:
      SettingError: if a program cannot be built, or if not even one lane fits.
    """
    devices, on_cpu = jax.local_device_count(), jax.default_backend() == "cpu"
    options, seeds = definition.options, len(definition.seeds)
    groups = []
    if options["pbt"]:
        each = settings_of(definition, recipe, settings[0].config, definition.seeds)
        check_populations(definition.axes, each, len(settings))
    for number, (config, members) in enumerate(group_settings(settings).items()):
        remedy = "a sweep gives every run one device: leave it out"
        require(config.data_parallel == 1, "data_parallel", config.data_parallel, remedy)
        # An environment on the host has one lane to a process.
        lane_bytes, size = 0, 1
        if loop_of(config.env) == "device":
            lane_bytes = state_bytes(make_agent(config))
            together = min(len(members), options["trials_at_once"]) if options["search"] else len(members)
            share = -(-together * seeds // processes)
            size = unit_size(lane_bytes, devices, on_cpu, options["lanes_per_block"], share)
        if options["pbt"]:
            size = max(1, size // len(members)) * len(members)
        groups.append(Group(number, config, members, lane_bytes, size))
    return groups


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
        self.alive: list[tuple[int, ...]] = [() for _ in layout.rungs]
        """Settings that reached each rung, so far."""
        self.scores: list[dict[int, np.ndarray]] = [{} for _ in layout.rungs]
        """Of each rung the scores at its end, [seeds] by setting, so far."""
        self.units: list[Unit] = []
        """Those that are done."""
        self.search: Search | None = None
        self.seconds = 0.0

    @property
    def settings(self) -> tuple[int, ...]:
        """Numbers of all settings."""
        return tuple(setting.number for setting in self.layout.settings)

    @property
    def full_steps(self) -> int:
        """Environment steps of all lanes if none is dropped."""
        everything = [self.settings] * len(self.layout.rungs)
        return total_steps(self.layout, everything, self.chunks)

    @property
    def planned_steps(self) -> int:
        """Environment steps of all lanes, with those that halving will drop left out."""
        return planned(self.layout, self.settings, self.chunks)

    @property
    def chunks(self) -> dict[int, int]:
        """Iterations of a chunk, by group."""
        return {group.number: self.engine.chunk_iterations(group) for group in self.layout.groups}

    def run(self, on_steps: Callable[[int], None], stop_requested: Callable[[], bool]) -> None:
        """Trains this process's units, batch by batch and rung after rung; afterwards those of all processes are done.

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
        for batch, settings in enumerate(self.layout.batches):
            if self.definition.options["search"] is not None:
                self.propose(settings, stop_requested)
            if not self.run_batch(batch, settings, stop_requested):
                return
            if self.search is not None:
                self.tell(self.search, settings)
        self.seconds = time.perf_counter() - begin

    def run_batch(self, batch: int, settings: tuple[int, ...], stop_requested: Callable[[], bool]) -> bool:
        """Trains this process's units of a batch; False if the sweep has come to its end meanwhile."""
        engine, last = self.engine, len(self.layout.rungs) - 1
        previous: list[Unit] = []
        # All batches begin with as many lanes side by side, so that they share a program.
        first = self.layout.units(0, self.layout.batches[0])
        for rung in range(last + 1):
            units = self.layout.units(rung, settings, batch)
            for unit in self.processes.mine(units):
                if not engine.is_done(unit):
                    engine.run(unit, units if rung else first, previous)
            self.wait_for(units, stop_requested)
            if is_finished(self.folder):
                # The process that joins the units needed no more of this one, and has cleared them away.
                return False
            self.units += units
            self.alive[rung] += settings
            self.scores[rung] |= engine.scores(units)
            if rung < last:
                settings = self.survivors(rung, settings)
            if self.processes.number == 0:
                engine.forget(previous)
            previous = units
        return True

    def survivors(self, rung: int, settings: Sequence[int]) -> tuple[int, ...]:
        """Those of a batch that continue: as many of all that have reached the rung's end as halving keeps, by score.

        In a search no batch waits for those after it: asynchronous successive halving (Li et al. 2020,
        arXiv:1810.05934).
        """
        reached = self.scores[rung]
        keep = -(-len(reached) // self.definition.options["halving_factor"])
        kept = survivors(self.layout.rungs[rung]._replace(keep=keep), reached)
        return tuple(setting for setting in settings if setting in kept)

    def propose(self, settings: Sequence[int], stop_requested: Callable[[], bool]) -> None:
        """Gives a search's next settings their values: the first process asks, the others read what it wrote.

        Raises:
          Interrupted: if it was asked to stop.
          SettingError: if a sweep goes on, and this Optuna proposes other values than it did.
        """
        data, options = read_sweep(self.folder), self.definition.options
        if self.processes.number == 0:
            if self.search is None:
                self.search = Search(self.definition.axes, options["search"], options["draw_seed"], data["earlier"])
            values, known = self.search.ask(settings), data["settings"][settings[0] : settings[-1] + 1]
            if not known:
                data = add_settings(self.folder, data, self.definition, self.recipe, values)
            same = not known or [entry["values"] for entry in known] == values
            remedy = f"Optuna proposes other values than before: use the version that {SWEEP} names, or a new sweep"
            require(same, "resume", str(self.folder), remedy)

        def there() -> bool:
            nonlocal data
            data = read_sweep(self.folder)
            return len(data["settings"]) > settings[-1]

        if not wait_until(there, stop_requested):
            raise Interrupted
        self.layout = self.engine.layout = self.layout._replace(settings=tuple(all_settings(self.definition, data)))

    def tell(self, search: Search, settings: Sequence[int]) -> None:
        """Says what a batch came to, and writes the study."""
        _, lanes = results.join(self.folder, self.units)
        rank_by, group = self.definition.options["rank_by"], self.layout.groups[0]
        # As long as all have diverged, nothing is known, not even what is bad.
        known = np.isfinite(lanes[SCORE_COLUMNS[rank_by]]).any()
        scores = np.where(known, scores_of(lanes, rank_by), np.nan)
        for setting in settings:
            rungs = {}
            for rung, found in enumerate(self.scores[:-1]):
                score = one_score(found[setting]) if setting in found else None
                if score is not None:
                    rungs[self.layout.iterations_at(group, rung, self.chunks[group.number])] = score
            search.tell(setting, rungs, one_score(scores[lanes["setting"] == setting]))
        search.save(self.folder)

    def wait_for(self, units: Sequence[Unit], stop_requested: Callable[[], bool]) -> None:
        """Waits for the units of other processes. Raises `Interrupted` if it was asked to stop."""
        if not wait_until(lambda: is_finished(self.folder) or all(map(self.engine.is_done, units)), stop_requested):
            raise Interrupted

    def finish(self, command: str, report: bool) -> dict[str, Any]:
        """Joins the results of all units, ranks the settings, and writes the sweep's final files."""
        lanes = results.merge(self.folder, self.units)
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
            "population": None,
            "command": command,
        }
        best = entries[0]
        setting, wanted = self.layout.settings[best["setting"]], set(self.layout.lanes_of(best["setting"]))
        said = results.describe_best(self.definition, self.layout, best)
        if self.layout.populations:
            members = lineage.report(lineage.merge_history(self.folder, self.units), lanes, rank_by)
            setting, wanted = lineage.member_at_end(self.layout, members[0]), {members[0]["lane"]}
            said = lineage.describe_member(self.layout, members, rank_by)
            told["population"] = members
        group = next(group for group in self.layout.groups if setting.number in group.settings)
        results.write_best(self.folder, self.definition, self.recipe, setting, said)
        if report:
            parts = self.engine.open(group, 1, (self.layout.seeds[0],))[1]
            params = results.keep_policy(self.folder, self.units, wanted, parts)
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
            units = [u for u in self.layout.units(0, self.layout.batches[0]) if u.group == group.number]
            training = self.engine.make_training(group, units[0].lanes, len(units[0].lanes))
            training.begin()
            each = seconds_per_iteration(training) * len(units) * len(self.layout.batches)
            found[group.number] = (training.compile_seconds, each * group.config.num_iterations)
            training.lanes.close()
        return found


def planned(layout: Layout, settings: Sequence[int], chunks: Mapping[int, int]) -> int:
    """Environment steps of all lanes, with as many settings in each rung as halving keeps of those that are known."""
    known = [list(settings)]
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
