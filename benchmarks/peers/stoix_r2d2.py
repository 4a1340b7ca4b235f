"""Times Stoix's `rec_r2d2.py` from a clone of its repository and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.stoix_r2d2 --path CLONE

The settings are those of the clone's `configs/default/anakin/default_rec_r2d2.yaml`; a call of its `learn` is one
rollout and its updates. The first call compiles: like the warm-up before it, it is not timed. Its replay of 100,000 has
no room for its own warm-up of 128 steps of 1,024 environments, so it is made larger. Its logger, which only reports and
imports much, is left out.
"""

import contextlib
import io
import pathlib
import sys
import time
import types
from typing import Any

import hydra
import jax
import jax.numpy as jnp
from omegaconf import OmegaConf

from benchmarks.peers.jax_peer import load_peer
from benchmarks.peers.outcome import clone_file, parser, say

SYSTEM = "stoix/systems/q_learning/rec_r2d2.py"
LEAST_CALLS = 2
"""Of `learn`: one that compiles, and one that is timed."""
REPLAY = 163_840
"""Steps: 160 of each environment."""


def load(clone: pathlib.Path, total_steps: int, seed: int) -> tuple[Any, Any]:
    """The peer's module, and its configuration with the number of steps and the seed set."""
    system, folder = clone_file(clone, SYSTEM), clone.absolute() / "stoix" / "configs" / "default" / "anakin"
    sys.path.insert(0, str(clone.absolute()))
    sys.modules["stoix.utils.logger"] = types.ModuleType("stoix.utils.logger")
    sys.modules["stoix.utils.logger"].__dict__.update(LogEvent=None, StoixLogger=None)
    changes = [f"arch.seed={seed}", "arch.total_timesteps=null", f"system.total_buffer_size={REPLAY}"]
    # Its configuration names folders as seen from the clone.
    with contextlib.chdir(clone), hydra.initialize_config_dir(str(folder), version_base="1.2"):
        config: Any = hydra.compose("default_rec_r2d2", overrides=changes)
    OmegaConf.set_struct(config, False)
    config.num_devices = len(jax.devices())
    envs = config.arch.total_num_envs
    after = total_steps - config.system.warmup_steps * envs
    calls = max(LEAST_CALLS, after // (config.system.rollout_length * envs))
    config.arch.num_updates = config.arch.num_evaluation = calls
    peer = load_peer(system)
    return peer, peer.check_total_timesteps(config)


def newest_returns(peer: Any, out: Any) -> float | None:
    """Mean return of the episodes that ended in a call of `learn`; None where none did."""
    metrics, ended = peer.get_final_step_metrics(out.episode_metrics)
    return round(float(jnp.mean(metrics["episode_return"])), 2) if ended else None


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 253_952)
    flags.add_argument("--path", type=pathlib.Path, metavar="CLONE", help="a clone of Stoix")
    args = flags.parse_args()
    # It says in colours what it does.
    with contextlib.redirect_stdout(io.StringIO()):
        peer, config = load(args.path, args.total_steps, args.seed)
        env, eval_env = peer.environments.make(config=config)
        key, eval_key, network_key = jax.random.split(jax.random.PRNGKey(args.seed), 3)
        learn, network, state, memory = peer.learner_setup(env, (key, network_key), config)
        act = peer.get_rec_distribution_act_fn(config, network.apply)
        evaluator, _, (_, eval_keys) = peer.evaluator_setup(
            eval_env, eval_key, act, state.params.online, config, use_recurrent_net=True, scanned_rnn=memory
        )
    calls, begin = config.arch.num_updates, time.perf_counter()
    out = jax.block_until_ready(learn(state))
    start = time.perf_counter()
    for _ in range(calls - 1):
        out = learn(out.learner_state)
    jax.block_until_ready(out)
    seconds = time.perf_counter() - start
    params = peer.unreplicate_batch_dim(out.learner_state.params.online)
    played = evaluator(params, eval_keys).episode_metrics["episode_return"]
    steps = config.system.rollout_length * config.arch.total_num_envs
    say(
        "stoix",
        seeds=1,
        steps=config.system.warmup_steps * config.arch.total_num_envs + calls * steps,
        seconds=seconds,
        timed_steps=(calls - 1) * steps,
        updates=calls * config.system.epochs,
        compile_seconds=start - begin,
        returns_last_tenth=newest_returns(peer, out),
        greedy_return=float(jnp.mean(played)),
        device=jax.devices()[0].device_kind,
        packages=("jax", "jaxlib", "flax", "optax", "flashbax", "gymnax", "stoa-env"),
    )


if __name__ == "__main__":
    main()
