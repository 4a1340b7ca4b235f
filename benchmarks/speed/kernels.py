"""Where an iteration's time goes: XLA's kernels on a CPU, from a trace.

python -m benchmarks.kernels [--contest purejaxrl]

One lane on one thread at a peer's settings. The 10th percentile of a kernel's times stands for it, since tracing
makes some of them wait. Tracing itself takes time of every kernel, so that their sum exceeds what an untraced iteration
takes.
"""

import argparse
import collections
import gzip
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.common import write_result
from benchmarks.peers.contests import CONTESTS
from benchmarks.peers.ours_dqn import settings_of
from purejaxdqn.loops.device import make_agent
from purejaxdqn.machine.devices import use_platform

LARGE = 4.0
"""Microseconds of a call from which a product is counted among the large ones."""
PRODUCT = re.compile(r"= \S+ dot\(")
# Loops and calls contain other kernels; what is named otherwise is no kernel.
KERNEL = re.compile(r"(?!while|call)[a-z_\-]+(\.\d+)?")


def product_names(program: str) -> set[str]:
    """Kernels of an optimised program that multiply matrices: its `dot`s, and the fusions with one in them."""
    computation = ""
    names: set[str] = set()
    with_dot: set[str] = set()
    for line in program.splitlines():
        words = line.split()
        if line.endswith("{") and words:
            computation = words[0].lstrip("%")
        if PRODUCT.search(line):
            with_dot.add(computation)
            names.add(words[0].lstrip("%") if words[0] != "ROOT" else words[1].lstrip("%"))
    for line in program.splitlines():
        called = re.search(r"%(\S+) = .*calls=%([^,\s]+)", line)
        if called and called[2] in with_dot:
            names.add(called[1])
    return names


def kernels_of(folder: Path, trips: int) -> dict[str, dict[str, float]]:
    """Calls and microseconds of every kernel in a trip."""
    (path,) = folder.rglob("perfetto_trace.json.gz")
    trace = json.loads(gzip.decompress(path.read_bytes()))
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    times: dict[str, list[float]] = collections.defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and KERNEL.fullmatch(event["name"]):
            times[event["name"]].append(event["dur"])
    return {
        name: {"calls": len(found) / trips, "microseconds": float(np.percentile(found, 10)) * len(found) / trips}
        for name, found in times.items()
        if len(found) >= trips
    }


def main() -> None:
    """Measures, writes results/kernels.json and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contest", choices=list(CONTESTS), default="purejaxrl", help="whose settings")
    parser.add_argument("--trips", type=int, default=300, help="iterations in the trace (default: 300)")
    args = parser.parse_args()
    use_platform("cpu", 1)
    config, hypers = settings_of(CONTESTS[args.contest], 300_000)
    agent = make_agent(config)
    iterate = jax.jit(agent.iterate, donate_argnums=0)
    state = jax.jit(agent.init)(jax.random.key(0), hypers)
    program = iterate.lower(state, hypers, 10).compile().as_text() or ""
    untraced = []
    for _ in range(12):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(iterate(state, hypers, 1_000))
        untraced.append((time.perf_counter() - begin) * 1e3)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            jax.block_until_ready(iterate(state, hypers, args.trips))
        found = kernels_of(Path(folder), args.trips)
    products = product_names(program)
    rows = summary(found, products)
    for name, row in rows.items():
        print(f"{name}: {row['calls']:.0f} calls, {row['microseconds']:.1f} µs")
    median = float(np.median(untraced[2:]))
    print(f"an iteration, untraced: {median:.1f} µs")
    what = "microseconds of an iteration by kernel, from a trace, and untraced"
    write_result(
        "kernels",
        what,
        {
            "contest": args.contest,
            "untraced_microseconds": median,
            "rows": rows,
            "kernels": {name: {**row, "product": name in products} for name, row in sorted(found.items())},
        },
    )


def summary(found: dict[str, dict[str, float]], products: set[str]) -> dict[str, dict[str, Any]]:
    """Calls and microseconds of large products, small products, and the rest."""
    groups: dict[str, list[dict[str, float]]] = {
        f"products of {LARGE:g} µs and more": [],
        "smaller products": [],
        "everything else": [],
    }
    large, small, rest = groups.values()
    for name, row in found.items():
        among_products = large if row["microseconds"] / row["calls"] >= LARGE else small
        (among_products if name in products else rest).append(row)
    return {
        name: {key: round(sum(row[key] for row in rows), 2) for key in ("calls", "microseconds")}
        for name, rows in groups.items()
    }


if __name__ == "__main__":
    main()
