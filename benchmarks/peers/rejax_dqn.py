"""Times rejax's DQN at its defaults and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.rejax_dqn --total-steps 32768

Only the length is set. Its evaluations during training are replaced by nothing, for a peer's training is timed, and its
policy is evaluated once at the end, on 128 episodes as it does itself (ε = 0.005).
"""

import time

import jax
import jax.numpy as jnp
from rejax import get_algo

from benchmarks.peers.outcome import parser, say


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    args = parser(__doc__, 32_768).parse_args()
    algo = get_algo("dqn").create(env="CartPole-v1", total_timesteps=args.total_steps)
    evaluate = algo.eval_callback
    algo = algo.replace(eval_callback=lambda algo, state, key: jnp.zeros(()))
    keys = jax.random.split(jax.random.PRNGKey(args.seed), args.seeds)

    begin = time.perf_counter()
    train = jax.jit(jax.vmap(lambda key: algo.train(key)[0])).lower(keys).compile()
    compiled = time.perf_counter()
    state = jax.block_until_ready(train(keys))
    done = time.perf_counter()

    _, returns = jax.vmap(lambda state: evaluate(algo, state, state.rng))(state)
    steps = int(state.global_step.sum())
    say(
        "rejax",
        seeds=args.seeds,
        steps=steps,
        seconds=done - compiled,
        updates=int(state.q_ts.step.sum()),
        compile_seconds=compiled - begin,
        returns_last_tenth=None,
        greedy_return=float(returns.mean()),
        device=jax.devices()[0].device_kind,
        packages=("rejax", "jax", "jaxlib", "flax", "optax", "gymnax"),
    )


if __name__ == "__main__":
    main()
