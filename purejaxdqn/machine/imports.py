"""Imports of a user's own modules: by name, from a file, and those that installed packages announce."""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from purejaxdqn.bounds import SettingError, one_line, require
from purejaxdqn.machine.nearest_names import nearest

GROUP = "purejaxdqn.parts"
"""Entry points of installed packages: each is a module, which registers parts when it is imported."""
FILE = ".py"
IMPORTED: dict[str, tuple[str, ModuleType]] = {}
"""What was imported here for the parts in it, by the name of the module: what was asked for, and the module."""


def module_name(source: str) -> str:
    """Name of the module that a name or a file stands for; a file's is the same in every folder."""
    return Path(source).stem if source.endswith(FILE) else source


def load_source(source: str, field: str, typed: str | None = None) -> ModuleType:
    """Imports a module by its name, or from a file, whose neighbours it may import, and notes nothing.

    Args:
      source: `my_package.my_module`, from the folder at hand or installed; or `path/to/file.py`.
      field: the setting that an error is about.
      typed: its value; by default the source.

    Raises:
      SettingError: if there is no such module, if it raises, or if another one has its name.
    """
    name, value = module_name(source), source if typed is None else typed
    is_file = source.endswith(FILE)
    path = Path(source).resolve() if is_file else None
    require(path is None or path.is_file(), field, value, f"there is no file {source}")
    folder = str(Path.cwd() if path is None else path.parent)
    if folder not in sys.path:
        # As Python itself does for a file that it runs.
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except SettingError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {one_line(error)}"
        raise SettingError(field, value, f"{source} cannot be imported ({said})") from error
    found = getattr(module, "__file__", None)
    another = f"Python has another module {name}, {found or 'of its own'}: give the file another name"
    require(path is None or (found is not None and Path(found).resolve() == path), field, value, another)
    return module


def import_source(source: str, field: str = "imports", typed: str | None = None) -> ModuleType:
    """The same for a module with parts of a run, which is noted: whatever goes on with the run needs it too."""
    module = load_source(source, field, typed)
    IMPORTED[module_name(source)] = (source, module)
    return module


def function_of(module: ModuleType, field: str, typed: str, what: str) -> Callable[..., Any]:
    """A function of a module.

    Args:
      module: that was imported.
      field: the setting that an error is about.
      typed: its value, MODULE:FUNCTION or FILE:FUNCTION.
      what: what there should be, for errors.

    Raises:
      SettingError: if there is none of that name.
    """
    source, _, name = typed.rpartition(":")
    made = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    near = nearest(name, made, least=0.0)
    has = f"{source} has no {name}, and " + (f"the nearest names are {', '.join(near)}" if near else "no function")
    require(hasattr(module, name), field, typed, has)
    found: Callable[..., Any] = getattr(module, name)
    require(callable(found), field, typed, f"{name} is no function: name {what}")
    return found


def import_extra(package: str, env_id: str, remedy: str) -> ModuleType:
    """Imports a package that only some environments need.

    Raises:
      SettingError: if it is not installed; the remedy says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise SettingError("env", env_id, remedy) from error


def import_announced() -> None:
    """Imports what installed packages announce.

    Raises:
      SettingError: if one of them cannot be imported.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            package = entry.dist.name if entry.dist else entry.module
            remedy = f"the installed package {package} announces it, and it cannot be imported ({one_line(error)})"
            raise SettingError("imports", entry.value, f"{remedy}: repair or remove the package") from error


def imported() -> list[str]:
    """What was imported here, as it was asked for."""
    return [source for source, _ in IMPORTED.values()]


def require_imported(sources: Iterable[str]) -> None:
    """Raises `SettingError` for the first of some sources that has not been imported."""
    remedy = "it was trained with it, and a folder never imports anything by itself: add this flag"
    for source in sources:
        require(module_name(source) in IMPORTED, "imports", source, remedy)
