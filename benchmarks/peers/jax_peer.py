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


def greedy_returns(q_values: Callable[[Any, Any], Any], params: Any, seed: int, episodes: int = 20) -> list[float]:
    """Mean return of each seed's greedy CartPole episodes, in the peer's own gymnax.

    Args:
      q_values: (params, obs [4]) -> [A].
      params: of every seed, each leaf with a leading axis of seeds.
      seed: of the episodes.
      episodes: of each seed.
    """

    def act(params: Any, obs: Any, carried: Any) -> tuple[Any, Any]:
        return jnp.argmax(q_values(params, obs)), carried

    return played_returns(act, params, (), seed, episodes)


def played_returns(act: Callable[[Any, Any, Any], Any], params: Any, carried: Any, seed: int, episodes: int) -> Any:
    """The same of a policy that may remember: `act` is (params, obs [4], carried) -> action [], carried, and `carried`
    is what it begins an episode with."""
    import gymnax

    env, settings = gymnax.make("CartPole-v1")

    def play(params: Any, key: Any) -> Any:
        reset_key, key = jax.random.split(key)
        obs, state = env.reset(reset_key, settings)

        def step(carry: Any, key: Any) -> Any:
            obs, state, total, alive, carried = carry
            action, carried = act(params, obs, carried)
            # What follows differs between gymnax's versions.
            obs, state, reward, done, *_ = env.step(key, state, action, settings)
            return (obs, state, total + alive * reward, alive & jnp.logical_not(done), carried), None

        start = (obs, state, jnp.float32(0), jnp.array(True), carried)
        return jax.lax.scan(step, start, jax.random.split(key, 500))[0][2]

    keys = jax.random.split(jax.random.PRNGKey(seed), episodes)
    returns = jax.jit(jax.vmap(lambda params: jax.vmap(lambda key: play(params, key))(keys)))(params)
    return [round(float(mean), 2) for mean in returns.mean(axis=1)]


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
