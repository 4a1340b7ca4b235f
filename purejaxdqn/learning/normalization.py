"""Running statistics of a run's observations and rewards, of its fresh steps alone; rewards scaled where they are read.

A replay keeps what the environment gave, so that old rows are read by the newest statistics. They are those of
Stable-Baselines3's VecNormalize and Gymnasium's NormalizeObservation and NormalizeReward: rewards are divided by the
standard deviation of the environments' running discounted returns (Engstrom et al. 2020).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.machine.shapes import assert_array, assert_arrays
from purejaxdqn.machine.shards import Shards, make_shards
from purejaxdqn.observations.leaves import list_leaves
from purejaxdqn.observations.moments import (
    LARGEST,
    LEAST_VARIANCE,
    RUNNING,
    Moments,
    follow_obs,
    is_real,
    join_moments,
    moments_of,
    no_moments,
    no_obs_moments,
)
from purejaxdqn.types import Hypers, Learner, Row


@struct.dataclass
class RewardScale:
    """What a reward's size is measured by."""

    returns: Moments
    """[], of the running discounted returns."""
    largest: Array
    """float32 [], the largest |reward| so far."""


class Seen(NamedTuple):
    """What a learner keeps of the steps that it has been given."""

    statistics: Any
    """The collection `RUNNING` of its parameters; {} where nothing is normalised."""
    returns: Any
    """`Learner.returns`."""


FollowFn = Callable[[Seen, Row, Hypers], Seen]
"""(seen so far, fresh rows [T, E], hypers) -> seen."""


def keep_seen(seen: Seen, rows: Row, h: Hypers) -> Seen:
    """Nothing is normalised, and nothing followed."""
    del rows, h
    return seen


