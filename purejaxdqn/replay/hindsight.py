"""Hindsight: some of a batch is told as if its episode had meant to get where it got later (Andrychowicz et al. 2017).

The ring holds steps as they were played. Beside it lie what each step achieved, also where an episode ended, and the
number of its episode. A batch is drawn as ever; then goals are, from steps of the same episodes not before those drawn,
and rewards and terminations follow from them by the environment's own functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from purejaxdqn.config import Config, require
from purejaxdqn.envs.interface import Env, Goals, HostEnv
from purejaxdqn.learning.returns import cut_after, n_step_fold
from purejaxdqn.machine.random_bits import index_from_bits, uniform_from_bits
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.machine.threefry import in_a_loop
from purejaxdqn.replay.interface import Replay, Store
from purejaxdqn.replay.prioritized import PrioritizedMemory
from purejaxdqn.replay.ring import Ring, add_rows, init_ring, pick, read_rows
from purejaxdqn.replay.transitions import TransitionStore
from purejaxdqn.types import Hypers, Row, Transition

GOAL_DRAWS = 0x60A15
"""Folded into the key of a sample for what is drawn of goals, so that rows are drawn as without any."""


class Mark(NamedTuple):
    """What is kept of a row beside the row itself."""

    achieved: Any
    """What the step achieved, an array or a tree; its row's successor has that of a reset where an episode ended."""
    episode: Array
    """int32: episodes of this environment that ended before."""


@struct.dataclass
class GoalStore:
    """Rows as another store keeps them, and their marks."""

    steps: TransitionStore
    marks: Ring
    """Of a `Mark` for each row."""
    ended: Array
    """int32 [writers]: episodes that have ended so far."""

    @property
    def ring(self) -> Ring:
        """Of the rows."""
        return self.steps.ring


def goal_store(base: Store) -> Store:
    """A store that also keeps marks; it reads transitions as they were played.

    Args:
      base: of rows whose observations are dicts with `achieved_goal`.
    """

    def init(row: Row) -> GoalStore:
        mark = Mark(row.final_obs["achieved_goal"], jax.ShapeDtypeStruct((), jnp.int32))  # type: ignore[arg-type]
        marks = init_ring(mark, base.capacity, base.num_envs)
        return GoalStore(base.init(row), marks, jnp.zeros(base.num_envs, jnp.int32))

    def add(store: GoalStore, rows: Row) -> GoalStore:
        ends = jnp.logical_or(rows.terminated, rows.truncated).astype(jnp.int32)
        ended = store.ended[None] + jnp.cumsum(ends, axis=0)
        marks = add_rows(store.marks, Mark(rows.final_obs["achieved_goal"], ended - ends))
        return GoalStore(base.add(store.steps, rows), marks, ended[-1])

    return base._replace(init=init, add=add, read=lambda store, *args: base.read(store.steps, *args))


def last_held(marks: Ring, times: Array, writers: Array, longest: int) -> Array:
    """The newest time of each row's episode, by halving: numbers of episodes only rise.

    Args:
      marks: of the rows.
      times: int32 [B], held.
      writers: int32 [B].
      longest: time steps of an episode at most; later ones are not looked at.

    Returns:
      int32 [B]. Of an episode that goes on it is the newest time of all.
    """
    assert_array("times", times, (None,), int)
    assert_array("writers", writers, times.shape, int)

    def number(at: Array) -> Array:
        return pick(marks.rows.episode, at % marks.capacity, writers)

    own = number(times)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high + 1) // 2
        inside = number(middle) == own
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle - 1)

    # A loop, since XLA would fuse the halvings and compute each one anew in all that follow it.
    newest = jnp.minimum(times + longest - 1, marks.written.count - 1)
    return jax.lax.fori_loop(0, (longest - 1).bit_length(), halve, (times, newest))[0]


