"""What spaces say of an observation: Gymnasium's own, those that EnvPool gives, and the bounds of Jumanji's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.config import require
from purejaxdqn.observations.leaves import Path, bracketed, build, describe, find, flatten

NARROW = {"int64": "int32", "uint64": "uint32", "float64": "float32"}
"""JAX computes in 32 bits."""
GRIDS, GRID_KINDS = ("MiniGrid-", "BabyAI-"), 11
"""Environments whose spaces say less than is known: `image` holds numbers of kinds from 0 to 10 and no colours up to
255, and the `mission` of EnvPool's is text in bytes."""

MOST_KINDS = 32
"""Whole numbers of 3 to so many values are numbers of kinds; of more they are amounts."""


class Observations(NamedTuple):
    """The arrays of an observation."""

    fields: dict[str, Any]
    """Of `EnvSpec`."""
    spaces: dict[Path, Any]
    """Of each array, by its path."""
    to_frame: Callable[[Any], Any]
    """Observations of a batch as the environment gives them -> `HostStep.frame`."""


def largest(space: Any) -> float | None:
    """What uint8 numbers are divided by, where their space says it; 255 of a picture says little, as most have it."""
    if np.dtype(getattr(space, "dtype", None) or np.float32) != np.uint8 or not hasattr(space, "high"):
        return None
    high = float(np.max(space.high))
    return None if high == 255.0 and len(space.shape) == 3 else high


def read_bounds(space: Any) -> tuple[int, int | None, float | None]:
    """Of whole numbers between bounds, which nothing says more of: what is subtracted, `num_obs_values`, `obs_scale`.

    Numbers of kinds begin at 0 then, and amounts are divided by the largest.
    """
    if not (hasattr(space, "maximum") and np.issubdtype(space.dtype, np.integer)):
        return 0, None, None
    low, high = int(np.min(space.minimum)), int(np.max(space.maximum))
    return (low, high - low + 1, None) if 2 <= high - low < MOST_KINDS else (0, None, float(max(high, 1)))


def is_text(space: Any) -> bool:
    """Whether the values of a space are words, as those of `Text` and of MiniGrid's missions."""
    return space.dtype is not None and np.dtype(space.dtype).kind in "US"


def array_spaces(env_id: str, space: Any, path: Path = ()) -> Any:
    """The spaces of the arrays of an observation, as a plain tree. Text in a Dict is left out.

    Raises:
      SettingError: for a space whose values are no arrays of numbers.
    """
    # Whoever has such a space has Gymnasium.
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        grid = env_id.split("/")[-1].startswith(GRIDS)
        left_out = [name for name, part in space.spaces.items() if is_text(part) or (grid and name == "mission")]
        kept = {name: part for name, part in space.spaces.items() if name not in left_out}
        return {str(name): array_spaces(env_id, part, (*path, str(name))) for name, part in kept.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(array_spaces(env_id, part, (*path, place)) for place, part in enumerate(space.spaces))
    known = isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete))
    of = f"its observations{bracketed(path)} are of the space {type(space).__name__}"
    require(known, "env", env_id, f"{of}: wrap it by gymnasium.wrappers.FlattenObservation")
    return space


def num_values(env_id: str, path: Path, space: Any) -> int | None:
    """Number of values of a discrete array; see `EnvSpec.num_obs_values`."""
    if hasattr(space, "nvec"):
        return int(np.max(space.nvec))
    if env_id.split("/")[-1].startswith(GRIDS) and path == ("image",):
        return GRID_KINDS
    return int(space.n) if hasattr(space, "start") else None


def read_space(env_id: str, space: Any) -> Observations:
    """What the space of an environment's observations says of them.

    Raises:
      SettingError: for what `array_spaces` or `observations.leaves.describe` refuses.
    """
    paths, found = flatten(array_spaces(env_id, space))
    dtypes = [NARROW.get(str(part.dtype), str(part.dtype)) for part in found]
    shapes = [jax.ShapeDtypeStruct(part.shape, dtype) for part, dtype in zip(found, dtypes, strict=True)]
    values = [num_values(env_id, path, part) for path, part in zip(paths, found, strict=True)]
    scales = [largest(part) if n is None else None for part, n in zip(found, values, strict=True)]
    fields = describe(env_id, build(paths, shapes), build(paths, values), build(paths, scales))
    lowest = [getattr(part, "start", 0) for part in found]

    def to_frame(obs: Any) -> Any:
        arrays = [np.asarray(find(obs, path)) for path in paths]
        return build(
            paths,
            [
                (array - low if np.any(low) else array).astype(dtype)
                for array, low, dtype in zip(arrays, lowest, dtypes, strict=True)
            ],
        )

    return Observations(fields, dict(zip(paths, found, strict=True)), to_frame)
