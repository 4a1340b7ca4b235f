"""Multi-process sweeps: processes on one machine or many that share a sweep's folder and its units."""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax

from purejaxdqn.cli import UsageError
from purejaxdqn.config import one_line, require
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.machine.stop_requests import StopRequest
from purejaxdqn.sweep.options import SweepOptions

T = TypeVar("T")

STOP = ".stop"
"""File in a sweep's folder by which a process that was asked to stop informs the others; it holds the signal."""


class Processes(NamedTuple):
    """Which process this is, of how many."""

    number: int = 0
    total: int = 1

    def mine(self, units: Sequence[T]) -> list[T]:
        """This process's share of the units, dealt out in turn."""
        return list(units[self.number :: self.total])


def join(options: SweepOptions) -> Processes:
    """Joins the other processes, if there are any.

    Raises:
      SettingError: if the flags are inconsistent.
      UsageError: if the coordinator does not answer, with its address and the time waited.
    """
    by_hand = options.coordinator is not None
    for name in ("num_processes", "process_id"):
        value = getattr(options, name)
        require(
            by_hand == (value is not None), name, value, "--coordinator, --num-processes and --process-id go together"
        )
    if not by_hand and not options.distributed:
        return Processes()
    where = options.resume or options.out
    require(where is not None, "out", None, "several processes share a folder that all of them see: name it")
    if by_hand:
        assert options.num_processes is not None and options.process_id is not None
        inside = 0 <= options.process_id < options.num_processes
        last = options.num_processes - 1
        require(
            inside, "process_id", options.process_id, f"there are {options.num_processes} processes: use 0 to {last}"
        )
        if options.process_id > 0:
            wait_for(str(options.coordinator), options.coordinator_timeout)
    # Nobody gets past the call below before all have removed what an earlier stop left.
    with contextlib.suppress(OSError):
        (Path(str(where)) / STOP).unlink()
    try:
        jax.distributed.initialize(
            options.coordinator,
            options.num_processes,
            options.process_id,
            initialization_timeout=options.coordinator_timeout,
        )
    except (RuntimeError, ValueError) as error:
        said = f"--coordinator {options.coordinator}" if by_hand else "--distributed"
        remedy = f"the processes did not come together within {options.coordinator_timeout} s ({one_line(error)})"
        raise UsageError(
            f"{said}: {remedy}; start all of them, or name the first by --coordinator HOST:PORT"
        ) from error
    return Processes(jax.process_index(), jax.process_count())


def stop_of_all(folder: Path, asked: StopRequest, processes: Processes) -> Callable[[], bool]:
    """Whether any process of a sweep was asked to stop: one that ended alone would leave the others waiting for it."""
    told = folder / STOP

    def stop() -> bool:
        if processes.total > 1:
            if asked():
                write_atomically(told, str(asked.signal))
            elif told.is_file():
                asked.note(int(told.read_text()))
        return asked()

    return stop


def wait_for(address: str, seconds: float) -> None:
    """Waits until a coordinator listens.

    Raises:
      SettingError: if the address is invalid.
      UsageError: if no coordinator listens in time.
    """
    host, _, port = address.rpartition(":")
    require(bool(host) and port.isdigit(), "coordinator", address, "write it as HOST:PORT")
    begin, said = time.monotonic(), ""
    while time.monotonic() - begin < seconds:
        try:
            socket.create_connection((host, int(port)), timeout=max(0.1, seconds)).close()
            return
        except OSError as error:
            said = error.strerror or str(error)
            time.sleep(0.2)
    raise UsageError(
        f"--coordinator {address}: it did not answer for {seconds:g} s ({said}); start process 0 there, or check "
        "address and firewall"
    )


def wait_until(done: Callable[[], bool], stop: Callable[[], bool] = lambda: False) -> bool:
    """Waits for other processes; False if it was asked to stop. JAX ends a process if others have died."""
    while not done():
        if stop():
            return False
        time.sleep(0.2)
    return True
