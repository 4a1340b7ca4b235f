"""Atari: what the papers name comes from the algorithm, whatever the recipe, and evaluations are theirs too."""

import dataclasses

import pytest

from purejaxdqn.config import Config
from purejaxdqn.recipes.algorithms import ALGORITHMS, OF_THE_MACHINE
from purejaxdqn.recipes.atari import PROTOCOL_ALGOS
from purejaxdqn.recipes.recipes import RECIPES, default_recipe, make_recipe, make_settings, run_options
from purejaxdqn.train.settings import new_settings
from purejaxdqn.types import Hypers

# Every field of Config and Hypers but those of the game, each with a value that no algorithm has on Atari.
FOREIGN_CONFIG = {
    "env": "Breakout-v5",
    "env_params": (("noop_max", 7),),
    **{"data_parallel": 1, "overlap": False, "replay_memory": "host", "log_episodes": 0, "update_kernel": True},
    "matmul_precision": "highest",
    **{"total_steps": 123_456, "num_envs": 6, "rollout_length": 3, "updates_per_rollout": 5, "num_epochs": 7},
    **{"num_minibatches": 9, "buffer_size": 54_321, "batch_size": 77, "learning_starts": 3_210, "prefill": "policy"},
    **{"n_step": 11, "reward_shaping": "cartpole-distance", "last_step_reward": -3.0, "reward_scale": 0.3},
    **{"mask_terminals": False, "bootstrap_truncation": False, "learner": "neither", "head": "none", "backup": "none"},
    **{"replay": "none", "network": "impala-cnn", "dueling": 2, "branching": 2, "noisy": 2, "noisy_sigma": 0.2},
    "hidden": (33,),
    **{"activation": "elu", "initializer": "normal", "norm": "batch", "num_atoms": 13, "v_min": -3.0, "v_max": 3.0},
    **{"num_quantiles": 14, "num_target_quantiles": 15, "num_policy_quantiles": 16, "num_cosines": 17},
    **{"loss": "none", "reduction": "none", "optimizer": "sgd", "epsilon_schedule": "exponential"},
    **{"learning_rate_schedule": "linear", "average_params": True, "torso_width": 3, "pool": 5, "spectral_norm": 2},
    **{"explorer": "none", "epsilon_ladder": 2, "duration_cap": 19, "ensemble": 18, "prior_scale": 0.7},
    **{"random_shift": 6, "resets": 2, "anneal_horizon": 2, "normalize_obs": True, "normalize_reward": True},
    **{"memory": "attention", "memory_size": 21, "memory_window": 23, "last_inputs": 2, "rescale_values": 2},
    **{"burn_in": 11, "unroll": 13, "window_period": 9, "stored_carry": 2},
    **{"dataset": "none.npz", "demo_share": 0.3, "constraint": "neither", "bcq_threshold": 0.9},
    "hindsight": "future",
}
FOREIGN_HYPERS = {
    **{"learning_rate": 0.3, "learning_rate_final": 0.2, "adam_epsilon": 0.6, "max_grad_norm": 0.7, "gamma": 0.8},
    **{"tau": 0.9, "target_period": 12, "epsilon_start": 0.93, "epsilon_final": 0.23, "epsilon_fraction": 0.83},
    **{"epsilon_decay": 0.7, "huber_delta": 2.5, "munchausen_alpha": 0.2, "munchausen_temperature": 0.4},
    **{"munchausen_clip": -2.0, "priority_exponent": 0.9, "priority_epsilon": 0.1, "importance_exponent": 0.2},
    **{"importance_exponent_final": 0.9, "trace_lambda": 0.1, "fraction_lr_scale": 0.5, "fraction_entropy": 0.5},
    **{"average_decay": 0.5, "weight_decay": 0.5, "epsilon_off": 0.9},
    **{"reset_period": 77, "reset_shrink": 0.7, "reset_until": 7_777},
    **{"gamma_start": 0.6, "n_step_final": 7, "anneal_updates": 77},
    **{"priority_eta": 0.2, "ladder_exponent": 3.0, "duration_exponent": 4.0, "boltzmann_temperature": 0.9},
    **{"constraint_weight": 0.3, "demo_margin": 0.3, "expectile": 0.3, "advantage_scale": 0.3},
    "hindsight_share": 0.3,
}
FOREIGN_RUN = {"eval_epsilon": 0.5, "eval_every": 17, "eval_max_steps": 19, "eval_episodes": 23}
FOREIGN = make_recipe("foreign", "Nothing of it may be left.", FOREIGN_CONFIG, FOREIGN_HYPERS, None, FOREIGN_RUN)

