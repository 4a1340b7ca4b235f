"""A network that is fed normalised observations, behind the interface of one, with the statistics in its parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import EnvSpec
from purejaxdqn.networks.qnetwork import Network
from purejaxdqn.networks.windows import Window
from purejaxdqn.observations.moments import RUNNING, normalize_obs, without_running
from purejaxdqn.types import Dist, Role


def with_statistics(network: Network, spec: EnvSpec, statistics: Any) -> Network:
    """A network that keeps running statistics beside its parameters, and is fed what they make of an observation.

    So whoever has the parameters, a target network, an evaluation or a policy, normalises by them. No role moves them,
    and no gradient goes into them; an ensemble's members and priors share them.

    Args:
      network: what is fed.
      spec: of the observations as the environment gives them.
      statistics: before the first row, of the parts that `RUNNING` names; {} leaves the network as it is.
    """
    if not statistics:
        return network

    def fed(params: Any, obs: Any) -> Any:
        if isinstance(obs, Window):
            return obs.replace(obs=fed(params, obs.obs))  # type: ignore[attr-defined]
        # As arrays of their own, since the rounding of the first layer might depend on what is fused with it.
        return jax.lax.stop_gradient(jax.lax.optimization_barrier(normalize_obs(spec, params[RUNNING].get("obs"), obs)))

    def init(key: Array) -> Any:
        # A copy, not the arrays themselves, which a state that is donated would take along.
        return {**network.init(key), RUNNING: jax.tree.map(jnp.copy, statistics)}

    def apply(params: Any, obs: Any, key: Array | None, role: Role) -> Dist:
        return network.apply(without_running(params), fed(params, obs), key, role)

    def refresh(params: Any, obs: Any) -> Any:
        assert network.refresh is not None, "only a network with a batch's statistics has any to refresh"
        return {**network.refresh(without_running(params), fed(params, obs)), RUNNING: params[RUNNING]}

    def first(params: Any) -> tuple[Network, Any]:
        assert network.first is not None, "only an ensemble has members"
        member, own = network.first(without_running(params))
        return with_statistics(member, spec, statistics), {**own, RUNNING: params[RUNNING]}

    def remember(params: Any, window: Window, key: Array | None, role: Role) -> tuple[Dist, Any]:
        assert network.remember is not None, "only a network with a memory carries anything"
        return network.remember(without_running(params), fed(params, window), key, role)

    return network._replace(
        init=init,
        apply=apply,
        refresh=network.refresh and refresh,
        first=network.first and first,
        remember=network.remember and remember,
    )
