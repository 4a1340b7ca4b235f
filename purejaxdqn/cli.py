"""Command-line parsing: flags from dataclasses, and errors as one sentence."""

import ast
import contextlib
import dataclasses
import difflib
import inspect
import io
import os
import shlex
import signal
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax
import tyro

from purejaxdqn.bounds import FLAGS, read_whole
from purejaxdqn.config import SettingError, flag_name, require
from purejaxdqn.machine.devices import PLATFORMS, use_compilation_cache, use_platform
from purejaxdqn.machine.imports import FILE, import_announced, import_source, imported
from purejaxdqn.machine.number_modes import usual_modes

Several = tyro.conf.UseAppendAction[tuple[str, ...]]
"""A flag that may be given several times."""
Imports = Annotated[Several, tyro.conf.arg(name=FLAGS["imports"])]


class UsageError(Exception):
    """An error that the user can fix; its text is one sentence."""


def fail(command: str, sentence: str, code: int = 2) -> NoReturn:
    """Prints one sentence on stderr and exits."""
    # Blanks within a line may be part of a name.
    print(f"{command}: {' '.join(filter(None, map(str.strip, sentence.splitlines())))}", file=sys.stderr)
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


def field_docs(cls: type) -> dict[str, str]:
    """The string that follows each field in a class's source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for node, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(following, ast.Expr):
            docs[node.target.id] = " ".join(str(ast.literal_eval(following.value)).split())
    return docs


def as_flags(defaults: Any, skip: Sequence[str] = ()) -> list[tuple[str, Any, Any]]:
    """A dataclass instance's fields as (name, annotated type, default field) for `dataclasses.make_dataclass`."""
    docs = field_docs(type(defaults))
    flags = []
    for field in dataclasses.fields(defaults):
        if field.name in skip:
            continue
        default = getattr(defaults, field.name)
        # Hypers may be arrays in a program; on a command line they are numbers.
        kind = type(default) if "Array" in str(field.type) else field.type
        help_text = docs.get(field.name, "").replace("`", "")
        named = tyro.conf.arg(help=help_text, name=FLAGS.get(field.name))
        annotated = Annotated[kind, named]  # type: ignore[valid-type]
        flags.append((field.name, annotated, dataclasses.field(default=default)))
    return flags


def number_flags(values: dict[str, Any], help_text: str) -> list[tuple[str, Any, Any]]:
    """Numeric flags, each with its value's type and the value as the default."""
    return [
        (name, Annotated[type(value), tyro.conf.arg(help=help_text)], dataclasses.field(default=value))
        for name, value in values.items()
    ]


def parse(cls: type, args: Sequence[str], command: str, description: str) -> Any:
    """`tyro.cli` with errors as one sentence, and the closest flags for an unknown one.

    Raises:
      SystemExit: 0 after --help, 2 after an error.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(cls, args=whole_words(args, cls), prog=command, description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(command, tyro_sentence(said.getvalue(), cls))


def whole_words(args: Sequence[str], cls: type) -> list[str]:
    """Writes whole numbers in digits after flags that take one: `--total-steps 1e6` is `--total-steps 1000000`.

    Raises:
      SettingError: if such a flag has any other value.
    """
    kinds, words, field = dict(leaves(cls)), [], None
    fields = {flag: path for flag, path in flag_fields(cls).items() if takes_whole(kinds[path])}
    for word in args:
        name, joined, value = word.partition("=")
        is_flag = word.startswith("--")
        field = fields.get(name.replace("_", "-")) if is_flag else field
        if field is not None and (joined or not is_flag):
            words.append(f"{name}={spelt_out(field, value)}" if is_flag else spelt_out(field, word))
        else:
            words.append(word)
    return words


def spelt_out(field: str, word: str) -> str:
    """A whole number in digits; `None` stays."""
    number = read_whole(word)
    require(number is not None or word == "None", field, word, "use a whole number")
    return word if number is None else str(number)


def takes_whole(kind: Any) -> bool:
    """Whether a flag of this type takes whole numbers and nothing else."""
    return kind in (int, int | None, tuple[int, ...])


def tyro_sentence(box: str, cls: type) -> str:
    """The message inside tyro's box, up to its first horizontal rule."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    # A terminal without Unicode gets no frame; the title then is a line of its own, with a rule beneath it.
    if lines and not lines[0].startswith("╭"):
        lines = lines[2:]
    inner = [line for line in lines if not line.startswith(("╭", "╰"))]
    rule = next((i for i, line in enumerate(inner) if line.startswith(("───", "---"))), len(inner))
    message = " ".join(inner[:rule]) or box.strip()
    marker = "Unrecognized options:"
    if marker not in message:
        return message
    # tyro repeats its hints in prose of its own; the words after the marker are what was typed.
    words = message.split(marker, 1)[1].replace(",", " ").split()
    known = all_flags(cls)
    word = next((word for word in words if word.startswith("-")), words[0] if words else "")
    name = word.split("=", 1)[0]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "--help lists all flags"
    return f"there is no flag {name} ({hint})" if word.startswith("-") else f"{word!r} belongs to no flag ({hint})"


