"""Which environment a name means, and where it steps: a suite's by its prefix, a user's own by what was built."""

from functools import lru_cache
from importlib import import_module
from typing import Any, Literal

from purejaxdqn.config import EnvSpec
from purejaxdqn.envs import own
from purejaxdqn.envs.interface import ATARI_SUFFIX, ENVPOOL_PREFIX, GYMNASIUM_PREFIX, JAX_PREFIXES, Env, HostEnv
from purejaxdqn.envs.parameters import Changes
from purejaxdqn.observations.leaves import list_leaves

Loop = Literal["device", "host"]
SUITES: dict[str, Loop] = {"gymnax": "device", "suites": "device", "envpool": "host", "gymnasium": "host"}
"""Files of this room, and where all of the environments step that one of them makes."""


def suite_of(env_id: str) -> str:
    """The file of this room that makes an environment: that of a suite, or of the suites in JAX, or `own`."""
    if own.is_own(env_id):
        return "own"
    if env_id.startswith(JAX_PREFIXES):
        return "suites"
    if env_id.startswith(GYMNASIUM_PREFIX):
        return "gymnasium"
    if env_id.startswith(ENVPOOL_PREFIX) or env_id.endswith(ATARI_SUFFIX):
        return "envpool"
    return "gymnax"


def loop_of(env_id: str) -> Loop:
    """Where an environment steps.

    Raises:
      SettingError: for one of a user's own that is not known here, or cannot be made.
    """
    suite = suite_of(env_id)
    return SUITES[suite] if suite in SUITES else own.describe(env_id).own_loop or "device"


def adapter(env_id: str) -> Any:
    """The module that makes an environment, imported on use: a policy is loaded where a suite may not be installed."""
    return import_module(f"purejaxdqn.envs.{suite_of(env_id)}")


def make_env(env_id: str, env_params: Changes = ()) -> Env | HostEnv:
    """The environment of a name.

    Args:
      env_id: the name.
      env_params: its settings that differ from their defaults.

    Raises:
      SettingError: where there is none, or it cannot be made here or learnt from.
    """
    return adapter(env_id).make_env(env_id, env_params)


def env_settings(env_id: str) -> dict[str, Any]:
    """Everything that can be set of an environment by one number, with its default.

    Raises:
      SettingError: as in `make_env`.
    """
    return adapter(env_id).env_settings(env_id)


@lru_cache(own.KEPT)
def _suite_spec(env_id: str) -> EnvSpec:
    """What an environment of a suite is, by default."""
    return make_env(env_id).spec


def gives_pictures(env_id: str) -> bool:
    """Whether the observations of an environment are, or hold, pictures; see `make_env` for the errors.

    Of a run whose folder was read it is known where its suite is not installed, too.
    """
    spec = own.describe(env_id) if own.is_own(env_id) else own.SAVED.get(env_id) or _suite_spec(env_id)
    return any(leaf.is_picture for leaf in list_leaves(spec))
