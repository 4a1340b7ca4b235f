"""`python -m purejaxdqn.evaluate RUN`: plays fresh episodes with a trained run's policies."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from purejaxdqn import cli
from purejaxdqn.bounds import SEEDS, check
from purejaxdqn.config import SettingError, require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.machine.imports import require_imported
from purejaxdqn.runs.folder import CHECKPOINTS, Settings, finite, read_config

COMMAND = "purejaxdqn-evaluate"


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """The flags of `evaluate`."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run."""
    episodes: int = 100
    """Fresh episodes for each seed."""
    epsilon: float = 0.0
    """Probability of a random action; 0 is greedy."""
    max_steps: int | None = None
    """Environment steps after which an episode is cut and scored; by default 27,000."""
    seed_index: int | None = None
    """Which of the run's seeds to evaluate, from 0; by default all."""
    which: Literal["last", "best"] = "best"
    """Which parameters: the last ones, or the best by the evaluations of training."""
    key: int = 0
    """Seed of the episodes; another one gives other episodes."""
    gif: str | None = None
    """Also record one episode (of the first seed evaluated) into this file."""
    mp4: str | None = None
    """The same as a video (needs the extra atari)."""
    q_values: bool = True
    """Whether pictures show the step, the return and the value of every action beneath."""
    save_dataset: str | None = None
    """Also write the steps of as many episodes, played anew with this ε, into this file, NAME.npz (docs/offline.md)."""
    fqe: str | None = None
    """Value the policies by the steps in this dataset, NAME.npz, in place of playing (fitted Q evaluation)."""
    fqe_updates: int = 10_000
    """Gradient updates for each of them."""
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
    return cli.guarded(COMMAND, lambda: evaluate(args))


def evaluate(args: list[str]) -> int:
    """Parses, plays and prints."""
    flags: EvaluateFlags = cli.parse(EvaluateFlags, args, COMMAND, str(__doc__))
    check(vars(flags))
    folder = Path(flags.run)
    settings, _, data = read_config(folder, "run")
    indices = cli.seed_indices(flags.seed_index, len(settings.seeds))
    for name in ("gif", "mp4"):
        path = getattr(flags, name)
        if path is not None:
            require(Path(path).suffix == f".{name}", name, path, f"name a file that ends in .{name}")
            parent = Path(path).absolute().parent
            require(parent.is_dir(), name, path, "its folder does not exist: make it first")
    if flags.save_dataset is not None:
        # As in `play`.
        from purejaxdqn.runs.recording import check_plays

        check_plays(settings.config, flags.save_dataset)
    cli.start_jax(flags.device, flags.compilation_cache)
    cli.import_parts(args)
    require_imported(data.get("imports", ()))
    unread = flags.fqe is None and flags.fqe_updates != EvaluateFlags.fqe_updates
    require(not unread, "fqe_updates", flags.fqe_updates, "it belongs to --fqe: name a dataset, or leave it out")
    if flags.fqe is not None:
        results, table = value(folder, settings, flags, indices), values_table
    else:
        results, table = play(folder, settings, flags, indices), results_table
    if flags.json:
        print(json.dumps(finite({"seeds": results}), allow_nan=False))
    else:
        Console().print(table(settings, flags, results))
    return 0


def value(folder: Path, settings: Settings, flags: EvaluateFlags, indices: list[int]) -> list[dict[str, Any]]:
    """Values the policies of the seeds at `indices` by a dataset and returns a record for each."""
    # As in `play`.
    from purejaxdqn.runs.fitted_q import TARGET_PERIOD, fitted_q_evaluation
    from purejaxdqn.runs.policy import load_policy

    written = [name for name in ("save_dataset", "gif", "mp4", "max_steps") if getattr(flags, name) is not None]
    remedy = "nothing is played then: leave out --save-dataset, --gif, --mp4, --max-steps and --epsilon"
    require(not written and flags.epsilon == 0.0, "fqe", flags.fqe, remedy)
    remedy = "a dataset's steps are valued one by one, and this policy's memory needs whole episodes: play it instead"
    require(settings.config.memory == "none", "fqe", flags.fqe, remedy)
    policies = {str(settings.seeds[index]): load_policy(folder, index, flags.which).greedy for index in indices}
    assert flags.fqe is not None
    hypers = settings.hypers.replace(learning_rate=1e-3, learning_rate_final=0.0, target_period=TARGET_PERIOD, tau=1.0)  # type: ignore[attr-defined]
    found = fitted_q_evaluation(settings.config, policies, flags.fqe, flags.fqe_updates, hypers, flags.key)
    return [{"seed": int(seed), **one._asdict(), "updates": flags.fqe_updates} for seed, one in found.items()]


