"""What every command has in common: flags from dataclasses, words, help, and errors as one sentence.

May import `bounds`, `config` and `machine`. Read `parsing.py` first: from the words of a command line to a dataclass,
or to one sentence on what is wrong with them.
"""

from purejaxdqn.bounds import FLAGS, flag_name
from purejaxdqn.cli.flags import (
    Imports,
    Several,
    all_flags,
    as_flags,
    field_docs,
    flag_fields,
    leaves,
    number_flags,
    typed_fields,
)
from purejaxdqn.cli.help_text import Groups
from purejaxdqn.cli.parsing import parse
from purejaxdqn.cli.sentences import UsageError, fail, guarded, quoted, setting_sentence, spoken, typed
from purejaxdqn.cli.start import check_device, import_parts, import_words, seed_indices, start_jax
from purejaxdqn.cli.words import every, peek, with_value

__all__ = [
    "FLAGS",
    "Groups",
    "Imports",
    "Several",
    "UsageError",
    "all_flags",
    "as_flags",
    "check_device",
    "every",
    "fail",
    "field_docs",
    "flag_fields",
    "flag_name",
    "guarded",
    "import_parts",
    "import_words",
    "leaves",
    "number_flags",
    "parse",
    "peek",
    "quoted",
    "seed_indices",
    "setting_sentence",
    "spoken",
    "start_jax",
    "typed",
    "typed_fields",
    "with_value",
]
