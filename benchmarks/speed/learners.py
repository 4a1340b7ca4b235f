"""Learners to time: a network, a head and what goes with them, without environment or replay."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.speed.timing import Body
from purejaxdqn.build import build_env, build_model, choose
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.learn import init_learner, make_replay_learn
from purejaxdqn.learning.backups import Backup
from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.recipes.recipes import RECIPES, make_settings
from purejaxdqn.replay.presampled import DrawnMemory, drawn_replay
from purejaxdqn.types import Hypers, Transition

Settings = tuple[Config, Hypers, EnvSpec]
FRAMES = EnvSpec("Pong-v5", 6, (84, 84, 4), "uint8", None, 27_000, frame_stack=4)
"""What Atari's games look like, without EnvPool."""
PLAIN = "DQN, MLP 120-84"
"""As in the comparison with PureJaxRL, and what the bar on the learner's rate is about."""
BATCHES = 4
"""That lie ready and are used in turn: one for all trips would have parts of its pass taken out of the loop."""


def learners(small: bool) -> dict[str, Settings]:
    """Settings by name: heads on one network, then networks."""
    plain = {"norm": "none", "batch_size": 128, "updates_per_rollout": 1}
    found = {PLAIN: with_spec("cartpole", "dqn", plain)}
    if small:
        return found
    mlp = {"batch_size": 128, "updates_per_rollout": 1}
    for algo in ("double", "dueling", "noisy", "c51", "qr-dqn", "iqn", "fqf", "m-dqn", "rainbow"):
        found[f"{algo}, MLP 120-84 with layer norm"] = with_spec("cartpole", algo, mlp)
    found["DQN, MinAtar's CNN"] = with_spec("breakout-minatar", "dqn", {"network": "minatar-cnn"})
    found["DQN, Nature's CNN"] = (*make_settings(RECIPES["nature-dqn"]), FRAMES)
    return found


def with_spec(recipe: str, algo: str, overrides: dict[str, Any]) -> Settings:
    """A recipe's settings, and its environment's shapes."""
    config, hypers = make_settings(RECIPES[recipe], None, algo, **overrides)
    return config, hypers, build_env(config).spec


def make_batches(config: Config, spec: EnvSpec) -> Transition:
    """Transitions [BATCHES, B, ...] of nothing in particular."""
    size = (BATCHES, config.batch_size)
    key = jax.random.key(1)

    def observations(key: Array) -> Array:
        drawn = jax.random.uniform(key, (*size, *spec.obs_shape))
        return (drawn * (255 if spec.obs_dtype == "uint8" else 1)).astype(spec.obs_dtype)

    return Transition(
        obs_tm1=observations(key),
        a_tm1=jax.random.randint(key, size, 0, spec.num_actions),
        r_t=jax.random.uniform(key, size),
        discount_t=jnp.full(size, 0.99),
        obs_t=observations(jax.random.key(2)),
    )


def make_act(config: Config, spec: EnvSpec) -> Callable[[Any, Array, Array], Array]:
    """(params, obs [E, ...], key) -> actions int32 [E], ε-greedy."""
    network, head = build_model(config, spec)

    def act(params: Any, obs: Array, key: Array) -> Array:
        network_key, action_key = jax.random.split(key)
        q_values = head.q_values(network.apply(params, obs, network_key, "act"))
        return epsilon_greedy(action_key, q_values, jnp.float32(0.1))

    return act


def make_update(config: Config, hypers: Hypers, spec: EnvSpec) -> tuple[Body, Any]:
    """A body of one update, and the carry to begin with: a learner, and batches that lie ready."""
    network, head = build_model(config, spec)
    backup: Backup = choose("backup", config).make(config)
    learn = make_replay_learn(config, network, head, backup, drawn_replay())
    h = hypers.as_arrays()
    batch = make_batches(config, spec)
    ones = jnp.ones((BATCHES, config.batch_size))
    memory = DrawnMemory(batch, ones, jnp.copy(ones), jnp.zeros((), jnp.int32))

    def body(trip: Array, carry: Any) -> Any:
        learner, memory = carry
        memory = memory.replace(cursor=trip % BATCHES)
        # Keys differ by the number of updates.
        learner, memory, _ = learn(learner, memory, (), jax.random.key(0), h)
        return learner, memory

    return body, (init_learner(config, network, jax.random.key(0), h), memory)
