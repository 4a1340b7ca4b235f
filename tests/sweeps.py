"""Folders of sweeps that nobody ran: random curves, always the same ones, in the format of real sweeps."""

import dataclasses
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.config import Config
from purejaxdqn.runs.sweep_folder import (
    CURVE_COLUMNS,
    CURVES,
    LANES,
    SWEEP_COLUMNS,
    as_columns,
    join_columns,
    write_columns,
)
from purejaxdqn.statistics.intervals import bootstrap_interval, iqm
from purejaxdqn.types import Hypers

VARIED = {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3), "gamma": (0.95, 0.99)}
"""Eight settings."""


def write_thousand_lanes(folder):
    """A random search of 250 settings over 4 seeds, 100 logged points each."""
    rng = np.random.default_rng(1)
    settings = [
        {
            "learning_rate": float(10.0 ** rng.uniform(-5, -2)),
            "gamma": float(rng.choice([0.9, 0.95, 0.99])),
            "target_period": int(rng.choice([10, 50, 100, 500])),
        }
        for _ in range(250)
    ]
    return write_sweep(folder, settings=settings, points=100)


def write_sweep(folder, varied=None, seeds=4, points=40, halving=False, settings=None, env="CartPole-v1"):
    """Writes a sweep's folder and returns it.

    Args:
      folder: made where it is not there.
      varied: values by field, of which every combination is a setting.
      seeds: lanes of each setting.
      points: logged chunks of a lane; every second one has an evaluation.
      halving: whether the worse half of the settings was dropped half way.
      settings: values by field for each setting, in place of `varied`.
      env: the environment's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    varied = VARIED if varied is None else varied
    chosen = settings or [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
    steps = np.arange(1, points + 1) * 1_000
    level = rng.uniform(60.0, 500.0, len(chosen))  # What a setting comes to.
    dropped = np.zeros(len(chosen), bool)
    if halving:
        dropped[np.argsort(level)[: len(chosen) // 2]] = True
    curves, lanes = [], []
    for lane, (setting, seed) in enumerate(product(range(len(chosen)), range(seeds))):
        count = points // 2 if dropped[setting] else points
        rise = 1.0 - np.exp(-4.0 * steps[:count] / steps[-1])
        returns = np.clip(10 + level[setting] * rise + rng.normal(0, 25, count), 9, 500)
        evaluated = np.where(np.arange(count) % 2 == 1, returns, np.nan)
        curves.append(curve_rows(lane, setting, seed, steps[:count], returns, evaluated))
        last = np.nan if dropped[setting] else np.clip(level[setting] + rng.normal(0, 20), 9, 500)
        lanes.append(
            (lane, setting, seed, steps[count - 1], 0 if dropped[setting] else -1, last, np.nanmean(evaluated))
        )
    write_columns(folder / CURVES, join_columns(curves, CURVE_COLUMNS))
    names = ("lane", "setting", "seed", "env_steps", "dropped_at", "last", "area")
    columns: dict[str, Any] = dict(zip(names, zip(*lanes, strict=True), strict=True))
    last, ended = np.asarray(columns.pop("last")), np.asarray(columns["env_steps"])
    others = {"last_mean_return": last, "best_mean_return": last + 1, "best_env_steps": ended, "diverged": 0 * ended}
    write_columns(folder / LANES, as_columns(columns | others, SWEEP_COLUMNS))
    write_jsons(folder, chosen, seeds, steps, columns | {"last": last}, env, halving)
    return folder


def curve_rows(lane, setting, seed, steps, returns, evaluated):
    """Columns of one lane in curves.npz."""
    count = len(steps)
    whole = {"lane": lane, "setting": setting, "seed": seed}
    numbers = {"episode_length": returns, "loss": 1.0, "q_value": returns / 10, "abs_td_error": 0.5, "grad_norm": 2.0}
    return {
        **{name: np.full(count, value, np.int32) for name, value in whole.items()},
        "env_steps": steps.astype(np.int32),
        "updates": (steps // 10).astype(np.int32),
        "episodes": np.full(count, 5, np.int32),
        "episode_return": (returns * 0.9).astype(np.float32),
        **{name: np.broadcast_to(np.float32(value), count) for name, value in numbers.items()},
        "epsilon": np.linspace(1.0, 0.05, count, dtype=np.float32),
        "eval_return": evaluated.astype(np.float32),
        "eval_stderr": np.where(np.isnan(evaluated), np.nan, 3.0).astype(np.float32),
    }


def write_jsons(folder: Path, chosen, seeds, steps, columns, env, halving):
    """sweep.json and summary.json."""
    config, hypers = Config(env=env, total_steps=int(steps[-1])), Hypers()
    names = list(dict.fromkeys(name for values in chosen for name in values))
    field_names = {field.name for field in dataclasses.fields(Config)}

    def whole(values):
        in_config = {name: value for name, value in values.items() if name in field_names}
        in_hypers = {name: value for name, value in values.items() if name not in field_names and name != "algo"}
        return {
            "config": dataclasses.asdict(config) | {"env_params": {}} | in_config,
            "hypers": {**vars(hypers), "max_grad_norm": "inf"} | in_hypers,
        }

    about = {
        "hardware": {"platform": "cpu", "device": "cpu", "num_devices": 2, "processor": "Some CPU", "cores": 2},
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "command": "python -m purejaxdqn.sweep --env CartPole-v1",
    }
    sweep = {
        "format": 1,
        "definition": {"grid": {name: sorted({v[name] for v in chosen}, key=str) for name in names}},
        "env": env,
        "algo": None,
        "recipe": "cartpole",
        "seeds": list(range(seeds)),
        "total_steps": int(steps[-1]),
        "varied": names,
        "settings": [{"setting": i, "values": values, **whole(values)} for i, values in enumerate(chosen)],
        "solved_at": 475.0,
        "created": "2026-11-21T12:00:00+00:00",
        **about,
    }
    setting, last, area = (np.asarray(columns[name], np.float64) for name in ("setting", "last", "area"))
    rows = [ranking_row(i, values, last[setting == i], area[setting == i]) for i, values in enumerate(chosen)]
    rows.sort(key=lambda row: (row["iqm"] is None, -(row["iqm"] or 0.0)))
    summary = {
        "lanes": len(last),
        "run_seconds": 123.4,
        "compile_seconds": 5.6,
        "compilations": 2,
        "env_steps": int(np.sum(columns["env_steps"])),
        "steps_per_second": 150_000.0,
        "peak_bytes": 2**30,
        "ranked_by": "last",
        "ranking": [row | {"rank": rank} for rank, row in enumerate(rows, 1)],
        "halving": {"rungs": [{"env_steps": int(steps[len(steps) // 2 - 1]), "lanes": len(last)}]} if halving else None,
        **about,
    }
    (folder / "sweep.json").write_text(json.dumps(sweep, allow_nan=False))
    (folder / "summary.json").write_text(json.dumps(summary, allow_nan=False))


def ranking_row(setting, values, last, area):
    """A setting in the summary's ranking, but for its rank."""
    solved = float((last >= 475).mean())
    if np.isnan(last).all():
        scores = dict.fromkeys(("iqm", "mean", "median", "solved_share"), None) | {"iqm_interval_95": None}
    else:
        scores = {
            "iqm": float(iqm(last)),
            "iqm_interval_95": [float(bound) for bound in bootstrap_interval(last)],
            "mean": float(last.mean()),
            "median": float(np.median(last)),
            "solved_share": solved,
        }
    return {
        "setting": setting,
        "values": values,
        "seeds": len(last),
        **scores,
        "area_iqm": float(iqm(area)),
        "area_interval_95": [float(bound) for bound in bootstrap_interval(area)],
        "solved_interval_95": [max(0.0, solved - 0.2), min(1.0, solved + 0.2)],
        "probability_of_improvement": 0.62,
        "probability_of_improvement_interval_95": [0.4, 0.8],
        "diverged": 0,
        "dropped_at": None if np.isfinite(last).any() else 0,
    }
