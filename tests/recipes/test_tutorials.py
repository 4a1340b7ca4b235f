"""The tutorials' recipes against the values of their texts, one assertion for each, and against their formulas."""

import json

import jax
import numpy as np
import pytest

from benchmarks.common import RESULTS
from purejaxdqn.build import build
from purejaxdqn.config import Config
from purejaxdqn.loops.device import make_agent
from purejaxdqn.recipes.recipes import RECIPES, make_settings
from purejaxdqn.recipes.tutorials import FAITHFUL, VARIANTS
from purejaxdqn.runs.folder import hyper_from_json
from purejaxdqn.types import Hypers

PLAIN_DQN = {"learner": "replay", "head": "scalar", "backup": "max", "replay": "uniform", "n_step": 1, "num_envs": 1}
PLAIN_DQN |= {"dueling": False, "noisy": False, "norm": "none", "reduction": "mean"}
PLAIN_DQN |= {"learning_rate_schedule": "constant"}
TEXTS = {
    # 000: at most 500 steps a trial, 200 by the environment; dense 24-48-24, ReLU; MSE; Adam 0.01; γ 0.95; ε 1.0,
    # × 0.995 each step, floor 0.01; memory 2,000, batch 32, an update every step once 32 are held; τ 0.05; -20 on the
    # last step of a trial; its target is the reward alone, cut or not; 100 trials, done when one ends in under 199.
    "keras-mountaincar": PLAIN_DQN
    | {"env": "MountainCar-v0", "hidden": (24, 48, 24), "activation": "relu", "loss": "squared", "optimizer": "adam"}
    | {"learning_rate": 0.01, "gamma": 0.95, "epsilon_schedule": "multiplicative", "epsilon_start": 1.0}
    | {"epsilon_decay": 0.995, "epsilon_final": 0.01, "buffer_size": 2_000, "batch_size": 32, "learning_starts": 32}
    | {"prefill": "policy", "rollout_length": 1, "updates_per_rollout": 1, "tau": 0.05, "target_period": 1}
    | {"last_step_reward": -20.0, "mask_terminals": True, "bootstrap_truncation": False, "total_episodes": 100}
    | {"stop_at_return": -199.0, "env_params": (), "max_grad_norm": float("inf"), "reward_shaping": "none"},
    # 001: 84 × 84 × 4 grey frames and a frame skip (EnvPool's defaults, see test_envpool); 3 convolutions and 2 dense
    # layers; MSE; Adam; ε from 1, 0.05 in tests.
    "pytorch-atari": PLAIN_DQN
    | {"env": "Pong-v5", "network": "nature-cnn", "hidden": (512,), "loss": "squared", "optimizer": "adam"}
    | {"epsilon_start": 1.0, "eval_epsilon": 0.05, "env_params": ()},
    # 002: Huber δ = 1, mean over the batch; learning rate 0.00025; a million preallocated uint8 frames; a target fixed
    # between syncs; rewards clipped, terminals masked, up to 30 no-ops.
    "nature-atari": PLAIN_DQN
    | {"env": "Pong-v5", "network": "nature-cnn", "hidden": (512,), "loss": "huber", "huber_delta": 1.0}
    | {"learning_rate": 0.00025, "buffer_size": 1_000_000, "tau": 1.0, "mask_terminals": True, "env_params": ()},
    # 003: dense 32-16, tanh; smooth L1; Adam 0.01, gradient norm clipped at 1; γ 0.9; ε 0.1, -0.001 a step, floor
    # 0.01; memory 2,048, warm-up 512, batch 128, an update every 5 steps; hard, every 200 updates; masked; up to 600
    # epochs, stops after 100 without a better evaluation episode; evaluated up to 300 steps; 288.5.
    "torchkeras-cartpole": PLAIN_DQN
    | {"env": "CartPole-v1", "hidden": (32, 16), "activation": "tanh", "loss": "huber", "huber_delta": 1.0}
    | {"optimizer": "adam", "learning_rate": 0.01, "max_grad_norm": 1.0, "gamma": 0.9, "epsilon_start": 0.1}
    | {"epsilon_schedule": "decremental", "epsilon_decay": 0.001, "epsilon_final": 0.01, "buffer_size": 2_048}
    | {"learning_starts": 512, "prefill": "policy", "batch_size": 128, "rollout_length": 5, "updates_per_rollout": 1}
    | {"tau": 1.0, "target_period": 200, "mask_terminals": True, "reward_shaping": "none", "last_step_reward": None}
    | {"total_episodes": 600, "patience": 100, "eval_every_episodes": 1, "eval_episodes": 1, "eval_max_steps": 300}
    | {"solved_at": 288.5},
    # 004: no time limit; dense 50, ReLU, weights N(0, 0.1); MSE; Adam 0.01; γ 0.9; ε 0.1 constant (the text's 0.9 is
    # the share of greedy actions); memory 2,000, learns once full, batch 32, every step; hard, every 100 updates;
    # shaped reward; not masked; 300 episodes.
    "note51-cartpole": PLAIN_DQN
    | {"env": "CartPole-v1", "env_params": (("max_steps_in_episode", 1_000_000_000),), "hidden": (50,)}
    | {"activation": "relu", "initializer": "normal", "loss": "squared", "optimizer": "adam", "learning_rate": 0.01}
    | {"gamma": 0.9, "epsilon_schedule": "constant", "epsilon_final": 0.1, "buffer_size": 2_000, "batch_size": 32}
    | {"learning_starts": 2_000, "prefill": "policy", "rollout_length": 1, "updates_per_rollout": 1, "tau": 1.0}
    | {"target_period": 100, "reward_shaping": "cartpole-distance", "mask_terminals": False, "total_episodes": 300}
    | {"count_prefill": True},
}


