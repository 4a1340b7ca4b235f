"""Tables of a run folder, metrics.csv and episodes.csv: rows appended, and read back as a checkpoint counts on them."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from purejaxdqn.config import SettingError, one_line, require
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.runs.folder import EPISODES, METRICS

METRIC_COLUMNS = (
    "seed",
    "env_steps",
    "updates",
    "episodes",
    "episode_return",
    "episode_length",
    "loss",
    "q_value",
    "abs_td_error",
    "grad_norm",
    "epsilon",
    "eval_return",
    "eval_stderr",
)
"""Of metrics.csv: a row per seed per chunk; an empty field is a missing number. No clock times: a resumed run must end
with the file of an undisturbed one."""

EPISODE_COLUMNS = ("seed", "episode", "env_steps", "episode_return", "learning_return", "episode_length")
"""Of episodes.csv: a row for each episode of training, counted from 1; `learning_return` sums what the learner got."""

TABLES = {METRICS: METRIC_COLUMNS, EPISODES: EPISODE_COLUMNS}
"""Files to which every chunk adds rows, and their columns."""
NO_ROWS = "and its rows cannot be made again: put the file back, or begin a new run"


def read_table(folder: Path, name: str, last_step: int, flag: str = "resume") -> list[dict[str, str]]:
    """Whole rows of a table up to an environment step; what a crash left beyond it is dropped.

    Raises:
      SettingError: on `flag`, where the table cannot be read, or has a cell that is no number.
    """
    path = folder / name
    try:
        if not path.is_file():
            return []
        text = path.read_text()
        rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
        whole = [row for row in rows if None not in row and None not in row.values()]
        for value in (value for row in whole for value in row.values() if value):
            float(value)
        return [row for row in whole if int(row["env_steps"]) <= last_step]
    except (OSError, ValueError, KeyError) as error:
        raise SettingError(flag, str(folder), f"its {name} is damaged ({one_line(error)}); name a whole run") from error


def describe_table(folder: Path, name: str) -> dict[str, Any]:
    """What tells later whether a table still begins with what is in it now: its bytes and their SHA-256."""
    data = (folder / name).read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def saved_table(folder: Path, name: str, noted: Mapping[str, Any]) -> bytes:
    """A table as it was at a checkpoint; what a crash left beyond that is dropped.

    Args:
      folder: of the run.
      name: of the table.
      noted: by `describe_table`.

    Raises:
      SettingError: on `resume`, where the table does not begin with what it was.
    """
    try:
        data = (folder / name).read_bytes()[: noted["bytes"]]
    except OSError as error:
        remedy = f"its {name} cannot be read ({error.strerror}), {NO_ROWS}"
        raise SettingError("resume", str(folder), remedy) from error
    same = hashlib.sha256(data).hexdigest() == noted["sha256"]
    require(same, "resume", str(folder), f"its {name} is not what it was at the checkpoint, {NO_ROWS}")
    return data


def old_table(folder: Path, name: str, last_step: int) -> bytes:
    """The same for a checkpoint that noted nothing: whole rows up to its environment step, the newest of which is its.

    Raises:
      SettingError: on `resume`, where the table cannot be read or ends before the checkpoint.
    """
    rows = read_table(folder, name, last_step)
    # Episodes end when they end.
    reached = name != METRICS or (bool(rows) and int(rows[-1]["env_steps"]) == last_step)
    require(reached, "resume", str(folder), f"its {name} ends before step {last_step} of its checkpoint, {NO_ROWS}")
    return format_rows(name, rows, header=True).encode()


def more_columns(data: bytes) -> tuple[str, ...]:
    """The columns that metrics.csv, given its bytes, has beside those of every run."""
    header = next(csv.reader(io.StringIO(data.decode(errors="replace"))), [])
    return tuple(name for name in header if name not in METRIC_COLUMNS)


def format_rows(name: str, rows: Iterable[Mapping[str, Any]], header: bool = False, more: Sequence[str] = ()) -> str:
    """Rows of a table as CSV; None becomes an empty field, floats keep what float32 holds.

    Args:
      name: of the table.
      rows: by column.
      header: whether the names of the columns come first.
      more: columns after those that the table always has.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, (*TABLES[name], *more), lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})
    return out.getvalue()


def write_table(folder: Path, name: str, rows: Iterable[Mapping[str, Any]], more: Sequence[str] = ()) -> None:
    """Writes a table anew; see `format_rows`."""
    write_atomically(folder / name, format_rows(name, rows, header=True, more=more))


def append_rows(folder: Path, name: str, rows: Iterable[Mapping[str, Any]], more: Sequence[str] = ()) -> None:
    """Appends rows to a table and sees them to the disk, before the checkpoint that counts on them; see `format_rows`.

    Raises:
      OSError: where it cannot be written. A table that was removed meanwhile is not made again.
    """
    with open(os.open(folder / name, os.O_WRONLY | os.O_APPEND), "a") as file:
        file.write(format_rows(name, rows, more=more))
        file.flush()
        os.fsync(file.fileno())
