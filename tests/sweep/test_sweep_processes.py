"""A sweep by several processes under jax.distributed: the same tables as by one, also after one of them was killed."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from purejaxdqn.runs.sweep_folder import CURVES, LANES, UNITS, read_columns

GRID = [
    *("--env", "CartPole-v1", "--num-envs", "4", "--buffer-size", "200", "--batch-size", "8", "--hidden", "16"),
    *("--learning-starts", "40", "--total-steps", "2000", "--log-every", "200", "--eval-every", "400"),
    *("--eval-episodes", "3", "--seeds", "2", "--learning-rate", "1e-3", "1e-2", "--gamma", "0.9", "0.99"),
    *("--lanes-per-block", "1"),
]
QUIET = ["--quiet", "--no-report", "--device", "cpu"]


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(count, flags, devices=1):
    """Starts the processes of one sweep, each with so many devices."""
    port = free_port()
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "NPROC": "1"}
    alone = [] if count == 1 else ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "purejaxdqn.sweep", *flags, *QUIET, *alone]
            + ([] if count == 1 else ["--process-id", str(number)]),
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def finish(processes):
    """Waits for all of them; each has to succeed."""
    for process in processes:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said


def tables(folder):
    return read_columns(folder / CURVES), read_columns(folder / LANES)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name], err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "sweep"
    finish(start(1, [*GRID, "--out", str(folder)]))
    return tables(folder)


# benchmarks.sweep measures them too; two that are stopped and go on are below.
@pytest.mark.long
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_come_to_what_one_does(alone, count, tmp_path):
    """Each has a share of the units, and one of them joins what all left."""
    folder = tmp_path / "sweep"
    finish(start(count, [*GRID, "--out", str(folder)]))
    assert_same(tables(folder), alone)


@pytest.mark.long
def test_one_of_two_is_killed_and_three_go_on(alone, tmp_path):
    """Killed without warning amid its work; afterwards every lane is there once, with the same numbers."""
    folder = tmp_path / "sweep"
    processes = start(2, [*GRID, "--checkpoint-minutes", "1e-9", "--out", str(folder)])
    begin = time.monotonic()
    while not list((folder / UNITS).glob("*/*/checkpoint.npz")) and time.monotonic() - begin < 300:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    # The other one may do its share; it is not waited for, as an operator would not.
    processes[0].send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate()
    assert not (folder / "summary.json").exists()
    finish(start(3, ["--resume", str(folder)]))
    assert_same(tables(folder), alone)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("number", "told"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_one_of_two_is_asked_to_stop_and_both_save_and_end(alone, number, told, tmp_path):
    """The other one would wait for its units for ever; both end by the signal, and the sweep goes on as if never."""
    folder = tmp_path / "sweep"
    processes = start(2, [*GRID, "--checkpoint-minutes", "1e-9", "--out", str(folder)])
    begin = time.monotonic()
    while not list((folder / UNITS).glob("*/*/checkpoint.npz")) and time.monotonic() - begin < 300:
        time.sleep(0.05)
    processes[told].send_signal(number)
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 128 + number, said
        assert "Traceback" not in said
    finish(start(2, ["--resume", str(folder)]))
    assert_same(tables(folder), alone)


@pytest.mark.long
def test_eight_devices_come_to_what_one_does(alone, tmp_path):
    """One process whose lanes are spread over eight devices."""
    folder = tmp_path / "sweep"
    finish(start(1, [*GRID, "--out", str(folder)], devices=8))
    assert_same(tables(folder), alone)
