"""A search that proposes settings by the scores of those before, by Optuna (Akiba et al. 2019, arXiv:1907.10902).

What was proposed stands in sweep.json, and what it came to in the units' tables: from these the study is made anew
whenever a sweep goes on, by asking and telling the same again. So study.log, which Optuna's own tools open, is written
and never read.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.bounds import check
from purejaxdqn.config import SettingError, one_line, require
from purejaxdqn.machine.files import UNFINISHED
from purejaxdqn.runs.sweep_folder import STUDY
from purejaxdqn.statistics.intervals import iqm
from purejaxdqn.sweep.values import Axis, is_traced, varied

NAME = "sweep"
"""Of the study in its file."""
Earlier = Sequence[Mapping[str, Any]]
"""Trials of an earlier study, each with its `values` and its `score`."""


def ends(axis: Axis) -> tuple[Any, Any]:
    """The lowest and the highest value of a range, or the first and the last of a list."""
    if axis.drawn is None:
        return axis.values[0], axis.values[-1]
    low, high = axis.drawn.low, axis.drawn.high
    return (round(low), round(high)) if axis.drawn.whole else (low, high)


def check_search(axes: Sequence[Axis], search: str) -> None:
    """Raises `SettingError` if a search cannot work on these axes, or Optuna is missing."""
    chosen = varied(axes)
    remedy = "nothing varies: give a flag a range, such as --learning-rate loguniform:1e-4:1e-2, or several values"
    require(len(chosen) > 0, "search", search, remedy)
    for axis in chosen:
        remedy = "it is compiled in, and a search proposes what is not: give it one value"
        require(is_traced(axis.field), axis.field, " ".join(map(str, axis.values)), remedy)
        for end in ends(axis):
            check({axis.field: end})
    ranges = [axis for axis in chosen if axis.drawn is not None]
    remedy = "CMA-ES needs at least two ranges, such as loguniform:1e-4:1e-2, and no list of values: use tpe"
    require(search != "cmaes" or len(ranges) == len(chosen) > 1, "search", search, remedy)
    try:
        # Optional: the extra optuna.
        import cmaes  # noqa: F401
        import optuna  # noqa: F401
    except ImportError as error:
        raise SettingError("search", search, f"{error.name} is missing; install purejaxdqn[optuna]") from error


def space(axes: Sequence[Axis]) -> dict[str, Any]:
    """Optuna's distributions, by field."""
    # Optional: see `check_search`.
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def distribution(axis: Axis) -> Any:
        if axis.drawn is None:
            return CategoricalDistribution(axis.values)
        low, high = ends(axis)
        return (IntDistribution if axis.drawn.whole else FloatDistribution)(low, high, log=axis.drawn.log)

    return {axis.field: distribution(axis) for axis in varied(axes)}


def make_sampler(search: str, seed: int) -> Any:
    """Optuna's sampler of that name."""
    # Optional: see `check_search`.
    from optuna import samplers

    if search == "tpe":
        # A batch is asked for before any of it has a score, so a trial without one counts as a bad one.
        return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    if search == "cmaes":
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return samplers.RandomSampler(seed=seed)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its log of every trial and its warnings about options that may change."""
    # Optional: see `check_search`.
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


class Search:
    """Optuna's study of a sweep: asked for values batch by batch, told what they came to."""

    def __init__(self, axes: Sequence[Axis], search: str, seed: int, earlier: Earlier = ()):
        """A study that knows the trials of an earlier one, if any.

        Args:
          axes: of the sweep.
          search: name of the sampler.
          seed: of its draws.
          earlier: from `read_earlier`.
        """
        # Optional: see `check_search`.
        import optuna

        self.space = space(axes)
        with quiet():
            self.study = optuna.create_study(direction="maximize", sampler=make_sampler(search, seed), study_name=NAME)
            for trial in earlier:
                known = optuna.create_trial(
                    params=dict(trial["values"]), distributions=self.space, value=trial["score"]
                )
                self.study.add_trial(known)
        self.asked: dict[int, Any] = {}

    def ask(self, settings: Sequence[int]) -> list[dict[str, Any]]:
        """Values by field for each of some settings, by number."""
        with quiet():
            for setting in settings:
                self.asked[setting] = self.study.ask(self.space)
        return [dict(self.asked[setting].params) for setting in settings]

    def tell(self, setting: int, rungs: Mapping[int, float], score: float | None) -> None:
        """Says what a setting came to.

        Args:
          setting: its number.
          rungs: score at the end of each rung of halving that it reached, by iterations.
          score: at the end of the run; None if it was dropped on the way or has none.
        """
        # Optional: see `check_search`.
        from optuna.trial import TrialState

        trial = self.asked.pop(setting)
        with quiet():
            for iterations, found in rungs.items():
                trial.report(found, iterations)
            without = TrialState.PRUNED if rungs else TrialState.FAIL
            self.study.tell(trial, score, state=without if score is None else TrialState.COMPLETE)

    def save(self, folder: Path) -> None:
        """Writes study.log, beside and renamed into place."""
        # Optional: see `check_search`.
        import optuna
        from optuna.storages.journal import JournalFileBackend

        beside = folder / f".{STUDY}{UNFINISHED}"
        beside.unlink(missing_ok=True)
        with quiet():
            optuna.copy_study(
                from_study_name=NAME,
                from_storage=self.study._storage,
                to_storage=optuna.storages.JournalStorage(JournalFileBackend(str(beside))),
            )
        os.replace(beside, folder / STUDY)


def read_earlier(path: Path, axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Values and scores of an earlier study's finished trials; nothing of the file is executed.

    Raises:
      SettingError: if it cannot be read, or is of other ranges or fields.
    """
    # Optional: see `check_search`.
    import optuna
    from optuna.storages.journal import JournalFileBackend

    remedy = "there is no such file: name the study.log of an earlier search"
    require(path.is_file(), "study", str(path), remedy)
    try:
        with quiet():
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
            study = optuna.load_study(study_name=None, storage=storage)
            trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    except Exception as error:
        # A journal that is none ends in exceptions of json, of Optuna and of Python.
        raise SettingError("study", str(path), f"it is no study of Optuna's ({one_line(error)})") from error
    wanted = space(axes)
    require(study.direction.name == "MAXIMIZE", "study", str(path), "it minimises, and a sweep's scores are returns")
    for trial in trials:
        if trial.distributions != wanted:
            fields = sorted(set(trial.distributions) | set(wanted))
            name = next(f for f in fields if trial.distributions.get(f) != wanted.get(f))
            said = [str(found.get(name, "nothing")) for found in (trial.distributions, wanted)]
            remedy = f"it is of another space: of {name} it has {said[0]}, and this search {said[1]}"
            raise SettingError("study", str(path), remedy)
    return [{"values": dict(trial.params), "score": float(trial.value)} for trial in trials]


def one_score(scores: np.ndarray) -> float | None:
    """What a setting's seeds come to, by their interquartile mean; None if none has a score."""
    known = scores[np.isfinite(scores)]
    return float(iqm(known)) if len(known) else None
