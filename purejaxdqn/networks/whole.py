"""Whole networks of a user's own: from an observation's features to what the head reads, without a layer of ours."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, EnvSpec, SettingError, one_line, require
from purejaxdqn.networks.torsos import MakeTorso, Torso, fed, own_torso
from purejaxdqn.observations.leaves import zeros
from purejaxdqn.types import Dist, Outputs, Role


def whole_network(make: MakeTorso | nn.Module, reads: tuple[str, ...] = ()) -> Torso:
    """A network that is all of it, for `register("network", name, ...)` or `make_agent(config, network=...)`.

    Args:
      make: a flax module, or (config) -> one. It maps features [B, ...], or a tree of such, to values [B, A] of the
        scalar head, or to [B, A, N]: N logits of the categorical head's atoms, or N values of the quantile head.
      reads: fields of `Config` that only some networks read.
    """
    return own_torso(make, reads)._replace(whole=True)


def check_whole(config: Config, spec: EnvSpec, outputs: Outputs, init: Any, apply: Any) -> None:
    """Raises `SettingError` where a network raises, keeps more than parameters, or gives other outputs than are due."""
    count = 2

    def shapes() -> tuple[Any, Any]:
        params = jax.eval_shape(init, jax.random.key(0))
        return params, jax.eval_shape(apply, params, zeros(spec, count))

    remedy = "a whole network's outputs stand for fixed atoms or quantiles: use --head scalar, categorical or quantile"
    require(outputs.fractions == "fixed", "head", config.head, remedy)
    try:
        params, found = shapes()
    except Exception as error:
        said = f"it raised {type(error).__name__}: {one_line(error)}"
        raise SettingError("network", config.network, said) from error
    kept = sorted(set(params) - {"params"})
    remedy = (
        f"it keeps the collection {', '.join(kept)} beside its parameters, and nothing would move that: leave it out"
    )
    require(not kept, "network", config.network, remedy)
    due = (count, spec.num_actions, outputs.num_atoms)
    given = f"{found.shape} {found.dtype}" if hasattr(found, "shape") else "no array"
    remedy = f"of {count} observations it gives {given}: give float32 {due[: 2 if due[2] == 1 else 3]}"
    fits = hasattr(found, "shape") and (found.shape == due or found.shape == due[: 2 if due[2] == 1 else 3])
    require(fits and jnp.issubdtype(found.dtype, jnp.floating), "network", config.network, remedy)


def make_whole(config: Config, spec: EnvSpec, outputs: Outputs, make: MakeTorso, features: Any) -> tuple[Any, Any]:
    """A whole network's `init` and `apply`, as those of `Network`.

    Args:
      config: given to the module; its errors name the head and the network.
      spec: of the observations and actions.
      outputs: what the head reads.
      make: config -> module.
      features: (spec, obs [B, ...]) -> what the module is given.

    Raises:
      SettingError: see `check_whole`.
    """
    module = make(config)

    def given(obs: Any) -> Any:
        return fed(module, features(spec, obs))

    def init(key: Array) -> Any:
        return module.init(key, given(zeros(spec, 1)))

    def numbers(params: Any, obs: Any) -> Any:
        return module.apply(params, given(obs))

    def apply(params: Any, obs: Any, key: Array | None, role: Role) -> Dist:
        del key, role
        x = numbers(params, obs)
        x = x.reshape(x.shape[0], spec.num_actions, outputs.num_atoms).astype(jnp.float32)
        support = jnp.broadcast_to(jnp.asarray(outputs.support, jnp.float32), (x.shape[0], outputs.num_atoms))
        return Dist(x=x, support=support, weight=jnp.full_like(support, 1.0 / outputs.num_atoms))

    check_whole(config, spec, outputs, init, numbers)
    return init, apply
