"""`SettingError`, the bounds of every numeric setting (one table for flags, files and Python code), and `EnvSpec`."""

import math
import operator
import re
import types
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import numpy as np


class SettingError(ValueError):
    """An invalid setting. Carries the field, its value and a remedy, which make one clear sentence."""

    def __init__(self, field: str, value: Any, remedy: str):
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(f"{field}={value!r}: {remedy}")


def require(condition: bool, field: str, value: Any, remedy: str) -> None:
    """Raises `SettingError` unless `condition` holds."""
    if not condition:
        raise SettingError(field, value, remedy)


FLAGS = {"imports": "import"}
"""Flags whose names are words of Python's, which no field can have."""


def flag_name(field: str) -> str:
    """`env_params.max_steps` as it is typed: `--env-params.max-steps`."""
    return "--" + FLAGS.get(field, field).replace("_", "-")


def one_line(error: BaseException) -> str:
    """The first line of an error's text, with its type where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def flag(field: str, value: Any) -> str:
    """A setting as it is typed."""
    if field == "loop":
        # It follows from the environment.
        return {
            "device": "an environment of gymnax, or another on the device",
            "host": "one of EnvPool such as --env Pong-v5, or another on the host",
        }[value]
    windows = {
        "has_windows": "--memory gru with --learner replay",
        "ranks_windows": "--replay prioritized with --memory",
    }
    if field in windows:
        return windows[field] if value else "this run"
    if isinstance(value, bool):
        return flag_name(field if value else f"no-{field}")
    return f"{flag_name(field)} {value}"


INT32 = 2**31 - 1
"""Largest count that a device can hold."""
MOST_COMBINATIONS = 4_096
"""Of the choices of a multi-discrete action that a mask, or a network without branching, has an entry for each of."""
MANY = 10**15
"""Bound of counts that exist on the host alone: exact in float64 too."""
SEEDS = 2**32
"""Seeds are the whole numbers below it; a generator's key would take larger ones modulo it."""

LIMITS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("total_steps", "eval_every", "checkpoint_every", "eval_every_episodes"), (1, MANY)),
    **dict.fromkeys(("total_episodes", "patience"), (1, MANY)),
    "learning_starts": (0, MANY),
    # A dimension or a counter of a program.
    **dict.fromkeys(("num_envs", "rollout_length", "updates_per_rollout", "num_minibatches"), (1, INT32)),
    **dict.fromkeys(("buffer_size", "batch_size", "n_step", "target_period", "reset_period"), (1, INT32)),
    **dict.fromkeys(("n_step_final", "anneal_updates"), (1, INT32)),
    "reset_until": (0, INT32),
    **dict.fromkeys(("log_every", "eval_max_steps", "max_steps", "coordinator_timeout"), (1, INT32)),
    # What every lane has an entry for in memory.
    "log_episodes": (0, 10**7),
    "num_epochs": (1, 10**6),
    "eval_episodes": (0, INT32),
    **dict.fromkeys(("episodes", "fqe_updates"), (1, INT32)),
    # Lists that Python makes before a device sees anything.
    **dict.fromkeys(("num_quantiles", "num_target_quantiles", "num_policy_quantiles", "num_cosines"), (1, 2**16)),
    "num_atoms": (2, 2**16),
    "hidden": (1, 2**20),
    "torso_width": (1, 2**10),
    "memory_size": (1, 2**16),
    "memory_window": (2, 2**12),
    **dict.fromkeys(("pool", "random_shift"), (0, 2**10)),
    "ensemble": (1, 2**10),
    "duration_cap": (1, 2**16),
    "burn_in": (0, 2**16),
    "unroll": (1, 2**16),
    "window_period": (1, INT32),
    "data_parallel": (1, 2**12),
    "num_chunks": (1, 10**6),
    **dict.fromkeys(("seeds", "random", "lanes_per_block", "trials", "trials_at_once"), (1, 10**6)),
    "seed_index": (0, 10**6),
    **dict.fromkeys(("seed", "draw_seed", "key"), (0, SEEDS - 1)),
    # Of an environment's description.
    **dict.fromkeys(("num_actions", "num_obs_values", "obs_shape"), (1, INT32)),
    **dict.fromkeys(("time_limit", "fewest_steps", "frame_stack"), (1, INT32)),
    "halving_factor": (2, 10**6),
    "num_processes": (1, 2**16),
    "process_id": (0, 2**16),
    **dict.fromkeys(("live", "watch"), (0, 2**16 - 1)),
}
"""Smallest and largest value of every integer setting; for `hidden`, of each width."""


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number in any of Python's forms: int, NumPy's or JAX's, or a float such as 1e6."""
    if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == np.bool_:
        return False
    if isinstance(value, float | np.floating):
        return float(value).is_integer()
    return hasattr(value, "__index__") and not np.shape(value)


