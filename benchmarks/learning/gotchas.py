"""What each trap of implementing DQN costs: a DQN that is right, with one thing at a time changed, over many seeds.

python -m benchmarks.gotchas                          # CartPole-v1 and MountainCar-v0, 64 seeds of every variant
python -m benchmarks.gotchas --env CartPole-v1 --only base target-none

Writes results/gotchas-ENV.json after every group of variants that share a program; with --keep, groups that are in it
are left alone. An effect is the difference from the base, seed by seed, with a 95 % bootstrap interval over seeds.
"""

import argparse
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import commit, read_result, write_result
from purejaxdqn.machine.devices import use_platform
from purejaxdqn.statistics.intervals import bootstrap_interval, mean

WHAT = (
    "a plain DQN with one thing changed: greedy returns of every seed during training, and its effect beside the base"
)


class Task(NamedTuple):
    """An environment, and what counts as nothing and as solved there."""

    env: str
    settings: dict[str, Any]
    floor: float
    """Return of a policy that knows nothing."""
    solved_at: float
    top: float
    """Largest return."""


BASE: dict[str, Any] = {
    "backup": "max",
    "n_step": 3,
    "batch_size": 64,
    "buffer_size": 20_000,
    "learning_starts": 1_000,
    "hidden": (64, 64),
    "norm": "layer",
    "loss": "squared",
    "learning_rate": 1e-3,
    "learning_rate_schedule": "linear",
    "epsilon_final": 0.05,
    "epsilon_fraction": 0.4,
}
CARTPOLE = BASE | {"total_steps": 80_000, "num_envs": 10, "target_period": 50}
MOUNTAINCAR = BASE | {"total_steps": 120_000, "num_envs": 4, "target_period": 200}
TASKS = {
    task.env: task
    for task in (
        Task("CartPole-v1", CARTPOLE, floor=0.0, solved_at=475.0, top=500.0),
        Task("MountainCar-v0", MOUNTAINCAR, floor=-200.0, solved_at=-110.0, top=-100.0),
    )
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("nothing", {}),
    "target-none": ("no target network", {"target_period": 1}),
    "target-1000": ("target copied every 1,000 updates", {"target_period": 1_000}),
    "target-soft": ("soft target, τ = 0.01 every update", {"target_period": 1, "tau": 0.01}),
    "epsilon-0": ("ε falls to 0", {"epsilon_final": 0.0}),
    "epsilon-0.2": ("ε falls to 0.2", {"epsilon_final": 0.2}),
    "replay-none": ("only the newest 64 steps to learn from", {"buffer_size": 64}),
    "huber": ("Huber's loss, δ = 1", {"loss": "huber"}),
    "sum": ("losses summed over the batch, the same learning rate", {"reduction": "sum"}),
    "terminals": ("terminal transitions not masked", {"mask_terminals": False}),
    "truncation": ("truncation taken for termination", {"bootstrap_truncation": False}),
    "double": ("double DQN", {"backup": "double"}),
    "reward-0.01": ("rewards times 0.01", {"reward_scale": 0.01}),
    "reward-100": ("rewards times 100", {"reward_scale": 100.0}),
    "no-norm": ("no layer normalisation", {"norm": "none"}),
}
"""name -> what is changed, in words and in settings."""
EVALUATIONS, EPISODES = 20, 10
"""Of every seed during training; the last one, of more episodes, says whether it has solved its task."""
LAST_EPISODES = 50


def groups(task: Task, names: list[str]) -> list[tuple[Any, dict[str, Any]]]:
    """Variants by the program that they share: (Config, {name: Hypers})."""
    from purejaxdqn.recipes.recipes import RECIPES, make_settings

    found: dict[Any, dict[str, Any]] = {}
    for name in names:
        settings = task.settings | VARIANTS[name][1]
        config, hypers = make_settings(RECIPES["vector"], task.env, **settings)
        found.setdefault(config, {})[name] = hypers
    return list(found.items())


