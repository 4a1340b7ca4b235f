"""Does a memory solve what cannot be solved without one? Chains to remember, and classics without velocities.

python -m benchmarks.memory_worlds                                   # every world and agent, 16 seeds
python -m benchmarks.memory_worlds --worlds chain-20 --agents r2d2   # one of them, e.g. with --seeds 2

With --keep, what is in the file already is left alone.

A seed's score is the mean greedy return of its last parameters over 100 fresh episodes. Writes
results/memory_worlds.json after every agent. Further flags go to the training command.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import commit
from benchmarks.learning.deep_sea import flags_of
from benchmarks.learning.defaults import Bar, evaluate, judge, train
from benchmarks.learning.worlds import measure_worlds
from purejaxdqn.runs.folder import versions

WHAT = "every seed's greedy mean return over 100 fresh episodes by its last parameters, with and without a memory"
Settings = dict[str, Any]
"""Flags and their values, True for one that takes none."""


class World(NamedTuple):
    """What is to be remembered, and how it is learnt."""

    flags: Settings
    bar: Bar
    """What an agent with a memory has to reach."""
    replay: Settings
    """Of the agents that learn from a replay, with a memory or without."""
    windows: Settings
    """Of those with a memory."""
    rollout: Settings
    """Of the agents that learn from rollouts."""


def chain(length: int, total_steps: int) -> World:
    """bsuite's chain: what is shown in the first step is asked for in the last, and pays 1 or -1."""
    replay = {"memory-size": 32, "hidden": "32", "norm": "none", "num-envs": 16, "rollout-length": 2}
    # Whatever step a window begins with, it holds a whole episode.
    windows = {"burn-in": 0, "unroll": 2 * (length + 1), "window-period": length + 1}
    return World(
        {"env": "MemoryChain-bsuite", "env-params.memory-length": length, "total-steps": total_steps},
        Bar(16, 0.9, 14, total_steps),
        {**replay, "buffer-size": 100_000, "learning-starts": 5_000, "target-period": 100, "learning-rate": 1e-3},
        windows,
        {},
    )


def classic(env: str, score: float, total_steps: int, rollout: Settings) -> World:
    """A classic of control that does not show its velocities; the seeds' interquartile mean has to reach a score."""
    return World(
        {"env": env, "env-params.hide-velocity": True, "total-steps": total_steps},
        Bar(16, score, None, total_steps),
        {},
        {},
        rollout,
    )


# A velocity is a small difference of two positions, which the action between them changes: both in units of their own
# deviation, and the action is told. A few steps back are enough, so rollouts are short and of many environments.
POSITIONS: Settings = {
    "normalize-obs": True,
    "last-inputs": True,
    "num-envs": 64,
    "rollout-length": 32,
    "num-minibatches": 8,
    "hidden": "64 64",
    "memory-size": 64,
    "learning-rate": 2e-3,
    "learning-rate-schedule": "linear",
    "epsilon-fraction": 0.3,
    "epsilon-final": 0.05,
}
# A coin for each step hardly ever drives up the hill by chance; an action that is held for many does.
HILL: Settings = {"explorer": "ez-greedy", "epsilon-fraction": 0.5, "num-minibatches": 16, "trace-lambda": 0.8}
WORLDS = {
    "chain-20": chain(20, 100_000),
    "chain-40": chain(40, 200_000),
    "cartpole": classic("CartPole-v1", 450.0, 300_000, POSITIONS),
    "mountain-car": classic("MountainCar-v0", -115.0, 800_000, POSITIONS | HILL),
}
GRU: Settings = {"memory": "gru"}
AGENTS: dict[str, tuple[str, Settings]] = {
    "r2d2": ("r2d2", GRU),
    "r2d2 without memory": ("r2d2", {"memory": "none"}),
    "pqn-rnn": ("pqn-rnn", GRU),
    "pqn-rnn without memory": ("pqn-rnn", {"memory": "none"}),
}
"""By name: an algorithm, and what is changed of it."""


def settings_of(world: World, agent: str) -> Settings:
    """All flags of an agent in a world; where there is no memory, all but what it alone reads."""
    algo, changes = AGENTS[agent]
    own = world.rollout if algo.startswith("pqn") else world.replay
    remembers = changes["memory"] != "none"
    if remembers and not algo.startswith("pqn"):
        own = own | world.windows
    given = {name: value for name, value in own.items() if remembers or not name.startswith("memory")}
    return {**world.flags, "algo": algo, **given, **changes}


def measure(name: str, agent: str, seeds: int, first_seed: int, extra: list[str]) -> dict[str, Any]:
    """Trains and judges one agent's seeds by the command lines."""
    world = WORLDS[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        run = ["--seeds", str(seeds), "--seed", str(first_seed), "--quiet"]
        found = train([*flags_of(settings_of(world, agent)), *run, *extra], folder)
        scores = judge(evaluate(folder, "last"), world.bar)
        return {"commit": commit(), "versions": versions(), **found, "last": scores, "bar": world.bar._asdict()}


if __name__ == "__main__":
    measure_worlds("memory_worlds", WHAT, __doc__, WORLDS, AGENTS, 16, measure)
