"""Sweeps beside the bars that they are to meet. Each part adds itself to results/sweep.json.

python -m benchmarks.sweep --part lanes --purejaxrl CLONE --purejaxrl-python PEER/bin/python
python -m benchmarks.sweep --part equality processes kills halving
python -m benchmarks.sweep --small                                       # all of it at a size that only shows it works

`lanes`: 32 seeds × 32 settings at PureJaxRL's settings, its 32 vmapped seeds before and after; memory meanwhile.
`equality`: ten lanes at random of such a sweep, each trained by itself. `processes`: one, two and four of them.
`kills`: one of two processes killed at a random moment, then resumed by another number of them. `halving`: against the
whole grid on three tasks.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import commit, last_json, read_result, run, write_result
from purejaxdqn.runs.sweep_folder import CURVES, LANES, read_columns, read_sweep

WHAT = "sweeps: lanes per second beside PureJaxRL, equality of lanes, several processes, kills, halving"
SWEEP = [sys.executable, "-m", "purejaxdqn.sweep"]
PEERS = Path(__file__).parents[1] / "peers"
PEER_SETTINGS = [
    *(
        "--env",
        "CartPole-v1",
        "--num-envs",
        "10",
        "--buffer-size",
        "10000",
        "--batch-size",
        "128",
        "--hidden",
        "120,84",
    ),
    *("--learning-starts", "10000", "--n-step", "1", "--norm", "none", "--backup", "max", "--loss", "squared"),
    *("--learning-rate-schedule", "constant", "--gamma", "0.99", "--epsilon-fraction", "1.0", "--no-report"),
]
TASKS = {
    "CartPole-v1": ["--total-steps", "100000", "--learning-rate", "log:1e-4:1e-2:8", "--target-period", "25", "100"],
    "Acrobot-v1": ["--total-steps", "100000", "--learning-rate", "log:1e-4:1e-2:8", "--target-period", "50", "200"],
    "Catch-bsuite": ["--total-steps", "60000", "--learning-rate", "log:1e-4:1e-2:8", "--gamma", "0.9", "0.99"],
}


def resident_bytes(process: int) -> int:
    """Memory of a process and its children now, 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0


def watched(command: list[str], every: float) -> tuple[float, list[int]]:
    """Runs a command; its seconds, and its memory at every so many of them."""
    begin, memory = time.perf_counter(), []
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(every)
            memory.append(resident_bytes(process.pid))
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - begin, [value for value in memory if value]


