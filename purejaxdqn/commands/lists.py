"""`purejaxdqn list KIND`: the environments, algorithms, recipes, networks and other parts that a flag can name."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import tyro

from purejaxdqn import cli
from purejaxdqn.build import SEAMS
from purejaxdqn.config import flag_name
from purejaxdqn.envs import goals, own
from purejaxdqn.envs.interface import ATARI_SUFFIX, ENVPOOL_PREFIX, GYMNASIUM_PREFIX, JAX_PREFIXES
from purejaxdqn.machine.nearest_names import nearest
from purejaxdqn.networks import TORSOS
from purejaxdqn.recipes.algorithms import ALGORITHMS
from purejaxdqn.recipes.recipes import RECIPES, default_recipe

COMMAND = "purejaxdqn-list"
Lines = Iterator[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class ListFlags:
    """The flags of `list`."""

    kind: Annotated[str, tyro.conf.Positional]
    """envs, algos, recipes, networks, heads, backups, replays, explorers or shapings."""
    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Only what has all of these in its name or its line."""
    json: bool = False
    """Print JSON and nothing else."""
    imports: cli.Imports = ()
    """A module, or a file such as path/to/file.py, to import first, which registers parts of your own."""


def gymnax_lines() -> Lines:
    """gymnax's environments with discrete actions."""
    # It imports gymnax.
    from purejaxdqn.envs.gymnax import env_names, has_discrete_actions

    for name in filter(has_discrete_actions, env_names()):
        recipe = default_recipe(name)
        solved = recipe.solved_at if recipe.config["env"] == name else None
        yield name, f"recipe {recipe.name}" + ("" if solved is None else f", solved at {solved:g}")


def suite_lines(prefix: str) -> Lines:
    """The environments of a suite in JAX, or what to install."""
    suite = prefix.rstrip("/")
    if find_spec(suite) is None:
        yield f"{prefix}...", f"not installed: install purejaxdqn[{suite}]"
        return
    for name in import_module(f"purejaxdqn.envs.{suite}").names():
        yield prefix + name, "suite in JAX"


def envpool_lines() -> Lines:
    """EnvPool's Atari games by their own names, and its other environments by its prefix."""
    try:
        import envpool
    except ImportError:
        yield f"...{ATARI_SUFFIX}", "Atari by EnvPool, not installed: install purejaxdqn[atari]"
        return
    for name in sorted(envpool.list_all_envs()):
        atari = name.endswith(ATARI_SUFFIX)
        yield name if atari else ENVPOOL_PREFIX + name, "Atari by EnvPool" if atari else "EnvPool"


def gymnasium_lines() -> Lines:
    """What Gymnasium has registered."""
    try:
        import gymnasium
    except ImportError:
        yield f"{GYMNASIUM_PREFIX}...", "not installed: install purejaxdqn[gymnasium]"
        return
    for name in gymnasium.registry:
        yield GYMNASIUM_PREFIX + name, "Gymnasium"


def env_lines() -> Lines:
    """Environments: gymnax's, one's own, the suites' in JAX, and those that step on the host."""
    yield from gymnax_lines()
    for name in own.FACTORIES:
        yield name, "with goals, for --hindsight" if name in goals.FACTORIES else "registered by an import"
    for prefix in JAX_PREFIXES:
        yield from suite_lines(prefix)
    yield from gymnasium_lines()
    yield from envpool_lines()


def first_sentence(text: str) -> str:
    """A text up to its first full stop, which that of `et al.` is not."""
    return re.split(r"(?<! al)\.(?: |$)", text, maxsplit=1)[0]


def recipe_lines() -> Lines:
    """Recipes with their environment and the first sentence on them."""
    for name, recipe in RECIPES.items():
        solved = "" if recipe.solved_at is None else f", solved at {recipe.solved_at:g}"
        yield name, f"{recipe.config['env']}{solved}: {first_sentence(recipe.description)}"


def seam_lines(seam: str) -> Lines:
    """The choices of a seam, with the flags that they alone read."""
    for name, choice in SEAMS[seam].items():
        yield name, " ".join(["reads", *map(flag_name, choice.reads)]) if choice.reads else ""


def network_lines() -> Lines:
    """Torsos, with the observations that they take."""
    yield "auto", "nature-cnn or minatar-cnn for pictures, by their size, else mlp"
    yield from ((name, torso.takes) for name, torso in TORSOS.items())


KINDS: dict[str, Callable[[], Lines]] = {
    "envs": env_lines,
    "algos": lambda: ((name, algorithm.paper) for name, algorithm in ALGORITHMS.items()),
    "recipes": recipe_lines,
    "networks": network_lines,
    "heads": lambda: seam_lines("head"),
    "backups": lambda: seam_lines("backup"),
    "replays": lambda: seam_lines("replay"),
    "explorers": lambda: seam_lines("explorer"),
    "shapings": lambda: seam_lines("reward_shaping"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: list_names(args))


def list_names(args: list[str]) -> int:
    """Parses, and prints a line for each name."""
    if not args:
        raise cli.UsageError(f"name what to list: {', '.join(KINDS)}")
    flags: ListFlags = cli.parse(ListFlags, args, COMMAND, "Lists what a flag can name.")
    if flags.kind not in KINDS:
        near = nearest(flags.kind, KINDS)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(KINDS)}"
        raise cli.UsageError(f"there is no list of {flags.kind} ({hint})")
    cli.import_parts(args)
    found = [
        (name, says)
        for name, says in KINDS[flags.kind]()
        if all(word.lower() in f"{name} {says}".lower() for word in flags.words)
    ]
    if flags.json:
        print(json.dumps([{"name": name, "says": says} for name, says in found]))
        return 0
    width = max((len(name) for name, _ in found), default=0)
    for name, says in found:
        print(f"{name:<{width}}  {says}".rstrip())
    return 0
