"""Learning from data: three qualities of CartPole's, policies ranked without playing, demonstrations for MountainCar.

python -m benchmarks.offline                                      # all parts, 8 seeds
python -m benchmarks.offline --parts quality --seeds 4 --updates 2000

`quality`: the replay of a short online run (mixed), 40 episodes of its policy with ε = 0.3 (medium), and of a longer
run's with ε = 0.05 (expert); every learner on each, judged by the greedy return of its last parameters. `fqe`:
Spearman's rank correlation of fitted Q evaluation with what eight policies reach when they play. `demonstrations`:
environment steps until a seed's evaluation of MountainCar reaches -110, with a quarter of every batch from 20 episodes
of a scripted policy (push the way that the car moves), and without.
Writes results/offline.json after every part.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import commit, read_result, run, write_result
from benchmarks.learning.defaults import evaluate, summarize, train
from purejaxdqn.build import build
from purejaxdqn.config import Config
from purejaxdqn.replay.dataset import write_dataset
from purejaxdqn.runs.recording import play_dataset
from purejaxdqn.statistics.intervals import bootstrap_interval

WHAT = "learning from recorded data: returns by quality of the data, ranks by fitted Q evaluation, demonstrations"
LEARNERS: dict[str, list[str]] = {
    "dqn": [],
    "cql": ["--constraint", "cql"],
    "bcq": ["--head", "bcq"],
    "iql": ["--head", "iql"],
    "cloning": ["--constraint", "cloning"],
}
"""Flags beside those of plain DQN."""
SOLVED = -110.0


def record(folder: Path, file: Path, *flags: str) -> None:
    """Has a run's best policy play episodes, and keeps them."""
    run([sys.executable, "-m", "purejaxdqn.evaluate", str(folder), "--json", "--save-dataset", str(file), *flags])


def online(scratch: Path, name: str, steps: int, seeds: int = 1, seed: int = 0) -> Path:
    """Trains CartPole's default recipe for a number of steps, all of which its replay keeps."""
    flags = ["--env", "CartPole-v1", "--total-steps", str(steps), "--buffer-size", str(steps), "--quiet"]
    more = ["--seeds", str(seeds), "--seed", str(seed), "--save-dataset", str(scratch / f"{name}.npz")]
    train([*flags, *more, "--eval-episodes", "20"], scratch / name)
    return scratch / name


