"""What must be settled before JAX touches a backend; importing gymnax already does. Needs nothing of this package."""

import os
from pathlib import Path

import jax

PLATFORMS = ("auto", "cpu", "gpu", "tpu")


def use_platform(device: str) -> None:
    """Chooses a platform and, where that may be the CPU, makes every core a device with single-threaded operations.

    Lanes are mapped over these devices; operations as small as a Q-network's lose more to threads than they gain.

    Args:
      device: `auto` (JAX's own choice), `cpu`, `gpu` or `tpu`.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        try:
            jax.config.update("jax_num_cpu_devices", num_cores())
        except RuntimeError:
            # A program that uses JAX already has chosen, and nothing can be changed under it.
            return
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if device != "auto":
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(device, device))


def num_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def use_compilation_cache() -> Path:
    """Keeps compiled programs in the user's cache folder, so that a second start of the same run compiles nothing."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "purejaxdqn" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
