"""Times purejaxql's `pqn_gymnax.py` from a clone of its repository and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.purejaxql_pqn --path CLONE --seeds 16

The settings are those of the clone's `config/alg/pqn_cartpole.yaml`, with its tests during training switched off: they
would take as long as much of the training. Compilation is timed apart from the run.
"""

import pathlib
import time

import jax
import jax.numpy as jnp
from omegaconf import OmegaConf

from benchmarks.peers.outcome import clone_file, parser, say
from benchmarks.peers.purejaxrl_dqn import load_peer


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 500_000)
    flags.add_argument("--path", type=pathlib.Path, metavar="CLONE", help="a clone of purejaxql")
    args = flags.parse_args()
    settings = OmegaConf.to_container(
        OmegaConf.load(clone_file(args.path, "purejaxql/config/alg/pqn_cartpole.yaml")), resolve=True
    )
    length = {"TOTAL_TIMESTEPS": args.total_steps, "TOTAL_TIMESTEPS_DECAY": args.total_steps}
    config = {**settings, **length, "TEST_DURING_TRAINING": False, "WANDB_MODE": "disabled"}
    peer = load_peer(clone_file(args.path, "purejaxql/pqn_gymnax.py"))
    keys = jax.random.split(jax.random.PRNGKey(args.seed), args.seeds)

    begin = time.perf_counter()
    train = jax.jit(jax.vmap(peer.make_train(config))).lower(keys).compile()
    compiled = time.perf_counter()
    out = jax.block_until_ready(train(keys))
    done = time.perf_counter()

    metrics = out["metrics"]
    returns = metrics["returned_episode_returns"]  # (seeds, phases): the last finished episode of each environment
    say(
        "purejaxql",
        seeds=args.seeds,
        steps=int(metrics["env_step"][:, -1].sum()),
        seconds=done - compiled,
        updates=int(metrics["grad_steps"][:, -1].sum()),
        compile_seconds=compiled - begin,
        returns_last_tenth=round(float(jnp.mean(returns[:, -max(1, returns.shape[1] // 10) :])), 2),
        greedy_return=None,
        device=jax.devices()[0].device_kind,
        packages=("jax", "jaxlib", "flax", "optax", "gymnax"),
    )


if __name__ == "__main__":
    main()
