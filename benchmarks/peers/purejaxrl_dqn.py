"""Times PureJaxRL's DQN from a clone of its repository and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.purejaxrl_dqn --path CLONE --seeds 16

The peer's code is imported from the clone and not part of this repository. It was written for an older JAX:
`jax.tree_map` and its relatives, removed since, are put back first. Nothing else about it is changed. Compilation is
timed apart from the run.
"""

import importlib.util
import pathlib
import sys
import time
import types
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.peers.outcome import clone_file, parser, say


def restore_removed_names() -> None:
    """Puts back the names that the peer uses and newer JAX has dropped."""
    for old, new in {
        "tree_map": jax.tree.map,
        "tree_leaves": jax.tree.leaves,
        "tree_flatten": jax.tree.flatten,
        "tree_unflatten": jax.tree.unflatten,
        "tree_structure": jax.tree.structure,
    }.items():
        for module in (jax, jax.tree_util):
            try:
                getattr(module, old)
            except AttributeError:
                setattr(module, old, new)


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


def peer_config(env: str, total_steps: int) -> dict[str, Any]:
    """The peer's own configuration with the number of steps (per seed) and the environment set."""
    return {
        "NUM_ENVS": 10,
        "BUFFER_SIZE": 10_000,
        "BUFFER_BATCH_SIZE": 128,
        "TOTAL_TIMESTEPS": total_steps,
        "EPSILON_START": 1.0,
        "EPSILON_FINISH": 0.05,
        "EPSILON_ANNEAL_TIME": 250_000,
        "TARGET_UPDATE_INTERVAL": 500,
        "LR": 2.5e-4,
        "LEARNING_STARTS": 10_000,
        "TRAINING_INTERVAL": 10,
        "LR_LINEAR_DECAY": False,
        "GAMMA": 0.99,
        "TAU": 1.0,
        "ENV_NAME": env,
        "WANDB_MODE": "disabled",
    }


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 300_000)
    flags.add_argument("--path", type=pathlib.Path, metavar="CLONE", help="a clone of PureJaxRL")
    args = flags.parse_args()
    restore_removed_names()
    peer = load_peer(clone_file(args.path, "purejaxrl/dqn.py"))
    keys = jax.random.split(jax.random.PRNGKey(args.seed), args.seeds)

    begin = time.perf_counter()
    # One seed too goes through `vmap`, as in the peer's own main.
    train = jax.jit(jax.vmap(peer.make_train(peer_config("CartPole-v1", args.total_steps)))).lower(keys).compile()
    compiled = time.perf_counter()
    out = jax.block_until_ready(train(keys))
    done = time.perf_counter()

    metrics = out["metrics"]
    returns = metrics["returns"]  # (seeds, iterations): the last finished episode of each environment
    say(
        "purejaxrl",
        seeds=args.seeds,
        steps=int(metrics["timesteps"][:, -1].sum()),
        seconds=done - compiled,
        updates=int(metrics["updates"][:, -1].sum()),
        compile_seconds=compiled - begin,
        returns_last_tenth=round(float(jnp.mean(returns[:, -max(1, returns.shape[1] // 10) :])), 2),
        greedy_return=None,
        device=jax.devices()[0].device_kind,
        packages=("jax", "jaxlib", "flax", "gymnax", "flashbax"),
    )


if __name__ == "__main__":
    main()
