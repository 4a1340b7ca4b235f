"""Recipe files (TOML): what a sweep found best, or settings written by hand."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from purejaxdqn.config import Config, SettingError, one_line, require
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.machine.nearest_names import nearest
from purejaxdqn.recipes.recipes import (
    CONFIG_FIELDS,
    DEFAULTS,
    HYPER_FIELDS,
    RECIPES,
    Recipe,
    make_recipe,
    split_settings,
)
from purejaxdqn.types import Hypers

RECIPE_SUFFIX = ".toml"


def find_recipe(name: str) -> Recipe:
    """A recipe by name, or from a file.

    Raises:
      SettingError: for an unknown one, with the nearest names, or a file that cannot be read.
    """
    if name.endswith(RECIPE_SUFFIX):
        return read_recipe(Path(name))
    near = nearest(name, RECIPES) or list(RECIPES)
    require(name in RECIPES, "recipe", name, f"no such recipe; there are {', '.join(near)}")
    return RECIPES[name]


def write_recipe(
    path: Path,
    name: str,
    description: str,
    config: Config,
    hypers: Hypers,
    solved: float | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Writes settings as a file that `find_recipe` reads; fields with their defaults are left out."""
    values = {**vars(config), **vars(hypers)}
    changed = {key: value for key, value in values.items() if key == "env" or value != DEFAULTS[key]}
    chosen, scalars, _ = split_settings(changed)
    params = dict(chosen.pop("env_params", ()))
    head = {"name": name, "description": description, **({} if solved is None else {"solved_at": solved})}
    lines = [*toml_lines(head)]
    for table, entries in (("config", chosen), ("env_params", params), ("hypers", scalars), ("run", run or {})):
        lines += ["", f"[{table}]", *toml_lines({k: v for k, v in entries.items() if v is not None})]
    write_atomically(path, "\n".join(lines) + "\n")


def toml_lines(values: Mapping[str, Any]) -> list[str]:
    """Names and values as lines of TOML, which writes everything but infinity as JSON does."""
    infinite = {float("inf"): "inf", float("-inf"): "-inf"}
    words = {
        name: infinite[value]
        if isinstance(value, float) and value in infinite
        else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }
    return [f"{name} = {word}" for name, word in words.items()]


def read_toml(path: Path, flag: str) -> dict[str, Any]:
    """A file of TOML.

    Raises:
      SettingError: on `flag`, where it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(flag, str(path), f"it cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(flag, str(path), f"it is no TOML ({one_line(error)})") from error


def read_recipe(path: Path) -> Recipe:
    """A recipe from a file; see `write_recipe`.

    Raises:
      SettingError: where it cannot be read, or has an entry that means nothing.
    """
    data = read_toml(path, "recipe")
    tables = {table: dict(data.pop(table, {})) for table in ("config", "env_params", "hypers", "run")}
    for table, names in (("config", CONFIG_FIELDS), ("hypers", HYPER_FIELDS)):
        for name in tables[table]:
            require(name in names, "recipe", str(path), f"[{table}] has no setting {name}")
    for name in data:
        require(
            name in ("name", "description", "solved_at"), "recipe", str(path), f"it has an entry {name} of no meaning"
        )
    require("env" in tables["config"], "recipe", str(path), "its [config] names no env")
    config = tables["config"] | {"env_params": tuple(sorted(tables["env_params"].items()))}
    config["hidden"] = tuple(config.get("hidden", Config.hidden))
    said = str(data.get("description", ""))
    return make_recipe(str(path), said, config, tables["hypers"], data.get("solved_at"), tables["run"])
