"""What `python -m purejaxdqn.train` does: parses, trains, reports."""

import contextlib
import datetime
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from purejaxdqn import cli
from purejaxdqn.bounds import whole
from purejaxdqn.config import SettingError, require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.machine.devices import PLATFORMS, use_compilation_cache, use_platform
from purejaxdqn.machine.stop_requests import StopRequest, noting_stop_requests
from purejaxdqn.machine.terminal import forgiving_output
from purejaxdqn.recipes.recipes import solved_at
from purejaxdqn.runs.checkpoint import DamagedCheckpoint, from_flat, latest_step
from purejaxdqn.runs.claims import claim, claim_new
from purejaxdqn.runs.early_stopping import DIVERGED
from purejaxdqn.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    CURVE,
    EPISODE_CURVE,
    EPISODES,
    GIF,
    METRICS,
    MP4,
    Settings,
    default_folder,
    settings_to_json,
    write_config,
)
from purejaxdqn.train.settings import (
    COMMAND,
    RunOptions,
    new_settings,
    number_of_seeds,
    number_of_shards,
    resumed_settings,
    rewound,
    steps_on_host,
)

SMALLER_STEPS = "try a smaller learning rate, a longer --target-period or --max-grad-norm 1"
"""What to do about a loss that is not finite."""


def run_command(
    args: list[str],
    started: Callable[[], None],
    probe: Callable[..., Any] | None = None,
    callback: Callable[..., Any] | None = None,
) -> int:
    """Runs the command line.

    Args:
      args: the words after the command.
      started: called when everything is compiled, or restored, and training begins.
      probe: a function in place of the one that `--probe` names.
      callback: likewise of `--callback`.

    Returns:
      The exit code.
    """
    # Who reads what a run prints decides nothing over the training.
    with forgiving_output():
        return cli.guarded(COMMAND, lambda: train(args, started, {"probe": probe, "callback": callback}))


def train(args: list[str], started: Callable[[], None], passed: Mapping[str, Callable[..., Any] | None]) -> int:
    """Parses, trains and reports."""
    args = cli.with_value(args, "--live", "0")
    device = cli.peek(args, "--device") or "auto"
    # An unknown device is refused by the parser, which knows the choices.
    platform = device if device in PLATFORMS else "auto"
    use_platform(platform, number_of_seeds(args), steps_on_host(args), number_of_shards(args))
    # Likewise before the parse: JAX settles at its first compilation whether there is a cache.
    if not {"--no-compilation-cache", "--no_compilation_cache"} & set(args):
        use_compilation_cache()
    resume = cli.peek(args, "--resume")
    cli.check_device(device)
    cli.import_parts(args)
    settings, options = resumed_settings(args, Path(resume)) if resume is not None else new_settings(args)
    if options.wandb:
        require_wandb()
    in_shards = settings.config.data_parallel > 1
    require(not (options.doctor and in_shards), "doctor", True, "it examines no run with --data-parallel: leave it out")
    from_data = settings.config.dataset is not None
    require(not (options.doctor and from_data), "doctor", True, "it examines no run with --dataset: leave it out")
    # After the words are understood: a wrong flag is told without these imports.
    from purejaxdqn.runs.hooks import Hooks, find_hook
    from purejaxdqn.runs.recording import check_saves
    from purejaxdqn.runs.runner import Run

    if options.save_dataset is not None:
        check_saves(settings.config, options.save_dataset)
    probe, callback = (find_hook(field, getattr(options, field), passed[field]) for field in ("probe", "callback"))
    hooks = Hooks(probe, () if callback is None else (callback,))
    folder = Path(resume) if resume is not None else Path(options.out or "")
    command = " ".join(["python -m purejaxdqn.train", *map(shlex.quote, args)])
    with noting_stop_requests() as asked:
        return train_in(Run(settings, folder, hooks), options, command, resume is not None, asked, started)


