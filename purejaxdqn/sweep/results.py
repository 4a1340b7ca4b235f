"""The results of a whole sweep: its tables, its ranking, its best setting as a recipe, its best policy."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purejaxdqn.loops.lanes import lane_shapes
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.recipes.files import write_recipe
from purejaxdqn.recipes.recipes import Recipe
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.runs.folder import finite, hardware, versions
from purejaxdqn.runs.sweep_folder import (
    BEST,
    CURVE_COLUMNS,
    CURVES,
    GIF,
    LANES,
    POLICY,
    SUMMARY,
    SWEEP_COLUMNS,
    UNITS,
    as_columns,
    join_columns,
    read_columns,
    scores_of,
    sort_columns,
    write_columns,
)
from purejaxdqn.statistics.comparison import Estimate, rank, wilson
from purejaxdqn.statistics.intervals import bootstrap_interval, iqm
from purejaxdqn.sweep.definition import Definition, Setting, describe_values
from purejaxdqn.sweep.engine import UNIT_COLUMNS
from purejaxdqn.sweep.layout import Layout, Unit

Columns = dict[str, np.ndarray]


def join(folder: Path, units: Sequence[Unit]) -> tuple[Columns, Columns]:
    """The curves and the lanes of units, a row for each lane."""
    paths = [folder / UNITS / unit.name for unit in units]
    curves = join_columns([read_columns(path / CURVES) for path in paths], CURVE_COLUMNS)
    curves = sort_columns(curves, "lane", "env_steps")
    lanes = join_columns([read_columns(path / LANES) for path in paths], UNIT_COLUMNS)
    # Units come rung by rung: the last row of a lane is of the last rung that it reached.
    newest = {int(lane): row for row, lane in enumerate(lanes["lane"])}
    rows = [newest[lane] for lane in sorted(newest)]
    lanes = {name: column[rows] for name, column in lanes.items()}
    lanes["area"] = areas(curves, lanes["lane"])
    return curves, as_columns(lanes, SWEEP_COLUMNS)


def merge(folder: Path, units: Sequence[Unit]) -> Columns:
    """Writes the whole sweep's tables from those of its units, and returns that of its lanes."""
    curves, lanes = join(folder, units)
    write_columns(folder / CURVES, curves)
    write_columns(folder / LANES, lanes)
    return lanes


def areas(curves: Mapping[str, np.ndarray], lanes: np.ndarray) -> np.ndarray:
    """Mean of each lane's evaluations, NaN without one."""
    evaluated = np.isfinite(curves["eval_return"])
    place = np.searchsorted(lanes, curves["lane"][evaluated])
    total = np.bincount(place, curves["eval_return"][evaluated], minlength=len(lanes))
    count = np.bincount(place, minlength=len(lanes))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def ranking(layout: Layout, lanes: Columns, rank_by: str, solved_at: float | None) -> list[dict[str, Any]]:
    """Settings that reached the end, best first, and then those that were dropped, the latest first, then by area."""
    all_scores, of_settings = scores_of(lanes, rank_by), [lanes["setting"] == s.number for s in layout.settings]
    scores = [all_scores[mine] for mine in of_settings]
    dropped = [int(lanes["dropped_at"][mine].max(initial=-1)) for mine in of_settings]
    standing = rank(scores)
    order = list(zip(standing.order, standing.entries, strict=True))
    finished = [(number, entry) for number, entry in order if dropped[number] < 0]
    gone = [pair for pair in order if dropped[pair[0]] >= 0]
    centre = {number: area_of(lanes["area"][lanes["setting"] == number])["area_iqm"] or 0.0 for number, _ in gone}
    trailing = sorted(gone, key=lambda pair: (-dropped[pair[0]], -centre[pair[0]]))
    entries = []
    for place, (number, entry) in enumerate([*finished, *trailing], start=1):
        mine = of_settings[number]
        entries.append(
            {
                "rank": place,
                "setting": number,
                "values": layout.settings[number].values,
                "seeds": int(mine.sum()),
                "diverged": int(lanes["diverged"][mine].sum()),
                "dropped_at": dropped[number] if dropped[number] >= 0 else None,
                "iqm": entry.iqm.value,
                "iqm_interval_95": bounds(entry.iqm),
                "mean": entry.mean,
                "median": entry.median,
                **area_of(lanes["area"][mine].astype(float)),
                **solved(scores[number], solved_at if rank_by != "area" else None),
                "probability_of_improvement": None if entry.improvement is None else entry.improvement.value,
                "probability_of_improvement_interval_95": bounds(entry.improvement),
            }
        )
    return entries


