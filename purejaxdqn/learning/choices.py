"""Heads, backups, explorers and reward shapings by name, and the settings that only matter with each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from purejaxdqn.config import Config
from purejaxdqn.learning import heads
from purejaxdqn.learning.backups import greedy, munchausen
from purejaxdqn.learning.explorers import boltzmann, bootstrapped, ez_greedy, plain
from purejaxdqn.learning.heads import Head
from purejaxdqn.learning.shaping import as_given, make_cartpole_distance


class Choice(NamedTuple):
    """One value that a setting may have: how it is made, and the settings that only matter with it."""

    make: Callable[..., Any]
    reads: tuple[str, ...] = ()
    """Names of fields of `Config` and `Hypers`."""


def even_support(config: Config) -> Head:
    """The categorical head with evenly spaced atoms."""
    return heads.categorical(tuple(np.linspace(config.v_min, config.v_max, config.num_atoms).tolist()))


def scalar_head(config: Config) -> Head:
    """The scalar head, of returns or of rescaled ones."""
    head = heads.scalar(config.loss)
    return heads.rescaled(head) if config.rescale_values else head


HEADS: dict[str, Choice] = {
    "scalar": Choice(scalar_head, ("loss", "rescale_values")),
    "categorical": Choice(even_support, ("num_atoms", "v_min", "v_max")),
    "quantile": Choice(lambda config: heads.quantile(config.num_quantiles), ("num_quantiles", "huber_delta")),
    "iqn": Choice(
        lambda config: heads.implicit_quantile(),
        ("num_quantiles", "num_target_quantiles", "num_policy_quantiles", "num_cosines", "huber_delta"),
    ),
    "fqf": Choice(
        lambda config: heads.proposed_quantile(),
        ("num_quantiles", "num_cosines", "huber_delta", "fraction_lr_scale", "fraction_entropy"),
    ),
}
"""name -> (config) -> Head."""
BACKUPS: dict[str, Choice] = {
    "max": Choice(lambda config: greedy(double=False)),
    "double": Choice(lambda config: greedy(double=True)),
    "munchausen": Choice(
        lambda config: munchausen(), ("munchausen_alpha", "munchausen_temperature", "munchausen_clip")
    ),
}
"""name -> (config) -> Backup."""
SHAPINGS: dict[str, Choice] = {
    "none": Choice(lambda config: as_given),
    "cartpole-distance": Choice(make_cartpole_distance),
}
"""name -> (config) -> View."""
EXPLORERS: dict[str, Choice] = {
    "epsilon-greedy": Choice(lambda config: plain()),
    "ez-greedy": Choice(lambda config: ez_greedy(config.duration_cap), ("duration_cap", "duration_exponent")),
    "boltzmann": Choice(lambda config: boltzmann(), ("boltzmann_temperature",)),
    "bootstrapped": Choice(lambda config: bootstrapped(config.ensemble)),
}
"""name -> (config) -> Explorer."""
