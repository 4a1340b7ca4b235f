"""What a compiled GPU program does, from what XLA dumps of it: kernels, copies, CUDA graphs, waits of the host.

XLA's GPU executable is a tree of thunks: launches of kernels, copies, loops, conditionals, CUDA graphs. It writes the
tree after its last pass over it (`*.thunk_sequence_after_thunk_passes.txt`), the instruction of each thunk
(`*.thunk_metadata.txt`) and the instructions (`*after_optimizations.txt`) to where `xla_dump_to` says.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.speed.instructions import Instruction, bytes_moved, read_instructions

COPIES = ("kCopy", "kMemzero", "kMemset", "kMemset32BitValue", "kMemcpy")
"""Copies within the device and fills, which need no kernel."""
IN_PLACE = re.compile(r"dynamic[-_]update[-_]slice|scatter|mlp_update")
"""Kernels that write into an array where it lies."""
THUNK = re.compile(r"( *)(?:(\d+): (k\w+)|(\w[\w ]*):)")


@dataclass
class Thunk:
    """A node of the tree: a thunk, or a part of one (`condition`, `body`, a branch)."""

    kind: str
    name: str = ""
    """Of its instruction."""
    children: list["Thunk"] = field(default_factory=list)


class Program(NamedTuple):
    """A dumped program."""

    thunks: Thunk
    instructions: dict[str, Instruction]
    hidden_trips: int = 1
    """What a loop within the outermost one makes where XLA does not know the number."""


def read_thunks(text: str, names: dict[int, str]) -> Thunk:
    """The tree of a dump, whose lines are indented by depth.

    Args:
      text: a thunk sequence.
      names: instructions by the thunks' numbers.
    """
    root, loop = Thunk("root"), 0
    above = [(-1, root)]
    for found in filter(None, map(THUNK.match, text.splitlines())):
        # A loop's condition is printed without the indentation of the loop.
        column = loop + 2 if found[4] == "condition" else len(found[1])
        node = Thunk(found[3] or found[4], names.get(int(found[2]), "") if found[2] else "")
        while above[-1][0] >= column:
            above.pop()
        above[-1][1].children.append(node)
        above.append((column, node))
        loop = column if node.kind == "kWhile" else loop
    return root


def read_names(text: str) -> dict[int, str]:
    """Instructions by the numbers of their thunks, from the dump of metadata."""
    blocks = text.split("thunk_metadata {")[1:]
    found = [(re.search(r"thunk_id: (\d+)", block), re.search(r'annotation: "([^"]*)"', block)) for block in blocks]
    return {int(number[1]): name[1] for number, name in found if number and name}


def read_program(folder: Path, hidden_trips: int = 1) -> Program:
    """The one program that was dumped into a folder; for `hidden_trips` see `Program`."""

    def read(*ends: str) -> str:
        (path, *_) = (path for end in ends for path in folder.glob(f"*{end}.txt"))
        return path.read_text()

    # Passes that change nothing leave no second sequence.
    sequence = read("thunk_sequence_after_thunk_passes", "thunk_sequence")
    thunks = read_thunks(sequence, read_names(read("thunk_metadata")))
    return Program(thunks, read_instructions(read("gpu_after_optimizations")), hidden_trips)


def outer_loops(thunk: Thunk, in_graph: bool = False) -> Iterator[tuple[Thunk, bool]]:
    """Loops that are in no other, each with whether it is in a CUDA graph."""
    for child in thunk.children:
        if child.kind == "kWhile":
            yield child, in_graph
        else:
            yield from outer_loops(child, in_graph or child.kind == "kCommandBuffer")


def count_program(program: Program, ring: Collection[int] = ()) -> Counter[str]:
    """What the whole program does, as `count` says."""
    return count(program, program.thunks, ring, False)


def count_trip(program: Program, ring: Collection[int] = ()) -> Counter[str]:
    """What one trip of the outermost loop does, as `count` says: the one of unknown length, or else the longest.

    `all_in_one` is 1 where the whole loop is one CUDA graph.
    """

    def length(found: tuple[Thunk, bool]) -> float:
        trips = program.instructions[found[0].name].trips
        return math.inf if trips is None else trips

    loop, in_graph = max(outer_loops(program.thunks), key=length)
    total = count(program, loop.children[-1], ring, in_graph)
    known = program.instructions[loop.name].trips is not None
    # Before each trip of unknown number the host waits for the condition, unless the graph looks at it.
    total += Counter() if known and not in_graph else count(program, loop.children[0], ring, in_graph)
    return total + Counter(waits=int(not known and not in_graph), all_in_one=int(in_graph))


def count(program: Program, thunk: Thunk, ring: Collection[int], in_graph: bool) -> Counter[str]:
    """What one pass over a thunk does.

    Args:
      program: that it is of.
      thunk: counted with all that is in it. Of several branches the one with most operations counts.
      ring: bytes of the replay's large arrays.
      in_graph: whether it is in a CUDA graph.

    Returns:
      Number of `ops` (kernels and copies), of `copies` among them, of `ring_copies`, which write an array of the
      replay's size anew, of `graphs` that the host launches, of its `waits` for the device, and of `bytes` that are
      moved, as `benchmarks.speed.instructions` says.
    """
    inside = in_graph or thunk.kind == "kCommandBuffer"
    parts = [count(program, child, ring, inside) for child in thunk.children]
    if thunk.kind == "kWhile":
        condition, body = parts
        trips = program.instructions[thunk.name].trips
        known, made = trips is not None and not in_graph, program.hidden_trips if trips is None else trips
        total = Counter({key: value * made for key, value in body.items()})
        looks = 0 if known else made + 1
        total.update({key: value * looks for key, value in condition.items()})
        return total + Counter(waits=0 if in_graph else looks)
    if thunk.kind == "kConditional":
        return max(parts, key=lambda part: part["ops"]) + Counter(waits=int(not in_graph))
    if parts:
        return sum(parts, Counter(graphs=int(inside and not in_graph)))
    if not thunk.kind.startswith("k"):
        return Counter()
    one = program.instructions.get(thunk.name)
    anew = one is not None and not IN_PLACE.search(thunk.name) and any(size in ring for size in one.sizes)
    moved = 0 if one is None else bytes_moved(one, program.instructions)
    return Counter(ops=1, copies=int(thunk.kind in COPIES), ring_copies=int(anew), bytes=moved)
