"""Early stopping: ends each lane at its number of steps or episodes, at a return, or when it runs out of patience.

Lanes keep running side by side; one that has ended is no longer counted, evaluated or written, so that its results do
not depend on the others.
"""

from typing import Any, NamedTuple

import numpy as np

STEPS, EPISODES, RETURN, PATIENCE, DIVERGED = "steps", "episodes", "return", "patience", "diverged"


class Budget(NamedTuple):
    """Limits that may end a lane before the run's full length; None for no limit."""

    total_episodes: int | None = None
    """Episodes of training."""
    stop_at_return: float | None = None
    """Raw return of a training episode that ends the lane."""
    patience: int | None = None
    """Consecutive evaluations without an improvement."""


class Endings:
    """Progress of each of L lanes, and what ended it."""

    def __init__(self, budget: Budget, num_lanes: int):
        """No lane has begun."""
        self.budget = budget
        self.episodes = np.zeros(num_lanes, np.int64)
        """Episodes of training so far."""
        self.without_better = np.zeros(num_lanes, np.int64)
        """Evaluations since the best one."""
        self.ended_by: list[str | None] = [None] * num_lanes
        self.env_steps = np.zeros(num_lanes, np.int64)
        """Environment steps at which a lane ended."""

    @property
    def running(self) -> np.ndarray:
        """bool [L]: lanes that have not ended."""
        return np.array([cause is None for cause in self.ended_by])

    @property
    def diverged(self) -> np.ndarray:
        """bool [L]: lanes whose loss became NaN or infinite."""
        return np.array([cause == DIVERGED for cause in self.ended_by])

    def end(self, lanes: np.ndarray, cause: str, env_steps: int) -> None:
        """Ends those of the lanes, bool [L], that still run."""
        for lane in np.flatnonzero(lanes & self.running):
            self.ended_by[lane], self.env_steps[lane] = cause, env_steps

    def train(self, episodes: np.ndarray, return_max: np.ndarray, env_steps: int) -> None:
        """Counts one chunk of training.

        Args:
          episodes: that ended in it, [L].
          return_max: the largest of their returns, [L].
          env_steps: of each lane so far.
        """
        self.episodes += np.where(self.running, episodes, 0)
        total, wanted = self.budget.total_episodes, self.budget.stop_at_return
        if wanted is not None:
            self.end(return_max >= wanted, RETURN, env_steps)
        if total is not None:
            self.end(self.episodes >= total, EPISODES, env_steps)

    def evaluate(self, lanes: np.ndarray, better: np.ndarray, env_steps: int) -> None:
        """Counts one evaluation of some lanes, bool [L], of which some were better than all before, bool [L]."""
        self.without_better = np.where(lanes, np.where(better, 0, self.without_better + 1), self.without_better)
        if self.budget.patience is not None:
            self.end(self.without_better >= self.budget.patience, PATIENCE, env_steps)

    def take(self, lanes: np.ndarray) -> None:
        """Gives each lane the progress of another, int [L]."""
        self.episodes, self.without_better = self.episodes[lanes], self.without_better[lanes]
        self.ended_by, self.env_steps = [self.ended_by[lane] for lane in lanes], self.env_steps[lanes]

    def saved(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "episodes": self.episodes.tolist(),
            "without_better": self.without_better.tolist(),
            "ended_by": self.ended_by,
            "ended_at": self.env_steps.tolist(),
        }

    def restore(self, saved: dict[str, Any], again: str | None = None) -> None:
        """The reverse of `saved`; lanes that were ended by `again` continue."""
        self.episodes = np.array(saved["episodes"], np.int64)
        self.without_better = np.array(saved["without_better"], np.int64)
        self.ended_by = [None if cause == again else cause for cause in saved["ended_by"]]
        self.env_steps = np.array(saved["ended_at"], np.int64)
