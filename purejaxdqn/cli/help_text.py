"""What `--help` prints: every flag with its values, its default and its sentence, under the headings of its groups."""

import dataclasses
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tyro

from purejaxdqn.cli.flags import field_docs
from purejaxdqn.cli.sentences import typed
from purejaxdqn.config import flag_name

Groups = Mapping[str, Sequence[str]]
"""Headings, each with the paths of its fields, in the order in which they are printed."""
NARROWEST, WIDEST = 24, 120
"""Columns that a text is wrapped to, whatever the terminal has."""
WORDS = {int: "N", float: "X", str: "TEXT"}


class Entry(NamedTuple):
    """One flag of a help text."""

    path: str
    """Of its field."""
    typed: str
    """How it is typed, its values included."""
    default: str
    """Empty where it has none."""
    says: str


def help_text(cls: type, command: str, description: str, groups: Groups | None = None) -> str:
    """The help of a command.

    Args:
      cls: the dataclass whose fields are its flags.
      command: as it is typed.
      description: what it does.
      groups: headings of the flags; fields that none of them has come last. By default all are under one.
    """
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    words, flags = (list(found) for found in (entries(cls, True), entries(cls, False)))
    usage = " ".join(["usage:", command, *(entry.typed for entry in words), "[--FLAG VALUE ...]"])
    parts = [usage, textwrap.fill(sentence(description), width, break_on_hyphens=False)]
    by_path = {entry.path: entry for entry in flags}
    headed = {name: [by_path.pop(path) for path in paths if path in by_path] for name, paths in (groups or {}).items()}
    for name, held in {"words": words, **headed, "flags": list(by_path.values())}.items():
        if held:
            parts.append("\n".join([f"{name}:", *(described(entry, width) for entry in held)]))
    return "\n\n".join(parts)


def sentence(description: str) -> str:
    """What a command does, without how it is called, which the usage line says."""
    says = description.partition("`: ")[2] or description
    return says[0].upper() + says[1:].replace("`", "")


def described(entry: Entry, width: int) -> str:
    """A flag in one line, and beneath it what it does."""
    default = f" (default {entry.default})" if entry.default else ""
    wrap = textwrap.TextWrapper(width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    # A flag or a name is not cut in two.
    wrap.break_long_words = wrap.break_on_hyphens = False
    return "\n".join([f"  {entry.typed}{default}", *wrap.wrap(entry.says)])


def entries(cls: type, positional: bool, prefix: str = "") -> Iterator[Entry]:
    """The flags of a dataclass, those of nested ones included, or the words that have no flag."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint, path = hints[field.name], prefix + field.name
        kind, extras = bare(hint)
        if dataclasses.is_dataclass(kind):
            yield from entries(typing.cast(type, kind), positional, f"{path}.")
        elif (tyro.conf.Positional in extras) == positional:
            named = [extra for extra in extras if hasattr(extra, "help")]
            says = next((extra.help for extra in named if extra.help), None) or own_docs(cls).get(field.name, "")
            metavar = next((extra.metavar for extra in named if extra.metavar), values_of(kind))
            how = field.name.upper() if positional else as_typed(path, kind, metavar)
            yield Entry(path, how, default_text(field, kind), says.replace("`", ""))


def own_docs(cls: type) -> dict[str, str]:
    """The strings after the fields of a class with a source; where it was made at run time each field has its own."""
    try:
        return field_docs(cls)
    except (OSError, TypeError):
        return {}


def bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its annotations, and those."""
    extras: tuple[Any, ...] = ()
    while typing.get_origin(hint) is typing.Annotated:
        extras, hint = (*hint.__metadata__, *extras), hint.__origin__
    return hint, extras


def as_typed(path: str, kind: Any, metavar: str) -> str:
    """A flag with its values, such as `--num-envs N`."""
    if kind is bool:
        above, dot, name = path.rpartition(".")
        return f"{flag_name(path)}, {flag_name(f'{above}{dot}no-{name}')}"
    return f"{flag_name(path)} {metavar}"


def values_of(kind: Any) -> str:
    """What a flag of a type takes."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return "|".join("None" if one is type(None) else values_of(one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(map(str, typing.get_args(kind))) + "}"
    if typing.get_origin(kind) is tuple:
        return f"{values_of(typing.get_args(kind)[0])} ..."
    return WORDS.get(kind, "VALUE")


def default_text(field: Any, kind: Any) -> str:
    """A field's default as text; empty where there is none, or nothing."""
    value = field.default
    if value in (dataclasses.MISSING, None, ()):
        return ""
    return {True: "on", False: "off"}[value] if kind is bool else typed(value)
