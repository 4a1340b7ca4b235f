"""Every agent in every world into one result file: the command line that benchmarks of several worlds share."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.common import read_result, write_result

Measure = Callable[[str, str, int, int, list[str]], dict[str, Any]]
"""(world, agent, number of seeds, the first of them, flags of the training command) -> what was found."""


def measure_worlds(
    name: str,
    what: str,
    about: str | None,
    worlds: Iterable[str],
    agents: Iterable[str],
    seeds: int,
    measure: Measure,
    form: str = ".2f",
    bar: float | None = None,
) -> None:
    """Reads the command line, measures, writes the results after every agent and prints a line for each.

    Args:
      name: of the result file.
      what: one sentence on what is measured.
      about: the module's docstring, for --help.
      worlds: names that --worlds knows.
      agents: names that --agents knows.
      seeds: how many where --seeds says nothing.
      measure: one agent in one world.
      form: how an IQM is printed.
      bar: the score from which a seed counts, where all worlds have one.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=list(worlds), default=list(worlds))
    parser.add_argument("--agents", nargs="+", choices=list(agents), default=list(agents))
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds that no tuning saw (default: 1000)")
    parser.add_argument("--keep", action="store_true", help="leave what was measured alone")
    args, extra = parser.parse_known_args()
    found = (read_result(name) or {"worlds": {}})["worlds"]
    told = {"seeds": args.seeds} | ({} if bar is None else {"bar": bar})
    words = "the bar" if bar is None else f"{bar:.0%}"
    for world in args.worlds:
        for agent in args.agents:
            measured = found.setdefault(world, {})
            if args.keep and agent in measured:
                continue
            measured[agent] = measure(world, agent, args.seeds, args.first_seed, extra)
            write_result(name, what, {**told, "worlds": found})
            last, seconds = measured[agent]["last"], measured[agent]["train_wall_seconds"]
            reached = f"{last['seeds_at_bar']} of {args.seeds} seeds at {words}"
            print(f"{world}, {agent}: IQM {format(last['iqm'], form)}, {reached}, {seconds:.0f} s", flush=True)
