"""Learning from data: CartPole's and MinAtar Breakout's, ranks without playing, and demonstrations.

python -m benchmarks.offline                                      # all parts, 8 seeds
python -m benchmarks.offline --parts quality --worlds CartPole-v1 --data mixed --seeds 4

`quality`: the replay of a short online run (mixed), 40 episodes of its policy with ε = 0.3 (medium), and of a longer
run's with ε = 0.05 (expert); every learner on each, judged by the greedy return of its last parameters. `fqe`:
Spearman's rank correlation of fitted Q evaluation with what eight policies reach when they play. `demonstrations`:
environment steps until a seed's evaluation of MountainCar reaches -110, with a share of every batch from 20 episodes of
a trained policy, and without.
Writes results/offline.json after every part, and after every world and quality of data.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import commit, read_result, run, write_result
from benchmarks.learning.defaults import evaluate, summarize, train
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
QUALITIES = ["mixed", "medium", "expert"]
SOLVED = -110.0


class World(NamedTuple):
    """How an environment's data are made and learnt from."""

    mixed: int
    """Environment steps of the run whose replay is the mixed data."""
    longer: int
    """Of the run whose policy is the expert."""
    updates: int
    conservative: float
    """CQL's α, chosen on seeds that are not among those measured."""
    flags: tuple[str, ...] = ()
    """Of learning, beside the environment's recipe."""


WORLDS = {
    "CartPole-v1": World(20_000, 60_000, 5_000, 10.0, ("--target-period", "20")),
    "Breakout-MinAtar": World(200_000, 1_000_000, 60_000, 0.2),
}


def record(folder: Path, file: Path, *flags: str) -> None:
    """Has a run's best policy play episodes, and keeps them."""
    run([sys.executable, "-m", "purejaxdqn.evaluate", str(folder), "--json", "--save-dataset", str(file), *flags])


def online(folder: Path, env: str, steps: int, seeds: int = 1, seed: int = 0, save: bool = True) -> Path:
    """Trains an environment's default recipe for a number of steps, all of which its replay keeps, in FOLDER.npz."""
    flags = ["--env", env, "--total-steps", str(steps), "--seeds", str(seeds), "--seed", str(seed), "--quiet"]
    kept = ["--buffer-size", str(steps), "--save-dataset", f"{folder}.npz"] if save else []
    train([*flags, *kept, "--eval-episodes", "20"], folder)
    return folder


def make_data(scratch: Path, env: str, wanted: list[str]) -> dict[str, Any]:
    """Writes the data that are wanted as QUALITY.npz; the returns of the policies behind them."""
    world = WORLDS[env]
    runs = {"mixed": online(scratch / "mixed", env, world.mixed)}
    if "medium" in wanted:
        record(runs["mixed"], scratch / "medium.npz", "--episodes", "40", "--epsilon", "0.3")
    if "expert" in wanted:
        runs["longer"] = online(scratch / "longer", env, world.longer, seed=5, save=False)
        record(runs["longer"], scratch / "expert.npz", "--episodes", "40", "--epsilon", "0.05")
    return {name: evaluate(folder, "best").tolist() for name, folder in runs.items()}


def learn(scratch: Path, env: str, data: str, args: argparse.Namespace) -> dict[str, Any]:
    """Every learner on one file of data."""
    world, scores = WORLDS[env], {}
    updates = str(args.updates or world.updates)
    size = ["--total-steps", updates, "--eval-every", updates, "--eval-episodes", "10", "--quiet"]
    words = ["--env", env, "--algo", "dqn", "--learner", "dataset", "--dataset", str(scratch / f"{data}.npz")]
    words += [*world.flags, "--learning-rate-schedule", "constant", "--seeds", str(args.seeds), "--seed", "1000"]
    for name in args.learners:
        folder = scratch / f"{data}-{name}"
        weight = ["--constraint-weight", f"{world.conservative:g}"] if name == "cql" else []
        train([*words, *size, *LEARNERS[name], *weight], folder)
        scores[name] = evaluate(folder, "last", "--episodes", "20")
        print(f"{env} {data} {name}: {scores[name].round(1).tolist()}", flush=True)
    found: dict[str, Any] = {name: summarize(score) for name, score in scores.items()}
    if {"cql", "dqn"} <= scores.keys():
        above = scores["cql"] - scores["dqn"]
        interval = [float(end) for end in bootstrap_interval(above, np.mean)]
        found["cql_above_dqn"] = {"mean": float(above.mean()), "interval_95": interval}
    return {"commit": commit(), "updates": int(updates), "learners": found}


