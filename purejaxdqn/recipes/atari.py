"""Atari's settings: for each algorithm those of its paper or of its authors' code, and the protocols of evaluation.

Steps are environment steps of four frames, and periods of the target network are in updates, one for every four steps
(for `btr` one for every 64).
Where papers differ from what is here, docs/atari.md says so.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# Every fourth step an update; the target is copied every 10,000 steps, which are 2,500 updates. Mnih et al. 2015,
# extended data table 1.
_NATURE: dict[str, Any] = {
    "total_steps": 50_000_000,
    "num_envs": 1,
    "rollout_length": 4,
    "updates_per_rollout": 1,
    "buffer_size": 1_000_000,
    "batch_size": 32,
    "learning_starts": 50_000,
    "hidden": (512,),
    "norm": "none",
    "loss": "huber",
    "huber_delta": 1.0,
    "reduction": "sum",
    "optimizer": "rmsprop",
    "adam_epsilon": 0.01,
    "learning_rate": 2.5e-4,
    "learning_rate_schedule": "constant",
    "max_grad_norm": float("inf"),
    "target_period": 2_500,
    "epsilon_start": 1.0,
    "epsilon_final": 0.1,
    "epsilon_fraction": 0.02,
}
# Without ε the noise of the network explores alone.
_NO_EPSILON = {"epsilon_schedule": "constant", "epsilon_start": 0.0, "epsilon_final": 0.0}
# The authors' pqn_atari.yaml.
_PQN: dict[str, Any] = {
    "total_steps": 50_000_000,
    "num_envs": 128,
    "rollout_length": 32,
    "num_epochs": 2,
    "num_minibatches": 32,
    "trace_lambda": 0.65,
    "hidden": (512,),
    "norm": "layer",
    "loss": "squared",
    "optimizer": "radam",
    "learning_rate": 2.5e-4,
    "learning_rate_schedule": "constant",
    "max_grad_norm": 10.0,
    "epsilon_final": 0.001,
    "epsilon_fraction": 0.1,
}
# Double DQN's tuned settings (van Hasselt et al. 2016, appendix): a slower target and less exploration.
_DOUBLE = _NATURE | {"target_period": 7_500, "epsilon_final": 0.01}
_ADAM = _NATURE | {"optimizer": "adam", "reduction": "mean", "epsilon_final": 0.01, "adam_epsilon": 0.01 / 32}
_QUANTILE = _ADAM | {"learning_rate": 5e-5}
_IQN = _QUANTILE | {"num_quantiles": 64, "num_target_quantiles": 64, "num_policy_quantiles": 32}
_ATOMS = {"num_atoms": 51, "v_min": -10.0, "v_max": 10.0}
# The authors' configs/atari.gin: Dopamine's prefill, target and decay of ε, over 250,000 steps.
_MUNCHAUSEN = {
    "munchausen_alpha": 0.9,
    "munchausen_temperature": 0.03,
    "munchausen_clip": -1.0,
    "learning_starts": 20_000,
    "target_period": 2_000,
    "epsilon_fraction": 0.005,
}

ATARI: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "dqn": _NATURE,
        "double": _DOUBLE,
        "dueling": _DOUBLE | {"learning_rate": 6.25e-5, "max_grad_norm": 10.0},
        "prioritized": _DOUBLE | {"learning_rate": 6.25e-5, "priority_exponent": 0.6, "importance_exponent": 0.4},
        "n-step": _NATURE,
        "noisy": _NATURE | _NO_EPSILON,
        "c51": _ADAM | _ATOMS,
        "qr-dqn": _QUANTILE | {"num_quantiles": 200},
        "iqn": _IQN,
        "fqf": _QUANTILE | {"num_quantiles": 32, "fraction_lr_scale": 5e-5},
        "m-dqn": _QUANTILE | _MUNCHAUSEN,
        "m-iqn": _IQN | _MUNCHAUSEN,
        "rainbow": _ADAM
        | _ATOMS
        | _NO_EPSILON
        | {
            "learning_starts": 20_000,
            "learning_rate": 6.25e-5,
            "adam_epsilon": 0.005 / 32,
            "max_grad_norm": 10.0,
            "target_period": 2_000,
            "priority_exponent": 0.5,
            "importance_exponent": 0.4,
        },
        # Table D6: an update for every step of 64 environments.
        "btr": {
            "total_steps": 50_000_000,
            "num_envs": 64,
            "rollout_length": 1,
            "updates_per_rollout": 1,
            "buffer_size": 2**20,
            "batch_size": 256,
            "learning_starts": 200_000,
            "network": "impala-cnn",
            "torso_width": 2,
            "pool": 6,
            "spectral_norm": True,
            "hidden": (512,),
            "norm": "none",
            "noisy_sigma": 0.5,
            "num_quantiles": 8,
            "num_target_quantiles": 8,
            "num_policy_quantiles": 8,
            "num_cosines": 64,
            "huber_delta": 1.0,
            "munchausen_alpha": 0.9,
            "munchausen_temperature": 0.03,
            "munchausen_clip": -1.0,
            "optimizer": "adam",
            "adam_epsilon": 0.005 / 256,
            "learning_rate": 1e-4,
            "learning_rate_schedule": "constant",
            "max_grad_norm": 10.0,
            "gamma": 0.997,
            "target_period": 500,
            "epsilon_schedule": "linear-off",
            "epsilon_start": 1.0,
            "epsilon_final": 0.01,
            "epsilon_fraction": 0.04,
            "epsilon_off": 0.5,
            "priority_exponent": 0.2,
            "importance_exponent": 0.4,
        },
        # Its authors' frames are single ones, and their optimiser is Adadelta.
        "drqn": _NATURE | {"memory_size": 512},
        # Table 2 of the paper, but for 64 environments in place of 256 actors, and rewards and lives as in the others.
        "r2d2": {
            "total_steps": 50_000_000,
            "num_envs": 64,
            "rollout_length": 40,
            "updates_per_rollout": 1,
            "buffer_size": 2**20,
            "batch_size": 64,
            "learning_starts": 51_200,
            "burn_in": 40,
            "unroll": 80,
            "window_period": 40,
            "memory_size": 512,
            "hidden": (512,),
            "norm": "none",
            "loss": "squared",
            "optimizer": "adam",
            "adam_epsilon": 1e-3,
            "learning_rate": 1e-4,
            "learning_rate_schedule": "constant",
            "gamma": 0.997,
            "target_period": 2_500,
            "priority_exponent": 0.9,
            "importance_exponent": 0.6,
            "importance_exponent_final": 0.6,
            "epsilon_schedule": "constant",
            "epsilon_final": 0.4,
            "epsilon_ladder": True,
            "ladder_exponent": 7.0,
        },
        "pqn": _PQN,
        # Nobody has published it on Atari: PQN's settings there, and R2D2's width.
        "pqn-rnn": _PQN | {"memory": "gru", "memory_size": 512},
    }
)
"""Fields of `Config` and `Hypers` by algorithm; what is left out has the library's default."""