def train_in(
    run: Any, options: RunOptions, command: str, resume: bool, asked: StopRequest, started: Callable[[], None]
) -> int:
    """Trains a run in its folder, which is created if the run is new."""
    settings = run.settings
    warning = rewound(run.folder, settings.config, settings.hypers) if resume else None
    if warning is not None and not options.quiet:
        print(f"{cli.spoken(COMMAND)}: {warning}", file=sys.stderr)
    if not resume:
        # What cannot be begun with is refused before there is a folder.
        _ = run.initial_params
        claimed = claim_new(options.out, default_folder("runs", settings.config.env), CONFIG, "run")
    else:
        claimed = claim(run.folder, "resume")
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        with live_port(options.live) as listening, claimed as made:
            run.folder = made
            write = partial(write_config, made, settings, run.parts.env.spec, command, created)
            if not resume:
                write()

            def begun() -> None:
                # A resumed run's only now: a checkpoint that cannot be read leaves the folder as it was.
                if resume:
                    write()
                started()

            with live_page(listening, made, options.quiet):
                return drive(run, options, command, resume, asked, begun)
    except OSError as error:
        reason = error.strerror or str(error)
        if not run.folder.is_dir():
            said = f"--out {run.folder}: the folder was removed while the run was training; begin a new run"
            raise cli.UsageError(said) from error
        raise cli.UsageError(
            f"--out {run.folder}: it cannot be written ({reason}); make room or choose another folder, then go on with "
            f"--resume {resume_words(run, options)}"
        ) from error


@contextlib.contextmanager
def live_port(port: int | None) -> Iterator[socket.socket | None]:
    """The port of a live page, opened before there is a folder; None where no page is asked for."""
    if port is None:
        yield None
        return
    whole("live", port)
    # Only where it is asked for.
    from purejaxdqn.report.live import listen

    with listen(port, "live") as listening:
        yield listening


@contextlib.contextmanager
def live_page(listening: socket.socket | None, folder: Path, quiet: bool) -> Iterator[None]:
    """Serves the run's report while the body runs."""
    if listening is None:
        yield
        return
    # Likewise.
    from purejaxdqn.report.live import address, served_on_demand

    if not quiet:
        print(f"live page: {address(listening)}", flush=True)
    with served_on_demand(listening, folder):
        yield


def resume_words(run: Any, options: RunOptions) -> str:
    """What is typed after --resume to go on with a run."""
    hooks = {"probe": options.probe, "callback": options.callback}
    words = "".join(f" --{flag} {shlex.quote(name)}" for flag, name in hooks.items() if name is not None)
    return f"{cli.quoted(run.folder)}{cli.import_words()}{words}"


def require_wandb() -> None:
    """Raises `UsageError` if the package is missing."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise cli.UsageError("--wandb: the package is missing; install purejaxdqn[wandb]") from error


def wandb_logger(settings: Settings, folder: Path) -> Callable[[Any], None]:
    """A callback that logs each seed's numbers to Weights & Biases."""
    # Optional: see `require_wandb`.
    import wandb

    handle = wandb.init(project="purejaxdqn", name=folder.name, dir=str(folder), config=settings_to_json(settings))

    def log(logged: Any) -> None:
        for row in logged.rows:
            numbers = {f"seed_{row['seed']}/{k}": v for k, v in row.items() if v is not None and k != "seed"}
            handle.log(numbers, step=row["env_steps"])

    return log


def drive(
    run: Any, options: RunOptions, command: str, resume: bool, asked: StopRequest, started: Callable[[], None]
) -> int:
    """Trains, saves if asked to stop, and writes summary, curve and animation."""
    # As in `train`.
    from purejaxdqn.runs.hooks import CallbackRaised, Hook
    from purejaxdqn.runs.runner import Diverged, Interrupted
    from purejaxdqn.train.display import make_display

    display = make_display(options.quiet)
    try:
        if resume:
            run.restore()
        else:
            run.start()
        started()
        if options.wandb:
            run.callbacks = (Hook("wandb", "", wandb_logger(run.settings, run.folder)), *run.callbacks)
        watch = None
        if options.doctor:
            # Only where it is asked for.
            from purejaxdqn.doctor.examine import Watch

            watch = Watch(run, print if not options.quiet else lambda line: None)
        run.tell = display.phase
        run.train(display, asked, watch or (lambda: None))
        summary = run.summarize(command)
    except Interrupted as halt:
        display.close()
        who = "" if halt.by is None else f"{halt.by.flag} stopped the run: "
        print(f"{who}{saved(run, options)}", file=sys.stderr)
        return asked.exit_code if halt.by is None else 0
    except CallbackRaised as error:
        raise cli.UsageError(f"{error}; {saved(run, options)}") from error
    except KeyboardInterrupt:
        display.close()
        print(f"stopped; {kept(run)}", file=sys.stderr)
        return asked.exit_code
    except DamagedCheckpoint as error:
        raise SettingError("resume", str(run.folder), f"{error}; begin a new run") from error
    except Diverged as error:
        rate = f"--learning-rate {run.settings.hypers.learning_rate}"
        raise cli.UsageError(f"{rate}: {error}; {kept(run)}; {SMALLER_STEPS}") from error
    finally:
        display.close()
    finish(run, options, summary)
    if watch is not None and not options.quiet:
        print(watch.closing())
    run.lanes.close()
    return 0


