"""Recipes: valid, chosen by environment, and equal to the defaults where they say so."""

import pytest

from purejaxdqn.config import Config, SettingError
from purejaxdqn.recipes.recipes import RECIPES, default_recipe, make_settings
from purejaxdqn.types import Hypers


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_valid_settings_and_says_why(name):
    recipe = RECIPES[name]
    config, hypers = make_settings(recipe)
    assert recipe.name == name and len(recipe.description) > 40
    assert config.env == recipe.config["env"] and config.num_updates > 0
    assert all(getattr(config, field) == value for field, value in recipe.config.items())
    assert all(getattr(hypers, field) == value for field, value in recipe.hypers.items())


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("CartPole-v1", "cartpole"),
        ("MountainCar-v0", "mountaincar"),
        ("Acrobot-v1", "acrobot"),
        ("Breakout-MinAtar", "breakout-minatar"),
        ("Asterix-MinAtar", "minatar"),
        ("Pong-misc", "minatar"),
        ("Catch-bsuite", "vector"),
        ("unheard-of", "vector"),
    ],
)
def test_an_environment_has_its_recipe(env, name):
    assert default_recipe(env).name == name


def test_the_defaults_of_config_and_hypers_are_cartpoles():
    assert make_settings(RECIPES["cartpole"]) == (Config(), Hypers())


def test_overrides_find_their_place_and_unknown_ones_are_refused():
    config, hypers = make_settings(RECIPES["cartpole"], "Catch-bsuite", num_envs=3, gamma=0.5)
    assert (config.env, config.num_envs, hypers.gamma) == ("Catch-bsuite", 3, 0.5)
    with pytest.raises(SettingError, match="no such setting"):
        make_settings(RECIPES["cartpole"], gama=0.5)


def test_recipes_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        RECIPES["cartpole"].config["num_envs"] = 3
