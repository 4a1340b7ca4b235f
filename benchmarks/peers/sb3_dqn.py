"""Times the DQN of Stable-Baselines3 or of SBX on one CartPole and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.sb3_dqn --library stable_baselines3
    PEER/bin/python -m benchmarks.peers.sb3_dqn --library sbx

The settings are those of the other peers as far as these have them: batch, replay, learning rate and one update per ten
steps. SBX's network has layers of one width. The loss cannot be set: it is Huber. With the target network refreshed
every 500 steps (50 updates) the values then run away on CartPole and the return stays near 10; every 1,250 does learn.
SBX compiles within `learn`: a run of a few updates beforehand does that, and is timed apart.
"""

import importlib
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from benchmarks.peers.outcome import mean_of_last_tenth, parser, say

LIBRARIES = {"stable_baselines3": ("stable-baselines3", [120, 84]), "sbx": ("sbx-rl", [120])}
"""Package on the index, and widths; SBX has two layers of the one width."""
EPISODES = 20


def make_model(library: str, env: Any, seed: int, net_arch: list[int], **settings: Any) -> Any:
    """A fresh learner on an environment."""
    more = {"device": "cpu"} if library == "stable_baselines3" else {}
    dqn = importlib.import_module(library).DQN
    return dqn("MlpPolicy", env, policy_kwargs={"net_arch": net_arch}, seed=seed, verbose=0, **more, **settings)


def contest_model(library: str, env: Any, seed: int) -> Any:
    """At the settings of the comparison."""
    return make_model(
        library,
        env,
        seed,
        LIBRARIES[library][1],
        learning_rate=2.5e-4,
        buffer_size=10_000,
        learning_starts=1_000,
        batch_size=128,
        gamma=0.99,
        tau=1.0,
        train_freq=10,
        gradient_steps=1,
        target_update_interval=1_250,
        exploration_fraction=0.5,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.05,
    )


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 60_000)
    flags.add_argument("--library", choices=list(LIBRARIES), default="stable_baselines3")
    args = flags.parse_args()
    begin = time.perf_counter()
    contest_model(args.library, gymnasium.make("CartPole-v1"), args.seed).learn(total_timesteps=2_600)
    warm = time.perf_counter()
    env = Monitor(gymnasium.make("CartPole-v1"))
    model = contest_model(args.library, env, args.seed)
    start = time.perf_counter()
    model.learn(total_timesteps=args.total_steps)
    seconds = time.perf_counter() - start
    greedy, _ = evaluate_policy(model, gymnasium.make("CartPole-v1"), EPISODES, warn=False)
    ends, returns = np.cumsum(env.get_episode_lengths()).tolist(), env.get_episode_rewards()
    say(
        args.library,
        seeds=1,
        steps=model.num_timesteps,
        seconds=seconds,
        updates=model._n_updates,
        compile_seconds=warm - begin,
        returns_last_tenth=mean_of_last_tenth(ends, returns, args.total_steps),
        greedy_return=greedy,
        device=f"cpu, torch threads: {torch.get_num_threads()}",
        packages=(LIBRARIES[args.library][0], "torch", "gymnasium", "numpy"),
    )


if __name__ == "__main__":
    main()
