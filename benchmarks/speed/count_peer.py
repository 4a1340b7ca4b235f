"""Compiles a peer's whole training for an H100 that is not here, and prints what a trip of its loop does as JSON.

    ENVIRONMENT/bin/python -m benchmarks.count_peer --peer purejaxrl --path CLONE --lanes 1

`benchmarks.gpu_count` calls it, with the peer's packages before those of the environment. Peers stack what each trip
gives, so XLA knows how many there are.
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.speed.deviceless import ONE_GRAPH, Call, count_on_gpu, described, lower


def purejaxrl(path: pathlib.Path) -> Callable[[Any], Any]:
    """PureJaxRL's DQN, for 300,000 steps."""
    from benchmarks.peers import purejaxrl_dqn as runner

    runner.restore_removed_names()
    peer = runner.load_peer(runner.clone_file(path, "purejaxrl/dqn.py"))
    train: Callable[[Any], Any] = peer.make_train(runner.peer_config("CartPole-v1", 300_000))
    return train


def purejaxql(path: pathlib.Path) -> Callable[[Any], Any]:
    """purejaxql's PQN, for 500,000 steps."""
    from benchmarks.peers import purejaxql_pqn as runner

    peer, config = runner.load(path, 500_000)
    train: Callable[[Any], Any] = peer.make_train(config)
    return train


PEERS = {"purejaxrl": purejaxrl, "purejaxql": purejaxql}


def main() -> None:
    """Reads the command line, counts and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--path", type=pathlib.Path, metavar="CLONE", required=True, help="a clone of the peer")
    parser.add_argument("--lanes", type=int, default=1)
    args = parser.parse_args()
    device = described("h100")[0]
    keys = jax.ShapeDtypeStruct((args.lanes, 2), jnp.uint32)
    lowered = lower(Call(jax.vmap(PEERS[args.peer](args.path)), (keys,)), device)
    ways = {"plain": {}, "one graph": ONE_GRAPH}
    found = {way: count_on_gpu(lowered, True, flags, set()) for way, flags in ways.items()}
    print(json.dumps({"jax": jax.__version__, "programs": {"iterate": found}}))


if __name__ == "__main__":
    main()
