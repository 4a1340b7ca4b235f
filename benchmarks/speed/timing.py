"""Timings that take turns: every contender once, then every one again, so that a noisy machine is noisy for all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

MOST_TRIPS = 2**28
"""Of a loop that does something, in the shortest timing."""
Body = Callable[[Array, Any], Any]
"""(trip, carry) -> carry: what one trip of a compiled loop does."""


def take_turns(contenders: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """What each contender measured, by repetition.

    Args:
      contenders: each measures once and returns it.
      repetitions: turns of each.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, measure in contenders.items():
            found[name].append(measure())
    return found


def medians(found: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in found.items()}


def compile_loop(body: Body) -> Callable[[Any, int], Any]:
    """(carry, n) -> the carry after n trips, in place.

    n is an argument, so that no compiler can unroll the loop.
    """
    return jax.jit(lambda carry, n: jax.lax.fori_loop(0, n, body, carry), donate_argnums=0)


def loop_timer(body: Body, carry: Any, seconds: float) -> Callable[[], float]:
    """A contender: seconds of one trip of a compiled loop, in a timing of about `seconds`.

    Args:
      body: one trip. It has to depend on the trip or on its carry, or a compiler takes it out of the loop.
      carry: arrays to begin with; they are donated.
      seconds: of one timing.
    """
    loop, held = compile_loop(body), [jax.tree.map(jnp.asarray, carry)]

    def run(trips: int) -> float:
        jax.block_until_ready(held[0])
        begin = time.perf_counter()
        held[0] = jax.block_until_ready(loop(held[0], trips))
        return time.perf_counter() - begin

    return calibrated(run, seconds)


def calibrated(run: Callable[[int], float], seconds: float) -> Callable[[], float]:
    """A contender: seconds of one trip, of as many as take about `seconds`.

    Args:
      run: (trips) -> seconds of them all.
      seconds: of one timing.

    Raises:
      RuntimeError: where a trip takes no time.
    """
    # The first call compiles; then twice as many trips until a timing is long enough to tell those of a whole one. The
    # quickest of three, for one that had to wait would make timings of a few trips, which are all overhead.
    run(1)
    trips = 1
    while (spent := min(run(trips) for _ in range(3))) < min(0.02, seconds):
        trips *= 2
        if trips > MOST_TRIPS:
            raise RuntimeError(f"{trips:,} trips take {spent:.4f} s: the compiler has left nothing of this loop")
    trips = max(1, round(trips * seconds / spent))
    return lambda: run(trips) / trips
