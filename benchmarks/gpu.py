"""What wants an accelerator, in one command: correctness, speed by lanes, sweeps, learning, MinAtar's family, Atari.

python -m benchmarks.gpu [--small]
python -m benchmarks.gpu --only lanes plain --lanes 1 16 1024 --minutes 5
python -m benchmarks.gpu --only family --games Breakout-MinAtar --algos rainbow dqn --minutes 9
python -m benchmarks.gpu --only pong --minutes 9            # Pong by PQN; again to go on with it

Each part is a process of its own, so that a part that fails costs only itself; results are written as they come, into
benchmarks/results/gpu.json beside what other calls left there, and a short table comes last. A part for which the time
is up is left out. `--only family` and `--only pong` go on where an earlier call stopped.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import last_json, read_result, run, write_result
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


NO_GRAPHS = {"XLA_FLAGS": "--xla_gpu_graph_min_graph_size=5"}
"""XLA's default, which a user has set: the library leaves graphs alone then (see `machine.devices.GRAPHS`)."""


def attempt(
    name: str, command: list[str], seconds: float, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs one part and returns its JSON line, or the reason why there is none."""
    begin = time.perf_counter()
    try:
        found = last_json(run(["timeout", str(int(seconds)), *command], environment).output)
        # Thousands of them; their mean stays.
        found.pop("greedy_returns", None)
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


def measure_agreement() -> Found:
    """How far a lane is from the run alone."""
    yield "lanes", attempt("agreement", [sys.executable, "-c", AGREEMENT], 300)


def measure_lanes(
    steps: int, counts: list[int], flags: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Found:
    """Steps per second by number of lanes, at PureJaxRL's settings."""
    program = [sys.executable, "-m", "benchmarks.peers.ours_dqn", "--total-steps", str(steps), *flags, "--seeds"]
    for count in counts:
        yield str(count), attempt(f"{count} lanes", [*program, str(count)], 300, environment)


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


def measure_atari(small: bool) -> None:
    """Tests of the host loop on this device, and its speed by number of environments; writes atari-*-gpu.json."""
    python, suffix = [sys.executable, "-m"], "-small" if small else ""
    tests = [*python, "pytest", "-q", "tests/replay/test_frames.py", "tests/loops/test_host_loop.py"]
    say(tests if small else ["env", "PUREJAXDQN_TEST_DEVICE=gpu", *tests], 240)
    speed = [*python, "benchmarks.atari"]
    speed += ["--seconds", "0.5", "--repetitions", "2"] if small else ["--seconds", "1", "--repetitions", "3"]
    frames = ["--buffer-size", "20000" if small else "1000000"]
    # A rollout of 128 environments is the recipe's; fewer have as many steps that a minibatch divides.
    pqn, dqn = (["8", "16"], ["8", "16"]) if small else (["128", "512", "1024"], ["8", "32", "128"])
    say([*speed, "--name", f"atari-pqn-gpu{suffix}", "--algo", "pqn", "--num-envs", *pqn], 120)
    say([*speed, "--name", f"atari-dqn-gpu{suffix}", "--num-envs", *dqn, *frames], 200)


def learn_pong(small: bool, minutes: float) -> None:
    """Pong by PQN at the paper's settings, in pieces; writes results/atari-pong-pqn-gpu.json."""
    name = ["--name", "pong-pqn-gpu" + ("-small" if small else "")]
    steps = ["--total-steps", "20000", "--num-envs", "8"] if small else ["--total-steps", "2500000"]
    steps += ["--eval-every", "4096" if small else "102400", "--eval-episodes", "10"]
    piece = [sys.executable, "-m", "benchmarks.atari_learning", "--recipe", "nature-pqn", *steps, *name]
    say([*piece, "--minutes", f"{minutes - 0.2:.1f}"], 60 * minutes + 60)


def measure_sweeps(small: bool, agents: list[int]) -> Found:
    """Seconds to train many CartPole agents to solved by one sweep."""
    for count in agents:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "sweep"
            flags = ["--env", "CartPole-v1", "--seeds", str(count), "--no-report", "--quiet", "--out", str(out)]
            flags += ["--total-steps", "4000"] if small else []
            script = (
                f"import json; from purejaxdqn.sweep.command import main; main({flags!r}); "
                f"print(json.dumps(json.load(open({str(out / 'summary.json')!r}))))"
            )
            yield f"{count} agents", attempt(f"{count} agents", [sys.executable, "-c", script], 400)


def measure_purejaxrl(steps: int, counts: list[int], command: list[str]) -> Found:
    """PureJaxRL's lanes; nothing without a clone of it."""
    for count in counts if command else []:
        flags = ["--total-steps", str(steps), "--seeds", str(count)]
        yield str(count), attempt(f"purejaxrl, {count} lanes", [*command, *flags], 200)


def print_table(data: dict[str, Any]) -> None:
    """What was found, in a few lines."""
    agreement = data["agreement"].get("lanes", {})
    print(f"\nlargest difference of a lane from its solo run: {agreement.get('largest_parameter_difference')}")
    for section in (*LANES, "purejaxrl"):
        for count, found in data[section].items():
            print(f"{section}: {count:>6} lanes {found.get('steps_per_second', 0):14,.0f} steps/s")
    for name, found in data["sweeps"].items():
        solved = (found.get("ranking") or [{}])[0].get("solved_share")
        speed = f"{found.get('steps_per_second', 0):14,.0f} steps/s"
        print(f"{name:>24} {speed}  {found.get('run_seconds', 0):.0f} s  solved {solved}")
    for env, found in data["learning"].items():
        scores = sorted(seed["last_mean_return"] for seed in found.get("evaluation", []))
        if scores:
            median, seconds = scores[len(scores) // 2], found["run_seconds"]
            print(f"{env:18} median {median:8.1f}  min {scores[0]:8.1f}  {seconds:.0f} s")


EARLIER = ("graphs", "told", "told_graphs")
"""Sections of programs that no longer exist in one piece, which a result keeps; its notes say what they were."""
LANES = ("lanes", "plain", "kernel")
"""Sections of speed by lanes: a call as one CUDA graph; without; and without, but with an update as one kernel."""
SECTIONS = ("agreement", *LANES, "purejaxrl", "sweeps", "learning")
"""Of results/gpu.json."""
PARTS = (*SECTIONS, "family", "atari", "pong")


def main() -> None:
    """Reads the command line, measures and prints a short table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script on a CPU")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (default: all)")
    parser.add_argument("--lanes", nargs="+", type=int, help="numbers of lanes (default: 1 to 16,384)")
    parser.add_argument("--agents", nargs="+", type=int, help="sizes of sweeps (default: 1,000 and 10,000)")
    parser.add_argument("--games", nargs="+", default=list(MINATAR))
    parser.add_argument("--algos", nargs="+", default=["rainbow", "dqn", "pqn", *sorted(ALGORITHMS)])
    parser.add_argument("--purejaxrl", help="a clone of PureJaxRL")
    parser.add_argument("--purejaxrl-python", help="an interpreter with what it imports")
    parser.add_argument("--minutes", type=float, default=9.0, help="of each group: sections, family, Pong (default: 9)")
    args = parser.parse_args()
    small, end = args.small, time.perf_counter() + 60 * args.minutes
    lanes = args.lanes or ([1, 4] if small else [1, 16, 64, 256, 1024, 4096, 16384])
    agents = args.agents or ([2, 4] if small else [1_000, 10_000])
    steps = 20_000 if small else 100_000
    script = str(Path(__file__).parent / "peers" / "purejaxrl_dqn.py")
    peer = [args.purejaxrl_python, script, "--path", str(args.purejaxrl)] if args.purejaxrl_python else []
    sections: dict[str, Callable[[], Found]] = {
        "agreement": measure_agreement,
        "lanes": partial(measure_lanes, steps, lanes),
        "plain": partial(measure_lanes, steps, lanes, (), NO_GRAPHS),
        "kernel": partial(measure_lanes, steps, lanes, ("--update-kernel",), NO_GRAPHS),
        "purejaxrl": partial(measure_purejaxrl, steps, lanes, peer),
        "sweeps": partial(measure_sweeps, small, agents),
        "learning": partial(measure_learning, small),
    }
    what = "lane agreement, steps per second by lanes, and learning, on the accelerator of this machine"
    name = "gpu-small" if small else "gpu"
    before = read_result(name) or {}
    kept = {"notes": before["notes"]} if "notes" in before else {}
    data: dict[str, Any] = kept | {section: before.get(section, {}) for section in (*EARLIER, *SECTIONS)}
    parts = ((section, *part) for section in SECTIONS if section in args.only for part in sections[section]())
    for section, key, found in parts:
        if "failed" not in found or key not in data[section]:
            # What an earlier call measured is worth more than a reason why this one did not.
            data[section][key] = found
        write_result(name, what, data)
        if time.perf_counter() > end:
            # Each part is measured when it is asked for, so those of later sections are left out too.
            break
    if set(SECTIONS) & set(args.only):
        print_table(data)
    if "family" in args.only:
        measure_family(small, args.games, list(dict.fromkeys(args.algos)), args.minutes)
    if "atari" in args.only:
        measure_atari(small)
    if "pong" in args.only:
        learn_pong(small, args.minutes)


if __name__ == "__main__":
    main()
