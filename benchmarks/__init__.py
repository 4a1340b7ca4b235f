"""The benchmarks, in rooms by what they show; `python -m benchmarks.NAME` finds the module NAME in any of them."""

from pathlib import Path

__path__.extend(str(Path(__file__).parent / room) for room in ("robustness",))
