"""The command line of a sweep: flags that take several values each, and a file as their equivalent."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from purejaxdqn import cli
from purejaxdqn.bounds import read_whole
from purejaxdqn.build import env_settings
from purejaxdqn.config import Config, flag_name, require
from purejaxdqn.machine.imports import require_imported
from purejaxdqn.recipes.files import find_recipe, read_toml
from purejaxdqn.recipes.recipes import Recipe, default_recipe, make_settings
from purejaxdqn.runs.sweep_folder import read_sweep
from purejaxdqn.sweep.definition import ENV_PARAMS, Definition, parse_axes, read_file, to_json
from purejaxdqn.sweep.options import DEFINING, SweepOptions, check_options, check_read
from purejaxdqn.train.groups import groups_of

COMMAND = "purejaxdqn-sweep"
DESCRIPTION = "`python -m purejaxdqn.sweep`: trains seeds × settings, ranks them and leaves a folder."
Words = tuple[str, ...]


def spell_out(args: Sequence[str]) -> list[str]:
    """Boolean flags with explicit values: `--noisy` is `--noisy true`, `--no-noisy` is `--noisy false`."""
    switches = {flag_name(field.name) for field in dataclasses.fields(Config) if field.type in (bool, "bool")}
    words = []
    for here, word in enumerate(args):
        name = word.replace("_", "-") if word.startswith("--") else word
        following = args[here + 1] if here + 1 < len(args) else "--"
        if name in switches and following.startswith("--"):
            words += [name, "true"]
        elif name.startswith("--no-") and "--" + name.removeprefix("--no-") in switches:
            words += ["--" + name.removeprefix("--no-"), "false"]
        else:
            words.append(word)
    return words


def early_options(args: Sequence[str]) -> SweepOptions:
    """Options about processes, before the flags are parsed; invalid numbers are left to the parser."""
    found: dict[str, Any] = {}
    for name in ("coordinator", "out", "resume"):
        found[name] = cli.peek(args, flag_name(name))
    for name in ("num_processes", "process_id", "coordinator_timeout"):
        number = read_whole(cli.peek(args, flag_name(name)) or "")
        if number is not None:
            found[name] = number
    return SweepOptions(**found, distributed="--distributed" in args)


def early_device(args: Sequence[str]) -> str:
    """The device to run on, from the flags or else the file, before either is checked."""
    file = cli.peek(args, "--file")
    of_file = {} if file is None else read_toml(Path(file), "file")
    return cli.peek(args, "--device") or str(of_file.get("device", "auto"))


def flags_class(env: str, recipe: Recipe, options: SweepOptions) -> type:
    """The dataclass whose fields are the flags: every field of Config and Hypers takes several words."""
    config, hypers = make_settings(recipe, env)
    params = {name: several(f"Parameter of {env}: {value}.") for name, value in env_settings(env).items()}
    env_class = dataclasses.make_dataclass("EnvParams", as_fields(params), frozen=True)
    fields: dict[str, Any] = {"algo": several("Algorithms; by default the recipe's own.")}
    for defaults in (config, hypers):
        docs = cli.field_docs(type(defaults))
        for field in dataclasses.fields(defaults):
            if field.name not in ("env", "env_params"):
                value = getattr(defaults, field.name)
                fields[field.name] = several(f"{docs.get(field.name, '').replace('`', '')} Here: {cli.typed(value)}.")
    shown = [
        ("env", Annotated[str, tyro.conf.arg(help=cli.field_docs(Config)["env"])], dataclasses.field(default=env)),
        *cli.as_flags(options),
        *as_fields(fields),
        ("env_params", env_class, dataclasses.field(default_factory=env_class)),
    ]
    return dataclasses.make_dataclass("SweepFlags", shown, frozen=True)


def several(help_text: str) -> Any:
    """The type of a flag that takes values, or a range."""
    return Annotated[Words, tyro.conf.arg(help=help_text, metavar="VALUES")]


def as_fields(kinds: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Optional flags."""
    return [(name, kind, dataclasses.field(default=())) for name, kind in kinds.items()]


def read_flags(args: Sequence[str]) -> tuple[Definition, dict[str, Any], Recipe, SweepOptions]:
    """The requested sweep from the flags and the file, and only what was given explicitly, in the form of `to_json`.

    Raises:
      SettingError: if a value is invalid.
    """
    for hook in ("probe", "callback"):
        hooked = cli.peek(args, flag_name(hook))
        remedy = "a sweep's tables and units have no hooks: use python -m purejaxdqn.train --seeds N, for each setting"
        require(hooked is None, hook, hooked, remedy)
    file, resume = cli.peek(args, "--file"), cli.peek(args, "--resume")
    options, words = read_file(Path(file)) if file is not None else ({}, {})
    env_typed = cli.peek(args, "--env") or options.pop("env", None)
    name = cli.peek(args, "--recipe") or options.get("recipe")
    if resume is not None and env_typed is None and name is None:
        env_typed = saved_env(Path(resume))
    recipe = find_recipe(name) if name is not None else default_recipe(env_typed or "CartPole-v1")
    env = env_typed or recipe.config.get("env", "CartPole-v1")
    defaults = SweepOptions()
    known = {field.name for field in dataclasses.fields(SweepOptions)}
    of_recipe = {key: value for key, value in recipe.run.items() if key in known}
    defaults = typed_options(dataclasses.replace(defaults, **of_recipe), options)
    cls = flags_class(env, recipe, defaults)
    flags = cli.parse(cls, args, COMMAND, DESCRIPTION, groups_of(cls))
    chosen = SweepOptions(**{field: getattr(flags, field) for field in known})
    check_options(chosen)
    typed = cli.typed_fields(args, cls)
    if resume is None:
        check_read(chosen, typed | set(options))
    given = dict(words)
    for field in in_order(args, cls):
        if field.startswith(ENV_PARAMS):
            given[field] = getattr(flags.env_params, field.removeprefix(ENV_PARAMS))
        elif field not in known and field != "env":
            given[field] = getattr(flags, field)
    axes = parse_axes(given, env, chosen.draw_seed)
    definition = Definition(env, name or recipe.name, axes, {field: getattr(chosen, field) for field in DEFINING})
    whole = to_json(definition)
    asked = {
        **({"env": env} if cli.peek(args, "--env") else {}),
        **({"recipe": name} if cli.peek(args, "--recipe") else {}),
        "options": {field: whole["options"][field] for field in DEFINING if field in typed | set(options)},
        "axes": whole["axes"],
    }
    return definition, asked, recipe, chosen


def saved_env(folder: Path) -> str:
    """The environment of a sweep that is to be resumed."""
    data = read_sweep(folder)
    require_imported(data.get("imports", ()))
    return str(data["env"])


def typed_options(defaults: SweepOptions, given: dict[str, Any]) -> SweepOptions:
    """Default options, replaced by those of a file.

    Raises:
      SettingError: if one is of another type.
    """
    for name, value in given.items():
        kind = str(next(field.type for field in dataclasses.fields(SweepOptions) if field.name == name))
        # Names of choices are a Literal, or an alias of one.
        is_text = "str" in kind or "Literal" in kind
        remedy = f"in a file it is a {'string' if is_text else 'number, or true or false'}"
        require(isinstance(value, str if is_text else int | float), name, value, remedy)
    return dataclasses.replace(defaults, **given)


def in_order(args: Sequence[str], cls: type) -> list[str]:
    """The fields whose flags were typed, in that order."""
    fields = cli.flag_fields(cls)
    words = [word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--")]
    return list(dict.fromkeys(fields[word] for word in words if word in fields))
