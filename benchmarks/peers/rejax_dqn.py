"""Times rejax's DQN at its defaults and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.rejax_dqn --total-steps 32768

Only the length is set. Its evaluations during training are replaced by nothing, for a peer's training is timed, and its
policy is evaluated once at the end, on 128 episodes as it does itself (ε = 0.005).
"""

import jax
import jax.numpy as jnp
from rejax import get_algo

from benchmarks.peers.jax_peer import compile_and_run
from benchmarks.peers.outcome import parser, say


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    args = parser(__doc__, 32_768).parse_args()
    algo = get_algo("dqn").create(env="CartPole-v1", total_timesteps=args.total_steps)
    evaluate = algo.eval_callback
    algo = algo.replace(eval_callback=lambda algo, state, key: jnp.zeros(()))
    ran = compile_and_run(lambda key: algo.train(key)[0], args.seed, args.seeds, one_alone=True)
    state = ran.out
    _, returns = jax.vmap(lambda state: evaluate(algo, state, state.rng))(state)
    steps = int(state.global_step.sum())
    say(
        "rejax",
        seeds=args.seeds,
        steps=steps,
        seconds=ran.seconds,
        updates=int(state.q_ts.step.sum()),
        compile_seconds=ran.compile_seconds,
        returns_last_tenth=None,
        greedy_return=float(returns.mean()),
        device=jax.devices()[0].device_kind,
        packages=("rejax", "jax", "jaxlib", "flax", "optax", "gymnax"),
    )


if __name__ == "__main__":
    main()
