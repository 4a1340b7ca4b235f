"""Lazy imports: modules that are loaded when something in them is first used."""

import importlib
import importlib.util
import sys
import types
from typing import Any


class StandIn(types.ModuleType):
    """A placeholder for a module that is not loaded yet; any access to an attribute loads it."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(load(self.__name__), attribute)


def load(name: str) -> types.ModuleType:
    """Loads the module itself in place of the placeholder, its parent packages first."""
    parent, _, child = name.rpartition(".")
    package = load(parent) if parent else None
    if isinstance(sys.modules.get(name), StandIn):
        del sys.modules[name]
    module = importlib.import_module(name)
    if package is not None:
        # Where the package was loaded just now it has no word of a module that was loaded before it.
        setattr(package, child, module)
    return module


def defer_import(name: str) -> None:
    """Makes later `import NAME` return a placeholder that loads the module on first use, unless it is already loaded.

    `importlib.util.LazyLoader` would load it in the import statement itself, which looks at the module's `__spec__`.

    Args:
      name: of a module; its parent packages are imported, except deferred ones.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    stand_in = StandIn(name)
    found = {"__spec__": spec, "__file__": spec.origin, "__path__": spec.submodule_search_locations}
    stand_in.__dict__.update({key: value for key, value in found.items() if value is not None})
    sys.modules[name] = stand_in
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, stand_in)
