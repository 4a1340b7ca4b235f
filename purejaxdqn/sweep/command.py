"""`python -m purejaxdqn.sweep`: trains seeds × settings, ranks them and leaves a folder."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from purejaxdqn import cli
from purejaxdqn.config import SettingError, require
from purejaxdqn.machine.devices import PLATFORMS, use_compilation_cache, use_platform
from purejaxdqn.machine.imports import require_imported
from purejaxdqn.machine.stop_requests import noting_stop_requests
from purejaxdqn.machine.terminal import forgiving_output
from purejaxdqn.recipes.recipes import Recipe
from purejaxdqn.runs.checkpoint import DamagedCheckpoint
from purejaxdqn.runs.claims import LOCK, claim, claim_new
from purejaxdqn.runs.folder import default_folder
from purejaxdqn.runs.sweep_folder import REPORT, SWEEP, read_sweep
from purejaxdqn.sweep.definition import Definition, check_same, make_all, to_json
from purejaxdqn.sweep.flags import COMMAND, early_device, early_options, read_flags, spell_out
from purejaxdqn.sweep.options import SweepOptions
from purejaxdqn.sweep.processes import Processes, join, stop_of_all, wait_until


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    # Who reads what a sweep prints decides nothing over the training.
    with forgiving_output():
        return cli.guarded(COMMAND, lambda: sweep(spell_out(args)))


def sweep(args: list[str]) -> int:
    """Parses, trains and reports."""
    device = early_device(args)
    use_platform(device if device in PLATFORMS else "auto")
    if not {"--no-compilation-cache", "--no_compilation_cache"} & set(args):
        use_compilation_cache()
    # Before anything touches a device, which reading the flags of an environment does.
    processes = join(early_options(args))
    cli.check_device(device)
    cli.import_parts(args)
    definition, typed, recipe, options = read_flags(args)
    command = " ".join(["python -m purejaxdqn.sweep", *map(shlex.quote, args)])
    if options.resume is not None:
        return go_on(Path(options.resume), typed, options, processes, command)
    return begin(definition, recipe, options, processes, command)


def begin(definition: Definition, recipe: Recipe, options: SweepOptions, processes: Processes, command: str) -> int:
    """Starts a new sweep."""
    # After the words are understood: a wrong flag is told without these imports.
    from purejaxdqn.sweep.driver import is_finished, make_groups
    from purejaxdqn.sweep.layout import make_layout
    from purejaxdqn.sweep.record import from_file, save_sweep, to_file
    from purejaxdqn.sweep.search import read_earlier

    settings = make_all(definition, recipe)
    layout = make_layout(definition, settings, make_groups(definition, recipe, settings, processes.total))
    earlier = [] if options.study is None else read_earlier(Path(options.study), definition.axes)
    if options.dry_run:
        return plan_only(definition, recipe, layout, options, processes)
    if processes.number == 0:
        default = default_folder("sweeps", definition.env.replace("/", "-"))
        with claim_new(options.out, default, SWEEP, "sweep", lock_name(processes)) as folder:
            save_sweep(folder, to_file(definition, recipe, layout, command, earlier))
            return drive(definition, recipe, layout, folder, options, processes, command)
    folder = Path(str(options.out))
    wait_until(lambda: (folder / SWEEP).is_file())
    remedy = "it holds a sweep already: choose another folder, or go on with it by --resume"
    require(not is_finished(folder), "out", str(folder), remedy)
    data = read_sweep(folder)
    check_same(data["definition"], to_json(definition))
    # Process 0 has cut the lanes up: whatever this one would have chosen, the units are those.
    with claim(folder, "out", lock_name(processes)):
        return drive(*from_file(data, folder), folder, options, processes, command)


def lock_name(processes: Processes) -> str:
    """Name of the lock of one of a sweep's processes."""
    return f"{LOCK}-{processes.number}"


