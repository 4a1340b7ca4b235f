"""Plays an environment at random, on the device or on the host, into one record of what it gave."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.bounds import MOST_COMBINATIONS
from purejaxdqn.envs.interface import Env, HostEnv
from purejaxdqn.learning.explore import best_action
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.machine.random_bits import random_actions
from purejaxdqn.types import Row

NUM_ENVS, STEPS = 8, 512
"""Environments side by side, and vector steps: what a random policy ends of episodes of hundreds of steps."""
STEPPED = ("reward", "terminated", "truncated", "begins")
"""What is read of a step on the host, beside its frame."""
HELD = 8
"""Steps for which each action is tried: games such as Freeway ignore some of them."""


class Played(NamedTuple):
    """Vector steps T of E environments with random actions, in NumPy."""

    first: Any
    """[E, ...]: observations of the resets, arrays or trees of such, like the others."""
    acted_on: Any
    """[T, E, ...]: observations that were acted on."""
    row: Row
    """[T, E]: what the environment said of each step."""
    after: Any
    """[T, E, ...]: observations to act on next; those of a reset where an episode ended."""
    each_action: tuple[Any, np.ndarray] | None
    """Observations [A, HELD, E, ...] and rewards [A, HELD, E] of each action held from one state; None on the host."""
    seconds: float
    """Of all steps, a second time."""
    legal: Any = None
    """bool [T, E, A]: the actions from which the ones taken were drawn; None without action masks."""


@in_usual_modes
def play_device(env: Env, key: Array, lanes: bool = False) -> Played:
    """Plays an environment on the device; traced anew whenever it is called.

    Args:
      env: the environment.
      key: of all randomness.
      lanes: whether to play two lanes side by side, of which the first is returned.
    """

    def step(state: Any, key: Array) -> tuple[Any, tuple[Any, Row, Any, Any]]:
        action_key, step_key = jax.random.split(key)
        legal = env.mask(state)
        action = random_actions(action_key, NUM_ENVS, env.spec.num_actions, legal)
        acted_on = env.observe(state)
        state, after, row = env.step(step_key, state, action)
        return state, (acted_on, row, after, legal)

    def whole(key: Array) -> tuple[Any, ...]:
        reset_key, play_key = jax.random.split(key)
        state, first = env.reset(reset_key, NUM_ENVS)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)
        _, (acted_on, row, after, legal) = jax.lax.scan(step, state, jax.random.split(play_key, STEPS))
        number, most = env.spec.num_actions, min(env.spec.num_actions, MOST_COMBINATIONS)
        tried = (np.arange(most) * number // most).astype(np.int32)
        actions = jnp.broadcast_to(tried[:, None], (most, NUM_ENVS))

        def hold(action: Array) -> tuple[Any, Array]:
            def again(state: Any, key: Array) -> tuple[Any, tuple[Any, Array]]:
                state, _, row = env.step(key, state, legal_one(action, env.mask(state)))
                return state, (row.final_obs, row.reward)

            return jax.lax.scan(again, state, jax.random.split(play_key, HELD))[1]

        return first, acted_on, row, after, jax.vmap(hold)(actions), legal

    run = jax.jit(jax.vmap(whole) if lanes else whole)
    given = jnp.stack([key, jax.random.fold_in(key, 1)]) if lanes else key
    found = jax.device_get(run(given))
    begin = time.perf_counter()
    jax.block_until_ready(run(given))
    seconds = time.perf_counter() - begin
    first, acted_on, row, after, each, legal = jax.tree.map(lambda leaf: leaf[0], found) if lanes else found
    return Played(first, acted_on, row, after, each, seconds, legal)


def legal_one(action: Array, mask: Array | None) -> Array:
    """Actions int32 [E], the first legal one in place of those that are illegal by a mask bool [E, A]."""
    if mask is None:
        return action
    return best_action((jnp.arange(mask.shape[1]) == action[:, None]).astype(jnp.float32), mask)


def play_host(env: HostEnv, seed: int) -> Played:
    """Plays an environment on the host."""
    rng = np.random.default_rng(seed)
    pool = env.open_pool(NUM_ENVS, seed, 1)
    pool.reset()
    steps, actions = [pool.receive(0)], []
    begin = time.perf_counter()
    for _ in range(STEPS):
        actions.append(draw_legal(rng, env.spec.num_actions, steps[-1].mask))
        pool.send(0, actions[-1])
        steps.append(pool.receive(0))
    seconds = time.perf_counter() - begin
    pool.close()
    frames = jax.tree.map(lambda *leaf: np.stack(leaf), *(step.frame for step in steps))
    before, after = jax.tree.map(lambda leaf: leaf[:-1], frames), jax.tree.map(lambda leaf: leaf[1:], frames)
    told = {name: np.stack([getattr(step, name) for step in steps[1:]]) for name in STEPPED}
    fields: dict[str, Any] = {name: told[name] for name in STEPPED[:3]}
    fields |= {"obs": before, "action": np.stack(actions), "final_obs": after, "valid": ~told["begins"]}
    if env.spec.masked:
        masks: Any = np.stack([np.asarray(step.mask) for step in steps])
        fields |= {"mask": masks[:-1], "final_mask": masks[1:]}
    row = Row(**fields)
    return Played(steps[0].frame, before, row, after, None, seconds, row.mask)


def draw_legal(rng: np.random.Generator, num_actions: int, mask: np.ndarray | None) -> np.ndarray:
    """Random actions int32 [E], legal ones by a mask bool [E, A] if there is one."""
    if mask is None:
        return rng.integers(num_actions, size=NUM_ENVS).astype(np.int32)
    scores = np.where(mask, rng.random(mask.shape), -1.0)
    return np.argmax(scores, axis=1).astype(np.int32)
