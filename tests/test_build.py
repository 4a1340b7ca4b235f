"""Names become functions, parts can be added from outside, and nothing that was chosen is silently ignored."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxdqn
from benchmarks.common import RESULTS
from purejaxdqn import build
from purejaxdqn.config import Config, SettingError
from purejaxdqn.learning.backups import Backup
from purejaxdqn.learning.heads import scalar
from purejaxdqn.loops.device import make_agent
from purejaxdqn.recipes.algorithms import ALGORITHMS
from purejaxdqn.recipes.recipes import RECIPES, default_recipe, make_settings
from purejaxdqn.types import Hypers

ROOT = Path(purejaxdqn.__file__).parents[1]


@pytest.fixture
def registry():
    """Forgets afterwards what a test registers."""
    before = {seam: dict(choices) for seam, choices in build.SEAMS.items()}
    yield
    for seam, choices in build.SEAMS.items():
        choices.clear()
        choices.update(before[seam])


def train(config, hypers=None):
    """The parameters after a whole run."""
    agent = make_agent(config)
    hypers = hypers or Hypers()
    state = jax.jit(agent.init)(jax.random.key(0), hypers)
    return jax.jit(agent.iterate)(state, hypers, config.num_iterations)[0].learner.params


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_toy_backup_and_head_from_outside(registry, tiny_config):
    """Registered through the public API, named in a configuration, trained, and not the same as what they replace."""

    def pessimist(config):
        return Backup(
            policy=lambda q, h: (jnp.full_like(q, h.munchausen_alpha / q.size), None),
            bonus=lambda q, a, h: jnp.zeros(()),
            selects_online=False,
            needs_bonus=False,
        )

    def halved(config):
        inner = scalar(config.loss)
        return inner._replace(target=lambda *args: 0.5 * inner.target(*args))

    purejaxdqn.register("backup", "pessimist", pessimist, reads=("munchausen_alpha",))
    purejaxdqn.register("head", "halved", halved, reads=("loss",))
    short = tiny_config.replace(total_steps=600)
    plain = train(short.replace(backup="max"))
    toy = train(short.replace(backup="pessimist"))
    assert not same(plain, toy) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(toy))
    assert not same(plain, train(short.replace(backup="max", head="halved")))
    config, hypers = make_settings(RECIPES["cartpole"], backup="pessimist", munchausen_alpha=0.5)
    assert (config.backup, hypers.munchausen_alpha) == ("pessimist", 0.5)
    with pytest.raises(SettingError, match="taken"):
        purejaxdqn.register("backup", "max", pessimist)
    with pytest.raises(SettingError, match="head, backup, replay"):
        purejaxdqn.register("optimiser", "mine", pessimist)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": "c52"}, ["head", "categorical"]),
        ({"backup": "triple"}, ["backup", "munchausen"]),
        ({"replay": "shuffled"}, ["replay", "prioritized"]),
        ({"network": "resnet"}, ["network", "minatar-cnn"]),
        ({"learner": "rollout", "head": "categorical", "backup": "double"}, ["head", "scalar"]),
        ({"num_quantiles": 8}, ["num_quantiles", "--head quantile"]),
        ({"head": "fqf", "loss": "huber"}, ["loss", "--head fqf does not read it", "--head scalar"]),
        ({"learner": "rollout", "batch_size": 64}, ["batch_size", "--learner rollout", "--learner replay"]),
        ({"learner": "rollout", "replay": "prioritized"}, ["replay", "--learner replay"]),
        ({"num_epochs": 3}, ["num_epochs", "--learner rollout"]),
    ],
)
def test_what_cannot_work_or_is_not_read_is_refused(changes, words):
    with pytest.raises(SettingError) as caught:
        make_agent(Config(**changes))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"v_min": 5.0, "v_max": 5.0}, "v_min"),
        ({"v_min": float("-inf")}, "v_min"),
        ({"num_atoms": 1}, "num_atoms"),
        ({"n_step": 5_000}, "buffer_size"),
        ({"learner": "rollout", "num_envs": 3, "num_minibatches": 4}, "num_minibatches"),
        ({"noisy_sigma": 0.0}, "noisy_sigma"),
    ],
)
def test_values_out_of_range_are_refused(changes, field):
    with pytest.raises(SettingError) as caught:
        Config(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "name", "read"),
    [
        ({}, "huber_delta", False),
        ({"loss": "huber"}, "huber_delta", True),
        ({"head": "quantile"}, "huber_delta", True),
        ({"head": "categorical"}, "huber_delta", False),
        # The loss is read by the scalar head alone, so what only it reads is not read either.
        ({"head": "categorical", "loss": "huber"}, "huber_delta", False),
        ({}, "gamma", True),
        ({"learner": "rollout"}, "gamma", True),
        ({"learner": "rollout"}, "target_period", False),
        ({"learner": "rollout", "backup": "munchausen"}, "munchausen_alpha", False),
        ({"epsilon_schedule": "constant"}, "epsilon_start", False),
        ({"optimizer": "sgd"}, "adam_epsilon", False),
        ({"optimizer": "adamw"}, "adam_epsilon", True),
        ({"optimizer": "adamw"}, "weight_decay", True),
        ({"optimizer": "adam"}, "weight_decay", False),
        ({"network": "impala-cnn"}, "spectral_norm", True),
        ({}, "pool", True),
        ({}, "reward_scale", True),
        ({"normalize_reward": True}, "reward_scale", False),
        ({"network": "mlp"}, "pool", False),
    ],
)
def test_who_reads_what(changes, name, read):
    assert build.is_read(Config(**changes), name) is read


def test_every_setting_that_is_named_as_read_exists():
    fields = {f.name for cls in (Config, Hypers) for f in dataclasses.fields(cls)}
    assert set(build.readers()) <= fields


def test_an_override_that_nothing_reads_is_refused_and_a_recipes_is_dropped():
    """`--algo rainbow --head scalar` leaves no atoms behind; `--v-min` beside it is an error."""
    recipe = RECIPES["cartpole"]
    config, hypers = make_settings(recipe, algo="rainbow", head="scalar", noisy=False, epsilon_final=0.05)
    assert (config.num_atoms, config.v_min) == (Config.num_atoms, Config.v_min)
    assert (config.replay, config.dueling, config.noisy, hypers.epsilon_final) == ("prioritized", True, False, 0.05)
    make_agent(config)
    with pytest.raises(SettingError, match="--head scalar does not read it"):
        make_settings(recipe, algo="rainbow", head="scalar", v_min=-3.0)
    with pytest.raises(SettingError, match=r"--replay uniform does not read it.*--replay prioritized"):
        make_settings(recipe, priority_exponent=0.7)
    with pytest.raises(SettingError, match="--learner rollout"):
        make_settings(recipe, algo="pqn", target_period=10)
    with pytest.raises(SettingError, match="rainbow"):
        make_settings(recipe, algo="rainbo")


@pytest.mark.parametrize("env", ["CartPole-v1", "Breakout-MinAtar", "Pong-v5"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_has_settings_for_every_family(algo, env):
    """They are valid, all of them are read, and the algorithm's ingredients are what it is named for."""
    config, hypers = make_settings(default_recipe(env), env, algo)
    build.check_read(config, build.changed_settings(config))
    found = vars(config) | vars(hypers)
    ingredients = ALGORITHMS[algo].ingredients
    assert {name: found[name] for name in ingredients if build.is_read(config, name)} == {
        name: value for name, value in ingredients.items() if build.is_read(config, name)
    }


