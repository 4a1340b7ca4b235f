"""From the words of a command line to a dataclass, or to one sentence on what is wrong with them."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

from purejaxdqn.cli.flags import all_flags
from purejaxdqn.cli.help_text import Groups, help_text
from purejaxdqn.cli.sentences import fail, spoken
from purejaxdqn.cli.words import whole_words
from purejaxdqn.machine.nearest_names import nearest


def parse(cls: type, args: Sequence[str], command: str, description: str, groups: Groups | None = None) -> Any:
    """`tyro.cli` with errors as one sentence, the closest flags for an unknown one, and a help text by groups.

    Args:
      cls: the dataclass whose fields are the flags.
      args: the words after the command.
      command: its name.
      description: what it does.
      groups: headings of the flags in the help text.

    Raises:
      SystemExit: 0 after --help, 2 after an error.
    """
    if {"-h", "--help"} & set(args):
        print(help_text(cls, spoken(command), description, groups))
        raise SystemExit(0)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), wide_terminal():
            return tyro.cli(cls, args=whole_words(args, cls), prog=command, description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(command, tyro_sentence(said.getvalue(), cls))


@contextlib.contextmanager
def wide_terminal() -> Iterator[None]:
    """A terminal so wide that no message is cut into pieces, whatever there is."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "200"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({} if before is None else {"COLUMNS": before})


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
    word = next((word for word in words if word.startswith("-")), words[0] if words else "")
    name = word.split("=", 1)[0]
    near = nearest(name, all_flags(cls), least=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "--help lists all flags"
    return f"there is no flag {name} ({hint})" if word.startswith("-") else f"{word!r} belongs to no flag ({hint})"
