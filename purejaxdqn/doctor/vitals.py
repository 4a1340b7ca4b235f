"""A run's vitals: the measurements by which the checks judge it, in NumPy.

A number is None if it does not apply to a run (a rollout learner has no target network) or could not be read (a
checkpoint without its replay).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.doctor.probes import Probed
from purejaxdqn.doctor.rollouts import Played
from purejaxdqn.doctor.samples import BATCHES, Fed
from purejaxdqn.envs.actions import countable
from purejaxdqn.learning.normalization import scale_reward
from purejaxdqn.networks.windows import observed
from purejaxdqn.observations.leaves import list_leaves
from purejaxdqn.observations.moments import normalize_obs
from purejaxdqn.recipes.algorithms import family
from purejaxdqn.types import Hypers

PERCENTILES = (50, 90, 99, 100)
TINY = 1e-12


@dataclass(frozen=True)
class Vitals:
    """One seed at one moment. Shares are in [0, 1]; values and errors are in units of (shaped, clipped) return."""

    obs_dtype: str | None = None
    """As the environment gives it; of a tree the types of all its arrays."""
    input_min: float | None = None
    """Least value that enters the network, in the batches drawn."""
    input_max: float | None = None
    input_finite: bool | None = None
    obs_dims: int | None = None
    """Values of one observation (of one frame where the replay stores those)."""
    obs_dead_dims: int | None = None
    """How many of them are constant over the newest rows."""
    obs_frozen_share: float | None = None
    """Share of steps within an episode after which the observation is exactly what it was."""
    followed_steps: int | None = None
    """Number of steps that this was measured over."""
    reward_abs_max: float | None = None
    reward_zero_share: float | None = None
    reward_clipped_share: float | None = None
    """Share of the rewards that are not 0 that lie on the bounds of clipping; None if nothing clips them."""
    action_shares: tuple[float, ...] | None = None
    """Shares of the behaviour policy's actions, by action."""
    td_percentiles: tuple[float, ...] | None = None
    """50th, 90th, 99th and 100th of |TD error| over the batches."""
    td_linear_share: float | None = None
    """Share of |TD error| beyond Huber's δ; None for another loss."""
    grad_percentiles: tuple[float, ...] | None = None
    """50th, 90th, 99th and 100th of the global gradient norm over the batches, before clipping."""
    grad_clipped_share: float | None = None
    """Share of gradients with a larger norm than --max-grad-norm."""
    loss: float | None = None
    q_rms: float | None = None
    """Root mean square of Q over the batches and all actions."""
    q_abs_max: float | None = None
    q_jump: float | None = None
    """Largest change of Q by one update over the batches, in root mean square, over the sum of those of Q and of the TD
    errors and the largest reward."""
    policy_churn: float | None = None
    """Mean share of a batch's observations whose greedy action one update changes (Schaul et al. 2022)."""
    target_distance: float | None = None
    """‖θ - θ⁻‖ / ‖θ‖."""
    target_moved: float | None = None
    """Largest change of a target parameter in an update after which no target update is due."""
    target_sync_error: float | None = None
    """Largest distance of a target parameter, after an update at which one is due, from what it should then be."""
    dead_units: dict[str, float] | None = None
    """Share of units, by hidden layer, that have one activation for every observation."""
    replay_fill: float | None = None
    replay_age: float | None = None
    """Mean age of the transitions drawn, in environment steps."""
    replay_duplicates: float | None = None
    """Share of a batch's draws that repeat a transition of the same batch."""
    replay_equal_rows: float | None = None
    """Share of the newest rows (observation, action, reward) that equal an earlier one."""
    episode_lengths: tuple[float, ...] | None = None
    """Least, mean and greatest length of the greedy episodes, as far as they were followed."""
    episodes_terminated: float | None = None
    """Share of them that ended by the environment's rules."""
    greedy_action_shares: tuple[float, ...] | None = None
    start_q: float | None = None
    """Mean of the greatest action value at their starts."""
    start_return: float | None = None
    """Mean of the discounted return actually obtained from there."""
    return_scale: float | None = None
    """The unit of their difference: the root mean square of those returns, or the largest reward."""

    def as_json(self) -> dict[str, Any]:
        """Its numbers by name."""
        return dataclasses.asdict(self)


