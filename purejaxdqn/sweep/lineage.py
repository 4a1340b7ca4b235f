"""The results of populations: who copied whom, what hyperparameters members came to, and who is the best."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.config import flag_name
from purejaxdqn.runs.sweep_folder import (
    POPULATION,
    UNITS,
    join_columns,
    population_columns,
    population_fields,
    read_columns,
    scores_of,
    sort_columns,
    write_columns,
)
from purejaxdqn.sweep.definition import Setting, describe_values
from purejaxdqn.sweep.layout import Layout, Unit

Columns = Mapping[str, np.ndarray]


def merge_history(folder: Path, units: Sequence[Unit]) -> dict[str, np.ndarray]:
    """Writes the whole sweep's population.npz from those of its units, and returns it."""
    parts = [read_columns(folder / UNITS / unit.name / POPULATION) for unit in units]
    joined = join_columns(parts, population_columns(population_fields(parts[0])))
    history = sort_columns(joined, "seed", "env_steps", "lane")
    write_columns(folder / POPULATION, history)
    return history


def founders(history: Columns, seed: int) -> dict[int, int]:
    """For each lane of a population, the lane that it descends from at the start."""
    mine = history["seed"] == seed
    lanes, parents = history["lane"][mine], history["parent"][mine]
    found = {int(lane): int(lane) for lane in lanes}
    for step in np.unique(history["env_steps"][mine]):
        now = history["env_steps"][mine] == step
        found |= {int(lane): found[int(parent)] for lane, parent in zip(lanes[now], parents[now], strict=True)}
    return found


def values_of(history: Columns, lane: int) -> dict[str, float | int]:
    """The hyperparameters that a lane came to."""
    row = np.flatnonzero(history["lane"] == lane)[-1]
    return {name: history[name][row].item() for name in population_fields(history)}


def report(history: Columns, lanes: Columns, rank_by: str) -> list[dict[str, Any]]:
    """For each population its best member, by the sweep's scores, and what it came from; the best population first."""
    scores = scores_of(lanes, rank_by)
    entries = []
    for seed in np.unique(lanes["seed"]):
        mine = np.flatnonzero(lanes["seed"] == seed)
        best = mine[np.argmax(scores[mine])]
        lane, of_seed = int(lanes["lane"][best]), history["seed"] == seed
        ancestors = founders(history, int(seed))
        entries.append(
            {
                "seed": int(seed),
                "lane": lane,
                "setting": int(lanes["setting"][best]),
                "score": float(scores[best]),
                "values": values_of(history, lane),
                "descends_from": ancestors[lane],
                "copies": int((history["parent"][of_seed] != history["lane"][of_seed]).sum()),
                "founders_left": len(set(ancestors.values())),
            }
        )
    return sorted(entries, key=lambda entry: (-entry["score"], entry["seed"]))


def member_at_end(layout: Layout, entry: Mapping[str, Any]) -> Setting:
    """An entry of a report as a setting, with the hyperparameters that it came to."""
    setting = layout.setting_of(entry["lane"])
    kinds = {name: type(getattr(setting.hypers, name)) for name in entry["values"]}
    values = {name: kinds[name](value) for name, value in entry["values"].items()}
    return setting._replace(values=values, hypers=dataclasses.replace(setting.hypers, **values))


def describe_member(layout: Layout, entries: Sequence[Mapping[str, Any]], rank_by: str) -> str:
    """What the best member of all populations is, in words."""
    best, count = entries[0], len(entries)
    return (
        f"Best member of {count} population{'s' * (count > 1)} of {len(layout.settings)} by the {rank_by} scores: "
        f"{best['score']:.6g}, {flag_name('seed')} {best['seed']}; at the end of its run, on the way to which they "
        f"changed: {describe_values(best['values'])}."
    )