def measure_lanes(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """1,024 lanes, and PureJaxRL's 32 seeds before and after."""
    seeds, rates, steps = (4, 4, 12_000) if args.small else (32, 8, 100_000)
    peer = [args.purejaxrl_python, str(PEERS / "purejaxrl_dqn.py"), "--path", str(args.purejaxrl)]
    peer += ["--seeds", str(seeds), "--total-steps", str(steps)]
    theirs: list[dict[str, Any]] = []

    def measure_peer() -> None:
        if args.purejaxrl_python:
            theirs.append(last_json(run(peer).output))
            print(f"purejaxrl: {theirs[-1]['steps_per_second']:,.0f} steps/s", flush=True)

    for _ in range(args.repetitions):
        measure_peer()
    folder = scratch / "lanes"
    axes = ["--learning-rate", f"log:1e-4:1e-2:{rates}", "--target-period", "25", "50", "100", "200"]
    flags = [*PEER_SETTINGS, "--seeds", str(seeds), *axes, "--total-steps", str(steps), "--eval-episodes", "20"]
    seconds, memory = watched([*SWEEP, *flags, "--out", str(folder)], 1.0 if args.small else 5.0)
    for _ in range(args.repetitions):
        measure_peer()
    summary = json.loads((folder / "summary.json").read_text())
    curves = read_columns(folder / CURVES)
    # The first tenth is compilation and the filling of memories.
    later = memory[len(memory) // 10 :]
    whole = summary["env_steps"] / seconds
    data = {
        "lanes": summary["lanes"],
        "env_steps_per_lane": steps,
        "compilations": summary["compilations"],
        "compile_seconds": summary["compile_seconds"],
        "wall_seconds": round(seconds, 1),
        "steps_per_second_of_training": summary["steps_per_second"],
        "steps_per_second_of_the_whole_command": round(whole, 1),
        "memory_bytes": memory,
        "memory_end_over_first_tenth": round(statistics.median(later[-5:]) / statistics.median(later[:5]), 3),
        "folder_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "rows": len(curves["lane"]),
        "best": summary["ranking"][0],
        "purejaxrl": theirs,
    }
    if theirs:
        peer_speed = statistics.median(found["steps_per_second"] for found in theirs)
        data["purejaxrl_steps_per_second"] = peer_speed
        data["training_over_purejaxrl"] = round(summary["steps_per_second"] / peer_speed, 2)
        data["whole_command_over_purejaxrl"] = round(whole / peer_speed, 2)
    print(
        {name: value for name, value in data.items() if name not in ("purejaxrl", "memory_bytes", "best")}, flush=True
    )
    return data


SMALL = [
    *("--env", "CartPole-v1", "--seeds", "4", "--learning-rate", "log:1e-4:1e-2:4", "--gamma", "0.95", "0.99"),
    *("--log-every", "2000", "--eval-every", "4000", "--eval-episodes", "10", "--quiet", "--no-report"),
]


def total(args: argparse.Namespace) -> list[str]:
    """Length of the sweeps whose numbers are compared."""
    return ["--total-steps", "4000" if args.small else "20000"]


def same_tables(one: Path, other: Path) -> bool:
    """Whether two sweeps have the same rows, bit for bit."""
    for name in (CURVES, LANES):
        a, b = read_columns(one / name), read_columns(other / name)
        if list(a) != list(b) or not all(np.array_equal(a[c], b[c], equal_nan=a[c].dtype.kind == "f") for c in a):
            return False
    return True


def measure_equality(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Ten lanes of a sweep, at random, each trained by itself."""
    folder = scratch / "grid"
    run([*SWEEP, *SMALL, *total(args), "--out", str(folder)])
    curves, lanes = read_columns(folder / CURVES), read_columns(folder / LANES)
    settings = read_sweep(folder)["settings"]
    chosen = random.Random(0).sample(range(len(lanes["lane"])), 2 if args.small else 10)
    same = {}
    for lane in chosen:
        values = settings[int(lanes["setting"][lane])]["values"]
        flags = [w for name, value in values.items() for w in ("--" + name.replace("_", "-"), repr(value))]
        shared = SMALL[SMALL.index("--log-every") :]
        solo = scratch / f"solo-{lane}"
        seed = ["--env", "CartPole-v1", "--seeds", "1", "--seed", str(int(lanes["seed"][lane]))]
        run([*SWEEP, *seed, *flags, *shared, *total(args), "--out", str(solo)])
        found = read_columns(solo / CURVES)
        ended = read_columns(solo / LANES)
        mine = curves["lane"] == lane
        kept = [name for name in found if name not in ("lane", "setting")]
        final = [name for name in ended if name not in ("lane", "setting")]
        same[lane] = all(np.array_equal(curves[n][mine], found[n], equal_nan=True) for n in kept) and all(
            np.array_equal(lanes[n][lane : lane + 1], ended[n], equal_nan=ended[n].dtype.kind == "f") for n in final
        )
        print(f"lane {lane}: {'the same' if same[lane] else 'different'}", flush=True)
    return {"lanes": same, "equal": sum(same.values()), "of": len(same)}


def start(count: int, flags: list[str]) -> list[subprocess.Popen[str]]:
    """The processes of one sweep."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)] if count > 1 else []
    numbered = [[*shared, "--process-id", str(number)] if count > 1 else [] for number in range(count)]
    return [
        subprocess.Popen([*SWEEP, *flags, *each], stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        for each in numbered
    ]


def wait(processes: list[subprocess.Popen[str]]) -> None:
    """Raises `RuntimeError` where one of them failed."""
    for process in processes:
        _, said = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(said[-2000:])


def measure_processes(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """One process, two and four."""
    folders = {}
    for count in (1, 2, 4):
        folders[count] = scratch / f"processes-{count}"
        wait(start(count, [*SMALL, *total(args), "--out", str(folders[count])]))
    same = {count: same_tables(folders[1], folders[count]) for count in (2, 4)}
    print(f"as one process: {same}", flush=True)
    return {"same_as_one": same}


def measure_kills(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """One of two processes is killed at a random moment; then one to four others go on."""
    rng, trials = random.Random(1), []
    reference = scratch / "reference"
    begin = time.perf_counter()
    flags = [*SMALL, *total(args), "--checkpoint-minutes", "0.02"]
    wait(start(2, [*flags, "--out", str(reference)]))
    whole = time.perf_counter() - begin
    for trial in range(2 if args.small else 10):
        folder, moment, count = scratch / f"kill-{trial}", rng.uniform(0.3, 0.95) * whole, rng.choice((1, 3, 4))
        processes = start(2, [*flags, "--out", str(folder)])
        victim = rng.randrange(2)
        time.sleep(moment)
        ended = processes[victim].poll() is not None
        processes[victim].send_signal(signal.SIGKILL)
        # JAX ends the other one when it notices, which may take a minute: nobody has to wait for that.
        processes[1 - victim].send_signal(signal.SIGKILL)
        for process in processes:
            process.communicate()
        resumed = (folder / "sweep.json").exists()
        wait(
            start(count, ["--resume", str(folder), "--quiet", "--no-report"])
            if resumed
            else start(count, [*flags, "--out", str(folder)])
        )
        lanes = read_columns(folder / LANES)["lane"]
        once = lanes.tolist() == list(range(len(lanes)))
        trials.append(
            {
                "killed_after_seconds": round(moment, 1),
                "had_ended": ended,
                "resumed_by": count,
                "every_lane_once": once,
                "same_numbers": same_tables(folder, reference),
            }
        )
        print(trials[-1], flush=True)
    passed = sum(trial["every_lane_once"] and trial["same_numbers"] for trial in trials)
    return {"undisturbed_seconds": round(whole, 1), "trials": trials, "passed": passed, "of": len(trials)}


def measure_halving(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The setting that halving finds, in the whole grid's ranking, and what it cost."""
    found = {}
    for env, flags in TASKS.items():
        shared = ["--env", env, "--seeds", "2" if args.small else "8", *flags, "--eval-episodes", "30"]
        shared += ["--quiet", "--no-report", *(["--total-steps", "8000"] if args.small else [])]
        summaries = {}
        for name, more in (("grid", []), ("halving", ["--halving"])):
            folder = scratch / f"{env}-{name}"
            run([*SWEEP, *shared, *more, "--out", str(folder)])
            summaries[name] = json.loads((folder / "summary.json").read_text())
            shutil.rmtree(folder)
        grid = {entry["setting"]: entry for entry in summaries["grid"]["ranking"]}
        best, chosen = summaries["grid"]["ranking"][0], summaries["halving"]["ranking"][0]
        low, high = best["iqm_interval_95"]
        found[env] = {
            "flags": shared,
            "grid_best": best,
            "chosen": grid[chosen["setting"]],
            "within_the_interval": low <= grid[chosen["setting"]]["iqm"] <= max(high, best["iqm"]),
            "share_of_the_grid": summaries["halving"]["halving"]["share_of_the_grid"],
            "seconds": {name: summary["run_seconds"] for name, summary in summaries.items()},
        }
        print(
            f"{env}: {found[env]['within_the_interval']}, {found[env]['share_of_the_grid']:.3f} of the steps",
            flush=True,
        )
    return found


PARTS = {
    "lanes": measure_lanes,
    "equality": measure_equality,
    "processes": measure_processes,
    "kills": measure_kills,
    "halving": measure_halving,
}


def main() -> None:
    """Reads the command line, measures and writes results/sweep.json after every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--purejaxrl", help="a clone of PureJaxRL")
    parser.add_argument("--purejaxrl-python", help="an interpreter with what it imports")
    parser.add_argument("--repetitions", type=int, default=2, help="of PureJaxRL, before and after (default: 2)")
    parser.add_argument("--small", action="store_true", help="sizes that only show that it works; writes sweep-small")
    args = parser.parse_args()
    name = "sweep-small" if args.small else "sweep"
    before = read_result(name)
    parts = before["parts"] if before else {}
    for part in args.part:
        with tempfile.TemporaryDirectory() as scratch:
            parts[part] = {"commit": commit(), **PARTS[part](args, Path(scratch))}
        write_result(name, WHAT, {"parts": {known: parts[known] for known in PARTS if known in parts}})


if __name__ == "__main__":
    main()
