"""How a run acts while it trains, on the device and on the host alike: values of the network, and the explorer."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config
from purejaxdqn.learning.explore import ladder_of
from purejaxdqn.networks.windows import Recall, begin
from purejaxdqn.types import Hypers, Row


class Acting(NamedTuple):
    """How actions are chosen for some of a run's environments."""

    choose: Callable[..., tuple[Array, Any]]
    """(params, obs [E, ...], mask bool [E, A] or None, carried, (network key, action key), ε [], envs, hypers) ->
    actions int32 [E], carried. `envs()` gives the numbers of the environments in the run, int32 [E], for a ladder."""
    init: Callable[[int], Any]
    """(E) -> what is carried before the first episodes, [E, ...]: the explorer's own, or with a memory `Carried`."""
    begin: Callable[[Any, Array], Any]
    """(carried, begins bool [E]) -> carried, as it is where the next observation begins an episode."""
    record: Callable[[Row, Any], Row]
    """(row, what was carried on by the choice of its action) -> row, with what a learner needs of that."""


class Carried(NamedTuple):
    """What is carried from step to step with a memory."""

    explorer: Any
    recall: Recall
    acted: Recall
    """`recall` as it was before the newest action."""


def make_acting(config: Config, parts: Parts) -> Acting:
    """How a configuration acts."""
    head, explorer, network = parts.head, parts.explorer, parts.network
    values_of = head.member_values if explorer.per_member and head.member_values else head.q_values

    def explore(
        values: Array, mask: Array | None, carried: Any, key: Array, epsilon: Array, envs: Any, h: Hypers
    ) -> tuple[Array, Any]:
        # Without a ladder no program counts its environments.
        each = ladder_of(config, h, epsilon, envs()) if config.epsilon_ladder else epsilon
        legal = () if mask is None else (mask,)
        return explorer.act(key, values, each, carried, h, *legal)

    def choose(
        params: Any, obs: Any, mask: Array | None, carried: Any, keys: tuple[Array, Array], *rest: Any
    ) -> tuple[Array, Any]:
        values = values_of(network.apply(params, obs, keys[0], "act"))
        return explore(values, mask, carried, keys[1], *rest)

    def remember_and_choose(
        params: Any, obs: Any, mask: Array | None, carried: Carried, keys: tuple[Array, Array], *rest: Any
    ) -> tuple[Array, Carried]:
        dist, recall = network.step(params, obs, carried.recall, keys[0], "act")
        action, own = explore(values_of(dist), mask, carried.explorer, keys[1], *rest)
        return action, Carried(own, recall, carried.recall)

    def init(num_envs: int) -> Carried:
        return Carried(explorer.init(num_envs), network.init_carry(num_envs), network.init_carry(num_envs))

    def begin_all(carried: Carried, begins: Array) -> Carried:
        return Carried(explorer.begin(carried.explorer, begins), begin(carried.recall, begins), carried.acted)

    def record(row: Row, carried: Carried) -> Row:
        return row.replace(starts=carried.acted.starts, carry=carried.acted.carry)  # type: ignore[attr-defined]

    if network.remember is None:
        return Acting(choose, explorer.init, explorer.begin, lambda row, carried: row)
    return Acting(remember_and_choose, init, begin_all, record)
