"""Environments of a user's own: objects, registered factories and factories named MODULE:FACTORY."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

from purejaxdqn.config import EnvSpec, require
from purejaxdqn.envs import goals
from purejaxdqn.envs.interface import GYMNASIUM_PREFIX, Env, HostEnv
from purejaxdqn.envs.parameters import Changes, changed, is_required, numeric_defaults
from purejaxdqn.envs.protocol import check_env_record, has_methods, tried
from purejaxdqn.machine.imports import IMPORTED, function_of, module_name
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.observations.leaves import check_leaves

Factory = Callable[..., Any]
"""(**parameters) -> an environment, in any of the forms that `as_env` knows."""
FACTORIES: dict[str, Factory] = dict(goals.FACTORIES)
"""Those of this package, and those that were registered, by name."""
SAVED: dict[str, EnvSpec] = {}
"""Descriptions of environments that were read from run folders, for what needs no more: a report, a policy."""
KEPT = 64
"""Environments that are kept, so that none is made twice in a run."""
FORMS = (
    "an Env, a HostEnv, batch_env(reset, step, ...), an environment of gymnax's protocol (reset, step and "
    "default_params), a gymnasium.Env, or a gymnasium.vector.VectorEnv of num_envs environments"
)


def is_own(name: str) -> bool:
    """Whether a name is not a suite's."""
    saved = name in SAVED and SAVED[name].own_loop is not None
    return saved or name in FACTORIES or (":" in name and not name.startswith(GYMNASIUM_PREFIX))


def find_factory(name: str) -> Factory:
    """What makes an environment.

    Raises:
      SettingError: where it is not known here, or its module has no such name.
    """
    if name in FACTORIES:
        return FACTORIES[name]
    source, colon, _ = name.rpartition(":")
    remedy = f"it is not known here: add --import {source if colon else 'and the module or file that registers it'}"
    require(module_name(source) in IMPORTED, "env", name, remedy)
    return function_of(IMPORTED[module_name(source)][1], "env", name, "one that makes the environment")


def make_env(name: str, env_params: Changes = ()) -> Env | HostEnv:
    """An environment of a user's own.

    Args:
      name: as it was registered, or MODULE:FACTORY.
      env_params: arguments of its factory that differ from their defaults.

    Raises:
      SettingError: where it is not known here, its factory raises or gives something else, or what it gives cannot be
        learnt from.
    """
    return _made(find_factory(name), name, env_params)


def made_once(make: Factory, name: str) -> Any:
    """What a factory gives; one environment where it has to be told how many."""
    return tried(name, "its factory", partial(make, num_envs=1) if is_required(make, "num_envs") else make)


@lru_cache(KEPT)
@in_usual_modes
def _first(factory: Factory, name: str) -> Any:
    """What a factory gives by its defaults."""
    return made_once(factory, name)


def gymnasium_adapter(made: Any) -> Any:
    """The file of this room that knows what a factory gave, if that is Gymnasium's."""
    # Imported on use: there is Gymnasium, since the environment is of it.
    if is_gymnasium(made, "Env"):
        return import_module("purejaxdqn.envs.gymnasium")
    return import_module("purejaxdqn.envs.vectors") if is_gymnasium(made, "VectorEnv") else None


def parameters(factory: Factory, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What can be set of an environment: its factory's arguments, and the options of Gymnasium's pools.

    How many environments a vector environment has is the run's affair.
    """
    made, defaults = _first(factory, name), numeric_defaults(factory)
    module = gymnasium_adapter(made)
    if is_gymnasium(made, "VectorEnv"):
        defaults.pop("num_envs", None)
    return defaults, module.POOL_OPTIONS if module else {}


@lru_cache(KEPT)
@in_usual_modes
def _made(factory: Factory, name: str, changes: Changes) -> Env | HostEnv:
    """See `make_env`; kept by what it is made of."""
    defaults, options = parameters(factory, name)
    values = changed(name, options | defaults, changes)
    arguments = {key: value for key, value in values.items() if key in defaults}
    make = partial(factory, **arguments)
    made = _first(factory, name) if arguments == defaults else made_once(make, name)
    return as_env(made, name, make, {key: values[key] for key in options})


def env_settings(name: str) -> dict[str, Any]:
    """The arguments of a factory whose defaults are numbers, with these; of Gymnasium's also the pool's options."""
    defaults, options = parameters(find_factory(name), name)
    return options | defaults


def describe(name: str) -> EnvSpec:
    """What an environment is, from the one that is built, or from the run folder that was read."""
    known = name in FACTORIES or module_name(name.rpartition(":")[0]) in IMPORTED
    return SAVED[name] if name in SAVED and not known else make_env(name).spec


def named(env: Any, name: str | None) -> Any:
    """An environment under the name by which it was asked for."""
    where = "host" if isinstance(env, HostEnv) else "device"
    return env._replace(spec=env.spec._replace(env_id=name or env.spec.env_id, own_loop=where))


def is_gymnasium(made: Any, kind: str) -> bool:
    """Whether something is an `Env` or a `VectorEnv` of Gymnasium, told without importing that."""
    return any(part.__module__.startswith("gymnasium.") and part.__name__ == kind for part in type(made).__mro__)


@in_usual_modes
def as_env(
    made: Any, name: str | None = None, make: Factory | None = None, options: Mapping[str, Any] | None = None
) -> Env | HostEnv:
    """What a factory gave, or somebody passed, as an environment; what it is is told by its shape.

    Args:
      made: see `FORMS`.
      name: that it was asked for by; None for its own.
      make: makes another one like it, where that is known.
      options: of the pool, for an environment of Gymnasium.

    Raises:
      SettingError: where it is none of these, or what it gives cannot be learnt from.
    """
    if isinstance(made, Env):
        tried(name or made.spec.env_id, "its reset or step", lambda: check_env_record(made))
        return named(made, name)
    if isinstance(made, HostEnv):
        check_leaves(made.spec)
        return named(made, name)
    # As `gymnax.make` gives it, or without its parameters.
    env, *params = made if isinstance(made, tuple) and len(made) == 2 else (made,)
    title = name or str(getattr(env, "name", type(env).__name__))
    module = gymnasium_adapter(env)
    if module is not None:
        require(make is not None, "env", title, "give a function that makes it: every environment of a run is its own")
        env.close()
        return named(module.wrap(title, make, options or module.POOL_OPTIONS), name)
    steps = has_methods(env, "reset", "step") or has_methods(env, "reset_env", "step_env")
    require(steps, "env", title, f"its factory gave {type(made).__name__}: give {FORMS}")
    # Imported on use: it is not needed for what is none of it.
    from purejaxdqn.envs import gymnax

    return named(gymnax.wrap(title, env, params[0] if params else getattr(env, "default_params", None)), name)


def remember(spec: EnvSpec) -> None:
    """Keeps the description of an environment from a run folder."""
    SAVED[spec.env_id] = spec


def own_factory(name: str, factory: Factory, reads: tuple[str, ...]) -> Factory:
    """A factory that is to be registered.

    Raises:
      SettingError: for a name that a suite's environment has, or could have, or settings that no factory is given.
    """
    # As in `as_env`.
    from purejaxdqn.envs import gymnax

    require(name not in gymnax.env_names(), "env", name, "gymnax has an environment of this name: choose another")
    remedy = "these characters are kept for suites and files: choose a name without / and :"
    require(not {"/", ":"} & set(name) and name != "", "env", name, remedy)
    require(reads == (), "reads", reads, "a factory is given its own arguments alone: leave it out")
    return factory
