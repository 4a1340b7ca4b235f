"""Times PureJaxRL's DQN from a clone of its repository and prints one JSON line.

The peer's code is imported from the clone and not part of this repository. Run this with an interpreter that has what
the peer imports, which need not be the one that runs purejaxdqn:

    python -m venv peer && peer/bin/pip install jax==0.10.2 gymnax==0.0.9 flashbax chex flax optax six
    peer/bin/python benchmarks/peers/purejaxrl_dqn.py --path CLONE --seeds 16

The peer was written for an older JAX: `jax.tree_map` and its relatives, removed since, are put back first. Nothing else
about it is changed. Compilation is timed apart from the run.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import pathlib
import sys
import time
import types
from typing import Any

import jax
import jax.numpy as jnp


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


def load_peer(clone: pathlib.Path) -> types.ModuleType:
    """Imports `purejaxrl/dqn.py` of the clone, with an empty `wandb` if there is none (it only reports)."""
    path = clone / "purejaxrl" / "dqn.py"
    if not path.is_file():
        raise SystemExit(f"no PureJaxRL clone at {clone}: there is no purejaxrl/dqn.py in it")
    if importlib.util.find_spec("wandb") is None:
        sys.modules["wandb"] = types.ModuleType("wandb")
    spec = importlib.util.spec_from_file_location("purejaxrl_dqn_peer", path)
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


def measure(clone: pathlib.Path, seeds: int, total_steps: int, env: str, first_seed: int) -> dict[str, Any]:
    """Compiles and runs the peer once; one seed too goes through `vmap`, as in the peer's own main."""
    peer = load_peer(clone)
    keys = jax.random.split(jax.random.PRNGKey(first_seed), seeds)

    begin = time.perf_counter()
    train = jax.jit(jax.vmap(peer.make_train(peer_config(env, total_steps)))).lower(keys).compile()
    compiled = time.perf_counter()
    out = jax.block_until_ready(train(keys))
    done = time.perf_counter()

    returns = out["metrics"]["returns"]  # (seeds, iterations): the last finished episode of each environment
    tenth = max(1, returns.shape[1] // 10)
    all_steps = int(out["metrics"]["timesteps"][:, -1].sum())
    return {
        "peer": "purejaxrl",
        "env": env,
        "seeds": seeds,
        "total_steps": all_steps,
        "compile_seconds": round(compiled - begin, 3),
        "run_seconds": round(done - compiled, 3),
        "steps_per_second": round(all_steps / (done - compiled), 1),
        "returns_last_tenth": round(float(jnp.mean(returns[:, -tenth:])), 2),
        "updates": int(out["metrics"]["updates"][:, -1].sum()),
        "device": jax.devices()[0].device_kind,
        "versions": {
            "python": sys.version.split()[0],
            **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "gymnax", "flashbax")},
        },
    }


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=pathlib.Path, required=True, metavar="CLONE", help="a clone of PureJaxRL")
    parser.add_argument("--seeds", type=int, default=1, help="seeds trained at once (default: 1)")
    parser.add_argument("--total-steps", type=int, default=300_000, help="environment steps per seed (default: 300000)")
    parser.add_argument("--env", default="CartPole-v1", help="default: CartPole-v1")
    parser.add_argument("--seed", type=int, default=0, help="the key that the seeds are split from (default: 0)")
    args = parser.parse_args()
    restore_removed_names()
    print(json.dumps(measure(args.path, args.seeds, args.total_steps, args.env, args.seed)))


if __name__ == "__main__":
    main()
