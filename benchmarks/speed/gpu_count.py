"""What a GPU would be asked to do: kernels, copies, CUDA graphs and waits of every program, counted without a GPU.

python -m benchmarks.gpu_count --into FOLDER                       # makes the compilers' environments there first
python -m benchmarks.gpu_count --only dqn rainbow --lanes 1 1024 --python h100=PYTHON
python -m benchmarks.gpu_count --peers PEERS --clone purejaxrl=CLONE --only    # a peer, and none of ours
python -m benchmarks.gpu_count --clone earlier=CLONE --only                    # a clone's earlier state of this library
python -m benchmarks.gpu_count --check        (make gpu-count)     # has a count grown?

XLA's compilers for NVIDIA's GPUs and for TPUs need their packages (5.9 and 1.7 GB), and no device. A process compiles a
case for an H100 with 80 GB and reads what XLA would launch, or for a TPU v5e, where it tells that it compiles, and how
much memory it takes. What is counted goes into results/gpu_count.json beside what other calls left there.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, commit, counted, last_json, read_result, run, write_result
from benchmarks.peers.environments import Steps, interpreter, make
from benchmarks.speed.count_case import ATARI, CASES, PROGRAMS, WAYS
from benchmarks.speed.count_peer import PEERS
from benchmarks.speed.deviceless import DEVICES

ROOT = RESULTS.parents[1]
_LOCK = ("-r", str(ROOT / "requirements" / "lock.txt"))
COMPILERS: dict[str, Steps] = {
    "h100": ((*_LOCK, "-r", str(ROOT / "requirements" / "lock-cuda12.txt")),),
    "tpu": ((*_LOCK, "jax[tpu]"),),
}
"""What each device's environment holds: the project's own versions, and the compiler."""
GUARDED = ("purejaxrl", "dqn", "Breakout-MinAtar rainbow", "pqn")
"""Cases that `--check` counts again by default: minutes, where all of them take hours."""
GROWTH = 1.05
"""Times the bytes of temporaries, or those moved, from which they count as grown; a count may not grow at all."""

Counts = dict[str, Any]
"""Counts of programs by name, then by way."""


def pythons_of(devices: list[str], given: list[str], into: Path) -> dict[str, Path]:
    """The interpreter for each device: those given, and else those of environments in a folder, which are made."""
    named = {device: Path(path) for device, _, path in (word.partition("=") for word in given)}
    for device in [device for device in devices if device not in named]:
        named[device] = interpreter(into, device)
        if not named[device].exists():
            print(said := make(into, device, COMPILERS[device]), flush=True)
            if ": failed" in said:
                raise SystemExit(said)
    return named


def compile_for(python: Path, words: list[str], peer_packages: Path | None = None) -> dict[str, Any]:
    """What one process counted, or why it could not; a peer's packages go before those of the environment."""
    path = [str(ROOT), *(str(folder) for folder in (peer_packages or Path()).glob("lib/python*/site-packages"))]
    try:
        done = run([str(python), "-m", *words], {"PYTHONPATH": os.pathsep.join(path), "JAX_PLATFORMS": "cpu"})
    except RuntimeError as error:
        told = [line for line in str(error).splitlines() if "Error: " in line]
        return {"failed": (told or [str(error)[-400:]])[-1][:400]}
    return last_json(done.output)


def growth(name: str, before: Counts, now: Counts) -> list[str]:
    """What is more than it was, in words.

    Args:
      name: of the case.
      before: of its programs.
      now: likewise; what is not in `before` is not compared.
    """
    grown = []
    for program, ways in now.items():
        for way, found in ways.items():
            old = before.get(program, {}).get(way, {})
            for count, value in found.items():
                bound = old.get(count, value) * (GROWTH if count in ("temporaries", "bytes") else 1)
                # Of one CUDA graph more is better.
                if count != "all_in_one" and value > bound:
                    grown.append(f"{name}, {program}, {way}: {count} from {old[count]:,} to {value:,}")
    return grown