def quality(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Every learner on every quality of data."""
    runs = {"mixed": online(scratch, "mixed", 20_000)}
    if "medium" in args.data:
        record(runs["mixed"], scratch / "medium.npz", "--episodes", "40", "--epsilon", "0.3")
    if "expert" in args.data:
        runs["longer"] = online(scratch, "longer", 60_000, seed=5)
        record(runs["longer"], scratch / "expert.npz", "--episodes", "40", "--epsilon", "0.05")
    found: dict[str, Any] = {"behind": {name: evaluate(folder, "best").tolist() for name, folder in runs.items()}}
    for data in args.data:
        scores = {}
        for name in args.learners:
            folder = scratch / f"{data}-{name}"
            size = ["--total-steps", str(args.updates), "--eval-every", str(args.updates), "--eval-episodes", "10"]
            words = ["--env", "CartPole-v1", "--algo", "dqn", "--learner", "dataset", *size, *LEARNERS[name], "--quiet"]
            words += ["--target-period", "20", "--learning-rate-schedule", "constant"]
            words += ["--seeds", str(args.seeds), "--seed", "1000", "--dataset", str(scratch / f"{data}.npz")]
            train(words, folder)
            scores[name] = evaluate(folder, "last", "--episodes", "20")
            print(f"{data} {name}: {scores[name].round(1).tolist()}", flush=True)
        found[data] = {name: summarize(score) for name, score in scores.items()}
        if {"cql", "dqn"} <= scores.keys():
            above = scores["cql"] - scores["dqn"]
            interval = [float(end) for end in bootstrap_interval(above, np.mean)]
            found[data]["cql_above_dqn"] = {"mean": float(above.mean()), "interval_95": interval}
    return found


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two rows of numbers without ties."""
    first, second = (np.argsort(np.argsort(x)).astype(float) for x in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def fqe(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Eight policies, of as many seeds after few steps, by playing and by the replay of another run."""
    online(scratch, "data", 20_000, seed=9)
    policies = online(scratch, "policies", 4_000, seeds=8, seed=20)
    played = evaluate(policies, "last")
    flags = ["--json", "--which", "last", "--fqe", str(scratch / "data.npz"), "--fqe-updates", str(args.fqe_updates)]
    output = run([sys.executable, "-m", "purejaxdqn.evaluate", str(policies), *flags]).output
    valued = np.array([seed["value"] for seed in json.loads(output)["seeds"]])
    print(f"fqe: {spearman(played, valued):.2f}", flush=True)
    numbers = {"played": played.round(2).tolist(), "valued": valued.round(3).tolist()}
    return {**numbers, "spearman": spearman(played, valued), "updates": args.fqe_updates}


def scripted(file: Path, episodes: int) -> list[float]:
    """Plays MountainCar by pushing the way that the car moves, and keeps it; the returns."""
    parts = build(Config(env="MountainCar-v0"))

    def values(obs: Any) -> Any:
        return jax.nn.one_hot(jnp.where(obs[..., 1] < 0, 0, 2), 3)

    network: Any = SimpleNamespace(apply=lambda params, obs, key, role: obs)
    pushing = parts._replace(network=network, head=parts.head._replace(q_values=values))
    played = play_dataset(pushing, {}, jax.random.key(0), 0, episodes, 0.0, None)
    write_dataset(file, played, parts.env.spec)
    return [float(x) for x in played.returns]


def demonstrations(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Steps until each seed's evaluation reaches the bar, with demonstrations and without."""
    found: dict[str, Any] = {"demonstrated": scripted(scratch / "demos.npz", 20)}
    size = ["--total-steps", str(args.total_steps), "--eval-every", "5000", "--log-every", "5000"]
    common = ["--env", "MountainCar-v0", *size, "--seeds", str(args.seeds), "--seed", "1000", "--quiet"]
    shared = ["--dataset", str(scratch / "demos.npz"), "--demo-share", "0.25", "--constraint", "margin"]
    weak = [*shared, "--constraint-weight", "0.1"]
    for name, more in (("with", shared), ("with, weakly", weak), ("without", [])):
        result = train([*common, "--eval-episodes", "20", *more], scratch / name)
        curve = result["curve"]
        steps = [
            next((step for step, score in zip(curve["env_steps"], scores, strict=True) if score >= SOLVED), None)
            for scores in zip(*curve["eval_returns"], strict=True)
        ]
        found[name] = {"solved_at": steps, "curve": curve, "train_wall_seconds": result["train_wall_seconds"]}
        print(f"{name}: {steps}", flush=True)
    return found


PARTS = {"quality": quality, "fqe": fqe, "demonstrations": demonstrations}


def main() -> None:
    """Reads the command line, measures, and writes the results after every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument(
        "--data", nargs="+", choices=["mixed", "medium", "expert"], default=["mixed", "medium", "expert"]
    )
    parser.add_argument("--learners", nargs="+", choices=list(LEARNERS), default=list(LEARNERS))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--updates", type=int, default=5_000)
    parser.add_argument("--fqe-updates", type=int, default=5_000)
    parser.add_argument("--total-steps", type=int, default=300_000, help="of MountainCar")
    args = parser.parse_args()
    for name in args.parts:
        with tempfile.TemporaryDirectory() as scratch:
            measured = {"commit": commit(), "arguments": vars(args), **PARTS[name](Path(scratch), args)}
        found = read_result("offline") or {}
        write_result("offline", WHAT, {**{part: found[part] for part in PARTS if part in found}, name: measured})


if __name__ == "__main__":
    main()
