"""Atari scores on the human scale: 57 games, and their median and interquartile mean (NumPy only)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from purejaxdqn.statistics.intervals import iqm

SCORES: dict[str, tuple[float, float]] = {
    "Alien-v5": (227.8, 7127.7),
    "Amidar-v5": (5.8, 1719.5),
    "Assault-v5": (222.4, 742.0),
    "Asterix-v5": (210.0, 8503.3),
    "Asteroids-v5": (719.1, 47388.7),
    "Atlantis-v5": (12850.0, 29028.1),
    "BankHeist-v5": (14.2, 753.1),
    "BattleZone-v5": (2360.0, 37187.5),
    "BeamRider-v5": (363.9, 16926.5),
    "Berzerk-v5": (123.7, 2630.4),
    "Bowling-v5": (23.1, 160.7),
    "Boxing-v5": (0.1, 12.1),
    "Breakout-v5": (1.7, 30.5),
    "Centipede-v5": (2090.9, 12017.0),
    "ChopperCommand-v5": (811.0, 7387.8),
    "CrazyClimber-v5": (10780.5, 35829.4),
    "Defender-v5": (2874.5, 18688.9),
    "DemonAttack-v5": (152.1, 1971.0),
    "DoubleDunk-v5": (-18.6, -16.4),
    "Enduro-v5": (0.0, 860.5),
    "FishingDerby-v5": (-91.7, -38.7),
    "Freeway-v5": (0.0, 29.6),
    "Frostbite-v5": (65.2, 4334.7),
    "Gopher-v5": (257.6, 2412.5),
    "Gravitar-v5": (173.0, 3351.4),
    "Hero-v5": (1027.0, 30826.4),
    "IceHockey-v5": (-11.2, 0.9),
    "Jamesbond-v5": (29.0, 302.8),
    "Kangaroo-v5": (52.0, 3035.0),
    "Krull-v5": (1598.0, 2665.5),
    "KungFuMaster-v5": (258.5, 22736.3),
    "MontezumaRevenge-v5": (0.0, 4753.3),
    "MsPacman-v5": (307.3, 6951.6),
    "NameThisGame-v5": (2292.3, 8049.0),
    "Phoenix-v5": (761.4, 7242.6),
    "Pitfall-v5": (-229.4, 6463.7),
    "Pong-v5": (-20.7, 14.6),
    "PrivateEye-v5": (24.9, 69571.3),
    "Qbert-v5": (163.9, 13455.0),
    "Riverraid-v5": (1338.5, 17118.0),
    "RoadRunner-v5": (11.5, 7845.0),
    "Robotank-v5": (2.2, 11.9),
    "Seaquest-v5": (68.4, 42054.7),
    "Skiing-v5": (-17098.1, -4336.9),
    "Solaris-v5": (1236.3, 12326.7),
    "SpaceInvaders-v5": (148.0, 1668.7),
    "StarGunner-v5": (664.0, 10250.0),
    "Surround-v5": (-10.0, 6.5),
    "Tennis-v5": (-23.8, -8.3),
    "TimePilot-v5": (3568.0, 5229.2),
    "Tutankham-v5": (11.4, 167.6),
    "UpNDown-v5": (533.4, 11693.2),
    "Venture-v5": (0.0, 1187.5),
    "VideoPinball-v5": (16256.9, 17667.9),
    "WizardOfWor-v5": (563.5, 4756.5),
    "YarsRevenge-v5": (3092.9, 54576.9),
    "Zaxxon-v5": (32.5, 9173.3),
}
"""Returns of (uniformly random actions, a professional human tester) by EnvPool's id of the game.

Each is a mean over at least 3 episodes of at most 30 minutes (108,000 frames) that start with 1 to 30 no-ops, as DQN
Zoo lists them (Quan & Ostrovski 2020, `atari_data.py`). Other tables have a random score of 0 for Video Pinball.
"""


def human_normalized(env_id: str, score: float) -> float | None:
    """A score on the scale where uniformly random actions have 0 and the human has 1 (Mnih et al. 2015).

    Args:
        env_id: EnvPool's id, such as "Pong-v5".
        score: Undiscounted, unclipped return of an episode.

    Returns:
        The normalised score; None for a game that is not in `SCORES`.
    """
    if env_id not in SCORES:
        return None
    random, human = SCORES[env_id]
    return (score - random) / (human - random)


class Aggregate(NamedTuple):
    """Human-normalised scores of many games in two numbers, each with the ends of its 95 % interval."""

    median: float
    """Of the games' means over seeds."""
    median_interval: tuple[float, float]
    iqm: float
    """Of all runs (games × seeds): mean of the middle half (Agarwal et al. 2021)."""
    iqm_interval: tuple[float, float]


def aggregate(
    scores: Mapping[str, Sequence[float]], level: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> Aggregate:
    """Median and interquartile mean over games, with stratified bootstrap intervals (Agarwal et al. 2021).

    Each resample draws, for every game by itself, as many of its seeds as it has, with replacement. So the intervals
    speak of other seeds on these games, not of other games. With one seed a game they have no width.

    Args:
        scores: Returns of each seed, by EnvPool's id of the game.
        level: Coverage aimed at, strictly between 0 and 1.
        repetitions: Number of resamples.
        seed: Seed of the resampling: the same seed gives the same intervals.

    Returns:
        Human-normalised, so that 1.0 is the human.

    Raises:
        ValueError: On no games, a game without scores or not in `SCORES`, a score that is missing, or a level outside
            (0, 1).
    """
    unknown = sorted(set(scores) - set(SCORES))
    if unknown:
        raise ValueError(f"no human score is known for {', '.join(unknown)}")
    if not scores or not all(len(values) and np.all(np.isfinite(values)) for values in scores.values()):
        raise ValueError("need at least one game, and of each game at least one score, none of them missing")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    games = [np.array([human_normalized(env_id, x) for x in values]) for env_id, values in scores.items()]
    rng = np.random.default_rng(seed)
    drawn = [game[rng.integers(0, len(game), size=(repetitions, len(game)))] for game in games]  # each [R, seeds]
    tails = ((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    intervals = [np.quantile(statistic(drawn), tails) for statistic in (_median, _iqm)]
    (low, high), (iqm_low, iqm_high) = [(float(a), float(b)) for a, b in intervals]
    one = [game[None] for game in games]
    return Aggregate(float(_median(one)[0]), (low, high), float(_iqm(one)[0]), (iqm_low, iqm_high))


def _median(games: Sequence[np.ndarray]) -> np.ndarray:
    """Median over games of the mean over seeds, from arrays [R, seeds], [R]."""
    return np.median(np.stack([game.mean(axis=1) for game in games], axis=1), axis=1)


def _iqm(games: Sequence[np.ndarray]) -> np.ndarray:
    """Interquartile mean over the runs of all games, from arrays [R, seeds], [R]."""
    return iqm(np.concatenate(games, axis=1), axis=1)
