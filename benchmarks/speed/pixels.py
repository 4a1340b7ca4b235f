"""An update of Nature's CNN on a CPU: beside its products' bound, what was tried, one and two threads, and before.

python -m benchmarks.pixels [--before FOLDER COMMIT]

A batch of 32 of `nature-dqn` that lies ready. Every variant runs in processes of its own, in turns: XLA's threads are
those of a process. `--before` is a checkout of a commit without rooms, such as 230c988, whose update takes its turns
too.
"""

import argparse
import json
import os
import statistics
import sys
from typing import Any

import jax
from jax import Array

NUMBERS = "patches made of numbers"
BY_XLA = "XLA's own convolution"
AS_IT_IS = "as it is"
BEFORE = "before"
VARIANTS = (AS_IT_IS, NUMBERS, BY_XLA)
THREADS = (1, 2)


def xla_convolution() -> Any:
    """In place of `Conv`, with the same parameters."""
    from flax import linen as nn

    from purejaxdqn.networks.layers import INITIALIZERS, Conv, as_floats

    class XlaConv(Conv):
        @nn.compact
        def __call__(self, x: Any) -> Array:
            x, size = as_floats(x), self.kernel_size
            kernel = self.param("kernel", INITIALIZERS[self.initializer](), (size, size, x.shape[-1], self.width))
            bias = self.param("bias", nn.initializers.zeros, (self.width,))
            strides, layout = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
            found: Array = jax.lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=layout)
            return found + bias.reshape(1, 1, 1, -1)

    return XlaConv


def replaced_by(variant: str) -> dict[str, Any]:
    """What a variant replaces in the library, for as long as its program is traced."""
    return {
        AS_IT_IS: lambda: {},
        NUMBERS: lambda: {"networks.torsos.NatureTorso.takes_bytes": False},
        BY_XLA: lambda: {"networks.torsos.Conv": xla_convolution()},
    }[variant]()


def measure(variant: str, threads: int, seconds: float, repetitions: int) -> dict[str, Any]:
    """Seconds of one update; of the library as it is also of its products alone, as this process multiplies them."""
    from purejaxdqn.machine.devices import use_platform

    use_platform("cpu", 1, on_host=threads > 1)
    from benchmarks.speed.bounds import Bounds, bound_timers, count_products
    from benchmarks.speed.learners import FRAMES, make_update
    from benchmarks.speed.timing import loop_timer, medians, take_turns
    from benchmarks.speed.tried import patched
    from purejaxdqn.recipes.recipes import RECIPES, make_settings

    body, carry = make_update(*make_settings(RECIPES["nature-dqn"]), FRAMES)
    products = count_products(body, jax.numpy.int32(0), carry)
    with patched(replaced_by(variant)):
        timers = {"update": loop_timer(body, carry, seconds)}
    if variant != AS_IT_IS:
        return take_turns(timers, repetitions)
    found = take_turns(timers | bound_timers(products, (), seconds), repetitions)
    return {"update": found["update"], "products": [Bounds(medians(found)).least_products(products)]}


def measure_before(threads: int, seconds: float, repetitions: int) -> dict[str, Any]:
    """Seconds of one update where there were no rooms yet (commit 230c988)."""
    from purejaxdqn.devices import use_platform

    use_platform("cpu", 1, threads > 1)
    from benchmarks.learners import FRAMES, make_update
    from benchmarks.timing import loop_timer, take_turns
    from purejaxdqn.recipes import RECIPES, make_settings

    timer = loop_timer(*make_update(*make_settings(RECIPES["nature-dqn"]), FRAMES), seconds)
    return take_turns({"update": timer}, repetitions)


def main() -> None:
    """Measures, writes results/pixels.json and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", nargs=2, metavar=("FOLDER", "COMMIT"), help="a checkout of another commit")
    parser.add_argument("--seconds", type=float, default=0.4, help="of one timing (default: 0.4)")
    parser.add_argument("--repetitions", type=int, default=3, help="timings in a process (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each (default: 5)")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "THREADS"), help="in this process, as JSON")
    args = parser.parse_args()
    if args.one:
        variant, threads = args.one[0], int(args.one[1])
        one = measure_before if variant == BEFORE else lambda *rest: measure(variant, *rest)
        print(json.dumps(one(threads, args.seconds, args.repetitions)))
        return
    from benchmarks.common import RESULTS, last_json, run, write_result

    here = str(RESULTS.parents[1])
    folders = dict.fromkeys(VARIANTS, here) | ({BEFORE: os.path.abspath(args.before[0])} if args.before else {})
    options = ["--seconds", str(args.seconds), "--repetitions", str(args.repetitions)]
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(args.rounds):
        for threads in THREADS:
            for name, folder in folders.items():
                command = [sys.executable, __file__, *options, "--one", name, str(threads)]
                said = last_json(run(command, {"PYTHONPATH": folder}).output)
                held = found.setdefault(
                    f"{name}, {threads} thread{'s' * (threads > 1)}", {"update": [], "products": []}
                )
                held["update"] += said["update"]
                held["products"] += said.get("products", [])
    for name, held in found.items():
        print(f"{name}: {statistics.median(held['update']) * 1e3:.1f} ms")
    what = "seconds of an update of Nature's CNN at batch 32, and of its products alone, by variant and XLA's threads"
    write_result("pixels", what, {"before": args.before[1] if args.before else None, "seconds": found})


if __name__ == "__main__":
    main()
