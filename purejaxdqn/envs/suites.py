"""Suites of environments in JAX, each an extra of this package: what their adapters share.

A suite's file beside this one is imported where the suite is installed, and has three functions: `names()` of all its
environments, `settings(name)`, the numbers that can be set of one with their defaults, and `make(name, **settings)`,
the arguments of `batch_env`.
"""

from functools import lru_cache
from importlib import import_module
from typing import Any

import jax

from purejaxdqn.config import require
from purejaxdqn.envs.interface import Env
from purejaxdqn.envs.own import KEPT
from purejaxdqn.envs.parameters import Changes, changed
from purejaxdqn.envs.protocol import tried
from purejaxdqn.envs.single import batch_env
from purejaxdqn.machine.imports import import_extra
from purejaxdqn.machine.nearest_names import nearest
from purejaxdqn.machine.number_modes import in_usual_modes

Parts = dict[str, Any]
"""Arguments of `batch_env` but the name. `reset` and `step` are given keys as their words, uint32 [2], which may be
kept in a state."""


def find(env_id: str) -> tuple[Any, str]:
    """The file of this room that knows a suite, and the suite's own name of an environment.

    Raises:
      SettingError: where the suite is not installed, or has no such environment.
    """
    suite, _, name = env_id.partition("/")
    import_extra(suite, env_id, f"{suite}, which has it, is not installed: install purejaxdqn[{suite}]")
    adapter = import_module(f"purejaxdqn.envs.{suite}")
    known = adapter.names()
    near = ", ".join(f"{suite}/{other}" for other in nearest(name, known, least=0.0))
    require(name in known, "env", env_id, f"no such environment; the nearest names are {near}")
    return adapter, name


@in_usual_modes
def env_settings(env_id: str) -> dict[str, Any]:
    """Everything that can be set of an environment by one number, with its default.

    Raises:
      SettingError: see `find`, or where the suite cannot make it.
    """
    adapter, name = find(env_id)
    found: dict[str, Any] = tried(env_id, "its suite", lambda: adapter.settings(name))
    return found


@lru_cache(KEPT)
@in_usual_modes
def make_env(env_id: str, env_params: Changes = ()) -> Env:
    """An environment of a suite, with discrete actions and one player; kept, so that none is made twice in a run.

    Args:
      env_id: the suite, `/`, and the suite's own name.
      env_params: settings that differ from the defaults (see `env_settings`).

    Raises:
      SettingError: for what `env_settings` refuses, an unknown setting, or what cannot be learnt from.
    """
    adapter, name = find(env_id)
    values = changed(env_id, env_settings(env_id), env_params)
    given = {key: values[key] for key, _ in env_params}
    parts: Parts = tried(env_id, "its suite", lambda: adapter.make(name, **given))
    reset, step = parts.pop("reset"), parts.pop("step")
    words = jax.random.key_data
    return batch_env(
        lambda key: reset(words(key)), lambda key, state, action: step(words(key), state, action), name=env_id, **parts
    )