@pytest.mark.parametrize("path", sorted(RESULTS.glob("family-*.json")), ids=lambda path: path.stem)
def test_results_were_measured_with_the_present_settings(path):
    """Of every algorithm whose training command overrode none of them."""
    result = json.loads(path.read_text())
    for algo, found in result["algorithms"].items():
        words = found["train_command"].split()
        if {word for word in words if word.startswith("--")} - {"--env", "--algo", "--seeds", "--seed", "--quiet"}:
            continue
        config, hypers = make_settings(default_recipe(result["env"]), result["env"], algo)
        present = vars(config) | {"hidden": list(config.hidden), "env_params": dict(config.env_params)}
        # A setting younger than the result had its default then.
        defaults = {name: getattr(Config, name) for name in present if name not in found["config"]}
        assert present == defaults | found["config"], algo
        # JSON has no infinity: it is written as a word.
        younger = {name: getattr(Hypers, name) for name in vars(hypers) if name not in found["hypers"]}
        assert vars(hypers) == younger | {name: float(value) for name, value in found["hypers"].items()}, algo


def test_algorithms_differ():
    """No two names are one configuration."""
    made = [make_settings(RECIPES["cartpole"], algo=algo) for algo in ALGORITHMS]
    assert len({(config, tuple(vars(hypers).values())) for config, hypers in made}) == len(ALGORITHMS)


def test_the_learning_phases_and_loops_know_no_algorithm():
    """Neither `learn.py` nor a loop names one."""
    names = re.compile(r"\b(rainbow|c51|iqn|fqf|munchausen|prioriti[sz]ed|dueling|noisy|categorical)\b", re.IGNORECASE)
    sources = [ROOT / "purejaxdqn" / "learn.py", *(ROOT / "purejaxdqn" / "loops").glob("*.py")]
    assert len(sources) > 4
    found = [(path.name, word) for path in sources for word in names.findall(path.read_text(encoding="utf-8"))]
    assert found == []


def test_the_page_on_algorithms_is_complete():
    """Every algorithm, choice and setting is on it, and the files that it names are there."""
    page = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    names = [*ALGORITHMS, *(name for choices in build.SEAMS.values() for name in choices)]
    assert [name for name in names if f"`{name}`" not in page] == []
    flags = set(re.findall(r"--[a-z][a-z-]+", page))
    read = {"--" + name.replace("_", "-") for name in build.readers()}
    general = {"--adam-epsilon", "--epsilon-start", "--epsilon-fraction", "--learning-rate-final"}
    assert read - flags - general == set()
    links = re.findall(r"\]\(([^)#]+)", page)
    assert len(links) > 10 and [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_pages_own_example_runs(registry):
    page = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    exec(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0], {})
    policy, penalty = build.BACKUPS["pessimist"].make(Config()).policy(jnp.arange(4.0), Hypers())
    np.testing.assert_array_equal(policy, [0.25, 0.25, 0.25, 0.25])
    assert penalty is None
    make_agent(Config(backup="pessimist"))
