"""Imports point one way, from one table of rooms; no private names across rooms; a late import says why it is late."""

import ast
import re
from pathlib import Path

import pytest

import purejaxdqn

PACKAGE = Path(purejaxdqn.__file__).parent

# From the bottom up: a room imports from lower lines only. A file at the top of the package is a room of its own.
ROOMS = """
bounds
config moved machine statistics
types cli pictures observations
learning networks envs portable
replay kernels
learn
build
loops
recipes
runs
check doctor report evaluate scores export
train
sweep zoo
commands
__main__
"""
TIERS = [set(line.split()) for line in ROOMS.strip().splitlines()]


def imported_units(source, package="purejaxdqn", inside=()):
    """The units (modules or sub-packages of the package) that a source imports, at any depth of its functions.

    Args:
      source: Python code.
      package: name of the package.
      inside: sub-packages that the module lies in, for relative imports.
    """
    units = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = [package, *inside][: 1 + len(inside) - (node.level - 1)] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        units |= {name.split(".")[1] for name in names if name.startswith(package + ".")}
    return units


def violations(unit, imported, tiers=TIERS):
    """One sentence for each import of a unit that does not point down."""
    level = {name: i for i, tier in enumerate(tiers) for name in tier}
    found = [f"{name} has no tier: place it in TIERS" for name in sorted({unit, *imported} - set(level))]
    for other in sorted(imported & set(level) - {unit}):
        if unit in level and level[other] >= level[unit]:
            where = "its own tier" if level[other] == level[unit] else "a higher tier"
            found.append(f"{unit} imports {other}, which is in {where}")
    return found


def modules():
    """(unit, sub-packages, path) of every module but the package's own `__init__`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield parts[0], parts[:-1], path


@pytest.mark.parametrize(("unit", "inside", "path"), list(modules()), ids=lambda value: getattr(value, "stem", ""))
def test_imports_point_down(unit, inside, path):
    assert violations(unit, imported_units(path.read_text(encoding="utf-8"), inside=inside)) == []


def private_imports(source, room, package="purejaxdqn"):
    """Names with a leading underscore that a source imports from another room of the package."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}.")
        if node.module.split(".")[1] != room
        for alias in node.names
        if alias.name.startswith("_") or any(part.startswith("_") for part in node.module.split("."))
    ]


def late_imports_without_reason(source):
    """Line numbers of imports inside functions whose block neither begins with a comment nor handles ImportError."""
    lines, found = source.splitlines(), []
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    late = {node.lineno: node for function in functions for node in ast.walk(function) if is_import(node)}
    told = False
    for number in sorted(late):
        before = "\n".join(lines[: number - 1]).rstrip().splitlines()
        goes_on = any(node.end_lineno == len(before) for node in late.values())
        above = before[-1].strip()
        told = told if goes_on else above.startswith("#") or (above == "try:" and handles_import_error(source, number))
        found += [] if told else [number]
    return found


def is_import(node):
    """Whether a node of a syntax tree is an import."""
    return isinstance(node, ast.Import | ast.ImportFrom)


def handles_import_error(source, number):
    """Whether the import in a line stands in a `try` that says what to do where the package is missing."""
    return any(
        node.lineno < number <= (node.end_lineno or 0)
        and any(isinstance(h.type, ast.Name) and h.type.id == "ImportError" for h in node.handlers)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Try)
    )


@pytest.mark.parametrize(("unit", "inside", "path"), list(modules()), ids=lambda value: getattr(value, "stem", ""))
def test_nothing_private_crosses_rooms_and_late_imports_say_why(unit, inside, path):
    source = path.read_text(encoding="utf-8")
    assert private_imports(source, unit) == []
    assert late_imports_without_reason(source) == []


def test_these_rules_can_fail():
    assert private_imports("from purejaxdqn.runs.folder import _secret", "train") == ["purejaxdqn.runs.folder._secret"]
    assert private_imports("from purejaxdqn.runs.folder import _secret", "runs") == []
    assert late_imports_without_reason("def f():\n    import jax\n") == [2]
    assert late_imports_without_reason("def f():\n    # Slow.\n    import jax\n\n    import numpy\n") == []
    assert (
        late_imports_without_reason("def f():\n    try:\n        import a\n    except ImportError:\n        b()") == []
    )
    assert late_imports_without_reason("def f():\n    try:\n        import a\n    except OSError:\n        b()") == [3]


def test_the_layout_is_small_enough_to_be_seen():
    """At most ten files at the top, none of the package above 340 lines, and a docstring for every room."""
    assert len(list(PACKAGE.glob("*.py"))) <= 10
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): length for path, length in lengths.items() if length > 340} == {}
    for room in PACKAGE.glob("*/__init__.py"):
        assert len((ast.get_docstring(ast.parse(room.read_text(encoding="utf-8"))) or "").splitlines()) >= 3, room


def test_the_page_of_the_architecture_has_the_same_table():
    """Line by line: each row of the page's table names what one line of the table here has, and in its order."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in page.split("| room | what is inside |")[1].split("\n\n")[0].splitlines()[2:]]
    named = [[name.strip("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", row)] for row in rows]
    assert [name for row in named for name in row] == ROOMS.split()


def test_no_unit_is_in_two_tiers():
    names = [name for tier in TIERS for name in tier]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os\nfrom jax import numpy", set()),
        ("from purejaxdqn.learning.losses import huber", {"learning"}),
        ("from purejaxdqn import losses, heads as h", {"losses", "heads"}),
        ("import purejaxdqn.replay.ring", {"replay"}),
        ("def f():\n    from purejaxdqn.train import main", {"train"}),
        ("if TYPE_CHECKING:\n    import purejaxdqn.loops.device as d", {"loops"}),
        ("from .ring import Ring", {"replay"}),
        ("from ..losses import huber", {"losses"}),
        ("from .. import losses", {"losses"}),
        ("import purejaxdqn_extra.losses", set()),
    ],
)
def test_the_reader_finds_every_kind_of_import(source, expected):
    assert imported_units(source, inside=("replay",)) == expected


def test_the_checker_can_fail():
    """Upwards, sideways and unplaced are three different sentences; down is none."""
    tiers = [{"low"}, {"left", "right"}, {"high"}]
    assert violations("left", {"low"}, tiers) == []
    assert violations("high", {"low", "left", "right", "high"}, tiers) == []
    assert violations("left", {"high"}, tiers) == ["left imports high, which is in a higher tier"]
    assert violations("left", {"right"}, tiers) == ["left imports right, which is in its own tier"]
    assert violations("newcomer", {"low"}, tiers) == ["newcomer has no tier: place it in TIERS"]
    assert violations("high", {"newcomer"}, tiers) == ["newcomer has no tier: place it in TIERS"]
