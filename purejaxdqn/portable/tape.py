"""A traced function as a list of steps on arrays, of so few operators that a page of NumPy or ONNX plays them.

JAX traces the function with a batch of unknown size. Calls are inlined, what follows from parameters alone is computed,
what no output needs is dropped, and operators that can be said in others are (`rewrites.py`).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from purejaxdqn.portable.purejaxdqn_numpy import BATCH, run_step
from purejaxdqn.portable.rewrites import REWRITES, UnknownOperator

UNKNOWN = "?"
"""Before what there is no word for, among names of arrays."""
SIZE = "b"
"""Name of the batch's size while JAX traces."""


class Step(NamedTuple):
    """One operator, applied."""

    operator: str
    """A name of `purejaxdqn_numpy.OPERATORS`."""
    inputs: tuple[str, ...]
    """Names of arrays."""
    output: str
    settings: dict[str, Any]
    """JSON values; sizes are those of the arrays, `BATCH` that of the batch."""


class Shape(NamedTuple):
    """An array's name, shape (`BATCH` stands for the batch's size) and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Output(NamedTuple):
    """A result: its name to whoever plays, and that of the array that it is."""

    shape: Shape
    array: str


class Tape(NamedTuple):
    """A function of arrays, each with a leading axis of the batch."""

    inputs: tuple[Shape, ...]
    outputs: tuple[Output, ...]
    constants: dict[str, np.ndarray]
    steps: tuple[Step, ...]
    shapes: dict[str, Shape]
    """Of every array, by its name."""


def same(eqn: Any) -> dict[str, Any]:
    """Of an operator on each number: nothing is to be set."""
    del eqn
    return {}


def of_floats(eqn: Any) -> dict[str, Any]:
    """Of one that computes otherwise with whole numbers."""
    require_known(eqn, jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating), "of whole numbers")
    return {}


def of_truths(eqn: Any) -> dict[str, Any]:
    """Of one that computes otherwise with bits."""
    require_known(eqn, eqn.outvars[0].aval.dtype == jnp.bool_, "of bits")
    return {}


def of_choice(eqn: Any) -> dict[str, Any]:
    """Of a choice between two arrays."""
    require_known(eqn, eqn.invars[0].aval.dtype == jnp.bool_, "of more than two")
    return {}


def of_rounding(eqn: Any) -> dict[str, Any]:
    """Of rounding, with halves to the even number."""
    require_known(eqn, int(eqn.params["rounding_method"]) == 1, "away from zero")
    return {}


def of_slice(eqn: Any) -> dict[str, Any]:
    """Of a part of an array."""
    given = eqn.params
    strides = given["strides"] or [1] * len(given["start_indices"])
    return {"starts": list(given["start_indices"]), "limits": sizes(given["limit_indices"]), "strides": list(strides)}


def of_padding(eqn: Any) -> dict[str, Any]:
    """Of values around an array."""
    widths = eqn.params["padding_config"]
    require_known(eqn, all(low >= 0 and high >= 0 and between == 0 for low, high, between in widths), "that cuts")
    return {"widths": [[low, high] for low, high, _ in widths]}


def of_sums(eqn: Any) -> dict[str, Any]:
    """Of running sums."""
    require_known(eqn, not eqn.params["reverse"], "from the end")
    return {"axis": eqn.params["axis"]}


def of_product(eqn: Any) -> dict[str, Any]:
    """Of a product of matrices."""
    require_known(eqn, jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating), "of whole numbers")
    contract, batch = eqn.params["dimension_numbers"]
    return {"contract": [list(axes) for axes in contract], "batch": [list(axes) for axes in batch]}


def out_shape(eqn: Any) -> list[int]:
    """The shape of what an equation gives."""
    return sizes(eqn.outvars[0].aval.shape)


Settings = Callable[[Any], dict[str, Any]]
WORDS: dict[str, tuple[str, Settings]] = {
    **{name: (name, same) for name in ("add", "sub", "mul", "max", "min", "neg", "abs", "sign", "floor", "ceil")},
    **{name: (name, same) for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "lt", "le", "gt", "ge", "eq", "ne")},
    **{name: (name, of_truths) for name in ("and", "or", "not")},
    "div": ("div", of_floats),
    "pow": ("pow", of_floats),
    "round": ("round", of_rounding),
    "select_n": ("select", of_choice),
    "convert_element_type": ("cast", lambda eqn: {"dtype": str(eqn.outvars[0].aval.dtype)}),
    "broadcast_in_dim": (
        "broadcast",
        lambda eqn: {"shape": out_shape(eqn), "axes": list(eqn.params["broadcast_dimensions"])},
    ),
    **{name: ("reshape", lambda eqn: {"shape": out_shape(eqn)}) for name in ("reshape", "squeeze", "expand_dims")},
    "transpose": ("transpose", lambda eqn: {"axes": list(eqn.params["permutation"])}),
    "slice": ("slice", of_slice),
    "concatenate": ("join", lambda eqn: {"axis": eqn.params["dimension"]}),
    "pad": ("pad", of_padding),
    **{
        name: (name, lambda eqn: {"axes": list(eqn.params["axes"])})
        for name in ("reduce_sum", "reduce_max", "reduce_min")
    },
    "argmax": ("argmax", lambda eqn: {"axis": eqn.params["axes"][0], "dtype": str(eqn.outvars[0].aval.dtype)}),
    "cumsum": ("cumsum", of_sums),
    "dot_general": ("dot", of_product),
    **{name: (name, same) for name in ("complex", "real", "imag")},
    "iota": (
        "iota",
        lambda eqn: {"axis": eqn.params["dimension"], "shape": out_shape(eqn), "dtype": str(eqn.outvars[0].aval.dtype)},
    ),
}
"""JAX's operator -> its name in a list of steps, and equation -> settings."""
CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
}
"""JAX's calls of functions, and which of their parameters is the function."""
PASSING = ("optimization_barrier", "stop_gradient", "copy", "copy_p")
"""Those that give what they are given."""


