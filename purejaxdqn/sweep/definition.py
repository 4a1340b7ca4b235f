"""The definition of a sweep: an environment, seeds, and settings from a grid or a random search over its axes."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purejaxdqn.bounds import INT32
from purejaxdqn.build import env_settings
from purejaxdqn.config import Config, SettingError, flag_name, require
from purejaxdqn.recipes.files import read_toml
from purejaxdqn.recipes.recipes import Recipe, make_settings
from purejaxdqn.runs.folder import Settings
from purejaxdqn.sweep.options import DEFINING, SweepOptions
from purejaxdqn.sweep.search import check_search, ends
from purejaxdqn.sweep.values import Axis, field_kinds, parse_axis, varied
from purejaxdqn.types import Hypers

ENV_PARAMS = "env_params."


class Definition(NamedTuple):
    """Everything that determines a sweep's results."""

    env: str
    recipe: str
    """Name of the recipe, or path of its file."""
    axes: tuple[Axis, ...]
    """Single values are axes of one."""
    options: dict[str, Any]
    """The `DEFINING` ones."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of every setting."""
        first = self.options["seed"]
        return tuple(range(first, first + self.options["seeds"]))


class Setting(NamedTuple):
    """One point of the search."""

    number: int
    values: dict[str, Any]
    """Of the axes with more than one value."""
    config: Config
    hypers: Hypers
    algo: str | None


def kind_of(field: str, env: str) -> Any:
    """Type of a field's values.

    Raises:
      SettingError: if there is no such field.
    """
    kinds = field_kinds()
    if field.startswith(ENV_PARAMS):
        known = env_settings(env)
        name = field.removeprefix(ENV_PARAMS)
        require(name in known, field, name, f"{env} has no such parameter; it has {', '.join(known)}")
        return type(known[name])
    require(field in kinds and field != "env", field, "", "there is no such setting")
    return kinds[field]


def combinations(axes: Sequence[Axis], number: int | None, seed: int) -> list[dict[str, Any]]:
    """The points of a grid, or `number` of them drawn at random without repetition.

    Raises:
      SettingError: if a grid has a distribution as an axis, or there are fewer points than requested.
    """
    if number is None:
        for axis in axes:
            if axis.drawn is not None:
                remedy = "say how many values it stands for (its fourth part), or draw settings by --random N"
                raise SettingError(axis.field, describe_axis(axis), remedy)
        names = [axis.field for axis in axes]
        return [dict(zip(names, point, strict=True)) for point in itertools.product(*(axis.values for axis in axes))]
    most = None if any(axis.drawn for axis in axes) else int(np.prod([len(axis.values) for axis in axes], dtype=float))
    require(most is None or number <= most, "random", number, f"there are {most} combinations: leave it out")
    rng = np.random.default_rng(seed)
    points: dict[tuple[Any, ...], dict[str, Any]] = {}
    # A draw that was there already says nothing new; rounded draws may run out, which no loop should wait for.
    for _ in range(1_000 * number):
        point = {axis.field: draw(axis, rng) for axis in axes}
        points.setdefault(tuple(point.values()), point)
        if len(points) == number:
            return list(points.values())
    raise SettingError("random", number, f"no more than {len(points)} different settings were found: use fewer")


def draw(axis: Axis, rng: np.random.Generator) -> Any:
    """One value of an axis."""
    return axis.drawn.sample(rng) if axis.drawn is not None else axis.values[rng.integers(len(axis.values))]


def describe_axis(axis: Axis) -> str:
    """An axis as the user could type it."""
    if axis.drawn is not None:
        return f"{'loguniform' if axis.drawn.log else 'uniform'}:{axis.drawn.low:g}:{axis.drawn.high:g}"
    return " ".join(",".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in axis.values)


def make_all(definition: Definition, recipe: Recipe) -> list[Setting]:
    """Every setting of a sweep, validated.

    Raises:
      SettingError: if one of them is invalid, or would not read a value that was given.
    """
    options = definition.options
    if options["search"] is None:
        points = combinations(definition.axes, options["random"], options["draw_seed"])
    else:
        check_search(definition.axes, options["search"])
        points = corners(definition.axes)
    settings = []
    for index, point in enumerate(points):
        values = {name: value for name, value in point.items() if not name.startswith(ENV_PARAMS)}
        algo = values.pop("algo", recipe.algo)
        changed = {name.removeprefix(ENV_PARAMS): v for name, v in point.items() if name.startswith(ENV_PARAMS)}
        defaults = env_settings(definition.env) if changed else {}
        params = dict(recipe.config.get("env_params", ())) | changed
        if changed:
            kept = ((name, value) for name, value in params.items() if value != defaults.get(name))
            values["env_params"] = tuple(sorted(kept))
        given = point.get("algo")
        config, hypers = make_settings(recipe, definition.env, given, **values)
        shown = {axis.field: point[axis.field] for axis in varied(definition.axes)}
        settings.append(Setting(index, shown, config, hypers, algo))
    if options["search"] is None:
        return settings
    return [settings[0]._replace(number=number) for number in range(options["trials"])]


