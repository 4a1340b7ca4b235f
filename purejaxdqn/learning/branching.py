"""Action branching (Tavakoli et al. 2018, arXiv:1711.08946): each part of a multi-discrete action is valued by itself.

The network has an output for each choice of each part, S together, where values of all combinations would be their
product. With N parts the target is r + γ 1/N Σ_d Q⁻_d(s', argmax Q_d(s', ·)), one for all of them, and the loss is the
mean of the parts'. With a head of distributions the mean of the targets is their mixture. It departs from the paper in
that the gradient of the layers that the parts share is not divided by N + 1.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.bounds import MOST_COMBINATIONS
from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.learning.backups import Backup
from purejaxdqn.learning.heads import Head, LossParts
from purejaxdqn.machine.part_values import PartValues, parts_of, places_of, split_parts
from purejaxdqn.types import Dist, Hypers


def check_branching(config: Config, spec: EnvSpec) -> None:
    """Raises `SettingError` where there is nothing to branch, where something reads values of all actions, or where
    there are too many combinations without branching."""
    sizes, field, value = spec.action_sizes, "branching", config.branching
    if not config.branching:
        made = f"the parts of its actions, {' × '.join(map(str, sizes or ()))}, make {spec.num_actions:,} combinations"
        remedy = f"{made}, and at most {MOST_COMBINATIONS:,} have a value each: use --branching, or leave choices out"
        require(sizes is None or spec.num_actions <= MOST_COMBINATIONS, "env", spec.env_id, remedy)
        return
    require(sizes is not None, field, value, f"the actions of {spec.env_id} have no parts: leave it out")
    remedy = f"{spec.env_id} says which combinations are legal, and parts are valued each by itself: leave it out"
    require(not spec.masked, field, value, remedy)
    remedy = f"--head {config.head} values combinations alone: use scalar, categorical, quantile, iqn or fqf"
    require(config.head not in ("bcq", "iql"), field, value, remedy)
    remedy = f"--constraint {config.constraint} compares combinations: leave one of them out"
    require(config.constraint == "none", field, value, remedy)


def part_sizes(config: Config, spec: EnvSpec) -> tuple[int, ...]:
    """Choices of each part of an action that is valued by its parts; () where combinations have values."""
    return spec.action_sizes or () if config.branching else ()


def network_spec(config: Config, spec: EnvSpec) -> EnvSpec:
    """What a network is told: with branching, as many actions as all parts have choices."""
    sizes = part_sizes(config, spec)
    return spec._replace(num_actions=sum(sizes)) if sizes else spec


def branching_head(head: Head, sizes: Sequence[int]) -> Head:
    """A head that reads `Dist` of [S, N], the parts one after another; its targets are those of the head itself.

    Args:
      head: reads one part.
      sizes: choices of each part.
    """

    def q_values(dist: Dist) -> PartValues:
        return PartValues(head.q_values(dist), tuple(sizes))

    def loss(dist_tm1: Dist, a_tm1: Array, y: Any, h: Hypers) -> LossParts:
        places = places_of(a_tm1, sizes)
        parts = jax.vmap(head.loss, in_axes=(None, 0, None, None))(dist_tm1, places, y, h)
        return jax.tree.map(jnp.mean, parts)

    return head._replace(q_values=q_values, loss=loss)


def of_parts(backup: Backup, sizes: Sequence[int]) -> Backup:
    """A backup of the values [S] of parts, each of which has a policy of its own, and an equal share in the target.

    Args:
      backup: of one part.
      sizes: choices of each part.
    """

    def policy(q_t: Any, h: Hypers) -> tuple[Array, Array | None]:
        policies, penalties = zip(*(backup.policy(q, h) for q in split_parts(q_t.x, sizes)), strict=True)
        penalty = None if penalties[0] is None else jnp.concatenate(penalties)
        return jnp.concatenate(policies) / len(sizes), penalty

    def bonus(q_tm1: Any, a_tm1: Array, h: Hypers) -> Array:
        parts = zip(split_parts(q_tm1.x, sizes), parts_of(a_tm1, sizes), strict=True)
        found = [backup.bonus(q, choice, h) for q, choice in parts]
        return jnp.mean(jnp.stack(found))

    return backup._replace(policy=policy, bonus=bonus)
