"""`python -m purejaxdqn.report FOLDER …`: one HTML page, viewable offline, about a run, a sweep or several."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from purejaxdqn import cli
from purejaxdqn.bounds import check
from purejaxdqn.config import SettingError, require
from purejaxdqn.report.write_page import write_report
from purejaxdqn.runs.sweep_folder import REPORT

COMMAND = "purejaxdqn-report"


@dataclasses.dataclass(frozen=True)
class ReportFlags:
    """The flags of `report`."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs and sweeps; several are compared."""
    out: str | None = None
    """File of the page; by default report.html in the folder, or here where there are several."""
    watch: int | None = None
    """Serve the page on this port, to this machine alone, and refresh it as files change; without a number, on a port
    that is free. Nothing is written."""
    imports: cli.Imports = ()
    """A module, or a file such as path/to/file.py, to import first: it has or registers parts of the runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: report(args))


def report(args: list[str]) -> int:
    """Parses the flags, writes the page and prints its path."""
    args = cli.with_value(args, "--watch", "0")
    flags: ReportFlags = cli.parse(ReportFlags, args, COMMAND, str(__doc__))
    check(vars(flags))
    cli.import_parts(args)
    require(flags.out != "", "out", "''", "name a file, or leave the flag out")
    folders = [Path(folder) for folder in flags.folders]
    if flags.watch is not None:
        require(flags.out is None, "out", flags.out, "a page that is served with --watch is not written: leave it out")
        # Only where it is asked for.
        from purejaxdqn.report.live import watch

        watch(folders, flags.watch)
        return 0
    out = Path(flags.out) if flags.out is not None else (folders[0] if len(folders) == 1 else Path()) / REPORT
    try:
        write_report(folders, out)
    except OSError as error:
        raise SettingError("out", str(out), f"it cannot be written ({error.strerror})") from error
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