def values_table(settings: Settings, flags: EvaluateFlags, results: list[dict[str, Any]]) -> Table:
    """The values as a table."""
    title = f"{settings.config.env}: {flags.which} parameters, valued by {flags.fqe} with {flags.fqe_updates:,} updates"
    table = Table(title=title)
    for name in ("seed", "discounted return", "acts as the data"):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(str(result["seed"]), f"{result['value']:.2f}", f"{result['agreement']:.0%}")
    return table


def play(folder: Path, settings: Settings, flags: EvaluateFlags, indices: list[int]) -> list[dict[str, Any]]:
    """Plays the episodes of the seeds at `indices` and returns a record for each."""
    # After the words are understood: a wrong flag is told without these imports.
    from purejaxdqn.loops.lanes import lane_shapes, seed_keys
    from purejaxdqn.runs.checkpoint import DamagedCheckpoint, from_flat, load_checkpoint
    from purejaxdqn.runs.episode_video import write_gif, write_mp4
    from purejaxdqn.runs.training import open_lanes
    from purejaxdqn.statistics.intervals import standard_error

    chosen = tuple(settings.seeds[index] for index in indices)
    played = dataclasses.replace(settings, eval_episodes=flags.episodes, eval_max_steps=flags.max_steps)
    parts, lanes = open_lanes(played, chosen)
    if loop_of(settings.config.env) == "device":
        check_room(lanes, flags.episodes)
    one_lane = jax.eval_shape(parts.network.init, jax.random.key(0))
    like = lane_shapes(one_lane, len(indices))
    try:
        flat = load_checkpoint(folder / CHECKPOINTS, with_state=False).policy[flags.which]
        params = from_flat({name: leaf[indices] for name, leaf in flat.items()}, like)
    except (DamagedCheckpoint, IndexError) as error:
        raise SettingError("run", str(folder), f"{error}; train it first, or name a whole run") from error
    # Episodes of their own: neither those of training's evaluations nor those of its summary.
    keys = seed_keys([(flags.key + 1_000_003 * (settings.seeds[index] + 1)) % SEEDS for index in indices])
    returns = np.asarray(lanes.get(lanes.evaluate(lanes.put(params), lanes.put(keys), flags.epsilon).returns), float)
    if flags.save_dataset is not None:
        save_dataset(parts, params, flags, settings, indices)
    first = jax.tree.map(lambda leaf: leaf[0], params)
    for name, write in (("gif", write_gif), ("mp4", write_mp4)):
        path = getattr(flags, name)
        try:
            if path is not None:
                write(parts, first, jax.random.key(flags.key), Path(path), flags.epsilon, flags.q_values)
        except OSError as error:
            raise SettingError(name, path, f"it cannot be written ({error.strerror})") from error
    return [
        {
            "seed": settings.seeds[index],
            "mean_return": float(found.mean()),
            "stderr": float(standard_error(found)),
            "episodes": flags.episodes,
        }
        for index, found in zip(indices, returns, strict=True)
    ]


def save_dataset(parts: Any, params: Any, flags: EvaluateFlags, settings: Settings, indices: list[int]) -> None:
    """Plays episodes of each seed's policy and writes their steps."""
    # As in `play`.
    from purejaxdqn.replay.dataset import join, write_dataset
    from purejaxdqn.runs.recording import play_dataset

    played = []
    for place, index in enumerate(indices):
        own = jax.tree.map(lambda leaf, place=place: leaf[place], params)
        key = jax.random.fold_in(jax.random.key(flags.key), settings.seeds[index])
        args = (settings.seeds[index], flags.episodes, flags.epsilon, flags.max_steps)
        played.append(play_dataset(parts, own, key, *args))
    assert flags.save_dataset is not None
    try:
        write_dataset(Path(flags.save_dataset), join(played), parts.env.spec)
    except OSError as error:
        raise SettingError("save_dataset", flags.save_dataset, f"it cannot be written ({error.strerror})") from error


def check_room(lanes: Any, episodes: int) -> None:
    """Raises `SettingError` if the episodes need more memory than is available."""
    try:
        lanes.check()
    except SettingError as error:
        raise SettingError("episodes", episodes, error.remedy) from error


def results_table(settings: Settings, flags: EvaluateFlags, results: list[dict[str, Any]]) -> Table:
    """The results as a table."""
    how = "greedy" if flags.epsilon == 0.0 else f"ε = {flags.epsilon:g}"
    table = Table(title=f"{settings.config.env}: {flags.which} parameters, {how}, {flags.episodes} episodes each")
    for name in ("seed", "mean return", "standard error"):
        table.add_column(name, justify="right")
    for result in results:
        error = "–" if result["stderr"] != result["stderr"] else f"{result['stderr']:.2f}"
        table.add_row(str(result["seed"]), f"{result['mean_return']:.2f}", error)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
