"""Replay from a dataset: its steps as one writer's, held once for all lanes, and never written.

A state does not hold them. Its memory has a `Held` of nothing where they belong, and `with_data` lends them to it while
a run goes on; so no checkpoint has a copy, and lanes share what has no axis of lanes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.learning.constraints import BatchConstraint, Constraint, on_last
from purejaxdqn.replay.dataset import Dataset, read_dataset
from purejaxdqn.replay.interface import Replay, Store
from purejaxdqn.replay.ring import Ring
from purejaxdqn.replay.transitions import Stored, TransitionStore, read_transitions
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Counter, Hypers, Row, Transition

OWN_DRAWS = 0xDE305
"""Folded into the key of a sample for what is drawn from a dataset, so that the own steps are drawn as without one."""


@struct.dataclass
class Held:
    """Where the steps of a dataset belong."""

    steps: Any = None
    """`TransitionStore` of one writer, or None between two calls."""

    @property
    def ring(self) -> Ring:
        """Of the steps."""
        return self.steps.ring


def lend(tree: Any, steps: Any) -> Any:
    """A tree whose `Held`s hold these steps, or None."""
    return jax.tree.map(
        lambda node: Held(steps) if isinstance(node, Held) else node, tree, is_leaf=lambda node: isinstance(node, Held)
    )


def with_data(iterate: Callable[..., Any], steps: Any) -> Callable[..., Any]:
    """(state, hypers, n, data = these steps) -> state, metrics; without a dataset `iterate` as it was."""
    if steps is None:
        return iterate

    def lent(state: Any, hypers: Hypers, n: Any, data: Any = steps) -> Any:
        lent_memory = lend(state.memory, jax.tree.map(jnp.asarray, data))
        state, metrics = iterate(state.replace(memory=lent_memory), hypers, n)
        return state.replace(memory=lend(state.memory, None)), metrics

    return lent


def rows_of(dataset: Dataset) -> Row:
    """The steps of a dataset as rows [N, 1, ...] of one environment, in numpy."""
    last = dataset.last

    def after(column: np.ndarray, final: np.ndarray) -> np.ndarray:
        shifted = np.concatenate([column[1:], column[:1]])
        shifted[last] = final
        return shifted

    final = jax.tree.map(after, (dataset.obs, dataset.mask), (dataset.final_obs, dataset.final_mask))
    rows = Row(
        obs=dataset.obs,
        action=dataset.action,  # type: ignore[arg-type]
        reward=dataset.reward,  # type: ignore[arg-type]
        terminated=dataset.terminated,  # type: ignore[arg-type]
        truncated=dataset.truncated,  # type: ignore[arg-type]
        final_obs=final[0],
        valid=np.ones(dataset.num_steps, bool),  # type: ignore[arg-type]
        mask=dataset.mask,  # type: ignore[arg-type]
        final_mask=final[1],
    )
    return jax.tree.map(lambda leaf: leaf[:, None], rows)


def hold(rows: Row, n_step: int) -> TransitionStore:
    """Rows [N, 1, ...] as steps that can be read, in numpy; every one of them may start a transition.

    Behind the last one lie n_step rows that are no transitions, so that its window ends in the ring, and room that
    stays empty, so that nothing is ever the oldest.
    """
    rows = jax.tree.map(np.asarray, rows)
    cuts = np.flatnonzero(rows.truncated)
    written = rows.action.shape[0] + n_step
    capacity = written + n_step + 1
    gap = int(np.diff(cuts).min()) if len(cuts) > 1 else capacity
    places = capacity // gap + 2
    slot = (cuts // gap) % places
    final_time = np.full((places, 1), -1, np.int32)
    final_time[slot, 0] = cuts

    def padded(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.zeros((capacity - len(leaf), *leaf.shape[1:]), leaf.dtype)])

    def kept(leaf: np.ndarray) -> np.ndarray:
        final = np.zeros((places, *leaf.shape[1:]), leaf.dtype)
        final[slot] = leaf[cuts]
        return final

    stored = Stored(rows.obs, rows.action, rows.reward, rows.terminated, rows.truncated, rows.valid, rows.mask)
    final_obs, final_mask = jax.tree.map(kept, (rows.final_obs, rows.final_mask))
    ring = Ring(rows=jax.tree.map(padded, stored), written=Counter(np.int32(written)))  # type: ignore[arg-type]
    return TransitionStore(ring, final_obs, final_time, gap, final_mask)  # type: ignore[arg-type]


def held_store(steps: TransitionStore, n_step: int, annealed: bool = False) -> Store:
    """What a replay draws from: the steps that a `Held` is lent.

    Args:
      steps: gives sizes alone.
      n_step: longest fold, the one that they were held for.
      annealed: whether a fold has the `n_step_final` steps of the hypers that it is read with.
    """

    def read(store: Held, times: Array, writers: Array, h: Hypers) -> tuple[Transition, Array]:
        return read_transitions(store.steps, times, writers, n_step, h.gamma, h.n_step_final if annealed else None)

    return Store(
        capacity=steps.ring.capacity,
        num_envs=1,
        n_step=n_step,
        history=0,
        every_row_valid=True,
        init=lambda row: Held(),
        add=lambda store, rows: store,
        read=read,
    )


def begin_memory(replay: Replay, steps: TransitionStore) -> Any:
    """The memory of a replay of a `held_store`, as if all steps had just been added."""
    written = int(steps.ring.written.count)
    rows: Any = jax.tree.map(lambda leaf: leaf[:written], steps.ring.rows)
    lent = lend(replay.init(rows), jax.tree.map(jnp.asarray, steps))
    return lend(replay.add(lent, rows), None)


class Mixed(NamedTuple):
    """Memories of a run's own steps and of a dataset."""

    own: Any
    held: Any


