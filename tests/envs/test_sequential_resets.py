"""`batch_env(..., sequential_resets=True)`: the same numbers, from resets of those alone whose episode ended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import same_bits

from purejaxdqn import Config, Hypers, batch_env, make_agent, register
from purejaxdqn.loops.data_parallel import make_data_lanes

pytestmark = pytest.mark.usefixtures("own_parts")

SMALL = {"num_envs": 4, "total_steps": 800, "buffer_size": 200, "batch_size": 8, "learning_starts": 40, "hidden": (8,)}
RESETS: list[int] = []
"""The places at which episodes began, as they were computed."""


def make_walk(sequential: bool = True, counted: bool = False):
    """A walk from one of eight places, which ends at 8 or after six steps; a part of the state is a key."""

    def reset(key):
        place = jax.random.randint(key, (), 0, 8)
        if counted:
            jax.debug.callback(lambda place: RESETS.append(int(place)), place)
        return {"place": place / 8.0}, (place, jax.random.key_data(key))

    def step(key, state, action):
        place = state[0] + 2 * action - 1 + jax.random.randint(key, (), 0, 2)
        return {"place": place / 8.0}, (place, state[1]), jnp.float32(place), place >= 8

    return batch_env(reset, step, num_actions=2, time_limit=6, sequential_resets=sequential, name="walk")


def played(env, key, steps=40):
    """Everything of some steps of five environments."""

    def step(state, key):
        action = jax.random.randint(key, (5,), 0, 2)
        state, obs, row = env.step(key, state, action)
        return state, (obs, row)

    state, first = env.reset(key, 5)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)
    return first, jax.lax.scan(step, state, jax.random.split(key, steps))


def test_they_give_the_same_numbers():
    """Step by step, several that end at once among them; alone, and in lanes that are vmapped."""
    keys, envs = jax.random.split(jax.random.key(0), 2), [make_walk(True), make_walk(False)]
    apart, together = (jax.jit(jax.vmap(lambda key, env=env: played(env, key)))(keys) for env in envs)
    assert same_bits(apart, together)
    alone = jax.jit(lambda key: played(envs[0], key))(keys[1])
    assert same_bits(alone, jax.tree.map(lambda leaf: leaf[1], apart))
    _, (_, (_, rows)) = alone
    ended = np.asarray(rows.terminated | rows.truncated).sum(axis=1)
    assert ended.max() > 1 and ended.min() == 0


def test_no_reset_is_computed_that_is_not_needed():
    """One for each environment at first, and one for each episode that ended."""
    env = make_walk(counted=True)
    jax.effects_barrier()
    RESETS.clear()
    first, (_, (after, rows)) = jax.jit(lambda key: played(env, key))(jax.random.key(0))
    jax.effects_barrier()
    over = np.asarray(rows.terminated | rows.truncated)
    began = [*np.asarray(first["place"]), *np.asarray(after["place"])[over]]
    assert sorted(RESETS) == sorted(int(8 * place) for place in began) and over.sum() > 20


@pytest.mark.long
def test_a_run_does_not_show_it():
    """Replay, parameters, episodes and metrics, bit for bit."""
    found = []
    for sequential in (True, False):
        agent = make_agent(Config(**SMALL), env=make_walk(sequential))
        state = jax.jit(agent.init)(jax.random.key(0), Hypers())
        state, metrics = jax.jit(agent.iterate)(state, Hypers(), agent.config.num_iterations)
        found.append((state.learner, state.memory, state.episodes, metrics))
    assert same_bits(*found) and int(found[0][3].episodes) > 50


@pytest.mark.long
def test_shards_reset_their_own():
    register("env", "walk", make_walk)
    _, lanes = make_data_lanes(Config(env="walk", data_parallel=2, **SMALL), (0,), 4)
    h = Hypers().as_arrays()
    _, metrics = lanes.iterate(lanes.init(np.zeros(2, np.uint32), h), h, 100)
    assert int(metrics.episodes) > 20
