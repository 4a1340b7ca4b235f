"""Times purejaxql's `pqn_gymnax.py` from a clone of its repository and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.purejaxql_pqn --path CLONE --seeds 16
    PEER/bin/python -m benchmarks.peers.purejaxql_pqn --path CLONE --memory

The settings are those of the clone's `config/alg/pqn_cartpole.yaml`, with its tests during training switched off: they
would take as long as much of the training. With `--memory` it is `pqn_rnn_gymnax.py` at `pqn_rnn_cartpole.yaml`.
Compilation is timed apart from the run.
"""

import pathlib
from statistics import fmean
from typing import Any

import jax
import jax.numpy as jnp
from omegaconf import OmegaConf

from benchmarks.peers.jax_peer import compile_and_run, greedy_returns, load_peer, mean_of_newest, played_returns
from benchmarks.peers.outcome import clone_file, parser, say


def load(clone: pathlib.Path, total_steps: int, memory: bool = False) -> tuple[Any, dict[str, Any]]:
    """The peer's module, and its configuration with the number of steps (per seed) set."""
    kind = "pqn_rnn" if memory else "pqn"
    path = clone_file(clone, f"purejaxql/config/alg/{kind}_cartpole.yaml")
    settings: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    length = {"TOTAL_TIMESTEPS": total_steps, "TOTAL_TIMESTEPS_DECAY": total_steps}
    config = {**settings, **length, "TEST_DURING_TRAINING": False, "WANDB_MODE": "disabled"}
    return load_peer(clone_file(clone, f"purejaxql/{kind}_gymnax.py")), config


def play_memoryless(peer: Any, config: dict[str, Any], variables: Any, seed: int) -> list[float]:
    """Mean greedy return of every seed."""
    network = peer.QNetwork(2, config["HIDDEN_SIZE"], config["NUM_LAYERS"], config["NORM_TYPE"], config["NORM_INPUT"])
    return greedy_returns(lambda v, obs: network.apply(v, obs, train=False), variables, seed)


def play_with_memory(peer: Any, config: dict[str, Any], variables: Any, seed: int) -> list[float]:
    """The same of the network that is told its last action and carries something."""
    network = peer.RNNQNetwork(
        2, config["HIDDEN_SIZE"], config["NUM_LAYERS"], config["NORM_INPUT"], config["NORM_TYPE"]
    )

    def act(variables: Any, obs: Any, carried: Any) -> Any:
        hidden, last_action = carried
        begins = jnp.zeros((1, 1), bool)
        hidden, q = network.apply(variables, hidden, obs[None, None], begins, last_action[None, None], train=False)
        action = jnp.argmax(q[0, 0])
        return action, (hidden, action)

    return list(played_returns(act, variables, (network.initialize_carry(1), jnp.int32(0)), seed, 20))


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 500_000)
    flags.add_argument("--path", type=pathlib.Path, metavar="CLONE", help="a clone of purejaxql")
    flags.add_argument("--memory", action="store_true", help="the script with a GRU")
    args = flags.parse_args()
    peer, config = load(args.path, args.total_steps, args.memory)
    ran = compile_and_run(peer.make_train(config), args.seed, args.seeds)
    metrics, state = ran.out["metrics"], ran.out["runner_state"][0]
    play = play_with_memory if args.memory else play_memoryless
    greedy = play(peer, config, {"params": state.params, "batch_stats": state.batch_stats}, args.seed)
    say(
        "purejaxql",
        seeds=args.seeds,
        steps=int(metrics["env_step"][:, -1].sum()),
        seconds=ran.seconds,
        updates=int(metrics["grad_steps"][:, -1].sum()),
        compile_seconds=ran.compile_seconds,
        returns_last_tenth=mean_of_newest(metrics["returned_episode_returns"]),
        greedy_return=fmean(greedy),
        device=jax.devices()[0].device_kind,
        packages=("jax", "jaxlib", "flax", "optax", "gymnax"),
    )


if __name__ == "__main__":
    main()
