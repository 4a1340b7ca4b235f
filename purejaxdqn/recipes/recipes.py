"""Recipes: named settings with the results measured for them, and the default recipe of an environment."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from purejaxdqn.build import check_pair, check_read, is_read
from purejaxdqn.config import Config, SettingError, require
from purejaxdqn.envs.interface import ENVPOOL_PREFIX, GYMNASIUM_PREFIX
from purejaxdqn.recipes.algorithms import ALGORITHMS, Algorithm, Family, family
from purejaxdqn.recipes.atari import ONE_MACHINE, PROTOCOL_ALGOS, PROTOCOLS
from purejaxdqn.recipes.atari_100k import ATARI_100K
from purejaxdqn.recipes.tutorials import FAITHFUL, VARIANTS
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
    run: Mapping[str, Any] = field(default_factory=dict)
    """Options of `train` that differ from its own defaults: eval_episodes, total_episodes, patience and the like."""
    algo: str | None = None
    """The algorithm whose settings are in it, where it was made from one."""
    family: Family | None = None
    """Which of an algorithm's settings go with it off Atari; None for those of its environment."""


def make_recipe(
    name: str,
    description: str,
    config: dict[str, Any],
    hypers: dict[str, Any],
    solved_at: float | None,
    run: dict[str, Any] | None = None,
) -> Recipe:
    """A recipe that nobody can change by accident: it is shared by all who read it."""
    return Recipe(
        name, description, MappingProxyType(config), MappingProxyType(hypers), solved_at, MappingProxyType(run or {})
    )


CONFIG_FIELDS = {field.name for field in dataclasses.fields(Config)}
HYPER_FIELDS = {field.name for field in dataclasses.fields(Hypers)}