def mixed(own: Replay, held: Replay) -> Replay:
    """Batches that begin with the run's own transitions and end with those of a dataset (Hester et al. 2018, DQfD).

    Args:
      own: of the run's own steps, with its part of the batch.
      held: of the dataset, with the rest.
    """

    def sample(memory: Mixed, key: Array, h: Hypers) -> tuple[Transition, Any, Array]:
        first, index, first_weight = own.sample(memory.own, key, h)
        second, _, second_weight = held.sample(memory.held, jax.random.fold_in(key, OWN_DRAWS), h)
        batch, weight = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b]), (first, first_weight), (second, second_weight)
        )
        return batch, index, weight

    def update(memory: Mixed, index: Any, priority: Array, h: Hypers) -> Mixed:
        size = jax.tree.leaves(index)[0].shape[0]
        return memory._replace(own=own.update(memory.own, index, priority[:size], h))

    return Replay(
        init=lambda row: Mixed(own.init(row), held.init(row)),
        add=lambda memory, rows: memory._replace(own=own.add(memory.own, rows)),
        sample=sample,
        update=update,
        now=own.now,
    )


def share_of_batch(config: Config) -> int:
    """Transitions of a batch that come from the dataset: all of the `dataset` learner's, and else at least one."""
    if config.learner == "dataset":
        return config.batch_size
    return min(config.batch_size - 1, max(1, round(config.demo_share * config.batch_size)))


def replay_of(config: Config, make: Callable[..., Replay], env: Any, data: TransitionStore | None) -> Replay:
    """The replay of a run's own steps, of a dataset's, or of both; `make` is (config, environment or steps) -> it."""
    if data is None or config.learner == "dataset":
        return make(config, env if data is None else data)
    size = share_of_batch(config)
    demonstrations = uniform(held_store(data, config.n_step, config.anneal_horizon), size)
    return mixed(make(config.replace(batch_size=config.batch_size - size), env), demonstrations)


def when_learning(config: Config, replay: Replay) -> Replay:
    """A replay as a learning phase has it, which of a dataset is given no rows."""
    return replay._replace(add=lambda memory, rows: memory) if config.learner == "dataset" else replay


def on_data(config: Config, constraint: Constraint | None) -> BatchConstraint | None:
    """A constraint on the examples of a batch that come from the dataset.

    Raises:
      SettingError: where there is none.
    """
    remedy = "it is about a dataset's actions: name one by --dataset, or use none"
    require(constraint is None or config.dataset is not None, "constraint", config.constraint, remedy)
    return None if constraint is None else on_last(constraint, share_of_batch(config))


def find_steps(config: Config, spec: EnvSpec, on_host: bool, view: Callable[[Row], Row]) -> TransitionStore | None:
    """The steps of the dataset that a configuration names; None where it names none.

    Args:
      config: static settings.
      spec: of the environment.
      on_host: whether that steps on the host.
      view: what the learner is told of a step.

    Raises:
      SettingError: where there is no dataset that is needed, or it does not fit.
    """
    name, share = config.dataset, config.demo_share
    required = config.learner == "dataset" or share > 0
    remedy = "name the file of a dataset, which --save-dataset writes"
    require(name is not None or not required, "dataset", name, remedy)
    if name is None:
        return None
    require(required, "dataset", name, "say whether it is all that is learnt from, --learner dataset, or --demo-share")
    require(not on_host, "dataset", name, f"{config.env} steps on the host, where no run reads a dataset: leave it out")
    refused = {"memory": "none", "data_parallel": 1, "replay_memory": "device"}
    refused |= dict.fromkeys(("normalize_obs", "normalize_reward"), False)
    for field, value in refused.items():
        held = getattr(config, field)
        require(held == value, field, held, "a run with a dataset does not know it: leave it out")
    logs = config.learner == "dataset" and config.log_episodes
    require(not logs, "log_episodes", config.log_episodes, "none are played: leave it out")
    dataset = read_dataset(name, spec)
    known = bool(dataset.final_known.all()) or (config.mask_terminals and config.reward_shaping == "none")
    remedy = "it lacks observations after terminations, which this shaping reads: record it by evaluate --save-dataset"
    require(known, "dataset", name, remedy)
    return hold(view(rows_of(dataset)), config.n_step)
