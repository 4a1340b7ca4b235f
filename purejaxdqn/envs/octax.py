"""Octax's games of the CHIP-8, 64 by 32 pixels of one bit (Radji et al. 2025)."""

import pkgutil
import re
from pathlib import Path
from typing import Any

import octax
from jax import Array
from octax import environments

from purejaxdqn.envs.parameters import numeric_defaults
from purejaxdqn.envs.suites import Parts

OF_THE_RUN = ("max_num_steps_per_episodes", "instruction_frequency", "fps", "frame_skip")
"""What can be set of a game; the rest is the game's own, or of pictures for people."""


def names() -> list[str]:
    """All games; of a game in levels the levels, such as cavern1."""
    games = {module.name for module in pkgutil.iter_modules(environments.__path__)}
    roms = (Path(octax.__file__).parents[1] / "roms").glob("*.ch8")
    levels = {rom.stem: re.sub(r"\d+$", "", rom.stem) for rom in roms}
    levels = {level: game for level, game in levels.items() if game in games and game != level}
    return sorted(games - set(levels.values()) | set(levels))


def settings(name: str) -> dict[str, Any]:
    """The numbers of `OF_THE_RUN`."""
    found = numeric_defaults(environments.OctaxEnv.__init__)
    return {key: found[key] for key in OF_THE_RUN}


def make(name: str, **given: Any) -> Parts:
    """A game; the frames of a step, [frames, width, height], become the channels of one picture."""
    env, _ = environments.create_environment(name, **given)

    def reset(key: Array) -> tuple[Array, Any]:
        state, frames, _ = env.reset(key)
        return frames.T, state

    def step(key: Array, state: Any, action: Array) -> tuple[Any, ...]:
        state, frames, reward, terminated, *_ = env.step(state, action)
        return frames.T, state, reward, terminated

    limit = env.max_num_steps_per_episodes
    return {"reset": reset, "step": step, "num_actions": env.num_actions, "time_limit": limit}
