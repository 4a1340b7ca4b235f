"""Trains in folders of generated names: what ends with 0 must be resumed, evaluated, reported and loaded.

python -m benchmarks.robustness.paths --names 200
"""

import argparse
import contextlib
import io
import os
import random
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import write_result
from purejaxdqn import evaluate, load_policy, train
from purejaxdqn.report import command as report

SMALL = ["--total-steps", "400", "--num-envs", "4", "--learning-starts", "40", "--buffer-size", "200", "--quiet"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2"]
PIECES = [
    *"[]{}()*?!'\"`$&;|<>~#%\\:=+,@^ ",
    "\n",
    "\t",
    "  ",
    "%20",
    "[0-9]",
    "gs://",
    "é",
    "漢字",
    "🙂",
    "\u202e",
    "\udcff",
]


def generate(rng: random.Random) -> str:
    """A name: odd pieces among letters, now and then of two levels, too long, or empty."""
    kind = rng.random()
    if kind < 0.04:
        return rng.choice(string.ascii_letters) * rng.randint(250, 400)
    pieces = rng.choices([*PIECES, *string.ascii_letters], k=rng.randint(1, 12))
    if kind < 0.3:
        pieces.insert(rng.randint(0, len(pieces)), "/")
    return "".join(pieces).lstrip("/")


def outcome(act: Callable[[], Any]) -> tuple[int, str]:
    """The exit code of a command that is run here, and what it said on stderr; a traceback is -1."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            act()
    except SystemExit as stop:
        return int(stop.code or 0), said.getvalue()
    except Exception as error:
        return -1, f"{type(error).__name__}: {error}"
    return 0, said.getvalue()


def try_name(name: str) -> dict[str, Any]:
    """Trains in a folder of this name, and uses it in every way where that ended with 0."""
    code, said = outcome(lambda: train.main([*SMALL, f"--out={name}"]))
    found: dict[str, Any] = {"name": ascii(name), "train": code}
    if code != 0:
        one_sentence = code == 2 and len(said.strip().splitlines()) == 1
        return found | {"said": ascii(said.strip()), "good": one_sentence}
    # As a person types it who knows that a leading dash is a flag.
    typed = f"./{name}" if name.startswith("-") else name
    uses = {
        "resume": lambda: train.main([f"--resume={name}", "--total-steps", "600", "--quiet"]),
        "evaluate": lambda: evaluate.main([typed, "--episodes", "1", "--json"]),
        "report": lambda: report.main([typed]),
        "load": lambda: load_policy(name),
    }
    for use, act in uses.items():
        found[use], said = outcome(act)
        if found[use] != 0:
            found[f"{use}_said"] = ascii(said.strip())
    return found | {"good": all(found[use] == 0 for use in uses)}


def main() -> None:
    """Reads the command line, tries all names and writes results/paths.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the names (default: 0)")
    args = parser.parse_args()
    rng, tried = random.Random(args.seed), []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(args.names):
            # Each beneath a folder of its own, every third of which is a link to one with brackets.
            place = Path(scratch) / str(number)
            real = place.with_name(f"{number} [real]") if number % 3 == 0 else place
            real.mkdir()
            if real != place:
                place.symlink_to(real)
            os.chdir(place)
            name = generate(rng)
            tried.append(try_name(name if number % 2 else (str(place / name) if name else name)))
            os.chdir(before)
            if not tried[-1]["good"]:
                print(tried[-1], flush=True)
    # Where the scratch folder lay says nothing.
    tried = [
        {key: said.replace(scratch, "") if isinstance(said, str) else said for key, said in item.items()}
        for item in tried
    ]
    good, trained = sum(item["good"] for item in tried), sum(item["train"] == 0 for item in tried)
    print(f"{good} of {args.names} names are as they should be: {trained} trained and read, the others refused")
    what = "Folders of generated names: what was trained in them is resumed, evaluated, reported and loaded."
    found = {"names": args.names, "seed": args.seed, "good": good, "trained": trained, "tried": tried}
    write_result("paths", what, found)


if __name__ == "__main__":
    main()
