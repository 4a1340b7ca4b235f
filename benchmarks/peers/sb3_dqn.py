"""Times Stable-Baselines3's DQN on one CartPole and prints one JSON line.

Run this with an interpreter that has the peer, which need not be the one that runs purejaxdqn:

    python -m venv peer && peer/bin/pip install stable-baselines3 gymnasium
    peer/bin/python benchmarks/peers/sb3_dqn.py --total-steps 30000

The settings are those of the other peers as far as Stable-Baselines3 has them: the same network, batch, buffer,
learning rate and one update per ten steps. Only `model.learn` is timed.

Two things to know before quoting a figure:

* The loss cannot be set: it is Huber, where the other peers use the mean squared error. With the target network
  refreshed every 500 steps (50 updates) the values then run away on CartPole and the return stays near 10, however
  long the run. So at that default the figure is one of speed alone; `--target-update-interval 1250` does learn.
* On a busy machine torch's threads wait for each other and the time can grow many times over; `--threads 1` is steady.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.monitor import Monitor


def measure(
    total_steps: int, learning_starts: int, target_update_interval: int, env_name: str, seed: int
) -> dict[str, Any]:
    """Trains once, with exploration falling over the share of the run that 250k of 300k steps are."""
    env = Monitor(gymnasium.make(env_name))
    model = DQN(
        "MlpPolicy",
        env,
        learning_rate=2.5e-4,
        buffer_size=10_000,
        learning_starts=learning_starts,
        batch_size=128,
        gamma=0.99,
        tau=1.0,
        train_freq=10,
        gradient_steps=1,
        target_update_interval=target_update_interval,
        exploration_fraction=250_000 / 300_000,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.05,
        policy_kwargs={"net_arch": [120, 84]},
        seed=seed,
        device="cpu",
        verbose=0,
    )
    begin = time.perf_counter()
    model.learn(total_timesteps=total_steps)
    seconds = time.perf_counter() - begin

    ends = np.cumsum(env.get_episode_lengths())
    late = np.asarray(env.get_episode_rewards())[ends > 0.9 * total_steps]
    return {
        "peer": "stable-baselines3",
        "env": env_name,
        "seeds": 1,
        "total_steps": model.num_timesteps,
        "compile_seconds": 0.0,
        "run_seconds": round(seconds, 3),
        "steps_per_second": round(model.num_timesteps / seconds, 1),
        "returns_last_tenth": round(float(late.mean()), 2) if late.size else None,
        "updates": model._n_updates,
        "loss": "huber",
        "target_update_interval": target_update_interval,
        "device": f"cpu, torch threads: {torch.get_num_threads()}",
        "versions": {
            "python": sys.version.split()[0],
            **{name: importlib.metadata.version(name) for name in ("stable-baselines3", "torch", "gymnasium", "numpy")},
        },
    }


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-steps", type=int, default=30_000, help="environment steps (default: 30000)")
    parser.add_argument("--learning-starts", type=int, default=1_000, help="steps before learning (default: 1000)")
    parser.add_argument("--target-update-interval", type=int, default=500, help="in steps (default: 500)")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--env", default="CartPole-v1", help="default: CartPole-v1")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(json.dumps(measure(args.total_steps, args.learning_starts, args.target_update_interval, args.env, args.seed)))


if __name__ == "__main__":
    main()
