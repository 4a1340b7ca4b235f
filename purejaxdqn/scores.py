"""`python -m purejaxdqn.scores RUN …`: Atari runs on the human scale, by protocol and number of frames."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from purejaxdqn import cli
from purejaxdqn.config import SettingError, one_line, require
from purejaxdqn.runs.folder import SCORES
from purejaxdqn.statistics.atari_scores import SCORES as HUMAN
from purejaxdqn.statistics.atari_scores import Aggregate, aggregate

COMMAND = "purejaxdqn-scores"


@dataclasses.dataclass(frozen=True)
class ScoresFlags:
    """The flags of `scores`."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs; those of one game are its seeds."""
    json: bool = False
    """Print JSON and nothing else."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: scores(args))


def read_scores(folder: Path) -> dict[str, Any]:
    """A run's scores.json.

    Raises:
      SettingError: if there is none, or it cannot be read.
    """
    path = folder / SCORES
    remedy = f"it holds no {SCORES}: an Atari run writes it when it passes 10, 40, 50, 100 and 200 million frames"
    require(path.is_file(), "runs", str(folder), remedy)
    try:
        found = dict(json.loads(path.read_text()))
        return {name: found[name] for name in ("env", "protocol", "score_is", "scores")}
    except (OSError, ValueError, KeyError) as error:
        raise SettingError("runs", str(folder), f"its {SCORES} is damaged ({one_line(error)})") from error


def group(found: list[dict[str, Any]]) -> dict[tuple[str, str, int], dict[str, list[float]]]:
    """Scores of every game, by protocol, what a score is, and frames: runs that differ in these are never combined."""
    groups: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for run in found:
        for entry in run["scores"]:
            if entry["score"] is None or run["env"] not in HUMAN:
                continue
            key = (run["protocol"] or "neither protocol", run["score_is"], entry["frames"])
            groups.setdefault(key, {}).setdefault(run["env"], []).append(entry["score"])
    return dict(sorted(groups.items()))


def scores(args: list[str]) -> int:
    """Parses, reads and prints."""
    flags: ScoresFlags = cli.parse(ScoresFlags, args, COMMAND, str(__doc__))
    require(len(flags.runs) > 0, "runs", "", "name the folders of Atari runs")
    groups = group([read_scores(Path(run)) for run in flags.runs])
    require(len(groups) > 0, "runs", flags.runs, "none has a score of one of the 57 games yet")
    results = [(key, games, aggregate(games)) for key, games in groups.items()]
    if flags.json:
        print(json.dumps([describe(*result) for result in results]))
        return 0
    table = Table(title="human-normalised scores (0 random play, 1 a human), 95 % intervals")
    for name in ("protocol", "score", "frames", "games", "median", "interquartile mean"):
        table.add_column(name)
    for (protocol, score_is, frames), games, found in results:
        cells = [
            f"{mean:.2f} ({low:.2f} to {high:.2f})"
            for mean, (low, high) in ((found.median, found.median_interval), (found.iqm, found.iqm_interval))
        ]
        table.add_row(protocol, score_is, f"{frames // 10**6}M", str(len(games)), *cells)
    Console().print(table)
    return 0


def describe(key: tuple[str, str, int], games: dict[str, list[float]], found: Aggregate) -> dict[str, Any]:
    """One group as JSON values, with the raw scores of every game."""
    protocol, score_is, frames = key
    return {"protocol": protocol, "score_is": score_is, "frames": frames, "games": games, **found._asdict()}


if __name__ == "__main__":
    raise SystemExit(main())
