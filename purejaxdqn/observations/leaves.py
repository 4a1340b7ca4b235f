"""The leaves of an observation: one array is the tree of one leaf, dicts and tuples of arrays are trees of several.

Trees are plain here: whatever has names is a dict, whatever is in an order a tuple. So a run folder can hold what they
are made of, and a policy is fed where the classes of their authors are not installed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.bounds import POSITIVE, real, whole
from purejaxdqn.config import EnvSpec, require
from purejaxdqn.machine.shapes import assert_array

Path = tuple[str | int, ...]
"""Names and places on the way to a leaf; () where the observation is one array."""
KINDS = ("bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "bfloat16", "float32")
"""Types that an observation's arrays may have: JAX computes in 32 bits."""
DARK = 32
"""Of pictures of colours up to 255 some are brighter than this; numbers of kinds are not."""


@dataclass(frozen=True)
class Leaf:
    """One array of an observation; to JAX it is a leaf of a tree, too."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    num_values: int | None
    """See `EnvSpec.num_obs_values`."""
    scale: float | None
    """See `EnvSpec.obs_scale`."""
    frame_stack: int
    """See `EnvSpec.frame_stack`."""

    @property
    def name(self) -> str:
        """See `name_of`."""
        return name_of(self.path)

    @property
    def title(self) -> str:
        """The subject of an error's sentence."""
        return f"its observations{bracketed(self.path)}"

    @property
    def is_picture(self) -> bool:
        """Whether it is [height, width, channels]."""
        return len(self.shape) == 3

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame, [..., channels]."""
        if self.frame_stack == 1:
            return self.shape
        return (*self.shape[:-1], self.shape[-1] // self.frame_stack)

    @property
    def divisor(self) -> float:
        """What its numbers are divided by before they enter a network."""
        return self.scale or (255.0 if self.dtype == "uint8" else 1.0)

    @property
    def features(self) -> int:
        """Numbers of it that enter a network."""
        return math.prod(self.shape) * (self.num_values or 1)


def flatten(tree: Any) -> tuple[list[Path], list[Any]]:
    """Paths and leaves of any pytree, in JAX's order."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [tuple(part_of(key) for key in path) for path, _ in found], [leaf for _, leaf in found]


def name_of(path: Path) -> str:
    """A path as an error says it: `hand/0`; empty for an observation that is one array."""
    return "/".join(str(part) for part in path)


def bracketed(path: Path) -> str:
    """The same after another word."""
    return f" ({name_of(path)})" if path else ""


def part_of(key: Any) -> str | int:
    """One part of a path: a field's or an entry's name, or a place."""
    return next(
        kind(getattr(key, field)) for field, kind in (("name", str), ("idx", int), ("key", str)) if hasattr(key, field)
    )


def build(paths: Sequence[Path], leaves: Sequence[Any]) -> Any:
    """The plain tree of leaves at some paths, all different."""
    if list(paths) == [()]:
        return leaves[0]
    below: dict[str | int, tuple[list[Path], list[Any]]] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        rest = below.setdefault(path[0], ([], []))
        rest[0].append(path[1:])
        rest[1].append(leaf)
    made = {part: build(*rest) for part, rest in below.items()}
    return tuple(made.values()) if all(isinstance(part, int) for part in made) else made


def plain(obs: Any) -> Any:
    """Any pytree as dicts and tuples; an array as it is."""
    return build(*flatten(obs))


def find(obs: Any, path: Path) -> Any:
    """One array of a tree of dicts, named tuples or objects, which may hold more.

    Raises:
      ValueError: where it is not there.
    """
    for part in path:
        try:
            held = isinstance(obs, Mapping) or not hasattr(obs, str(part))
            obs = obs[part] if held else getattr(obs, str(part))
        except (LookupError, TypeError) as error:
            raise ValueError(f"an observation has {name_of(path)}, and this one has none") from error
    return obs


def listed(paths: Sequence[Path]) -> str:
    """What an observation is made of, as text."""
    return ", ".join(name_of(path) or "one array" for path in paths)


