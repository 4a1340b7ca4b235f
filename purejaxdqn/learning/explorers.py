"""Explorers: how actions are chosen while training, from action values, ε and what is carried from step to step."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from purejaxdqn.config import require
from purejaxdqn.learning.explore import best_action, drawn_action, epsilon_greedy
from purejaxdqn.machine.part_values import count_actions, numbers_of
from purejaxdqn.machine.random_bits import index_from_bits, uniform_from_bits
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Hypers


class Explorer(NamedTuple):
    """A way to explore. With probability ε each of them acts uniformly at random."""

    act: Callable[..., tuple[Array, Any]]
    """(key, action values float32 [E, A], ε [] or [E], carried, hypers) -> actions int32 [E], carried. In an
    environment with action masks there is one more argument, bool [E, A]: the legal actions. With --branching the
    values are `PartValues`, which `explore.best_action` knows."""
    init: Callable[[int], Any] = lambda num_envs: ()
    """(E) -> what is carried from step to step, each leaf [E, ...], before the first episodes; () for nothing."""
    begin: Callable[[Any, Array], Any] = lambda carried, begins: carried
    """(carried, begins bool [E]) -> carried, as it is where an episode begins."""
    per_member: bool = False
    """Whether `act` is given the values of every member of an ensemble, [E, K, A]."""


def check_takes_masks(name: str, explorer: Explorer) -> None:
    """Raises `SettingError` where an explorer's `act` has no place for the legal actions."""
    takes = len(inspect.signature(explorer.act).parameters) > 5
    remedy = (
        "the environment says which actions are legal: give its act one more argument, mask bool [E, A], and heed it"
    )
    require(takes, "explorer", name, remedy)


def plain() -> Explorer:
    """ε-greedy: one coin for every environment and step."""

    def act(
        key: Array, q_values: Any, epsilon: Array, carried: Any, h: Hypers, mask: Array | None = None
    ) -> tuple[Array, Any]:
        del h
        return epsilon_greedy(key, q_values, epsilon, mask), carried

    return Explorer(act)


def boltzmann() -> Explorer:
    """Actions from softmax(q / `boltzmann_temperature`), and uniform ones with probability ε (Sutton & Barto, 2.8)."""

    def act(
        key: Array, q_values: Any, epsilon: Array, carried: Any, h: Hypers, mask: Array | None = None
    ) -> tuple[Array, Any]:
        coin_key, action_key = jax.random.split(key)
        # The largest of values with Gumbel noise is a draw from their softmax, so ε-greedy does the rest.
        noise = h.boltzmann_temperature * jax.random.gumbel(action_key, numbers_of(q_values).shape)
        noisy = jax.tree.map(lambda q: q + noise, q_values)
        return epsilon_greedy(coin_key, noisy, epsilon, mask), carried

    return Explorer(act)


class Repeat(NamedTuple):
    """An action that is being repeated; both int32 [E]."""

    action: Array
    left: Array
    """Steps that are left of it; 0 where none is being repeated."""


def zeta_duration(bits: Array, exponent: float | Array, cap: int) -> Array:
    """Durations n from 1 to `cap` with probabilities proportional to n^-exponent, int32 of the shape of `bits`.

    Args:
      bits: uint32 [E], uniform.
      exponent: μ of the zeta distribution, [].
      cap: longest duration.
    """
    assert_array("bits", bits, (None,))
    log_mass = -exponent * jnp.log(jnp.arange(1, cap + 1, dtype=jnp.float32))
    below = jnp.cumsum(jnp.exp(log_mass - logsumexp(log_mass)))[:-1]
    return 1 + jnp.sum(uniform_from_bits(bits)[:, None] >= below[None], axis=1, dtype=jnp.int32)


def ez_greedy(cap: int) -> Explorer:
    """εz-greedy (Dabney et al. 2021, algorithm 1): what ε draws is repeated for a duration from a zeta distribution.

    Its exponent is `duration_exponent`, 2 in the paper. An episode's end ends the repetition, and so does a state where
    the action is illegal.

    Args:
      cap: longest duration, in steps.
    """

    def act(
        key: Array, q_values: Any, epsilon: Array, carried: Repeat, h: Hypers, mask: Array | None = None
    ) -> tuple[Array, Repeat]:
        assert_array("q_values", numbers_of(q_values), (None, None), float)
        num_envs, num_actions = len(numbers_of(q_values)), count_actions(q_values)
        coin, action, duration = jax.random.bits(key, (3, num_envs), jnp.uint32)
        going = carried.left > 0
        if mask is not None:
            going = jnp.logical_and(going, jnp.take_along_axis(mask, carried.action[:, None], axis=1)[:, 0])
        starts = jnp.logical_and(~going, uniform_from_bits(coin) < epsilon)
        held = jnp.where(going, carried.action, drawn_action(action, num_actions, mask))
        steps = jnp.where(going, carried.left, zeta_duration(duration, h.duration_exponent, cap))
        explores = jnp.logical_or(going, starts)
        chosen = jnp.where(explores, held, best_action(q_values, mask))
        return chosen, Repeat(held, jnp.where(explores, steps - 1, 0))

    def init(num_envs: int) -> Repeat:
        return Repeat(jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs, jnp.int32))

    def begin(carried: Repeat, begins: Array) -> Repeat:
        return carried._replace(left=jnp.where(begins, 0, carried.left))

    return Explorer(act, init, begin)


NOBODY = -1
"""The member of an environment that has not drawn one for its episode."""


def bootstrapped(num_members: int) -> Explorer:
    """Greedy for one member of an ensemble, drawn where an episode begins and held for it (Osband et al. 2016).

    Args:
      num_members: K.

    Raises:
      SettingError: for fewer than two members.
    """
    remedy = "the bootstrapped explorer holds one member of several for an episode: use at least 2, such as 10"
    require(num_members > 1, "ensemble", num_members, remedy)

    def act(
        key: Array, values: Any, epsilon: Array, carried: Array, h: Hypers, mask: Array | None = None
    ) -> tuple[Array, Array]:
        del h
        assert_array("values", numbers_of(values), (None, num_members, None), float)
        draw_key, action_key = jax.random.split(key)
        drawn = index_from_bits(jax.random.bits(draw_key, carried.shape, jnp.uint32), num_members)
        member = jnp.where(carried == NOBODY, drawn, carried)
        # By a mask: an index costs a gather.
        own = jnp.arange(num_members)[None] == member[:, None]
        q_values = jax.tree.map(lambda q: jnp.sum(jnp.where(own[..., None], q, 0.0), axis=1), values)
        return epsilon_greedy(action_key, q_values, epsilon, mask), member

    def init(num_envs: int) -> Array:
        return jnp.full(num_envs, NOBODY, jnp.int32)

    return Explorer(act, init, lambda carried, begins: jnp.where(begins, NOBODY, carried), per_member=True)
