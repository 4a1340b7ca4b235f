"""The algorithms by name (DQN, double DQN, C51, Rainbow, PQN and more): their components and default settings.

An algorithm is data. Its ingredients override an environment's recipe, and flags override both, so that every ablation
is one flag: `--algo rainbow --no-noisy`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Family = Literal["vector", "minatar", "atari"]
"""Environments that share settings: observations as vectors, MinAtar's pictures, Atari's frames."""
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Algorithm:
    """A member of the value-learning family."""

    name: str
    paper: str
    ingredients: Values
    """Fields of `Config` and `Hypers` that make it what it is."""
    settings: Mapping[Family, Values] = field(default_factory=dict)
    """Further fields for a family of environments: tuned ones, and for Atari the paper's."""

    def values(self, family: Family) -> dict[str, Any]:
        """Everything that it sets on a family of environments."""
        return dict(self.ingredients) | dict(self.settings.get(family, {}))


def _algorithm(
    name: str,
    paper: str,
    ingredients: dict[str, Any],
    *,
    vector: dict[str, Any] | None = None,
    minatar: dict[str, Any] | None = None,
    atari: dict[str, Any] | None = None,
) -> Algorithm:
    """An algorithm whose ingredients begin with plain DQN's, and that nobody can change by accident."""
    settings: dict[Family, Values] = {
        "vector": MappingProxyType(vector or {}),
        "minatar": MappingProxyType(minatar or {}),
        "atari": MappingProxyType(atari or {}),
    }
    return Algorithm(name, paper, MappingProxyType(_PLAIN | ingredients), MappingProxyType(settings))


_PLAIN: dict[str, Any] = {
    "learner": "replay",
    "head": "scalar",
    "backup": "max",
    "replay": "uniform",
    "dueling": False,
    "noisy": False,
    "n_step": 1,
}
# Without ε the noise of the network explores alone.
_NOISY: dict[str, Any] = {"noisy": True, "epsilon_start": 0.0, "epsilon_final": 0.0}

