"""A plain DQN loop in JAX, against which `benchmarks.quick` holds the library. Not to be improved: it is the yardstick.

CartPole-v1, ten environments, MLP 120-84, an update of 128 with Adam for every ten steps, a replay of 10,000, a target
copied every 50 updates. It is written as one would at first: transitions lie in arrays of their own, seeds are vmapped,
and no thought is given to layout. It uses nothing of the library, so that nothing in there moves it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

ENVS, CAPACITY, BATCH, PERIOD, LIMIT = 10, 10_000, 128, 50, 500
GAMMA, EPSILON = 0.99, 0.05
WIDTHS = (4, 120, 84, 2)
ADAM = optax.adam(2.5e-4)


def step_cartpole(x: Array, action: Array) -> tuple[Array, Array]:
    """One step of Barto, Sutton & Anderson's (1983) cart: x [4], action [] -> x [4], whether it fell []."""
    position, speed, angle, turn = x
    force = jnp.where(action == 1, 10.0, -10.0)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    push = (force + 0.05 * turn**2 * sin) / 1.1
    angular = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    linear = push - 0.05 * angular * cos / 1.1
    after = jnp.stack([position + 0.02 * speed, speed + 0.02 * linear, angle + 0.02 * turn, turn + 0.02 * angular])
    return after, (jnp.abs(after[0]) > 2.4) | (jnp.abs(after[2]) > 0.20943951)


def q_values(params: list[tuple[Array, Array]], x: Array) -> Array:
    """[B, 4] -> [B, 2]."""
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return x @ params[-1][0] + params[-1][1]


def init(key: Array) -> dict[str, Any]:
    """A seed at its beginning, its replay full of nothing, so that it learns from the first iteration on."""
    keys = jax.random.split(key, len(WIDTHS))
    params = [
        (jax.random.normal(k, (a, b)) / jnp.sqrt(a), jnp.zeros(b))
        for k, a, b in zip(keys[1:], WIDTHS[:-1], WIDTHS[1:], strict=True)
    ]
    return {
        "key": keys[0],
        "params": params,
        "target": jax.tree.map(jnp.copy, params),
        "adam": ADAM.init(params),
        "x": jnp.zeros((ENVS, 4)),
        "age": jnp.zeros(ENVS, jnp.int32),
        "steps": jnp.int32(0),
        "obs": jnp.zeros((CAPACITY, 4)),
        "action": jnp.zeros(CAPACITY, jnp.int32),
        "reward": jnp.zeros(CAPACITY),
        "discount": jnp.zeros(CAPACITY),
        "next_obs": jnp.zeros((CAPACITY, 4)),
    }


def iteration(s: dict[str, Any], _: None) -> tuple[dict[str, Any], Array]:
    """Ten steps of experience and one update."""
    key, explore, choose, reset, sample = jax.random.split(s["key"], 5)
    greedy = jnp.argmax(q_values(s["params"], s["x"]), axis=1)
    random = jax.random.randint(choose, (ENVS,), 0, 2)
    action = jnp.where(jax.random.uniform(explore, (ENVS,)) < EPSILON, random, greedy)
    after, fell = jax.vmap(step_cartpole)(s["x"], action)
    age = s["age"] + 1
    over = fell | (age >= LIMIT)
    fresh = jax.random.uniform(reset, (ENVS, 4), minval=-0.05, maxval=0.05)
    where = (s["steps"] * ENVS + jnp.arange(ENVS)) % CAPACITY
    s = s | {
        "key": key,
        "x": jnp.where(over[:, None], fresh, after),
        "age": jnp.where(over, 0, age),
        "steps": s["steps"] + 1,
        "obs": s["obs"].at[where].set(s["x"]),
        "action": s["action"].at[where].set(action),
        "reward": s["reward"].at[where].set(1.0),
        "discount": s["discount"].at[where].set(GAMMA * (1.0 - fell)),
        "next_obs": s["next_obs"].at[where].set(after),
    }
    index = jax.random.randint(sample, (BATCH,), 0, CAPACITY)
    best = jnp.max(q_values(s["target"], s["next_obs"][index]), axis=1)
    y = s["reward"][index] + s["discount"][index] * best

    def loss(params: list[tuple[Array, Array]]) -> Array:
        q = q_values(params, s["obs"][index])[jnp.arange(BATCH), s["action"][index]]
        return jnp.mean((q - y) ** 2)

    value, grads = jax.value_and_grad(loss)(s["params"])
    changes, adam = ADAM.update(grads, s["adam"])
    params = optax.apply_updates(s["params"], changes)
    copy = s["steps"] % PERIOD == 0
    target = jax.tree.map(lambda new, old: jnp.where(copy, new, old), params, s["target"])
    return s | {"params": params, "target": target, "adam": adam}, value


def iterate(state: dict[str, Any], n: int) -> dict[str, Any]:
    """Goes on for n iterations (static) of all seeds, each leaf [L, ...]."""
    return jax.vmap(lambda seed: jax.lax.scan(iteration, seed, None, n)[0])(state)