# A million frames between evaluations; Nature's games of evaluation end after 5 minutes, later ones after 30.
_PERIOD: dict[str, Any] = {"eval_every": 250_000}
_FIVE_MINUTES = _PERIOD | {"eval_epsilon": 0.05, "eval_max_steps": 4_500}
_HALF_AN_HOUR = _PERIOD | {"eval_max_steps": 27_000}
_EPSILON_01: dict[str, Any] = _HALF_AN_HOUR | {"eval_epsilon": 0.01}
_EPSILON_001 = _HALF_AN_HOUR | {"eval_epsilon": 0.001}
_GREEDY = _HALF_AN_HOUR | {"eval_epsilon": 0.0}

ATARI_RUN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    dict.fromkeys(("dqn", "n-step", "drqn"), _FIVE_MINUTES)
    | dict.fromkeys(("double", "dueling", "prioritized", "btr"), _EPSILON_01)
    | dict.fromkeys(("c51", "qr-dqn", "iqn", "fqf", "m-dqn", "m-iqn"), _EPSILON_001)
    | dict.fromkeys(("noisy", "rainbow", "pqn", "pqn-rnn", "r2d2"), _GREEDY)
)
"""Options of `train` by algorithm: how it is evaluated."""

# Two ways to play the same games, whose scores must never stand in one table. An option that is not named has EnvPool's
# default, or the one in `envs.envpool`: minimal actions, up to 30 no-ops, no sticky actions, a lost life is an end.
PROTOCOLS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = MappingProxyType(
    {
        "nature": (
            "Mnih et al. 2015: up to 30 no-ops at the start, the game's minimal actions, a lost life is an end in "
            "training only; games with the algorithm's own ε are the score.",
            {},
            {"eval_episodes": 30},
        ),
        "sticky": (
            "Machado et al. 2018: each action is repeated with probability 0.25, the full set of 18 actions, no word "
            "of lives; the last 100 games of training are the score.",
            {
                "repeat_action_probability": 0.25,
                "full_action_space": True,
                "episodic_life": False,
                "noop_max": 1,
            },
            {"eval_episodes": 0},
        ),
    }
)
"""name -> what it is, parameters of the environment, and options of `train`."""
PROTOCOL_ALGOS = ("dqn", "double", "dueling", "prioritized", "c51", "qr-dqn", "iqn", "rainbow", "btr", "pqn")
"""Algorithms that have a recipe in each protocol."""

_FRAMES_42 = {"img_height": 42, "img_width": 42}

ONE_MACHINE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "atari": {
            "says": "For one machine: eight environments, three-step double DQN and Adam; the games as in nature-*.",
            "env": "Pong-v5",
            "total_steps": 2_500_000,
            "num_envs": 8,
            "rollout_length": 1,
            "updates_per_rollout": 2,
            "buffer_size": 200_000,
            "batch_size": 32,
            "learning_starts": 10_000,
            "n_step": 3,
            "backup": "double",
            "hidden": (512,),
            "norm": "none",
            "loss": "huber",
            "learning_rate_schedule": "constant",
            "learning_rate": 1e-4,
            "adam_epsilon": 1.5e-4,
            "max_grad_norm": 10.0,
            "gamma": 0.99,
            "target_period": 2_000,
            "epsilon_final": 0.01,
            "epsilon_fraction": 0.1,
            **_EPSILON_01,
            **PROTOCOLS["nature"][2],
        },
        "pong-laptop": {
            "says": "Pong by PQN on two cores: nature-pqn on frames of 42 by 42, with a torso for them, fewer "
            "environments, λ = 0.9 and averaged parameters. 3 of 3 fresh seeds reached 18 within 33 minutes: "
            "benchmarks/results/atari-pong-laptop-*.json.",
            "solved_at": 18.0,
            **ATARI["pqn"],
            "env": "Pong-v5",
            "env_params": tuple(sorted(_FRAMES_42.items())),
            "learner": "rollout",
            "total_steps": 2_000_000,
            "num_envs": 32,
            "num_minibatches": 8,
            "network": "half-cnn",
            "hidden": (256,),
            "trace_lambda": 0.9,
            "epsilon_fraction": 0.15,
            "average_params": True,
            "average_decay": 0.999,
            **_GREEDY,
            "eval_every": 100_000,
            "eval_episodes": 10,
        },
    }
)
"""Recipes of our own: what is said of each, the return that counts as solved if there is one, fields of `Config` and
`Hypers`, and options of `train`."""
