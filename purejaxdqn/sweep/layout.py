"""How a sweep's lanes are divided: rungs of halving, programs that settings share, and units of work.

A unit is a set of lanes of one program that one process trains side by side, and the smallest part that is resumed. Its
lanes are fixed when the sweep starts; a lane's numbers do not depend on this division.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purejaxdqn.config import Config, require
from purejaxdqn.loops.plan import MEMORY_SHARE
from purejaxdqn.machine.devices import available_bytes
from purejaxdqn.statistics.intervals import iqm
from purejaxdqn.sweep.definition import Definition, Setting

LANES_PER_CORE = 16
"""Lanes that a core trains in turn: enough to make Python's share negligible, few enough to lose little work."""


class Group(NamedTuple):
    """Settings that share a program."""

    number: int
    config: Config
    settings: tuple[int, ...]
    lane_bytes: int
    """Memory of one lane's state."""
    unit_size: int
    """Maximum number of lanes that are trained side by side."""


class Rung(NamedTuple):
    """A part of the run, after which settings that trail are dropped."""

    share: float
    """Share of the run that is done at its end."""
    keep: int
    """Number of settings that continue after it."""


class Unit(NamedTuple):
    """Lanes that are trained side by side over one rung."""

    group: int
    rung: int
    number: int
    lanes: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"group-{self.group}-rung-{self.rung}-unit-{self.number}"


