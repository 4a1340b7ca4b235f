"""The contract between environments and loops."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from purejaxdqn.config import EnvSpec
from purejaxdqn.types import Row


class Env(NamedTuple):
    """An environment stepped in batches: pure functions over a state that holds the current observations."""

    spec: EnvSpec
    reset: Callable[[Array, int], tuple[Any, Array]]
    """(key, num_envs E) -> env state, obs [E, ...]."""
    step: Callable[[Array, Any, Array], tuple[Any, Array, Row]]
    """(key, env state, actions [E]) -> env state, obs [E, ...] to act on next, row [E]."""
    observe: Callable[[Any], Array]
    """(env state) -> obs [E, ...] to act on."""
    every_row_valid: bool
    """Whether no step is ever swallowed by a reset."""
    picture_state: Callable[[Any], Any]
    """(env state) -> what `render.render_frame` draws, with a leading axis of environments."""
    params: Any
    """The environment's parameters, for drawing."""