def quality(scratch: Path, args: argparse.Namespace) -> None:
    """Every learner on every quality of data of every world, each added to the results when it is done."""
    for env in args.worlds:
        folder = scratch / env
        folder.mkdir()
        behind = make_data(folder, env, args.data)
        for data in args.data:
            found = read_result("offline") or {}
            worlds = found.get("quality", {})
            world = {**worlds.get(env, {}), "behind": behind, data: learn(folder, env, data, args)}
            keep("quality", {**worlds, env: world})


def keep(part: str, measured: dict[str, Any]) -> None:
    """Adds a part to the results."""
    found = read_result("offline") or {}
    write_result("offline", WHAT, {**{name: found[name] for name in PARTS if name in found}, part: measured})


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two rows of numbers without ties."""
    first, second = (np.argsort(np.argsort(x)).astype(float) for x in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def fqe(scratch: Path, args: argparse.Namespace) -> None:
    """Eight policies, of as many seeds after few steps, by playing and by the replay of another run."""
    online(scratch / "data", "CartPole-v1", 20_000, seed=9)
    policies = online(scratch / "policies", "CartPole-v1", 4_000, seeds=8, seed=20, save=False)
    played = evaluate(policies, "last")
    flags = ["--json", "--which", "last", "--fqe", str(scratch / "data.npz"), "--fqe-updates", str(args.fqe_updates)]
    output = run([sys.executable, "-m", "purejaxdqn.evaluate", str(policies), *flags]).output
    valued = np.array([seed["value"] for seed in json.loads(output)["seeds"]])
    print(f"fqe: {spearman(played, valued):.2f}", flush=True)
    numbers = {"played": played.round(2).tolist(), "valued": valued.round(3).tolist()}
    told = {"spearman": spearman(played, valued), "updates": args.fqe_updates}
    keep("fqe", {"commit": commit(), **numbers, **told})


DEMONSTRATED = ["--demo-share", "0.25", "--constraint", "margin"]
ARMS: dict[str, list[str]] = {
    "without": [],
    "with": DEMONSTRATED,
    "with a weak margin": [*DEMONSTRATED, "--constraint-weight", "0.1"],
}


def demonstrations(scratch: Path, args: argparse.Namespace) -> None:
    """Steps until each seed's evaluation reaches the bar, with demonstrations and without."""
    env, file = "MountainCar-v0", scratch / "demos.npz"
    record(online(scratch / "teacher", env, 450_000, seed=7, save=False), file, "--episodes", "20")
    returns = dataset_returns(file)
    print(f"demonstrated: {returns}", flush=True)
    size = ["--total-steps", str(args.total_steps), "--eval-every", "10000", "--log-every", "10000"]
    common = ["--env", env, *size, "--seeds", str(args.seeds), "--seed", "1000", "--quiet", "--eval-episodes", "20"]
    for name in args.arms:
        more = [*ARMS[name], "--dataset", str(file)] if ARMS[name] else []
        result = train([*common, *more], scratch / name)
        curve = result["curve"]
        steps = [
            next((step for step, score in zip(curve["env_steps"], scores, strict=True) if score >= SOLVED), None)
            for scores in zip(*curve["eval_returns"], strict=True)
        ]
        print(f"{name}: {steps}", flush=True)
        arms = ((read_result("offline") or {}).get("demonstrations") or {}).get("arms", {})
        arm = {"commit": commit(), "flags": ARMS[name], "solved_at": steps, "curve": curve}
        keep("demonstrations", {"demonstrated": returns, "arms": {**arms, name: arm}})


def dataset_returns(file: Path) -> list[float]:
    """The return of each episode of a file."""
    with np.load(file) as data:
        return [float(x) for x in np.add.reduceat(data["reward"], data["episode_start"])]


PARTS = {"quality": quality, "fqe": fqe, "demonstrations": demonstrations}


def main() -> None:
    """Reads the command line, measures, and writes the results after every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--data", nargs="+", choices=QUALITIES, default=QUALITIES)
    parser.add_argument("--learners", nargs="+", choices=list(LEARNERS), default=list(LEARNERS))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="of the demonstrations")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--updates", type=int, help="default: 5,000 on CartPole, 60,000 on Breakout")
    parser.add_argument("--fqe-updates", type=int, default=5_000)
    parser.add_argument("--total-steps", type=int, default=450_000, help="of MountainCar (default: its recipe's)")
    args = parser.parse_args()
    for name in args.parts:
        with tempfile.TemporaryDirectory() as scratch:
            PARTS[name](Path(scratch), args)


if __name__ == "__main__":
    main()
