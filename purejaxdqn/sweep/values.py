"""Values of one axis of a sweep: from words of a command line or a TOML file, ranges and distributions."""

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from purejaxdqn.bounds import is_whole, read_whole
from purejaxdqn.config import Config, SettingError, require
from purejaxdqn.types import Hypers

SPACED, DRAWN = ("lin", "log"), ("uniform", "loguniform")
FORMS = "lin:LOW:HIGH:N, log:LOW:HIGH:N, uniform:LOW:HIGH[:N] or loguniform:LOW:HIGH[:N]"


class Drawn(NamedTuple):
    """A distribution, from which every setting of a random search draws its own value."""

    field: str
    low: float
    high: float
    log: bool
    whole: bool
    """Whether draws are rounded to whole numbers."""

    def sample(self, rng: np.random.Generator) -> float | int:
        """One value."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = rng.uniform(low, high)
        return tidy(math.exp(value) if self.log else value, self.whole)


class Axis(NamedTuple):
    """What a sweep tries of one field."""

    field: str
    """Of `Config` or `Hypers`, `algo`, or `env_params.NAME`."""
    values: tuple[Any, ...]
    """In the order in which they were given; empty for a distribution."""
    drawn: Drawn | None = None


def varied(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes of more than one value."""
    return tuple(axis for axis in axes if axis.drawn is not None or len(axis.values) > 1)


def field_kinds() -> dict[str, Any]:
    """The type of every field of `Config` and `Hypers`, as a user types it."""
    hints = typing.get_type_hints(Config) | {field.name: type(field.default) for field in dataclasses.fields(Hypers)}
    return hints | {"algo": str | None}


def is_traced(field: str) -> bool:
    """Whether a field differs from lane to lane without another compilation."""
    return field in {each.name for each in dataclasses.fields(Hypers)}


def tidy(value: float, whole: bool) -> float | int:
    """A computed value, rounded to six digits or to a whole number."""
    return round(value) if whole else float(f"{value:.6g}")


def parse_axis(field: str, words: tuple[Any, ...], kind: Any, seed: int = 0) -> Axis:
    """Words after a flag, or the items of a TOML array, as an axis.

    Args:
      field: of the axis.
      words: strings, or values that are of the field's type already.
      kind: type of the field.
      seed: of the draws that a distribution with a count stands for.

    Raises:
      SettingError: if a word is not a value of the type, or a range cannot be read.
    """
    require(len(words) > 0, field, "", "give it at least one value")
    ranges = [word for word in words if is_range(word)]
    if not ranges:
        return Axis(field, distinct(field, [parse_value(field, word, kind) for word in words]))
    typed = " ".join(map(str, words))
    require(len(words) == 1, field, typed, "a range stands alone: give one range, or plain values")
    return parse_range(field, ranges[0], kind, seed)


def is_range(word: Any) -> bool:
    """Whether a word is written as a range or as a distribution."""
    return isinstance(word, str) and ":" in word and word.partition(":")[0].isalpha()


def parse_range(field: str, word: str, kind: Any, seed: int) -> Axis:
    """Parses a range or a distribution such as `log:1e-4:1e-2:8`."""
    name, *rest = word.split(":")
    require(name in SPACED + DRAWN, field, word, f"there is no range {name}; use {FORMS}")
    require(kind in (int, float), field, word, "it takes no numbers, so no range of them: list its values")
    wanted = (3,) if name in SPACED else (2, 3)
    require(len(rest) in wanted, field, word, f"a range is one of {FORMS}")
    low, high = (number(field, word, part) for part in rest[:2])
    require(low < high, field, word, "its low end must be below its high end")
    log = name.startswith("log")
    require(not log or low > 0, field, word, "a logarithmic range begins above 0")
    whole = kind is int
    count = None
    if len(rest) == 3:
        count = read_whole(rest[2]) or 0
        require(1 <= count <= 10**6, field, word, "its last part counts values: use 1 or more, at most 1,000,000")
    if name in SPACED:
        assert count is not None
        points = np.geomspace(low, high, count) if log else np.linspace(low, high, count)
        return Axis(field, distinct(field, [tidy(float(point), whole) for point in points], merge=whole))
    drawn = Drawn(field, low, high, log, whole)
    remedy = "every draw would be a compilation of its own: list its values, or use lin: or log:"
    require(is_traced(field), field, word, remedy)
    if count is None:
        return Axis(field, (), drawn)
    # The field has a part in it: two axes of one range draw apart.
    rng = np.random.default_rng([seed, *field.encode()])
    return Axis(field, distinct(field, [drawn.sample(rng) for _ in range(count)], merge=whole))


def number(field: str, word: str, part: str) -> float:
    """Parses an end of a range."""
    whole = read_whole(part)
    try:
        value = float(part if whole is None else whole)
    except (ValueError, OverflowError) as error:
        raise SettingError(field, word, f"{part!r} is no number; use {FORMS}") from error
    require(math.isfinite(value), field, word, "the ends of a range are finite numbers")
    return value


def distinct(field: str, values: list[Any], merge: bool = False) -> tuple[Any, ...]:
    """The values without duplicates, which come from rounding (`merge`) or are a typing error."""
    once = tuple(dict.fromkeys(values))
    remedy = "it has the same value twice, and each would be trained for nothing: give every value once"
    require(merge or len(once) == len(values), field, " ".join(map(str, values)), remedy)
    return once


def parse_value(field: str, word: Any, kind: Any) -> Any:
    """One word as a value of a type.

    Raises:
      SettingError: if it is not one.
    """
    options = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    if type(None) in options and word in (None, "None", "none"):
        return None
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is typing.Literal or kind is str:
        # `Config` knows which names there are.
        require(isinstance(word, str), field, word, "it takes a name")
        return word
    readers = {bool: read_bool, int: read_int, float: read_float, tuple[int, ...]: read_widths}
    try:
        return readers[kind](word)
    except (ValueError, TypeError) as error:
        raise SettingError(field, word, f"use {error}") from error


def read_bool(word: Any) -> bool:
    """`true` or `false`. Raises ValueError for anything else."""
    if isinstance(word, bool):
        return word
    known = {"true": True, "false": False}
    if str(word).lower() not in known:
        raise ValueError("true or false")
    return known[str(word).lower()]


def read_int(word: Any) -> int:
    """A whole number, `1_000` and `1e3` too. Raises ValueError for anything else."""
    number = read_whole(word) if isinstance(word, str) else int(word) if is_whole(word) else None
    if number is None:
        raise ValueError("a whole number")
    return number


def read_float(word: Any) -> float:
    """A number. Raises ValueError for anything else."""
    try:
        value = math.nan if isinstance(word, bool) else float(word)
    except (TypeError, ValueError):
        value = math.nan
    if value != value:
        raise ValueError("a number")
    return value


def read_widths(word: Any) -> tuple[int, ...]:
    """`120,84`, or a list of whole numbers. Raises ValueError for anything else."""
    parts = word.split(",") if isinstance(word, str) else [word] if isinstance(word, int) else list(word)
    try:
        return tuple(read_int(part) for part in parts)
    except ValueError as error:
        raise ValueError("widths joined by commas, such as 120,84") from error
