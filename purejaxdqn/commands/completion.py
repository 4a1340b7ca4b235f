"""A shell's completion of `purejaxdqn`: subcommands, flags and the values of flags, in a script that tyro writes."""

from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro

from purejaxdqn import cli
from purejaxdqn.check.command import flags_class as check_flags
from purejaxdqn.commands.dispatch import COMMANDS, PROGRAM
from purejaxdqn.commands.lists import ListFlags
from purejaxdqn.commands.show import ShowFlags
from purejaxdqn.config import Config
from purejaxdqn.doctor.command import DoctorFlags
from purejaxdqn.evaluate import EvaluateFlags
from purejaxdqn.export.command import ExportFlags
from purejaxdqn.recipes.recipes import default_recipe
from purejaxdqn.report.command import ReportFlags
from purejaxdqn.scores import ScoresFlags
from purejaxdqn.sweep.flags import flags_class as sweep_flags
from purejaxdqn.sweep.options import SweepOptions
from purejaxdqn.train.settings import RunOptions
from purejaxdqn.train.settings import flags_class as train_flags
from purejaxdqn.types import Hypers
from purejaxdqn.zoo.command import ZooFlags


def flags_of() -> dict[str, type]:
    """The flags of every command; parameters of environments are those of the default one."""
    return {
        "train": train_flags(Config(), Hypers(), RunOptions()),
        "sweep": sweep_flags(Config.env, default_recipe(Config.env), SweepOptions()),
        "evaluate": EvaluateFlags,
        "report": ReportFlags,
        "doctor": DoctorFlags,
        "check": check_flags(Config.env),
        "scores": ScoresFlags,
        "export": ExportFlags,
        "zoo": ZooFlags,
        "list": ListFlags,
        "show": ShowFlags,
    }


def complete(args: Sequence[str]) -> int:
    """Prints or writes the script, as tyro's flag in `args` asks for."""
    flags = flags_of()
    named = [
        Annotated[flags[name], tyro.conf.subcommand(name=name, description=command.says)]
        for name, command in COMMANDS.items()
    ]
    every: Any = Union[tuple(named)]  # noqa: UP007
    return cli.guarded(PROGRAM, lambda: tyro.cli(every, prog=PROGRAM, args=list(args)))
