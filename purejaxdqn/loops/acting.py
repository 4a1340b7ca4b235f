"""How a run acts while it trains, on the device and on the host alike: values of the network, and the explorer."""

from collections.abc import Callable
from typing import Any

from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config
from purejaxdqn.learning.explore import ladder_of
from purejaxdqn.types import Hypers


def make_choose(config: Config, parts: Parts) -> Callable[..., tuple[Array, Any]]:
    """The function that chooses actions for some of a run's environments.

    Returns:
      (params, obs [E, ...], mask bool [E, A] or None, carried, (network key, action key), ε [], envs, hypers) ->
      actions int32 [E], carried. What is carried is the explorer's; `envs()` gives the numbers of the environments in
      the run, int32 [E], for a ladder.
    """
    head, explorer = parts.head, parts.explorer
    values_of = head.member_values if explorer.per_member and head.member_values else head.q_values

    def choose(
        params: Any,
        obs: Array,
        mask: Array | None,
        carried: Any,
        keys: tuple[Array, Array],
        epsilon: Array,
        envs: Callable[[], Array],
        h: Hypers,
    ) -> tuple[Array, Any]:
        network_key, action_key = keys
        values = values_of(parts.network.apply(params, obs, network_key, "act"))
        # Without a ladder no program counts its environments.
        each = ladder_of(config, h, epsilon, envs()) if config.epsilon_ladder else epsilon
        legal = () if mask is None else (mask,)
        return explorer.act(action_key, values, each, carried, h, *legal)

    return choose
