"""An ensemble: several networks that share a torso, each with dense layers of its own, behind the interface of one."""

from typing import Any

import jax
from jax import Array

from purejaxdqn.networks.qnetwork import Network
from purejaxdqn.types import PRIOR, Dist, Role, is_under


def make_ensemble(network: Network, num_members: int, prior_scale: float, torso: str | None) -> Network:
    """K networks as one, whose `Dist` has an axis of members, [B, K, ...].

    A torso is shared, all dense layers are each member's own (Osband et al. 2016, figure 1a), so that an MLP's members
    share nothing. With a prior the k-th member is f_k + scale · p_k with a p_k that is drawn with the parameters and
    never changes (Osband et al. 2018, equation 7); for heads with logits or quantiles it is added to these.

    Args:
      network: of one member.
      num_members: K.
      prior_scale: factor on the priors; 0 for none.
      torso: name of the shared module; None where there is none.
    """

    def axes_of(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: None if is_under(path, torso) else 0, tree)

    def draw(key: Array) -> Any:
        own = jax.vmap(network.init)(jax.random.split(key, num_members))
        return member_of(own, axes_of(own), shared=True)

    def member_of(params: Any, axes: Any, shared: bool = False) -> Any:
        """The first member's parameters; with `shared`, its torso beside all members' own layers."""
        return jax.tree.map(
            lambda axis, leaf: leaf[0] if (axis is None) == shared else leaf,
            axes,
            params,
            is_leaf=lambda axis: axis is None,
        )

    def trained(params: Any) -> Any:
        return {name: part for name, part in params.items() if name != PRIOR}

    def init(key: Array) -> Any:
        if prior_scale == 0.0:
            return draw(key)
        key, prior_key = jax.random.split(key)
        return {**draw(key), PRIOR: draw(prior_key)}

    def of_all(params: Any, obs: Any, key: Array | None, role: Role) -> Dist:
        # What members share is computed once: vmap batches nothing that does not differ.
        apply = jax.vmap(lambda one: network.apply(one, obs, key, role), in_axes=(axes_of(params),), out_axes=1)
        return apply(params)

    def apply(params: Any, obs: Any, key: Array | None, role: Role) -> Dist:
        dist = of_all(trained(params), obs, key, role)
        if prior_scale == 0.0:
            return dist
        prior = of_all(jax.lax.stop_gradient(params[PRIOR]), obs, key, role)
        return dist.replace(x=dist.x + prior_scale * prior.x)  # type: ignore[attr-defined]

    def refresh(params: Any, obs: Any) -> Any:
        assert network.refresh is not None, "only a network with running statistics has any to refresh"
        axes = axes_of(params)
        return jax.vmap(network.refresh, in_axes=(axes, None), out_axes=axes)(params, obs)

    def first(params: Any) -> tuple[Network, Any]:
        own = trained(params)
        return network, member_of(own, axes_of(own))

    return Network(init=init, apply=apply, refresh=network.refresh and refresh, first=first)
