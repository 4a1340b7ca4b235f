"""Resets: every so many updates fresh parameters, and a torso that keeps a share of the old ones.

Nikishin et al. 2022 (resets), Ash & Adams 2020 (shrink and perturb), D'Oro et al. 2023 (SR-SPR) and Schwarzer et al.
2023 (BBF), who shrink and perturb the encoder and draw the head anew.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, require
from purejaxdqn.learning.optim import make_optimizer
from purejaxdqn.machine.any_lane import where_needed
from purejaxdqn.machine.shapes import assert_array, assert_arrays
from purejaxdqn.machine.threefry import in_a_loop
from purejaxdqn.observations.moments import RUNNING
from purejaxdqn.types import PRIOR, Hypers, Learner, is_under

FRESH = 0x0F2E54
"""Folded into the key of a learning phase, so that its other draws do not change with a reset."""


def shrink_and_perturb(old: Any, fresh: Any, shrink: float | Array, torso: str) -> Any:
    """Parameters after a reset: shrink · old + (1 - shrink) · fresh in the torso, fresh in all other layers.

    What a torso keeps without learning it (running means) goes the same way; an ensemble's priors never change, and
    neither does what is known of observations and rewards.

    Args:
      old: parameters, any pytree with names on its paths.
      fresh: newly drawn ones, of the same structure.
      shrink: share of the torso's old parameters that stays, [] in [0, 1].
      torso: name of the torso's module.
    """
    assert_array("shrink", shrink, ())

    def renewed(path: Any, before: Array, new: Array) -> Array:
        if is_under(path, PRIOR) or is_under(path, RUNNING):
            return before
        return shrink * before + (1.0 - shrink) * new if is_under(path, torso) else new

    return jax.tree_util.tree_map_with_path(renewed, old, fresh)


def last_reset(h: Hypers, updates: Array) -> Array:
    """The number of updates after which the newest reset is due, 0 before the first; int32 [].

    Args:
      h: a reset is due after every `reset_period` updates, and none after more than `reset_until`.
      updates: made so far, int [].
    """
    assert_arrays((), int, updates=updates, reset_period=h.reset_period, reset_until=h.reset_until)
    return jnp.minimum(updates, h.reset_until) // h.reset_period * h.reset_period


def with_resets(
    learn: Callable[..., Any], config: Config, fresh: Callable[[Array], Any], torso: str
) -> Callable[..., Any]:
    """A learning phase that begins with a reset where one is due: after the run's last update there is none.

    Parameters, target network and moving average are reset with the same fresh parameters, and the optimiser's state is
    a fresh one.

    Args:
      learn: (learner, memory, rows, key, hypers) -> learner, memory, metrics.
      config: names the optimiser, and says how many updates a phase has.
      fresh: key -> parameters.
      torso: as in `shrink_and_perturb`.
    """

    def renew(old: Any, key: Array, shrink: Array) -> Any:
        new = fresh(in_a_loop(key))
        *networks, _ = old
        renewed = [shrink_and_perturb(tree, new, shrink, torso) if jax.tree.leaves(tree) else tree for tree in networks]
        # What a fresh state is does not depend on the hypers.
        return (*renewed, make_optimizer(config, Hypers(), jnp.zeros((), jnp.int32)).init(renewed[0]))

    reset = where_needed(renew)

    def learn_or_reset(learner: Learner, memory: Any, rows: Any, key: Array, h: Hypers) -> Any:
        updates = learner.updates.count
        due = last_reset(h, updates)
        # A period that is no multiple of a phase's updates has its reset at the beginning of the next phase.
        now = jnp.logical_and(due > 0, updates - due < config.updates_per_iteration)
        old = (learner.params, learner.target_params, learner.average, learner.opt_state)
        fresh_key = jax.random.fold_in(jax.random.fold_in(key, updates), FRESH)
        params, target_params, average, opt_state = reset(now, old, fresh_key, h.reset_shrink)
        begun = Learner(params, target_params, opt_state, learner.updates, average, learner.returns)
        return learn(begun, memory, rows, key, h)

    return learn_or_reset


def check_resets(config: Config, h: Hypers) -> None:
    """Raises `SettingError` for a period that the run does not have, or that is no whole number of learning phases.

    Args:
      config: static settings.
      h: traced settings as Python numbers.
    """
    if not config.resets:
        return
    period, phase, run = int(h.reset_period), config.updates_per_iteration, config.num_updates
    remedy = f"the run makes {run:,} updates, so it would have no reset: use fewer, or leave out --resets"
    require(period < run, "reset_period", period, remedy)
    lower = period - period % phase
    near = f"{lower} or {lower + phase}" if lower else f"{phase}"
    remedy = f"a learning phase makes {phase} updates: use a multiple of that, such as {near}"
    require(period % phase == 0, "reset_period", period, remedy)
