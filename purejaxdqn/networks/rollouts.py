"""Windows of a rollout: of some environments from its start, and of what each of its steps led to."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.networks.qnetwork import Network
from purejaxdqn.networks.windows import Recall, Window, steps_in_a_row
from purejaxdqn.types import Row


def window_of(rows: Row, index: Array) -> Window:
    """The steps of some environments, from what was carried at the first.

    Args:
      rows: [T, E], with `starts` and `carry`.
      index: int32 [B], numbers of environments.
    """
    obs, starts = jax.tree.map(lambda leaf: leaf[:, index], (rows.obs, rows.starts))
    return Window(obs, starts, jax.tree.map(lambda leaf: leaf[0, index], rows.carry))


def observations_after(network: Network, params: Any, rows: Row) -> Any:
    """The true next observation of each step of rows [T, E], [T · E, ...], so that a cut episode goes on being worth
    something; for a network with a memory a window of it alone, with what was carried there."""
    final_obs = steps_in_a_row(rows.final_obs)
    if network.remember is None:
        return final_obs
    # The row after a step has what was carried after it, in another episode too; after the last step nothing has.
    obs, *recall = jax.tree.map(lambda leaf: leaf[-1], (rows.obs, rows.carry, rows.starts))
    last = network.step(params, obs, Recall(*recall), None, "greedy")[1].carry
    after = jax.tree.map(lambda each, newest: jnp.concatenate([each[1:], newest[None]]), rows.carry, last)
    begins = jnp.zeros((1, rows.reward.size), bool)
    return Window(jax.tree.map(lambda leaf: leaf[None], final_obs), begins, steps_in_a_row(after))
