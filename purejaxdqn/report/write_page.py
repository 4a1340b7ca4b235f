"""Writes a report: from folders to an HTML page on disk."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from purejaxdqn.cli import UsageError
from purejaxdqn.config import SettingError, require
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.report.contents import Run, Score, Sweep
from purejaxdqn.report.read_run import is_run, read_run
from purejaxdqn.report.read_sweep import is_sweep, read_sweep
from purejaxdqn.runs.sweep_folder import SWEEP

if TYPE_CHECKING:
    from purejaxdqn.report.html import Content


def write_report(folders: Sequence[Path], out: Path) -> None:
    """Writes one self-contained page: about one folder in full, or several side by side.

    Args:
      folders: of runs and sweeps, at least one.
      out: the page; its folder exists.

    Raises:
      SettingError: on `folders` or `out`, for what is missing or damaged.
      UsageError: if plotly is not installed.
      OSError: if `out` cannot be written.
    """
    shown = read_all(folders)
    check_out(out)
    # A name of a file may hold bytes that are no text.
    write_atomically(out, whole_page(content_of(shown)).encode(errors="replace"))


def read_all(folders: Sequence[Path]) -> list[Sweep | Run]:
    """Reads what a page shows; see `write_report` for the errors."""
    # Side by side, runs and sweeps need one kind of score.
    by: Score | None = "last" if len(folders) > 1 else None
    shown = [read(folder, by) for folder in folders]
    require(len(shown) > 0, "folders", "", "name the folder of a run or of a sweep, or several")
    return shown


def check_out(out: Path) -> None:
    """Raises `SettingError` unless the page would be a new file or replace a regular one."""
    try:
        kind = os.lstat(out).st_mode
    except FileNotFoundError:
        require(out.absolute().parent.is_dir(), "out", str(out), "its folder does not exist: make it first")
        return
    require(not stat.S_ISDIR(kind), "out", str(out), "it is a folder: name a file")
    remedy = "it is a link or a device, which the page would replace: name a file"
    require(stat.S_ISREG(kind), "out", str(out), remedy)


def read(folder: Path, by: Score | None = None) -> Sweep | Run:
    """Reads a run or a sweep, told apart by the files in the folder.

    Args:
      folder: of a run or a sweep.
      by: the score of a sweep's lanes; by default the one that it was ranked by.

    Raises:
      SettingError: if it is neither a sweep's nor a run's, or damaged.
    """
    try:
        require(folder.is_dir(), "folders", str(folder), "there is no such folder")
        sweep, run = is_sweep(folder), is_run(folder)
    except OSError as error:
        raise SettingError("folders", str(folder), f"it cannot be read ({error.strerror})") from error
    remedy = f"it holds neither a {SWEEP} nor a config.json, so it is the folder of no sweep and of no run"
    require(sweep or run, "folders", str(folder), remedy)
    return read_sweep(folder, by) if sweep else read_run(folder)


def whole_page(held: "Content", live: bool = False) -> str:
    """The page as HTML; a live one asks its server for what is new."""
    # It imports plotly.
    from purejaxdqn.report.html import page

    return page(held, live)


def content_of(shown: list[Sweep | Run]) -> "Content":
    """What the page says. Raises `UsageError` if plotly is not installed."""
    try:
        # Only a report needs plotly, so nothing else waits for its import.
        import plotly  # noqa: F401
    except ImportError as error:
        raise UsageError("a report is drawn with plotly, which is not installed: pip install plotly") from error
    # It imports plotly.
    from purejaxdqn.report.pages import compare_page, run_page, sweep_page

    if len(shown) > 1:
        return compare_page(shown)
    return sweep_page(shown[0]) if isinstance(shown[0], Sweep) else run_page(shown[0])
