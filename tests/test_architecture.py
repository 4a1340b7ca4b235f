"""Imports point one way: a module imports only from lower tiers, and siblings leave each other alone."""

import ast
from pathlib import Path

import pytest

import purejaxdqn

PACKAGE = Path(purejaxdqn.__file__).parent

# From the bottom up. A sub-package is one unit, whose modules may import each other.
TIERS = [
    {
        "config",
        "losses",
        "returns",
        "schedules",
        "draws",
        "threefry",
        "deferred",
        "garbage",
        "stopwatch",
        "shards",
        "devices",
        "stats",
        "drawing",
        "algorithms",
        "endings",
        "tutorials",
    },
    {"types", "distributional", "cli", "scenes", "plots", "atari_scores", "comparison", "video"},
    {"heads", "backups", "networks", "explore", "optim", "replay", "envs", "render", "shaping"},
    {"learn"},
    {"build"},
    {"loops", "checkpoint", "folder", "recipes"},
    {"recording", "records", "kept", "policy", "programs", "recipe_files", "sweep_folder"},
    {"training"},
    {"runner", "train_settings"},
    {"display", "doctor", "report"},
    {"train_run", "evaluate", "scores", "sweep"},
    {"train"},
]


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


def test_no_unit_is_in_two_tiers():
    names = [name for tier in TIERS for name in tier]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os\nfrom jax import numpy", set()),
        ("from purejaxdqn.learning.losses import huber", {"losses"}),
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
