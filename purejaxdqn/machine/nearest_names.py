"""The nearest names to one that nobody knows, for errors about flags, commands, environments, recipes and functions."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], least: float = 0.4) -> list[str]:
    """Up to three known names that are like another one, the most alike first, whatever their case.

    Args:
      name: what was typed.
      known: names that there are.
      least: similarity, in [0, 1], from which a name counts; 0 finds one wherever there is any.
    """
    folded = {each.lower(): each for each in known}
    return [folded[each] for each in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=least)]
