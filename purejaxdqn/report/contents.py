"""The contents of a report: runs and sweeps as plain values and arrays, whatever files they came from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from purejaxdqn.config import SettingError, one_line
from purejaxdqn.pictures.plots import step_label

Score = Literal["last", "best", "area"]
SCORE_NAMES: Mapping[Score, str] = {
    "last": "final return",
    "best": "return of the best parameters",
    "area": "mean return of the evaluations",
}
"""What a score is: of the last parameters, of the best ones (both on fresh episodes), or of all evaluations."""


class Populations(NamedTuple):
    """What a sweep's folder has of its populations."""

    history: Mapping[str, np.ndarray]
    """Columns of population.npz."""
    members: Sequence[Mapping[str, Any]]
    """The best member of each population, the best population first, as summary.json has them."""


class Setting(NamedTuple):
    """One setting over its N seeds: a run, or a setting of a sweep."""

    name: str
    fields: Mapping[str, Any]
    """Every field of `Config` and `Hypers`."""
    seeds: tuple[int, ...]
    steps: np.ndarray
    """Environment steps of a seed at each logged chunk, [T]."""
    evaluation: np.ndarray
    """Mean return of the evaluations, [N, T]; NaN if there was none."""
    training: np.ndarray
    """Mean return of the episodes that ended in each chunk, [N, T]; NaN where none did."""
    scores: np.ndarray
    """Of each seed, [N], as `Folder.score` says; NaN where it never came to its end."""


@dataclass(frozen=True)
class Folder:
    """What a report shows of any folder."""

    path: Path
    env: str
    solved_at: float | None
    settings: tuple[Setting, ...]
    """Best first."""
    facts: Mapping[str, str]
    """For the head of the page."""
    score: Score
    """What the settings' scores are."""

    @property
    def bar(self) -> float | None:
        """The score that counts as solved; None for an area, which has no such threshold."""
        return None if self.score == "area" else self.solved_at


@dataclass(frozen=True)
class Sweep(Folder):
    """A sweep's folder."""

    varied: tuple[str, ...]
    """Fields that differ between settings."""
    values: tuple[Mapping[str, Any], ...]
    """Their values, for each of `settings`."""
    ranking: tuple[Mapping[str, Any], ...]
    """Rows of the summary's ranking, for each of `settings`."""
    lanes: Mapping[str, np.ndarray]
    """Columns of lanes.npz, [L]."""
    halving: Mapping[str, Any] | None
    populations: Populations | None
    definition: Mapping[str, Any]


@dataclass(frozen=True)
class Run(Folder):
    """A run's folder."""

    summary: Mapping[str, Any] | None
    """None if the run has not come to its end."""
    recipe: str
    recipe_fields: Mapping[str, Any] | None
    """What its recipe and algorithm alone would have set; None where this version has no such recipe."""
    findings: tuple[Mapping[str, Any], ...]
    """Of the doctor, the newest examination."""
    moments: tuple[Mapping[str, Any], ...]
    """All of the doctor's examinations."""


def damaged(folder: Path, name: str, why: Any) -> SettingError:
    """The error for a file that cannot be read."""
    text = one_line(why) if isinstance(why, BaseException) else str(why)
    return SettingError("folders", str(folder), f"its {name} is damaged ({text}); name a whole folder")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """An object from a JSON file. Raises `SettingError` if it cannot be read."""
    try:
        return dict(json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise damaged(folder, name, error) from error


def flat_fields(config: Mapping[str, Any], hypers: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a config and of hypers in one table, each environment parameter separately."""
    params = dict(config.get("env_params") or {})
    plain = {name: plain_value(value) for name, value in {**config, **hypers}.items() if name != "env_params"}
    return plain | {f"env_params.{name}": plain_value(value) for name, value in params.items()}


def plain_value(value: Any) -> Any:
    """A value as JSON would give it back, so that values from a file and from the code compare equal."""
    if isinstance(value, list | tuple):
        return tuple(plain_value(item) for item in value)
    if value in ("inf", "-inf"):
        return float(value)
    return value


def value_text(value: Any) -> str:
    """A setting's value as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return ", ".join(map(value_text, value)) if isinstance(value, list | tuple) else str(value)


def short_text(value: Any) -> str:
    """The same in fewer digits, for names and narrow columns."""
    # Close to 1 lie discounts, which differ in their last digits.
    rounds = isinstance(value, float) and not 0.9 < abs(value) < 1.0
    return f"{value:.4g}" if rounds else value_text(value)


def differing(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of fields that are missing from some tables or differ between them."""
    tables = list(tables)
    names = dict.fromkeys(name for table in tables for name in table)
    missing = object()
    return [name for name in names if len({repr(table.get(name, missing)) for table in tables}) > 1]


def machine_text(hardware: Any) -> str:
    """The hardware that a summary names."""
    if not isinstance(hardware, dict):
        return str(hardware or "–")
    devices = f"{hardware.get('num_devices', '?')} × {hardware.get('device', '?')} ({hardware.get('platform', '?')})"
    return f"{devices}, {hardware.get('cores', '?')} cores of {hardware.get('processor', '?')}"


def common_facts(data: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, str]:
    """Facts shown for every folder: speed, machine, versions, command, date."""
    facts = {}
    if summary.get("run_seconds") is not None:
        speed = f", {step_label(summary['steps_per_second'])} steps/s" if summary.get("steps_per_second") else ""
        compiled = f"; compiled in {summary['compile_seconds']:.1f} s" if "compile_seconds" in summary else ""
        facts["time"] = f"{summary['run_seconds']:,.1f} s{speed}{compiled}"
    if summary.get("peak_bytes"):
        facts["peak memory"] = f"{summary['peak_bytes'] / 2**20:,.0f} MiB"
    versions = data.get("versions") or summary.get("versions") or {}
    facts["hardware"] = machine_text(summary.get("hardware") or data.get("hardware"))
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items()) or "–"
    facts["command"] = str(data.get("command") or summary.get("command") or "–")
    facts["date"] = str(data.get("created", "–"))
    return facts
