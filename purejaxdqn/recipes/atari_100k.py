"""Atari 100k (Kaiser et al. 2020): 100,000 steps of one game, as far as the ingredients of this library reach.

The values are those of google-research's bigger_better_faster (its der.gin, DrQ.gin, SR_SPR.gin and BBF.gin); steps are
environment steps of four frames, and all periods are in updates. What is left out is said by each recipe, and with the
smaller differences in docs/algorithms.md.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

STEPS = 100_000
# ε is at its end where theirs is: they let it fall after the prefill, here it falls from the first step on.
_ENDS = {"drq": (1_600 + 2_500) / STEPS, "der": (1_600 + 2_000) / STEPS, "spr": (2_000 + 2_001) / STEPS}

_COMMON: dict[str, Any] = {
    "env": "Pong-v5",
    "total_steps": STEPS,
    "num_envs": 1,
    "rollout_length": 1,
    "updates_per_rollout": 1,
    # As many as the run has.
    "buffer_size": STEPS,
    "batch_size": 32,
    "learning_starts": 1_600,
    "n_step": 10,
    "backup": "double",
    "dueling": True,
    "hidden": (512,),
    "norm": "none",
    "optimizer": "adam",
    "adam_epsilon": 1.5e-4,
    "learning_rate": 1e-4,
    "learning_rate_schedule": "constant",
    "max_grad_norm": float("inf"),
    "gamma": 0.99,
    "tau": 1.0,
    "target_period": 1,
    "epsilon_start": 1.0,
    "epsilon_final": 0.01,
    # The score is that of the last parameters.
    "eval_every": STEPS,
    "eval_episodes": 100,
    "eval_epsilon": 0.001,
    "eval_max_steps": 27_000,
}
_ATOMS: dict[str, Any] = {"head": "categorical", "num_atoms": 51, "v_min": -10.0, "v_max": 10.0}
_PRIORITIES: dict[str, Any] = {
    "replay": "prioritized",
    "priority_exponent": 0.5,
    "importance_exponent": 0.5,
    "importance_exponent_final": 0.5,
}
_SHIFTED: dict[str, Any] = {"network": "nature-cnn", "random_shift": 4}
_SPR: dict[str, Any] = {
    **_COMMON,
    **_ATOMS,
    **_PRIORITIES,
    **_SHIFTED,
    "learning_starts": 2_000,
    "tau": 0.005,
    "epsilon_final": 0.0,
    "epsilon_fraction": _ENDS["spr"],
    "resets": True,
    "reset_period": 40_000,
}

ATARI_100K: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "der": {
            "says": "Atari 100k by Data-Efficient Rainbow (van Hasselt et al. 2019), with the ten steps of later work.",
            **_COMMON,
            **_ATOMS,
            **_PRIORITIES,
            "noisy": True,
            "target_period": 8_000,
            "epsilon_fraction": _ENDS["der"],
        },
        "drq": {
            "says": "Atari 100k by DrQ (Kostrikov et al. 2020) with the ε of Agarwal et al. 2021: random shifts, "
            "without the noise on the pictures' intensity.",
            **_COMMON,
            **_SHIFTED,
            "loss": "huber",
            "huber_delta": 1.0,
            "epsilon_fraction": _ENDS["drq"],
        },
        "sr-spr": {
            "says": "Atari 100k by SR-SPR (D'Oro et al. 2023), 8 updates a step, without SPR itself: no loss of "
            "self-prediction, so no transition model either, and no acting by the target network.",
            **_SPR,
            "updates_per_rollout": 8,
            "reset_shrink": 0.8,
        },
        "bbf": {
            "says": "Atari 100k by BBF (Schwarzer et al. 2023), 2 updates a step, without SPR: no loss of "
            "self-prediction, so no transition model either, and no acting by the target network.",
            **_SPR,
            "updates_per_rollout": 2,
            "network": "impala-cnn",
            "torso_width": 4,
            "hidden": (2_048,),
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "reset_shrink": 0.5,
            "anneal_horizon": True,
            "n_step_final": 3,
            "gamma_start": 0.97,
            "gamma": 0.997,
            "anneal_updates": 10_000,
        },
    }
)
"""What is said of each, fields of `Config` and `Hypers`, and options of `train`."""