def values_of(name):
    """Everything that a recipe decides, by name."""
    recipe = RECIPES[name]
    config, hypers = make_settings(recipe)
    return vars(config) | vars(hypers) | dict(recipe.run) | {"solved_at": recipe.solved_at}


def test_every_tutorial_is_held_against_its_text():
    assert set(TEXTS) == set(FAITHFUL)


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, text in TEXTS.items() for field in text])
def test_every_value_is_the_texts(name, field):
    assert values_of(name)[field] == TEXTS[name][field]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_in_what_it_says_and_in_nothing_else(name):
    origin, _, changes = VARIANTS[name]
    faithful, variant = values_of(origin), values_of(name)
    differing = {field for field in variant if variant[field] != faithful.get(field)}
    assert differing == set(changes)
    assert all(variant[field] == value for field, value in changes.items())


@pytest.mark.parametrize("name", ["pytorch-atari-laptop", "nature-atari-laptop"])
def test_recipes_for_a_laptop_are_what_was_measured(name):
    """Of the run that won Pong both are the settings: what the two texts differ in, these change in either."""
    run = json.loads((RESULTS / "atari-pong-laptop-dqn.json").read_text())
    hypers = Hypers(**{field: hyper_from_json(field, value) for field, value in run["hypers"].items()})
    assert run["reached"] and make_settings(RECIPES[name], "Pong-v5") == (Config(**run["config"]), hypers)


def test_weights_begin_as_note_51_has_them():
    """N(0, 0.1): of 250 weights the standard deviation is within 4.5 of its own errors, 1e-5 false alarms."""
    config, _ = make_settings(RECIPES["note51-cartpole"])
    params = make_agent(config).parts.network.init(jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    weights = np.concatenate([np.ravel(leaf) for path, leaf in leaves if "kernel" in jax.tree_util.keystr(path)])
    assert weights.size == 4 * 50 + 50 * 2
    assert abs(weights.std() - 0.1) < 4.5 * 0.1 / np.sqrt(2 * weights.size)
    biases = [leaf for path, leaf in leaves if "bias" in jax.tree_util.keystr(path)]
    assert biases and all((np.asarray(leaf) == 0).all() for leaf in biases)


@pytest.mark.parametrize("name", ["keras-mountaincar", "torchkeras-cartpole", "note51-cartpole"])
def test_a_tutorial_has_no_path_of_its_own(name):
    """It is an ordinary configuration, and equal ones from Python are the same."""
    config, hypers = make_settings(RECIPES[name])
    assert isinstance(config, Config) and isinstance(hypers, Hypers)
    state = jax.eval_shape(make_agent(config).init, jax.random.key(0), hypers)
    assert int(np.prod(state.memory.ring.rows.action.shape)) == config.buffer_size


def test_an_episode_that_is_cut_costs_20_and_is_worth_no_more():
    """MountainCar under a random policy is cut at 200: reward -20, discount 0, as the text's `done` has it."""
    config, hypers = make_settings(RECIPES["keras-mountaincar"], learning_starts=1_000)
    agent = make_agent(config)
    state = jax.jit(agent.init)(jax.random.key(0), hypers)
    # Enough draws that the five ends among a thousand rows are among them: missed with probability 2e-9.
    sample = jax.vmap(lambda key: agent.parts.replay.sample(state.memory, key, hypers.as_arrays())[0])
    batch = sample(jax.random.split(jax.random.key(1), 125))
    ends = np.asarray(batch.discount_t) == 0.0
    assert ends.any()
    np.testing.assert_array_equal(np.asarray(batch.r_t)[ends], -20.0)
    np.testing.assert_array_equal(np.asarray(batch.r_t)[~ends], -1.0)
    np.testing.assert_allclose(np.asarray(batch.discount_t)[~ends], 0.95, rtol=1e-6)


@pytest.mark.parametrize("name", ["pytorch-atari", "nature-atari"])
def test_atari_recipes_are_fed_what_the_texts_say(name):
    pytest.importorskip("envpool")
    env = build(make_settings(RECIPES[name], buffer_size=1_000, learning_starts=100, total_steps=1_000)[0]).env
    assert env.spec.obs_shape == (84, 84, 4) and env.spec.obs_dtype == "uint8"
    assert env.frames_per_step == 4 and env.spec.num_actions == 6
