"""`purejaxdqn show FOLDER`: what a run or a sweep is, what came out of it, and how it goes on. Nothing is executed."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from purejaxdqn import cli
from purejaxdqn.config import SettingError
from purejaxdqn.pictures.plots import read_returns, step_label
from purejaxdqn.recipes.recipes import solved_at
from purejaxdqn.report.contents import read_json, value_text
from purejaxdqn.report.read_run import facts_of, recipe_fields, settings_fields
from purejaxdqn.report.read_sweep import is_sweep
from purejaxdqn.runs.checkpoint import latest_step
from purejaxdqn.runs.folder import CHECKPOINTS, METRICS, SUMMARY, Settings, finite, read_config
from purejaxdqn.runs.sweep_folder import BEST, read_sweep
from purejaxdqn.statistics.intervals import fill_missing
from purejaxdqn.sweep.display import ranking_table
from purejaxdqn.train.display import closing_table, number

COMMAND = "purejaxdqn-show"
OF_A_SWEEP = ("env", "algo", "recipe", "seeds", "total_steps", "varied", "command", "created")


@dataclasses.dataclass(frozen=True)
class ShowFlags:
    """The flags of `show`."""

    folder: Annotated[str, tyro.conf.Positional]
    """Folder of a run or of a sweep. Nothing in it is changed."""
    all: bool = False
    """Whether every setting is shown, not only those that differ from the recipe's."""
    json: bool = False
    """Print JSON and nothing else."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """What is known of a folder."""

    facts: Mapping[str, str]
    settings: Mapping[str, str]
    """Of a run those that differ from its recipe, or all; of a sweep all values of each field that varies."""
    summary: Mapping[str, Any] | None
    """None before the end."""
    newest: Sequence[str]
    """Before the end: how far each seed has come, in lines."""
    table: Any
    """The results, for a terminal; None before the end."""
    next: Mapping[str, str]
    """What can be done with it, and the command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: show(args))


def show(args: list[str]) -> int:
    """Parses, reads and prints."""
    flags: ShowFlags = cli.parse(ShowFlags, args, COMMAND, "Says what a run or a sweep is and how it goes on.")
    folder = Path(flags.folder)
    shown = show_sweep(folder) if is_sweep(folder) else show_run(folder, flags.all)
    if flags.json:
        print(json.dumps(finite({name: value for name, value in vars(shown).items() if name != "table"})))
    else:
        print_shown(folder, shown)
    return 0


def show_run(folder: Path, everything: bool) -> Shown:
    """What is known of a run.

    Raises:
      SettingError: where there is none, or a file of it is damaged.
    """
    settings, _, data = read_config(folder, "folder")
    summary = read_json(folder, SUMMARY) if (folder / SUMMARY).is_file() else None
    of_recipe = None if everything else recipe_fields(settings)
    changed = {
        name: value_text(value)
        for name, value in settings_fields(settings).items()
        if of_recipe is None or value != of_recipe.get(name)
    }
    facts = facts_of(settings, data, summary) | {"commit": commit_text(data)}
    bar = solved_at(settings.recipe, settings.config.env)
    table = None if summary is None else closing_table(summary, bar)
    newest = () if summary else newest_lines(folder, settings.seeds)
    return Shown(facts, changed, summary, newest, table, next_of_run(folder, settings, data, summary is not None))


def commit_text(data: Mapping[str, Any]) -> str:
    """The commit that a run or sweep began with."""
    return str(data.get("commit") or "not known: it began with an installed package, or before commits were noted")


def newest_lines(folder: Path, seeds: Sequence[int]) -> tuple[str, ...]:
    """How far each seed of an unfinished run has come, by its table."""
    try:
        steps, training, evaluation = read_returns(folder / METRICS)
    except (OSError, ValueError, KeyError, TypeError):
        return ("nothing is logged yet",)
    returns = [fill_missing(found)[:, -1] for found in (training, evaluation)]
    at = f"at {step_label(float(steps[-1]))} environment steps"
    return tuple(
        f"seed {seed} {at}: return {text(trained)}, evaluation {text(evaluated)}"
        for seed, trained, evaluated in zip(sorted(seeds), *returns, strict=True)
    )


def text(value: float) -> str:
    """A return as text; a dash where there is none."""
    return number(None if value != value else value)


def next_of_run(folder: Path, settings: Settings, data: Mapping[str, Any], finished: bool) -> dict[str, str]:
    """Commands that go on with a run."""
    name = cli.quoted(folder)
    more = "".join(f" --import {shlex.quote(source)}" for source in data.get("imports", ()))
    probe = "" if settings.probe is None else f" --probe {shlex.quote(settings.probe)}"
    longer = f" --total-steps {2 * settings.config.total_steps}" if finished else ""
    found = {"resume": f"purejaxdqn train --resume {name}{longer}{more}{probe}"}
    if latest_step(folder / CHECKPOINTS) is not None:
        found["evaluate"] = f"purejaxdqn evaluate {name}{more}"
        found["doctor"] = f"purejaxdqn doctor {name}{more}"
    return found | {"report": f"purejaxdqn report {name}{more}"}


def show_sweep(folder: Path) -> Shown:
    """What is known of a sweep.

    Raises:
      SettingError: where a file of it is damaged.
    """
    data = read_sweep(folder, "folder")
    summary = read_json(folder, SUMMARY) if (folder / SUMMARY).is_file() else None
    try:
        facts = {name.replace("_", " "): value_text(data[name]) for name in OF_A_SWEEP}
        facts |= {"settings": str(len(data["settings"])), "commit": commit_text(data)}
        values = [setting["values"] for setting in data["settings"]]
        tried = {field: ", ".join(dict.fromkeys(value_text(one[field]) for one in values)) for field in data["varied"]}
    except (KeyError, TypeError) as error:
        raise SettingError("folder", str(folder), f"its sweep.json is damaged ({error}); name a whole sweep") from error
    table = None if summary is None else ranking_table(summary["ranking"], "settings, ranked")
    name = cli.quoted(folder)
    ways = {"resume": f"purejaxdqn sweep --resume {name}"}
    if summary is not None:
        best = f"purejaxdqn train --recipe {cli.quoted(folder / BEST)}"
        ways = {"train the best": best, "report": f"purejaxdqn report {name}"}
    newest = () if summary else ("the sweep has not come to its end",)
    return Shown(facts, tried, summary, newest, table, ways)


def print_shown(folder: Path, shown: Shown) -> None:
    """Prints everything as text."""
    print(folder)
    print_pairs(shown.facts)
    if shown.settings:
        print("\nsettings:")
        print_pairs(shown.settings)
    print()
    for line in shown.newest:
        print(line)
    if shown.table is not None:
        Console().print(shown.table)
    print("\nnext:")
    print_pairs(shown.next)


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Prints names and values in two columns."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        print(f"  {name:<{width}}  {value}")
