"""Reads a sweep folder for a report: sweep.json, curves.npz, lanes.npz and summary.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.config import require
from purejaxdqn.pictures.plots import step_label
from purejaxdqn.report.contents import (
    Populations,
    Score,
    Setting,
    Sweep,
    common_facts,
    damaged,
    flat_fields,
    plain_value,
    read_json,
    short_text,
)
from purejaxdqn.runs import sweep_folder
from purejaxdqn.runs.sweep_folder import (
    CURVES,
    LANES,
    POPULATION,
    POPULATION_COLUMNS,
    SCORE_COLUMNS,
    SUMMARY,
    SWEEP,
    scores_of,
)

CURVES_NEEDED = ("setting", "seed", "env_steps", "episode_return", "eval_return")
LANES_NEEDED = ("setting", "seed", "env_steps", "dropped_at", "diverged")
NEEDED = ("settings", "varied", "seeds", "env", "total_steps")


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (folder / SWEEP).is_file()


def read_sweep(folder: Path, by: Score | None = None) -> Sweep:
    """Reads what a report shows of a sweep.

    Args:
      folder: of a finished sweep.
      by: the score of its lanes; by default the one that it was ranked by.

    Raises:
      SettingError: if a file is missing or damaged.
    """
    for name in (SUMMARY, CURVES, LANES):
        remedy = f"it holds no {name}: the sweep has not come to its end, so resume it first"
        require((folder / name).is_file(), "folders", str(folder), remedy)
    data, summary = sweep_folder.read_sweep(folder, "folders"), read_json(folder, SUMMARY)
    score: Score = by or summary.get("ranked_by", "last")
    curves = read_table(folder, CURVES, CURVES_NEEDED)
    lanes = read_table(folder, LANES, (*LANES_NEEDED, SCORE_COLUMNS[score]))
    try:
        return assemble(folder, data, summary, curves, lanes, score)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder, f"{SWEEP} or {SUMMARY}", error) from error


def read_table(folder: Path, name: str, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of one length. Raises `SettingError` if the file cannot be read or lacks one."""
    columns = sweep_folder.read_columns(folder / name, "folders")
    lacking = [column for column in needed if column not in columns]
    if lacking:
        raise damaged(folder, name, f"it has no column {lacking[0]}")
    if len({column.shape for column in columns.values()}) != 1 or next(iter(columns.values())).ndim != 1:
        raise damaged(folder, name, "its columns are not of one length")
    return columns


def assemble(
    folder: Path,
    data: Mapping[str, Any],
    summary: Mapping[str, Any],
    curves: Mapping[str, np.ndarray],
    lanes: Mapping[str, np.ndarray],
    score: Score,
) -> Sweep:
    """A sweep from its files, its settings in the order of the ranking."""
    lacking = [name for name in NEEDED if name not in data]
    if lacking:
        raise damaged(folder, SWEEP, f"it has no {lacking[0]}")
    known = {entry["setting"]: entry for entry in data["settings"]}
    ranking = tuple(sorted(summary["ranking"], key=lambda row: row["rank"]))
    unknown = {row["setting"] for row in ranking} ^ set(known)
    if unknown:
        raise damaged(folder, SUMMARY, f"setting {min(unknown)} is not in both it and {SWEEP}")
    scores = scores_of(lanes, score)
    settings = tuple(setting_of(known[row["setting"]], row["rank"], curves, lanes, scores) for row in ranking)
    values = tuple({k: plain_value(v) for k, v in known[row["setting"]]["values"].items()} for row in ranking)
    solved = data.get("solved_at")
    return Sweep(
        path=folder,
        env=str(data["env"]),
        solved_at=None if solved is None else float(solved),
        settings=settings,
        facts=facts_of(data, summary, lanes),
        score=score,
        varied=tuple(data["varied"]),
        values=values,
        ranking=ranking,
        lanes=lanes,
        halving=summary.get("halving"),
        populations=populations_of(folder, summary),
        definition=data.get("definition") or {},
    )


def populations_of(folder: Path, summary: Mapping[str, Any]) -> Populations | None:
    """A sweep's populations, None without."""
    members = summary.get("population")
    if members is None:
        return None
    return Populations(read_table(folder, POPULATION, tuple(POPULATION_COLUMNS)), members)


def setting_of(
    entry: Mapping[str, Any],
    rank: int,
    curves: Mapping[str, np.ndarray],
    lanes: Mapping[str, np.ndarray],
    scores: np.ndarray,
) -> Setting:
    """One setting's lanes and curves; a seed's row is the same in all of its arrays."""
    here = lanes["setting"] == entry["setting"]
    order = np.argsort(lanes["seed"][here], kind="stable")
    seeds = lanes["seed"][here][order]
    logged = np.flatnonzero(curves["setting"] == entry["setting"])
    steps, column = np.unique(curves["env_steps"][logged], return_inverse=True)
    if not np.isin(curves["seed"][logged], seeds).all():
        raise ValueError(f"{CURVES} has a seed of setting {entry['setting']} that {LANES} has not")
    row = np.searchsorted(seeds, curves["seed"][logged])
    tables = np.full((2, len(seeds), len(steps)), np.nan)
    for table, name in zip(tables, ("eval_return", "episode_return"), strict=True):
        table[row, column] = curves[name][logged]
    values = " · ".join(f"{name} {short_text(plain_value(value))}" for name, value in entry["values"].items())
    return Setting(
        name=f"#{rank} {values}",
        fields=({"algo": entry["values"]["algo"]} if "algo" in entry["values"] else {})
        | flat_fields(entry["config"], entry["hypers"]),
        seeds=tuple(map(int, seeds)),
        steps=steps.astype(np.float64),
        evaluation=tables[0],
        training=tables[1],
        scores=scores[here][order],
    )


def facts_of(data: Mapping[str, Any], summary: Mapping[str, Any], lanes: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The head of a sweep's page."""
    algo = "varied" if "algo" in data["varied"] else data.get("algo") or "the recipe's own"
    solved = data.get("solved_at")
    diverged = int(lanes["diverged"].sum())
    lost = f"; {diverged:,} diverged" if diverged else ""
    total = f", {step_label(summary['env_steps'])} in all" if summary.get("env_steps") else ""
    return {
        "environment": str(data["env"]) + (f" (solved at {solved:g})" if solved is not None else ""),
        "algorithm": f"{algo} (recipe {data.get('recipe', '–')})",
        "lanes": f"{len(lanes['setting']):,}: {len(data['settings']):,} settings, {len(data['seeds']):,} seeds{lost}",
        "environment steps": f"{step_label(data['total_steps'])} a lane{total}",
        **common_facts(data, summary),
    }
