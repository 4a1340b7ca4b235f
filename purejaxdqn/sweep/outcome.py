"""The results of lanes that were trained side by side, as columns."""

from collections.abc import Mapping, Sequence

import numpy as np

from purejaxdqn.loops.plan import NoRoom
from purejaxdqn.runs.records import MEANS
from purejaxdqn.runs.sweep_folder import CURVE_COLUMNS, as_columns
from purejaxdqn.runs.training import EVAL_STREAM, Chunk, Training
from purejaxdqn.sweep.layout import Layout


def rows_of(training: Training, chunk: Chunk, lanes: Sequence[int], layout: Layout) -> dict[str, np.ndarray]:
    """One chunk as rows of curves.npz, of the lanes that ran and are not padding."""
    m, count = chunk.metrics, len(chunk.running)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = {
            name: np.where(getattr(m, per) > 0, np.asarray(getattr(m, total), np.float64) / getattr(m, per), np.nan)
            for name, (total, per) in MEANS.items()
        }
    kept = chunk.running & (np.arange(count) < len(lanes))
    all_lanes = np.array([*lanes, *[-1] * (count - len(lanes))])
    columns = {
        "lane": all_lanes,
        "setting": [layout.setting_of(lane).number for lane in all_lanes],
        "seed": training.settings.seeds,
        "env_steps": np.full(count, training.env_steps),
        "updates": np.full(count, training.updates),
        "episodes": m.episodes,
        "epsilon": m.epsilon,
        "eval_return": chunk.eval_return,
        "eval_stderr": chunk.eval_stderr,
        **means,
    }
    return {name: column[kept] for name, column in as_columns(columns, CURVE_COLUMNS).items()}


def with_scores(training: Training, chunk: Chunk) -> Chunk:
    """A chunk with an evaluation of every running, undiverged lane, for halving alone: training is unaffected."""
    wanted = chunk.running & ~training.endings.diverged & np.isnan(chunk.eval_return)
    returns = training.evaluate(training.state.learner.policy_params, EVAL_STREAM) if wanted.any() else None
    if returns is None:
        return chunk
    return chunk._replace(eval_return=np.where(wanted, returns.mean(axis=1), chunk.eval_return))


def newest_scores(training: Training, lanes: Sequence[int], curves: Mapping[str, np.ndarray]) -> np.ndarray:
    """The newest evaluation of each lane; one that ended in a rung before has its best, one that diverged NaN."""
    assert training.best is not None
    scores = np.array(training.best.score[: len(lanes)], float)
    evaluated = np.isfinite(curves["eval_return"])
    # Lanes are in order; of several rows of one lane the last one stays.
    scores[np.searchsorted(lanes, curves["lane"][evaluated])] = curves["eval_return"][evaluated]
    return np.where(training.endings.diverged[: len(lanes)], np.nan, scores)


def best_place(scores: np.ndarray, settings: Sequence[int], setting: int) -> int:
    """Index of the best lane of a setting."""
    places = np.flatnonzero(np.array(settings) == setting)
    return int(places[np.argmax(np.nan_to_num(scores[places], nan=-np.inf))])


def out_of_memory(error: Exception) -> bool:
    """Whether an error of XLA, of Python or of a plan means that memory ran out."""
    return (
        isinstance(error, MemoryError | NoRoom) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)
    )
