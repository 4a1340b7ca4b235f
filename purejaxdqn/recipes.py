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
_VECTOR_CONFIG = {
    "num_envs": 10,
    "buffer_size": 50_000,
    "batch_size": 128,
    "learning_starts": 1_000,
    "n_step": 3,
    "double": True,
    "hidden": (120, 84),
    "layer_norm": True,
    "loss": "squared",
    "learning_rate_schedule": "linear",
}
_VECTOR_HYPERS = {
    "learning_rate": 1e-3,
    "learning_rate_final": 0.0,
    "max_grad_norm": float("inf"),
    "gamma": 0.99,
    "target_period": 50,
    "epsilon_final": 0.05,
    "epsilon_fraction": 0.5,
}
_MINATAR_CONFIG = {
    "num_envs": 16,
    "buffer_size": 100_000,
    "batch_size": 32,
    "learning_starts": 5_000,
    "n_step": 3,
    "double": True,
    "hidden": (64,),
    "layer_norm": True,
    "loss": "squared",
    "learning_rate_schedule": "linear",
}
_MINATAR_HYPERS = {
    "learning_rate": 1e-3,
    "learning_rate_final": 0.0,
    "max_grad_norm": float("inf"),
    "gamma": 0.99,
    "target_period": 200,
    "epsilon_final": 0.02,
    "epsilon_fraction": 0.2,
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _recipe(
            "cartpole",
            "CleanRL's network, batch and environments with layer normalisation, double DQN, three-step targets and a "
            "learning rate that falls to zero. With one-step targets 17 of 20 seeds reached 475 in 300k steps, with "
            "three-step ones 30 of 30 in 200k; fresh seeds: benchmarks/results/learning-CartPole-v1.json.",
            {"env": "CartPole-v1", "total_steps": 200_000, **_VECTOR_CONFIG},
            _VECTOR_HYPERS,
            475.0,
        ),
        _recipe(
            "mountaincar",
            "CartPole's settings with an update for every 4 steps and a slower target. In 200k steps three-step "
            "targets solved 6 of 6 seeds, one-step ones 2 of 6, an update for every 16 steps none of 24; in 300k "
            "steps 28 of 32 fresh seeds did, the others having begun to learn too late. Fresh seeds: "
            "benchmarks/results/learning-MountainCar-v0.json.",
            {
                "env": "MountainCar-v0",
                "total_steps": 450_000,
                **_VECTOR_CONFIG,
                "num_envs": 4,
                "learning_starts": 2_000,
            },
            {**_VECTOR_HYPERS, "max_grad_norm": 10.0, "target_period": 200, "epsilon_fraction": 0.4},
            -110.0,
        ),
        _recipe(
            "acrobot",
            "CartPole's settings with a shorter exploration; with a target four times slower 7 of 8 seeds reached "
            "-90 instead of 8. Fresh seeds: benchmarks/results/learning-Acrobot-v1.json.",
            {"env": "Acrobot-v1", "total_steps": 200_000, **_VECTOR_CONFIG},
            {**_VECTOR_HYPERS, "max_grad_norm": 10.0, "epsilon_fraction": 0.3},
            -90.0,
        ),
        _recipe(
            "breakout-minatar",
            "Young & Tian's convolution and replay with Adam, three-step targets, layer normalisation and an update "
            "for every 16 steps. Fresh seeds: benchmarks/results/learning-Breakout-MinAtar.json.",
            {"env": "Breakout-MinAtar", "total_steps": 1_000_000, **_MINATAR_CONFIG},
            _MINATAR_HYPERS,
            10.0,
        ),
        _recipe(
            "vector",
            "CartPole's settings over 500k steps, for any environment that gives vectors; not tuned for it.",
            {"env": "CartPole-v1", "total_steps": 500_000, **_VECTOR_CONFIG},
            _VECTOR_HYPERS,
            None,
        ),
        _recipe(
            "minatar",
            "Breakout-MinAtar's settings over 2M steps, for any environment that gives pictures; not tuned for it.",
            {"env": "Breakout-MinAtar", "total_steps": 2_000_000, **_MINATAR_CONFIG},
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
