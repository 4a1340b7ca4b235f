"""The doctor on broken and on healthy runs, and what it costs.

python -m benchmarks.doctor                     # all three parts
python -m benchmarks.doctor --parts overhead    # one of them; the others stay as they were measured

Every run is trained with --doctor and examined once more when it is finished. The overhead is that of the whole
training command of CartPole's default recipe, with and without the doctor by turns: in seconds, and in seconds of the
processor, which other work on the machine disturbs less. The first turn compiles, each command with a cache of its own;
later ones find the programs there.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import commit, read_result, write_result

CARTPOLE = ("--env", "CartPole-v1")
BROKEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "learning rate of 1": ("q-jumps", (*CARTPOLE, "--learning-rate", "1")),
    "learning rate of 0.1 without a norm": ("q-jumps", (*CARTPOLE, "--norm", "none", "--learning-rate", "0.1")),
    "sum with a mean's learning rate": (
        "q-jumps",
        (*CARTPOLE, "--optimizer", "sgd", "--reduction", "sum", "--learning-rate", "0.003"),
    ),
    "Huber's δ far too small": ("errors-clipped", (*CARTPOLE, "--loss", "huber", "--huber-delta", "0.001")),
    "target copied after every update": ("target", (*CARTPOLE, "--target-period", "1")),
    "replay hardly larger than a batch": (
        "replay",
        (*CARTPOLE, "--buffer-size", "130", "--learning-starts", "100"),
    ),
    "observation that time does not change": ("observations", (*CARTPOLE, "--env-params.tau", "0")),
}
"""By name: the check that has to raise the alarm, and the flags."""
HEALTHY: dict[str, tuple[str, ...]] = {
    "CartPole-v1": CARTPOLE,
    "MountainCar-v0": ("--env", "MountainCar-v0"),
    "Acrobot-v1": ("--env", "Acrobot-v1"),
    "Breakout-MinAtar, 200k steps": ("--env", "Breakout-MinAtar", "--total-steps", "200000"),
    **{f"CartPole-v1, {algo}": (*CARTPOLE, "--algo", algo) for algo in ("dqn", "double", "c51", "pqn", "rainbow")},
    **{f"CartPole-v1, {algo}": (*CARTPOLE, "--algo", algo) for algo in ("noisy", "iqn")},
}


def alarms_in(findings: list[dict[str, Any]]) -> list[str]:
    """Names of the checks that raise an alarm."""
    return [finding["name"] for finding in findings if finding["severity"] == "alarm"]


def diagnose(flags: tuple[str, ...]) -> dict[str, Any]:
    """Trains with the doctor, then examines the folder: alarms by moment of training, and of the command."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        command = [sys.executable, "-m", "purejaxdqn.train", "--quiet", "--doctor", "--out", str(folder), *flags]
        trained = subprocess.run(command, capture_output=True, text=True)
        report = json.loads((folder / "doctor.json").read_text())
        command = [sys.executable, "-m", "purejaxdqn.doctor", str(folder), "--json"]
        examined = subprocess.run(command, capture_output=True, text=True, check=True)
        after = json.loads(examined.stdout)["findings"]
        return {
            "commit": commit(),
            "flags": " ".join(flags),
            "exit": trained.returncode,
            "alarms_in_training": {str(moment["env_steps"]): moment["alarms"] for moment in report["moments"]},
            "alarms_after": alarms_in(after),
            "notes_after": [finding["name"] for finding in after if finding["severity"] == "note"],
        }


def timed(doctor: bool, cache: str, flags: tuple[str, ...]) -> dict[str, float]:
    """Seconds, and seconds of the processor, of one training command."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "purejaxdqn.train", "--quiet", "--out", str(Path(scratch) / "run"), *flags]
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, *["--doctor"] * doctor], check=True, env=os.environ | {"XDG_CACHE_HOME": cache})
        wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": round(wall, 3), "processor_seconds": round(used, 3)}


def overhead(repetitions: int) -> dict[str, Any]:
    """The training command without and with the doctor, by turns."""
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(repetitions + 1):
            for doctor in (False, True):
                found[doctor].append(timed(doctor, str(Path(scratch) / str(doctor)), CARTPOLE))
                print(f"{'with' if doctor else 'without'}: {found[doctor][-1]}", flush=True)
    ratios = {
        f"{name}_ratio": {
            "first": round(found[True][0][name] / found[False][0][name], 3),
            "median_of_the_others": round(
                statistics.median(b[name] / a[name] for a, b in zip(found[False][1:], found[True][1:], strict=True)), 3
            ),
        }
        for name in ("seconds", "processor_seconds")
    }
    return {"commit": commit(), "flags": " ".join(CARTPOLE), **ratios, "without": found[False], "with": found[True]}


def main() -> None:
    """Reads the command line, measures and writes results/doctor.json after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["broken", "healthy", "overhead"])
    parser.add_argument("--repetitions", type=int, default=5, help="turns of the overhead after the first (default: 5)")
    args = parser.parse_args()
    chosen = args.parts or ["broken", "healthy", "overhead"]
    data: dict[str, Any] = {"broken": {}, "healthy": {}, "overhead": {}}
    data |= {name: part for name, part in (read_result("doctor") or {}).items() if name in data}
    data |= {name: {} for name in chosen}

    def write() -> None:
        write_result("doctor", "alarms of the doctor on broken and healthy runs, and its cost", dict(data))

    if "overhead" in chosen:
        data["overhead"] = overhead(args.repetitions)
        write()
    if "broken" in chosen:
        for name, (expected, flags) in BROKEN.items():
            found = diagnose(flags)
            right = found["alarms_after"] == [expected]
            data["broken"][name] = {"expected": expected, "named_right": right, **found}
            print(f"{name}: {found['alarms_after']}, {'right' if right else 'WRONG'}", flush=True)
            write()
    if "healthy" in chosen:
        for name, flags in HEALTHY.items():
            found = diagnose(flags)
            raised = {alarm for alarms in found["alarms_in_training"].values() for alarm in alarms}
            data["healthy"][name] = {"alarms": sorted(raised | set(found["alarms_after"])), **found}
            print(f"{name}: {data['healthy'][name]['alarms'] or 'no alarm'}", flush=True)
            write()


if __name__ == "__main__":
    main()
