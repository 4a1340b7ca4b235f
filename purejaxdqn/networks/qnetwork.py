"""The Q-network: a torso, one or two (dueling) streams, and a return distribution of every action."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import optimization_barrier, stop_gradient

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.machine.part_values import split_parts
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.networks.fractions import FractionEmbedding, draw_fractions, make_proposal_layer, partition
from purejaxdqn.networks.layers import Bytes, Hidden, make_dense
from purejaxdqn.networks.memory import MakeMemory
from purejaxdqn.networks.noise import draw_at_once
from purejaxdqn.networks.torsos import MakeTorso, find_torso, join, pool_picture, run_torso, to_features
from purejaxdqn.networks.whole import make_whole
from purejaxdqn.networks.windows import Recall, Window, one_step, steps_in_a_row
from purejaxdqn.observations.leaves import Leaf, assert_obs, list_leaves, zeros
from purejaxdqn.types import STATISTICS, Dist, Outputs, Proposal, Role

Evaluate = Callable[[Array], Array]
"""Features [F, B] -> [A, num_atoms, B], or [F, B, N] -> [A, num_atoms, B, N]."""


def split_hidden(hidden: Sequence[int], has_torso: bool) -> tuple[Sequence[int], Sequence[int]]:
    """Widths of the hidden layers that all streams share, and of those that each has separately: at most the last.

    An MLP always shares its first layer; otherwise its streams would have only the observation in common.
    """
    shared = max(len(hidden) - 1, 0 if has_torso else 1)
    return hidden[:shared], hidden[shared:]


def make_stream(config: Config, prefix: str, hidden: Sequence[int], first: int, outputs: int) -> list[nn.Module]:
    """Hidden layers, numbered from `first`, and a linear output; all noisy where the configuration says so."""
    layers = [Hidden(config, width, config.noisy, name=f"{prefix}Hidden_{first + i}") for i, width in enumerate(hidden)]
    return [*layers, make_dense(config, outputs, config.noisy, f"{prefix}Output")]


def run_stream(layers: list[nn.Module], x: Array, key: Array | None, role: Role) -> Array:
    """Outputs [outputs, B, ...] of a stream on features [F, B, ...]."""
    for layer in layers:
        x = layer(x, key, role)
    return x


def duel(value: Array, advantage: Array, sizes: Sequence[int] = ()) -> Array:
    """V + A - mean_a A, separately for every atom or quantile (Wang et al. 2016, equation 9).

    Args:
      value: [num_atoms, ...].
      advantage: [A, num_atoms, ...].
      sizes: choices of each part of an action that is valued by its parts; the mean is each part's own then (Tavakoli
        et al. 2018).
    """
    assert_array("advantage", advantage, (None, None, ...), float)
    assert_array("value", value, advantage.shape[1:], float)
    if len(sizes) > 1:
        return jnp.concatenate([duel(value, part) for part in split_parts(advantage, sizes, axis=0)])
    return value[None] + advantage - jnp.mean(advantage, axis=0, keepdims=True)


def features_of(spec: EnvSpec, obs: Any) -> Any:
    """Observations [B, ...], an array or a tree, as float32 of the same structure; see `to_features`.

    Pictures of bytes or of bits stay so, and a torso may take them as they are.
    """
    assert_obs(spec, obs)

    def features(leaf: Leaf, x: Array) -> Array | Bytes:
        if leaf.is_picture and leaf.dtype in ("bool", "uint8") and leaf.num_values is None:
            return Bytes(x, 1.0 / leaf.divisor)
        return to_features(x, leaf.num_values, leaf.divisor)

    found = [features(leaf, x) for leaf, x in zip(list_leaves(spec), jax.tree.leaves(obs), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(obs), found)


def remember(memory: nn.Module, psi: Array, window: Window) -> tuple[Any, Array]:
    """The carry after a window, and features [H, U · B] of its steps after the burn-in, or [H, K · B] of those that are
    picked, from features [F, T · B]."""
    # As arrays of their own, forwards and backwards: fused into the layers around, sums may be rounded otherwise in a
    # program of more lanes, and a lane would not be its solo run to the last bit.
    x = optimization_barrier(psi.T.reshape(*window.starts.shape, -1))
    first, carry = window.burn_in, window.carry
    if first:
        carry = stop_gradient(memory(carry, stop_gradient(x[:first]), window.starts[:first])[0])
    carry, y = memory(carry, x[first:], window.starts[first:])
    if window.pick is not None:
        y = jnp.take_along_axis(y, window.pick[..., None], axis=0)
    return carry, optimization_barrier(steps_in_a_row(y).T)


class QNetwork(nn.Module):
    """Torso, shared hidden layers, a memory if there is one, streams, and the reader that the head asks for."""

    config: Config
    spec: EnvSpec
    outputs: Outputs
    make_torso: MakeTorso | None
    make_memory: MakeMemory | None = None

    @nn.compact
    def __call__(self, obs: Any, key: Array | None, role: Role) -> Any:
        """The `Dist` of observations [B, ...]; with a memory that of a `Window`, and the carry after it."""
        config, num_actions, num_atoms = self.config, self.spec.num_actions, self.outputs.num_atoms
        sizes = self.spec.action_sizes or () if config.branching else ()
        x = features_of(self.spec, steps_in_a_row(obs.obs) if self.make_memory else obs)
        if self.make_torso is not None:
            x = run_torso(self.make_torso(config), x)
            x = pool_picture(config, x) if config.pool and x.ndim == 4 else x
        psi = join(x).T
        shared, own = split_hidden(config.hidden, self.make_torso is not None)
        for i, width in enumerate(shared):
            psi = Hidden(config, width, name=f"Hidden_{i}")(psi)
        if self.make_memory is not None:
            carry, psi = remember(self.make_memory(config), psi, obs)

        prefix = "Advantage_" if config.dueling else ""
        actions = make_stream(config, prefix, own, len(shared), num_actions * num_atoms)
        value = make_stream(config, "Value_", own, len(shared), num_atoms) if config.dueling else None

        def evaluate(features: Array) -> Array:
            x = run_stream(actions, features, key, role)
            x = x.reshape(num_actions, num_atoms, *x.shape[1:])
            return x if value is None else duel(run_stream(value, features, key, role), x, sizes)

        dist = READERS[self.outputs.fractions](self, psi, evaluate, key, role)
        return dist if self.make_memory is None else (dist, carry)


def read_fixed(network: QNetwork, psi: Array, evaluate: Evaluate, key: Array | None, role: Role) -> Dist:
    """A distribution on the head's own support."""
    del key, role
    count = network.outputs.num_atoms
    x = jnp.moveaxis(evaluate(psi), -1, 0)
    support = jnp.broadcast_to(jnp.asarray(network.outputs.support, jnp.float32), (x.shape[0], count))
    return Dist(x=x, support=support, weight=jnp.full_like(support, 1.0 / count))


