"""Plays a policy that purejaxdqn exported to an .npz file, with NumPy alone: copy this file to wherever you play.

    import purejaxdqn_numpy

    policy = purejaxdqn_numpy.load("policy.npz")
    action = policy(observation)              # of one observation, or of a batch with one leading axis
    values = policy.q_values(observation)     # of every action
    policy.reset()                            # where an episode begins, if the policy has a memory

The file holds arrays and a list of steps as JSON: names of operators from the table below, and what goes into them.
Nothing in it is executed.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

FORMATS = (1, 2)
"""Of files, the second with a memory; others are refused."""
DESCRIPTION = "description"
"""Name of the JSON text among the file's arrays."""
BATCH = -1
"""Stands for the number of observations among the sizes of a step."""

Array = np.ndarray
Operator = Callable[..., Any]


def broadcast(x: Array, shape: Sequence[int], axes: Sequence[int]) -> Array:
    """x with its axes at `axes` of `shape`, repeated along the others."""
    kept = [1] * len(shape)
    for size, axis in zip(x.shape, axes, strict=True):
        kept[axis] = size
    return np.broadcast_to(x.reshape(kept), shape)


def dot(a: Array, b: Array, contract: Sequence[Sequence[int]], batch: Sequence[Sequence[int]]) -> Array:
    """The sum of products over pairs of axes, for each entry along others: [batch, free of a, free of b].

    Args:
      a: first factor.
      b: second factor.
      contract: axes of a, and those of b, that are summed over.
      batch: axes of a, and those of b, that are kept as one.
    """
    free = [[i for i in range(x.ndim) if i not in (*contract[k], *batch[k])] for k, x in enumerate((a, b))]
    shape = [a.shape[i] for i in batch[0]] + [a.shape[i] for i in free[0]] + [b.shape[i] for i in free[1]]
    summed = math.prod(a.shape[i] for i in contract[0])
    sizes = [math.prod(a.shape[i] for i in axes) for axes in (batch[0], free[0])]
    rows = a.transpose(*batch[0], *free[0], *contract[0]).reshape(*sizes, summed)
    columns = b.transpose(*batch[1], *contract[1], *free[1]).reshape(sizes[0], summed, -1)
    return np.matmul(rows, columns).reshape(shape)


def part(x: Array, starts: Sequence[int], limits: Sequence[int], strides: Sequence[int]) -> Array:
    """x[start:limit:stride] of every axis."""
    return x[tuple(map(slice, starts, limits, strides))]


def pad(x: Array, value: Array, widths: Sequence[Sequence[int]]) -> Array:
    """x with as many values before and after it along each axis."""
    return np.pad(x, [tuple(width) for width in widths], constant_values=value[()])


def cumulate(x: Array, axis: int) -> Array:
    """Running sums along an axis."""
    return np.cumsum(x, axis=axis, dtype=x.dtype)


def whole_numbers(axis: int, shape: Sequence[int], dtype: str) -> Array:
    """0, 1, … along an axis of a shape."""
    return broadcast(np.arange(shape[axis], dtype=dtype), shape, [axis])


