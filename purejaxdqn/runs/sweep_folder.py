"""The folder of a sweep: file names, and tables as columns in NumPy files, which pandas reads in one line:

`pandas.DataFrame(dict(numpy.load("curves.npz")))`
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.config import SettingError, one_line
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.runs.folder import require_file

FORMAT = 1
SWEEP, CURVES, LANES, SUMMARY = "sweep.json", "curves.npz", "lanes.npz", "summary.json"
BEST, POLICY, GIF, REPORT, UNITS = "best.toml", "policy.npz", "policy.gif", "report.html", "units"
POPULATION, STUDY = "population.npz", "study.log"

CURVE_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("lane", "setting", "seed", "env_steps", "updates", "episodes"), "int32"),
    **dict.fromkeys(("episode_return", "episode_length", "loss", "q_value", "abs_td_error", "grad_norm"), "float32"),
    **dict.fromkeys(("epsilon", "eval_return", "eval_stderr"), "float32"),
}
"""Columns of curves.npz: a row for each lane and logged chunk, NaN where a number is missing."""
LANE_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("lane", "setting", "seed", "env_steps", "dropped_at", "best_env_steps"), "int32"),
    **dict.fromkeys(("last_mean_return", "best_mean_return"), "float32"),
    "diverged": "bool",
}
"""Columns of lanes.npz: a row for each lane. `dropped_at` is the rung of halving after which it was dropped, -1 if it
was not; returns are of fresh episodes, NaN where the lane was dropped. The whole sweep's table has `area` too, the mean
of the lane's evaluations."""
SWEEP_COLUMNS = LANE_COLUMNS | {"area": "float32"}
POPULATION_COLUMNS = dict.fromkeys(("lane", "setting", "seed", "env_steps", "parent"), "int32") | {"score": "float32"}
SCORE_COLUMNS = {"last": "last_mean_return", "best": "best_mean_return", "area": "area"}
"""What a sweep is ranked by -> column of its lanes."""


def population_columns(fields: Sequence[str]) -> dict[str, str]:
    """Columns of population.npz: a row for each lane and generation, the start included.

    `setting` is the member, and `parent` the lane that it is a copy of from then on, itself for most; then come the
    hyperparameters explored, which it has from then on.
    """
    return POPULATION_COLUMNS | dict.fromkeys(fields, "float64")


def population_fields(columns: Mapping[str, Any]) -> list[str]:
    """The hyperparameters among the columns of population.npz."""
    return [name for name in columns if name not in POPULATION_COLUMNS]


def as_columns(columns: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Columns in their order and types."""
    return {name: np.asarray(columns[name]).astype(kind) for name, kind in kinds.items()}


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns of one length, beside and renamed into place."""
    held = io.BytesIO()
    np.savez_compressed(held, **columns)  # type: ignore[arg-type]
    write_atomically(path, held.getvalue())


def read_columns(path: Path, flag: str = "resume") -> dict[str, np.ndarray]:
    """The reverse of `write_columns`; nothing of the file is executed.

    Raises:
      SettingError: on `flag`, if the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:
        # zipfile and NumPy tell a damaged file by a dozen kinds of exceptions.
        raise SettingError(flag, str(path.parent), f"its {path.name} cannot be read ({one_line(error)})") from error


def join_columns(parts: Sequence[Mapping[str, np.ndarray]], kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Tables of the same columns, one under the other."""
    return {
        name: np.concatenate([np.zeros(0, kind), *(part[name] for part in parts)]).astype(kind)
        for name, kind in kinds.items()
    }


def sort_columns(columns: Mapping[str, np.ndarray], *keys: str) -> dict[str, np.ndarray]:
    """Rows in the order of some columns, the first one counting most."""
    order = np.lexsort([columns[key] for key in reversed(keys)])
    return {name: column[order] for name, column in columns.items()}


def scores_of(lanes: Mapping[str, np.ndarray], rank_by: str) -> np.ndarray:
    """Scores of all lanes, float64 [L], as a sweep ranks them.

    A lane that diverged has the lowest score of all, since leaving it out would flatter its setting; a dropped one has
    NaN.
    """
    found = lanes[SCORE_COLUMNS[rank_by]].astype(np.float64)
    known = found[np.isfinite(found)]
    ended = np.where(lanes["diverged"], np.min(known) if len(known) else 0.0, found)
    return np.where(lanes["dropped_at"] >= 0, np.nan, ended)


def read_sweep(folder: Path, flag: str = "resume") -> dict[str, Any]:
    """Reads sweep.json.

    Raises:
      SettingError: on `flag`, if the folder is missing, holds no sweep, or the file cannot be read.
    """
    path = folder / SWEEP
    require_file(path, flag, "sweep")
    try:
        data = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise SettingError(flag, str(folder), f"its format is {data['format']!r}, and this version reads {FORMAT}")
        return dict(data)
    except SettingError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = f"its {SWEEP} is damaged ({one_line(error)}); name a whole sweep"
        raise SettingError(flag, str(folder), remedy) from error
