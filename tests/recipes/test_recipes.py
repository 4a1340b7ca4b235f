"""Recipes: valid, chosen by environment, and equal to the defaults where they say so."""

import pytest

from purejaxdqn.build import is_read
from purejaxdqn.config import Config, SettingError
from purejaxdqn.recipes.algorithms import ALGORITHMS
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


def test_plain_dqn_is_natures_without_pixels():
    """All that its paper names but sizes, periods and the scale of rewards, on any environment of vectors."""
    (plain, h), (nature, of_nature) = (make_settings(RECIPES[name]) for name in ("plain-dqn", "nature-dqn"))
    sizes = {"env", "total_steps", "buffer_size", "learning_starts", "hidden", "reward_scale"}
    assert {name for name, value in vars(plain).items() if value != getattr(nature, name)} == sizes
    scalars = {name for name, value in vars(h).items() if value != getattr(of_nature, name)}
    assert scalars == {"target_period", "epsilon_fraction"}
    assert (plain.norm, plain.optimizer, plain.loss, plain.learning_rate_schedule) == (
        *("none", "rmsprop", "huber", "constant"),
    )
    assert make_settings(RECIPES["plain-dqn"], "Acrobot-v1") == (plain.replace(env="Acrobot-v1"), h)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_an_algorithm_beside_plain_dqn_brings_its_ingredients_alone(algo):
    """No layer norm, no annealed rate and no tuned numbers; PQN is made of its norm and its rollouts."""
    plain, h = make_settings(RECIPES["plain-dqn"])
    config, hypers = make_settings(RECIPES["plain-dqn"], algo=algo)
    assert config.learning_rate_schedule == "constant" and config.norm == ("layer" if "pqn" in algo else "none")
    assert hypers.learning_rate == h.learning_rate
    if "pqn" not in algo:
        same = ("total_steps", "num_envs", "buffer_size", "batch_size", "learning_starts", "hidden", "rollout_length")
        assert [getattr(config, name) for name in same] == [getattr(plain, name) for name in same]
        assert hypers.target_period == h.target_period
    ingredients = ALGORITHMS[algo].ingredients
    assert {name: vars(config).get(name, ingredients[name]) for name in ingredients} == {
        name: value if is_read(config, name) else getattr(Config, name, value) for name, value in ingredients.items()
    }
    assert make_settings(RECIPES["plain-dqn"], "Pong-v5", algo) == make_settings(RECIPES["atari"], "Pong-v5", algo)
