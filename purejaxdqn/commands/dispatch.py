"""`purejaxdqn COMMAND ...`: runs one of the commands. Nothing is imported before it is known which one."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import purejaxdqn
from purejaxdqn.machine.nearest_names import nearest

PROGRAM = "purejaxdqn"


class Command(NamedTuple):
    """A subcommand."""

    module: str
    """Where its `main` is, within the package."""
    says: str


COMMANDS = {
    "train": Command("train", "train one or many seeds into a run folder"),
    "sweep": Command("sweep.command", "train seeds by settings and rank them"),
    "evaluate": Command("evaluate", "play fresh episodes with a trained policy"),
    "report": Command("report.command", "write a run, a sweep or several as one HTML page"),
    "doctor": Command("doctor.command", "examine a run that does not learn"),
    "check": Command("check.command", "play an environment and say what is wrong with it"),
    "scores": Command("scores", "put Atari runs on the human scale"),
    "export": Command("export.command", "write a policy as a file that plays without JAX"),
    "zoo": Command("zoo.command", "list, fetch, add or build trained runs"),
    "list": Command("commands.lists", "list environments, algorithms, recipes, networks and more"),
    "show": Command("commands.show", "say what a run or sweep is, what came out, how it goes on"),
}
COMPLETIONS = ("--tyro-print-completion", "--tyro-write-completion")


def overview() -> str:
    """What `purejaxdqn --help` prints."""
    lines = [f"  {name:<9} {command.says}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...\n",
            "Deep Q-learning trained end to end in JAX.\n",
            *lines,
            f"\n{PROGRAM} COMMAND --help   lists its flags",
            f"{PROGRAM} --version        prints the version",
            f"{PROGRAM} --tyro-print-completion bash|zsh|fish   prints a script that completes all of this",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code of the subcommand, or 2 where there is no such one."""
    args = list(sys.argv[1:] if argv is None else argv)
    name = args[0] if args else "--help"
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(PROGRAM, purejaxdqn.__version__)
        return 0
    if name in COMPLETIONS:
        # With every command's flags, so with everything that they import.
        from purejaxdqn.commands.completion import complete

        return complete(args)
    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"{PROGRAM}: there is no command {name} ({hint})", file=sys.stderr)
        return 2
    return int(import_module(f"{PROGRAM}.{COMMANDS[name].module}").main(args[1:]))
