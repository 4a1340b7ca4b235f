"""sweep.json: everything that a sweep needs to go on, written when it begins and with each batch of a search."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from purejaxdqn.config import SettingError, one_line
from purejaxdqn.machine.commit import read_commit
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.machine.imports import imported
from purejaxdqn.recipes.recipes import Recipe
from purejaxdqn.runs.folder import finite, hardware, settings_from_json, settings_to_json, versions
from purejaxdqn.runs.sweep_folder import FORMAT, SWEEP
from purejaxdqn.sweep.definition import Definition, Setting, defining_defaults, settings_of, to_json
from purejaxdqn.sweep.layout import Group, Layout, group_settings, make_layout
from purejaxdqn.sweep.values import Axis, Drawn, varied


def entry_of(definition: Definition, recipe: Recipe, setting: Setting) -> dict[str, Any]:
    """A setting in full, as JSON values."""
    run = settings_of(definition, recipe, setting.config, definition.seeds)
    full = dataclasses.replace(run, hypers=setting.hypers, algo=setting.algo)
    return {"setting": setting.number, "values": setting.values, **settings_to_json(full)}


def to_setting(entry: Mapping[str, Any]) -> Setting:
    """The reverse of `entry_of`."""
    full = settings_from_json(entry)
    return Setting(entry["setting"], entry["values"], full.config, full.hypers, full.algo)


def to_file(
    definition: Definition, recipe: Recipe, layout: Layout, command: str, earlier: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """sweep.json's content: everything that is needed to resume.

    A search's settings come with their batches; until then there is one that stands for them all.
    """
    algos = {setting.algo for setting in layout.settings}
    entries = [entry_of(definition, recipe, setting) for setting in layout.settings]
    of_search = {"pattern": entries[0], "earlier": list(earlier)}
    return {
        "format": FORMAT,
        "definition": to_json(definition),
        "env": definition.env,
        "algo": algos.pop() if len(algos) == 1 else None,
        "recipe": recipe.name,
        "recipe_run": dict(recipe.run),
        "solved_at": recipe.solved_at,
        "seeds": list(definition.seeds),
        "total_steps": max(setting.config.total_steps for setting in layout.settings),
        "varied": [axis.field for axis in varied(definition.axes)],
        **({"settings": []} | of_search if definition.options["search"] else {"settings": entries}),
        "unit_sizes": [group.unit_size for group in layout.groups],
        "lane_bytes": [group.lane_bytes for group in layout.groups],
        "imports": imported(),
        "versions": versions(),
        "commit": read_commit(),
        "hardware": hardware(),
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def from_file(data: Mapping[str, Any], folder: Path) -> tuple[Definition, Recipe, Layout]:
    """The reverse of `to_file`.

    Raises:
      SettingError: if it is damaged.
    """
    try:
        said = data["definition"]
        axes = tuple(
            Axis(field, (), Drawn(**given)) if isinstance(given, dict) else Axis(field, tuple(given))
            for field, given in said["axes"].items()
        )
        definition = Definition(said["env"], said["recipe"], axes, defining_defaults() | said["options"])
        recipe = Recipe(data["recipe"], "", {"env": data["env"]}, {}, data["solved_at"], data["recipe_run"])
        settings = all_settings(definition, data)
        found = group_settings(settings).items()
        sizes = zip(found, data["lane_bytes"], data["unit_sizes"], strict=True)
        groups = [Group(number, c, m, each, size) for number, ((c, m), each, size) in enumerate(sizes)]
        return definition, recipe, make_layout(definition, settings, groups)
    except (KeyError, TypeError, ValueError) as error:
        remedy = f"its {SWEEP} is damaged ({one_line(error)}); name a whole sweep"
        raise SettingError("resume", str(folder), remedy) from error


def all_settings(definition: Definition, data: Mapping[str, Any]) -> list[Setting]:
    """The settings of a sweep, those included that its search has not proposed yet."""
    settings = [to_setting(entry) for entry in data["settings"]]
    if definition.options["search"] is None:
        return settings
    pattern = to_setting(data["pattern"])
    return settings + [pattern._replace(number=n) for n in range(len(settings), definition.options["trials"])]


def add_settings(
    folder: Path, data: Mapping[str, Any], definition: Definition, recipe: Recipe, values: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Writes a search's next settings into sweep.json, and returns its content."""
    pattern, entries = to_setting(data["pattern"]), list(data["settings"])
    for given in values:
        hypers = dataclasses.replace(pattern.hypers, **given)
        setting = pattern._replace(number=len(entries), values=dict(given), hypers=hypers)
        entries.append(entry_of(definition, recipe, setting))
    whole = dict(data) | {"settings": entries}
    save_sweep(folder, whole)
    return whole


def save_sweep(folder: Path, data: Mapping[str, Any]) -> None:
    """Writes sweep.json."""
    write_atomically(folder / SWEEP, json.dumps(finite(dict(data)), indent=1, allow_nan=False) + "\n")
