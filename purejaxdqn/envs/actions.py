"""Actions of several parts as one choice, and masks that say which actions are legal."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.bounds import INT32, MOST_COMBINATIONS, whole
from purejaxdqn.config import EnvSpec, SettingError, one_line, require
from purejaxdqn.envs.interface import HostStep

EMPTY_MASK = "its mask leaves no legal action in a state that is to be acted in: leave at least one"


def flat_actions(name: str, num_actions: int | Sequence[int], most: int = INT32) -> tuple[tuple[int, ...] | None, int]:
    """The choices of each part of an action, None for one of one part, and the number of all combinations.

    Args:
      name: of the environment, for errors.
      num_actions: of an action of one part, or of each of several.
      most: combinations that are taken; by default as many as an int32 counts.

    Raises:
      SettingError: for no whole numbers of at least 1, or more combinations.
    """
    if np.ndim(num_actions) == 0:
        return None, whole("num_actions", num_actions)
    sizes = tuple(whole("num_actions", size) for size in np.ravel(num_actions).tolist())
    count = math.prod(sizes)
    combinations = f"the parts of its actions, {' × '.join(map(str, sizes))}, make {count:,} combinations"
    remedy = f"{combinations}, and at most {most:,} are chosen from: leave choices out, or join parts"
    require(count <= most, "env", name, remedy)
    return sizes, count


def as_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An action mask in NumPy as bool.

    Args:
      mask: of truth values, or of whole numbers that are 0 where an action is illegal, as Gymnasium has it.
      shape: that it should have.

    Raises:
      ValueError: where it is something else.
    """
    found = np.asarray(mask)
    if found.shape != shape or found.dtype.kind not in "bui":
        raise ValueError(f"a mask is bool {shape}, True for each action that is legal, not {found.dtype} {found.shape}")
    return found.astype(bool)


def joint_mask(mask: Array, sizes: tuple[int, ...]) -> Array:
    """A mask of all combinations of the parts of an action, bool [*sizes].

    Args:
      mask: the same, or one of each part alone, bool [parts, choices].
      sizes: choices of each part.
    """
    return mask if mask.shape == sizes else jnp.stack(jnp.meshgrid(*mask, indexing="ij")).all(axis=0)


def check_masks(spec: EnvSpec, step: HostStep) -> None:
    """Raises `SettingError` where an action is to be chosen and the mask has none, or where one is missing."""
    if not spec.masked:
        return
    remedy = "its first observations came with an action mask, and a later one has none: give one with each"
    require(step.mask is not None, "env", spec.env_id, remedy)
    legal = np.logical_or(np.asarray(step.mask).any(axis=1), step.ended)
    require(bool(legal.all()), "env", spec.env_id, EMPTY_MASK)


def countable(spec: EnvSpec) -> int:
    """The number of actions where each can have a count of its own; 0 where there are too many for that."""
    return spec.num_actions if spec.num_actions <= MOST_COMBINATIONS or spec.action_sizes is None else 0


class Actions(NamedTuple):
    """The actions of an environment of Gymnasium: the whole numbers from 0 on that a run chooses from, what they are
    there, and which are legal."""

    sizes: tuple[int, ...] | None
    """Choices of each part of a multi-discrete action; None for a discrete one."""
    number: int
    given: Callable[[np.ndarray], np.ndarray]
    """(int32 [B]) -> what a vector environment is given."""
    mask: Callable[[Mapping[str, Any], int], np.ndarray]
    """(infos, B) -> bool [B, number]: the legal ones, by `info["action_mask"]`; none where an info has no mask."""


def find_actions(name: str, space: Any) -> Actions:
    """The actions of a space of Gymnasium, Discrete or MultiDiscrete.

    Raises:
      SettingError: for too many combinations.
    """
    shape: tuple[int, ...] = space.shape
    sizes, number = flat_actions(name, space.nvec if hasattr(space, "nvec") else space.n)

    def given(action: np.ndarray) -> np.ndarray:
        parts = action if sizes is None else np.stack(np.unravel_index(action, sizes), axis=-1)
        found: np.ndarray = parts.reshape(-1, *shape).astype(np.int64) + space.start
        return found

    def mask(infos: Mapping[str, Any], count: int) -> np.ndarray:
        if "action_mask" not in infos:
            return np.zeros((count, number), bool)
        try:
            return as_mask(infos["action_mask"], (count, *(sizes or (number,)))).reshape(count, number)
        except ValueError as error:
            raise SettingError("env", name, f'its info["action_mask"] cannot be used: {one_line(error)}') from error

    return Actions(sizes, number, given, mask)
