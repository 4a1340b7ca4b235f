"""A run's records: table rows, TensorBoard events, and statistics of its returns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.config import SettingError, one_line
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.recipes.recipes import protocol_of
from purejaxdqn.runs.folder import SCORES, Settings
from purejaxdqn.statistics.atari_scores import human_normalized
from purejaxdqn.statistics.intervals import standard_error
from purejaxdqn.types import Metrics

MARKS = tuple(int(millions * 1e6) for millions in (10, 40, 50, 100, 200))
"""Frames of the emulator at which Atari scores are compared."""


MEANS = {
    "episode_return": ("return_sum", "episodes"),
    "episode_length": ("length_sum", "episodes"),
    "loss": ("loss_sum", "updates"),
    "q_value": ("q_sum", "updates"),
    "abs_td_error": ("td_sum", "updates"),
    "grad_norm": ("grad_norm_sum", "updates"),
}
"""Columns that are means, and the sum and the count in `Metrics` that each is made of."""


def mean_of(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    """Mean of a column over the rows that have it."""
    values = [row[column] for row in rows if row[column] is not None]
    return float(np.mean(values)) if values else None


def ratio(total: Any, count: Any) -> float | None:
    """A mean from a sum and a count; missing if nothing was counted."""
    return float(total) / int(count) if int(count) else None


def metric_rows(metrics: Metrics, seeds: tuple[int, ...], env_steps: int, updates: int) -> list[dict[str, Any]]:
    """One chunk's metrics as a row of metrics.csv for each seed, without its evaluation."""
    return [
        {
            "seed": seed,
            "env_steps": env_steps,
            "updates": updates,
            "episodes": int(metrics.episodes[lane]),
            **{
                name: ratio(getattr(metrics, total)[lane], getattr(metrics, per)[lane])
                for name, (total, per) in MEANS.items()
            },
            "epsilon": float(metrics.epsilon[lane]),
            "eval_return": None,
            "eval_stderr": None,
        }
        for lane, seed in enumerate(seeds)
    ]


def episode_rows(
    metrics: Metrics, seeds: tuple[int, ...], before: np.ndarray, num_envs: int, budget: int | None
) -> list[dict[str, Any]]:
    """One chunk's logged episodes as rows of episodes.csv.

    Args:
      metrics: of one chunk, each leaf [L, ...].
      seeds: of the lanes.
      before: episodes of each lane before the chunk, [L].
      num_envs: environments of a lane.
      budget: episodes of a lane after which nothing is written.
    """
    log, rows = metrics.log, []
    for lane, seed in enumerate(seeds):
        held = min(int(metrics.episodes[lane]), log.episode_length.shape[1])
        if budget is not None:
            held = min(held, max(0, budget - int(before[lane])))
        for i in range(held):
            rows.append(
                {
                    "seed": seed,
                    "episode": int(before[lane]) + i + 1,
                    "env_steps": int(log.vector_steps[lane, i]) * num_envs,
                    "episode_return": float(log.episode_return[lane, i]),
                    "learning_return": float(log.learning_return[lane, i]),
                    "episode_length": int(log.episode_length[lane, i]),
                }
            )
    return rows


def note_scores(folder: Path, settings: Settings, marks: list[int], env_steps: int, score: float | None) -> None:
    """Adds a game's score to scores.json, once for each frame count just reached."""
    path = folder / SCORES
    try:
        found = json.loads(path.read_text())["scores"] if path.exists() else []
        kept = [entry for entry in found if entry["frames"] not in marks]
    except (ValueError, KeyError, TypeError) as error:
        remedy = f"its {SCORES} is damaged ({one_line(error)}): remove it, which costs the scores in it"
        raise SettingError("resume", str(folder), remedy) from error
    new = [
        {
            "frames": mark,
            "env_steps": env_steps,
            "score": score,
            "human_normalized": None if score is None else human_normalized(settings.config.env, score),
        }
        for mark in marks
    ]
    how = f"{settings.eval_episodes} games with ε = {settings.eval_epsilon:g}"
    data = {
        "env": settings.config.env,
        "seed": settings.seeds[0],
        "protocol": protocol_of(settings.config),
        "score_is": how if settings.eval_episodes else "the newest 100 games of training",
        "scores": [*kept, *new],
    }
    write_atomically(path, json.dumps(data, indent=2) + "\n")


def describe_returns(which: str, returns: np.ndarray | None, lane: int) -> dict[str, float | None]:
    """Mean of one seed's returns and its standard error; both missing if no episode ended."""
    if returns is None:
        return {f"{which}_mean_return": None, f"{which}_stderr": None}
    return {f"{which}_mean_return": float(returns[lane].mean()), f"{which}_stderr": error_of_mean(returns[lane])}


def error_of_mean(returns: np.ndarray) -> float | None:
    """Standard error of the mean; missing for a single episode."""
    return float(standard_error(returns)) if len(returns) > 1 else None


def finite_scores(scores: np.ndarray) -> list[float | None]:
    """Scores as JSON values, None before the first evaluation."""
    return [float(score) if np.isfinite(score) else None for score in scores]


EVENT_COLUMNS = {
    "train/episode_return": "episode_return",
    "train/episode_length": "episode_length",
    "train/loss": "loss",
    "train/q_value": "q_value",
    "train/abs_td_error": "abs_td_error",
    "train/grad_norm": "grad_norm",
    "train/epsilon": "epsilon",
    "eval/return": "eval_return",
}
"""Tags of TensorBoard, and the column of metrics.csv that each is the mean of."""


def event_values(rows: list[dict[str, Any]], more: Sequence[str] = ()) -> dict[str, float]:
    """Means over seeds for TensorBoard, by tag; missing numbers are left out.

    Args:
      rows: of metrics.csv.
      more: columns that a probe has added to them.
    """
    columns = EVENT_COLUMNS | {f"probe/{column}": column for column in more}
    values = {tag: mean_of(rows, column) for tag, column in columns.items()}
    return {tag: value for tag, value in values.items() if value is not None}
