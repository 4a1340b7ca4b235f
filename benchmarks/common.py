"""What all benchmarks share: running commands, and results that say what ran, on what, when and with which versions."""

import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from purejaxdqn.machine.files import write_atomically
from purejaxdqn.runs.folder import hardware, versions

RESULTS = Path(__file__).parent / "results"


class Finished(NamedTuple):
    """A command that ran to its end."""

    output: str
    seconds: float
    peak_bytes: int
    """Largest resident memory of the process."""


def run(command: list[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Runs a command and measures the whole process.

    Args:
      command: words; no shell reads them.
      environment: variables that differ from this process's own.

    Raises:
      RuntimeError: with the end of what it said, where it failed.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **(environment or {})})
        # wait4 gives the memory of this child alone, where getrusage knows only the largest of all children.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begin
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}: {errors.read()[-4000:]}")
        return Finished(output.read(), seconds, usage.ru_maxrss * 1024)


def counted(count: int, noun: str) -> str:
    """A number of things, as one says it."""
    return f"{count} {noun}{'s' * (count != 1)}"


def last_json(text: str) -> dict[str, Any]:
    """The last line of a command's output that is a JSON object."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1]))


def commit(tree: Path | None = None) -> str:
    """The commit that is checked out, with a mark where the tree, but for the results in it, differs from it.

    Args:
      tree: a folder of it; the one that these benchmarks are in by default.
    """

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], capture_output=True, text=True, cwd=tree or RESULTS.parents[1])

    found = git("describe", "--always", "--abbrev=12").stdout.strip()
    differs = git("diff", "--quiet", "HEAD", "--", ".", f":(exclude)benchmarks/{RESULTS.name}").returncode == 1
    return f"{found}-dirty" if found and differs else found or "unknown"


def read_result(name: str) -> dict[str, Any] | None:
    """A result, or None where it was not measured."""
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else None


def without_folders(word: str) -> str:
    """A word of a command line with no more of an absolute path, as such or behind NAME=, than its last part."""
    name, equals, path = word.rpartition("=")
    return f"{name}{equals}{Path(path).name}" if Path(path).is_absolute() else word


def write_result(name: str, what: str, data: dict[str, Any], command: str | None = None) -> Path:
    """Writes benchmarks/results/NAME.json with everything that a reader needs to judge it.

    Args:
      name: file name without its ending.
      what: one sentence on what was measured.
      data: the figures, all repetitions included.
      command: what was typed, where that is not this process's own command line.
    """
    RESULTS.mkdir(exist_ok=True)
    arguments = [without_folders(word) for word in sys.argv[1:]]
    module = sys.modules["__main__"].__spec__
    program = f"python -m {module.name}" if module else Path(sys.argv[0]).name
    result = {
        "what": what,
        "command": command or f"{program.removesuffix('.__main__')} {shlex.join(arguments)}".strip(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
        **data,
    }
    path = RESULTS / f"{name}.json"
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    return path
