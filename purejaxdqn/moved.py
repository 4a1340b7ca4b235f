"""Import paths of purejaxdqn 0.1, whose modules were all in one folder: an old path fails and names the new one."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

_ROOMS = {
    "learning": "losses distributional returns heads backups explore schedules optim shaping",
    "machine": "devices threefry shards stopwatch",
    "pictures": "drawing scenes render video plots",
    "recipes": "algorithms tutorials",
    "runs": "training runner records checkpoint folder policy sweep_folder",
    "statistics": "comparison atari_scores",
}
MOVED = {name: f"{room}.{name}" for room, names in _ROOMS.items() for name in names.split()} | {
    "deferred": "machine.lazy_imports",
    "display": "train.display",
    "doctor.checkup": "doctor.examine",
    "doctor.looks": "doctor.samples",
    "doctor.play": "doctor.rollouts",
    "draws": "machine.random_bits",
    "endings": "runs.early_stopping",
    "envs.contract": "envs.interface",
    "garbage": "machine.garbage_collection",
    "kept": "runs.best_params",
    "loops.host_spread": "loops.host_sharding",
    "loops.spread": "loops.sharding",
    "programs": "runs.program_cache",
    "recipe_files": "recipes.files",
    "recording": "runs.episode_video",
    "replay.contract": "replay.interface",
    "replay.drawn": "replay.presampled",
    "report.page": "report.write_page",
    "report.parts": "report.html",
    "stats": "statistics.intervals",
    "sweep.saved": "sweep.checkpoints",
    "sweep.sweeping": "sweep.driver",
    "train_run": "train.command",
    "train_settings": "train.settings",
}
"""Modules of 0.1 and where each is now, both within the package."""


def sentence(old: str) -> str:
    """What to import in place of a module of 0.1."""
    return f"purejaxdqn.{old} has moved: import purejaxdqn.{MOVED[old]}"


class OldPaths:
    """The last module finder that Python tries: it finds nothing, but its error names a moved module's path."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Raises ModuleNotFoundError with the new path of a module that has moved; returns None for any other."""
        package, _, old = name.partition(".")
        if package == "purejaxdqn" and old in MOVED:
            # Without its `name`: `from package import old` would swallow an error that has that.
            raise ModuleNotFoundError(sentence(old))


def moved_names(home: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that was a module: names of the module raise ImportError with their new home."""

    def find(name: str) -> Any:
        package = home.rpartition(".")[0]
        if not name.startswith("__") and hasattr(import_module(home), name):
            raise ImportError(f"{package}.{name} has moved: import it from {home}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


def tell_old_paths() -> None:
    """Makes old import paths fail with an error that names the new one, in this process."""
    if OldPaths not in sys.meta_path:
        sys.meta_path.append(OldPaths)