def require_known(eqn: Any, condition: bool, kind: str) -> None:
    """Raises `UnknownOperator` for a kind of an operator that there is no word for."""
    if not condition:
        raise UnknownOperator(f"{eqn.primitive.name} {kind}")


def sizes(shape: Sequence[Any]) -> list[int]:
    """A traced shape in numbers, with `BATCH` for the batch's size."""
    return [size_of(size) for size in shape]


def size_of(size: Any) -> int:
    """One size of a traced shape."""
    if str(size) == SIZE:
        return BATCH
    if not isinstance(size, int):
        raise UnknownOperator(f"a size that depends on the number of observations, {size}")
    return size


class Recorder:
    """What was recorded so far."""

    def __init__(self) -> None:
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, Shape] = {}
        self.steps: list[Step] = []
        self._by_value: dict[Any, str] = {}

    def constant(self, value: Any) -> str:
        """The name of a value; equal ones share one."""
        array = np.asarray(value)
        content = (str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest())
        name = self._by_value.setdefault(content, f"c{len(self.constants)}")
        self.constants[name] = array
        self.shapes[name] = Shape(name, array.shape, str(array.dtype))
        return name

    def step(
        self, operator: str, inputs: Sequence[str], settings: dict[str, Any], shape: Sequence[int], dtype: str
    ) -> str:
        """The name of a step's result, which is a constant where all that goes in is."""
        step = Step(operator, tuple(inputs), f"v{len(self.steps)}", settings)
        if BATCH not in shape and all(name in self.constants for name in inputs):
            return self.constant(run_step(step._asdict(), [self.constants[name] for name in inputs], 1))
        self.steps.append(step)
        self.shapes[step.output] = Shape(step.output, tuple(shape), dtype)
        return step.output