def at_fractions(network: QNetwork, psi: Array, evaluate: Evaluate) -> Callable[[Array], Array]:
    """Quantile values of the examples psi [F, B], as a function of fractions [B, N] -> [B, A, N]."""
    embedding = FractionEmbedding(network.config, name="fraction_embedding")
    return lambda tau: jnp.moveaxis(evaluate(embedding(psi, tau))[:, 0], 1, 0)


def read_sampled(network: QNetwork, psi: Array, evaluate: Evaluate, key: Array | None, role: Role) -> Dist:
    """Quantile values at fractions that are drawn (iqn, Dabney et al. 2018b)."""
    tau = draw_fractions(network.config, key, role, psi.shape[1])
    x = at_fractions(network, psi, evaluate)(tau)
    return Dist(x=x, support=tau, weight=jnp.full_like(tau, 1.0 / tau.shape[1]))


def read_proposed(network: QNetwork, psi: Array, evaluate: Evaluate, key: Array | None, role: Role) -> Dist:
    """Quantile values at the midpoints of proposed fractions (fqf, Yang et al. 2019), each network's own proposal.

    No gradient passes between proposal and quantiles: the torso and the quantile values learn from `Dist.x` alone, and
    the proposal from `Proposal.boundary` and `Proposal.entropy` alone.
    """
    del key
    quantiles = at_fractions(network, psi, evaluate)
    logits = make_proposal_layer(network.config.num_quantiles)(stop_gradient(psi)).T
    parts = partition(logits)
    tau = stop_gradient(parts.midpoint)
    dist = Dist(x=quantiles(tau), support=tau, weight=stop_gradient(parts.width))
    if role != "online":
        return dist
    # A pass of its own, which needs no backward pass.
    x = stop_gradient(quantiles(stop_gradient(parts.boundary)))
    return dist.replace(proposal=Proposal(boundary=parts.boundary, x=x, entropy=parts.entropy))  # type: ignore[attr-defined]


READERS: dict[str, Callable[[QNetwork, Array, Evaluate, Array | None, Role], Dist]] = {
    "fixed": read_fixed,
    "sampled": read_sampled,
    "proposed": read_proposed,
}


