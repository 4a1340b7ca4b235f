"""Times purejaxdqn at PureJaxRL's settings and prints one JSON line, like the peers' scripts beside this one.

python -m benchmarks.peers.ours_dqn --seeds 16
"""

import argparse
import json
import time
from typing import Any

from purejaxdqn.devices import use_platform


def measure(seeds: int, total_steps: int, num_envs: int, learning_starts: int, device: str) -> dict[str, Any]:
    """Compiles and runs once, laid out as the command line lays it out; one update per ten environment steps."""
    use_platform(device, seeds)
    import jax

    from purejaxdqn.config import Config
    from purejaxdqn.folder import versions
    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.loops.lanes import make_lanes, make_plan, repeat_hypers, seed_keys
    from purejaxdqn.types import Hypers

    config = Config(
        env="CartPole-v1",
        total_steps=total_steps,
        num_envs=num_envs,
        rollout_length=10 // num_envs,
        buffer_size=10_000,
        batch_size=128,
        learning_starts=learning_starts,
        n_step=1,
        hidden=(120, 84),
        norm="none",
        backup="max",
        loss="squared",
        learning_rate_schedule="constant",
    )
    hypers = Hypers(
        learning_rate=2.5e-4,
        target_period=50,
        epsilon_fraction=min(1.0, 250_000 / total_steps),
        max_grad_norm=float("inf"),
    )
    agent = make_agent(config)
    plan = make_plan(agent, seeds)
    lanes = make_lanes(agent, plan)
    keys, stacked = lanes.put(seed_keys(list(range(seeds)))), lanes.put(repeat_hypers(hypers, seeds))

    begin = time.perf_counter()
    state = lanes.init(keys, stacked)
    state, _ = lanes.iterate(state, stacked, 0)
    jax.block_until_ready(state)
    compiled = time.perf_counter()
    # The prefill is part of the run: it is made again, now that it is compiled.
    state = lanes.init(keys, stacked)
    state, metrics = lanes.iterate(state, stacked, config.num_iterations * 9 // 10)
    state, metrics = lanes.iterate(state, stacked, config.num_iterations - config.num_iterations * 9 // 10)
    jax.block_until_ready(state)
    done = time.perf_counter()

    found = lanes.get(metrics)
    steps = seeds * (config.prefill_steps * num_envs + config.num_iterations * config.steps_per_iteration)
    return {
        "peer": "purejaxdqn",
        "env": config.env,
        "seeds": seeds,
        "num_envs": num_envs,
        "total_steps": steps,
        "compile_seconds": round(compiled - begin, 3),
        "run_seconds": round(done - compiled, 3),
        "steps_per_second": round(steps / (done - compiled), 1),
        "returns_last_tenth": round(float(found.return_sum.sum() / max(found.episodes.sum(), 1)), 2),
        "updates": int(state.learner.updates.count) * seeds,
        "plan": plan.describe(),
        "device": jax.devices()[0].device_kind,
        "versions": versions(),
    }


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="seeds trained at once (default: 1)")
    parser.add_argument("--total-steps", type=int, default=300_000, help="environment steps per seed (default: 300000)")
    parser.add_argument("--num-envs", type=int, default=10, choices=(1, 2, 5, 10), help="environments (default: 10)")
    parser.add_argument("--learning-starts", type=int, default=10_000, help="steps before learning (default: 10000)")
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu or tpu (default: auto)")
    args = parser.parse_args()
    print(json.dumps(measure(args.seeds, args.total_steps, args.num_envs, args.learning_starts, args.device)))


if __name__ == "__main__":
    main()
