"""purejaxdqn: deep Q-learning as pure JAX functions.

Names are imported on first use, so that a policy can be loaded, or a platform chosen, without importing environments.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "SettingError": "config",
    "Hypers": "types",
    "Row": "types",
    "State": "types",
    "Transition": "types",
    "lane_axes": "types",
    "td_target": "losses",
    "double_td_target": "losses",
    "td_error": "losses",
    "huber": "losses",
    "squared_error": "losses",
    "categorical_l2_projection": "distributional",
    "quantile_huber": "distributional",
    "n_step_fold": "returns",
    "lambda_returns": "returns",
    "linear_schedule": "schedules",
    "exponential_schedule": "schedules",
    "constant_schedule": "schedules",
    "epsilon_greedy": "explore",
    "hard_update": "optim",
    "soft_update": "optim",
    "periodic_update": "optim",
    "Ring": "replay.ring",
    "init_ring": "replay.ring",
    "add_rows": "replay.ring",
    "read_rows": "replay.ring",
    "sample_starts": "replay.ring",
    "register": "build",
    "make_agent": "loops.device",
    "make_train": "loops.device",
    "load_policy": "policy",
    "make_settings": "recipes",
    "RECIPES": "recipes",
    "ALGORITHMS": "algorithms",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'purejaxdqn' has no attribute {name!r}")
    return getattr(import_module(f"purejaxdqn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
