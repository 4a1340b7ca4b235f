"""Compiles a peer's whole training for an H100 that is not here, and prints what a trip of its loop does as JSON.

    ENVIRONMENT/bin/python -m benchmarks.count_peer --peer purejaxrl --path CLONE --lanes 1

`benchmarks.gpu_count` calls it, with the peer's packages before those of the environment. PureJaxRL and purejaxql stack
what each trip gives, so XLA knows how many there are.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.speed.deviceless import ONE_GRAPH, Call, count_on_gpu, described, lower


def whole_training(train: Callable[[Any], Any], lanes: int) -> Call:
    """A peer's training, which is a function of a key, over lanes."""
    return Call(jax.vmap(train), (jax.ShapeDtypeStruct((lanes, 2), jnp.uint32),))


def purejaxrl(path: pathlib.Path, lanes: int) -> Call:
    """PureJaxRL's DQN, for 300,000 steps."""
    from benchmarks.peers import purejaxrl_dqn as runner

    runner.restore_removed_names()
    peer = runner.load_peer(runner.clone_file(path, "purejaxrl/dqn.py"))
    return whole_training(peer.make_train(runner.peer_config("CartPole-v1", 300_000)), lanes)


def purejaxql(path: pathlib.Path, lanes: int) -> Call:
    """purejaxql's PQN, for 500,000 steps."""
    from benchmarks.peers import purejaxql_pqn as runner

    peer, config = runner.load(path, 500_000)
    return whole_training(peer.make_train(config), lanes)


def earlier(path: pathlib.Path, lanes: int) -> Call:
    """Iterations of an earlier state of this library at PureJaxRL's settings, by a clone of that state."""
    sys.path.insert(0, str(path))
    from benchmarks.peers.contests import CONTESTS
    from purejaxdqn.config import Config
    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.loops.lanes import lane_shapes, run_block
    from purejaxdqn.types import Hypers

    contest = CONTESTS["purejaxrl"]
    agent = make_agent(Config(total_steps=contest.total_steps, **contest.config))
    h = jax.eval_shape(lambda: Hypers(**contest.hypers).as_arrays())
    state = jax.eval_shape(agent.init, jax.random.key(0), h)

    def iterate(state: Any, h: Any, n: Any) -> Any:
        return run_block(lambda lane, own: agent.iterate(lane, own, n), lanes, state, h)

    n = jax.ShapeDtypeStruct((), jnp.int32)
    return Call(iterate, (lane_shapes(state, lanes), lane_shapes(h, lanes), n), (0,))


PEERS = {"purejaxrl": purejaxrl, "purejaxql": purejaxql, "earlier": earlier}
"""What is counted beside this library, each by a clone of it."""


def main() -> None:
    """Reads the command line, counts and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--path", type=pathlib.Path, metavar="CLONE", required=True, help="a clone of the peer")
    parser.add_argument("--lanes", type=int, default=1)
    args = parser.parse_args()
    device = described("h100")[0]
    lowered = lower(PEERS[args.peer](args.path, args.lanes), device)
    ways = {"plain": {}, "one graph": ONE_GRAPH}
    found = {way: count_on_gpu(lowered, True, flags, set()) for way, flags in ways.items()}
    print(json.dumps({"jax": jax.__version__, "programs": {"iterate": found}}))


if __name__ == "__main__":
    main()
