"""Times purejaxql's `pqn_gymnax.py` from a clone of its repository and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.purejaxql_pqn --path CLONE --seeds 16

The settings are those of the clone's `config/alg/pqn_cartpole.yaml`, with its tests during training switched off: they
would take as long as much of the training. Compilation is timed apart from the run.
"""

import pathlib
from statistics import fmean
from typing import Any

import jax
from omegaconf import OmegaConf

from benchmarks.peers.jax_peer import compile_and_run, greedy_returns, load_peer, mean_of_newest
from benchmarks.peers.outcome import clone_file, parser, say


def load(clone: pathlib.Path, total_steps: int) -> tuple[Any, dict[str, Any]]:
    """The peer's module, and its configuration with the number of steps (per seed) set."""
    path = clone_file(clone, "purejaxql/config/alg/pqn_cartpole.yaml")
    settings: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    length = {"TOTAL_TIMESTEPS": total_steps, "TOTAL_TIMESTEPS_DECAY": total_steps}
    config = {**settings, **length, "TEST_DURING_TRAINING": False, "WANDB_MODE": "disabled"}
    return load_peer(clone_file(clone, "purejaxql/pqn_gymnax.py")), config


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 500_000)
    flags.add_argument("--path", type=pathlib.Path, metavar="CLONE", help="a clone of purejaxql")
    args = flags.parse_args()
    peer, config = load(args.path, args.total_steps)
    ran = compile_and_run(peer.make_train(config), args.seed, args.seeds)
    metrics, state = ran.out["metrics"], ran.out["runner_state"][0]
    network = peer.QNetwork(2, config["HIDDEN_SIZE"], config["NUM_LAYERS"], config["NORM_TYPE"], config["NORM_INPUT"])
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    say(
        "purejaxql",
        seeds=args.seeds,
        steps=int(metrics["env_step"][:, -1].sum()),
        seconds=ran.seconds,
        updates=int(metrics["grad_steps"][:, -1].sum()),
        compile_seconds=ran.compile_seconds,
        returns_last_tenth=mean_of_newest(metrics["returned_episode_returns"]),
        greedy_return=fmean(greedy_returns(lambda v, obs: network.apply(v, obs, train=False), variables, args.seed)),
        device=jax.devices()[0].device_kind,
        packages=("jax", "jaxlib", "flax", "optax", "gymnax"),
    )


if __name__ == "__main__":
    main()
