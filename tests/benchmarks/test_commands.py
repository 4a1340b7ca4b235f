"""Every command of the benchmarks that is named anywhere can be given as it is written."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import benchmarks

ROOT = Path(benchmarks.__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "Makefile",
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("benchmarks/**/*.py"),
]


def named():
    """Modules of every `python -m benchmarks.…` in pages, sources and the commands of results."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    texts += [json.loads(path.read_text()).get("command", "") for path in ROOT.glob("benchmarks/results/*.json")]
    return sorted(
        {
            name
            for text in texts
            for name in re.findall(r"python -m (benchmarks(?:\.\w+)+)(?!\.?{)", text)
            if not name.endswith("NAME")
        }
    )


@pytest.mark.parametrize("name", named())
def test_a_command_that_is_named_exists(name):
    spec = importlib.util.find_spec(name)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{name}.__main__") is not None


def test_the_reader_finds_the_commands():
    assert {"benchmarks.learning", "benchmarks.speed", "benchmarks.report", "benchmarks.quick"} <= set(named())


def test_no_two_rooms_have_a_module_of_one_name():
    rooms = [ROOT / "benchmarks" / room for room in benchmarks.ROOMS]
    names = [path.stem for room in rooms for path in room.glob("*.py") if not path.stem.startswith("__")]
    assert len(names) == len(set(names)) and not set(names) & set(benchmarks.ROOMS)
