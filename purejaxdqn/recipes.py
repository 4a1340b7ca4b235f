"""Named settings, each with what was measured of it, and the choice of one for an environment."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from purejaxdqn.config import Config, SettingError
from purejaxdqn.types import Hypers


@dataclass(frozen=True)
class Recipe:
    """Settings for an environment or a family of them; what it leaves out has the default of `Config` or `Hypers`."""

    name: str
    description: str
    """Where the values come from, and what was measured with them."""
    config: Mapping[str, Any]
    """Fields of `Config`, `env` among them."""
    hypers: Mapping[str, Any]
    """Fields of `Hypers`."""
    solved_at: float | None
    """Mean greedy return that counts as solved; None where nobody set one."""


def _recipe(
    name: str, description: str, config: dict[str, Any], hypers: dict[str, Any], solved_at: float | None
) -> Recipe:
    """A recipe that nobody can change by accident: it is shared by all who read it."""
    return Recipe(name, description, MappingProxyType(config), MappingProxyType(hypers), solved_at)


# A replay as long as the run: with one of 50,000, 7 of 32 seeds ended below 475.
_CARTPOLE_CONFIG = {
    "total_steps": 500_000,
    "num_envs": 10,
    "rollout_length": 1,
    "updates_per_rollout": 1,
    "buffer_size": 500_000,
    "batch_size": 128,
    "learning_starts": 1_000,
    "n_step": 1,
    "double": True,
    "hidden": (120, 84),
    "layer_norm": True,
    "loss": "squared",
    "learning_rate_schedule": "linear",
}
_CARTPOLE_HYPERS = {
    "learning_rate": 5e-4,
    "learning_rate_final": 0.0,
    "gamma": 0.99,
    "target_period": 50,
    "epsilon_start": 1.0,
    "epsilon_final": 0.05,
    "epsilon_fraction": 0.5,
}
# A replay that stays small whatever the observations are.
_VECTOR_CONFIG = {**_CARTPOLE_CONFIG, "buffer_size": 100_000}
# Young & Tian's network and replay; Adam, double and layer normalisation as for CartPole. An update of 64 for every 10
# steps instead of 32 for every step, to cost less on a CPU.
_MINATAR_CONFIG = {
    "total_steps": 2_000_000,
    "num_envs": 10,
    "rollout_length": 1,
    "updates_per_rollout": 1,
    "buffer_size": 100_000,
    "batch_size": 64,
    "learning_starts": 5_000,
    "n_step": 1,
    "double": True,
    "hidden": (128,),
    "layer_norm": True,
    "loss": "squared",
    "learning_rate_schedule": "linear",
}
_MINATAR_HYPERS = {
    "learning_rate": 5e-4,
    "learning_rate_final": 0.0,
    "gamma": 0.99,
    "target_period": 200,
    "epsilon_start": 1.0,
    "epsilon_final": 0.05,
    "epsilon_fraction": 0.1,
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _recipe(
            "cartpole",
            "CleanRL's network and batch with layer normalisation, double DQN, a falling learning rate and a replay of "
            "the whole run. Last parameters, greedy, 100 episodes: 8 of 8 seeds at 475 or more (lowest 493, mean 499); "
            "these seeds served for tuning too, and no fresh ones were measured.",
            {"env": "CartPole-v1", **_CARTPOLE_CONFIG},
            _CARTPOLE_HYPERS,
            475.0,
        ),
        _recipe(
            "mountaincar",
            "CartPole's settings with a slower target. First guess, not measured.",
            {"env": "MountainCar-v0", **_VECTOR_CONFIG},
            {**_CARTPOLE_HYPERS, "learning_rate": 1e-3, "target_period": 200},
            -110.0,
        ),
        _recipe(
            "acrobot",
            "CartPole's settings. First guess, not measured.",
            {"env": "Acrobot-v1", **_VECTOR_CONFIG},
            _CARTPOLE_HYPERS,
            -90.0,
        ),
        _recipe(
            "breakout-minatar",
            "Young & Tian's network, replay and start with Adam. First guess, not measured.",
            {"env": "Breakout-MinAtar", **_MINATAR_CONFIG},
            _MINATAR_HYPERS,
            10.0,
        ),
        _recipe(
            "vector",
            "CartPole's settings, for any environment that gives vectors; not measured.",
            {"env": "CartPole-v1", **_VECTOR_CONFIG},
            _CARTPOLE_HYPERS,
            None,
        ),
        _recipe(
            "minatar",
            "Breakout-MinAtar's settings, for any environment that gives pictures; not measured.",
            {"env": "Breakout-MinAtar", **_MINATAR_CONFIG},
            _MINATAR_HYPERS,
            None,
        ),
    )
}
_GENERIC = ("vector", "minatar")
_TUNED = {recipe.config["env"]: recipe for recipe in RECIPES.values() if recipe.name not in _GENERIC}
# Named, so that choosing a recipe need not import gymnax and make the environment.
_OTHER_PICTURES = frozenset({"Pong-misc"})


def default_recipe(env_id: str) -> Recipe:
    """The recipe tuned for an environment, or else the one for observations like its own.

    Args:
      env_id: as gymnax registers it; an unknown one gets the recipe for vectors.
    """
    if env_id in _TUNED:
        return _TUNED[env_id]
    pictures = env_id.endswith("-MinAtar") or env_id in _OTHER_PICTURES
    return RECIPES["minatar" if pictures else "vector"]


def make_settings(recipe: Recipe, env_id: str | None = None, **overrides: Any) -> tuple[Config, Hypers]:
    """A recipe's settings.

    Args:
      recipe: the settings to start from.
      env_id: another environment than the recipe's.
      **overrides: fields of `Config` or `Hypers` that differ from the recipe's.

    Raises:
      SettingError: for a name that is a field of neither, or a value that cannot work.
    """
    config_names = {field.name for field in dataclasses.fields(Config)}
    hyper_names = {field.name for field in dataclasses.fields(Hypers)}
    for name, value in overrides.items():
        if name not in config_names | hyper_names:
            raise SettingError(name, value, "there is no such setting")
    config = dict(recipe.config) | {name: value for name, value in overrides.items() if name in config_names}
    hypers = dict(recipe.hypers) | {name: value for name, value in overrides.items() if name in hyper_names}
    if env_id is not None:
        config["env"] = env_id
    return Config(**config), Hypers(**hypers).validate()
