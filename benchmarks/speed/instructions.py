"""Bytes that a compiled GPU program's kernels read and write, from the text of the program that XLA dumps.

A kernel is one instruction, most often a fusion of many: it reads of each argument the part that its results need, and
writes its results, of which an array that is updated where it lies counts by the update. What a kernel reads twice
counts once, as if its cache held it, and a gather counts by the numbers that it gives, not by the lines of memory that
these lie in. So times are above these bytes over the device's bandwidth, never below.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) .*\{$")
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(([^)]*)\)(.*)")
SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
SLICES = ("dynamic-slice", "slice", "gather")
"""What needs of its first operand as much as it gives."""
UPDATES = {"dynamic-update-slice": 1, "scatter": 2}
"""What writes into its first operand, and the number of the operand that is written."""
SAME = ("bitcast", "reshape")


class Instruction(NamedTuple):
    """What is read of one."""

    name: str
    kind: str
    sizes: tuple[int, ...]
    """Bytes of each array that it gives."""
    operands: tuple[str, ...] = ()
    inside: tuple["Instruction", ...] = ()
    """Of a fusion: what is fused, in an order in which it could run, its arguments among them."""
    number: int | None = None
    """Of an argument: which one it is."""
    trips: int | None = None
    """Of a loop, where XLA knows the number before it runs."""


Found = Mapping[str, Instruction]


def sizes_of(shapes: str) -> tuple[int, ...]:
    """Bytes of each array of a shape, which may be a tuple; a number of less than a byte takes one."""
    return tuple(
        max(1, int(bits or 8) // 8) * math.prod(int(side) for side in sides.split(",") if side)
        for _, bits, sides in SHAPE.findall(shapes)
    )


def trips_of(line: str) -> int | None:
    """How often a loop runs, where XLA says so."""
    found = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
    return int(found[1]) if found else None


def read_instructions(text: str) -> dict[str, Instruction]:
    """Instructions by name, from the optimised program, where what is fused stands before its fusion."""
    computations: dict[str, list[Instruction]] = defaultdict(list)
    computation, found = "", dict[str, Instruction]()
    for line in re.sub(r"/\*index=\d+\*/", "", text).splitlines():
        if head := COMPUTATION.match(line):
            computation = head[1]
        elif parts := INSTRUCTION.match(line):
            name, shape, kind, given, rest = parts.groups()
            calls = re.search(r"calls=%?([\w.\-]+)", rest)
            one = Instruction(
                name,
                kind,
                sizes_of(shape),
                tuple(re.findall(r"%([\w.\-]+)", given)),
                tuple(computations[calls[1]]) if calls else (),
                int(given) if kind == "parameter" else None,
                trips_of(rest),
            )
            computations[computation].append(one)
            found[name] = one
    return found


def parts_needed(results: Instruction, before: Sequence[Instruction], sizes: Mapping[str, int]) -> dict[str, float]:
    """Which part of each value is needed, from 0 to 1, for all of an instruction's results.

    Args:
      results: the instruction.
      before: what it may need, each after what that one needs.
      sizes: bytes of all values by name.
    """
    needed: dict[str, float] = defaultdict(float, {results.name: 1.0})
    for one in (results, *reversed(before)):
        part = needed[one.name] = min(1.0, needed[one.name])
        arguments = {inner.number: inner.name for inner in one.inside if inner.number is not None}
        within = needed_inside(one) if arguments else {}
        own: dict[str, float] = {}
        for position, operand in enumerate(one.operands):
            share = part
            if arguments:
                share = part * within.get(arguments[position], 0.0)
            elif position == 0 and one.kind in SLICES:
                share = part * sum(one.sizes) / max(1, sizes.get(operand, 1))
            elif position == 0 and one.kind in UPDATES:
                share = 0.0
            own[operand] = max(share, own.get(operand, 0.0))
        # What several instructions need of a value is taken to be different parts of it.
        for operand, share in own.items():
            needed[operand] += share
    return {name: min(1.0, part) for name, part in needed.items()}


def needed_inside(fusion: Instruction) -> dict[str, float]:
    """Which part of each value inside a fusion is needed."""
    *before, results = fusion.inside
    return parts_needed(results, before, {one.name: sum(one.sizes) for one in fusion.inside})


def bytes_written(one: Instruction, found: Found) -> int:
    """By an instruction, whose operands are among those found."""
    if one.kind in UPDATES:
        return sum(found[one.operands[UPDATES[one.kind]]].sizes)
    if one.kind == "tuple" or one.kind in SAME:
        return sum(bytes_written(found[operand], found) for operand in one.operands)
    if one.inside:
        return bytes_written(one.inside[-1], {inner.name: inner for inner in one.inside})
    return sum(one.sizes)


def bytes_moved(one: Instruction, found: Found) -> int:
    """Read and written by one kernel or copy.

    Args:
      one: its instruction.
      found: all instructions by name.
    """
    sizes = {operand: sum(found[operand].sizes) for operand in one.operands if operand in found}
    needed = parts_needed(one, (), sizes)
    return round(sum(needed[operand] * size for operand, size in sizes.items())) + bytes_written(one, found)