def reward_clip(config: Config, spec: EnvSpec) -> bool:
    """Whether the learner gets clipped rewards."""
    pictures = any(leaf.dtype == "uint8" and leaf.is_picture for leaf in list_leaves(spec))
    return pictures and family(config.env) == "atari" and bool(dict(config.env_params).get("reward_clip", True))


def action_shares(action: np.ndarray, spec: EnvSpec) -> tuple[float, ...] | None:
    """Share of each action; None where there are too many to count, or none was taken."""
    counted = countable(spec)
    return shares(np.bincount(action, minlength=counted)) if counted else None


def shares(counts: np.ndarray) -> tuple[float, ...] | None:
    """Counts as shares of their sum; None if there is none."""
    total = counts.sum()
    return tuple(float(count) / float(total) for count in counts) if total else None


def percentiles(values: np.ndarray) -> tuple[float, ...] | None:
    """`PERCENTILES` of some values; None without any."""
    return tuple(float(value) for value in np.percentile(values, PERCENTILES)) if values.size else None


def entering(obs: Any, spec: EnvSpec) -> np.ndarray:
    """All numbers of observations as the network's first layer sees them (see `networks.torsos.to_features`)."""
    parts = [
        np.array([0.0, 1.0], np.float32) if leaf.num_values else np.asarray(x, np.float32).ravel() / leaf.divisor
        for leaf, x in zip(list_leaves(spec), jax.tree.leaves(obs), strict=True)
    ]
    return np.concatenate(parts)


def dtypes_of(spec: EnvSpec) -> str:
    """The types of an observation's arrays."""
    return ", ".join(dict.fromkeys(leaf.dtype for leaf in list_leaves(spec)))


def columns_of(trees: Any, count: int) -> list[np.ndarray]:
    """Arrays of [count, ...] as [count, N] each, flat."""
    return [np.ascontiguousarray(leaf).reshape(count, -1) for leaf in jax.tree.leaves(trees)]


def input_vitals(fed: Fed, config: Config, spec: EnvSpec, statistics: Any) -> dict[str, Any]:
    """Vitals of observations, rewards and actions."""
    features = entering(normalize_obs(spec, statistics.get("obs"), observed(fed.batch.obs_tm1)), spec)
    finite = np.isfinite(features)
    found: dict[str, Any] = {
        "obs_dtype": dtypes_of(spec),
        "input_min": float(np.min(features, where=finite, initial=np.inf)),
        "input_max": float(np.max(features, where=finite, initial=-np.inf)),
        "input_finite": bool(finite.all()),
    }
    window: Any = jax.tree.map(np.asarray, fed.window)
    valid = window.valid.astype(bool)
    if not valid.any():
        return found
    obs = np.concatenate(columns_of(window.obs, valid.size), axis=1).reshape(*valid.shape, -1)
    seen = obs[valid]
    ended = window.terminated | window.truncated
    followed = valid[:-1] & ~ended[:-1] & valid[1:]
    same = (obs[1:] == obs[:-1]).all(axis=-1)
    reward = window.reward[valid]
    paid = reward[reward != 0.0]
    clipped = float((np.abs(paid) == 1.0).mean()) if paid.size else 0.0
    found |= {
        "obs_dims": int(obs.shape[-1]),
        "obs_dead_dims": int((seen == seen[0]).all(axis=0).sum()),
        "obs_frozen_share": float(same[followed].mean()) if followed.any() else None,
        "followed_steps": int(followed.sum()),
        "reward_abs_max": float(np.abs(scale_reward(statistics.get("reward"), reward)).max()),
        "reward_zero_share": float((reward == 0.0).mean()),
        "reward_clipped_share": clipped if reward_clip(config, spec) else None,
        "action_shares": action_shares(window.action[valid], spec),
    }
    return found


def equal_rows(fed: Fed) -> float | None:
    """Share of the newest rows that equal an earlier one in observation, action and reward."""
    valid = np.asarray(fed.window.valid).astype(bool)
    if not valid.any():
        return None
    kept = jax.tree.map(lambda leaf: np.asarray(leaf)[valid], (fed.window.obs, fed.window.action, fed.window.reward))
    columns = columns_of(kept, int(valid.sum()))
    rows = np.concatenate([column.view(np.uint8).reshape(len(column), -1) for column in columns], axis=1)
    distinct = len({row.tobytes() for row in rows})
    return 1.0 - distinct / len(rows)


