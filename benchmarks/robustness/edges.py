"""Runs at the edges of where people run things: output, writers, signals, full disks, damaged folders, settings of JAX.

python -m benchmarks.edges                     # all parts, about forty minutes on two cores
python -m benchmarks.edges --part stops disk   # some of them; each adds itself to results/edges.json

Every run is a small CartPole whose metrics.csv is compared, byte for byte, with that of a run that nobody disturbed.
"""

import argparse
import contextlib
import io
import json
import os
import pty
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import read_result, write_result

SMALL = [
    *("--env", "CartPole-v1", "--total-steps", "4000", "--log-every", "200", "--eval-every", "1000"),
    *("--eval-episodes", "3", "--hidden", "16", "--buffer-size", "1000", "--batch-size", "16"),
]
TRAIN = [sys.executable, "-m", "purejaxdqn.train"]
SWEEP = [sys.executable, "-m", "purejaxdqn.sweep"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DISKS = ("8k", "16k", "32k", "48k", "64k", "96k", "128k", "160k", "192k", "224k", "256k", "1536k")
PLACES: dict[str, dict[str, str | None]] = {
    "64 bits": {"JAX_ENABLE_X64": "1"},
    "another generator": {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
    "strict promotion": {"JAX_NUMPY_DTYPE_PROMOTION": "strict"},
    "NaN is an error": {"JAX_DEBUG_NANS": "1"},
    "infinity is an error": {"JAX_DEBUG_INFS": "1"},
    "no home": {"HOME": None, "XDG_CACHE_HOME": None},
    "a relative cache": {"XDG_CACHE_HOME": "here"},
}


def start(words: list[str], **options: Any) -> subprocess.Popen[str]:
    """Starts a command whose errors are kept."""
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **{"stdout": subprocess.DEVNULL} | options)


def finish(process: subprocess.Popen[str], seconds: float = 300.0) -> tuple[int, str]:
    """Exit code and errors of a command; one that does not end is killed, and has the code 124."""
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return 124, process.communicate()[1]
    return process.returncode, said


def metrics(folder: Path) -> bytes:
    """A run's metrics.csv, empty where there is none."""
    path = folder / "metrics.csv"
    return path.read_bytes() if path.is_file() else b""


def resumed(folder: Path) -> tuple[int, str]:
    """Goes on with a run."""
    return finish(start([*TRAIN, "--resume", str(folder), "--quiet"]))


def output(scratch: Path, expected: bytes, _: int) -> dict[str, Any]:
    """Whoever reads the output decides nothing over the training."""
    kinds = {
        "closed": "{} >&-",
        "both closed": "{} >&- 2>&-",
        "full": "{} > /dev/full",
        "one line is read": "{} | head -1",
        "ascii": "PYTHONIOENCODING=ascii {}",
        "cp1252": "PYTHONIOENCODING=cp1252 {}",
    }
    found: dict[str, Any] = {}
    for name, line in kinds.items():
        folder = scratch / name
        command = line.format(shlex.join([*TRAIN, *SMALL, "--out", str(folder)]))
        code = finish(start(["bash", "-o", "pipefail", "-c", command]))[0]
        found[name] = {"code": code, "same": metrics(folder) == expected}
    folder = scratch / "terminal"
    master, slave = pty.openpty()
    process = start([*TRAIN, *SMALL, "--out", str(folder)], stdout=slave)
    os.close(slave)
    os.read(master, 1)
    os.close(master)
    code = finish(process)[0]
    return found | {"a terminal that goes away": {"code": code, "same": metrics(folder) == expected}}


def writers(scratch: Path, expected: bytes, _: int) -> dict[str, Any]:
    """Many begin at one moment, and nobody writes where another one does."""
    short = [*SMALL[:2], "--total-steps", "1500", "--eval-episodes", "1", "--hidden", "8", "--quiet"]
    runs = [start([*TRAIN, *short, "--seed", str(seed)], cwd=scratch) for seed in range(8)]
    codes = [finish(run)[0] for run in runs]
    sweeps = [start([*SWEEP, *short, "--seeds", "1", "--no-report"], cwd=scratch) for _ in range(8)]
    codes += [finish(sweep)[0] for sweep in sweeps]
    folder = scratch / "held"
    first = start([*TRAIN, *SMALL, "--total-steps", "100000000", "--checkpoint-every", "2000", "--out", str(folder)])
    while not list(folder.glob("checkpoints/*")) and first.poll() is None:
        time.sleep(0.1)
    second, said = resumed(folder)
    first.kill()
    first.communicate()
    again = start([*TRAIN, "--resume", str(folder), "--quiet"])
    time.sleep(20)
    again.send_signal(signal.SIGTERM)
    return {
        "codes": codes,
        "run_folders": len(list((scratch / "runs").iterdir())),
        "sweep_folders": len(list((scratch / "sweeps").iterdir())),
        "second_resume": {"code": second, "said": said.strip().replace(str(scratch), "")},
        "after_kill_9": finish(again)[0],
    }


def stops(scratch: Path, expected: bytes, count: int) -> dict[str, Any]:
    """A signal at a random moment, imports, compilation, checkpoints and the end included; then the run goes on."""
    draw, found = random.Random(0), []
    flags = [*SMALL, "--checkpoint-every", "400", "--quiet"]
    begin = time.monotonic()
    finish(start([*TRAIN, *flags, "--out", str(scratch / "timed")]))
    whole = time.monotonic() - begin
    for number in range(count):
        folder, sent = scratch / str(number), draw.choice(SIGNALS)
        process = start([*TRAIN, *flags, "--out", str(folder)])
        time.sleep(draw.uniform(0.0, whole))
        asked = time.monotonic()
        process.send_signal(sent)
        code, said = finish(process)
        seconds = time.monotonic() - asked
        # Before Python is ready, the signal ends it as it ends any program.
        ended = "stopped" if code in (128 + sent, -sent) else "finished" if code == 0 else f"code {code}"
        begun = (folder / "config.json").is_file()
        after = resumed(folder)[0] if begun else 0
        same = not begun or metrics(folder) == expected
        found.append(
            {"signal": sent.name, "ended": ended, "seconds": round(seconds, 1), "resumed": after, "same": same}
            | ({"traceback": True} if "Traceback" in said else {})
        )
    return {"seconds_of_a_run": round(whole, 1), "trials": found}


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of a size, for which one has to be root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def disks(scratch: Path, expected: bytes, _: int) -> dict[str, Any]:
    """A disk that is full sooner or later; afterwards there is room and the run goes on."""
    if os.geteuid() != 0:
        return {"left_out": "only root can mount a small disk"}
    found = {}
    for size in DISKS:
        with disk(scratch / size, size):
            folder = scratch / size / "run"
            code, said = finish(start([*TRAIN, *SMALL, "--checkpoint-every", "400", "--quiet", "--out", str(folder)]))
            roomy = scratch / f"{size}-copy"
            begun = (folder / "config.json").is_file()
            if begun:
                shutil.copytree(folder, roomy)
        after = resumed(roomy) if begun else (0, "")
        same = not begun or metrics(roomy) == expected
        found[size] = {"code": code, "lines": len(said.splitlines()), "resumed": after[0], "same": same}
    return found


def damage(scratch: Path, expected: bytes, count: int) -> dict[str, Any]:
    """A flipped bit, a cut or a removal in any file of an unfinished run: refused, or without any consequence."""
    from purejaxdqn import train

    whole = scratch / "whole"
    process = start([*TRAIN, *SMALL, "--checkpoint-every", "400", "--quiet", "--out", str(whole)])
    while not list(whole.glob("checkpoints/*/*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    finish(process)
    draw, wrong = random.Random(0), []
    outcomes: Counter[str] = Counter()
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for number in range(count):
        folder = scratch / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        name, how = draw.choice(files), draw.choice(("flip", "cut", "removal"))
        harm(folder / name, how, draw)
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = train.main(["--resume", str(folder), "--quiet"])
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:
            code = -1
            said.write(type(error).__name__)
        refused = code == 2 and len(said.getvalue().splitlines()) == 1
        harmless = code == 0 and metrics(folder) == expected
        outcome = "refused" if refused else "harmless" if harmless else "wrong"
        outcomes[outcome] += 1
        if outcome == "wrong":
            wrong.append({"file": str(name), "how": how, "code": code, "said": said.getvalue()[-200:], "trial": number})
    return {"outcomes": dict(outcomes), "wrong": wrong, "files": len(files)}


def harm(path: Path, how: str, draw: random.Random) -> None:
    """Flips a bit of a file, cuts it, or removes it."""
    if how == "removal":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(data[: draw.randrange(len(data)) if data else 0])
    elif data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)


def places(scratch: Path, expected: bytes, _: int) -> dict[str, Any]:
    """Other settings of JAX, no home, a user that nobody knows: CartPole trains, with the same numbers."""
    found = {}
    for name, changes in PLACES.items():
        environment = {key: value for key, value in os.environ.items() if key not in changes}
        environment |= {key: value for key, value in changes.items() if value is not None}
        folder = scratch / name
        code, said = finish(start([*TRAIN, *SMALL, "--quiet", "--out", str(folder)], env=environment, cwd=scratch))
        found[name] = {"code": code, "same": metrics(folder) == expected, "lines": len(said.splitlines())}
    found["an unknown user"] = by_unknown_user(expected)
    return found


def by_unknown_user(expected: bytes) -> dict[str, Any]:
    """A run by a user without a name and without a home, for which one has to be root."""
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o777)
        folder = Path(scratch) / "run"
        words = [*TRAIN, *SMALL, "--quiet", "--out", str(folder)]
        try:
            code, said = finish(start(words, env=environment, user=12345, cwd=scratch))
        except PermissionError:
            return {"left_out": "not root, or this interpreter is closed to other users"}
        return {"code": code, "same": metrics(folder) == expected, "lines": len(said.splitlines())}


PARTS: dict[str, Callable[[Path, bytes, int], dict[str, Any]]] = {
    "output": output,
    "writers": writers,
    "stops": stops,
    "disks": disks,
    "damage": damage,
    "places": places,
}


def main() -> None:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--stops", type=int, default=40, help="signals")
    parser.add_argument("--damages", type=int, default=400, help="damaged folders")
    parser.add_argument("--name", default="edges", help="name of the result file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed = Path(scratch) / "undisturbed"
        code, said = finish(start([*TRAIN, *SMALL, "--quiet", "--out", str(undisturbed)]))
        if code != 0:
            raise SystemExit(f"the undisturbed run failed: {said}")
        for name in args.part:
            folder = Path(scratch) / name
            folder.mkdir()
            found = PARTS[name](
                folder, metrics(undisturbed), {"stops": args.stops, "damage": args.damages}.get(name, 0)
            )
            print(json.dumps({name: found}, indent=1), flush=True)
            parts = (read_result(args.name) or {}).get("parts", {})
            write_result(args.name, "Runs at the edges of where people run things.", {"parts": parts | {name: found}})


if __name__ == "__main__":
    main()
