"""`python -m purejaxdqn.train`: trains one or many seeds and writes a run folder.

May import every room but `sweep`. Read `command.py` first: what the command does, from its words to its last line.
"""

import sys
from collections.abc import Sequence

from purejaxdqn.machine.garbage_collection import collect_later


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    with collect_later() as started:
        # Imported here because most of what is not to be collected yet is made by imports.
        from purejaxdqn.train.command import run_command

        return run_command(list(sys.argv[1:] if argv is None else argv), started)