class Layout(NamedTuple):
    """The layout of a whole sweep."""

    groups: tuple[Group, ...]
    rungs: tuple[Rung, ...]
    settings: tuple[Setting, ...]
    """Those of a search that are not proposed yet have some values within its ranges."""
    seeds: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...]
    """Settings that are trained before the next ones are known: all, but of a search."""
    populations: bool = False
    """Whether the settings of a seed are a population, whose lanes stay together."""

    @property
    def num_lanes(self) -> int:
        """Settings times seeds."""
        return len(self.settings) * len(self.seeds)

    def setting_of(self, lane: int) -> Setting:
        """The setting of a lane: lanes are counted seed by seed, setting after setting."""
        return self.settings[lane // len(self.seeds)]

    def seed_of(self, lane: int) -> int:
        """The seed of a lane."""
        return self.seeds[lane % len(self.seeds)]

    def lanes_of(self, setting: int) -> range:
        """All lanes of a setting."""
        return range(setting * len(self.seeds), (setting + 1) * len(self.seeds))

    def units(self, rung: int, alive: Sequence[int], batch: int = 0) -> list[Unit]:
        """Units of a rung, for the settings of a batch that reached it."""
        units = []
        # Counted from the first lane of their batch, so that no two batches have a number in common.
        first = self.lanes_of(self.batches[batch][0])[0]
        for group in self.groups:
            lanes = [lane for setting in group.settings if setting in alive for lane in self.lanes_of(setting)]
            parts = self.cut(lanes, group.unit_size)
            units += [Unit(group.number, rung, first + index, part) for index, part in enumerate(parts)]
        return units

    def cut(self, lanes: Sequence[int], size: int) -> list[tuple[int, ...]]:
        """As few even parts as possible, of at most `size` lanes or one population."""
        if not self.populations:
            return even_parts(lanes, size)
        seeds = sorted({lane % len(self.seeds) for lane in lanes})
        parts = even_parts(seeds, max(1, size // len(self.settings)))
        return [tuple(lane for lane in lanes if lane % len(self.seeds) in part) for part in parts]

    def least(self, group: Group) -> int:
        """Fewest lanes of a group that can be trained side by side."""
        return len(group.settings) if self.populations else 1

    def iterations_at(self, group: Group, rung: int, chunk: int) -> int:
        """Iterations of a group's program at the end of a rung, whole chunks but for the last."""
        total = group.config.num_iterations
        if rung == len(self.rungs) - 1:
            return total
        return min(total, max(chunk, round(self.rungs[rung].share * total / chunk) * chunk))


def even_parts(lanes: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """As few parts of at most `size` as possible, with lengths that differ by at most one."""
    if not lanes:
        return []
    count = -(-len(lanes) // size)
    return [tuple(int(lane) for lane in part) for part in np.array_split(np.array(lanes), count)]


def make_rungs(options: Mapping[str, Any], num_settings: int) -> tuple[Rung, ...]:
    """One rung without halving; else as many as needed to get from all settings down to one, or to the end."""
    if not options["halving"]:
        return (Rung(1.0, num_settings),)
    factor, share = options["halving_factor"], options["halving_first"]
    require(num_settings >= 2, "halving", True, "there is one setting, and nothing to drop: give a flag several values")
    rungs, left = [], num_settings
    while share < 1.0 and left > 1:
        left = max(1, math.ceil(left / factor))
        rungs.append(Rung(share, left))
        share *= factor
    return (*rungs, Rung(1.0, left))


def survivors(rung: Rung, scores: Mapping[int, np.ndarray]) -> tuple[int, ...]:
    """The settings that continue: the best by interquartile mean over seeds, ties by mean, then the earlier one.

    Args:
      rung: that has ended.
      scores: of each setting's seeds; one that is NaN diverged and counts as the lowest of all.
    """
    known = [score for found in scores.values() for score in found if np.isfinite(score)]
    lowest = min(known, default=0.0)
    filled = {setting: np.where(np.isfinite(found), found, lowest) for setting, found in scores.items()}
    ranked = sorted(filled, key=lambda setting: (-iqm(filled[setting]), -filled[setting].mean(), setting))
    return tuple(sorted(ranked[: rung.keep]))


def group_settings(settings: Sequence[Setting]) -> dict[Config, tuple[int, ...]]:
    """Settings by the program that they share, in their order."""
    found: dict[Config, tuple[int, ...]] = {}
    for setting in settings:
        found[setting.config] = (*found.get(setting.config, ()), setting.number)
    return found


def unit_size(lane_bytes: int, num_devices: int, on_cpu: bool, per_block: int | None, share: int) -> int:
    """Lanes that are trained side by side.

    Args:
      lane_bytes: of one lane's state.
      num_devices: of this process.
      on_cpu: whether lanes of a core take turns; elsewhere they are one block, as large as the memory allows.
      per_block: requested by the user.
      share: lanes for each process, so that every process has a unit.

    Raises:
      SettingError: if not even one lane fits.
    """
    each = available_bytes() // (num_devices if on_cpu else 1)
    fit = int(MEMORY_SHARE * each // lane_bytes)
    remedy = (
        f"a lane takes {lane_bytes / 2**20:.0f} MB and a device has {each / 2**20:.0f} MB left: use a smaller buffer"
    )
    require(fit >= 1, "lanes_per_block", 1 if per_block is None else per_block, remedy)
    wanted = max(LANES_PER_CORE, per_block or 1) if on_cpu else per_block or fit
    return min(min(fit, wanted) * num_devices, -(-share // num_devices) * num_devices)


def total_steps(layout: Layout, alive: Sequence[Sequence[int]], chunks: Mapping[int, int]) -> int:
    """Environment steps of all lanes.

    Args:
      layout: of the sweep.
      alive: settings of each rung.
      chunks: iterations of a chunk, by group.
    """
    total = 0
    for group in layout.groups:
        config, chunk = group.config, chunks[group.number]
        for rung, settings in enumerate(alive):
            there = len(set(settings) & set(group.settings)) * len(layout.seeds)
            before = layout.iterations_at(group, rung - 1, chunk) if rung else 0
            iterations = layout.iterations_at(group, rung, chunk) - before
            prefill = 0 if rung else config.prefill_steps * config.num_envs
            total += there * (iterations * config.steps_per_iteration + prefill)
    return total


def make_layout(definition: Definition, settings: Sequence[Setting], groups: Sequence[Group]) -> Layout:
    """The layout of a sweep whose groups are known."""
    options, count = definition.options, len(settings)
    batches = even_parts(range(count), options["trials_at_once"] if options["search"] else count)
    rungs = make_rungs(options, count)
    return Layout(tuple(groups), rungs, tuple(settings), definition.seeds, tuple(batches), options["pbt"])
