"""The store that a configuration's environment needs, and whether the configuration leaves it anything to draw from."""

from functools import partial
from typing import Any

from purejaxdqn.config import Config, require
from purejaxdqn.envs.interface import Env, HostEnv
from purejaxdqn.observations.leaves import longest_stack
from purejaxdqn.replay.frames import frame_store
from purejaxdqn.replay.held import held_store
from purejaxdqn.replay.hindsight import check_hindsight, goal_store
from purejaxdqn.replay.interface import Store
from purejaxdqn.replay.sequences import Lengths, read_frame_steps, read_ring_steps, window_store
from purejaxdqn.replay.transitions import TransitionStore, transition_store


def make_store(config: Config, source: Env | HostEnv | TransitionStore) -> Store:
    """What keeps the steps that a replay draws from: those of an environment, or a dataset's (see `replay.held`).

    Single transitions are drawn, or for a memory windows.
    """
    if isinstance(source, TransitionStore):
        return held_store(source, config.n_step, config.anneal_horizon)
    store = make_step_store(config, source)
    if not config.has_windows:
        return store
    read = partial(read_frame_steps, source.spec) if isinstance(source, HostEnv) else read_ring_steps
    lengths = Lengths(config.burn_in, config.unroll, config.n_step)
    return window_store(store, read, lengths, config.window_period, config.stored_carry, config.anneal_horizon)


def make_step_store(config: Config, env: Env | HostEnv) -> Store:
    """What keeps the steps, and reads single transitions."""
    if config.hindsight != "none":
        check_hindsight(config, env)
    shape: dict[str, Any] = {
        "capacity": config.buffer_rows,
        "num_envs": config.shard_envs,
        "n_step": config.n_step,
        "annealed": config.anneal_horizon,
    }
    if isinstance(env, HostEnv):
        check_history(config, longest_stack(env.spec) - 1)
        return frame_store(**shape, spec=env.spec)
    # A termination that is not masked counts as a truncation, and may come after any step.
    time_limit = env.spec.fewest_steps if config.mask_terminals else 1
    store = transition_store(**shape, time_limit=time_limit, every_row_valid=env.every_row_valid)
    return store if config.hindsight == "none" else goal_store(store)


def check_history(config: Config, history: int) -> None:
    """Raises `SettingError` where rows that are stacked with earlier ones leave nothing to learn from.

    Args:
      config: static settings.
      history: rows before the one that is read.
    """
    needs = config.rows_after + config.start_period - 1 + history
    why = f"an observation is stacked with {history} earlier ones"
    remedy = f"{why}: use at least {(needs + 1) * config.num_envs}"
    require(config.prefill_steps > needs, "learning_starts", config.learning_starts, remedy)
    window = needs + config.rollout_length
    remedy = f"{why}: use more than {window * config.num_envs}"
    require(config.buffer_rows > window, "buffer_size", config.buffer_size, remedy)
