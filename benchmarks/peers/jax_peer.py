"""What the runners of peers that are one jitted function share. Peers' environments run it, so it needs JAX alone."""

import importlib.util
import pathlib
import sys
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Ran(NamedTuple):
    """What a compiled training function gave, and its seconds."""

    out: Any
    compile_seconds: float
    seconds: float


def compile_and_run(train: Callable[[Any], Any], seed: int, seeds: int, one_alone: bool = False) -> Ran:
    """Vmaps a function of a key over seeds, compiles it and runs it once; every output has an axis of seeds.

    Args:
      train: the peer's.
      seed: that the seeds' keys are split from.
      seeds: at once.
      one_alone: whether a single seed is not vmapped. Some peers' own mains vmap it, too.
    """
    keys = jax.random.split(jax.random.PRNGKey(seed), seeds)
    alone = one_alone and seeds == 1
    mapped = (
        (lambda keys: jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], train(keys[0]))) if alone else jax.vmap(train)
    )
    begin = time.perf_counter()
    compiled = jax.jit(mapped).lower(keys).compile()
    start = time.perf_counter()
    out = jax.block_until_ready(compiled(keys))
    return Ran(out, start - begin, time.perf_counter() - start)


def mean_of_newest(returns: Any) -> float:
    """Mean over seeds and the last tenth of a run of the newest finished episodes' returns [seeds, iterations, ...]."""
    return round(float(returns[:, -max(1, returns.shape[1] // 10) :].mean()), 2)


def load_peer(path: pathlib.Path) -> types.ModuleType:
    """Imports one file of a clone, with an empty `wandb` if there is none (it only reports)."""
    if importlib.util.find_spec("wandb") is None:
        sys.modules["wandb"] = types.ModuleType("wandb")
    spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # chex's dataclasses look their module up
    spec.loader.exec_module(module)
    return module
