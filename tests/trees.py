"""What tests of observations that are trees share: the page's room, and CartPole as a tree."""

import importlib.util
import sys
import tempfile
from functools import cache
from pathlib import Path

import gymnax
import jax
import jax.numpy as jnp
from doors import page_file

from purejaxdqn import batch_env


@cache
def room_module():
    """The module that docs/own-environment.md calls `room.py`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "room_of_the_page.py"
        path.write_text(page_file("room"))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module


def cartpole(observe, **says):
    """CartPole by `batch_env`, with something else made of its four numbers."""
    env, params = gymnax.make("CartPole-v1")
    # In 32 bits: Python would add two of them in 64.
    params = jax.tree.map(jnp.asarray, params)

    def reset(key):
        obs, state = env.reset_env(key, params)
        return observe(obs), state

    def step(key, state, action):
        obs, state, reward, terminated = env.step_env(key, state, action, params)[:4]
        return observe(obs), state, reward, terminated

    return batch_env(reset, step, num_actions=2, time_limit=60, name="cartpole", **says)