def train(config: Any, variants: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    """Trains variants that share a program side by side; curves [seeds, evaluations] and last scores of each."""
    import jax

    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.loops.lanes import make_lanes, seed_keys
    from purejaxdqn.loops.plan import make_plan

    names, count = list(variants), len(seeds)
    agent = make_agent(config)
    plan = make_plan(agent, len(names) * count)
    lanes, last_lanes = make_lanes(agent, plan, EPISODES), make_lanes(agent, plan, LAST_EPISODES)
    keys = lanes.put(seed_keys(seeds * len(names)))
    each = [variants[name].as_arrays() for name in names for _ in seeds]
    hypers = lanes.put(jax.tree.map(lambda *leaves: np.stack(leaves), *each))
    begin = time.perf_counter()
    state = lanes.init(keys, hypers)
    chunk, longer = divmod(config.num_iterations, EVALUATIONS)
    curves = []
    for index in range(EVALUATIONS):
        state, _ = lanes.iterate(state, hypers, chunk + (index < longer))
        curves.append(lanes.get(lanes.evaluate(state.learner.params, keys, 0.0).returns).mean(axis=1))
    last = lanes.get(last_lanes.evaluate(state.learner.params, keys, 0.0).returns).mean(axis=1)
    curve = np.stack(curves, axis=1).reshape(len(names), count, EVALUATIONS)
    seconds = time.perf_counter() - begin
    return {
        name: {
            "last": np.round(last.reshape(len(names), count)[i].astype(float), 2).tolist(),
            "curve": np.round(curve[i].astype(float), 1).tolist(),
            "group_seconds": round(seconds, 1),
            "commit": commit(),
        }
        for i, name in enumerate(names)
    }


def scores(task: Task, found: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Of each seed: whether it solved the task in the end, and the area under its curve, 0 to 1 of what is possible."""
    area = (np.array(found["curve"]).mean(axis=1) - task.floor) / (task.top - task.floor)
    return (np.array(found["last"]) >= task.solved_at).astype(float), area


def effects(task: Task, variants: dict[str, Any]) -> dict[str, Any]:
    """Solved share and area of every variant, and their differences from the base, seed by seed."""
    base = scores(task, variants["base"])
    result = {}
    for name, found in variants.items():
        entry: dict[str, Any] = {"what": VARIANTS[name][0]}
        for label, mine, bases in zip(("solved", "area"), scores(task, found), base, strict=True):
            entry[label] = float(mine.mean())
            entry[f"{label}_interval_95"] = [float(end) for end in bootstrap_interval(mine, mean)]
            entry[f"{label}_effect"] = float((mine - bases).mean())
            entry[f"{label}_effect_interval_95"] = [float(end) for end in bootstrap_interval(mine - bases, mean)]
        result[name] = entry
    return result


def measure(task: Task, names: list[str], seeds: list[int], keep: bool) -> None:
    """Measures one environment's variants and writes its result file."""
    name = f"gotchas-{task.env}"
    variants: dict[str, Any] = (read_result(name) or {"variants": {}})["variants"]
    for config, members in groups(task, names):
        if keep and set(members) <= set(variants):
            continue
        variants |= train(config, members, seeds)
        variants = {known: variants[known] for known in VARIANTS if known in variants}
        data = {"env": task.env, "seeds": len(seeds), "solved_at": task.solved_at, "settings": task.settings}
        summary = effects(task, variants) if "base" in variants else {}
        write_result(name, WHAT, data | {"effects": summary, "variants": variants})
        for member in members:
            line = summary.get(member, {})
            print(
                f"{task.env} {member}: solved {line.get('solved', 0):.2f}, area {line.get('area', 0):.2f}, effect "
                f"{line.get('area_effect', 0):+.3f} {line.get('area_effect_interval_95')}",
                flush=True,
            )


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--first-seed", type=int, default=5_000)
    parser.add_argument("--keep", action="store_true", help="leave variants that were measured alone")
    args = parser.parse_args()
    use_platform("cpu", args.seeds)
    seeds = list(range(args.first_seed, args.first_seed + args.seeds))
    for env in args.env:
        measure(TASKS[env], args.only, seeds, args.keep)


if __name__ == "__main__":
    main()
