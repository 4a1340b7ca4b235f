"""What a command does between its words and its work: imports a user's own parts, and starts JAX."""

import shlex
from collections.abc import Sequence

import jax

from purejaxdqn.cli.words import every, peek
from purejaxdqn.config import SettingError, require
from purejaxdqn.machine.devices import PLATFORMS, use_compilation_cache, use_platform
from purejaxdqn.machine.imports import FILE, import_announced, import_source, imported


def import_parts(args: Sequence[str]) -> None:
    """Imports what installed packages announce, and what `--import` and `--env MODULE:FACTORY` name.

    Raises:
      SettingError: if one of them cannot be imported.
    """
    import_announced()
    for source in every(args, "--import"):
        import_source(source)
    env = peek(args, "--env") or ""
    source, _, factory = env.rpartition(":")
    if source and factory and "/" not in factory and (source.endswith(FILE) or "/" not in source):
        import_source(source, "env", env)


def import_words() -> str:
    """The flags that import here what was imported, as they are typed after others."""
    return "".join(f" --import {shlex.quote(source)}" for source in imported())


def seed_indices(chosen: int | None, count: int) -> list[int]:
    """Indices of a run's seeds that --seed-index chooses: one of `count`, or all of them for None.

    Raises:
      SettingError: if there is no such seed.
    """
    in_range = chosen is None or 0 <= chosen < count
    require(in_range, "seed_index", chosen, f"the run has {count} seeds: use 0 to {count - 1}")
    return list(range(count)) if chosen is None else [chosen]


def start_jax(device: str, compilation_cache: bool) -> None:
    """Configures what must be set before JAX initialises a backend, and starts JAX.

    Args:
      device: a flag's value, one of `devices.PLATFORMS`.
      compilation_cache: whether compiled programs are kept for the next start.

    Raises:
      SettingError: if the requested platform is not available.
    """
    use_platform(device)
    if compilation_cache:
        use_compilation_cache()
    check_device(device)


def check_device(device: str) -> None:
    """Raises `SettingError` if the requested platform is not available."""
    remedy = "JAX finds no such device here: use cpu, or install the extra for it"
    try:
        platform = jax.local_devices()[0].platform
    except (RuntimeError, AssertionError) as error:
        raise SettingError("device", device, remedy) from error
    # JAX takes the CPU beside a GPU that it could not start.
    require(device not in PLATFORMS or device in ("auto", platform), "device", device, remedy)
