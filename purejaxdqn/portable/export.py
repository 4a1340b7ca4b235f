"""`policy.export(path)`: a greedy policy as `.npz`, `.onnx` or `.stablehlo`.

A file is played, and its values compared with the policy's, before it is written."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export as jax_export

from purejaxdqn.config import EnvSpec, SettingError, require
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.observations.leaves import Leaf, build, list_leaves, name_of
from purejaxdqn.portable import purejaxdqn_numpy as player
from purejaxdqn.portable.tape import Tape, UnknownOperator, batch_size, make_tape

OUTPUT, STARTS, CARRY, AFTER = "q_values", "starts", "carry", "next_carry"
"""Names; those of a carry's arrays go on with a number, `carry/0`."""
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""For which a StableHLO file is made."""
TOLERANCE = 1e-4
"""By how much a file's values may differ from the policy's, relative where they are larger than 1."""
CHECKED = 3
"""Observations on which they are compared."""


class Program(NamedTuple):
    """What is exported: arrays to arrays, each with a leading axis of the batch.

    With a memory the last inputs are whether an episode begins and what is carried, and the last outputs what is
    carried on.
    """

    spec: EnvSpec
    branching: bool
    """Whether values are those of an action's parts."""
    fn: Callable[..., tuple[jax.Array, ...]]
    """(arrays [B, ...] in the order of `inputs`) -> arrays [B, ...] in that of `outputs`."""
    inputs: dict[str, jax.ShapeDtypeStruct]
    """By name, the shape and type of one entry."""
    outputs: tuple[str, ...]


def input_name(leaf: Leaf) -> str:
    """`obs`, or `obs/hand/0` of an array in a tree."""
    return "/".join(["obs", *([name_of(leaf.path)] if leaf.path else [])])


