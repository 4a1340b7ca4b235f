"""pgx's games for one player (Koyamada et al. 2023): 2048, and MinAtar's by the original rules (Young & Tian 2019).

pgx never truncates: but Freeway, these games have no limit of time.
"""

from typing import Any

import pgx
from jax import Array

from purejaxdqn.bounds import INT32
from purejaxdqn.config import require
from purejaxdqn.envs.parameters import numeric_defaults
from purejaxdqn.envs.suites import Parts

CLOCKS = {"minatar-freeway": 2_501}
"""The step on which a game's own clock ends it. Nothing else ends these, so that none of them terminates."""


def names() -> list[str]:
    """All games."""
    return list(pgx.available_envs())


def settings(name: str) -> dict[str, Any]:
    """Of MinAtar the chance that an action sticks, and whether actions that do nothing are left out."""
    return numeric_defaults(type(pgx.make(name)).__init__)


def make(name: str, **given: Any) -> Parts:
    """A game. Its masks are given where actions can be illegal, which they never are in MinAtar."""
    game = pgx.make(name)
    one = "value learning needs a game for one, such as pgx/2048 or pgx/minatar-breakout"
    require(game.num_players == 1, "env", f"pgx/{name}", f"it is for {game.num_players} players: {one}")
    env, ends = type(game)(**given), name not in CLOCKS

    def reset(key: Array) -> tuple[Array, Any]:
        state = env.init(key)
        return state.observation, state

    def step(key: Array, state: Any, action: Array) -> tuple[Any, ...]:
        state = env.step(state, action, key)
        return state.observation, state, state.rewards[0], state.terminated & ends

    masked = {} if name.startswith("minatar-") else {"mask": lambda state: state.legal_action_mask}
    limit = CLOCKS.get(name, INT32)
    return {"reset": reset, "step": step, "num_actions": env.num_actions, "time_limit": limit, **masked}