def bounds(estimate: Estimate | None) -> list[float] | None:
    """An interval as JSON values."""
    return None if estimate is None else [float(estimate.low), float(estimate.high)]


def area_of(scores: np.ndarray) -> dict[str, Any]:
    """The area under a setting's evaluations."""
    present = scores[np.isfinite(scores)]
    if not len(present):
        return {"area_iqm": None, "area_interval_95": None}
    return {"area_iqm": float(iqm(present)), "area_interval_95": [float(end) for end in bootstrap_interval(present)]}


def solved(scores: np.ndarray, solved_at: float | None) -> dict[str, Any]:
    """Share of a setting's seeds that solve the task, with Wilson's interval."""
    present = scores[np.isfinite(scores)]
    if solved_at is None or not len(present):
        return {"solved_share": None, "solved_interval_95": None}
    count = int((present >= solved_at).sum())
    return {"solved_share": count / len(present), "solved_interval_95": list(wilson(count, len(present)))}


def halving_report(layout: Layout, alive: Sequence[Sequence[int]], steps: int, full: int) -> dict[str, Any] | None:
    """What halving did and saved; None without it."""
    if len(layout.rungs) == 1:
        return None
    return {
        "rungs": [
            {"share": rung.share, "settings": len(settings), "lanes": len(settings) * len(layout.seeds)}
            for rung, settings in zip(layout.rungs, alive, strict=True)
        ],
        "env_steps": steps,
        "env_steps_of_the_grid": full,
        "share_of_the_grid": steps / full,
    }


def describe_best(definition: Definition, layout: Layout, entry: Mapping[str, Any]) -> str:
    """What the best setting of a ranking is, in words."""
    setting = layout.settings[entry["setting"]]
    low, high = entry["iqm_interval_95"]
    return (
        f"Best of {len(layout.settings)} settings by the {definition.options['rank_by']} scores of {entry['seeds']} "
        f"seeds: interquartile mean {entry['iqm']:.6g} (95 % interval {low:.6g} to {high:.6g}); "
        f"{describe_values(setting.values)}."
    )


def write_best(folder: Path, definition: Definition, recipe: Recipe, setting: Setting, said: str) -> None:
    """The best setting as a recipe file, for `train --recipe`, with a description."""
    run = dict(recipe.run) | {name: definition.options[name] for name in ("eval_episodes", "eval_epsilon")}
    write_recipe(folder / BEST, f"sweep-{definition.env}", said, setting.config, setting.hypers, recipe.solved_at, run)


def keep_policy(folder: Path, units: Sequence[Unit], wanted: Collection[int], parts: Any) -> Any:
    """Writes the parameters of the best of some lanes to policy.npz and returns them; None if there are none."""
    found: list[tuple[float, int, Path, int]] = []
    for unit in units:
        for path in sorted((folder / UNITS / unit.name).glob(f"*/{POLICY}")):
            held = read_columns(path)
            for place, (lane, score) in enumerate(zip(held["lane"], held["score"], strict=True)):
                if int(lane) in wanted and np.isfinite(score):
                    found.append((float(score), -int(lane), path, place))
    if not found:
        return None
    _, lane, path, place = max(found)
    held = read_columns(path)
    flat = {name: leaf[place : place + 1] for name, leaf in held.items() if name not in ("lane", "score")}
    write_columns(folder / POLICY, flat | {"lane": np.array([-lane]), "score": held["score"][place : place + 1]})
    one_lane = jax.eval_shape(parts.network.init, jax.random.key(0))
    tree = ckpt.from_flat(flat, lane_shapes(one_lane, 1))
    return jax.tree.map(lambda leaf: leaf[0], tree)


def animate(folder: Path, parts: Any, params: Any, seed: int, epsilon: float, on_host: bool) -> None:
    """The animation of a policy."""
    # It brings Pillow, which nothing needs before the end.
    from purejaxdqn.runs.episode_video import write_gif, write_mp4

    write, name = (write_mp4, "policy.mp4") if on_host else (write_gif, GIF)
    write(parts, params, jax.random.key(seed), folder / name, epsilon)


def write_summary(folder: Path, entries: list[dict[str, Any]], told: Mapping[str, Any]) -> dict[str, Any]:
    """Writes summary.json, whose presence marks a sweep as finished."""
    summary = {**told, "ranking": entries, "hardware": hardware(), "versions": versions()}
    write_atomically(folder / SUMMARY, json.dumps(finite(summary), indent=2, allow_nan=False) + "\n")
    return summary