def all_flags(cls: type) -> list[str]:
    """Every flag that a dataclass makes."""
    return list(flag_fields(cls))


def leaves(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and type of every field of a dataclass, those of nested dataclasses included."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from leaves(kind, f"{prefix}{field.name}.")  # type: ignore[arg-type]
        else:
            yield prefix + field.name, kind


def flag_fields(cls: type) -> dict[str, str]:
    """The field, with its path, that each flag of a dataclass sets."""
    found: dict[str, str] = {}
    for path, kind in leaves(cls):
        found[flag_name(path)] = path
        if kind is bool:
            above, dot, name = path.rpartition(".")
            found[flag_name(f"{above}{dot}no-{name}")] = path
    return found


def typed_fields(args: Sequence[str], cls: type) -> set[str]:
    """The fields whose flags were typed."""
    fields = flag_fields(cls)
    words = {word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--")}
    return {fields[word] for word in words if word in fields}


def peek(args: Sequence[str], flag: str) -> str | None:
    """The value of one flag before the command line is parsed; the last occurrence counts, as in the full parse."""
    value = None
    for here, word in enumerate(args):
        name, joined, rest = word.replace("_", "-", 1 if word.startswith("--") else 0).partition("=")
        if name == flag and joined:
            value = rest
        elif name == flag and here + 1 < len(args):
            value = args[here + 1]
    return value


def every(args: Sequence[str], flag: str) -> list[str]:
    """The values of all occurrences of one flag before the command line is parsed."""
    found: list[str] = []
    for here, word in enumerate(args):
        name, joined, value = word.partition("=")
        if name == flag:
            found += [value] if joined else args[here + 1 : here + 2]
    return found


def import_parts(args: Sequence[str]) -> None:
    """Imports what installed packages announce, and what `--import` and `--env MODULE:FACTORY` name.

    Raises:
      SettingError: if one of them cannot be imported.
    """
    import_announced()
    for source in every(args, "--import"):
        import_source(source)
    env = peek(args, "--env") or ""
    source, _, factory = env.rpartition(":")
    if source and factory and "/" not in factory and (source.endswith(FILE) or "/" not in source):
        import_source(source, "env", env)


def import_words() -> str:
    """The flags that import here what was imported, as they are typed after others."""
    return "".join(f" --import {shlex.quote(source)}" for source in imported())


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


def seed_indices(chosen: int | None, count: int) -> list[int]:
    """Indices of a run's seeds that --seed-index chooses: one of `count`, or all of them for None.

    Raises:
      SettingError: if there is no such seed.
    """
    in_range = chosen is None or 0 <= chosen < count
    require(in_range, "seed_index", chosen, f"the run has {count} seeds: use 0 to {count - 1}")
    return list(range(count)) if chosen is None else [chosen]


def start_jax(device: str, compilation_cache: bool) -> None:
    """Configures what must be set before JAX initialises a backend, and starts JAX.

    Args:
      device: a flag's value, one of `devices.PLATFORMS`.
      compilation_cache: whether compiled programs are kept for the next start.

    Raises:
      SettingError: if the requested platform is not available.
    """
    use_platform(device)
    if compilation_cache:
        use_compilation_cache()
    check_device(device)


def check_device(device: str) -> None:
    """Raises `SettingError` if the requested platform is not available."""
    remedy = "JAX finds no such device here: use cpu, or install the extra for it"
    try:
        platform = jax.local_devices()[0].platform
    except (RuntimeError, AssertionError) as error:
        raise SettingError("device", device, remedy) from error
    # JAX takes the CPU beside a GPU that it could not start.
    require(device not in PLATFORMS or device in ("auto", platform), "device", device, remedy)
