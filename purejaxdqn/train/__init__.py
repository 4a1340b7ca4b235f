"""`python -m purejaxdqn.train`: trains one or many seeds and writes a run folder.

May import every room but `sweep`. Read `command.py` first: what the command does, from its words to its last line.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from purejaxdqn.machine.garbage_collection import collect_later


def main(
    argv: Sequence[str] | None = None,
    probe: Callable[..., Any] | None = None,
    callback: Callable[..., Any] | None = None,
) -> int:
    """Runs the command line.

    Args:
      argv: the words after the command; by default those of this process.
      probe: a function in place of the one that `--probe` names.
      callback: likewise of `--callback`.

    Returns:
      The exit code.
    """
    with collect_later() as started:
        # Imported here because most of what is not to be collected yet is made by imports.
        from purejaxdqn.train.command import run_command

        return run_command(list(sys.argv[1:] if argv is None else argv), started, probe, callback)
