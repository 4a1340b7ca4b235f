"""A game from pixels, small enough for one core, in the shape of EnvPool's Atari: one frame a step, lives on the host.

A ball falls a row a step and drifts a column to the left or to the right, around the edges. A paddle has to be in that
third of the bottom row where it lands, and jumps only once: the action on the frame with the ball in row `JUMP` says
where to, and every other action is ignored. Start and drift are drawn independently, and before the jump nothing on the
screen depends on an action, so no single frame tells the drift. From that row the two drifts lead to different thirds:
whoever sees single frames catches one ball of two at best, a score of 0; whoever sees two in a row can catch all.
"""

from typing import Any

import numpy as np

from purejaxdqn.config import EnvSpec
from purejaxdqn.envs.interface import HostEnv, HostStep, check_groups

CELLS = 9
"""Rows and columns; an episode has one step less."""
THIRD = CELLS // 3
"""Columns of the paddle."""
JUMP = 2
"""Row of the ball in the frame whose action counts. The landings of both drifts are 12 columns apart, so 3 of 9."""
CELL = 4
"""Pixels of a cell. Of 36 by 36 pixels Nature's convolutions see every one, of 42 by 42 not the last six."""
BALL, PADDLE = 255, 160
REWARD = 10.0
"""For a ball that is caught, and taken away for one that is not: far from what learning clips it to."""


class CatchPool:
    """Games of catch, in groups. After the last step of an episode one more is ignored and resets, as in EnvPool."""

    def __init__(self, num_envs: int, seed: int, num_groups: int = 1):
        """Nothing has begun yet.

        Args:
          num_envs: games side by side.
          seed: of the starts; another one is other games.
          num_groups: groups of one size.
        """
        check_groups(num_envs, num_groups)
        self.num_groups = num_groups
        # A generator for each group, so that the order in which groups are received does not matter.
        self._rngs = [np.random.default_rng([seed, group]) for group in range(num_groups)]
        shape = (num_groups, num_envs // num_groups)
        self._row, self._column, self._drift, self._paddle = (np.zeros(shape, np.int64) for _ in range(4))
        self._over = np.ones(shape, bool)
        self._action = np.zeros(shape, np.int64)

    def reset(self) -> None:
        """Begins an episode in every game; what comes of it is received like a step."""
        self._over[:] = True

    def send(self, group: int, action: np.ndarray) -> None:
        """Steps the games of a group, int32 [B]: where their paddles are to jump, 0 left, 1 to the middle, 2 right."""
        self._action[group] = action

    def receive(self, group: int) -> HostStep:
        """The step that was sent last."""
        rng, begins = self._rngs[group], self._over[group].copy()
        size = len(begins)
        column, drift = rng.integers(CELLS, size=size), rng.choice((-1, 1), size)
        jumped = np.where(self._row[group] == JUMP, self._action[group], self._paddle[group])
        self._paddle[group] = np.where(begins, 1, jumped)
        self._drift[group] = np.where(begins, drift, self._drift[group])
        self._column[group] = np.where(begins, column, (self._column[group] + self._drift[group]) % CELLS)
        self._row[group] = np.where(begins, 0, self._row[group] + 1)
        ended = self._over[group] = self._row[group] == CELLS - 1
        caught = np.where(self._column[group] // THIRD == self._paddle[group], REWARD, -REWARD)
        never = np.zeros(size, bool)
        return HostStep(
            frame=self._draw(group),
            reward=np.where(ended, caught, 0.0).astype(np.float32),
            terminated=ended.copy(),
            truncated=never,
            life_lost=never,
            begins=begins,
        )

    def _draw(self, group: int) -> np.ndarray:
        """Frames, uint8 [B, 36, 36, 1]."""
        games = np.arange(self._row.shape[1])
        cells = np.zeros((len(games), CELLS, CELLS), np.uint8)
        cells[:, -1] = np.where(np.arange(CELLS) // THIRD == self._paddle[group][:, None], PADDLE, 0)
        cells[games, self._row[group], self._column[group]] = BALL
        return cells.repeat(CELL, axis=1).repeat(CELL, axis=2)[..., None]

    def screen(self) -> np.ndarray:
        """The first game, uint8 [36, 36, 3]."""
        return self._draw(0)[0].repeat(3, axis=-1)

    def close(self) -> None:
        """There is nothing to end."""


def clip_reward(step: HostStep) -> HostStep:
    """What learning is told: the sign of the reward, as with `--env-params.reward-clip`."""
    return step._replace(reward=np.clip(step.reward, -1.0, 1.0))


def make_catch(frame_stack: int = 4) -> HostEnv:
    """The game as an environment on the host.

    Args:
      frame_stack: frames that an observation holds; whoever sees but one cannot know the drift.
    """
    spec: dict[str, Any] = {"env_id": "Catch-v5", "num_actions": 3, "obs_dtype": "uint8", "num_obs_values": None}
    pixels = CELLS * CELL
    return HostEnv(
        spec=EnvSpec(**spec, obs_shape=(pixels, pixels, frame_stack), time_limit=CELLS, frame_stack=frame_stack),
        open_pool=CatchPool,
        learning_view=clip_reward,
        action_names=("left", "middle", "right"),
        num_groups=1,
        frames_per_step=1,
    )
