"""Functions of a user's own in a run: a probe, whose numbers join the run's own, and callbacks between chunks."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.config import SettingError, flag_name, one_line, require
from purejaxdqn.loops.lanes import Lanes
from purejaxdqn.machine.imports import function_of, load_source
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.runs.folder import METRICS
from purejaxdqn.runs.records import mean_of
from purejaxdqn.runs.tables import METRIC_COLUMNS
from purejaxdqn.types import Metrics


class Hook(NamedTuple):
    """A function that a run calls, and what it is called in errors."""

    field: str
    """The option that names it: `probe`, `callback` or `wandb`."""
    name: str
    """The option's value."""
    call: Callable[..., Any]

    def raised(self, error: Exception) -> str:
        """That it raised, in words."""
        return f"it raised {type(error).__name__}: {one_line(error)}"

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return f"{flag_name(self.field)} {self.name}".rstrip()


class Hooks(NamedTuple):
    """All of a run."""

    probe: Hook | None = None
    """(state, metrics) -> dict of numbers; see `Probe`."""
    callbacks: tuple[Hook, ...] = ()
    """(logged) -> True to stop the run; see `asks_to_stop`."""


NO_HOOKS = Hooks()


class CallbackRaised(Exception):
    """A callback has raised, and the run has saved itself. Its text says which, and what."""


def find_hook(field: str, typed: str | None, passed: Callable[..., Any] | None = None) -> Hook | None:
    """A function that was named, or passed from Python; None where neither was.

    Args:
      field: the option.
      typed: its value, path/to/file.py:function or module:function.
      passed: the function itself.

    Raises:
      SettingError: where it cannot be found, or both were given.
    """
    if passed is not None:
        require(typed is None, field, typed, "a function is passed from Python too: leave one of them out")
        require(callable(passed), field, passed, "pass a function")
        kind = passed if hasattr(passed, "__qualname__") else type(passed)
        return Hook(field, f"{kind.__module__}:{kind.__qualname__}", passed)
    if typed is None:
        return None
    source, _, name = typed.rpartition(":")
    require(bool(source and name), field, typed, "use path/to/file.py:function or module:function")
    return Hook(field, typed, function_of(load_source(source, field, typed), field, typed, "one"))


class Probe:
    """A probe over all lanes of a run: a program of its own, which reads the state between chunks."""

    def __init__(self, hook: Hook, lanes: Lanes):
        """Traces it on the shapes of the run's own state and metrics; compiles nothing yet.

        Args:
          hook: its function is of one lane, (`State` or `HostState`, `Metrics` of a chunk) -> dict of scalars.
          lanes: of the run.

        Raises:
          SettingError: where it raises, or gives anything else.
        """

        def numbers(state: Any, metrics: Metrics) -> Any:
            return jax.tree.map(as_number, hook.call(state, metrics))

        try:
            self.over = lanes.probe(in_usual_modes(numbers))
        except Exception as error:
            raise SettingError(hook.field, hook.name, hook.raised(error)) from error
        self.lanes, self.columns = lanes, columns_of(hook, self.over.shapes)

    def __call__(self, state: Any, metrics: Metrics) -> list[dict[str, float | int]]:
        """What it gives of each lane, by column.

        Args:
          state: of all lanes, on the devices.
          metrics: of a chunk, [L] in numpy.
        """
        found = self.lanes.get(self.over.run(state, self.lanes.put(metrics)))
        lanes = zip(*(found[column].tolist() for column in self.columns), strict=True)
        return [dict(zip(self.columns, values, strict=True)) for values in lanes]


def as_number(value: Any) -> jax.Array:
    """An array whose entries Python and a table have too: of floats in float32, of truth values as 0 and 1."""
    found = jnp.asarray(value)
    if jnp.issubdtype(found.dtype, jnp.floating):
        return found.astype(jnp.float32)
    return found.astype(jnp.int32) if found.dtype == bool else found


def columns_of(hook: Hook, shapes: Any) -> tuple[str, ...]:
    """The columns that a probe adds, given the shapes of what it gives of one lane.

    Raises:
      SettingError: for anything but a dict of real numbers by names that are free.
    """

    def demand(condition: bool, remedy: str) -> None:
        require(condition, hook.field, hook.name, remedy)

    demand(isinstance(shapes, Mapping) and len(shapes) > 0, "it gives no dict of numbers: give them by their names")
    for column, leaf in shapes.items():
        is_name = isinstance(column, str) and column.isprintable() and column == column.strip() != ""
        demand(is_name, f"{column!r} is no name of a column: use a word")
        demand(column not in METRIC_COLUMNS, f"{METRICS} has a column {column} of its own: choose another name")
        is_array = isinstance(leaf, jax.ShapeDtypeStruct)
        said = f"{leaf.dtype} {leaf.shape}" if is_array else type(leaf).__name__
        real = is_array and any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.integer, jnp.floating))
        demand(real and leaf.shape == (), f"{column} is {said}: give one real number, a mean say")
    return tuple(shapes)


@dataclasses.dataclass(frozen=True)
class Logged:
    """What a run has just logged of a chunk, as a callback is given it."""

    folder: Path
    """Of the run."""
    env_steps: int
    """Environment steps of each seed so far."""
    updates: int
    """Gradient updates of each seed so far."""
    rows: tuple[Mapping[str, Any], ...]
    """The chunk's rows of metrics.csv by column, one for each seed that trained in it; None is a missing number."""

    def mean(self, column: str) -> float | None:
        """Mean of a column over the seeds that have a number there; None where none has."""
        return mean_of(self.rows, column)


def asks_to_stop(hook: Hook, logged: Logged) -> bool:
    """Calls a callback; whether it gave True, and not only something that counts as true.

    Raises:
      CallbackRaised: whatever it raises.
    """
    try:
        said = hook.call(logged)
    except Exception as error:
        raise CallbackRaised(f"{hook.flag}: {hook.raised(error)}") from error
    return isinstance(said, bool | np.bool_) and bool(said)
