"""`python -m purejaxdqn.sweep`: trains seeds × settings, ranks them and leaves a folder."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from purejaxdqn import cli
from purejaxdqn.build import env_settings
from purejaxdqn.checkpoint import DamagedCheckpoint
from purejaxdqn.config import Config, SettingError, flag_name, require
from purejaxdqn.devices import PLATFORMS, use_compilation_cache, use_platform
from purejaxdqn.recipe_files import find_recipe
from purejaxdqn.recipes import Recipe, default_recipe, make_settings
from purejaxdqn.sweep.definition import (
    DEFINING,
    ENV_PARAMS,
    Definition,
    SweepOptions,
    check_options,
    check_same,
    make_all,
    parse_axes,
    read_file,
    to_json,
)
from purejaxdqn.sweep.processes import Processes, join, wait_until

COMMAND = "purejaxdqn-sweep"
Words = tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: sweep(spell_out(args)))


def spell_out(args: Sequence[str]) -> list[str]:
    """Flags that are on or off with their values: `--noisy` is `--noisy true`, `--no-noisy` is `--noisy false`."""
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


def sweep(args: list[str]) -> int:
    """Parses, trains and reports."""
    device = cli.peek(args, "--device") or "auto"
    use_platform(device if device in PLATFORMS else "auto")
    if not {"--no-compilation-cache", "--no_compilation_cache"} & set(args):
        use_compilation_cache()
    # Before anything touches a device, which reading the flags of an environment does.
    processes = join(early_options(args))
    cli.check_device(device)
    definition, typed, recipe, options = read_flags(args)
    command = " ".join(["python -m purejaxdqn.sweep", *map(shlex.quote, args)])
    if options.resume is not None:
        return go_on(Path(options.resume), typed, options, processes, command)
    return begin(definition, recipe, options, processes, command)


def early_options(args: Sequence[str]) -> SweepOptions:
    """Options about processes, before the flags are parsed; what is no number is left to the parser."""
    found: dict[str, Any] = {}
    for name in ("coordinator", "out", "resume"):
        found[name] = cli.peek(args, flag_name(name))
    for name in ("num_processes", "process_id", "coordinator_timeout"):
        word = cli.peek(args, flag_name(name))
        if word is not None and word.isdigit():
            found[name] = int(word)
    return SweepOptions(**found, distributed="--distributed" in args)


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
    """Flags that nobody has to give."""
    return [(name, kind, dataclasses.field(default=())) for name, kind in kinds.items()]


def read_flags(args: Sequence[str]) -> tuple[Definition, dict[str, Any], Recipe, SweepOptions]:
    """The sweep that the flags and the file ask for, and what was asked for alone, in the form of `to_json`.

    Raises:
      SettingError: where a value cannot work.
    """
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
    flags = cli.parse(cls, args, COMMAND, str(__doc__))
    chosen = SweepOptions(**{field: getattr(flags, field) for field in known})
    check_options(chosen)
    typed = cli.typed_fields(args, cls)
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
    """The environment of a sweep that is to go on."""
    from purejaxdqn.sweep_folder import read_sweep

    return str(read_sweep(folder)["env"])


def typed_options(defaults: SweepOptions, given: dict[str, Any]) -> SweepOptions:
    """Options with those of a file in their place.

    Raises:
      SettingError: where one is of another type.
    """
    for name, value in given.items():
        kind = next(field.type for field in dataclasses.fields(SweepOptions) if field.name == name)
        fits = (
            isinstance(value, str) if "str" in str(kind) or "Literal" in str(kind) else isinstance(value, int | float)
        )
        require(
            fits, name, value, f"in a file it is a {'string' if 'str' in str(kind) else 'number, or true or false'}"
        )
    return dataclasses.replace(defaults, **given)


def in_order(args: Sequence[str], cls: type) -> list[str]:
    """The fields whose flags were typed, in that order."""
    fields = cli.flag_fields(cls)
    words = [word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--")]
    return list(dict.fromkeys(fields[word] for word in words if word in fields))


def begin(definition: Definition, recipe: Recipe, options: SweepOptions, processes: Processes, command: str) -> int:
    """A new sweep."""
    from purejaxdqn.folder import new_folder
    from purejaxdqn.sweep.layout import make_layout
    from purejaxdqn.sweep.sweeping import from_file, make_groups, save_sweep, to_file
    from purejaxdqn.sweep_folder import SWEEP, read_sweep

    settings = make_all(definition, recipe)
    layout = make_layout(definition, settings, make_groups(definition, settings, processes.total))
    if options.dry_run:
        return plan_only(definition, recipe, layout, options, processes)
    if processes.number == 0:
        folder = new_folder(options.out, "sweeps", definition.env.replace("/", "-"), SWEEP, "sweep")
        save_sweep(folder, to_file(definition, recipe, layout, command))
    else:
        folder = Path(str(options.out))
        wait_until(lambda: (folder / SWEEP).is_file())
        # Process 0 has cut the lanes up: whatever this one would have chosen, the units are those.
        definition, recipe, layout = from_file(read_sweep(folder), folder)
    return drive(definition, recipe, layout, folder, options, processes, command)


def go_on(folder: Path, typed: dict[str, Any], options: SweepOptions, processes: Processes, command: str) -> int:
    """A sweep that was begun."""
    from purejaxdqn.sweep.sweeping import from_file, is_finished
    from purejaxdqn.sweep_folder import read_sweep

    data = read_sweep(folder)
    remedy = "a sweep that goes on stays in its folder: leave the flag out"
    require(options.out is None, "out", options.out, remedy)
    check_same(data["definition"], typed)
    if is_finished(folder):
        if not options.quiet and processes.number == 0:
            print(f"{folder} has come to its end already")
        return 0
    return drive(*from_file(data, folder), folder, options, processes, command)


def plan_only(definition: Definition, recipe: Recipe, layout: Any, options: SweepOptions, processes: Processes) -> int:
    """Says what would be done, and how long it may take."""
    from purejaxdqn.sweep.sweeping import Sweep

    sweep = Sweep(definition, recipe, layout, Path(), options.checkpoint_minutes, processes)
    tell_plan(sweep, processes, quiet=False)
    return 0


def tell_plan(sweep: Any, processes: Processes, quiet: bool) -> None:
    """Prints the plan, with a brief measurement of each program."""
    import jax

    from purejaxdqn.sweep.display import duration, plan_lines, steps_text

    if quiet or processes.number > 0:
        return
    layout = sweep.layout
    widths = {group.number: group.unit_size for group in layout.groups}
    for line in plan_lines(layout, widths, jax.local_device_count(), jax.default_backend(), processes.total):
        print(line, flush=True)
    measured = sweep.estimate()
    compiling = sum(seconds for seconds, _ in measured.values())
    share = sweep.planned_steps / sweep.full_steps
    training = sum(seconds for _, seconds in measured.values()) * share / processes.total
    steps = f"{steps_text(sweep.planned_steps)} environment steps in all"
    print(f"{steps}; compiled in {compiling:.1f} s, about {duration(training)} of training", flush=True)


def drive(
    definition: Definition,
    recipe: Recipe,
    layout: Any,
    folder: Path,
    options: SweepOptions,
    processes: Processes,
    command: str,
) -> int:
    """Trains, handles Ctrl-C, and leaves the ranking, the best recipe and the report."""
    from purejaxdqn.sweep.display import Progressing, print_table, ranking_table
    from purejaxdqn.sweep.engine import Interrupted
    from purejaxdqn.sweep.sweeping import Sweep, is_finished
    from purejaxdqn.sweep_folder import LOCK, hold

    asked, give_back = cli.count_interrupts()
    flag = "out" if options.resume is None else "resume"
    sweep = Sweep(definition, recipe, layout, folder, options.checkpoint_minutes, processes)
    try:
        with hold(folder, f"{LOCK}-{processes.number}", flag):
            tell_plan(sweep, processes, options.quiet)
            quiet = options.quiet or processes.number > 0
            progress = Progressing(sweep.planned_steps // processes.total, 0, quiet)
            try:
                sweep.run(progress.advance, lambda: stop_asked(asked))
            finally:
                progress.close()
            if processes.number > 0:
                wait_until(lambda: is_finished(folder), lambda: stop_asked(asked))
                return 0
            summary = sweep.finish(command, options.report)
    except (Interrupted, KeyboardInterrupt):
        print(f"saved; go on with: python -m purejaxdqn.sweep --resume {folder}", file=sys.stderr)
        return 130
    except DamagedCheckpoint as error:
        remedy = f"{error}; remove that file, which costs the work in it, or begin a new sweep"
        raise SettingError(flag, str(folder), remedy) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise cli.UsageError(
            f"--{flag} {folder}: it cannot be written ({reason}); make room, then go on with --resume {folder}"
        ) from error
    finally:
        give_back()
    pictures = make_report(folder, flag, options.report)
    if not options.quiet:
        what = f"{definition.env}: {layout.num_lanes} lanes, ranked by the {definition.options['rank_by']} scores"
        print_table(ranking_table(summary["ranking"], what))
        print(f"sweep folder: {folder} (curves.npz, lanes.npz, summary.json, best.toml{pictures})")
        print(f"next: python -m purejaxdqn.train --recipe {folder / 'best.toml'}")
    return 0


def stop_asked(signals: Sequence[int]) -> bool:
    """Whether Ctrl-C was pressed."""
    return bool(signals)


def make_report(folder: Path, flag: str, wanted: bool) -> str:
    """Makes report.html where it is wanted; what to add to the list of files."""
    if not wanted:
        return ""
    from purejaxdqn.sweep_folder import REPORT

    try:
        from purejaxdqn.report.page import write_report
    except ImportError as error:
        raise SettingError("report", True, f"{error.name} is missing: install it, or use --no-report") from error
    try:
        write_report([folder], folder / REPORT)
    except OSError as error:
        remedy = f"its report cannot be written ({error.strerror or error}); see python -m purejaxdqn.report {folder}"
        raise SettingError(flag, str(folder), remedy) from error
    return f", {REPORT}"
