"""A cache of compiled programs on disk, so that a repeated command neither traces nor compiles.

JAX's own cache looks a program up by its traced and lowered form, and for a short run on a CPU tracing and lowering
take longer than the training. This cache looks it up by its inputs: settings, loaded source files, JAX's configuration
and the machine. If a source file has changed, the program is traced and looked up by its lowered form, which is often
unchanged.

Unpickling a file can execute arbitrary code, so a file is read only if this user alone can have written it, in a folder
that this user alone can write to.

Only commands of this package cache programs: functions that a user's own program registers may not be identifiable by
files.
"""

import hashlib
import os
import pickle
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from purejaxdqn.config import Config
from purejaxdqn.loops.lanes import Call, Compiler, compile_calls
from purejaxdqn.machine.files import make_private, read_private, write_atomically
from purejaxdqn.machine.imports import imported

KEPT = 256
"""Names of programs that are kept, the most recently used. A program has two names and takes about 1 MB."""
SUFFIX = ".program"
VARIABLES = ("XLA_FLAGS", "NPROC")
"""Environment variables that XLA reads when it starts."""
COMPILED = "/jax/compilation_cache/cache_misses"
"""JAX's event for a program that it has compiled and put into its own cache."""


def compiler_of(config: Config) -> Compiler:
    """The compiler of a run's functions; it caches them beside JAX's own cache, in commands of this package only."""
    cache = jax.config.values["jax_compilation_cache_dir"]
    # What a module of a user's own reads besides its file is not known, and a dataset's content is not in its name.
    if not cache or not in_own_command() or imported() or config.dataset is not None:
        return compile_calls
    return make_compiler(Path(cache) / "programs", repr(config))


def in_own_command() -> bool:
    """Whether this process is a command of this package."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name.startswith("purejaxdqn.")
    # An installed script: purejaxdqn, purejaxdqn-train and the like.
    return Path(getattr(main, "__file__", None) or "").name.partition("-")[0] == "purejaxdqn"


def make_compiler(folder: Path, settings: str) -> Compiler:
    """A compiler that first looks for functions that an earlier process compiled.

    Args:
      folder: of the cached files; if it cannot be written, nothing is cached.
      settings: what the functions depend on besides their calls and the modules' source files.
    """

    def compile_or_find(calls: Sequence[Call], devices: Sequence[jax.Device]) -> list[Any]:
        machine = surroundings()
        made_from = digest(machine, settings, *sources())
        paths = {call.what: folder / f"{digest(made_from, call.what)}{SUFFIX}" for call in calls}
        with ThreadPoolExecutor() as pool:
            found = dict(zip(paths, pool.map(lambda path: load(path, devices), paths.values()), strict=True))

        def compile_or_link(call: Call, lowered: jax.stages.Lowered) -> Any:
            name = digest(machine, lowered.as_text(), f"{lowered.in_tree} {lowered.out_tree}")
            path = folder / f"{name}{SUFFIX}"
            program = load(path, devices) or compile_and_save(lowered, path)
            link(path, paths[call.what])
            return program

        missing = [call for call in calls if found[call.what] is None]
        made = compile_calls(missing, devices, compile_or_link)
        found |= {call.what: program for call, program in zip(missing, made, strict=True)}
        return [found[call.what] for call in calls]

    return compile_or_find


def digest(*parts: str) -> str:
    """A name for all of these, hexadecimal."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def surroundings() -> str:
    """What every program of this process is compiled for."""
    parts = [jax.__version__, sys.version, processor()]
    parts += [f"{name}={value!r}" for name, value in sorted(jax.config.values.items())]
    parts += [f"{name}={os.environ.get(name)}" for name in VARIABLES]
    parts += [repr(device) for device in jax.devices()]
    return digest(*parts)


def processor() -> str:
    """The instruction set of this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def sources() -> Iterator[str]:
    """File, size and time of change of every module that is loaded."""
    names = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for name in sorted(filter(None, names)):
        if os.path.exists(name):
            status = os.stat(name)
            yield f"{name} {status.st_size} {status.st_mtime_ns}"


def load(path: Path, devices: Sequence[jax.Device]) -> Callable[..., Any] | None:
    """A program from a file; None if there is none that can be read."""
    try:
        code, in_tree, out_tree = pickle.loads(read_private(path))
        program = deserialize_and_load(code, in_tree, out_tree, execution_devices=devices)
        os.utime(path)
    except Exception:
        # Whatever is wrong with the file, the program can be made anew.
        return None
    return program


def compile_and_save(lowered: jax.stages.Lowered, path: Path) -> Any:
    """Compiles a function, and saves it to a file if JAX did not find it in its own cache.

    A program that JAX read from its own cache cannot be saved: XLA would write it without its machine code.
    """
    here, told = threading.get_ident(), []

    def listen(event: str, **_: Any) -> None:
        if event == COMPILED and threading.get_ident() == here:
            told.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        program = lowered.compile()
    finally:
        jax.monitoring.unregister_event_listener(listen)
    if told:
        save(path, program)
    return program


def save(path: Path, program: Any) -> None:
    """Saves a program to a file, and removes the least recently used files."""
    try:
        if not make_private(path.parent):
            return
        write_atomically(path, pickle.dumps(serialize(program)))
        files = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime)
        for old in files[:-KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, NotImplementedError, ValueError):
        # No room, or nothing that JAX can write: the next start takes longer, and that is all.
        return


def link(path: Path, name: Path) -> None:
    """Links another name to a file, if it exists."""
    try:
        name.unlink(missing_ok=True)
        os.link(path, name)
    except OSError:
        # There is none, or no other names are possible here.
        return
