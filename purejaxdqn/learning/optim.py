"""The optimiser from Config and Hypers, and target updates."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from purejaxdqn.config import Config
from purejaxdqn.learning.schedules import linear_schedule
from purejaxdqn.machine.shapes import assert_array, assert_arrays, assert_same_trees
from purejaxdqn.observations.moments import RUNNING
from purejaxdqn.types import PRIOR, PROPOSAL, STATISTICS, Hypers, is_under

Params = TypeVar("Params")


def make_optimizer(config: Config, h: Hypers, updates: Array) -> optax.GradientTransformation:
    """The gradient transformation at one update: clip by global norm, then Adam, RAdam, RMSProp or plain descent.

    It is rebuilt inside the trace from traced hypers, so that new hypers cause no recompilation; its state has the same
    structure whatever the hypers, so the state of one update serves the next. Its moments are of all parameters in one
    vector, except with batch norm: a network's many small arrays cost more in calls than in arithmetic.

    Args:
      config: names the optimiser and the learning-rate schedule.
      h: learning rates, Adam's ε, AdamW's weight decay, largest gradient norm.
      updates: gradient updates already made, int [].
    """
    assert_array("updates", updates, (), int)
    scale_by = {
        **dict.fromkeys(("adam", "adamw"), lambda: optax.scale_by_adam(eps=h.adam_epsilon)),
        # Rectified Adam (Liu et al. 2020), which PQN's authors use.
        "radam": lambda: scale_by_radam(h.adam_epsilon),
        # Centred, decay .95 and ε inside the root: Mnih et al. 2015's RMSProp as DQN Zoo writes it.
        "rmsprop": lambda: optax.scale_by_stddev(decay=0.95, eps=h.adam_epsilon),
        "sgd": optax.identity,
    }[config.optimizer]
    learning_rate = learning_rate_at(config, h, updates)
    inner = optax.chain(
        optax.clip_by_global_norm(h.max_grad_norm), scale_by(), optax.scale_by_learning_rate(learning_rate)
    )
    joined = optax.flatten(inner) if in_one_vector(config) else inner
    decay = [decay_weights(learning_rate * h.weight_decay)] if config.optimizer == "adamw" else []
    return optax.chain(joined, *decay, scale_proposal(h.fraction_lr_scale))


def scale_by_radam(eps: float | Array) -> optax.GradientTransformation:
    """Rectified Adam (Liu et al. 2020, algorithm 2) with decays of 0.9 and 0.999; its state is optax's.

    It differs from `optax.scale_by_radam` in one thing: the moments' bias is taken off by a factor. XLA writes a
    division of an array by one number as a product in some programs and not in others, and so lanes on two devices were
    not bit for bit what they are alone.

    Args:
      eps: added to the root of the second moment, [].
    """
    decays, rectified_from = (0.9, 0.999), 5.0
    rho_inf = 2.0 / (1.0 - decays[1]) - 1.0

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        mu = optax.tree.update_moment(grads, state.mu, decays[0], 1)
        nu = optax.tree.update_moment_per_elem_norm(grads, state.nu, decays[1], 2)
        count = state.count + 1
        first, second = (1.0 / (1.0 - decay**count) for decay in decays)
        rho = rho_inf - 2.0 * count * decays[1] ** count * second
        variance = (rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)

        def step(m: Array, v: Array) -> Array:
            rectified = jnp.sqrt(variance) * (m * first) / (jnp.sqrt(v * second) + eps)
            return jnp.where(rho >= rectified_from, rectified, m * first)

        return jax.tree.map(step, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def learning_rate_at(config: Config, h: Hypers, updates: Array) -> float | Array:
    """The step size [] after some updates, int []."""
    return {
        "constant": lambda: h.learning_rate,
        "linear": lambda: linear_schedule(updates, h.learning_rate, h.learning_rate_final, float(config.num_updates)),
    }[config.learning_rate_schedule]()


def in_one_vector(config: Config) -> bool:
    """Whether the optimiser works on all parameters in one vector, or array by array, as with batch norm.

    The gradient of a bias before a batch norm is rounding error alone, which Adam turns into full steps. In one vector
    these differed between two programs, so a lane was not bit-identical to its solo run.
    """
    return config.norm != "batch"


def global_norm(config: Config, grads: Any) -> Array:
    """The norm of all gradients together, [], summed as for the clipping: a compiler then computes it once for both."""
    return optax.tree.norm(ravel_pytree(grads)[0] if in_one_vector(config) else grads)


def decay_weights(share: float | Array) -> optax.GradientTransformation:
    """Takes a share of every parameter off it, apart from the gradient's moments (Loshchilov & Hutter 2019, AdamW).

    Biases and the norms' scales decay too, as in optax and PyTorch; statistics and priors are not learnt, and stay.

    Args:
      share: learning rate times weight decay, [].
    """

    def decayed(path: Any, change: Array, param: Array) -> Array:
        kept = any(is_under(path, name) for name in (STATISTICS, PRIOR, RUNNING))
        return change if kept else change - share * param

    return optax.stateless(lambda changes, params: jax.tree_util.tree_map_with_path(decayed, changes, params))


def scale_proposal(scale: float | Array) -> optax.GradientTransformation:
    """Scales the updates of a fraction proposal, if there is one, after the optimiser's moments have normalised them.

    The proposal has to learn much more slowly than the quantiles that it chooses from (Yang et al. 2019, appendix).

    Args:
      scale: [].
    """

    def scaled(path: Any, change: Array) -> Array:
        return change * scale if is_under(path, PROPOSAL) else change

    return optax.stateless(lambda changes, params: jax.tree_util.tree_map_with_path(scaled, changes))


def soft_update(params: Params, target_params: Params, tau: float | Array) -> Params:
    """Polyak averaging, τθ + (1 - τ)θ⁻ (Lillicrap et al. 2016); τ = 1 is a hard copy, τ = 0 changes nothing.

    Args:
      params: online parameters, any pytree.
      target_params: target parameters, of the same structure.
      tau: [] in [0, 1].
    """
    assert_same_trees(params=params, target_params=target_params)
    assert_array("tau", tau, ())
    return jax.tree.map(lambda online, target: tau * online + (1.0 - tau) * target, params, target_params)


def hard_update(params: Params, target_params: Params, updates: Array, period: int | Array) -> Params:
    """The online parameters after every `period`-th update, else the target's (Mnih et al. 2015).

    Args:
      params: online parameters, any pytree.
      target_params: target parameters, of the same structure.
      updates: gradient updates made, int [].
      period: gradient updates between two copies, [].
    """
    return periodic_update(params, target_params, updates, period, 1.0)


def periodic_update(
    params: Params, target_params: Params, updates: Array, period: int | Array, tau: float | Array
) -> Params:
    """`soft_update` with τ after every `period`-th update, without a branch: a `cond` over lanes would run both sides.

    Args:
      params: online parameters, any pytree.
      target_params: target parameters, of the same structure.
      updates: gradient updates made, int [].
      period: gradient updates between two target updates, [].
      tau: [] in [0, 1].
    """
    assert_arrays((), int, updates=updates, period=period)
    assert_array("tau", tau, ())
    return soft_update(params, target_params, jnp.where(updates % period == 0, tau, 0.0))


def moving_average(params: Params, average: Params, updates: Array, decay: float | Array) -> Params:
    """An exponential moving average of the parameters after each update (Polyak & Juditsky 1992).

    Until it has seen 1 / (1 - decay) of them it is their plain mean, so that it forgets the first ones at once.

    Args:
      params: after the update, any pytree.
      average: the newest average, of the same structure.
      updates: gradient updates made before this one, int [].
      decay: share of the average that is kept, [] in [0, 1).
    """
    assert_array("updates", updates, (), int)
    return soft_update(params, average, jnp.maximum(1.0 - decay, 1.0 / (updates + 1)))
