"""Parameters of environments: which numbers can be set, and what they may be."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from purejaxdqn.bounds import ANY, INT32, POSITIVE, real, whole
from purejaxdqn.config import require

Changes = tuple[tuple[str, Any], ...]
"""(name, value) pairs of an environment's settings that differ from its defaults."""


def is_number(value: Any) -> bool:
    """Whether a value is a Python number, truth values among them."""
    return isinstance(value, bool | int | float)


def arguments_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function, by name."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        # What is written in C need not say.
        return {}


def numeric_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The numbers among the defaults of a function's arguments, by name."""
    return {name: found.default for name, found in arguments_of(function).items() if is_number(found.default)}


def is_required(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of a name, without a default."""
    return name in arguments_of(function) and arguments_of(function)[name].default is inspect.Parameter.empty


def numeric_fields(record: Any) -> dict[str, Any]:
    """The numbers among the fields of a dataclass, by name."""
    found = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: value for name, value in found.items() if is_number(value)}


def check_parameter(name: str, value: Any, default: Any, is_size: bool) -> None:
    """Raises `SettingError` where a parameter cannot have a value.

    Args:
      name: of the parameter.
      value: for it.
      default: the environment's own; what is no number is not checked.
      is_size: whether the environment's class is made with it, and it is at least 1 by default.
    """
    field = f"env_params.{name}"
    if isinstance(default, bool):
        require(isinstance(value, bool | int | float) and value in (0, 1), field, value, "use True or False")
    elif isinstance(default, int) or (is_number(default) and name == "max_steps_in_episode"):
        at_least_1 = is_size or name == "max_steps_in_episode"
        whole(field, value, (1 if at_least_1 else -INT32, INT32))
    elif is_number(default):
        # There is no mass, length or time step of 0 or less, whatever the equations make of it.
        physical = default > 0 and (any(part in name for part in ("mass", "length")) or name in ("tau", "dt"))
        real(field, value, POSITIVE if physical else ANY)


def as_type_of(default: Any, value: Any) -> Any:
    """A value in the type of a default, where that is a Python number."""
    return type(default)(value) if is_number(default) else value


def changed(env_id: str, defaults: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Parameters by name, with some of them changed.

    Raises:
      SettingError: for a parameter that the environment does not have, or a value of another type.
    """
    found = dict(defaults)
    for name, value in changes:
        has = f"it has {', '.join(found)}" if found else "it has none"
        require(name in found, f"env_params.{name}", value, f"{env_id} has no such parameter; {has}")
        check_parameter(name, value, found[name], is_size=False)
        found[name] = as_type_of(found[name], value)
    return found
