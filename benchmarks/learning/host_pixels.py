"""Does the host loop learn from pixels on a CPU? DQN and PQN on a scripted game, and both with one frame for a stack.

python -m benchmarks.host_pixels

The game is catch (see scripted.py beside this file): uint8 frames, Nature's convolutions, rewards of ±10 that learning
clips to ±1, learning beside the steps. No single frame tells where the ball will land, so the blind runs must fail.
"""

import argparse
import time
from typing import Any

import jax
import numpy as np

from benchmarks.common import write_result
from benchmarks.learning.scripted import REWARD, make_catch
from purejaxdqn.build import Parts, build_learner, build_model
from purejaxdqn.loops.host import HostLoop
from purejaxdqn.loops.plan import tree_bytes
from purejaxdqn.machine.devices import num_cores
from purejaxdqn.recipes.recipes import RECIPES, make_settings

WHAT = (
    "host loop on a scripted game of pixels: mean greedy return over 50 games as a share of the best, for every seed; "
    "blind: one frame for a stack of four"
)
BAR = 0.9
"""Score that a seeing run has to reach."""
BLIND = 0.5
"""Score that a blind run has to stay below."""
EPISODES = 50
_COMMON = {"network": "nature-cnn", "hidden": (128,), "overlap": True}
ALGOS: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": (
        "atari",
        {
            **_COMMON,
            "total_steps": 20_000,
            "buffer_size": 10_000,
            "learning_starts": 1_000,
            "learning_rate": 5e-4,
            "target_period": 100,
            "epsilon_fraction": 0.4,
        },
    ),
    "pqn": (
        "nature-pqn",
        {
            **_COMMON,
            "total_steps": 60_000,
            "num_envs": 16,
            "rollout_length": 16,
            "num_minibatches": 4,
            "learning_rate": 5e-4,
            "epsilon_fraction": 0.4,
        },
    ),
}
"""What is trained: the recipe, and what differs from it for a game this small."""


def measure(algo: str, seed: int, frame_stack: int) -> dict[str, Any]:
    """Trains one run and plays greedily with its last parameters.

    Args:
      algo: a name in `ALGOS`.
      seed: of parameters, actions and games.
      frame_stack: frames that the network sees; 1 is blind to the drift.
    """
    begin = time.perf_counter()
    recipe, changes = ALGOS[algo]
    config, hypers = make_settings(RECIPES[recipe], "Catch-v5", **changes)
    env = make_catch(frame_stack)
    network, head = build_model(config, env.spec)
    loop = HostLoop(config, Parts(env, network, head, *build_learner(config, env, network, head)), seed)
    h = hypers.as_arrays()
    state = loop.begin(loop.init(jax.random.key(seed), h), h, fill=True)
    late = config.num_iterations // 4
    state, early = loop.iterate(state, h, config.num_iterations - late)
    state, metrics = loop.iterate(state, h, late)
    loop.close()
    # Games that training did not see.
    found = loop.evaluate(state.learner.params, 1_000_000 + seed, EPISODES, 0.0)
    return {
        "seed": seed,
        "score": round(float(np.mean(found.returns)) / REWARD, 3),
        "training_return_max": float(metrics.return_max),
        "late_q": round(float(metrics.q_sum) / int(metrics.updates), 3),
        "total_steps": config.total_steps,
        "env_steps_after_prefill": int(early.env_steps) + int(metrics.env_steps),
        "replay_bytes_per_step": tree_bytes(state.memory) // config.buffer_size,
        "updates": int(early.updates) + int(metrics.updates),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """Trains every algorithm, seeing and blind, writes the results and prints a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    found: dict[str, Any] = {}
    for algo, (recipe, changes) in ALGOS.items():
        found[algo] = {"recipe": recipe, "changes": changes}
        for name, frame_stack in (("seeing", 4), ("blind", 1)):
            runs = found[algo][name] = []
            for seed in seeds:
                runs.append(measure(algo, seed, frame_stack))
                print(algo, name, runs[-1], flush=True)
    bars = {"bar": BAR, "blind_below": BLIND, "episodes": EPISODES}
    write_result("host_pixels", WHAT, {"cores_used": num_cores(), **bars, "algorithms": found})


if __name__ == "__main__":
    main()
