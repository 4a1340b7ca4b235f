"""JAX platform, CPU devices, compilation cache and free memory: what is set before JAX starts a backend."""

import os
import re
import resource
import sys
from pathlib import Path

import jax

from purejaxdqn.machine.files import make_private

PLATFORMS = ("auto", "cpu", "gpu", "tpu")


def use_platform(device: str, lanes: int | None = None, on_host: bool = False, shards: int = 1) -> None:
    """Chooses a platform; where that may be the CPU, every core becomes a device with single-threaded operations.

    Lanes are mapped over these devices; operations as small as a Q-network's lose more to threads than they gain. So
    XLA gets no more threads than there are lanes, too: one seed on two threads took 1.2 to 1.6 times as long.

    Args:
      device: `auto` (JAX's own choice), `cpu`, `gpu` or `tpu`.
      lanes: lanes that the process will run, if that is known.
      on_host: whether environments step on the host. Then XLA gets one thread more than there are lanes, which a
        network for pixels can keep busy: a vector step of 32 games took 28 ms instead of 37.
      shards: of each lane; each gets a device, whatever the number of cores.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    cores = min(num_cores(), shards * lanes if lanes else num_cores())
    if "xla_force_host_platform_device_count" not in flags:
        try:
            jax.config.update("jax_num_cpu_devices", max(cores, shards))
        except RuntimeError:
            # A program that uses JAX already has chosen, and nothing can be changed under it.
            return
    # XLA's own name for the size of its pool of threads.
    os.environ.setdefault("NPROC", str(cores + on_host))
    wanted = {"xla_cpu_multi_thread_eigen": "false", **({"xla_cpu_prefer_vector_width": "512"} if is_wide() else {})}
    # Both or none: one of them alone makes fewer graphs than neither does.
    if device in ("auto", "gpu") and has_graphs_of_loops() and not any(name in flags for name in GRAPHS):
        wanted |= GRAPHS
    added = [f"--{name}={value}" for name, value in wanted.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    if device != "auto":
        # The CPU beside it, for a replay in the host's memory.
        names = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
        jax.config.update("jax_platforms", names[device])


GRAPHS = {"xla_gpu_enable_command_buffer": "+WHILE", "xla_gpu_graph_min_graph_size": "1"}
"""Flags of XLA with which a whole call of `iterate`, loops and all, becomes one CUDA graph, launched once."""
GRAPHS_DRIVER = 545
"""NVIDIA's first driver for CUDA 12.3, whose graphs may contain loops."""


def has_graphs_of_loops(version: Path = Path("/proc/driver/nvidia/version")) -> bool:
    """Whether there is an NVIDIA driver that knows CUDA graphs with loops in them."""
    try:
        found = re.search(r" (\d+)\.\d+[.\d]* ", version.read_text())
    except OSError:
        return False
    return found is not None and int(found[1]) >= GRAPHS_DRIVER


def is_wide(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has vectors of 512 bits and does not lower its clock for them: AMD's, as far as we know.

    XLA uses 256 by default. With 512 updates took 2 to 4 % less time, and those with many exponentials 10 to 25 %.
    """
    try:
        described = cpuinfo.read_text()
    except OSError:
        return False
    return "AuthenticAMD" in described and " avx512f " in described


def num_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def use_compilation_cache() -> Path | None:
    """Keeps compiled programs in the user's cache folder, so that a second start of the same run compiles nothing.

    A folder configured for JAX itself (`JAX_COMPILATION_CACHE_DIR`) is left as it is. If there is no folder that only
    this user can write to, nothing is cached, and one line on stderr says so.

    Returns:
      The folder, None if nothing is cached.
    """
    given = jax.config.values["jax_compilation_cache_dir"]
    if given:
        return Path(given)
    root = user_cache()
    if root is None or not (make_private(root / "purejaxdqn") and make_private(root / "purejaxdqn" / "xla")):
        where = "there is no home folder" if root is None else f"{root / 'purejaxdqn'} is not this user's alone"
        print(f"compiled programs are not kept: {where}", file=sys.stderr)
        return None
    folder = root / "purejaxdqn" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # The small ones too: a start has dozens of them, whose compilation adds up to half a second.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def user_cache() -> Path | None:
    """The user's cache folder, None without a home; a relative XDG_CACHE_HOME is ignored, as specified."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ".cache" if home.is_absolute() else None


def available_bytes() -> int:
    """Memory that arrays on the default device may still take, in bytes; for the CPU, that of the machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    return host_bytes()


def used_bytes() -> int:
    """Most memory, in bytes, that arrays on the default device have taken; for the CPU, that of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    # Linux counts kilobytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def host_bytes() -> int:
    """Memory of the machine that this process may still take, in bytes."""
    return min(free_memory(), container_memory())


def free_memory() -> int:
    """The machine's memory that is free or can be freed, in bytes; all of its memory if that is unknown."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def container_memory() -> int:
    """Memory that a control group leaves to this process, in bytes; practically infinite without a limit."""
    root = Path("/sys/fs/cgroup")
    try:
        return int((root / "memory.max").read_text()) - int((root / "memory.current").read_text())
    except (OSError, ValueError):
        return 2**62