def make_program(
    step: Callable[[Any, Any, Any], tuple[jax.Array, Any]], spec: EnvSpec, carry: Any = (), branching: bool = False
) -> Program:
    """One step of a batch, as that of each observation: so nothing depends on how many there are.

    Args:
      step: (observations [B, ...], an array or a tree; bool [B], where episodes begin; carry) -> values [B, A], carry.
      spec: of the observations.
      carry: what a memory carries of one episode, [1, ...] or a tree; () without a memory.
      branching: whether values are those of an action's parts.
    """
    leaves = list_leaves(spec)
    held, structure = jax.tree.flatten(carry)

    def one(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        batch = [array[None] for array in arrays]
        obs, told = build([leaf.path for leaf in leaves], batch[: len(leaves)]), batch[len(leaves) :]
        values, after = step(obs, told[0] if told else None, jax.tree.unflatten(structure, told[1:]))
        return (values[0], *(leaf[0] for leaf in jax.tree.leaves(after)))

    inputs = {input_name(leaf): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves}
    if held:
        inputs[STARTS] = jax.ShapeDtypeStruct((), bool)
    inputs |= {f"{CARRY}/{i}": jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for i, leaf in enumerate(held)}
    return Program(spec, branching, jax.vmap(one), inputs, (OUTPUT, *(f"{AFTER}/{i}" for i in range(len(held)))))


def as_npz(program: Program, tape: Tape) -> bytes:
    """Arrays, and the steps as JSON; see `purejaxdqn_numpy.py`."""
    if any(entry.dtype == "bfloat16" for entry in tape.inputs):
        raise UnknownOperator("observations of bfloat16")
    paths = [leaf.path for leaf in list_leaves(program.spec)]
    shapes = [{"name": entry.name, "shape": entry.shape[1:], "dtype": entry.dtype} for entry in tape.inputs]
    carried = shapes[len(paths) :]
    description = {
        "format": player.FORMATS[bool(carried)],
        **about(program),
        "inputs": [shape | {"path": path} for shape, path in zip(shapes, paths, strict=False)],
        **({"carry": carried} if carried else {}),
        "outputs": [{"name": entry.shape.name, "array": entry.array} for entry in tape.outputs],
        "steps": [step._asdict() for step in tape.steps],
    }
    file = io.BytesIO()
    arrays: dict[str, Any] = {**tape.constants, player.DESCRIPTION: np.asarray(json.dumps(description, default=int))}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def as_onnx(program: Program, tape: Tape) -> bytes:
    """An ONNX model."""
    # Of an extra.
    from purejaxdqn.portable.onnx_graph import to_onnx

    return to_onnx(tape, {name: json.dumps(value) for name, value in about(program).items()})


def about(program: Program) -> dict[str, Any]:
    """What whoever plays has to know of the actions."""
    spec = program.spec
    told = {"env": spec.env_id, "action_sizes": spec.action_sizes, "masked": spec.masked}
    # Where it is not so, nothing is said, and a file is what it was before there was such a thing.
    return told | ({"branching": True} if program.branching else {})


def as_stablehlo(program: Program) -> bytes:
    """What `jax.export` serialises, for all platforms; `jax.export.deserialize(bytearray(data)).call(obs)` plays it."""
    size = batch_size()
    given = [jax.ShapeDtypeStruct((size, *one.shape), one.dtype) for one in program.inputs.values()]
    return bytes(jax_export.export(jax.jit(program.fn), platforms=PLATFORMS)(*given).serialize())


def recorded(write: Callable[[Program, Tape], bytes]) -> Callable[[Program], bytes]:
    """A format that is written from a list of steps."""
    return lambda program: write(program, make_tape(program.fn, program.inputs, program.outputs))


def play_npz(data: bytes, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What NumPy makes of a file."""
    return player.load(io.BytesIO(data)).run(*arrays)


def play_onnx(data: bytes, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What the package's own reference makes of a model."""
    # Of an extra; whoever wrote the model has it.
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(data)
    feed = {entry.name: array for entry, array in zip(model.graph.input, arrays, strict=True)}
    return list(ReferenceEvaluator(model).run(None, feed))


def play_stablehlo(data: bytes, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What JAX makes of a program."""
    return [np.asarray(found) for found in jax_export.deserialize(bytearray(data)).call(*arrays)]


class Format(NamedTuple):
    """A kind of file."""

    name: str
    write: Callable[[Program], bytes]
    play: Callable[[bytes, list[np.ndarray]], list[np.ndarray]]


FORMATS = {
    ".npz": Format("the NumPy player", recorded(as_npz), play_npz),
    ".onnx": Format("ONNX", recorded(as_onnx), play_onnx),
    ".stablehlo": Format("StableHLO", as_stablehlo, play_stablehlo),
}
"""By the ending of the file's name."""


@in_usual_modes
def export_program(program: Program, out: str | Path) -> list[Path]:
    """Writes a program as a file, once it is known to give the same values.

    Args:
      program: to export.
      out: the file; its ending says the format. Beside an `.npz` comes `purejaxdqn_numpy.py`, which plays it.

    Returns:
      What was written.

    Raises:
      SettingError: for another ending, a folder that does not exist or cannot be written to, a package that is missing,
        an operator that the format has not, or values that differ.
    """
    path, endings = Path(out), ", ".join(FORMATS)
    require(path.suffix in FORMATS, "out", str(out), f"name a file that ends in one of {endings}")
    require(path.absolute().parent.is_dir(), "out", str(out), "its folder does not exist: make it first")
    form = FORMATS[path.suffix]
    try:
        data = form.write(program)
    except ImportError as error:
        raise SettingError(
            "out", str(out), f"{form.name} needs what is not installed: install purejaxdqn[export]"
        ) from error
    except UnknownOperator as error:
        raise SettingError(
            "out", str(out), f"the network has {error}, which {form.name} has not: use .stablehlo"
        ) from error
    check_values(program, form, data, str(out))
    files = {path: data}
    if path.suffix == ".npz":
        source = Path(player.__file__)
        files[path.with_name(source.name)] = source.read_bytes()
    try:
        for name, content in files.items():
            write_atomically(name, content)
    except OSError as error:
        raise SettingError("out", str(out), f"it cannot be written ({error.strerror})") from error
    return list(files)


def check_values(program: Program, form: Format, data: bytes, out: str) -> None:
    """Raises `SettingError` where a file gives other values than the program, for some observations drawn at random."""
    rng = np.random.default_rng(0)
    kinds = dict(zip(program.inputs, [leaf.num_values for leaf in list_leaves(program.spec)], strict=False))
    arrays = [draw(rng, one, kinds.get(name)) for name, one in program.inputs.items()]
    for found, ours in zip(form.play(data, arrays), map(np.asarray, program.fn(*arrays)), strict=True):
        given, due = np.asarray(found, np.float64), ours.astype(np.float64)
        far = float(np.max(np.abs(given - due) / np.maximum(1.0, np.abs(due)), initial=0.0))
        require(far <= TOLERANCE, "out", out, f"its values would differ by {far:.2g} from the policy's: use .stablehlo")


def draw(rng: np.random.Generator, one: jax.ShapeDtypeStruct, num_values: int | None) -> np.ndarray:
    """Inputs of a shape and type, and of so many values if they are numbers of kinds."""
    shape, dtype = (CHECKED, *one.shape), np.dtype(one.dtype)
    if dtype.kind in "fV":  # V is bfloat16
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, num_values or (2 if dtype.kind == "b" else 100), shape).astype(dtype)