def said_of(field: str, said: Any, paths: Sequence[Path], name: str) -> list[Any]:
    """What a tree, of which parts may be left out, says of each path; None where it says nothing.

    Raises:
      SettingError: where it says something of what is no leaf.
    """
    found = dict(zip(*flatten(said), strict=True))
    for path in found:
        remedy = f"{field} speaks of {listed([path])}, and its observation is {listed(paths)}"
        require(path in paths, "env", name, remedy)
    return [found.get(path) for path in paths]


def list_leaves(spec: EnvSpec) -> list[Leaf]:
    """The leaves of an observation, in JAX's order."""
    paths, dtypes = flatten(spec.obs_dtype)
    shapes = [find(spec.obs_shape, path) for path in paths]
    values = said_of("num_obs_values", spec.num_obs_values, paths, spec.env_id)
    scales = said_of("obs_scale", spec.obs_scale, paths, spec.env_id)
    stacks = said_of("frame_stack", None if spec.frame_stack == 1 else spec.frame_stack, paths, spec.env_id)
    facts = zip(paths, shapes, dtypes, values, scales, stacks, strict=True)
    return [Leaf(path, tuple(shape), dtype, n, scale, stack or 1) for path, shape, dtype, n, scale, stack in facts]


def arrays_of(env_id: str, obs: Any) -> Any:
    """Any pytree of numbers as a plain tree of arrays.

    Raises:
      SettingError: for a leaf that is none, or of a type that no network can take.
    """
    paths, leaves = flatten(obs)
    require(len(paths) > 0, "env", env_id, "its observation holds no array")
    for path, leaf in zip(paths, leaves, strict=True):
        kind = str(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype)
        known = kind in KINDS or kind in ("int64", "uint64", "float64")
        says = f"its observations{bracketed(path)} are of the type {kind}"
        require(known, "env", env_id, f"{says}: give numbers, or leave them out")
    return build(paths, [jnp.asarray(leaf) for leaf in leaves])


def channels_first(leaf: Leaf) -> Literal["no", "perhaps", "surely"]:
    """Whether a picture seems to have its channels on the first axis, by its shape.

    More channels than rows and columns are a doubt alone: a small board may have more kinds of pieces than cells in a
    row, as 2048's of 4 by 4 has 31; of bools, which are such planes, and of kinds, it is none.
    """
    if not leaf.is_picture:
        return "no"
    rows, columns, channels = leaf.shape
    if rows < columns < channels or (rows <= 4 and columns == channels >= 8):
        return "surely"
    planes = leaf.dtype == "bool" or leaf.num_values is not None
    return "perhaps" if channels > max(rows, columns) and not planes else "no"


def check_leaf(env_id: str, leaf: Leaf) -> None:
    """Raises `SettingError` where it has or says nothing of what it holds, or a picture has its channels first."""
    shape, title = leaf.shape, leaf.title
    require(0 not in shape, "env", env_id, f"{title}, {shape}, hold no numbers: leave them out, or give a constant")
    require(leaf.dtype in KINDS, "env", env_id, f"{title} are of the type {leaf.dtype}: give one of {', '.join(KINDS)}")
    seem = f"{title}, pictures {shape}, seem to have their channels first"
    first = channels_first(leaf) == "surely"
    require(not first, "env", env_id, f"{seem}: give them last, or flatten what is no picture")
    if leaf.num_values is not None:
        whole("num_obs_values", leaf.num_values)
        remedy = f"{title} are of {leaf.num_values} values, and of the type {leaf.dtype}: give whole numbers"
        require("int" in leaf.dtype, "env", env_id, remedy)
    elif leaf.scale is not None:
        real("obs_scale", leaf.scale, POSITIVE)
    else:
        require(leaf.dtype != "uint8" or leaf.is_picture, "env", env_id, f"{title} are uint8: {SAY}")


def check_leaves(spec: EnvSpec) -> None:
    """`check_leaf` of all arrays."""
    for leaf in list_leaves(spec):
        check_leaf(spec.env_id, leaf)


