"""A list of steps as an ONNX model: one table from operators to ONNX's, and the `onnx` package's own helpers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from purejaxdqn.portable.purejaxdqn_numpy import BATCH
from purejaxdqn.portable.tape import Shape, Step, Tape, UnknownOperator

OPSET, IR = 18, 9
"""Versions of the operators and of the file, both of 2023: what plays ONNX today reads them."""
SIMPLE = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow", "neg": "Neg"},
    **{"abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "exp": "Exp", "log": "Log"},
    **{"sqrt": "Sqrt", "tanh": "Tanh", "sin": "Sin", "cos": "Cos", "lt": "Less", "le": "LessOrEqual", "gt": "Greater"},
    **{"ge": "GreaterOrEqual", "eq": "Equal", "and": "And", "or": "Or", "not": "Not"},
}
"""Operators that ONNX has by another name."""
FARTHEST = 2**31 - 1
"""A limit past all numbers."""


class Graph:
    """An ONNX graph in the making."""

    def __init__(self, tape: Tape):
        self.tape = tape
        self.nodes: list[Any] = []
        self.arrays = dict(tape.constants)
        self._batch: str | None = None

    def node(self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Adds a node; the name of what it gives."""
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def numbers(self, values: Sequence[int] | int) -> str:
        """The name of a constant: a list of whole numbers, or one."""
        name = f"i{values}"
        self.arrays[name] = np.asarray(values, np.int64)
        return name

    def shape(self, sizes: Sequence[int]) -> str:
        """The name of a shape, in which the batch has the size that it turns out to have."""
        if BATCH not in sizes:
            return self.numbers(sizes)
        if self._batch is None:
            whole = self.node("Shape", [self.tape.inputs[0].name])
            self._batch = self.node("Gather", [whole, self.numbers([0])])
        return self.node("Concat", [self._batch if size == BATCH else self.numbers([size]) for size in sizes], axis=0)


def broadcast(graph: Graph, step: Step) -> None:
    """Reshaped to as many axes, and repeated where that is not all."""
    shape = step.settings["shape"]
    kept = [1] * len(shape)
    for size, axis in zip(graph.tape.shapes[step.inputs[0]].shape, step.settings["axes"], strict=True):
        kept[axis] = size
    given = [*step.inputs, graph.numbers(kept)]
    if kept == shape:
        graph.node("Reshape", given, step.output)
    else:
        graph.node("Expand", [graph.node("Reshape", given), graph.shape(shape)], step.output)


def dot(graph: Graph, step: Step) -> None:
    """A product by letters for axes."""
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    ranks = [len(graph.tape.shapes[name].shape) for name in step.inputs]
    first = [next(letters) for _ in range(ranks[0])]
    contract, batch = step.settings["contract"], step.settings["batch"]
    shared = dict(zip([*contract[1], *batch[1]], [*contract[0], *batch[0]], strict=True))
    second = [first[shared[axis]] if axis in shared else next(letters) for axis in range(ranks[1])]
    kept = [first[axis] for axis in batch[0]]
    free = [letter for letter in (*first, *second) if (letter in first) != (letter in second)]
    words = ["".join(axes) for axes in (first, second, [*kept, *free])]
    graph.node("Einsum", step.inputs, step.output, equation=f"{words[0]},{words[1]}->{words[2]}")


def part(graph: Graph, step: Step) -> None:
    """Parts along all axes."""
    given = step.settings
    limits = [FARTHEST if limit == BATCH else limit for limit in given["limits"]]
    places = (given["starts"], limits, list(range(len(limits))), given["strides"])
    graph.node("Slice", [*step.inputs, *map(graph.numbers, places)], step.output)


def pad(graph: Graph, step: Step) -> None:
    """Values around an array: ONNX wants the widths before it, then those after it."""
    array, value = step.inputs
    widths = np.transpose(step.settings["widths"]).reshape(-1).tolist()
    graph.node("Pad", [array, graph.numbers(widths), value], step.output)


def argmax(graph: Graph, step: Step) -> None:
    """The first place of the largest."""
    found = graph.node("ArgMax", step.inputs, axis=step.settings["axis"], keepdims=0)
    graph.node("Cast", [found], step.output, to=type_of(step.settings["dtype"]))


def with_numbers(kind: str, setting: str, **attributes: Any) -> Callable[[Graph, Step], Any]:
    """A node whose last input is a setting of the step."""
    return lambda graph, step: graph.node(
        kind, [*step.inputs, graph.numbers(step.settings[setting])], step.output, **attributes
    )


def type_of(dtype: str) -> int:
    """ONNX's number for a type."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


EMITTERS: dict[str, Callable[[Graph, Step], Any]] = {
    "ne": lambda graph, step: graph.node("Not", [graph.node("Equal", step.inputs)], step.output),
    "select": lambda graph, step: graph.node("Where", [step.inputs[0], *step.inputs[:0:-1]], step.output),
    "cast": lambda graph, step: graph.node("Cast", step.inputs, step.output, to=type_of(step.settings["dtype"])),
    "transpose": lambda graph, step: graph.node("Transpose", step.inputs, step.output, perm=step.settings["axes"]),
    "join": lambda graph, step: graph.node("Concat", step.inputs, step.output, axis=step.settings["axis"]),
    "reshape": with_numbers("Reshape", "shape"),
    "cumsum": with_numbers("CumSum", "axis"),
    "reduce_sum": with_numbers("ReduceSum", "axes", keepdims=0),
    "reduce_max": with_numbers("ReduceMax", "axes", keepdims=0),
    "reduce_min": with_numbers("ReduceMin", "axes", keepdims=0),
    "broadcast": broadcast,
    "slice": part,
    "pad": pad,
    "argmax": argmax,
    "dot": dot,
}
"""The others: (graph, step) adds its nodes."""


def to_onnx(tape: Tape, metadata: Mapping[str, str]) -> bytes:
    """The model as a file's bytes, checked by the package.

    Args:
      tape: of a function.
      metadata: words for whoever opens the file.

    Raises:
      UnknownOperator: for one that ONNX has not.
    """
    graph = Graph(tape)
    for step in tape.steps:
        if step.operator in SIMPLE:
            graph.node(SIMPLE[step.operator], step.inputs, step.output)
        elif step.operator in EMITTERS:
            EMITTERS[step.operator](graph, step)
        else:
            raise UnknownOperator(step.operator)
    for output in tape.outputs:
        graph.node("Identity", [output.array], output.shape.name)
    made = helper.make_graph(
        graph.nodes,
        "policy",
        [described(entry) for entry in tape.inputs],
        [described(entry.shape) for entry in tape.outputs],
        [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in graph.arrays.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR, producer_name="purejaxdqn")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def described(entry: Shape) -> Any:
    """An input or output with its shape."""
    sizes = ["batch" if size == BATCH else size for size in entry.shape]
    return helper.make_tensor_value_info(entry.name, type_of(entry.dtype), sizes)
