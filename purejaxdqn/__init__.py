"""purejaxdqn: deep Q-learning as pure JAX functions.

Names are imported on first use, so that a policy can be loaded, or a platform chosen, without importing environments.
"""

from importlib import import_module
from typing import Any

from purejaxdqn.moved import MOVED, sentence, tell_old_paths

tell_old_paths()

__version__ = "0.1.0"
"""The version of the package, which its wheel, its runs and `--version` take from here."""

_HOMES = {
    "Config": "config",
    "SettingError": "config",
    "Hypers": "types",
    "Row": "types",
    "State": "types",
    "Transition": "types",
    "lane_axes": "types",
    "td_target": "learning.losses",
    "double_td_target": "learning.losses",
    "td_error": "learning.losses",
    "huber": "learning.losses",
    "squared_error": "learning.losses",
    "categorical_l2_projection": "learning.distributional",
    "quantile_huber": "learning.distributional",
    "n_step_fold": "learning.returns",
    "lambda_returns": "learning.returns",
    "linear_schedule": "learning.schedules",
    "exponential_schedule": "learning.schedules",
    "constant_schedule": "learning.schedules",
    "epsilon_greedy": "learning.explore",
    "hard_update": "learning.optim",
    "soft_update": "learning.optim",
    "periodic_update": "learning.optim",
    "Ring": "replay.ring",
    "init_ring": "replay.ring",
    "add_rows": "replay.ring",
    "read_rows": "replay.ring",
    "sample_starts": "replay.ring",
    "register": "build",
    "batch_env": "envs.single",
    "whole_network": "networks.whole",
    "check_env": "check.command",
    "make_agent": "loops.device",
    "make_train": "loops.device",
    "load_policy": "runs.policy",
    "make_settings": "recipes.recipes",
    "RECIPES": "recipes.recipes",
    "ALGORITHMS": "recipes.algorithms",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in MOVED:
        raise ImportError(sentence(name))
    if name not in _HOMES:
        raise AttributeError(f"module 'purejaxdqn' has no attribute {name!r}")
    return getattr(import_module(f"purejaxdqn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
