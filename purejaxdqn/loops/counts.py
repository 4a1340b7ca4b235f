"""What a chunk of the device loop counts: running episodes, the log of those that ended, and sums over updates."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.learn import LearnMetrics
from purejaxdqn.types import EpisodeLog, Episodes, Metrics, Row


def empty_log(size: int) -> Any:
    """A log before the first episode; () if nothing is logged."""
    if size == 0:
        return ()
    real, integer = jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.int32)
    return EpisodeLog(episode_return=real, learning_return=real, episode_length=integer, vector_steps=integer)


def zero_metrics(log_size: int = 0) -> Metrics:
    """Metrics of a chunk before its first iteration."""
    integer, real = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
    return Metrics(
        episodes=integer,
        return_sum=real,
        return_max=jnp.full((), -jnp.inf, jnp.float32),
        length_sum=real,
        env_steps=integer,
        updates=integer,
        loss_sum=real,
        q_sum=real,
        td_sum=real,
        grad_norm_sum=real,
        epsilon=real,
        log=empty_log(log_size),
    )


class Followed(NamedTuple):
    """Running episodes after a vector step, before those that ended in it are reset; each [E], or [T, E]."""

    valid: Array
    done: Array
    episode_return: Array
    learning_return: Array
    episode_length: Array


def follow_episodes(episodes: Episodes, row: Row, learnt: Row) -> tuple[Episodes, Followed]:
    """Adds one vector step to the running episodes, without counting those that ended.

    Args:
      episodes: before the step.
      row: as the environment gave it.
      learnt: the same row as the learner sees it.
    """
    valid = row.valid
    followed = Followed(
        valid=valid,
        done=jnp.logical_and(valid, jnp.logical_or(row.terminated, row.truncated)),
        episode_return=episodes.episode_return + jnp.where(valid, row.reward, 0.0),
        learning_return=episodes.learning_return + jnp.where(valid, learnt.reward, 0.0),
        episode_length=episodes.episode_length + valid,
    )
    running = Episodes(
        episode_return=jnp.where(followed.done, 0.0, followed.episode_return),
        episode_length=jnp.where(followed.done, 0, followed.episode_length),
        learning_return=jnp.where(followed.done, 0.0, followed.learning_return),
        ended=episodes.ended,
    )
    return running, followed


def count_ended(episodes: Episodes, followed: Followed) -> Episodes:
    """Counts the episodes that ended."""
    return dataclasses.replace(episodes, ended=episodes.ended + jnp.sum(followed.done))


def add_episodes(metrics: Metrics, followed: Followed, vector_steps: Array) -> Metrics:
    """Adds the episodes that ended in a rollout to the metrics, once for all of its steps.

    Args:
      metrics: of the chunk so far.
      followed: of the rollout, [T, E].
      vector_steps: of the run, each step included, int32 [T].
    """
    done, log = followed.done, metrics.log
    if log:
        when = jnp.broadcast_to(vector_steps[:, None], done.shape)
        ended = EpisodeLog(followed.episode_return, followed.learning_return, followed.episode_length, when)
        log = write_log(log, metrics.episodes, done.ravel(), jax.tree.map(jnp.ravel, ended))
    return dataclasses.replace(
        metrics,
        episodes=metrics.episodes + jnp.sum(done),
        return_sum=metrics.return_sum + jnp.sum(jnp.where(done, followed.episode_return, 0.0)),
        return_max=jnp.maximum(metrics.return_max, jnp.max(jnp.where(done, followed.episode_return, -jnp.inf))),
        length_sum=metrics.length_sum + jnp.sum(jnp.where(done, followed.episode_length, 0)),
        env_steps=metrics.env_steps + jnp.sum(followed.valid),
        log=log,
    )


def write_log(log: EpisodeLog, before: Array, done: Array, ended: EpisodeLog) -> EpisodeLog:
    """Adds the episodes that a rollout ended.

    Args:
      log: of K entries.
      before: episodes that ended in the chunk before it, int32 [].
      done: bool [N], in the order in which they are to be written.
      ended: what would be written, [N].
    """
    # Beyond the last entry is nowhere, and so is what did not end.
    place = jnp.where(done, before + jnp.cumsum(done) - 1, log.episode_length.shape[0])
    return jax.tree.map(lambda held, new: held.at[place].set(new, mode="drop"), log, ended)


def add_learning(metrics: Metrics, learned: LearnMetrics, updates: int) -> Metrics:
    """Adds one learning phase to the metrics."""
    return dataclasses.replace(
        metrics,
        updates=metrics.updates + updates,
        loss_sum=metrics.loss_sum + learned.loss,
        q_sum=metrics.q_sum + learned.q,
        td_sum=metrics.td_sum + learned.abs_td_error,
        grad_norm_sum=metrics.grad_norm_sum + learned.grad_norm,
    )