def go_on(folder: Path, typed: dict[str, Any], options: SweepOptions, processes: Processes, command: str) -> int:
    """Resumes a sweep."""
    # As in `begin`.
    from purejaxdqn.sweep.driver import is_finished
    from purejaxdqn.sweep.record import from_file

    data = read_sweep(folder)
    require_imported(data.get("imports", ()))
    remedy = "a sweep that goes on stays in its folder: leave the flag out"
    require(options.out is None, "out", options.out, remedy)
    remedy = "a search that goes on has read it when it began: leave the flag out"
    require(options.study is None, "study", options.study, remedy)
    check_same(data["definition"], typed)
    if is_finished(folder):
        if not options.quiet and processes.number == 0:
            print(f"{folder} has come to its end already")
        return 0
    with claim(folder, "resume", lock_name(processes)):
        return drive(*from_file(data, folder), folder, options, processes, command)


def plan_only(definition: Definition, recipe: Recipe, layout: Any, options: SweepOptions, processes: Processes) -> int:
    """Prints what would be done, and how long it may take."""
    # As in `begin`.
    from purejaxdqn.sweep.driver import Sweep

    sweep = Sweep(definition, recipe, layout, Path(), options.checkpoint_minutes, processes)
    tell_plan(sweep, processes, quiet=False)
    return 0


def tell_plan(sweep: Any, processes: Processes, quiet: bool) -> None:
    """Prints the plan, with a brief measurement of each program."""
    # As in `begin`.
    from purejaxdqn.machine.progress import duration
    from purejaxdqn.sweep.display import plan_lines, steps_text

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
    """Trains, saves if asked to stop, and writes the ranking, the best recipe and the report."""
    # As in `begin`.
    from purejaxdqn.sweep.display import Progressing, population_table, print_table, ranking_table
    from purejaxdqn.sweep.driver import Sweep, is_finished
    from purejaxdqn.sweep.engine import Interrupted

    flag = "out" if options.resume is None else "resume"
    sweep = Sweep(definition, recipe, layout, folder, options.checkpoint_minutes, processes)
    again = f"--resume {cli.quoted(folder)}{cli.import_words()}"
    with noting_stop_requests() as asked:
        stop = stop_of_all(folder, asked, processes)
        try:
            tell_plan(sweep, processes, options.quiet)
            quiet = options.quiet or processes.number > 0
            progress = Progressing(sweep.planned_steps // processes.total, 0, quiet)
            try:
                sweep.run(progress.advance, stop)
            finally:
                progress.close()
            if processes.number > 0:
                return 0 if wait_until(lambda: is_finished(folder), stop) else asked.exit_code
            summary = sweep.finish(command, options.report)
        except Interrupted:
            print(f"saved; go on with: python -m purejaxdqn.sweep {again}", file=sys.stderr)
            return asked.exit_code
        except KeyboardInterrupt:
            kept = "what its units have saved is kept"
            print(f"stopped; {kept}; go on with: python -m purejaxdqn.sweep {again}", file=sys.stderr)
            return asked.exit_code
        except DamagedCheckpoint as error:
            remedy = f"{error}; remove that file, which costs the work in it, or begin a new sweep"
            raise SettingError(flag, str(folder), remedy) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise cli.UsageError(
                f"--{flag} {folder}: it cannot be written ({reason}); make room, then go on with {again}"
            ) from error
    pictures = make_report(folder, flag, options.report)
    if not options.quiet:
        what = f"{definition.env}: {layout.num_lanes} lanes, ranked by the {definition.options['rank_by']} scores"
        entries, members = summary["ranking"], summary["population"]
        print_table(ranking_table(entries, what) if members is None else population_table(members, what))
        print(f"sweep folder: {folder} (curves.npz, lanes.npz, summary.json, best.toml{pictures})")
        print(f"next: python -m purejaxdqn.train --recipe {cli.quoted(folder / 'best.toml')}{cli.import_words()}")
    return 0


def make_report(folder: Path, flag: str, wanted: bool) -> str:
    """Writes report.html if requested; returns what to add to the list of files."""
    if not wanted:
        return ""

    try:
        from purejaxdqn.report.write_page import write_report
    except ImportError as error:
        raise SettingError("report", True, f"{error.name} is missing: install it, or use --no-report") from error
    try:
        write_report([folder], folder / REPORT)
    except OSError as error:
        again = f"python -m purejaxdqn.report {cli.quoted(folder)}"
        remedy = f"its report cannot be written ({error.strerror or error}); see {again}"
        raise SettingError(flag, str(folder), remedy) from error
    return f", {REPORT}"