def corners(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Two opposite corners of what a search may propose, which are checked before it proposes anything."""
    return [{axis.field: ends(axis)[which] for axis in axes} for which in (0, 1)]


def defining_defaults() -> dict[str, Any]:
    """Defaults of the `DEFINING` options, for sweeps of before there was one of them."""
    return {name: getattr(SweepOptions(), name) for name in DEFINING}


def settings_of(definition: Definition, recipe: Recipe, config: Config, seeds: tuple[int, ...]) -> Settings:
    """The settings that `Training` needs for lanes that share a program; their hypers are passed separately."""
    options = definition.options
    run = recipe.run
    chosen = {name: options[name] for name in ("eval_max_steps", "total_episodes", "stop_at_return", "patience")}
    kept: dict[str, Any] = {name: run.get(name) if value is None else value for name, value in chosen.items()}
    return Settings(
        config=config,
        hypers=Hypers(),
        seeds=seeds,
        log_every=options["log_every"] or min(INT32, max(1, config.total_steps // 50)),
        eval_every=options["eval_every"] or max(1, config.total_steps // 10),
        eval_episodes=options["eval_episodes"],
        checkpoint_every=config.total_steps,
        recipe=recipe.name,
        algo=None,
        eval_epsilon=options["eval_epsilon"],
        count_prefill=bool(run.get("count_prefill", False)),
        eval_every_episodes=run.get("eval_every_episodes"),
        **kept,
    )


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """A sweep's TOML file: options by name, and the words of each axis.

    Raises:
      SettingError: if it cannot be read, or has an entry in the wrong place.
    """
    data = read_toml(path, "file")
    names = {field.name for field in dataclasses.fields(SweepOptions)} - {"file", "resume", "imports"}
    options: dict[str, Any] = {}
    axes: dict[str, tuple[Any, ...]] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            axes |= read_section(path, key, value)
        elif key == "algo":
            axes[key] = as_words(value)
        else:
            known = ", ".join(sorted(names | {"env", "algo"}))
            remedy = f"there is no option {key}; there are {known}, and the tables [config], [hypers], [env_params]"
            require(key in names | {"env"}, "file", str(path), remedy)
            options[key] = value
    return options, axes


def read_section(path: Path, section: str, values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The axes of one table of a sweep's file."""
    fields = {
        "config": {field.name for field in dataclasses.fields(Config)} - {"env", "env_params"},
        "hypers": {field.name for field in dataclasses.fields(Hypers)},
    }
    places = f"there is no table [{section}]; use [config], [hypers] or [env_params]"
    require(section in (*fields, "env_params"), "file", str(path), places)
    if section == "env_params":
        return {ENV_PARAMS + name: as_words(value) for name, value in values.items()}
    for name in values:
        other = "config" if section == "hypers" else "hypers"
        why = "compiled in" if other == "config" else "traced"
        moved = f"[{section}] {name} is {why}: put it under [{other}]"
        require(name not in fields[other], "file", str(path), moved)
        require(name in fields[section], "file", str(path), f"[{section}] has no setting {name}")
    return {name: as_words(value, widths=name == "hidden") for name, value in values.items()}


def as_words(value: Any, widths: bool = False) -> tuple[Any, ...]:
    """One or several values as the words of an axis; for widths, a list of whole numbers is one value."""
    one = not isinstance(value, list) or (widths and all(isinstance(item, int) for item in value))
    return (value,) if one else tuple(value)


def parse_axes(words: Mapping[str, tuple[Any, ...]], env: str, seed: int) -> tuple[Axis, ...]:
    """Axes from their words, in their order; see `parse_axis`."""
    return tuple(parse_axis(field, given, kind_of(field, env), seed) for field, given in words.items())


def to_json(definition: Definition) -> dict[str, Any]:
    """A definition as JSON values."""
    axes = {axis.field: axis.drawn._asdict() if axis.drawn else list(axis.values) for axis in definition.axes}
    return {"env": definition.env, "recipe": definition.recipe, "axes": axes, "options": definition.options}


def check_same(saved: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raises `SettingError` for the first typed setting that differs from what a sweep was started with.

    Args:
      saved: `to_json` of the sweep, as read back.
      typed: what was typed, and nothing else, in the same form.
    """
    fixed = "it was {} when the sweep began: leave the flag out, or begin a new sweep"
    for name in ("env", "recipe"):
        if name in typed:
            require(typed[name] == saved[name], name, typed[name], fixed.format(saved[name]))
    options = defining_defaults() | saved["options"]
    for name, value in typed.get("options", {}).items():
        require(value == options[name], name, value, fixed.format(options[name]))
    for field, values in typed.get("axes", {}).items():
        before = saved["axes"].get(field)
        said = "the recipe's own" if before is None else spell(before)
        require(plain(values) == plain(before), field, spell(values), fixed.format(said))


def plain(values: Any) -> Any:
    """Values as JSON would give them back."""
    return [plain(value) for value in values] if isinstance(values, list | tuple) else values


def spell(values: Any) -> str:
    """An axis of `to_json`, as text for an error."""
    if isinstance(values, Mapping):
        return f"{'loguniform' if values['log'] else 'uniform'}:{values['low']:g}:{values['high']:g}"
    return " ".join(map(str, values))


def describe_values(values: Mapping[str, Any]) -> str:
    """The values of a setting as flags, or a word if nothing varies."""
    words = (
        f"{flag_name(name)} {value:g}" if isinstance(value, float) else f"{flag_name(name)} {value}"
        for name, value in values.items()
    )
    return " ".join(words) or "the recipe's own"
