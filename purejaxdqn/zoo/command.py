"""What `python -m purejaxdqn.zoo` does: lists, fetches, adds or builds trained runs."""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from purejaxdqn import cli
from purejaxdqn.bounds import check
from purejaxdqn.config import require
from purejaxdqn.recipes.recipes import TUNED
from purejaxdqn.zoo.shelf import add, fetch, read_manifest

COMMAND = "purejaxdqn-zoo"
DESCRIPTION = """`python -m purejaxdqn.zoo`: trained runs in a folder or at a URL.

list SOURCE: what there is. fetch SOURCE NAME …: brings runs here, each checked against its SHA-256, as folders that
load_policy reads. add FOLDER RUN …: puts runs of yours into a zoo's folder. build FOLDER: trains the default recipes,
or those that are named, and adds them."""


@dataclasses.dataclass(frozen=True)
class ZooFlags:
    """The flags of `zoo`."""

    action: Annotated[Literal["list", "fetch", "add", "build"], tyro.conf.Positional]
    """What to do."""
    source: Annotated[str, tyro.conf.Positional]
    """The zoo: a folder, or for list and fetch a URL."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Of runs to fetch, of folders of runs to add, or of recipes to train."""
    out: str = "runs"
    """Where fetched runs go, each into a folder of its name."""
    total_steps: int | None = None
    """Steps of each run that is built; by default its recipe's."""
    json: bool = False
    """Print JSON and nothing else."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: zoo(args))


def zoo(args: list[str]) -> int:
    """Parses, acts and prints."""
    flags: ZooFlags = cli.parse(ZooFlags, args, COMMAND, DESCRIPTION)
    check(vars(flags))
    named = flags.action not in ("fetch", "add") or len(flags.names) > 0
    require(named, "names", "", f"say what to {flags.action}: its name, or several")
    if flags.action == "fetch":
        folders = [Path(flags.out) / name for name in flags.names]
        for folder in folders:
            fetch(flags.source, folder.name, folder)
        print(json.dumps([str(folder) for folder in folders]) if flags.json else "\n".join(map(str, folders)))
        return 0
    for run in flags.names if flags.action == "add" else ():
        add(Path(flags.source), Path(run), Path(run).absolute().name)
    for recipe in (flags.names or [tuned.name for tuned in TUNED.values()]) if flags.action == "build" else ():
        train_into(Path(flags.source), recipe, flags.total_steps)
    runs = read_manifest(flags.source)
    if flags.json:
        print(json.dumps(runs))
        return 0
    table = Table(title=flags.source)
    for column in ("name", "environment", "recipe", "seeds", "steps", "best mean return", "kB"):
        table.add_column(column)
    for name, entry in runs.items():
        returns = ", ".join("–" if value is None else f"{value:.1f}" for value in entry["best_mean_return"])
        sizes = (str(len(entry["seeds"])), f"{entry['env_steps']:,}", returns, f"{entry['bytes'] / 1000:.0f}")
        table.add_row(name, escape(entry["env"]), escape(entry["recipe"]), *sizes)
    Console().print(table)
    return 0


def train_into(zoo: Path, recipe: str, total_steps: int | None) -> None:
    """Trains a recipe and puts the run into a zoo."""
    # After the words are understood.
    from purejaxdqn.train import main as train

    steps = [] if total_steps is None else ["--total-steps", str(total_steps)]
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / recipe
        code = train(["--recipe", recipe, "--out", str(run), "--quiet", *steps])
        require(code == 0, "names", recipe, "its training did not end")
        add(zoo, run, recipe)
