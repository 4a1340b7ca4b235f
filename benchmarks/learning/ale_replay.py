"""Plays a trained policy in the Arcade Learning Environment itself (ale-py), not through EnvPool.

python -m benchmarks.ale_replay RUN --episodes 10

What EnvPool does for the run's games is done here again, in NumPy: no-ops at the start, four frames a step, the larger
of the last two greys, area averages of the run's size, four frames a stack. Actions are random as often as in the run's
own evaluations. Prints one line of JSON.
"""

import argparse
import json
import re
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn import load_policy
from purejaxdqn.config import SettingError
from purejaxdqn.envs.envpool import check_changes
from purejaxdqn.runs.folder import read_config


def area_weights(size: int, smaller: int) -> np.ndarray:
    """Matrix [smaller, size] that averages over areas: each row weights the inputs by how much of them it covers."""
    scale = size / smaller
    edges = np.arange(smaller)[:, None] * scale
    cells = np.arange(size)[None]
    covered = np.minimum(cells + 1, edges + scale) - np.maximum(cells, edges)
    return np.asarray(np.clip(covered, 0.0, None) / scale)


class Game:
    """One game of the emulator's, as the run's settings have it."""

    def __init__(self, env_id: str, options: dict[str, Any], seed: int):
        """Begins nothing yet.

        Args:
          env_id: such as Pong-v5.
          options: of the environment, by EnvPool's names.
          seed: of the no-ops, and of sticky actions.
        """
        # Of what this library needs, it is no part: EnvPool has an emulator of its own.
        from ale_py import ALEInterface, LoggerMode, roms

        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.options, self.random = options, np.random.default_rng(seed)
        self.ale = ALEInterface()
        self.ale.setInt("random_seed", seed)
        self.ale.setFloat("repeat_action_probability", float(options["repeat_action_probability"]))
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", env_id.removesuffix("-v5")).lower()
        rom = roms.get_rom_path(name)
        if rom is None:
            raise SettingError("run", env_id, f"ale-py has no game of the name {name}: use another run")
        self.ale.loadROM(rom)
        full = options["full_action_space"]
        self.actions = self.ale.getLegalActionSet() if full else self.ale.getMinimalActionSet()
        height, width = self.ale.getScreenDims()
        self.rows = area_weights(height, options["img_height"])
        self.columns = area_weights(width, options["img_width"]).T

    def look(self, greys: list[np.ndarray]) -> np.ndarray:
        """The larger of the last two greys, uint8 [height, width] of the run's size."""
        return np.rint(self.rows @ np.max(greys[-2:], axis=0) @ self.columns).astype(np.uint8)

    def play(self, policy: Any, epsilon: float) -> tuple[float, int]:
        """Plays one whole game, with random actions at this rate; its score and its steps."""
        self.ale.reset_game()
        policy.reset()
        for _ in range(self.random.integers(1, self.options["noop_max"] + 1)):
            self.ale.act(0)
        size, first = self.options["stack_num"], self.look([self.ale.getScreenGrayscale()])
        stack = deque([first] * size, size)
        score, steps = 0.0, 0
        while not self.ale.game_over() and steps < self.options["max_episode_steps"]:
            chosen = int(policy(np.stack(stack, axis=-1)))
            if epsilon and self.random.random() < epsilon:
                chosen = int(self.random.integers(len(self.actions)))
            action = self.actions[chosen]
            greys: list[np.ndarray] = []
            while len(greys) < self.options["frame_skip"] and not self.ale.game_over():
                score += self.ale.act(action)
                greys.append(self.ale.getScreenGrayscale())
            stack.append(self.look(greys))
            steps += 1
        return score, steps


def main() -> None:
    """Plays the games and prints their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of an Atari game with grey frames")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--which", choices=("best", "last"), default="best")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    settings = read_config(args.run, "run")[0]
    config, epsilon = settings.config, settings.eval_epsilon
    policy = load_policy(args.run, which=args.which)
    game = Game(config.env, check_changes(config.env, config.env_params), args.seed)
    games = [game.play(policy, epsilon) for _ in range(args.episodes)]
    scores = [score for score, _ in games]
    found = {"episodes": args.episodes, "which": args.which, "seed": args.seed, "epsilon": epsilon, "scores": scores}
    print(json.dumps({**found, "steps": [steps for _, steps in games], "mean": float(np.mean(scores))}))


if __name__ == "__main__":
    main()
