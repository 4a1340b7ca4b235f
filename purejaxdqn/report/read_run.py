"""Reads a run folder for a report: config.json, metrics.csv and, where they exist, summary.json and doctor.json."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.config import SettingError
from purejaxdqn.pictures.plots import read_returns, step_label
from purejaxdqn.recipes.recipes import RECIPES, make_settings, solved_at
from purejaxdqn.report.contents import Run, Setting, common_facts, damaged, flat_fields, read_json
from purejaxdqn.runs.folder import CONFIG, METRICS, SUMMARY, Settings, read_config
from purejaxdqn.statistics.intervals import fill_missing

DOCTOR = "doctor.json"
MOST_SEEDS = 16
"""Maximum number of seeds that are listed one by one."""
OWN = "the recipe's own"
ORDER = ("alarm", "note", "not looked at", "ok", "not applicable")
"""Verdicts of the doctor, worst first."""


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / CONFIG).is_file()


def read_run(folder: Path) -> Run:
    """Reads what a report shows of a run, finished or not.

    Raises:
      SettingError: if a file is missing or damaged.
    """
    settings, _, data = read_config(folder, "folders")
    summary = read_json(folder, SUMMARY) if (folder / SUMMARY).is_file() else None
    doctor = read_json(folder, DOCTOR) if (folder / DOCTOR).is_file() else {}
    try:
        steps, training, evaluation = read_returns(folder / METRICS)
    except FileNotFoundError as error:
        remedy = f"it holds no {METRICS}: the run has not logged anything yet"
        raise SettingError("folders", str(folder), remedy) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, METRICS, error) from error
    try:
        seeds = tuple(sorted(settings.seeds))
        final = final_scores(seeds, summary, evaluation)
        fields = {"algo": settings.algo} | settings_fields(settings)
        name = folder.resolve().name
        return Run(
            path=folder,
            env=settings.config.env,
            solved_at=solved_at(settings.recipe, settings.config.env),
            settings=(Setting(name, fields, seeds, steps, evaluation, training, final),),
            facts=facts_of(settings, data, summary),
            score="last",
            summary=summary,
            recipe=settings.recipe + (f" with the algorithm {settings.algo}" if settings.algo else ""),
            recipe_fields=recipe_fields(settings),
            findings=tuple(sorted(doctor.get("findings", ()), key=lambda finding: ORDER.index(finding["severity"]))),
            moments=tuple(doctor.get("moments", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder, f"{METRICS}, {SUMMARY} or {DOCTOR}", error) from error


def settings_fields(settings: Settings) -> dict[str, Any]:
    """Config and hypers in one table."""
    config = dataclasses.asdict(settings.config) | {"env_params": dict(settings.config.env_params)}
    return flat_fields(config, vars(settings.hypers))


def recipe_fields(settings: Settings) -> dict[str, Any] | None:
    """What the run's recipe and algorithm set by themselves; None if this version no longer has them."""
    recipe = RECIPES.get(settings.recipe)
    if recipe is None:
        return None
    try:
        config, hypers = make_settings(recipe, settings.config.env, settings.algo)
    except SettingError:
        return None
    return settings_fields(dataclasses.replace(settings, config=config, hypers=hypers))


def final_scores(seeds: tuple[int, ...], summary: Mapping[str, Any] | None, evaluation: np.ndarray) -> np.ndarray:
    """Return of each seed's last parameters, [N]: from the summary, or else the newest evaluation of training.

    Args:
      seeds: ascending, as in the rows of `evaluation`.
      summary: None before the run has ended.
      evaluation: [N, T].

    Raises:
      ValueError: if there are not as many rows as seeds.
    """
    if len(evaluation) != len(seeds):
        raise ValueError(f"{METRICS} has rows of {len(evaluation)} of {len(seeds)} seeds")
    if summary is None:
        return fill_missing(evaluation)[:, -1]
    of_seed = {entry["seed"]: entry["last_mean_return"] for entry in summary["evaluation"]}
    return np.array([of_seed[seed] for seed in seeds], np.float64)


def seeds_text(seeds: tuple[int, ...]) -> str:
    """The seeds as text; a long list is abbreviated in the middle."""
    if len(seeds) <= MOST_SEEDS:
        return ", ".join(map(str, seeds))
    return f"{seeds[0]}, {seeds[1]}, … {seeds[-1]} ({len(seeds):,} seeds)"


def facts_of(settings: Settings, data: Mapping[str, Any], summary: Mapping[str, Any] | None) -> dict[str, str]:
    """The head of a run's page."""
    solved = solved_at(settings.recipe, settings.config.env)
    reached = step_label(summary["env_steps_per_seed"]) if summary else f"of {step_label(settings.config.total_steps)}"
    return {
        "environment": settings.config.env + (f" (solved at {solved:g})" if solved is not None else ""),
        "algorithm": f"{settings.algo or OWN} (recipe {settings.recipe})",
        "seeds": seeds_text(settings.seeds),
        "environment steps": f"{reached} a seed" + ("" if summary else "; the run has not come to its end"),
        **common_facts(data, summary or {}),
    }
