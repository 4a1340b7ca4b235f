"""Trains Stable-Baselines3's or SBX's DQN until its policy is good enough and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.sb3_solved --library sbx --env CartPole-v1 --score 475 --begun "$(date +%s.%N)"

The settings are those that RL Baselines3 Zoo tuned for these tasks. Evaluations do not count: their time is taken off.
"""

import json
import time
from typing import Any

import gymnasium
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from benchmarks.peers.outcome import parser
from benchmarks.peers.sb3_dqn import LIBRARIES, make_model

ZOO: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "total_steps": 50_000,
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1_000,
        "gamma": 0.99,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
    },
    "MountainCar-v0": {
        "total_steps": 120_000,
        "learning_rate": 4e-3,
        "batch_size": 128,
        "buffer_size": 10_000,
        "learning_starts": 1_000,
        "gamma": 0.98,
        "target_update_interval": 600,
        "train_freq": 16,
        "gradient_steps": 8,
        "exploration_fraction": 0.2,
        "exploration_final_eps": 0.07,
    },
}
WIDTHS = [256, 256]


class UntilSolved(BaseCallback):
    """Evaluates every so many steps, and ends training at the score."""

    def __init__(self, env: str, score: float, every: int, episodes: int):
        super().__init__()
        self.env, self.score, self.every, self.episodes = gymnasium.make(env), score, every, episodes
        self.evaluating, self.reached, self.solved = 0.0, float("-inf"), False

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every:
            return True
        begin = time.time()
        self.reached, _ = evaluate_policy(self.model, self.env, self.episodes, warn=False)
        self.evaluating += time.time() - begin
        self.solved = self.reached >= self.score
        return not self.solved


def main() -> None:
    """Reads the command line, trains and prints one JSON line."""
    flags = parser(__doc__, 0)
    flags.add_argument("--library", choices=list(LIBRARIES), default="stable_baselines3")
    flags.add_argument("--env", choices=list(ZOO), default="CartPole-v1")
    flags.add_argument("--score", type=float, required=True, help="mean greedy return that counts as solved")
    flags.add_argument("--every", type=int, default=5_000, help="steps between evaluations (default: 5000)")
    flags.add_argument("--episodes", type=int, default=20, help="of each evaluation (default: 20)")
    flags.add_argument("--begun", type=float, required=True, help="when the command was given, in seconds since 1970")
    args = flags.parse_args()
    settings = dict(ZOO[args.env])
    total = args.total_steps or settings["total_steps"]
    del settings["total_steps"]
    model = make_model(args.library, gymnasium.make(args.env), args.seed, WIDTHS, **settings)
    until = UntilSolved(args.env, args.score, args.every, args.episodes)
    model.learn(total_timesteps=total, callback=until)
    print(
        json.dumps(
            {
                "solved": bool(until.solved),
                "seconds": round(time.time() - args.begun - until.evaluating, 3),
                "evaluating_seconds": round(until.evaluating, 3),
                "env_steps": model.num_timesteps,
                "greedy_return": round(float(until.reached), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