def split_settings(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Settings by whose they are: fields of `Config`, fields of `Hypers`, and options of the run."""
    config = {name: value for name, value in values.items() if name in CONFIG_FIELDS}
    hypers = {name: value for name, value in values.items() if name in HYPER_FIELDS}
    return config, hypers, {name: value for name, value in values.items() if name not in config | hypers}


_VECTOR_CONFIG = {
    "num_envs": 10,
    "buffer_size": 50_000,
    "batch_size": 128,
    "learning_starts": 1_000,
    "n_step": 3,
    "backup": "double",
    "hidden": (120, 84),
    "norm": "layer",
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
# Of plain-dqn: a tenth of Nature's replay, and a network, prefill and periods that a small task needs. Rewards count a
# tenth, so that CartPole's return, discounted, is at most 10 and Huber's δ = 1 is not far below it: with the rewards as
# they are 2 of 2 pilots failed, with a target every 1,000 updates Q is still climbing at the end of the run.
_PLAIN_SIZES = {
    "total_steps": 400_000,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "hidden": (120, 84),
    "reward_scale": 0.1,
    "target_period": 250,
    "epsilon_fraction": 0.1,
}
_MINATAR_CONFIG = {
    "num_envs": 16,
    "buffer_size": 100_000,
    "batch_size": 32,
    "learning_starts": 5_000,
    "n_step": 3,
    "backup": "double",
    "hidden": (64,),
    "norm": "layer",
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


def _read_of(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run reads of an algorithm's settings, which are made from others'; fields of `Config` and of `Hypers`."""
    made = Config(**split_settings(values)[0])
    config, hypers, _ = split_settings({name: value for name, value in values.items() if is_read(made, name)})
    return config, hypers


def _protocol_recipe(protocol: str, algo: str) -> Recipe:
    """An algorithm's published settings under one of the two protocols, for any game; Pong is only the default."""
    says, params, run = PROTOCOLS[protocol]
    game = {"env": "Pong-v5", "env_params": tuple(sorted(params.items()))}
    config, hypers = _read_of(ALGORITHMS[algo].values("atari") | game)
    name, words = f"{protocol}-{algo}", f"{ALGORITHMS[algo].paper}; {says}"
    recipe = make_recipe(name, words, config, hypers, None, {**ALGORITHMS[algo].run["atari"], **run})
    return dataclasses.replace(recipe, algo=algo)


def _atari_recipe(name: str, values: Mapping[str, Any]) -> Recipe:
    """A recipe for Atari beside the two protocols, from one table of all that it sets."""
    config, hypers, run = split_settings(values)
    return make_recipe(name, run.pop("says"), config, hypers, run.pop("solved_at", None), run)


def _plain_recipe() -> Recipe:
    """Nature's DQN for vectors, with the sizes, periods and scale of rewards of a small task."""
    config, hypers = _read_of(ALGORITHMS["dqn"].values("atari") | {"env": "CartPole-v1", **_PLAIN_SIZES})
    says = (
        "Mnih et al. 2015 without pixels: no normalisation, centred RMSProp at a constant rate, Huber's errors summed "
        "over the batch, one-step targets, ε to 0.1; rewards count a tenth. Fresh seeds: "
        "benchmarks/results/family-plain.json. With --algo the ingredients of another paper take their place."
    )
    return dataclasses.replace(make_recipe("plain-dqn", says, config, hypers, 475.0), algo="dqn", family="plain")


def _tutorial_recipe(name: str) -> Recipe:
    """A tutorial's settings: plain DQN's, and its own."""
    tutorial = FAITHFUL[name]
    config = {**ALGORITHMS["dqn"].ingredients, **tutorial.config}
    return make_recipe(
        name, tutorial.description, config, dict(tutorial.hypers), tutorial.solved_at, dict(tutorial.run)
    )


def _variant_recipe(name: str) -> Recipe:
    """A recipe with a few values changed."""
    origin, words, changes = VARIANTS[name]
    recipe = _tutorial_recipe(origin)
    config, hypers, run = split_settings({**recipe.config, **recipe.hypers, **recipe.run, **changes})
    return make_recipe(name, f"{origin} {words}", config, hypers, recipe.solved_at, run)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        make_recipe(
            "cartpole",
            "CleanRL's network, batch and environments with layer normalisation, double DQN, three-step targets and a "
            "learning rate that falls to zero. With one-step targets 17 of 20 seeds reached 475 in 300k steps, with "
            "three-step ones 30 of 30 in 200k; fresh seeds: benchmarks/results/learning-CartPole-v1.json.",
            {"env": "CartPole-v1", "total_steps": 200_000, **_VECTOR_CONFIG},
            _VECTOR_HYPERS,
            475.0,
        ),
        make_recipe(
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
        make_recipe(
            "acrobot",
            "CartPole's settings with a shorter exploration; with a target four times slower 7 of 8 seeds reached "
            "-90 instead of 8. Fresh seeds: benchmarks/results/learning-Acrobot-v1.json.",
            {"env": "Acrobot-v1", "total_steps": 200_000, **_VECTOR_CONFIG},
            {**_VECTOR_HYPERS, "max_grad_norm": 10.0, "epsilon_fraction": 0.3},
            -90.0,
        ),
        make_recipe(
            "breakout-minatar",
            "Young & Tian's convolution and replay with Adam, three-step targets, layer normalisation and an update "
            "for every 16 steps. Fresh seeds: benchmarks/results/learning-Breakout-MinAtar.json.",
            {"env": "Breakout-MinAtar", "total_steps": 1_000_000, **_MINATAR_CONFIG},
            _MINATAR_HYPERS,
            10.0,
        ),
        make_recipe(
            "vector",
            "CartPole's settings over 500k steps, for any environment that gives vectors; not tuned for it.",
            {"env": "CartPole-v1", "total_steps": 500_000, **_VECTOR_CONFIG},
            _VECTOR_HYPERS,
            None,
        ),
        _plain_recipe(),
        make_recipe(
            "minatar",
            "Breakout-MinAtar's settings over 2M steps, for any environment that gives pictures; not tuned for it.",
            {"env": "Breakout-MinAtar", "total_steps": 2_000_000, **_MINATAR_CONFIG},
            _MINATAR_HYPERS,
            None,
        ),
        *(_atari_recipe(name, values) for name, values in (*ONE_MACHINE.items(), *ATARI_100K.items())),
        *(_protocol_recipe(protocol, algo) for protocol in PROTOCOLS for algo in PROTOCOL_ALGOS),
        *(_tutorial_recipe(name) for name in FAITHFUL),
        *(_variant_recipe(name) for name in VARIANTS),
    )
}
"""Every named recipe by its name, as `--recipe` takes it."""
TUNED = {
    recipe.config["env"]: recipe
    for recipe in RECIPES.values()
    if recipe.name in ("cartpole", "mountaincar", "acrobot", "breakout-minatar")
}
"""The recipe by the environment that it was tuned for."""
DEFAULTS = {field.name: field.default for cls in (Config, Hypers) for field in dataclasses.fields(cls)}


