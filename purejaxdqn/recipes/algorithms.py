"""The algorithms by name (DQN, double DQN, C51, Rainbow, PQN and more): their components and default settings.

An algorithm is data. Its ingredients override an environment's recipe, and flags override both, so that every ablation
is one flag: `--algo rainbow --no-noisy`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from purejaxdqn.config import Config
from purejaxdqn.envs.interface import ATARI_SUFFIX
from purejaxdqn.envs.names import gives_pictures, suite_of
from purejaxdqn.recipes.atari import ATARI, ATARI_RUN
from purejaxdqn.types import Hypers

Family = Literal["vector", "plain", "minatar", "atari"]
"""Environments that share settings: observations as vectors (`plain` for the recipe plain-dqn), MinAtar's pictures,
Atari's frames."""
Values = Mapping[str, Any]
# Named, so that choosing a recipe need not import gymnax and make the environment.
_OTHER_PICTURES = frozenset({"Pong-misc"})


def family(env_id: str) -> Family:
    """Which settings of an algorithm suit an environment; an unknown one of gymnax counts as giving vectors.

    Raises:
      SettingError: for one of another suite, or of a user's own, that cannot be made here.
    """
    suite = suite_of(env_id)
    if suite == "envpool" and env_id.endswith(ATARI_SUFFIX):
        return "atari"
    if suite != "gymnax":
        return "minatar" if gives_pictures(env_id) else "vector"
    return "minatar" if env_id.endswith("-MinAtar") or env_id in _OTHER_PICTURES else "vector"


@dataclass(frozen=True)
class Algorithm:
    """A member of the value-learning family."""

    name: str
    paper: str
    ingredients: Values
    """Fields of `Config` and `Hypers` that make it what it is."""
    settings: Mapping[Family, Values] = field(default_factory=dict)
    """Further fields for a family of environments: tuned ones, and for Atari all that a paper may name."""
    run: Mapping[Family, Values] = field(default_factory=dict)
    """Options of `train` for a family of environments: how it is evaluated."""

    def values(self, family: Family) -> dict[str, Any]:
        """Everything that it sets on a family of environments."""
        return dict(self.ingredients) | dict(self.settings.get(family, {}))


def _algorithm(
    name: str,
    paper: str,
    ingredients: dict[str, Any],
    *,
    vector: dict[str, Any] | None = None,
    plain: dict[str, Any] | None = None,
    minatar: dict[str, Any] | None = None,
) -> Algorithm:
    """An algorithm whose ingredients begin with plain DQN's, and that nobody can change by accident."""
    whole = _PLAIN | ingredients
    settings: dict[Family, Values] = {
        "vector": MappingProxyType(vector or {}),
        "plain": MappingProxyType(plain or {}),
        "minatar": MappingProxyType(minatar or {}),
        "atari": MappingProxyType({**_DEFAULTS, **whole, **ATARI[name]}),
    }
    run: dict[Family, Values] = {"atari": ATARI_RUN[name]}
    return Algorithm(name, paper, MappingProxyType(whole), MappingProxyType(settings), MappingProxyType(run))


