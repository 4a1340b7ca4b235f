"""The run folder: file names, settings, tables and versions. Nothing in it is ever executed."""

import dataclasses
import datetime
import json
import os
import platform
import stat
import sys
import typing
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from purejaxdqn.bounds import LIMITS, POSITIVE, as_type, real, whole
from purejaxdqn.config import Config, EnvSpec, SettingError, one_line, require
from purejaxdqn.envs.interface import JAX_PREFIXES
from purejaxdqn.envs.names import loop_of
from purejaxdqn.envs.own import remember
from purejaxdqn.machine.commit import read_commit
from purejaxdqn.machine.files import check_seal, sealed, write_atomically
from purejaxdqn.machine.imports import imported
from purejaxdqn.observations.leaves import Leaf, build, list_leaves
from purejaxdqn.types import Hypers

FORMAT = 1
CONFIG, METRICS, SUMMARY, SCORES = "config.json", "metrics.csv", "summary.json", "scores.json"
EPISODES = "episodes.csv"
CURVE, GIF, MP4 = "learning_curve.png", "policy.gif", "policy.mp4"
EPISODE_CURVE = "episode_curve.png"
CHECKPOINTS, EVENTS = "checkpoints", "tensorboard"

PACKAGES = ("purejaxdqn", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "orbax-checkpoint")
ON_USE = ("envpool", "gymnasium", *(prefix.rstrip("/") for prefix in JAX_PREFIXES), "optuna")
"""Packages that only some runs import, such as those of environments: then they are among the versions."""


COUNT_PREFILL = "only --total-episodes of an environment of gymnax counts episodes: leave it out"
INIT_WHICH = "nothing is begun with: leave it out, or name a run by --init-from"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that determines what a run does. Raises `SettingError` for invalid values."""

    config: Config
    hypers: Hypers
    seeds: tuple[int, ...]
    log_every: int
    eval_every: int
    eval_episodes: int
    checkpoint_every: int | None
    """Environment steps; None for a tenth of the run, and at most every two minutes."""
    recipe: str
    algo: str | None
    eval_epsilon: float = 0.0
    keep_replay: bool = True
    eval_max_steps: int | None = None
    eval_every_episodes: int | None = None
    total_episodes: int | None = None
    count_prefill: bool = False
    stop_at_return: float | None = None
    patience: int | None = None
    init_from: str | None = None
    init_which: Literal["last", "best"] = "best"
    probe: str | None = None
    """Name of the function that gave the last columns of metrics.csv."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, as_type(field.type, field.name, getattr(self, field.name)))
        seeds = tuple(whole("seed", seed) for seed in self.seeds)
        object.__setattr__(self, "seeds", seeds)
        require(len(seeds) > 0, "seeds", seeds, "use at least one")
        on_host, episodes = loop_of(self.config.env) == "host", self.eval_episodes
        least = 0 if on_host else 1
        require(episodes >= least, "eval_episodes", episodes, f"use a whole number of at least {least}")
        counts = not self.count_prefill or (self.total_episodes is not None and not on_host)
        require(counts, "count_prefill", self.count_prefill, COUNT_PREFILL)
        for name in ("total_episodes", "stop_at_return", "eval_every_episodes"):
            plays = self.config.learner != "dataset" or getattr(self, name) is None
            require(plays, name, getattr(self, name), "from a dataset is learnt without playing: leave it out")
        require(self.init_from is not None or self.init_which == "best", "init_which", self.init_which, INIT_WHICH)
        require(on_host or self.keep_replay, "keep_replay", self.keep_replay, "a run on the device always saves it")

    @property
    def chunk_iterations(self) -> int:
        """Iterations between two rows of a table."""
        return max(1, self.log_every // self.config.steps_per_iteration)


def default_folder(beneath: str, env: str) -> str:
    """Name of the folder of a new run or sweep: by the environment and the time."""
    # Of path/to/file.py:make_env the last part will do.
    name = env.rsplit("/", 1)[-1].replace(":", "-") if ":" in env else env
    return f"{beneath}/{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def versions() -> dict[str, str]:
    """Versions of Python and of packages that affect a run's numbers; a package that is not installed is left out, and
    so is one of `ON_USE` that this process has not imported."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *(package for package in ON_USE if package in sys.modules)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The devices that JAX uses, and the processor."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "num_devices": len(devices),
        "processor": model,
        "cores": os.cpu_count(),
    }


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Settings as JSON values."""
    plain = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in ("config", "hypers")
    }
    config = dataclasses.asdict(settings.config)
    hypers = {field.name: getattr(settings.hypers, field.name) for field in dataclasses.fields(settings.hypers)}
    return {"config": config | {"env_params": dict(settings.config.env_params)}, "hypers": hypers, **plain}


