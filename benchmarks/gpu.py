"""Everything that wants an accelerator, in one command: correctness, speed by lanes, learning, and MinAtar's family.

python -m benchmarks.gpu [--small]
python -m benchmarks.gpu --only family --games Breakout-MinAtar --algos rainbow dqn --minutes 9

Each part is a process of its own, so that a part that fails costs only itself; results are written as they come, as
benchmarks/results/gpu.json, and a short table comes last. `--only family` goes on where an earlier call stopped.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import last_json, run, write_result
from benchmarks.family import MINATAR
from purejaxdqn.algorithms import ALGORITHMS

AGREEMENT = """
import json, jax, numpy as np
from purejaxdqn import Config, Hypers, make_agent
from purejaxdqn.loops.lanes import make_lanes, make_plan, repeat_hypers, seed_keys
agent = make_agent(Config(total_steps=20_000))
stacked = repeat_hypers(Hypers(), 4)
lanes = make_lanes(agent, make_plan(agent, 4))
state = lanes.init(lanes.put(seed_keys([0, 1, 2, 3])), lanes.put(stacked))
state, _ = lanes.iterate(state, lanes.put(stacked), 20)
together = lanes.get(state)
worst = 0.0
for seed in range(4):
    lanes = make_lanes(agent, make_plan(agent, 1))
    one = jax.tree.map(lambda x: x[:1], stacked)
    state = lanes.init(lanes.put(seed_keys([seed])), lanes.put(one))
    state, _ = lanes.iterate(state, lanes.put(one), 20)
    solo = lanes.get(state)
    for a, b in zip(jax.tree.leaves(together.learner.params), jax.tree.leaves(solo.learner.params)):
        worst = max(worst, float(np.abs(a[seed] - b[0]).max()))
print(json.dumps({"platform": jax.devices()[0].platform, "largest_parameter_difference": worst}))
"""


def attempt(name: str, command: list[str], seconds: float) -> dict[str, Any]:
    """Runs one part and returns its JSON line, or the reason why there is none."""
    begin = time.perf_counter()
    try:
        found = last_json(run(["timeout", str(int(seconds)), *command]).output)
    except (RuntimeError, IndexError, subprocess.SubprocessError) as error:
        found = {"failed": str(error)[-600:]}
    print(f"{name}: {json.dumps(found)[:160]} ({time.perf_counter() - begin:.0f} s)", flush=True)
    return found


def train(env: str, seeds: int, steps: int | None, scratch: str) -> list[str]:
    """A training command that prints its summary as one JSON line."""
    out = str(Path(scratch) / env)
    flags = ["--env", env, "--seeds", str(seeds), "--quiet", "--out", out]
    flags += ["--total-steps", str(steps)] if steps else []
    script = (
        "import json, sys; from purejaxdqn.train import main; "
        f"main({flags!r}); print(json.dumps(json.load(open({out + '/summary.json'!r}))))"
    )
    return [sys.executable, "-c", script]


Found = Iterator[tuple[str, dict[str, Any]]]
"""(name, result) of one part after another, each when it is known."""


def measure_lanes(small: bool) -> Found:
    """Steps per second by number of lanes."""
    steps = "20000" if small else "100000"
    program = [sys.executable, "-m", "benchmarks.peers.ours_dqn", "--total-steps", steps, "--seeds"]
    counts = [1, 4] if small else [1, 16, 64, 256, 1024, 4096, 16384]
    for count in counts:
        yield str(count), attempt(f"{count} lanes", [*program, str(count)], 300)


def measure_learning(small: bool) -> Found:
    """The default recipes over many seeds."""
    whole = {"CartPole-v1": 1024, "MountainCar-v0": 256, "Acrobot-v1": 256, "Breakout-MinAtar": 64}
    steps = 20_000 if small else None
    with tempfile.TemporaryDirectory() as scratch:
        for env, seeds in ({"CartPole-v1": 2} if small else whole).items():
            yield env, attempt(env, train(env, seeds, steps, scratch), 500)


def measure_family(small: bool, games: list[str], algos: list[str], minutes: float) -> None:
    """Every algorithm on every game, 10 seeds, until the time is up; writes results/family-GAME-gpu.json."""
    end = time.perf_counter() + 60 * minutes
    size = ["--seeds", "2", "--total-steps", "20000"] if small else ["--seeds", "10"]
    for algo, game in itertools.product(algos, games):
        left = end - time.perf_counter()
        if left < 30:
            print(f"the time is up before {algo} on {game}")
            return
        name = f"{game}-gpu" + ("-small" if small else "")
        command = [sys.executable, "-m", "benchmarks.family", "--env", game, "--algos", algo, "--name", name, "--keep"]
        done = subprocess.run(["timeout", str(int(left)), *command, *size], capture_output=True, text=True)
        print(done.stdout.strip() or f"{algo} on {game}: {done.stderr[-300:] or 'kept'}", flush=True)


def print_table(data: dict[str, Any]) -> None:
    """What was found, in a few lines."""
    print(f"\nlargest difference of a lane from its solo run: {data['agreement'].get('largest_parameter_difference')}")
    for count, found in data["lanes"].items():
        print(f"{count:>6} lanes {found.get('steps_per_second', 0):14,.0f} steps/s")
    for env, found in data["learning"].items():
        scores = sorted(seed["last_mean_return"] for seed in found.get("evaluation", []))
        if scores:
            median, seconds = scores[len(scores) // 2], found["run_seconds"]
            print(f"{env:18} median {median:8.1f}  min {scores[0]:8.1f}  {seconds:.0f} s")


def main() -> None:
    """Reads the command line, measures and prints a short table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script on a CPU")
    parser.add_argument("--only", choices=("basics", "family"), help="one half (default: both)")
    parser.add_argument("--games", nargs="+", default=list(MINATAR))
    parser.add_argument("--algos", nargs="+", default=["rainbow", "dqn", "pqn", *sorted(ALGORITHMS)])
    parser.add_argument("--minutes", type=float, default=9.0, help="for the family (default: 9)")
    args = parser.parse_args()
    if args.only != "family":
        data: dict[str, Any] = {"agreement": attempt("agreement", [sys.executable, "-c", AGREEMENT], 300)}
        data |= {"lanes": {}, "learning": {}}
        what = "lane agreement, steps per second by lanes, and learning, on the accelerator of this machine"
        for section, measure in (("lanes", measure_lanes), ("learning", measure_learning)):
            for name, found in measure(args.small):
                data[section][name] = found
                write_result("gpu-small" if args.small else "gpu", what, data)
        print_table(data)
    if args.only != "basics":
        measure_family(args.small, args.games, list(dict.fromkeys(args.algos)), args.minutes)


if __name__ == "__main__":
    main()