def whole(field: str, value: Any, limits: tuple[int, int] | None = None) -> int:
    """The value as an int.

    Args:
      field: its name, looked up in `LIMITS` if no limits are given.
      value: in any of the forms of `is_whole`.
      limits: the smallest and the largest allowed value.

    Raises:
      SettingError: if it is not a whole number, or out of bounds.
    """
    least, most = limits or LIMITS[field]
    require(is_whole(value), field, value, f"use a whole number of at least {least}")
    number = int(value) if isinstance(value, float | np.floating) else operator.index(value)
    require(number >= least, field, value, f"use a whole number of at least {least}")
    require(number <= most, field, value, f"use a whole number of at most {most:,}")
    return number


# What float() reads and is whole, in ASCII ("1_000", "1e6", "2.5e3"), and thousands, millions, billions ("100k", "2M").
_WHOLE_WORD = re.compile(r"([+-]?[0-9][0-9_]*)(?:\.([0-9]*))?(?:[eE]\+?([0-9]{1,3})|([kKMB]))?", re.ASCII)
_POWERS = {"k": 3, "K": 3, "M": 6, "B": 9}


def read_whole(word: str) -> int | None:
    """Parses a word as an exact whole number; None if it is not one."""
    found = _WHOLE_WORD.fullmatch(word)
    if found is None or "__" in word:
        return None
    before, after = found[1].replace("_", ""), (found[2] or "").rstrip("0")
    zeros = (_POWERS[found[4]] if found[4] else int(found[3] or 0)) - len(after)
    if zeros < 0 or len(before) > 400:
        return None
    return int(before + after) * 10**zeros