def describe(env_id: str, obs: Any, num_obs_values: Any, obs_scale: Any) -> dict[str, Any]:
    """The fields of `EnvSpec` that say what an observation is.

    Args:
      env_id: for errors.
      obs: plain tree of arrays, or of shapes with dtypes, of one observation.
      num_obs_values: a tree like it, or a part of one.
      obs_scale: likewise.

    Raises:
      SettingError: for what a network cannot take, or could take for something else.
    """
    paths, leaves = flatten(obs)
    fields = {
        "obs_shape": build(paths, [tuple(leaf.shape) for leaf in leaves]),
        "obs_dtype": build(paths, [str(leaf.dtype) for leaf in leaves]),
        "num_obs_values": build(paths, said_of("num_obs_values", num_obs_values, paths, env_id)),
        "obs_scale": build(paths, said_of("obs_scale", obs_scale, paths, env_id)),
    }
    check_leaves(EnvSpec(env_id=env_id, num_actions=1, time_limit=1, **fields))
    return fields


def check_same(spec: EnvSpec, obs: Any, sentence: str, batch: tuple[int, ...] = ()) -> None:
    """Raises `SettingError` where arrays (or shapes) [*batch, ...] are not those that are said.

    Args:
      spec: what is said.
      obs: what was found.
      sentence: of the error, with {of}, {said} and {found} in it.
      batch: shape of the batch.
    """
    leaves = list_leaves(spec)
    paths, arrays = flatten(obs)
    of, said, found = "", listed([leaf.path for leaf in leaves]), listed(paths)
    require(said == found, "env", spec.env_id, sentence.format(of=of, said=said, found=found))
    for leaf, x in zip(leaves, arrays, strict=True):
        of, said, found = bracketed(leaf.path), f"{(*batch, *leaf.shape)} {leaf.dtype}", f"{tuple(x.shape)} {x.dtype}"
        require(said == found, "env", spec.env_id, sentence.format(of=of, said=said, found=found))


SAY = "say num_obs_values (for one-hot) or obs_scale (what they are divided by)"


def check_values(spec: EnvSpec, obs: Any, say: str = SAY) -> None:
    """Raises `SettingError` where observations that were played are none of their values, or no colours of pictures.

    Args:
      spec: of the environment.
      obs: [..., *shape], or a tree of such.
      say: what is to be done of uint8 numbers that seem to be no colours.
    """
    for leaf, x in zip(list_leaves(spec), jax.tree.leaves(obs), strict=True):
        array = np.asarray(x)
        if leaf.num_values is not None:
            inside = bool(np.logical_and(array >= 0, array < leaf.num_values).all())
            values = f"none of its values 0 to {leaf.num_values - 1}"
            require(inside, "env", spec.env_id, f"it gives observations{bracketed(leaf.path)} that are {values}")
        elif leaf.dtype == "uint8" and leaf.scale is None:
            most = int(array.max())
            says = f"{leaf.title} are uint8 and reach {most} at most in some steps, of a picture's 255"
            require(most > DARK, "env", spec.env_id, f"{says}: {say}")


def leaves_of(spec: EnvSpec) -> Any:
    """The observation as a plain tree of `Leaf`s."""
    leaves = list_leaves(spec)
    return build([leaf.path for leaf in leaves], leaves)


def longest_stack(spec: EnvSpec) -> int:
    """Frames that a leaf holds at most."""
    return max(leaf.frame_stack for leaf in list_leaves(spec))


def zeros(spec: EnvSpec, *batch: int) -> Any:
    """An observation of zeros, [*batch, ...]."""
    return jax.tree.map(lambda leaf: jnp.zeros((*batch, *leaf.shape), leaf.dtype), leaves_of(spec))


def assert_obs(spec: EnvSpec, obs: Any) -> None:
    """Asserts that `obs` is a batch [B, ...] of observations."""
    for leaf, x in zip(list_leaves(spec), jax.tree.leaves(obs), strict=True):
        assert_array(f"obs {leaf.name}".rstrip(), x, (None, *leaf.shape))


def as_one(obs: Any) -> np.ndarray:
    """What is drawn of an observation: its first picture, or first grid, or else all of its numbers in a row."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(obs)]
    shown = [array for rank in (3, 2) for array in arrays if array.ndim == rank]
    return [*shown, *arrays][0] if shown or len(arrays) == 1 else np.concatenate([a.ravel() for a in arrays])
