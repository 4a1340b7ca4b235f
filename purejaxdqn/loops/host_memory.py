"""A replay buffer in the host's memory, for a device that has too little: batches are transferred instead of frames.

The same functions run on JAX's CPU device, so every replay works. A phase's batches are drawn before its first update:
new priorities take effect from the next phase on, whereas a replay on the device applies each update's at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.config import Config
from purejaxdqn.learn import update_keys
from purejaxdqn.learning.normalization import Seen, follow_rows
from purejaxdqn.loops.host_functions import Actor, HostFunctions, HostState
from purejaxdqn.replay.interface import Replay
from purejaxdqn.replay.presampled import DrawnMemory
from purejaxdqn.types import Hypers, Learner, Row


class HostMemory(NamedTuple):
    """Functions of a replay on the CPU device, jitted. The memory argument is donated."""

    draw: Callable[[Any, Array, int, Hypers], tuple[DrawnMemory, Any]]
    """(memory, key, updates so far, hypers) -> the next phase's batches on the CPU, and where they lie."""
    note: Callable[[Any, Any, Array, Hypers], Any]
    """(memory, where, priorities [U, B], hypers) -> memory."""


def make_host_memory(config: Config, replay: Replay) -> HostMemory:
    """A replay for the host's memory.

    Args:
      config: gives the number of updates in a phase.
      replay: any.
    """
    steps = jnp.arange(config.updates_per_rollout)

    def draw(memory: Any, key: Array, updates: Array, h: Hypers) -> tuple[DrawnMemory, Any]:
        # Batch after batch, or all of their frames would be needed at once more than once.
        def one(_: None, i: Array) -> tuple[None, Any]:
            return None, replay.sample(memory, update_keys(key, updates + i)[0], replay.now(h, updates + i))

        _, (batch, where, weight) = jax.lax.scan(one, None, steps)
        return DrawnMemory(batch, weight, jnp.zeros_like(weight), jnp.zeros((), jnp.int32)), where

    def note(memory: Any, where: Any, priority: Array, h: Hypers) -> Any:
        def one(memory: Any, found: tuple[Any, Array]) -> tuple[Any, None]:
            return replay.update(memory, *found, h), None

        return jax.lax.scan(one, memory, (where, priority))[0]

    return HostMemory(
        draw=jax.jit(draw),
        note=jax.jit(note, donate_argnums=0),
    )


class DevicePhase:
    """Learning phases from a replay in the device's memory."""

    def __init__(self, functions: HostFunctions):
        self.functions = functions

    def init(self, key: Array, h: Hypers) -> HostState:
        """A fresh state."""
        return self.functions.init(key, h)

    def begin(self, state: HostState) -> HostState:
        """Moves a state to the device where it belongs."""
        return self.functions.place(state)

    def receive(self, actor: Actor, packed: np.ndarray, group: int) -> tuple[Actor, Row]:
        """The actor with its new observation, and the row that the step completed."""
        del group
        return self.functions.receive(actor, packed)

    def acted(self, group: int, action: np.ndarray, carried: Any) -> None:
        """Called with the actions that were sent, and with what is carried on."""

    def add(self, memory: Any, rows: tuple[Row, ...]) -> Any:
        """Writes rows without learning."""
        return self.functions.add(memory, rows)

    def follow(self, learner: Learner, rows: tuple[Row, ...], h: Hypers) -> Learner:
        """The learner whose running statistics, if it has some, are those with these rows; a phase does this too."""
        return follow_rows(learner, lambda seen: self.functions.follow(seen, rows, h))

    def learn(self, learner: Learner, memory: Any, total: Any, rows: Any, key_data: Array, h: Hypers) -> Any:
        """One learning phase."""
        return self.functions.learn(learner, memory, total, rows, key_data, h)

    def settle(self, memory: Any) -> Any:
        """The memory with everything in it that belongs there."""
        return memory


class HostPhase:
    """Learning phases from a replay in the host's memory. Rows are made there, too, so that no frame comes back."""

    def __init__(self, config: Config, functions: HostFunctions, replay: Replay):
        self.functions = functions
        self.memory = make_host_memory(config, replay)
        self.cpu, self.device = jax.devices("cpu")[0], jax.local_devices()[0]
        self.updates, self.per_phase = 0, config.updates_per_rollout
        self.actors: list[Actor] = []
        self.pending: tuple[Any, Array, Any] | None = None

    def init(self, key: Array, h: Hypers) -> HostState:
        """A fresh state, made on the CPU, where there is memory for its replay."""
        with jax.default_device(self.cpu):
            return self.functions.init(key, h)

    def begin(self, state: HostState) -> HostState:
        """Moves every part of a state to the device where it belongs."""
        self.updates = int(state.learner.updates.count)
        self.actors = list(jax.device_put(state.actors, self.cpu))
        memory = jax.device_put(state.memory, self.cpu)
        rest = jax.device_put(state.replace(memory=()), self.device)  # type: ignore[attr-defined]
        return rest.replace(memory=memory)

    def receive(self, actor: Actor, packed: np.ndarray, group: int) -> tuple[Actor, Row]:
        """The actor with its new observation, and the row that the step completed, on the CPU."""
        self.actors[group], row = self.functions.receive(self.actors[group], jax.device_put(packed, self.cpu))
        carried = self.functions.begin(actor.explorer, packed)
        obs, mask = self.functions.greet(actor.obs, packed), self.functions.mask(packed)
        return Actor(obs, actor.action, carried, mask), row

    def acted(self, group: int, action: np.ndarray, carried: Any) -> None:
        """Called with the actions that were sent, and with what is carried on, of which rows keep a memory's."""
        here = self.actors[group]
        chosen, carried = jax.device_put((action, carried), self.cpu)
        self.actors[group] = Actor(here.obs, chosen, carried, here.mask)

    def add(self, memory: Any, rows: tuple[Row, ...]) -> Any:
        """Writes rows without learning."""
        return self.functions.add(memory, rows)

    def follow(self, learner: Learner, rows: tuple[Row, ...], h: Hypers) -> Learner:
        """The learner whose running statistics, if it has some, are those with these rows, which stay on the CPU."""

        def there_and_back(seen: Seen) -> Seen:
            seen, here = jax.device_put((seen, h), self.cpu)
            return jax.device_put(self.functions.follow(seen, rows, here), self.device)

        return follow_rows(learner, there_and_back)

    def learn(self, learner: Learner, memory: Any, total: Any, rows: Any, key_data: Array, h: Hypers) -> Any:
        """One learning phase: its batches go to the device, and its priorities come back before the next."""
        learner, memory = self.follow(learner, rows, h), self.add(self.settle(memory), rows)
        key, here = jax.device_put((key_data, h), self.cpu)
        drawn, where = self.memory.draw(memory, self.functions.learn_key(key), self.updates, here)
        self.updates += self.per_phase
        learner, after, total = self.functions.learn(
            learner, jax.device_put(drawn, self.device), total, (), key_data, h
        )
        self.pending = where, after.priority, here
        return learner, memory, total

    def settle(self, memory: Any) -> Any:
        """The memory with everything in it that belongs there."""
        if self.pending is None:
            return memory
        where, priority, h = self.pending
        self.pending = None
        return self.memory.note(memory, where, jax.device_put(priority, self.cpu), h)
