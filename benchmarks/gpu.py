"""Everything that wants an accelerator, in one command: correctness, speed by lanes, and learning.

python -m benchmarks.gpu [--small]

Each part is a process of its own, so that a part that fails costs only itself; results are written as they come, as
benchmarks/results/gpu.json, and a short table comes last.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import last_json, run, write_result

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


def main() -> None:
    """Reads the command line, measures and prints a short table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script on a CPU")
    args = parser.parse_args()
    lane_counts = [1, 4] if args.small else [1, 16, 64, 256, 1024, 4096, 16384]
    steps = "20000" if args.small else "100000"
    data: dict[str, Any] = {"lanes": {}, "learning": {}}
    name = "gpu-small" if args.small else "gpu"
    what = "lane agreement, steps per second by lanes, and learning, on the accelerator of this machine"
    data["agreement"] = attempt("agreement", [sys.executable, "-c", AGREEMENT], 300)
    for count in lane_counts:
        command = [sys.executable, "-m", "benchmarks.peers.ours_dqn", "--seeds", str(count), "--total-steps", steps]
        data["lanes"][str(count)] = attempt(f"{count} lanes", command, 300)
        write_result(name, what, data)
    runs = (
        {"CartPole-v1": (2, 20_000)}
        if args.small
        else {
            "CartPole-v1": (1024, None),
            "MountainCar-v0": (256, None),
            "Acrobot-v1": (256, None),
            "Breakout-MinAtar": (64, None),
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        for env, (seeds, total) in runs.items():
            data["learning"][env] = attempt(env, train(env, seeds, total, scratch), 500)
            write_result(name, what, data)
    print(f"\nlargest difference of a lane from its solo run: {data['agreement'].get('largest_parameter_difference')}")
    for count, found in data["lanes"].items():
        print(f"{count:>6} lanes {found.get('steps_per_second', 0):14,.0f} steps/s")
    for env, found in data["learning"].items():
        scores = sorted(seed["last_mean_return"] for seed in found.get("evaluation", []))
        if scores:
            print(
                f"{env:18} median {scores[len(scores) // 2]:8.1f}  min {scores[0]:8.1f}  {found['run_seconds']:.0f} s"
            )


if __name__ == "__main__":
    main()
