"""What wants an accelerator, in one command: correctness, speed by lanes, sweeps, learning, MinAtar's family, Atari.

python -m benchmarks.gpu [--small]
python -m benchmarks.gpu --only family --games Breakout-MinAtar --algos rainbow dqn --minutes 9
python -m benchmarks.gpu --only atari --minutes 9           # tests, speed, then Pong by PQN; again to go on with it

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
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, last_json, run, write_result
from benchmarks.learning.family import MINATAR
from purejaxdqn.recipes.algorithms import ALGORITHMS

AGREEMENT = """
import json, jax, numpy as np
from purejaxdqn import Config, Hypers, make_agent
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan
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


def say(command: list[str], seconds: float) -> None:
    """Runs a part that writes its own results, and shows the end of what it said."""
    done = subprocess.run(["timeout", str(int(seconds)), *command], capture_output=True, text=True)
    print((done.stdout.strip() or done.stderr[-600:] or "nothing said")[-1500:], flush=True)


def measure_atari(small: bool, minutes: float) -> None:
    """Tests of the host loop on this device, its speed with a million frames, and Pong in pieces."""
    end = time.perf_counter() + 60 * minutes
    python, suffix = [sys.executable, "-m"], "-small" if small else ""
    if not (RESULTS / f"atari-dqn-gpu{suffix}.json").exists():
        tests = [*python, "pytest", "-q", "tests/replay/test_frames.py", "tests/loops/test_host_loop.py"]
        say(tests if small else ["env", "PUREJAXDQN_TEST_DEVICE=gpu", *tests], 240)
        sizes = ["8", "16"] if small else ["8", "32", "128", "512", "1024"]
        quick = ["--seconds", "0.5", "--repetitions", "2"] if small else ["--seconds", "1", "--repetitions", "3"]
        frames = ["--buffer-size", "20000" if small else "1000000"]
        speed = [*python, "benchmarks.atari", "--num-envs", *sizes, *quick]
        say([*speed, "--name", f"atari-dqn-gpu{suffix}", *frames], 200)
        # A rollout of 128 environments is the recipe's; fewer have as many steps that a minibatch divides.
        say([*speed, "--name", f"atari-pqn-gpu{suffix}", "--algo", "pqn"], 120)
    left = (end - time.perf_counter()) / 60
    steps = ["--total-steps", "20000", "--num-envs", "8"] if small else ["--total-steps", "2500000"]
    name = ["--name", f"pong-pqn-gpu{suffix}"]
    if left > 0.5:
        piece = [*python, "benchmarks.atari_learning", "--recipe", "nature-pqn", *steps, *name]
        say([*piece, "--minutes", f"{left - 0.2:.1f}"], 60 * left + 60)


def measure_sweeps(small: bool, purejaxrl: list[str]) -> Found:
    """Seconds to train many CartPole agents to solved by one sweep, and PureJaxRL's lanes beside ours."""
    for count in (2, 4) if small else (1_000, 10_000):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "sweep"
            flags = ["--env", "CartPole-v1", "--seeds", str(count), "--no-report", "--quiet", "--out", str(out)]
            flags += ["--total-steps", "4000"] if small else []
            script = (
                f"import json; from purejaxdqn.sweep.command import main; main({flags!r}); "
                f"print(json.dumps(json.load(open({str(out / 'summary.json')!r}))))"
            )
            yield f"{count} agents", attempt(f"{count} agents", [sys.executable, "-c", script], 400)
    if purejaxrl:
        steps = ["--total-steps", "20000" if small else "100000"]
        for count in (1, 2) if small else (1, 16, 256, 1024, 4096, 16384):
            name = f"purejaxrl, {count} lanes"
            yield name, attempt(name, [*purejaxrl, *steps, "--seeds", str(count)], 200)


def print_table(data: dict[str, Any]) -> None:
    """What was found, in a few lines."""
    print(f"\nlargest difference of a lane from its solo run: {data['agreement'].get('largest_parameter_difference')}")
    for count, found in data["lanes"].items():
        print(f"{count:>6} lanes {found.get('steps_per_second', 0):14,.0f} steps/s")
    for name, found in data["sweeps"].items():
        solved = (found.get("ranking") or [{}])[0].get("solved_share")
        speed = f"{found.get('steps_per_second', 0):14,.0f} steps/s"
        print(f"{name:>24} {speed}  {found.get('run_seconds', 0):.0f} s  solved {solved}")
    for env, found in data["learning"].items():
        scores = sorted(seed["last_mean_return"] for seed in found.get("evaluation", []))
        if scores:
            median, seconds = scores[len(scores) // 2], found["run_seconds"]
            print(f"{env:18} median {median:8.1f}  min {scores[0]:8.1f}  {seconds:.0f} s")


def main() -> None:
    """Reads the command line, measures and prints a short table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script on a CPU")
    parser.add_argument("--only", choices=("basics", "family", "atari"), help="one part (default: all)")
    parser.add_argument("--games", nargs="+", default=list(MINATAR))
    parser.add_argument("--algos", nargs="+", default=["rainbow", "dqn", "pqn", *sorted(ALGORITHMS)])
    parser.add_argument("--purejaxrl", help="a clone of PureJaxRL")
    parser.add_argument("--purejaxrl-python", help="an interpreter with what it imports")
    parser.add_argument("--minutes", type=float, default=9.0, help="for the family, and for Atari (default: 9)")
    args = parser.parse_args()
    if args.only in (None, "basics"):
        data: dict[str, Any] = {"agreement": attempt("agreement", [sys.executable, "-c", AGREEMENT], 300)}
        data |= {"lanes": {}, "sweeps": {}, "learning": {}}
        script = str(Path(__file__).parent / "peers" / "purejaxrl_dqn.py")
        peer = [args.purejaxrl_python, script, "--path", str(args.purejaxrl)] if args.purejaxrl_python else []
        what = "lane agreement, steps per second by lanes, and learning, on the accelerator of this machine"
        parts = {
            "lanes": partial(measure_lanes, args.small),
            "sweeps": partial(measure_sweeps, args.small, peer),
            "learning": partial(measure_learning, args.small),
        }
        for section, measure in parts.items():
            for name, found in measure():
                data[section][name] = found
                write_result("gpu-small" if args.small else "gpu", what, data)
        print_table(data)
    if args.only in (None, "family"):
        measure_family(args.small, args.games, list(dict.fromkeys(args.algos)), args.minutes)
    if args.only in (None, "atari"):
        measure_atari(args.small, args.minutes)


if __name__ == "__main__":
    main()
