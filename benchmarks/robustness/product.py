"""Do all choices compose? Trains every combination of them for 2,000 steps, several seeds and hypers side by side.

python -m benchmarks.product            # all 240, about half an hour on two cores
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from benchmarks.common import write_result
from purejaxdqn.machine.devices import use_platform

WHAT = "every combination of head, backup, network and replay: 2,000 steps of Catch-bsuite, 3 lanes that differ in all"


class Combination(NamedTuple):
    """One choice at every seam."""

    head: str
    backup: str
    dueling: bool
    noisy: bool
    replay: str
    n_step: int


CHOICES = Combination(
    head=("scalar", "categorical", "quantile", "iqn", "fqf"),  # type: ignore[arg-type]
    backup=("max", "double", "munchausen"),  # type: ignore[arg-type]
    dueling=(False, True),  # type: ignore[arg-type]
    noisy=(False, True),  # type: ignore[arg-type]
    replay=("uniform", "prioritized"),  # type: ignore[arg-type]
    n_step=(1, 3),  # type: ignore[arg-type]
)
TINY: dict[str, dict[str, Any]] = {
    "scalar": {},
    "categorical": {"num_atoms": 7, "v_min": -2.0, "v_max": 2.0},
    "quantile": {"num_quantiles": 4},
    "iqn": {"num_quantiles": 4, "num_target_quantiles": 3, "num_policy_quantiles": 5, "num_cosines": 6},
    "fqf": {"num_quantiles": 4, "num_cosines": 6},
}
"""Sizes of each head, small and all different."""
PERIODS: dict[str, Any] = {"reset_period": 200, "n_step_final": 1, "anneal_updates": 100}
"""Of what happens every so many updates, where it does: within the 490 of a run."""


def combinations() -> Iterator[Combination]:
    """All of them."""
    choices: tuple[Any, ...] = CHOICES
    return (Combination(*chosen) for chosen in itertools.product(*choices))


def pairwise() -> list[Combination]:
    """A few combinations in which every two choices of different seams meet at least once, found greedily."""

    def pairs(combination: Combination) -> set[Any]:
        return set(itertools.combinations(zip(Combination._fields, combination, strict=True), 2))

    everything = list(combinations())
    missing = set().union(*map(pairs, everything))
    chosen: list[Combination] = []
    while missing:
        best = max(everything, key=lambda combination: len(pairs(combination) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def check(combination: Combination, **changes: Any) -> dict[str, Any]:
    """Trains one combination: three lanes that differ in seed, learning rate, discount and target update.

    Args:
      combination: the choices.
      **changes: fields of `Config` that differ from those of the benchmark.

    Returns:
      seconds to compile; compilations that new hypers caused; whether all parameters stayed finite; and whether the
      lanes ended with different parameters.
    """
    import jax
    import jax.numpy as jnp

    from purejaxdqn.config import Config
    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.types import Hypers, State, lane_axes

    sizes: dict[str, Any] = {
        "env": "Catch-bsuite",
        "num_envs": 4,
        "total_steps": 2_000,
        "buffer_size": 400,
        "batch_size": 8,
        "learning_starts": 40,
        "hidden": (10, 9),
    }
    config = Config(**{**sizes, **TINY[combination.head], **combination._asdict(), **changes})
    agent = make_agent(config)

    traces: list[Config] = []

    def train(key: jax.Array, hypers: Hypers) -> tuple[State, Any]:
        traces.append(config)
        return agent.iterate(agent.init(key, hypers), hypers, config.num_iterations)

    def lanes(shift: float) -> tuple[jax.Array, Hypers]:
        def one(rate: jax.Array, gamma: jax.Array, tau: jax.Array) -> Hypers:
            return Hypers(learning_rate=rate, gamma=gamma, tau=tau, **PERIODS).as_arrays()

        hypers = jax.vmap(one)(
            jnp.array([1e-3, 2e-3, 3e-3]) + shift, jnp.array([0.9, 0.95, 0.99]) - shift, jnp.array([1.0, 0.5, 0.9])
        )
        return jax.random.split(jax.random.key(0), 3), hypers

    axes = lane_axes(jax.eval_shape(agent.init, jax.random.key(0), Hypers()))
    # Unoptimised code: compiling takes a third of the time, and running hardly shows at these sizes.
    run = jax.jit(jax.vmap(train, out_axes=(axes, 0)), compiler_options={"xla_backend_optimization_level": 0})
    begin = time.perf_counter()
    state, metrics = jax.block_until_ready(run(*lanes(0.0)))
    seconds = time.perf_counter() - begin
    first = len(traces)
    other, _ = run(*lanes(1e-4))
    leaves = jax.tree.leaves(state.learner.params)
    return {
        **combination._asdict(),
        "seconds": round(seconds, 1),
        "compilations_for_new_hypers": len(traces) - first,
        "finite": all(bool(jnp.isfinite(leaf).all()) for leaf in [*leaves, metrics.loss_sum]),
        "lanes_differ": any(bool((leaf[0] != leaf[1]).any()) for leaf in leaves),
        "hypers_matter": any(
            bool((a != b).any()) for a, b in zip(leaves, jax.tree.leaves(other.learner.params), strict=True)
        ),
        "updates": int(metrics.updates[0]),
    }


def good(result: dict[str, Any]) -> bool:
    """Whether a combination did what all must."""
    right = result["finite"] and result["lanes_differ"] and result["hypers_matter"]
    return bool(right and result["compilations_for_new_hypers"] == 0 and result["updates"] == 490)


def main() -> None:
    """Checks all combinations, writes results/product.json and prints the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="combinations compiled side by side (default: 2)")
    args = parser.parse_args()
    use_platform("cpu", 1)
    with ThreadPoolExecutor(args.workers) as pool:
        results = list(pool.map(check, combinations()))
    bad = [result for result in results if not good(result)]
    write_result("product", WHAT, {"combinations": len(results), "good": len(results) - len(bad), "results": results})
    print(f"{len(results) - len(bad)} of {len(results)} combinations train, stay finite and never recompile")
    for result in bad:
        print(result)


if __name__ == "__main__":
    main()