def tell(
    batch: Transition,
    store: GoalStore,
    times: Array,
    writers: Array,
    goal: Any,
    goals: Goals,
    n_step: int,
    gamma: float | Array,
    n: int | Array | None = None,
) -> Transition:
    """Transitions as if other goals had been desired.

    A fold ends where such a goal ends the episode, at the latest where the played one ended, whose next observation and
    discount it else has.

    Args:
      batch: as they were played, [B].
      store: that they were read from.
      times: int32 [B], of their first rows.
      writers: int32 [B].
      goal: [B, ...] or a tree, what is desired.
      goals: functions of the environment.
      n_step: longest fold, the one that they were read with.
      gamma: discount per step, [].
      n: steps of the fold where they are fewer, int [].
    """
    rows: Any = store.ring.rows
    window = times[:, None] + jnp.arange(n_step)[None]

    def field(kept: Array) -> Array:
        return pick(kept, window % store.ring.capacity, writers[:, None])

    def of_each(function: Callable[[Any, Any], Any]) -> Array:
        each: Array = jax.vmap(jax.vmap(function, (0, None)))(achieved, goal)
        return each

    achieved = jax.tree.map(field, store.marks.rows.achieved)
    reward = of_each(goals.reward).astype(jnp.float32)
    terminated = jnp.logical_or(field(rows.terminated), of_each(goals.terminated))
    truncated = field(rows.truncated)
    ends = truncated if n is None else cut_after(truncated, n)
    r_t, discount_t, _ = jax.vmap(n_step_fold, (0, 0, 0, None))(reward, terminated, ends, gamma)
    obs_tm1, obs_t = ({**obs, "desired_goal": goal} for obs in (batch.obs_tm1, batch.obs_t))
    return batch.replace(r_t=r_t, discount_t=discount_t, obs_tm1=obs_tm1, obs_t=obs_t)  # type: ignore[attr-defined]


def check_hindsight(config: Config, env: Any) -> None:
    """Raises `SettingError` where an environment has no goals, or a setting does not go with telling them anew."""
    has_goals = not isinstance(env, HostEnv) and env.goals is not None
    remedy = f"{config.env} says nothing of goals: use one such as BitFlip, or give batch_env a compute_reward"
    require(has_goals, "hindsight", config.hindsight, remedy)
    known = config.replay in ("uniform", "prioritized")
    require(known, "replay", config.replay, "--hindsight asks which rows were drawn: use uniform or prioritized")
    told_once: dict[str, Any] = {"memory": "none", "last_inputs": False, "last_step_reward": None, "reward_scale": 1.0}
    told_once |= {"reward_shaping": "none", "mask_terminals": True, "bootstrap_truncation": True}
    for name, value in told_once.items():
        found = getattr(config, name)
        require(found == value, name, found, "--hindsight tells steps anew as the environment has them: leave it out")


MakeReplay = Callable[[Config, Any], Replay]


def with_hindsight(make: MakeReplay, config: Config) -> MakeReplay:
    """How a replay is made, with goals told in hindsight if a configuration says so.

    Args:
      make: (config, environment) -> a replay of a `goal_store`, whose index begins with times and writers.
      config: `future` takes the goal from a step of the episode at or after the drawn one, each as likely; `final` from
        the last that is held.
    """
    if config.hindsight == "none":
        return make

    def make_told(config: Config, env: Env) -> Replay:
        replay, goals = make(config, env), env.goals
        assert goals is not None, "checked where its store was made"
        longest = min(env.spec.time_limit, config.buffer_rows)

        def sample(memory: Any, key: Array, h: Hypers) -> tuple[Transition, Any, Array]:
            batch, index, weight = replay.sample(memory, key, h)
            store = memory.store if isinstance(memory, PrioritizedMemory) else memory
            times, writers = index[:2]
            # Not to be fused: all that reads goals would make the draws anew, for each element of what it computes.
            goal_key = in_a_loop(jax.random.fold_in(key, GOAL_DRAWS))
            bits = jax.random.bits(goal_key, (2, *times.shape), jnp.uint32)
            last = last_held(store.marks, times, writers, longest)
            chosen = last if config.hindsight == "final" else times + index_from_bits(bits[0], last - times + 1)
            goal = read_rows(store.marks, chosen, writers).achieved
            anew = uniform_from_bits(bits[1]) < h.hindsight_share
            n = h.n_step_final if config.anneal_horizon else None
            told = tell(batch, store, times, writers, goal, goals, config.n_step, h.gamma, n)

            def choose(new: Array, played: Array) -> Array:
                return jnp.where(anew.reshape(-1, *[1] * (new.ndim - 1)), new, played)

            return jax.tree.map(choose, told, batch), index, weight

        return replay._replace(sample=sample)

    return make_told