def check(python: Path, cases: Sequence[str]) -> int:
    """Counts the iteration of some cases with one lane again; 1, and one sentence, where a count has grown."""
    result, grown = read_result("gpu_count") or {"h100": {}}, []
    for case in cases:
        committed = result["h100"].get(case, {}).get("1")
        if committed is None:
            raise SystemExit(f"{case}: nothing to compare with: run python -m benchmarks.gpu_count first")
        found = compile_for(python, ["benchmarks.count_case", "--case", case, "--programs", "iterate"])
        if "failed" in found:
            raise SystemExit(f"{case}: not compiled: {found['failed']}")
        if found["jax"] != committed["jax"]:
            raise SystemExit(f"counted with jax {found['jax']} and before with {committed['jax']}: count all again")
        more = growth(case, committed["programs"], found["programs"])
        print(f"{case}: {'; '.join(more) or 'no more than it was'}", flush=True)
        grown += more
    if grown:
        print(f"a GPU is asked to do more than it was in {counted(len(grown), 'place')}: {grown[0]}", file=sys.stderr)
    return int(bool(grown))


def keep(section: str, case: str, lanes: int, found: dict[str, Any]) -> None:
    """Writes one case beside those that are there."""
    result = read_result("gpu_count") or {}
    data = {name: result.get(name, {}) for name in (*DEVICES, "peers")}
    programs = data[section].setdefault(case, {}).get(str(lanes), {}).get("programs", {})
    for program, ways in found.get("programs", {}).items():
        programs[program] = {**programs.get(program, {}), **ways}
    data[section][case][str(lanes)] = {"commit": commit(), **found, "programs": programs}
    what = "operations of a GPU in one trip of each program's loop, by XLA's compiler; what a TPU's compiler says"
    # Several calls have made it, each with flags of its own.
    write_result("gpu_count", what, data, "python -m benchmarks.gpu_count")


def main() -> int:
    """Reads the command line; counts and writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--lanes", nargs="+", type=int, default=[1, 1024])
    parser.add_argument("--device", nargs="+", choices=DEVICES, default=list(DEVICES))
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--python", nargs="+", default=[], metavar="DEVICE=PYTHON", help="an environment that exists")
    default = Path(sys.prefix) / "compilers"
    parser.add_argument("--into", type=Path, default=default, metavar="FOLDER", help="where environments are made")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="the peers' environments")
    parser.add_argument("--clone", nargs="*", default=[], metavar="NAME=FOLDER", help="clones of peers")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a count has grown")
    args = parser.parse_args()
    clones = dict(word.partition("=")[::2] for word in args.clone)
    if unknown := set(clones) - set(PEERS):
        parser.error(f"--clone {min(unknown)}: none of {', '.join(PEERS)}")
    pythons = pythons_of(["h100"] if args.check else args.device, args.python, args.into)
    if args.check:
        return check(pythons["h100"], GUARDED if args.only is None else args.only)
    cases = CASES if args.only is None else args.only
    jobs = [
        (device, case, lanes, ["--case", case, "--device", device, "--programs", *args.programs, "--ways", *args.ways])
        for device in args.device
        for lanes in args.lanes
        # Environments on the host serve one lane.
        for case in (cases if lanes == 1 else [case for case in cases if case not in ATARI])
    ]
    for device, case, lanes, words in jobs:
        found = compile_for(pythons[device], ["benchmarks.count_case", *words, "--lanes", str(lanes)])
        keep(device, case, lanes, found)
        print(f"{device}, {case}, {counted(lanes, 'lane')}: {found.get('failed', 'counted')}", flush=True)
    for peer, clone in clones.items():
        for lanes in args.lanes:
            words = ["benchmarks.count_peer", "--peer", peer, "--path", clone, "--lanes", str(lanes)]
            found = compile_for(pythons["h100"], words, args.peers and args.peers / peer)
            keep("peers", peer, lanes, {**found, "clone": commit(Path(clone))})
            print(f"{peer}, {counted(lanes, 'lane')}: {found.get('failed', 'counted')}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
