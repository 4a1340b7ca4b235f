"""Heads, backups, constraints, explorers and reward shapings by name, and the settings that only matter with each."""

from collections.abc import Callable
from typing import Any, NamedTuple

from purejaxdqn.config import Config
from purejaxdqn.learning import constraints, heads, offline_heads
from purejaxdqn.learning.backups import greedy, munchausen
from purejaxdqn.learning.explorers import boltzmann, bootstrapped, ez_greedy, plain
from purejaxdqn.learning.shaping import as_given, make_cartpole_distance


class Choice(NamedTuple):
    """One value that a setting may have: how it is made, and the settings that only matter with it."""

    make: Callable[..., Any]
    reads: tuple[str, ...] = ()
    """Names of fields of `Config` and `Hypers`."""


def scalar_head(config: Config) -> heads.Head:
    """The scalar head, of returns or of rescaled ones."""
    head = heads.scalar(config.loss)
    return heads.rescaled(head) if config.rescale_values else head


HEADS: dict[str, Choice] = {
    "scalar": Choice(scalar_head, ("loss", "rescale_values")),
    "categorical": Choice(lambda c: heads.even_support(c.num_atoms, c.v_min, c.v_max), ("num_atoms", "v_min", "v_max")),
    "quantile": Choice(lambda config: heads.quantile(config.num_quantiles), ("num_quantiles", "huber_delta")),
    "iqn": Choice(
        lambda config: heads.implicit_quantile(),
        ("num_quantiles", "num_target_quantiles", "num_policy_quantiles", "num_cosines", "huber_delta"),
    ),
    "fqf": Choice(
        lambda config: heads.proposed_quantile(),
        ("num_quantiles", "num_cosines", "huber_delta", "fraction_lr_scale", "fraction_entropy"),
    ),
    "bcq": Choice(lambda config: offline_heads.bcq(config.loss, config.bcq_threshold), ("loss", "bcq_threshold")),
    "iql": Choice(lambda config: offline_heads.iql(), ("expectile", "advantage_scale")),
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
CONSTRAINTS: dict[str, Choice] = {
    "none": Choice(lambda config: None),
    "cql": Choice(lambda config: constraints.conservative, ("constraint_weight",)),
    "cloning": Choice(lambda config: constraints.cloning),
    "margin": Choice(lambda config: constraints.margin, ("constraint_weight", "demo_margin")),
}
"""name -> (config) -> Constraint, or None for none."""
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
