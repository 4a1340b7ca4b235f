"""Errors of a command line as one sentence and an exit code, and values as they are typed."""

import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from purejaxdqn.config import SettingError, flag_name
from purejaxdqn.machine.number_modes import usual_modes

PACKAGE = "purejaxdqn"


class UsageError(Exception):
    """An error that the user can fix; its text is one sentence."""


def spoken(command: str) -> str:
    """A command as it was typed: `purejaxdqn-train`, or `purejaxdqn train` where this process is that one command."""
    program = Path(sys.argv[0])
    is_one = program.stem == PACKAGE or program.parts[-2:] == (PACKAGE, "__main__.py")
    return command.replace("-", " ", 1) if is_one else command


def fail(command: str, sentence: str, code: int = 2) -> NoReturn:
    """Prints one sentence on stderr and exits."""
    # Blanks within a line may be part of a name.
    said = " ".join(filter(None, map(str.strip, sentence.splitlines())))
    print(f"{spoken(command)}: {said}", file=sys.stderr)
    raise SystemExit(code)


def setting_sentence(error: SettingError) -> str:
    """A `SettingError` as a sentence with the flag, the value and the remedy."""
    return f"{flag_name(error.field)} {typed(error.value)}: {error.remedy}"


def quoted(path: Path) -> str:
    """A path quoted for the shell, on one line and never mistaken for a flag."""
    text = f"./{path}" if str(path).startswith("-") else str(path)
    if text.isprintable():
        return shlex.quote(text)
    # Escapes of bash, zsh and ksh, byte by byte.
    return "$'" + "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\x{b:02x}" for b in os.fsencode(text)) + "'"


def typed(value: Any) -> str:
    """A value as the user would type it after its flag."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def guarded(command: str, main: Callable[[], int]) -> int:
    """Runs a command's body; errors that the user can fix end as one sentence and exit code 2.

    A Ctrl-C that the body does not handle, and a closed pipe on the output, end without a traceback and with exit code
    128 plus the signal's number, as in shells.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Names of files may hold what an encoding lacks, or bytes that are no text.
            stream.reconfigure(errors="replace")
    try:
        with usual_modes():
            code = main()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # What Python flushes when it ends goes to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except SettingError as error:
        fail(command, setting_sentence(error))
    except UsageError as error:
        fail(command, str(error))