def saved(run: Any, options: RunOptions) -> str:
    """Where a run has saved itself, and how it goes on, as text."""
    again = f"python -m purejaxdqn.train --resume {resume_words(run, options)}"
    return f"saved at {run.env_steps:,} environment steps; go on with: {again}"


def kept(run: Any) -> str:
    """The checkpoint that a run that ended early leaves, as text."""
    step = latest_step(run.folder / CHECKPOINTS)
    return "no checkpoint was made yet" if step is None else f"the checkpoint of step {run.steps_at(step):,} is kept"


def save_dataset(run: Any, name: str, quiet: bool) -> None:
    """Writes the steps that a run's replay holds, and says how many."""
    # As in `finish`.
    from purejaxdqn.replay.dataset import write_dataset
    from purejaxdqn.runs.recording import dataset_of

    spec = run.parts.env.spec
    dataset = dataset_of(spec, run.lanes.get(run.state.memory), run.settings.seeds)
    try:
        write_dataset(Path(name), dataset, spec)
    except OSError as error:
        raise SettingError("save_dataset", name, f"it cannot be written ({error.strerror})") from error
    if not quiet:
        print(f"dataset: {name} ({dataset.num_steps:,} steps of {len(dataset.episode_start):,} episodes)")


def finish(run: Any, options: RunOptions, summary: dict[str, Any]) -> None:
    """Draws a finished run's curve and animation, and prints the results."""
    # Drawing is imported when there is something to draw.
    from purejaxdqn.pictures.plots import episode_curve, learning_curve
    from purejaxdqn.runs.episode_video import write_gif, write_mp4
    from purejaxdqn.train.display import closing_table, speed_line

    if options.save_dataset is not None:
        save_dataset(run, options.save_dataset, options.quiet)
    for entry in summary["evaluation"]:
        if entry["ended_by"] == DIVERGED:
            step = f"its loss became no finite number by environment step {entry['env_steps']:,}"
            print(f"seed {entry['seed']} diverged: {step}; {SMALLER_STEPS}", file=sys.stderr)
    env = run.settings.config.env
    bar = solved_at(run.settings.recipe, env)
    pictures = []
    # Without evaluations of its own, and with no episode of training over, there is no return to draw.
    if run.endings.episodes.any() or np.isfinite(run.best.score).any():
        pictures.append(CURVE)
        learning_curve(run.folder / METRICS, run.folder / CURVE, env_id=env, solved_at=bar)
    if run.settings.config.log_episodes and run.endings.episodes.any():
        pictures.append(EPISODE_CURVE)
        episode_curve(run.folder / EPISODES, run.folder / EPISODE_CURVE, env_id=env, solved_at=bar)
    scores = [entry["best_mean_return"] for entry in summary["evaluation"]]
    lane = int(np.argmax([-np.inf if score is None else score for score in scores]))
    params = jax.tree.map(lambda leaf: leaf[lane], from_flat(run.best.params, run.params_like()))
    on_host = loop_of(env) == "host"
    picture, write = (MP4, write_mp4) if on_host else (GIF, write_gif)
    write(run.parts, params, jax.random.key(run.settings.seeds[lane]), run.folder / picture, options.eval_epsilon)
    if options.quiet:
        return
    console = Console()
    console.print(closing_table(summary, bar))
    if on_host and not run.settings.keep_replay:
        print("the replay is not in the checkpoint: a run that goes on fills a new one first (--checkpoint-replay)")
    print(speed_line(summary))
    held = ", ".join([*pictures, picture, METRICS])
    print(f"run folder: {run.folder} ({held}, TensorBoard events, checkpoints)")
    episodes = f"--episodes {10 if on_host else 100}"
    print(f"next: python -m purejaxdqn.evaluate {cli.quoted(run.folder)} {episodes}{cli.import_words()}")