class Network(NamedTuple):
    """A network as pure functions. One with a memory is fed a `Window` wherever another is fed observations."""

    init: Callable[[Array], Any]
    """(key) -> parameters, with the statistics (see `types.STATISTICS`), if any, in the same pytree."""
    apply: Callable[[Any, Any, Array | None, Role], Dist]
    """(parameters, obs [B, ...] or a tree of such, key, role) -> Dist with x [B, A, N], support and weight [B, N]; B
    examples do not mix, except by batch norm in the role `online`. The key may be None if nothing is drawn."""
    refresh: Callable[[Any, Any], Any] | None = None
    """(parameters, obs [B, ...]) -> parameters whose statistics have been moved on: batch norm's towards the batch's,
    spectral norm's vectors by one step of power iteration; None where a network keeps none."""
    first: Callable[[Any], tuple["Network", Any]] | None = None
    """Of an ensemble: its parameters -> the network of one member, and the first member's parameters."""
    remember: Callable[[Any, Window, Array | None, Role], tuple[Dist, Any]] | None = None
    """`apply` of a network with a memory, with what is carried after the window; None without one."""
    init_carry: Callable[[int], Any] = lambda num_envs: ()
    """(E) -> `Recall` before the first episodes; () without a memory."""

    def step(self, params: Any, obs: Any, recall: Any, key: Array | None, role: Role) -> tuple[Dist, Any]:
        """One step of E environments, with or without a memory.

        Args:
          params: parameters.
          obs: [E, ...], or a tree of such.
          recall: from `init_carry` or the step before, told by `windows.begin` where episodes begin.
          key: as in `apply`.
          role: likewise.

        Returns:
          `Dist` of [E, ...], and what is carried on.
        """
        if self.remember is None:
            return self.apply(params, obs, key, role), recall
        dist, carry = self.remember(params, one_step(obs, recall), key, role)
        return dist, Recall(carry, jnp.zeros_like(recall.starts))


def make_network(
    config: Config,
    spec: EnvSpec,
    outputs: Outputs,
    torso: MakeTorso | None = None,
    memory: MakeMemory | None = None,
) -> Network:
    """The configured network for an environment and a head.

    Args:
      config: names torso, widths, activation, initialiser and norm, and whether there are two streams and noise.
      spec: shapes of the observation and number of actions.
      outputs: what the head reads.
      torso: config -> module mapping features [B, ...], or a tree of such, to [B, ...]; None looks up `config.network`
        in `TORSOS`.
      memory: config -> module, see `networks.memory`; None for no memory.

    Raises:
      SettingError: if there is no torso of that name, or it cannot take the observation's shape, or its output is
        smaller than what it is pooled to; of a whole network see `whole.check_whole`.
    """
    if torso is None:
        found = find_torso(config, spec)
        if found.whole and found.make is not None:
            return Network(*make_whole(config, spec, outputs, found.make, features_of))
        torso = found.make
    module = QNetwork(config, spec, outputs, torso, memory)
    # Of the same parameters, which may be wanted where no shard's axes are bound.
    in_one_piece = QNetwork(config.in_one_piece, spec, outputs, torso, memory)

    cell: Any = memory and memory(config)

    def init_carry(num_envs: int) -> Recall:
        return Recall(cell.init_carry(num_envs), jnp.ones(num_envs, bool))

    def init(key: Array) -> Any:
        first = zeros(spec, 1)
        return in_one_piece.init(key, one_step(first, init_carry(1)) if memory else first, key, "online")

    def with_noise(params: Any, obs: Any, key: Array | None, role: Role) -> Any:
        if not config.noisy or memory or key is None or role == "greedy" or jax.default_backend() != "gpu":
            return params
        draws = jax.tree.leaves(obs)[0].shape[0] if role == "act" else 1
        return params | draw_at_once(params["params"], key, draws)

    def apply(params: Any, obs: Any, key: Array | None, role: Role) -> Any:
        return module.apply(with_noise(params, obs, key, role), obs, key, role)

    def apply_with_statistics(params: Any, obs: Any, key: Array | None, role: Role) -> Any:
        if role != "online":
            return apply(params, obs, key, role)
        # Statistics that may be written are not read; what is written is dropped here and left to `refresh`.
        return module.apply(with_noise(params, obs, key, role), obs, key, role, mutable=[STATISTICS])[0]

    def refresh(params: Any, obs: Any) -> Any:
        # In the role `greedy`, which draws nothing and makes one pass through every layer.
        _, statistics = module.apply(params, obs, None, "greedy", mutable=[STATISTICS])
        return {**params, **jax.lax.stop_gradient(statistics)}

    if config.pool:
        # For its error alone: to go through every network's layers would make each start later.
        jax.eval_shape(lambda: init(jax.random.key(0)))
    made = Network(init=init, apply=apply)
    if config.norm == "batch" or config.spectral_norm:
        made = Network(init=init, apply=apply_with_statistics, refresh=refresh)
    return made if memory is None else with_memory(made, init_carry)


def with_memory(network: Network, init_carry: Callable[[int], Recall]) -> Network:
    """A network whose `apply` gives a `Dist` and what is carried, as one with a memory."""
    both: Any = network.apply
    return network._replace(apply=lambda *given: both(*given)[0], remember=both, init_carry=init_carry)