def replay_vitals(fed: Fed, config: Config) -> dict[str, Any]:
    """Fill level, age and repetition of a replay; empty for a learner without one."""
    if isinstance(fed.times, tuple):
        return {}
    times, writers, written = np.asarray(fed.times), np.asarray(fed.writers), int(fed.written)
    index = times.astype(np.int64) * config.num_envs + writers
    repeats = [1.0 - len(np.unique(batch)) / len(batch) for batch in index]
    return {
        "replay_fill": min(1.0, written / config.buffer_rows),
        "replay_age": float((written - times).mean() * config.num_envs),
        "replay_duplicates": float(np.mean(repeats)),
        "replay_equal_rows": equal_rows(fed),
    }


def dead_share(least: Any, greatest: Any) -> float:
    """Share of units [F] with one activation in all batches, from their ranges [K, F] over each."""
    return float((np.min(least, axis=0) == np.max(greatest, axis=0)).mean())


def learning_vitals(fed: Fed, probed: Probed, config: Config, h: Hypers, reward: float) -> dict[str, Any]:
    """What hypothetical updates do to Q, to the errors, and to the target network."""
    counts = np.asarray(fed.weight) > 0.0
    error = np.asarray(probed.abs_td_error)[:BATCHES][counts]
    grad = np.asarray(probed.metrics.grad_norm)[:BATCHES]
    q, change = np.asarray(probed.q, np.float64)[:BATCHES], np.asarray(probed.q_change)[:BATCHES]
    q_rms = float(np.sqrt(np.mean(np.square(q))))
    error_rms = float(np.sqrt(np.mean(np.square(error, dtype=np.float64)))) if error.size else 0.0
    found: dict[str, Any] = {
        "td_percentiles": percentiles(error),
        "grad_percentiles": percentiles(grad),
        "grad_clipped_share": float((grad > float(h.max_grad_norm)).mean()),
        "loss": float(np.asarray(probed.metrics.loss)[:BATCHES].mean()),
        "q_rms": q_rms,
        "q_abs_max": float(np.abs(q).max()),
        "q_jump": float(change.max()) / max(q_rms + error_rms + reward, TINY),
        "policy_churn": float(np.asarray(probed.churn)[:BATCHES].mean()),
        "dead_units": {name: dead_share(*ranges) for name, ranges in probed.ranges.items()},
    }
    if config.head == "scalar" and config.loss == "huber":
        found["td_linear_share"] = float((error > float(h.huber_delta)).mean()) if error.size else None
    if config.learner == "replay":
        found |= {
            "target_distance": float(probed.distance),
            "target_moved": float(np.asarray(probed.target_moved)[:BATCHES].max()),
            "target_sync_error": float(np.asarray(probed.sync_error)[BATCHES]),
        }
    return found


def play_vitals(played: Played, reward_abs_max: float | None) -> dict[str, Any]:
    """Returns of greedy episodes, and the values predicted at their starts."""
    lengths, returns = np.asarray(played.length), np.asarray(played.discounted_return, np.float64)
    scale = max(float(np.sqrt(np.mean(np.square(returns)))), reward_abs_max or 0.0, TINY)
    return {
        "episode_lengths": (float(lengths.min()), float(lengths.mean()), float(lengths.max())),
        "episodes_terminated": float(np.asarray(played.terminated).mean()),
        "greedy_action_shares": shares(np.asarray(played.actions)),
        "start_q": float(np.asarray(played.start_q, np.float64).mean()),
        "start_return": float(returns.mean()),
        "return_scale": scale,
    }


def vitals_of(
    fed: Fed | None,
    probed: Probed | None,
    played: Played | None,
    config: Config,
    h: Hypers,
    spec: EnvSpec,
    statistics: Any,
) -> Vitals:
    """All vitals that the measurements allow; an argument is None if it was not measured.

    The statistics are those that observations and rewards are normalised by, see `observations.moments.RUNNING`.
    """
    found: dict[str, Any] = {"obs_dtype": dtypes_of(spec)}
    if fed is not None:
        found |= input_vitals(fed, config, spec, statistics) | replay_vitals(fed, config)
    if fed is not None and probed is not None:
        found |= learning_vitals(fed, probed, config, h, found.get("reward_abs_max") or 0.0)
    if played is not None:
        found |= play_vitals(played, found.get("reward_abs_max"))
    return Vitals(**found)