# Of agent's steps, four frames each: (learning rate, bound of the gradient's norm, steps before the first
# update, steps between copies of the target, final ε, steps of its decay, ε of evaluations, steps of their games).
# Mnih et al. 2015; the run_atari.py of dqn_zoo; Munchausen's atari.gin; FQF's fqf.gin; BTR's table D6; PQN's
# pqn_atari.yaml.
INF = float("inf")
PAPERS = {
    "dqn": (2.5e-4, INF, 50_000, 10_000, 0.1, 1_000_000, 0.05, 4_500),
    "double": (2.5e-4, INF, 50_000, 30_000, 0.01, 1_000_000, 0.01, 27_000),
    "dueling": (6.25e-5, 10.0, 50_000, 30_000, 0.01, 1_000_000, 0.01, 27_000),
    "prioritized": (6.25e-5, INF, 50_000, 30_000, 0.01, 1_000_000, 0.01, 27_000),
    "n-step": (2.5e-4, INF, 50_000, 10_000, 0.1, 1_000_000, 0.05, 4_500),
    "noisy": (2.5e-4, INF, 50_000, 10_000, 0.0, None, 0.0, 27_000),
    "c51": (2.5e-4, INF, 50_000, 10_000, 0.01, 1_000_000, 0.001, 27_000),
    "qr-dqn": (5e-5, INF, 50_000, 10_000, 0.01, 1_000_000, 0.001, 27_000),
    "iqn": (5e-5, INF, 50_000, 10_000, 0.01, 1_000_000, 0.001, 27_000),
    "fqf": (5e-5, INF, 50_000, 10_000, 0.01, 1_000_000, 0.001, 27_000),
    "m-dqn": (5e-5, INF, 20_000, 8_000, 0.01, 250_000, 0.001, 27_000),
    "m-iqn": (5e-5, INF, 20_000, 8_000, 0.01, 250_000, 0.001, 27_000),
    "rainbow": (6.25e-5, 10.0, 20_000, 8_000, 0.0, None, 0.0, 27_000),
    "btr": (1e-4, 10.0, 200_000, 32_000, 0.01, 2_000_000, 0.01, 27_000),
    "drqn": (2.5e-4, INF, 50_000, 10_000, 0.1, 1_000_000, 0.05, 4_500),
    "r2d2": (1e-4, INF, 51_200, 6_400_000, 0.4, None, 0.0, 27_000),
    **dict.fromkeys(("pqn", "pqn-rnn"), (2.5e-4, 10.0, 0, None, 0.001, 5_000_000, 0.0, 27_000)),
}


def fields_of(settings):
    """Config and Hypers in one table."""
    config, hypers = settings
    return vars(config) | vars(hypers)


@pytest.mark.parametrize("algo", PROTOCOL_ALGOS)
def test_an_algorithm_on_a_game_is_its_nature_recipe(algo):
    """In every field of Config and Hypers, and in how it is evaluated."""
    recipe, default = RECIPES[f"nature-{algo}"], default_recipe("Breakout-v5")
    assert fields_of(make_settings(default, "Breakout-v5", algo)) == fields_of(make_settings(recipe, "Breakout-v5"))
    assert run_options(default, "Breakout-v5", algo) == recipe.run


