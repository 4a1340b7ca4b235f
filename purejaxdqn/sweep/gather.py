"""Joins lanes from several checkpoints into one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purejaxdqn.loops.lanes import map_lane_leaves
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.runs.training import Training
from purejaxdqn.sweep.checkpoints import load

PER_LANE = ("best_score", "best_env_steps")
"""Per-lane entries of a checkpoint's progress, besides those of its endings."""


def gather(training: Training, lanes: Sequence[int], places: Mapping[int, tuple[Path, int]]) -> ckpt.Checkpoint:
    """One checkpoint of lanes that now train side by side, from the checkpoints that they were in.

    Args:
      training: the one that they are for.
      lanes: in their new order.
      places: folder of each lane's checkpoint, and the lane's index in it.

    Raises:
      DamagedCheckpoint: if one cannot be read.
    """
    of_lanes = lane_names(training)
    flat: dict[int, dict[str, np.ndarray]] = {}
    shared: dict[str, np.ndarray] = {}
    step = 0
    # Folder by folder, each of which is let go of again: together they may be larger than the memory.
    for folder in dict.fromkeys(places[lane][0] for lane in lanes):
        saved = load(folder)
        if saved is None:
            raise ckpt.DamagedCheckpoint(f"{folder} has no checkpoint")
        step, shared = saved.step, {name: leaf for name, leaf in saved.state.items() if name not in of_lanes}
        for lane in set(lanes):
            if places[lane][0] == folder:
                flat[lane] = take(saved, places[lane][1], of_lanes)

    def stacked(prefix: str) -> dict[str, np.ndarray]:
        names = [name for name in flat[lanes[0]] if name.startswith(prefix)]
        return {name.removeprefix(prefix): np.stack([flat[lane][name] for lane in lanes]) for name in names}

    progress: dict[str, Any] = {"run_seconds": 0.0, **as_lists(stacked("progress/"))}
    progress["endings"] = as_lists(stacked("endings/"))
    policy = {which: stacked(f"{which}/") for which in ("last", "best")}
    return ckpt.Checkpoint(step, shared | stacked("state/"), policy, progress)


def take(saved: ckpt.Checkpoint, place: int, of_lanes: set[str]) -> dict[str, Any]:
    """Everything of one lane of a checkpoint, by name; a copy, so that the checkpoint itself can be freed."""
    found = {f"state/{name}": np.copy(saved.state[name][place]) for name in of_lanes}
    for which in ("last", "best"):
        found |= {f"{which}/{name}": np.copy(leaf[place]) for name, leaf in saved.policy[which].items()}
    found |= {f"progress/{name}": np.array(saved.progress[name][place], object) for name in PER_LANE}
    endings = saved.progress["endings"]
    return found | {f"endings/{name}": np.array(values[place], object) for name, values in endings.items()}


def as_lists(arrays: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """Arrays as the lists that a checkpoint's progress has."""
    return {name: array.tolist() for name, array in arrays.items()}


def lane_names(training: Training) -> set[str]:
    """Names of the state's leaves that have an axis of lanes."""
    marked = map_lane_leaves(lambda _: True, training.lanes.like)
    leaves = jax.tree_util.tree_leaves_with_path(marked)
    return {jax.tree_util.keystr(path) for path, leaf in leaves if leaf is True}
