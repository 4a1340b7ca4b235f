"""Times PureJaxRL's DQN from a clone of its repository and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.purejaxrl_dqn --path CLONE --seeds 16

The peer's code is imported from the clone and not part of this repository. It was written for an older JAX:
`jax.tree_map` and its relatives, removed since, are put back first. Nothing else about it is changed. Compilation is
timed apart from the run.
"""

import pathlib
from collections.abc import Callable
from statistics import fmean
from typing import Any
from unittest import mock

import jax

from benchmarks.peers.jax_peer import compile_and_run, greedy_returns, load_peer, mean_of_newest
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


def with_own_keys(train: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Its training function, going on with the key that it is given: as it is, it goes on with that of seed 0."""

    def own(key: Any) -> Any:
        with mock.patch.object(jax.random, "PRNGKey", lambda seed: key):
            return train(key)

    return own


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 300_000)
    flags.add_argument("--path", type=pathlib.Path, metavar="CLONE", help="a clone of PureJaxRL")
    flags.add_argument("--own-keys", action="store_true", help="each seed goes on with its own key, not with seed 0's")
    args = flags.parse_args()
    restore_removed_names()
    peer = load_peer(clone_file(args.path, "purejaxrl/dqn.py"))
    train = peer.make_train(peer_config("CartPole-v1", args.total_steps))
    ran = compile_and_run(with_own_keys(train) if args.own_keys else train, args.seed, args.seeds)
    metrics, network = ran.out["metrics"], peer.QNetwork(action_dim=2)
    params = ran.out["runner_state"][0].params
    greedy = greedy_returns(network.apply, params, args.seed)
    say(
        "purejaxrl",
        seeds=args.seeds,
        steps=int(metrics["timesteps"][:, -1].sum()),
        seconds=ran.seconds,
        updates=int(metrics["updates"][:, -1].sum()),
        compile_seconds=ran.compile_seconds,
        returns_last_tenth=mean_of_newest(metrics["returns"]),
        greedy_return=fmean(greedy),
        greedy_returns=greedy,
        device=jax.devices()[0].device_kind,
        packages=("jax", "jaxlib", "flax", "gymnax", "flashbax"),
    )


if __name__ == "__main__":
    main()
