"""What the machine can do: matrix products by shape and bytes moved by size, as the library's programs run there.

python -m benchmarks.bounds [--device cpu]

On a CPU that is one thread, as one lane has. A product's rate is that of X ← X B Bᵀ, with an orthonormal B, so that
nothing grows. Bytes moved are those of x ← x + 1: each is read and written once. Other benchmarks measure these beside
what they time, in turns with it, and say what share of the bound was reached.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import core

from benchmarks.common import write_result
from benchmarks.speed.timing import loop_timer, medians, take_turns
from purejaxdqn.machine.devices import PLATFORMS, use_platform

Shape = tuple[int, int, int]
"""(m, k, n) of a product [m, k] × [k, n]."""
SQUARE: Shape = (512, 512, 512)
SIZES = (2**18, 2**20, 2**22, 2**25, 2**28)
"""Bytes of arrays: from what a core's cache holds to what only memory does."""


def operations(shape: Shape) -> int:
    """Multiplications and additions of one product."""
    m, k, n = shape
    return 2 * m * k * n


def size_name(shape: Shape) -> str:
    """As it is printed."""
    return " × ".join(map(str, shape))


@cache
def product_timer(shape: Shape, seconds: float) -> Callable[[], float]:
    """A contender: seconds of one product [m, k] × [k, n], half of them of [m, n] × [n, k]."""
    m, k, n = shape
    narrow, wide = sorted((k, n))
    ortho = np.linalg.qr(np.random.default_rng(0).normal(size=(wide, narrow)))[0].astype(np.float32)
    there = jnp.asarray(ortho if k == wide else ortho.T)
    back = jnp.asarray(there.T.copy())

    def body(_: Array, x: Array) -> Array:
        # Without the barrier B Bᵀ could be multiplied once for all trips.
        return jax.lax.optimization_barrier(x @ there) @ back

    timer = loop_timer(body, jax.random.normal(jax.random.key(0), (m, k)), seconds)
    return lambda: timer() / 2


@cache
def bytes_timer(size: int, seconds: float) -> Callable[[], float]:
    """A contender: seconds of reading and writing an array of `size` bytes."""
    return loop_timer(lambda i, x: x + jnp.float32(1) * i, jnp.zeros(size // 4, jnp.float32), seconds)


def bound_timers(shapes: Iterable[Shape], sizes: Iterable[int], seconds: float) -> dict[str, Callable[[], float]]:
    """Contenders of `Bounds`, by name."""
    timers = {f"product {size_name(shape)}": product_timer(shape, seconds) for shape in dict.fromkeys(shapes)}
    return timers | {f"bytes {size}": bytes_timer(size, seconds) for size in dict.fromkeys(sizes)}


class Bounds:
    """Rates of the machine, from the medians of `bound_timers`."""

    def __init__(self, seconds: Mapping[str, float]):
        self.seconds = {name: value for name, value in seconds.items() if name.startswith(("product ", "bytes "))}
        self.sizes = sorted(int(name.split()[1]) for name in self.seconds if name.startswith("bytes "))

    def flops(self, shape: Shape) -> float:
        """Operations per second of products of one shape."""
        return operations(shape) / self.seconds[f"product {size_name(shape)}"]

    def bandwidth(self, footprint: int) -> float:
        """Bytes per second, reads and writes together, of data that takes `footprint` bytes: the next larger size's."""
        size = next((size for size in self.sizes if size >= footprint), self.sizes[-1])
        return 2 * size / self.seconds[f"bytes {size}"]

    def least_products(self, products: Mapping[Shape, int]) -> float:
        """Seconds of products alone, each at the rate of its shape."""
        return sum(times * self.seconds[f"product {size_name(shape)}"] for shape, times in products.items())

    def least_seconds(self, products: Mapping[Shape, int], moved: int, footprint: int) -> tuple[float, str]:
        """The bound of some work, and what sets it.

        Args:
          products: how often each shape is multiplied.
          moved: bytes that have to be read or written.
          footprint: bytes of what they are taken from.
        """
        return max((self.least_products(products), "products"), (moved / self.bandwidth(footprint), "bytes"))

    def summary(self) -> dict[str, Any]:
        """For a result file: operations and bytes per second."""
        shapes = {
            name.removeprefix("product "): operations(parse(name)) / value
            for name, value in self.seconds.items()
            if name.startswith("product ")
        }
        return {
            "operations_per_second": shapes,
            "bytes_per_second": {str(size): self.bandwidth(size) for size in self.sizes},
        }


def parse(name: str) -> Shape:
    """The shape in a contender's name."""
    m, k, n = (int(word) for word in name.removeprefix("product ").split(" × "))
    return m, k, n


def shape_of_product(equation: Any) -> tuple[Shape, int]:
    """The shape of one `dot_general`, and how many of them it is."""
    (left, _), (batch, _) = equation.params["dimension_numbers"]
    a, b = (variable.aval.shape for variable in equation.invars)
    k = int(np.prod([a[axis] for axis in left], dtype=int))
    count = int(np.prod([a[axis] for axis in batch], dtype=int))
    m, n = int(np.prod(a, dtype=int)) // (k * count), int(np.prod(b, dtype=int)) // (k * count)
    return (m, k, n), count


def count_products(fn: Callable[..., Any], *args: Any) -> Counter[Shape]:
    """How often `fn(*args)` multiplies matrices of each shape; what is in a loop of unknown length counts once.

    Args:
      fn: traced, never run.
      *args: arrays or shapes.
    """
    return count_in(jax.make_jaxpr(fn)(*args).jaxpr, 1)


def count_in(jaxpr: Any, times: int) -> Counter[Shape]:
    """The products of a program that is run so many times."""
    found: Counter[Shape] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shape, count = shape_of_product(equation)
            found[shape] += times * count
        inner = times * equation.params["length"] if equation.primitive.name == "scan" else times
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(value):
                found += count_in(getattr(value, "jaxpr", value), inner)
    return found


def is_program(value: Any) -> bool:
    """Whether a parameter of an equation is a program of its own."""
    return isinstance(value, (core.Jaxpr, core.ClosedJaxpr))


def main() -> None:
    """Measures, writes results/bounds.json and prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=PLATFORMS, default="auto")
    parser.add_argument("--small", action="store_true", help="short timings, to try the script")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one timing (default: 0.3)")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--name", default="bounds", help="result file (default: bounds)")
    args = parser.parse_args()
    use_platform(args.device, 1)
    shapes = [SQUARE, (1024, 1024, 1024), (128, 120, 84), (84, 120, 128), (120, 4, 128), (32, 3136, 512)]
    seconds, repetitions = (0.02, 2) if args.small else (args.seconds, args.repetitions)
    found = take_turns(bound_timers(shapes, SIZES, seconds), repetitions)
    bounds = Bounds(medians(found)).summary()
    for name, rate in bounds["operations_per_second"].items():
        print(f"{name:20} {rate / 1e9:10.1f} GFLOP/s")
    for size, rate in bounds["bytes_per_second"].items():
        print(f"{int(size) / 2**20:9.2f} MiB {rate / 1e9:18.1f} GB/s")
    what = "matrix products by shape and bytes moved by size: of one thread on a CPU, else of one device"
    write_result(args.name, what, {"median": bounds, "seconds": found})


if __name__ == "__main__":
    main()