def default_recipe(env_id: str) -> Recipe:
    """The recipe tuned for an environment, or else the one for observations like its own.

    Args:
      env_id: as gymnax registers it; an unknown one gets the recipe for vectors.
    """
    # EnvPool's and Gymnasium's own CartPole-v1 and gymnax's are one task.
    name = env_id.removeprefix(ENVPOOL_PREFIX).removeprefix(GYMNASIUM_PREFIX)
    return TUNED[name] if name in TUNED else RECIPES[family(env_id)]


def solved_at(name: str, env_id: str) -> float | None:
    """The mean greedy return that counts as solved, as the recipe of a run has it for its environment."""
    recipe = RECIPES.get(name)
    return recipe.solved_at if recipe and recipe.config["env"] == env_id else default_recipe(env_id).solved_at


def protocol_of(config: Config) -> str | None:
    """The protocol that an Atari run keeps to, `nature` or `sticky`; None where it is neither, or no Atari run."""
    if family(config.env) != "atari":
        return None
    names = {name for _, params, _ in PROTOCOLS.values() for name in params}
    chosen = {name: value for name, value in config.env_params if name in names}
    return next((name for name, (_, params, _) in PROTOCOLS.items() if params == chosen), None)


def _family_with(recipe: Recipe, env_id: str) -> Family:
    """Which settings of an algorithm go with a recipe: a paper's own for Atari, whatever the recipe."""
    of_env = family(env_id)
    return recipe.family if recipe.family and of_env != "atari" else of_env


def find_algorithm(name: str) -> Algorithm:
    """An algorithm by name.

    Raises:
      SettingError: for an unknown one, with those that there are.
    """
    require(name in ALGORITHMS, "algo", name, f"use one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


def make_settings(
    recipe: Recipe, env_id: str | None = None, algo: str | None = None, **overrides: Any
) -> tuple[Config, Hypers]:
    """A recipe's settings, with an algorithm's in their place where one is named, and single ones in place of both.

    Of a recipe and an algorithm only those settings are taken that the run will read: `algo="rainbow", head="scalar"`
    has no atoms.

    Args:
      recipe: the settings to start from.
      env_id: another environment than the recipe's.
      algo: name of an algorithm; by default the recipe's own ingredients.
      **overrides: fields of `Config` or `Hypers` that differ.

    Raises:
      SettingError: for an unknown name, a value that cannot work, or an override that nothing would read.
    """
    env_id = env_id or recipe.config["env"]
    base = {**recipe.config, **recipe.hypers, "env": env_id}
    if algo is not None:
        base |= find_algorithm(algo).values(_family_with(recipe, env_id))
    for name, value in split_settings(overrides)[2].items():
        raise SettingError(name, value, "there is no such setting")
    config = Config(**split_settings(base | overrides)[0])
    check_read(config, overrides)
    unread = {name: DEFAULTS[name] for name in base if name not in overrides and not is_read(config, name)}
    chosen, hypers, _ = split_settings(base | unread | overrides)
    return check_pair(Config(**chosen), Hypers(**hypers))


def run_options(recipe: Recipe, env_id: str | None = None, algo: str | None = None) -> dict[str, Any]:
    """Options of `train` that a recipe sets, with an algorithm's in their place where one is named.

    Args:
      recipe: as in `make_settings`.
      env_id: likewise.
      algo: likewise.

    Raises:
      SettingError: for an unknown name.
    """
    chosen = {} if algo is None else find_algorithm(algo).run.get(family(env_id or recipe.config["env"]), {})
    return {**recipe.run, **chosen}
