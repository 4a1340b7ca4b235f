"""`python -m purejaxdqn.doctor RUN`: examines a finished or interrupted run for the usual traps of DQN."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from purejaxdqn import cli
from purejaxdqn.bounds import check
from purejaxdqn.config import SettingError, require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.machine.imports import require_imported
from purejaxdqn.machine.verdict_table import Line, print_verdicts
from purejaxdqn.runs.folder import CHECKPOINTS, Settings, finite, read_config

if TYPE_CHECKING:
    from purejaxdqn.doctor.findings import Finding
    from purejaxdqn.doctor.vitals import Vitals

COMMAND = "purejaxdqn-doctor"


@dataclasses.dataclass(frozen=True)
class DoctorFlags:
    """The flags of `doctor`."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run. Nothing in it is changed."""
    seed_index: int | None = None
    """Which of the run's seeds to examine, from 0; by default all."""
    episodes: int = 16
    """Greedy episodes for each seed, where the environment steps on the device."""
    json: bool = False
    """Print JSON and nothing else."""
    imports: cli.Imports = ()
    """A module, or a file such as path/to/file.py, to import first: it has or registers parts of the run."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to run; auto is JAX's own choice."""
    compilation_cache: bool = True
    """Whether compiled programs are kept in the user's cache folder for the next start."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: doctor(args))


def doctor(args: list[str]) -> int:
    """Parses, examines and prints."""
    flags: DoctorFlags = cli.parse(DoctorFlags, args, COMMAND, str(__doc__))
    check(vars(flags))
    folder = Path(flags.run)
    settings, _, data = read_config(folder, "run")
    indices = cli.seed_indices(flags.seed_index, len(settings.seeds))
    cli.start_jax(flags.device, flags.compilation_cache)
    cli.import_parts(args)
    require_imported(data.get("imports", ()))
    env_steps, vitals, findings = examine(folder, settings, indices, flags.episodes)
    if flags.json:
        found = {
            "env_steps": env_steps,
            "findings": [finding.as_json() for finding in findings],
            "vitals": {str(seed): one.as_json() for seed, one in vitals.items()},
        }
        print(json.dumps(finite(found), allow_nan=False))
    else:
        show(Console(), settings, env_steps, findings)
    return 0


def examine(
    folder: Path, settings: Settings, indices: list[int], episodes: int
) -> tuple[int, dict[int, "Vitals"], list["Finding"]]:
    """Environment steps of each seed at the newest checkpoint, its vitals by seed, and the findings.

    A run on the device is also examined at its start, which is recreated from its settings: a step that was too large
    there may have left a network that no longer changes. Without a checkpoint only the start is examined.

    Raises:
      SettingError: for a damaged checkpoint, or if there is nothing to examine.
    """
    # After the words are understood: a wrong flag is told without these imports.
    from purejaxdqn.doctor.examine import Examiner, judge_run, subject_of
    from purejaxdqn.doctor.findings import since_start
    from purejaxdqn.runs.checkpoint import DamagedCheckpoint, latest_step
    from purejaxdqn.runs.runner import Run

    remedy = "the doctor examines no run with --data-parallel: name one without"
    require(settings.config.data_parallel == 1, "run", str(folder), remedy)
    remedy = "the doctor examines no run with --dataset: name one without"
    require(settings.config.dataset is None, "run", str(folder), remedy)
    run = Run(settings, folder)
    examiner = Examiner(settings, run.parts, episodes)
    # Rows past the newest checkpoint tell how a run came to its end.
    last_row = 2 * settings.config.total_steps

    def look_at(state: Any, iterations: int, rows_to: int, earlier: set[str]) -> Any:
        subject = subject_of(state)
        vitals = {settings.seeds[index]: examiner.examine(subject, index, iterations) for index in indices}
        return vitals, judge_run(settings, folder, rows_to, vitals, earlier)

    try:
        saved = saved_state(run) if latest_step(folder / CHECKPOINTS) is not None else None
    except DamagedCheckpoint as error:
        raise SettingError("run", str(folder), f"{error}; name a whole run") from error
    on_device = loop_of(settings.config.env) == "device"
    require(saved is not None or on_device, "run", str(folder), "it has no checkpoint yet: train on")
    if saved is None:
        return run.steps_at(0), *look_at(run.lanes.init(run.lanes.put(run.keys), run.hypers), 0, last_row, set())
    state, iterations = saved
    if not on_device:
        return run.steps_at(iterations), *look_at(state, iterations, last_row, set())
    start = run.lanes.init(run.lanes.put(run.keys), run.hypers)
    _, first = look_at(start, 0, 0, set())
    alarms = {finding.name for finding in first if finding.severity == "alarm"}
    vitals, last = look_at(state, iterations, last_row, alarms)
    return run.steps_at(iterations), vitals, since_start(first, last)


def saved_state(run: Any) -> tuple[Any, int]:
    """The state in a run's newest checkpoint, as far as it was saved, and the number of iterations by then."""
    # Likewise.
    from purejaxdqn.runs.checkpoint import from_flat, load_checkpoint

    saved = load_checkpoint(run.folder / CHECKPOINTS)
    state = from_flat(saved.state, run.lanes.like)
    return state["run"] if isinstance(state, dict) else state, saved.step


def show(console: Console, settings: Settings, env_steps: int, findings: list["Finding"]) -> None:
    """Prints the findings: all in a table, then what to do about alarms and notes."""
    seeds = f"{len(settings.seeds)} seed{'s' * (len(settings.seeds) > 1)}"

    def line(found: "Finding") -> Line:
        some = len(found.seeds) < len(settings.seeds)
        which = f" (seeds {', '.join(map(str, found.seeds))})" if some else ""
        return Line(found.name, found.severity, found.value, f"{found.sentence()}{which}")

    print_verdicts(console, f"{settings.config.env}, {seeds}, at {env_steps:,} environment steps", map(line, findings))
