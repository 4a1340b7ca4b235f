"""A run's folder that grows without being trained: what tests of a live page share."""

import numpy as np

from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.runs.folder import METRICS, Settings, write_config
from purejaxdqn.runs.tables import append_rows, write_table
from purejaxdqn.types import Hypers

SEEDS = (0, 1)


def write_run(folder, chunks=5):
    """A run of two seeds of CartPole-v1 with a few chunks logged."""
    folder.mkdir(parents=True)
    settings = Settings(Config(), Hypers(), SEEDS, 1_000, 10_000, 5, None, "cartpole", None)
    spec = EnvSpec("CartPole-v1", 2, (4,), "float32", None, 500)
    write_config(folder, settings, spec, "python -m purejaxdqn.train", "2026-11-26T12:00:00+00:00")
    write_table(folder, METRICS, [])
    for chunk in range(chunks):
        log_chunk(folder, chunk)
    return folder


def log_chunk(folder, chunk):
    """Adds a chunk's rows."""
    numbers = {"updates": chunk, "episodes": 3, "episode_return": 20.0 + chunk, "loss": 0.1, "epsilon": 0.5}
    rows = [{"seed": seed, "env_steps": 1_000 * (chunk + 1), **numbers} for seed in SEEDS]
    if chunk % 2:
        rows = [row | {"eval_return": 30.0 + np.sqrt(chunk), "eval_stderr": 1.0} for row in rows]
    append_rows(folder, METRICS, rows)