def settings_from_json(data: Mapping[str, Any]) -> Settings:
    """The reverse of `settings_to_json`. Raises KeyError, TypeError or ValueError for foreign data."""
    config = dict(data["config"])
    params = config["env_params"]
    require(isinstance(params, Mapping), "env_params", params, "use a mapping of names to numbers")
    plain = {
        field.name: data[field.name]
        for field in dataclasses.fields(Settings)
        if field.name not in ("config", "hypers", "seeds")
        # A run of before there was such a setting had its default.
        and (field.name in data or field.default is dataclasses.MISSING)
    }
    seeds = data["seeds"]
    once = isinstance(seeds, list | tuple) and len(set(seeds)) == len(seeds)
    require(once, "seeds", seeds, "use a list with each of them once")
    hypers: dict[str, Any] = {name: hyper_from_json(name, value) for name, value in data["hypers"].items()}
    return Settings(config=Config(**config), hypers=Hypers(**hypers), seeds=tuple(seeds), **plain)


def hyper_from_json(name: str, value: Any) -> float | int:
    """A field of `Hypers`; infinity is written as a word."""
    number = float(value) if value in ("inf", "-inf") else value
    return whole(name, number) if name in LIMITS else real(name, number)


def spec_from_json(data: Mapping[str, Any]) -> EnvSpec:
    """An environment's description from `EnvSpec._asdict`. Raises TypeError or ValueError for foreign data."""
    hints = typing.get_type_hints(EnvSpec)
    spec = EnvSpec(**{name: as_type(hints[name], name, as_tuples(value)) for name, value in data.items()})
    leaves = list_leaves(spec)
    require(len(leaves) > 0, "obs_dtype", spec.obs_dtype, "an observation has at least one array")
    for leaf in leaves:
        check_leaf_numbers(leaf)
    shapes = [tuple(whole("obs_shape", size) for size in leaf.shape) for leaf in leaves]
    sizes = spec.action_sizes and tuple(whole("num_actions", size) for size in spec.action_sizes)
    return spec._replace(obs_shape=build([leaf.path for leaf in leaves], shapes), action_sizes=sizes)


def as_tuples(value: Any) -> Any:
    """A value of JSON with tuples for its lists."""
    if isinstance(value, dict):
        return {key: as_tuples(part) for key, part in value.items()}
    return tuple(as_tuples(part) for part in value) if isinstance(value, list) else value


def check_leaf_numbers(leaf: Leaf) -> None:
    """Raises TypeError or ValueError where foreign data is no description of an array."""
    np.dtype(leaf.dtype)
    whole("frame_stack", leaf.frame_stack)
    if leaf.num_values is not None:
        whole("num_obs_values", leaf.num_values)
    if leaf.scale is not None:
        real("obs_scale", leaf.scale, POSITIVE)


def write_config(folder: Path, settings: Settings, spec: EnvSpec, command: str, created: str) -> None:
    """Writes config.json: settings, what a policy needs of the environment, versions and the command."""
    data = {
        "format": FORMAT,
        **settings_to_json(settings),
        "env_spec": spec._asdict(),
        "imports": imported(),
        "versions": versions(),
        "commit": read_commit(),
        "command": command,
        "created": created,
    }
    # NaN and Infinity are no JSON: infinity is written as a word that float() reads.
    text = json.dumps(sealed(finite(data)), indent=2, allow_nan=False)
    write_atomically(folder / CONFIG, text + "\n")


def finite(value: Any) -> Any:
    """The value with infinities as the word "inf", which `float` reads back, and NaN as None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return value


def require_file(path: Path, flag: str, what: str) -> None:
    """Raises `SettingError` on `flag` if the file that identifies a run's or sweep's folder is missing."""
    folder = path.parent
    try:
        # Asked of the system, which says why: `is_dir` is silent or not as Python's version has it.
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
        held = stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder, held = folder.is_dir(), False
    except OSError as error:
        raise SettingError(flag, str(folder), f"it cannot be read ({error.strerror})") from error
    require(is_folder, flag, str(folder), f"there is no such folder; name the folder of a {what}")
    require(held, flag, str(folder), f"it holds no {path.name}, so it is not the folder of a {what}")


def read_known(data: dict[str, Any]) -> tuple[Settings, EnvSpec, dict[str, Any]]:
    """What `read_config` gives; the environment's description comes first, since what is valid depends on its loop."""
    spec = spec_from_json(data["env_spec"])
    remember(spec)
    return settings_from_json(data), spec, data


def read_config(folder: Path, flag: str = "resume") -> tuple[Settings, EnvSpec, dict[str, Any]]:
    """Reads config.json.

    Raises:
      SettingError: on `flag`, if the folder is missing, holds no run, or its config.json cannot be read.
    """
    path = folder / CONFIG
    require_file(path, flag, "run")
    try:
        data = json.loads(path.read_text())
        check_seal(data)
        # Another version's settings need not make sense here.
        known = data["format"] == FORMAT
        read = read_known(data) if known else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingError(
            flag, str(folder), f"its {CONFIG} is damaged ({one_line(error)}); name a whole run"
        ) from error
    if read is None:
        raise SettingError(flag, str(folder), f"its format is {data['format']!r}, and this version reads {FORMAT}")
    return read