def record(recorder: Recorder, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[str]) -> list[str]:
    """Records a traced function, calls inlined; names of its results."""
    names: dict[Any, str] = dict(zip(jaxpr.invars, inputs, strict=True))
    names |= {var: recorder.constant(value) for var, value in zip(jaxpr.constvars, constants, strict=True)}

    def name_of(atom: Any) -> str:
        return recorder.constant(np.asarray(atom.val, atom.aval.dtype)) if hasattr(atom, "val") else names[atom]

    for eqn in jaxpr.eqns:
        given = [name_of(atom) for atom in eqn.invars]
        try:
            found = record_equation(recorder, eqn, given)
        except UnknownOperator as error:
            # An error only where an output follows from it.
            found = [f"{UNKNOWN}{error}"] * len(eqn.outvars)
        names |= dict(zip(eqn.outvars, found, strict=True))
    return [name_of(atom) for atom in jaxpr.outvars]


def record_equation(recorder: Recorder, eqn: Any, given: Sequence[str]) -> Sequence[str]:
    """The same for one operator or call."""
    operator, params = eqn.primitive.name, eqn.params
    if operator in CALLS:
        return record_closed(recorder, params[CALLS[operator]], given)
    if operator in REWRITES:
        avals = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in eqn.invars]
        return record_closed(recorder, jax.make_jaxpr(REWRITES[operator](params))(*avals), given)
    if operator in PASSING:
        return given
    if operator not in WORDS:
        return [recorder.constant(value) for value in computed(recorder, eqn, given)]
    word, settings = WORDS[operator]
    (out,) = eqn.outvars
    return [recorder.step(word, given, settings(eqn), sizes(out.aval.shape), str(out.aval.dtype))]


def computed(recorder: Recorder, eqn: Any, given: Sequence[str]) -> Sequence[Any]:
    """What JAX makes of constants by an operator that there is no word for."""
    if not all(name in recorder.constants for name in given):
        raise UnknownOperator(eqn.primitive.name)
    found = eqn.primitive.bind(*(jnp.asarray(recorder.constants[name]) for name in given), **eqn.params)
    values = found if eqn.primitive.multiple_results else [found]
    if any(jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended) for value in values):
        # A key, which a greedy pass makes and does not read.
        raise UnknownOperator(eqn.primitive.name)
    return list(values)


def record_closed(recorder: Recorder, inner: Any, inputs: Sequence[str]) -> list[str]:
    """The same for a function with or without constants of its own."""
    return record(recorder, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)


def needed(steps: Sequence[Step], outputs: Sequence[str]) -> tuple[list[Step], set[str]]:
    """The steps that outputs follow from, and the names of all arrays in them."""
    wanted, kept = set(outputs), []
    for step in reversed(steps):
        if step.output in wanted:
            wanted |= set(step.inputs)
            kept.append(step)
    return kept[::-1], wanted


def batch_size() -> Any:
    """The unknown size of a batch, for JAX to trace with."""
    return jax_export.symbolic_shape(SIZE)[0]


def make_tape(
    fn: Callable[..., tuple[Any, ...]], inputs: Mapping[str, jax.ShapeDtypeStruct], outputs: Sequence[str]
) -> Tape:
    """Traces a function and records its steps.

    Args:
      fn: (arrays [B, ...], in the order of `inputs`) -> arrays [B, ...], in that of `outputs`.
      inputs: shape and type of one entry of each, by name.
      outputs: names.

    Raises:
      UnknownOperator: where it does what there is no word for.
    """
    size = batch_size()
    traced = jax.make_jaxpr(fn)(*[jax.ShapeDtypeStruct((size, *one.shape), one.dtype) for one in inputs.values()])
    recorder = Recorder()
    shapes = {name: Shape(name, (BATCH, *one.shape), str(one.dtype)) for name, one in inputs.items()}
    recorder.shapes.update(shapes)
    found = record(recorder, traced.jaxpr, traced.consts, list(inputs))
    steps, wanted = needed(recorder.steps, found)
    for name in sorted(wanted):
        if name.startswith(UNKNOWN):
            raise UnknownOperator(name.removeprefix(UNKNOWN))
    results = [
        Output(recorder.shapes[name]._replace(name=title), name) for name, title in zip(found, outputs, strict=True)
    ]
    constants = {name: value for name, value in recorder.constants.items() if name in wanted}
    return Tape(tuple(shapes.values()), tuple(results), constants, tuple(steps), recorder.shapes)
