"""Named settings (first guesses)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from purejaxdqn.config import Config
from purejaxdqn.types import Hypers


@dataclass(frozen=True)
class Recipe:
    name: str
    description: str
    config: Mapping[str, Any]
    hypers: Mapping[str, Any]
    solved_at: float | None


RECIPES = {
    "cartpole": Recipe("cartpole", "", {"env": "CartPole-v1"}, {}, 475.0),
    "vector": Recipe("vector", "", {}, {}, None),
}


def default_recipe(env_id: str) -> Recipe:
    return RECIPES["cartpole"] if env_id == "CartPole-v1" else RECIPES["vector"]


def make_settings(recipe: Recipe, env_id: str | None = None, **o: Any) -> tuple[Config, Hypers]:
    return Config(
        **{
            **recipe.config,
            **({"env": env_id} if env_id else {}),
            **{k: v for k, v in o.items() if k in Config.__dataclass_fields__},
        }
    ), Hypers(**{**recipe.hypers, **{k: v for k, v in o.items() if k in Hypers.__dataclass_fields__}})
