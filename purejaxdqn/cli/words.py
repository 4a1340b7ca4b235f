"""Words of a command line: one flag's before the parse, and whole numbers as people write them."""

from collections.abc import Sequence
from typing import Any

from purejaxdqn.bounds import read_whole
from purejaxdqn.cli.flags import flag_fields, leaves
from purejaxdqn.config import require


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


def with_value(args: Sequence[str], flag: str, value: str) -> list[str]:
    """The words with a value after a flag that was typed without a number."""
    words: list[str] = []
    for here, word in enumerate(args):
        words.append(word)
        following = args[here + 1] if here + 1 < len(args) else ""
        if word == flag and read_whole(following) is None and following != "None":
            words.append(value)
    return words


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
    require(number is not None or word == "None", field, word, "use a whole number, such as 500000, 5e5, 500k or 2M")
    return word if number is None else str(number)


def takes_whole(kind: Any) -> bool:
    """Whether a flag of this type takes whole numbers and nothing else."""
    return kind in (int, int | None, tuple[int, ...])