# Nature's settings (Mnih et al. 2015, extended data table 1), in environment steps of four frames. One environment; the
# target is copied every 10,000 steps, which are 2,500 updates.
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
    "target_period": 2_500,
    "epsilon_start": 1.0,
    "epsilon_final": 0.1,
    "epsilon_fraction": 0.02,
}
# Double DQN's tuned settings (van Hasselt et al. 2016, appendix): a slower target and less exploration.
_DOUBLE = _NATURE | {"target_period": 7_500, "epsilon_final": 0.01}
_ADAM = _NATURE | {"optimizer": "adam", "reduction": "mean", "epsilon_final": 0.01, "max_grad_norm": float("inf")}
_QUANTILE = _ADAM | {"learning_rate": 5e-5, "adam_epsilon": 0.01 / 32}
# Tuned on CartPole-v1: an update for every 5 steps, and a slower target than the default recipe's.
_VECTOR = {"total_steps": 400_000, "updates_per_rollout": 2, "target_period": 200, "epsilon_fraction": 0.3}
# The other one-step algorithms: half the step size and a target twice as fast. With the above 14 of 16 seeds of double
# and of dueling kept to the end what they had learnt, with these 12 of 12.
_VECTOR_STEADY = _VECTOR | {"learning_rate": 5e-4, "target_period": 100}
# Distributions learn as much from fewer updates, which cost more each.
_VECTOR_DISTRIBUTION = {"total_steps": 200_000, "target_period": 50, "epsilon_fraction": 0.3}
_VECTOR_FRACTIONS = {
    **_VECTOR_DISTRIBUTION,
    "total_steps": 300_000,
    "batch_size": 64,
    "num_quantiles": 8,
    "num_target_quantiles": 8,
    "num_policy_quantiles": 8,
}
_VECTOR_ATOMS = {**_VECTOR_DISTRIBUTION, "num_atoms": 51, "v_min": -100.0, "v_max": 100.0}
_MUNCHAUSEN = {"munchausen_alpha": 0.9, "munchausen_temperature": 0.03, "munchausen_clip": -1.0}

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        _algorithm("dqn", "Mnih et al. 2015", {}, vector=_VECTOR, atari=_NATURE),
        _algorithm("double", "van Hasselt et al. 2016", {"backup": "double"}, vector=_VECTOR_STEADY, atari=_DOUBLE),
        _algorithm(
            "dueling",
            "Wang et al. 2016, with double as there",
            {"backup": "double", "dueling": True},
            vector=_VECTOR_STEADY,
            atari=_DOUBLE | {"learning_rate": 6.25e-5, "max_grad_norm": 10.0},
        ),
        _algorithm(
            "prioritized",
            "Schaul et al. 2016, proportional, with double as there",
            {"backup": "double", "replay": "prioritized"},
            vector=_VECTOR_STEADY,
            atari=_DOUBLE | {"learning_rate": 6.25e-5, "priority_exponent": 0.6, "importance_exponent": 0.4},
        ),
        _algorithm(
            "n-step",
            "Sutton 1988; as in Hessel et al. 2018",
            {"n_step": 3},
            vector=_VECTOR | {"total_steps": 300_000, "buffer_size": 300_000},
            atari=_NATURE,
        ),
        _algorithm(
            "noisy",
            "Fortunato et al. 2018, factorised",
            _NOISY,
            vector=_VECTOR_STEADY,
            atari=_NATURE | _NOISY | {"epsilon_schedule": "constant"},
        ),
        _algorithm(
            "c51",
            "Bellemare et al. 2017",
            {"head": "categorical"},
            vector=_VECTOR_ATOMS,
            minatar={"num_atoms": 51, "v_min": -10.0, "v_max": 30.0},
            atari=_ADAM | {"adam_epsilon": 0.01 / 32, "num_atoms": 51, "v_min": -10.0, "v_max": 10.0},
        ),
        _algorithm(
            "qr-dqn",
            "Dabney et al. 2018a",
            {"head": "quantile"},
            vector=_VECTOR_DISTRIBUTION | {"num_quantiles": 16},
            minatar={"num_quantiles": 32},
            atari=_QUANTILE | {"num_quantiles": 200},
        ),
        _algorithm(
            "iqn",
            "Dabney et al. 2018b",
            {"head": "iqn"},
            vector=_VECTOR_FRACTIONS,
            minatar={"num_quantiles": 8, "num_target_quantiles": 8, "num_policy_quantiles": 16},
            atari=_QUANTILE | {"num_quantiles": 64, "num_target_quantiles": 64, "num_policy_quantiles": 32},
        ),
        _algorithm(
            "fqf",
            "Yang et al. 2019",
            {"head": "fqf"},
            vector=_VECTOR_FRACTIONS,
            minatar={"num_quantiles": 16},
            atari=_QUANTILE | {"num_quantiles": 32, "fraction_lr_scale": 5e-5},
        ),
        _algorithm(
            "m-dqn",
            "Vieillard et al. 2020",
            {"backup": "munchausen"},
            vector=_VECTOR_STEADY,
            atari=_ADAM | _MUNCHAUSEN | {"learning_rate": 5e-5, "adam_epsilon": 0.01 / 32, "target_period": 2_000},
        ),
        _algorithm(
            "m-iqn",
            "Vieillard et al. 2020",
            {"head": "iqn", "backup": "munchausen"},
            vector=_VECTOR_FRACTIONS,
            minatar={"num_quantiles": 8, "num_target_quantiles": 8, "num_policy_quantiles": 16},
            atari=_QUANTILE
            | _MUNCHAUSEN
            | {"num_quantiles": 64, "num_target_quantiles": 64, "num_policy_quantiles": 32, "target_period": 2_000},
        ),
        _algorithm(
            "rainbow",
            "Hessel et al. 2018",
            {
                "head": "categorical",
                "backup": "double",
                "replay": "prioritized",
                "dueling": True,
                "n_step": 3,
                **_NOISY,
            },
            vector={
                **_VECTOR_ATOMS,
                "total_steps": 120_000,
                "batch_size": 64,
                "priority_exponent": 0.5,
            },
            minatar={"num_atoms": 51, "v_min": -10.0, "v_max": 30.0, "priority_exponent": 0.5},
            atari=_ADAM
            | _NOISY
            | {
                "epsilon_schedule": "constant",
                "learning_starts": 20_000,
                "learning_rate": 6.25e-5,
                "adam_epsilon": 0.005 / 32,
                "max_grad_norm": 10.0,
                "target_period": 2_000,
                "priority_exponent": 0.5,
                "importance_exponent": 0.4,
                "num_atoms": 51,
                "v_min": -10.0,
                "v_max": 10.0,
            },
        ),
        _algorithm(
            "pqn",
            "Gallici et al. 2024",
            {"learner": "rollout"},
            vector={
                "total_steps": 500_000,
                "num_envs": 32,
                "rollout_length": 64,
                "num_epochs": 4,
                "num_minibatches": 16,
                "trace_lambda": 0.95,
                "optimizer": "radam",
                "max_grad_norm": 10.0,
            },
            minatar={
                "num_envs": 128,
                "rollout_length": 32,
                "num_epochs": 2,
                "num_minibatches": 32,
                "trace_lambda": 0.65,
                "hidden": (128,),
                "optimizer": "radam",
                "learning_rate": 5e-4,
                "max_grad_norm": 10.0,
                "epsilon_fraction": 0.1,
            },
            atari={
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
                "learning_rate_schedule": "linear",
                "max_grad_norm": 10.0,
                "epsilon_final": 0.001,
                "epsilon_fraction": 0.1,
            },
        ),
    )
}
