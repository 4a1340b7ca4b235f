"""Modules that are loaded when something in them is first used, for libraries that import more than they need."""

import importlib
import importlib.util
import sys
import types
from typing import Any


def defer_import(name: str) -> None:
    """Has every later `import NAME` give a stand-in, which loads the module at its first use; one that is loaded stays.

    `importlib.util.LazyLoader` would load it in the import statement itself, which looks at the module's `__spec__`.

    Args:
      name: of a module; the packages around it are imported.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    stand_in = types.ModuleType(name)

    def load(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    found = {"__spec__": spec, "__file__": spec.origin, "__path__": spec.submodule_search_locations}
    stand_in.__dict__.update({key: value for key, value in found.items() if value is not None})
    # Python asks a module's own function for what the module does not have (PEP 562).
    stand_in.__dict__["__getattr__"] = load
    sys.modules[name] = stand_in
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, stand_in)