LEAST, GREATEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Devices compute in float32: smaller magnitudes may become 0 there, and larger ones infinite."""


class Interval(NamedTuple):
    """The allowed values of a real setting, ends included."""

    low: float
    high: float
    words: str
    """Its text in an error message."""


ANY = Interval(-GREATEST, GREATEST, "a finite number")
UNIT = Interval(0.0, 1.0, "a number in [0, 1]")
POSITIVE = Interval(LEAST, GREATEST, "a finite number above 0")
AT_LEAST_0 = Interval(0.0, GREATEST, "a finite number of at least 0")
INTERVALS: dict[str, Interval] = {
    **dict.fromkeys(("gamma", "tau", "epsilon_start", "epsilon_final", "epsilon_decay", "munchausen_alpha"), UNIT),
    **dict.fromkeys(("importance_exponent", "importance_exponent_final", "trace_lambda"), UNIT),
    **dict.fromkeys(("eval_epsilon", "epsilon", "reset_shrink", "gamma_start", "priority_eta"), UNIT),
    **dict.fromkeys(("learning_rate", "learning_rate_final", "priority_exponent"), AT_LEAST_0),
    **dict.fromkeys(("fraction_lr_scale", "fraction_entropy", "weight_decay"), AT_LEAST_0),
    **dict.fromkeys(("constraint_weight", "demo_margin", "advantage_scale"), AT_LEAST_0),
    "expectile": Interval(LEAST, 1.0 - 1e-7, "a number in (0, 1)"),
    "demo_share": Interval(0.0, 1.0 - 1e-7, "a number of at least 0 and below 1"),
    **dict.fromkeys(("bcq_threshold", "hindsight_share"), UNIT),
    **dict.fromkeys(("adam_epsilon", "huber_delta", "munchausen_temperature", "priority_epsilon"), POSITIVE),
    "boltzmann_temperature": POSITIVE,
    **dict.fromkeys(("ladder_exponent", "prior_scale"), AT_LEAST_0),
    "duration_exponent": Interval(1.0 + 1e-6, GREATEST, "a finite number above 1"),
    **dict.fromkeys(("noisy_sigma", "reward_scale", "checkpoint_minutes"), POSITIVE),
    "munchausen_clip": Interval(-GREATEST, -LEAST, "a finite number below 0"),
    "max_grad_norm": Interval(LEAST, math.inf, "a number above 0"),
    "average_decay": Interval(0.0, 1.0 - 1e-7, "a number of at least 0 and below 1"),
    **dict.fromkeys(("epsilon_fraction", "epsilon_off"), Interval(LEAST, 1.0, "a number in (0, 1]")),
    **dict.fromkeys(("halving_first", "pbt_every"), Interval(LEAST, 1.0 - 1e-9, "a number in (0, 1)")),
}
"""Allowed values of each real setting; any finite number for one that is not listed."""


def real(field: str, value: Any, interval: Interval | None = None) -> float:
    """The value as a float.

    Args:
      field: its name, looked up in `INTERVALS` if no interval is given.
      value: int or float, of Python, NumPy or JAX.
      interval: the allowed values.

    Raises:
      SettingError: if it is not a number, or out of bounds.
    """
    low, high, words = interval or INTERVALS.get(field, ANY)
    number = not isinstance(value, str | bytes | bool | np.bool_) and hasattr(value, "__float__")
    require(number and not np.shape(value), field, value, f"use {words}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    large = GREATEST < abs(found) < math.inf and "finite" in words
    remedy = f"use {words}, and none beyond 3e38: devices compute in float32" if large else f"use {words}"
    require(low <= found <= high, field, value, remedy)
    return found


def check(values: Mapping[str, Any]) -> None:
    """Checks settings by name, skipping None: those in `LIMITS` as whole numbers, those in `INTERVALS` as real ones.

    Raises:
      SettingError: for the first that is out of bounds.
    """
    for name, value in values.items():
        if value is not None and name in LIMITS:
            whole(name, value)
        elif value is not None and name in INTERVALS:
            real(name, value)


def check_seeds(first: int, count: int) -> None:
    """Raises `SettingError` if the last of `count` seeds would be out of range."""
    remedy = f"the last of {count:,} seeds is beyond {SEEDS - 1:,}: use at most {SEEDS - count:,}"
    require(first + count <= SEEDS, "seed", first, remedy)


def as_type(kind: Any, field: str, value: Any) -> Any:
    """Converts a value to a field's type from its equivalents in Python, NumPy or JAX.

    Args:
      kind: the field's annotation: a name of a `Literal`, str, bool, int, float, or one of these or None.
      field: its name, which `LIMITS` and `INTERVALS` know.
      value: to convert.

    Raises:
      SettingError: if it cannot be converted.
    """
    options = get_args(kind) if get_origin(kind) is types.UnionType else (kind,)
    if value is None and type(None) in options:
        return None
    kind = options[0]
    if get_origin(kind) is Literal:
        known = isinstance(value, str) and value in get_args(kind)
        require(known, field, value, f"use one of {', '.join(get_args(kind))}")
    elif kind is str:
        require(isinstance(value, str), field, value, "use a name")
    elif kind is bool:
        require(isinstance(value, bool | np.bool_), field, value, "use True or False")
        return bool(value)
    elif kind is int:
        return whole(field, value)
    elif kind is float:
        return real(field, value)
    return value


def as_widths(widths: Any) -> tuple[int, ...]:
    """Widths of layers, from one, a list or an array. Raises `SettingError` for anything else."""
    several = isinstance(widths, list | tuple) or np.ndim(widths) == 1
    return tuple(whole("hidden", width) for width in (widths if several else [widths]))


def as_pairs(params: Any) -> tuple[tuple[str, Any], ...]:
    """An environment's parameters in the order of their names, from a mapping or from (name, value) pairs.

    Raises:
      SettingError: if they are neither, or a value is not hashable, as a static argument has to be.
    """
    remedy = "use a mapping of names to numbers, such as {'max_steps_in_episode': 100}"
    try:
        found = dict(params)
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in found.items()}
        hash(tuple(plain.items()))
    except (TypeError, ValueError) as error:
        raise SettingError("env_params", params, remedy) from error
    require(all(isinstance(name, str) and name.isidentifier() for name in plain), "env_params", params, remedy)
    return tuple(sorted(plain.items(), key=lambda pair: pair[0]))


class EnvSpec(NamedTuple):
    """What the rest of a run has to know of its environment; it is written into the run folder.

    Of an observation that is one array, `obs_shape` and so on are its own. Of a tree of arrays they are trees, too:
    dicts and tuples, of which all but `obs_shape` and `obs_dtype` may leave out parts. See `observations.leaves`.
    """

    env_id: str
    num_actions: int
    obs_shape: Any
    """tuple[int, ...] of each array."""
    obs_dtype: Any
    """str of each."""
    num_obs_values: Any
    """Number of values of a discrete array, which the network is fed as one-hot; None for others."""
    time_limit: int
    """Most environment steps of an episode; 2³¹ - 1 where nothing limits it."""
    frame_stack: Any = 1
    """Frames that an array holds on its last axis, oldest first; 1 where all are one frame, or none."""
    fewest_steps: int = 1
    """Fewest environment steps between two truncations of one environment; 1 where nothing is known."""
    own_loop: Literal["device", "host"] | None = None
    """Where an environment of a user's own steps; None for one of a suite."""
    obs_scale: Any = None
    """What an array's numbers are divided by before they enter the network; None for 255 of uint8, and 1 of others."""
    masked: bool = False
    """Whether the environment says of every state which actions are legal there."""
    action_sizes: tuple[int, ...] | None = None
    """Choices of each part of a multi-discrete action, whose product is num_actions; None for an action of one part."""