OF_THE_MACHINE = frozenset(
    {"data_parallel", "overlap", "replay_memory", "log_episodes", "update_kernel", "matmul_precision"}
)
"""Fields of `Config` that say where and how a run is computed and what it logs, so that no paper names them."""
# On Atari an algorithm is a closed set: of a recipe only the game, its options and these are left.
_DEFAULTS = {
    field.name: field.default
    for cls in (Config, Hypers)
    for field in dataclasses.fields(cls)
    if field.name not in {"env", "env_params"} | OF_THE_MACHINE
}
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
# Actors of Horgan et al. 2018, each with its own ε.
_LADDER: dict[str, Any] = {
    "epsilon_schedule": "constant",
    "epsilon_final": 0.4,
    "epsilon_ladder": True,
    "ladder_exponent": 7.0,
}

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
_VECTOR_ROLLOUT = {
    "total_steps": 500_000,
    "num_envs": 32,
    "rollout_length": 64,
    "num_epochs": 4,
    "num_minibatches": 16,
    "trace_lambda": 0.95,
    "optimizer": "radam",
    "max_grad_norm": 10.0,
}
_MINATAR_ROLLOUT = {
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
}
# A window of 20 steps teaches twenty times what a transition does, so batches are smaller and updates fewer.
_VECTOR_WINDOWS = {
    "total_steps": 400_000,
    "num_envs": 10,
    "batch_size": 32,
    "memory_size": 64,
    "learning_rate": 5e-4,
    "target_period": 200,
}
# The authors' pqn_rnn_memory_chain.yaml, with half the units.
_VECTOR_MEMORY = {
    **_VECTOR_ROLLOUT,
    "rollout_length": 128,
    "hidden": (128, 128),
    "memory_size": 128,
    "epsilon_final": 0.01,
    "epsilon_fraction": 0.1,
    "learning_rate_schedule": "constant",
}
# Beside plain-dqn's settings: what papers changed of Nature's optimiser, and their atoms.
_PLAIN_ADAM = {"optimizer": "adam", "adam_epsilon": 0.01 / 32, "reduction": "mean"}
_PLAIN_ATOMS = {**_PLAIN_ADAM, "num_atoms": 51, "v_min": -10.0, "v_max": 10.0}
_PLAIN_NORM = {"norm": "layer", "loss": "squared", "reduction": "mean", "adam_epsilon": 1e-8}

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        _algorithm("dqn", "Mnih et al. 2015", {}, vector=_VECTOR),
        _algorithm("double", "van Hasselt et al. 2016", {"backup": "double"}, vector=_VECTOR_STEADY),
        _algorithm(
            "dueling",
            "Wang et al. 2016, with double as there",
            {"backup": "double", "dueling": True},
            vector=_VECTOR_STEADY,
        ),
        _algorithm(
            "prioritized",
            "Schaul et al. 2016, proportional, with double as there",
            {"backup": "double", "replay": "prioritized"},
            vector=_VECTOR_STEADY,
        ),
        _algorithm(
            "n-step",
            "Sutton 1988; as in Hessel et al. 2018",
            {"n_step": 3},
            vector=_VECTOR | {"total_steps": 300_000, "buffer_size": 300_000},
        ),
        _algorithm(
            "noisy",
            "Fortunato et al. 2018, factorised",
            _NOISY,
            vector=_VECTOR_STEADY,
        ),
        _algorithm(
            "c51",
            "Bellemare et al. 2017",
            {"head": "categorical"},
            vector=_VECTOR_ATOMS,
            plain=_PLAIN_ATOMS,
            minatar={"num_atoms": 51, "v_min": -10.0, "v_max": 30.0},
        ),
        _algorithm(
            "qr-dqn",
            "Dabney et al. 2018a",
            {"head": "quantile"},
            vector=_VECTOR_DISTRIBUTION | {"num_quantiles": 16},
            plain=_PLAIN_ADAM,
            minatar={"num_quantiles": 32},
        ),
        _algorithm(
            "iqn",
            "Dabney et al. 2018b",
            {"head": "iqn"},
            vector=_VECTOR_FRACTIONS,
            plain=_PLAIN_ADAM,
            minatar={"num_quantiles": 8, "num_target_quantiles": 8, "num_policy_quantiles": 16},
        ),
        _algorithm(
            "fqf",
            "Yang et al. 2019",
            {"head": "fqf"},
            vector=_VECTOR_FRACTIONS,
            plain=_PLAIN_ADAM,
            minatar={"num_quantiles": 16},
        ),
        _algorithm(
            "m-dqn",
            "Vieillard et al. 2020",
            {"backup": "munchausen"},
            vector=_VECTOR_STEADY,
            plain=_PLAIN_ADAM,
        ),
        _algorithm(
            "m-iqn",
            "Vieillard et al. 2020",
            {"head": "iqn", "backup": "munchausen"},
            vector=_VECTOR_FRACTIONS,
            plain=_PLAIN_ADAM,
            minatar={"num_quantiles": 8, "num_target_quantiles": 8, "num_policy_quantiles": 16},
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
            plain={**_PLAIN_ATOMS, "priority_exponent": 0.5},
            minatar={"num_atoms": 51, "v_min": -10.0, "v_max": 30.0, "priority_exponent": 0.5},
        ),
        _algorithm(
            "btr",
            "Clark et al. 2024",
            {
                "head": "iqn",
                "backup": "munchausen",
                "replay": "prioritized",
                "dueling": True,
                "noisy": True,
                "n_step": 3,
                "epsilon_schedule": "linear-off",
                "epsilon_final": 0.01,
                "epsilon_fraction": 0.04,
                "epsilon_off": 0.5,
            },
            vector=_VECTOR_FRACTIONS | {"epsilon_fraction": 0.04, "priority_exponent": 0.2},
            plain={**_PLAIN_ADAM, "priority_exponent": 0.2},
            # Three stages leave 2 by 2 of MinAtar's 10 by 10 pixels: nothing to pool.
            minatar={
                "network": "impala-cnn",
                "spectral_norm": True,
                "num_quantiles": 8,
                "num_target_quantiles": 8,
                "num_policy_quantiles": 8,
                "priority_exponent": 0.2,
            },
        ),
        _algorithm(
            "drqn",
            "Hausknecht & Stone 2015, with windows from anywhere and zero carries",
            {"memory": "lstm", "burn_in": 0, "unroll": 10, "window_period": 1, "stored_carry": False},
            vector=_VECTOR_WINDOWS,
        ),
        _algorithm(
            "r2d2",
            "Kapturowski et al. 2019",
            {
                "backup": "double",
                "replay": "prioritized",
                "dueling": True,
                "n_step": 5,
                "memory": "lstm",
                "last_inputs": True,
                "rescale_values": True,
                "priority_eta": 0.9,
            },
            vector=_VECTOR_WINDOWS | _LADDER,
            minatar=_LADDER,
        ),
        _algorithm(
            "pqn",
            "Gallici et al. 2024",
            {"learner": "rollout"},
            vector=_VECTOR_ROLLOUT,
            plain=_PLAIN_NORM | _VECTOR_ROLLOUT,
            minatar=_MINATAR_ROLLOUT,
        ),
        _algorithm(
            "pqn-rnn",
            "Gallici et al. 2024",
            {"learner": "rollout", "memory": "gru"},
            vector=_VECTOR_MEMORY | {"learning_rate": 1e-3},
            plain=_PLAIN_NORM | _VECTOR_MEMORY,
            minatar=_MINATAR_ROLLOUT | {"memory_size": 128},
        ),
    )
}
"""Every named algorithm: its ingredients and settings, by its name, as `--algo` takes it."""
