"""The benchmarks, in rooms by what they show; `python -m benchmarks.NAME` finds the module NAME in any of them."""

from pathlib import Path

ROOMS = ("speed", "learning", "robustness", "peers", "pages")

# Commands stay what they were before there were rooms: those that committed results name.
__path__.extend(str(Path(__file__).parent / room) for room in ROOMS)