OPERATORS: dict[str, Operator] = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum},
    **{"pow": np.power, "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil},
    **{"round": np.rint, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "sin": np.sin, "cos": np.cos},
    **{"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal},
    **{"ne": np.not_equal, "and": np.logical_and, "or": np.logical_or, "not": np.logical_not},
    "select": lambda which, no, yes: np.where(which, yes, no),
    "cast": lambda x, dtype: x.astype(dtype),
    "broadcast": broadcast,
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.transpose(axes),
    "slice": part,
    "join": lambda *parts, axis: np.concatenate(parts, axis=axis),
    "pad": pad,
    "reduce_sum": lambda x, axes: x.sum(axis=tuple(axes), dtype=x.dtype),
    "reduce_max": lambda x, axes: x.max(axis=tuple(axes)),
    "reduce_min": lambda x, axes: x.min(axis=tuple(axes)),
    "argmax": lambda x, axis, dtype: x.argmax(axis=axis).astype(dtype),
    "cumsum": cumulate,
    "dot": dot,
    "iota": whole_numbers,
    **{"complex": lambda real, imaginary: real + 1j * imaginary, "real": np.real, "imag": np.imag},
}
"""By name: (arrays, settings by name) -> array."""


def run_step(step: Mapping[str, Any], arrays: Sequence[Array], batch: int) -> Array:
    """One step's result; sizes that stand for the batch get its number."""
    settings = {
        name: [batch if size == BATCH else size for size in value] if name in ("shape", "limits") else value
        for name, value in step["settings"].items()
    }
    return np.asarray(OPERATORS[step["operator"]](*arrays, **settings))


def run_steps(description: Mapping[str, Any], constants: Mapping[str, Array], inputs: Sequence[Array]) -> list[Array]:
    """All outputs of a list of steps.

    Args:
      description: see `load`: the names of `inputs`, of what is carried, and of `outputs`, and the `steps` between.
      constants: arrays by name.
      inputs: in the order of their names, each with a leading axis of the batch.
    """
    names = [entry["name"] for entry in (*description["inputs"], *description.get("carry", ()))]
    known = {**constants, **dict(zip(names, inputs, strict=True))}
    batch = len(inputs[0])
    # Infinities are values here, as in JAX.
    with np.errstate(all="ignore"):
        for step in description["steps"]:
            known[step["output"]] = run_step(step, [known[name] for name in step["inputs"]], batch)
    return [known[entry["array"]] for entry in description["outputs"]]


class Policy:
    """A greedy policy: `policy(obs)` gives actions, `policy.q_values(obs)` the values behind them.

    Of an environment with action masks it is `policy(obs, mask)`. One with a memory has to be asked step by step, once
    each, and told by `policy.reset()` where an episode begins; one without is told in vain.
    """

    def __init__(self, description: Mapping[str, Any], constants: Mapping[str, Array]):
        self.description = description
        """The environment's name (`env`), `inputs`, `carry` and `outputs` with shapes and types, and the steps."""
        self.carry: list[Array] | None = None
        """Whether an episode begins, bool [B], and what a memory carries, [B, ...] each, which may be kept and put
        back; None where it is to be made, as before the first episode."""
        self._constants = constants

    def reset(self, begins: Any = None) -> None:
        """Forgets what was before.

        Args:
          begins: bool [B], the episodes of a batch that begin with the next observation; by default all do.
        """
        if begins is None or self.carry is None:
            self.carry = None
        elif self.carry:
            self.carry = [np.asarray(begins, bool), *self.carry[1:]]

    def run(self, *inputs: Array) -> list[Array]:
        """All outputs for all inputs, each with a leading axis of the batch."""
        return run_steps(self.description, self._constants, inputs)

    def q_values(self, obs: Any) -> Array:
        """Action values, float32 [A], or [B, A] for a batch of observations with one leading axis.

        Args:
          obs: an array, or the tree of dicts, tuples or lists that the environment gives, in which there may be more.

        Raises:
          ValueError: for any other shape, where an array is missing, or for a batch of another size than a memory has
            been following.
        """
        leaves = self.description["inputs"]
        arrays = [np.asarray(find(obs, leaf["path"])) for leaf in leaves]
        batch = arrays[0].shape[: max(0, arrays[0].ndim - len(leaves[0]["shape"]))][:1]
        for leaf, array in zip(leaves, arrays, strict=True):
            shape, name = tuple(leaf["shape"]), f" ({leaf['name']})" if leaf["path"] else ""
            if array.shape != (*batch, *shape):
                raise ValueError(
                    f"an observation{name} has the shape {shape} and a batch {('B', *shape)}, not {array.shape}"
                )
        made = [
            (array if batch else array[None]).astype(leaf["dtype"]) for leaf, array in zip(leaves, arrays, strict=True)
        ]
        size, held = len(made[0]), self.description.get("carry", ())
        if self.carry is None:
            self.carry = [np.full((size, *entry["shape"]), i == 0, entry["dtype"]) for i, entry in enumerate(held)]
        if self.carry and len(self.carry[1]) != size:
            raise ValueError(f"its memory follows {len(self.carry[1])} episodes, not {size}: call policy.reset() first")
        values, *after = self.run(*made, *self.carry)
        self.carry = [np.zeros(size, bool), *after] if after else []
        return values if batch else values[0]

    def __call__(self, obs: Any, mask: Any = None) -> Array:
        """The legal action of largest value: an integer for one observation, int [B] for a batch.

        Args:
          obs: see `q_values`.
          mask: the legal actions, bool [A], or [B, A] for a batch; by default all, unless the environment has action
            masks. For actions of several parts it has one axis for each, and an action is int [parts] or [B, parts].

        Raises:
          ValueError: for a mask of another shape, without any legal action, or that is due and not given.
        """
        values, sizes = self.q_values(obs), self.description["action_sizes"]
        if self.description.get("branching"):
            if mask is not None:
                raise ValueError("it has values of an action's parts, and knows no mask of combinations: leave it out")
            parts = np.split(values, np.cumsum(sizes)[:-1], axis=-1)
            return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)
        if mask is None and self.description["masked"]:
            raise ValueError("its environment says which actions are legal: call policy(obs, mask)")
        if mask is not None:
            legal, shape = np.asarray(mask), (*values.shape[:-1], *(sizes or values.shape[-1:]))
            if legal.shape != shape or not np.isin(legal, (0, 1)).all():
                raise ValueError(f"a mask has the shape {shape}, with 1 or True where an action is legal")
            legal = legal.astype(bool).reshape(values.shape)
            if not legal.any(axis=-1).all():
                raise ValueError("a mask leaves no legal action: leave at least one")
            values = np.where(legal, values, -np.inf)
        action = np.argmax(values, axis=-1)
        return np.asarray(action if sizes is None else np.stack(np.unravel_index(action, sizes), axis=-1))


def find(obs: Any, path: Sequence[str | int]) -> Any:
    """One array of a tree of dicts, tuples, lists or objects. Raises ValueError where it is not there."""
    for key in path:
        try:
            obs = obs[key] if isinstance(key, int) or isinstance(obs, Mapping) else getattr(obs, key)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"an observation has no {'/'.join(map(str, path))}") from error
    return obs


def load(path: str | Path | IO[bytes]) -> Policy:
    """Reads a policy from a file, by its name or open. Nothing in it is executed.

    Raises:
      OSError: if there is no such file.
      ValueError: if it is damaged, is none of purejaxdqn's, or asks for what this file does not know.
    """
    try:
        # Of plain arrays alone; a pickle is refused.
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        description = json.loads(arrays.pop(DESCRIPTION).item())
        found, steps = description["format"], description["steps"]
        unknown = {step["operator"] for step in steps} - set(OPERATORS)
        named = {name for step in steps for name in step["inputs"]} | {
            entry["array"] for entry in description["outputs"]
        }
        lost = named - {
            *arrays,
            *(step["output"] for step in steps),
            *(entry["name"] for entry in (*description["inputs"], *description.get("carry", ()))),
        }
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is damaged or no policy that purejaxdqn exported ({error})") from error
    if found not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise ValueError(f"{path} has the format {found}, and this player knows {known}: take the one beside the file")
    if unknown or lost:
        raise ValueError(f"{path} asks for {', '.join(sorted(unknown | lost))}, which this player does not know")
    return Policy(description, arrays)