def fresh_statistics(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """The statistics that a configuration asks for, before the first step; {} for none.

    Raises:
      SettingError: where there are observations to be normalised, and no array of floats among them.
    """
    found: dict[str, Any] = {}
    if config.normalize_obs:
        remedy = f"{spec.env_id} gives no observations of floats: leave it out"
        require(any(map(is_real, list_leaves(spec))), "normalize_obs", True, remedy)
        found["obs"] = no_obs_moments(spec)
    if config.normalize_reward:
        found["reward"] = RewardScale(no_moments(()), jnp.zeros(()))
    return found


def discounted_returns(running: Array, rewards: Array, ended: Array, valid: Array, gamma: Any) -> tuple[Array, Array]:
    """R ← γR + r in each environment, from 0 where an episode begins.

    Args:
      running: float32 [E], before the steps.
      rewards: float32 [T, E].
      ended: bool [T, E].
      valid: bool [T, E]; a row that is no transition lies between two episodes.
      gamma: discount per step, [].

    Returns:
      R after all steps [E], 0 where an episode has ended, and after each step [T, E].
    """
    assert_array("rewards", rewards, (None, *running.shape), float)
    assert_arrays(rewards.shape, bool, ended=ended, valid=valid)
    assert_array("gamma", gamma, ())

    def follow(before: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        reward, over, counts = step
        after = jnp.where(counts, gamma * before + reward, 0.0)
        return jnp.where(over, 0.0, after), after

    return jax.lax.scan(follow, running, (rewards, ended, valid))


def follow_rewards(
    shards: Shards, before: RewardScale, returns: Array, rows: Row, gamma: float | Array
) -> tuple[RewardScale, Array]:
    """The scale of rewards and the running returns [num_envs] after rows [T, E] of each shard."""
    ended = jnp.logical_or(rows.terminated, rows.truncated)
    # Three numbers a step: every shard follows the environments of all.
    parts = shards.gather((rows.reward, ended, rows.valid))
    rewards, ended, valid = (jnp.moveaxis(part, 0, 1).reshape(part.shape[1], -1) for part in parts)
    returns, each = discounted_returns(returns, rewards, ended, valid, gamma)
    largest = jnp.max(jnp.where(valid, jnp.abs(rewards), 0.0))
    moments = join_moments(before.returns, moments_of(each.reshape(-1), valid.reshape(-1)))
    return RewardScale(moments, jnp.maximum(before.largest, largest)), returns


def make_follow(config: Config, spec: EnvSpec) -> FollowFn:
    """How a configuration's statistics move with fresh rows.

    Of observations those count that were acted on, once each: an episode's first one does, and its last one, which
    nothing is asked of, does not. γ is that of the hypers, whatever anneals it for the targets.
    """
    if not (config.normalize_obs or config.normalize_reward):
        return keep_seen
    shards = make_shards(config.data_parallel)

    def follow(seen: Seen, rows: Row, h: Hypers) -> Seen:
        # A part of the program of its own: fused with what is around it, its sums may be rounded otherwise in a program
        # of more lanes, and a lane would not be its solo run to the last bit.
        seen, rows = jax.lax.optimization_barrier((seen, rows))
        statistics, returns = dict(seen.statistics), seen.returns
        if config.normalize_obs:
            statistics["obs"] = follow_obs(shards, spec, statistics["obs"], rows.obs, rows.valid)
        if config.normalize_reward:
            statistics["reward"], returns = follow_rewards(shards, statistics["reward"], returns, rows, h.gamma)
        return jax.lax.optimization_barrier(Seen(statistics, returns))

    return follow


def seen_of(learner: Learner) -> Seen:
    """What a learner has seen."""
    return Seen(learner.params.get(RUNNING, {}), learner.returns)


def with_seen(learner: Learner, seen: Seen) -> Learner:
    """A learner all of whose networks have these statistics; itself where it keeps none."""
    if not jax.tree.leaves(seen):
        return learner

    def renewed(params: Any) -> Any:
        # Copies, not aliases: donating a state in which two leaves are one buffer is an error.
        return {**params, RUNNING: jax.tree.map(jnp.copy, seen.statistics)} if jax.tree.leaves(params) else params

    networks = {name: renewed(getattr(learner, name)) for name in ("params", "target_params", "average")}
    return learner.replace(**networks, returns=seen.returns)  # type: ignore[attr-defined]


def follow_rows(learner: Learner, follow: Callable[[Seen], Seen]) -> Learner:
    """A learner after `follow` of what it has seen; itself where it keeps nothing of that."""
    seen = seen_of(learner)
    return with_seen(learner, follow(seen)) if jax.tree.leaves(seen) else learner


def with_following(learn: Callable[..., Any], follow: FollowFn) -> Callable[..., Any]:
    """A learning phase whose rows, where it is given some, are followed before anything is learnt from them.

    Where nothing is normalised it is the phase as it was.

    Args:
      learn: (learner, memory, rows or None, key, hypers) -> learner, memory, metrics.
      follow: of the run.
    """

    if follow is keep_seen:
        return learn

    def follow_and_learn(learner: Learner, memory: Any, rows: Row | None, key: Array, h: Hypers) -> Any:
        if rows is not None:
            learner = follow_rows(learner, lambda seen: follow(seen, rows, h))
        return learn(learner, memory, rows, key, h)

    return follow_and_learn


def scale_reward(scale: RewardScale | None, reward: Array) -> Array:
    """Rewards in units of the standard deviation of the running discounted returns; without a scale as they are.

    VecNormalize cuts what is then beyond ±10. A cut would not be linear, and of a reward that was folded over several
    steps it would be another one; so the unit is at least a tenth of the largest reward so far, and none is beyond.

    Args:
      scale: from fresh steps, up to now.
      reward: float32 [...], of one step or folded over some.
    """
    if scale is None:
        return reward
    unit = jnp.maximum(jnp.sqrt(scale.returns.variance + LEAST_VARIANCE), scale.largest / LARGEST)
    # As an array of its own, since rounding might depend on what it is fused with.
    return jax.lax.optimization_barrier(reward / unit)


def read_reward(params: Any, reward: Array) -> Array:
    """`scale_reward` by the statistics among a network's parameters, if they have them."""
    return scale_reward(params.get(RUNNING, {}).get("reward"), reward)
