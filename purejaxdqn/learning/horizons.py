"""A horizon that recedes after each reset: n falls and γ rises (Schwarzer et al. 2023, BBF, section 4)."""

import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, require
from purejaxdqn.learning.resets import last_reset
from purejaxdqn.learning.schedules import exponential_schedule
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.types import Hypers


def anneal_horizon(config: Config, h: Hypers, updates: Array) -> Hypers:
    """Hypers with the n, as `n_step_final`, and the γ of an update.

    Over `anneal_updates` updates after each reset, and after the run's beginning, n goes from `Config.n_step` to
    `n_step_final` and γ from `gamma_start` to `gamma`: n and 1 - γ by the same factor in every update, and n rounded to
    the nearest whole number (to the even one of two), as in the authors' code.

    Args:
      config: the largest n, and whether there are resets.
      h: ends of both paths, their duration, and the period of resets.
      updates: of the run before this one, int [].
    """
    assert_array("updates", updates, (), int)
    passed = updates - last_reset(h, updates) if config.resets else updates
    n = exponential_schedule(passed, float(config.n_step), h.n_step_final, h.anneal_updates)
    distance = exponential_schedule(passed, 1.0 - h.gamma_start, 1.0 - h.gamma, h.anneal_updates)
    return h.replace(n_step_final=jnp.round(n).astype(jnp.int32), gamma=1.0 - distance)  # type: ignore[attr-defined]


def check_horizon(config: Config, h: Hypers) -> None:
    """Raises `SettingError` for an n that would have to rise.

    Args:
      config: static settings.
      h: traced settings as Python numbers.
    """
    falls = not config.anneal_horizon or int(h.n_step_final) <= config.n_step
    remedy = f"n falls from --n-step, which is {config.n_step}: use at most that"
    require(falls, "n_step_final", h.n_step_final, remedy)
