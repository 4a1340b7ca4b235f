"""Parameters kept for each seed: the best so far, those of seeds that have ended, and those loaded from another run."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.config import SettingError, require
from purejaxdqn.loops.lanes import lane_shapes
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.runs.folder import CHECKPOINTS, read_config

Flat = dict[str, np.ndarray]
"""Leaves by path, [L, ...]."""


class Best(NamedTuple):
    """Each seed's best evaluation so far, and the parameters that reached it."""

    score: np.ndarray
    """float64 [L], -inf before the first evaluation."""
    env_steps: np.ndarray
    """int64 [L], where it was reached."""
    params: Flat
    """Leaves by path, [L, ...]."""

    def update(self, lanes: np.ndarray, scores: np.ndarray, env_steps: int, params: Flat) -> "Best":
        """Keeps the better of old and new for each evaluated seed, bool [L]; in a tie the new, which trained longer."""
        better = lanes & (scores >= self.score)
        return Best(
            score=np.where(better, scores, self.score),
            env_steps=np.where(better, env_steps, self.env_steps),
            params=pick_lanes(better, params, self.params),
        )

    def take(self, lanes: np.ndarray) -> "Best":
        """Those of other lanes, int [L], in place of each."""
        params = {name: leaf[lanes] for name, leaf in self.params.items()}
        return Best(self.score[lanes], self.env_steps[lanes], params)


def pick_lanes(lanes: np.ndarray, these: Flat, others: Flat) -> Flat:
    """Leaves [L, ...] by path: from `these` for the selected lanes, bool [L], and from `others` for the rest."""
    return {
        name: np.where(lanes.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, others[name]) for name, leaf in these.items()
    }


def load_params(folder: Path, which: str, like: Any, num_lanes: int) -> Any:
    """Parameters of a trained run for a new one's lanes, [L, ...] in numpy.

    Args:
      folder: of the trained run. A run with a single seed serves every lane; otherwise it must have as many seeds as
        there are lanes.
      which: `best` by evaluation, or `last`.
      like: shapes of one lane's parameters.
      num_lanes: of the new run.

    Raises:
      SettingError: if the folder is not a run, or is damaged, or its network differs.
    """
    seeds = len(read_config(folder, "init_from")[0].seeds)
    remedy = f"it has {seeds} seeds and this run {num_lanes}: use a run of 1 seed or of as many"
    require(seeds in (1, num_lanes), "init_from", str(folder), remedy)
    try:
        flat = ckpt.load_checkpoint(folder / CHECKPOINTS, with_state=False).policy[which]
        params = ckpt.from_flat(flat, lane_shapes(like, seeds))
    except ckpt.DamagedCheckpoint as error:
        remedy = f"{error}; name a whole run whose network is this run's"
        raise SettingError("init_from", str(folder), remedy) from error
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (num_lanes, *leaf.shape[1:])), params)