def test_the_foreign_recipe_has_every_field():
    fields = {field.name for cls in (Config, Hypers) for field in dataclasses.fields(cls)}
    assert FOREIGN_CONFIG.keys() | FOREIGN_HYPERS.keys() == fields


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_of_a_recipe_a_game_keeps_what_no_paper_names(algo):
    """The game, its options, and where and how it is computed; all else is the algorithm's, read or not."""
    default = default_recipe("Pong-v5")
    found, expected = fields_of(make_settings(FOREIGN, algo=algo)), fields_of(make_settings(default, "Pong-v5", algo))
    kept = {"env": "Breakout-v5", "env_params": (("noop_max", 7),), "overlap": False, "replay_memory": "host"}
    kept["matmul_precision"] = "highest"
    # As PQN has no replay, so no kernel either.
    kept |= {} if algo.startswith("pqn") else {"update_kernel": True}
    assert found == expected | kept
    machine = {"data_parallel", "overlap", "replay_memory", "log_episodes", "update_kernel", "matmul_precision"}
    assert machine == OF_THE_MACHINE
    run = run_options(FOREIGN, None, algo)
    assert run == run_options(default, "Pong-v5", algo) | {"eval_episodes": 23}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_values_are_those_of_papers_and_authors(algo):
    rate, norm, prefill, target, final, decay, eval_epsilon, cap = PAPERS[algo]
    config, h = make_settings(default_recipe("Pong-v5"), "Pong-v5", algo)
    assert (h.learning_rate, config.learning_rate_schedule, h.max_grad_norm) == (rate, "constant", norm)
    assert config.prefill_steps * config.num_envs == prefill and config.total_steps == 50_000_000
    if target is not None:
        # An update for every four steps, or for every step, or every 40, of 64 environments.
        steps = {"btr": 64, "r2d2": 40 * 64}.get(algo, 4)
        assert config.steps_per_iteration == steps and config.updates_per_iteration == 1
        assert h.target_period * steps == target
    assert h.epsilon_final == final
    if decay is None:
        assert config.epsilon_schedule == "constant"
    else:
        assert config.epsilon_schedule == ("linear-off" if algo == "btr" else "linear") and h.epsilon_start == 1.0
        assert h.epsilon_fraction * config.total_steps == pytest.approx(decay)
    run = run_options(default_recipe("Pong-v5"), "Pong-v5", algo)
    assert run == {"eval_every": 250_000, "eval_epsilon": eval_epsilon, "eval_max_steps": cap, "eval_episodes": 30}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        # A tenth of these 50M steps would be 5M.
        (["--algo", "c51"], (250_000, 0.001, 27_000, 30)),
        (["--recipe", "nature-dqn"], (250_000, 0.05, 4_500, 30)),
        (["--recipe", "sticky-double", "--algo", "iqn"], (250_000, 0.001, 27_000, 0)),
        (["--algo", "rainbow", "--eval-every", "7", "--eval-epsilon", "0.2"], (7, 0.2, 27_000, 30)),
    ],
)
def test_a_run_is_evaluated_as_its_algorithm_is(flags, expected):
    pytest.importorskip("envpool")
    settings, _ = new_settings(["--env", "Pong-v5", *flags])
    found = (settings.eval_every, settings.eval_epsilon, settings.eval_max_steps, settings.eval_episodes)
    assert found == expected


def test_a_recipes_period_of_evaluation_holds_in_a_run_of_any_length():
    """MountainCar's is 10,000 steps; without one it is a tenth of the run."""
    short, long = (
        new_settings(["--recipe", "keras-mountaincar", "--total-steps", n])[0].eval_every for n in ("20000", "2000000")
    )
    assert (short, long) == (10_000, 10_000)
    assert new_settings(["--env", "CartPole-v1", "--total-steps", "2000000"])[0].eval_every == 200_000
