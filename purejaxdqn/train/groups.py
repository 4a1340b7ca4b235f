"""Headings of the flags in the help of `train` and `sweep`, the most used ones first."""

import dataclasses

from purejaxdqn import cli
from purejaxdqn.config import Config
from purejaxdqn.types import Hypers

MOST_USED = ("env", "algo", "recipe", "total_steps", "seeds", "seed", "learning_rate", "num_envs", "out", "resume")
ENVIRONMENT = (
    *("reward_shaping", "last_step_reward", "reward_scale", "normalize_obs", "normalize_reward", "mask_terminals"),
    "bootstrap_truncation",
)
NETWORK = (
    *("network", "hidden", "activation", "initializer", "norm", "dueling", "branching", "noisy", "noisy_sigma"),
    *("torso_width", "pool", "spectral_norm", "ensemble", "prior_scale"),
)
REPLAY = (
    *("replay", "buffer_size", "batch_size", "learning_starts", "prefill", "random_shift", "replay_memory"),
    *("priority_exponent", "priority_epsilon", "importance_exponent", "importance_exponent_final"),
    *("hindsight", "hindsight_share"),
)
EXPLORATION = (
    *("explorer", "epsilon_schedule", "epsilon_start", "epsilon_final", "epsilon_fraction", "epsilon_off"),
    *("epsilon_decay", "epsilon_ladder", "ladder_exponent", "duration_cap", "duration_exponent"),
    "boltzmann_temperature",
)
RUN = ("log_episodes", "data_parallel", "overlap", "update_kernel", "matmul_precision")
"""Of `Config`: how a run is computed, and what it logs."""


def groups_of(cls: type) -> cli.Groups:
    """The groups of a command's flags.

    What no table here names is the run's if it is neither of Config nor of Hypers, the algorithm's if it is static, and
    of the hypers if it is traced.
    """
    config, hypers = ({field.name for field in dataclasses.fields(of)} for of in (Config, Hypers))
    named = {*MOST_USED, *ENVIRONMENT, *NETWORK, *REPLAY, *EXPLORATION, *RUN}
    paths = [path for path, _ in cli.leaves(cls) if path not in named]
    params = [path for path in paths if path.startswith("env_params.")]
    return {
        "most used": MOST_USED,
        "run": [*(path for path in paths if path not in {*config, *hypers, *params}), *RUN],
        "environment": [*ENVIRONMENT, *params],
        "algorithm": [path for path in paths if path in config],
        "network": NETWORK,
        "replay": REPLAY,
        "exploration": EXPLORATION,
        "hypers": [path for path in paths if path in hypers],
    }
