"""Flags from the fields of dataclasses, and which fields were typed."""

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import tyro

from purejaxdqn.bounds import FLAGS
from purejaxdqn.config import flag_name

Several = tyro.conf.UseAppendAction[tuple[str, ...]]
"""A flag that may be given several times."""
Imports = Annotated[Several, tyro.conf.arg(name=FLAGS["imports"])]


def read_field_docs(cls: type) -> dict[str, str]:
    """The string that follows each field in a class's source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for node, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(following, ast.Expr):
            docs[node.target.id] = " ".join(str(ast.literal_eval(following.value)).split())
    return docs


field_docs: Callable[[type], dict[str, str]] = functools.cache(read_field_docs)
"""What `read_field_docs` gives, read once of each class."""


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


def all_flags(cls: type) -> list[str]:
    """Every flag that a dataclass makes."""
    return list(flag_fields(cls))


def typed_fields(args: Sequence[str], cls: type) -> set[str]:
    """The fields whose flags were typed."""
    fields = flag_fields(cls)
    words = {word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--")}
    return {fields[word] for word in words if word in fields}
