"""Times Dopamine's JAX DQN on CartPole-v0 and prints one JSON line.

    PEER/bin/python -m benchmarks.peers.dopamine_dqn --total-steps 20000

The settings are those of its `dqn_cartpole.gin`; the agent is driven as its own runner drives it. It compiles at its
first updates, so the timed steps are those from WARM on. It imports OpenAI's `baselines`, of which this needs nothing:
empty modules stand in for it.
"""

import sys
import time
import types

from benchmarks.peers.outcome import mean_of_last_tenth, parser, say

WARM = 1_000
LIMIT = 200
SETTINGS = """
import dopamine.discrete_domains.gym_lib
import dopamine.jax.agents.dqn.dqn_agent
import dopamine.jax.networks
import dopamine.jax.replay_memory.replay_buffer
JaxDQNAgent.observation_shape = %gym_lib.CARTPOLE_OBSERVATION_SHAPE
JaxDQNAgent.observation_dtype = %jax_networks.CARTPOLE_OBSERVATION_DTYPE
JaxDQNAgent.stack_size = %gym_lib.CARTPOLE_STACK_SIZE
JaxDQNAgent.network = @networks.ClassicControlDQNNetwork
JaxDQNAgent.min_replay_history = 500
JaxDQNAgent.update_period = 4
JaxDQNAgent.target_update_period = 100
JaxDQNAgent.epsilon_fn = @dqn_agent.identity_epsilon
JaxDQNAgent.optimizer = 'adam'
create_optimizer.learning_rate = 0.001
create_optimizer.eps = 3.125e-4
ClassicControlDQNNetwork.min_vals = %jax_networks.CARTPOLE_MIN_VALS
ClassicControlDQNNetwork.max_vals = %jax_networks.CARTPOLE_MAX_VALS
ReplayBuffer.max_capacity = 50_000
ReplayBuffer.batch_size = 128
"""


def stand_in_for_baselines() -> None:
    """Empty modules under the names that are imported."""
    for name in ("baselines", "baselines.common", "baselines.common.atari_wrappers"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["baselines.common"].atari_wrappers = sys.modules[  # type: ignore[attr-defined]
        "baselines.common.atari_wrappers"
    ]


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    args = parser(__doc__, 20_000).parse_args()
    stand_in_for_baselines()
    import gin
    import jax
    from dopamine.discrete_domains import gym_lib
    from dopamine.jax.agents.dqn import dqn_agent

    gin.parse_config(SETTINGS)
    env = gym_lib.create_gym_environment("CartPole", "v0")
    agent = dqn_agent.JaxDQNAgent(num_actions=2, seed=args.seed)
    begin = start = time.perf_counter()
    steps, ends, returns = 0, [], []
    while steps < args.total_steps:
        action, score, length, terminal = agent.begin_episode(env.reset()), 0.0, 0, False
        while not terminal and length < LIMIT:
            obs, reward, terminal, _ = env.step(action)
            score, length, steps = score + reward, length + 1, steps + 1
            if steps == WARM:
                start = time.perf_counter()
            if not terminal and length < LIMIT:
                action = agent.step(reward, obs)
        agent.end_episode(reward, terminal)
        ends.append(steps)
        returns.append(score)
    done = time.perf_counter()
    say(
        "dopamine",
        seeds=1,
        steps=steps,
        seconds=done - start,
        timed_steps=steps - WARM,
        updates=(steps - 500) // 4,
        compile_seconds=start - begin,
        returns_last_tenth=mean_of_last_tenth(ends, returns, steps),
        greedy_return=None,
        device=jax.devices()[0].device_kind,
        packages=("dopamine-rl", "jax", "jaxlib", "flax", "optax", "tensorflow", "gymnasium", "numpy"),
        compile_seconds_hold=f"the first {WARM} steps",
    )


if __name__ == "__main__":
    main()
