"""Population-based training over lanes (Jaderberg et al. 2017, arXiv:1711.09846): who copies whom, what changes then.

The settings of one seed are a population. After each generation, a share of the run, members that trail become copies
of others, and the copies' hyperparameters are multiplied. Decisions are a function of the population's seed, the
generation and its scores; the copying is a gather of lanes on the devices, by the program of the first generation.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import stdtr

from purejaxdqn.bounds import check
from purejaxdqn.config import require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.loops.lanes import map_lane_leaves
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.runs.folder import Settings
from purejaxdqn.runs.sweep_folder import as_columns, join_columns, population_columns
from purejaxdqn.runs.training import Training
from purejaxdqn.sweep.layout import Layout
from purejaxdqn.sweep.values import Axis, is_traced, varied
from purejaxdqn.types import Hypers, State

Exchange = Callable[..., tuple[State, Hypers]]
"""See `make_exchange`."""

ELITE = 0.2
"""Share of a population that truncation copies from, and that it replaces (Jaderberg et al. 2017, section 4.1.1)."""
LEVEL = 0.05
"""Of the test of `t_test`, as there."""
FACTORS = (0.8, 1.25)
"""What a copy's hyperparameters are multiplied by, each with a probability of one half."""
FROM_ONE = ("gamma", "gamma_start", "average_decay")
"""Of these the distance from 1 is multiplied: 1 / (1 - γ) is a horizon in steps."""
STREAM = 2**33
"""Sets the draws of populations apart from others of the same seed."""


class Explored(NamedTuple):
    """A hyperparameter that copies change."""

    field: str
    low: float
    high: float
    """Both ends are those of the values that members begin with, and are never left."""


def explored(axes: Sequence[Axis]) -> tuple[Explored, ...]:
    """The hyperparameters that a population explores, with their bounds.

    Raises:
      SettingError: if there are none, an end of a range is no value of its field, or something compiled in varies.
    """
    found = []
    for axis in varied(axes):
        remedy = "it is compiled in, and the members of a population share one program: give it one value"
        require(is_traced(axis.field), axis.field, " ".join(map(str, axis.values)), remedy)
        ends = (axis.drawn.low, axis.drawn.high) if axis.drawn else (min(axis.values), max(axis.values))
        for end in ends:
            check({axis.field: end})
        found.append(Explored(axis.field, *ends))
    remedy = "nothing varies, so there is nothing to explore: give a flag several values, or draw them by --random N"
    require(len(found) > 0, "pbt", True, remedy)
    return tuple(found)


def check_populations(axes: Sequence[Axis], settings: Settings, count: int) -> None:
    """Raises `SettingError` if a sweep's settings cannot be populations.

    Args:
      axes: of the sweep.
      settings: of its lanes, for what may end one early.
      count: members of a population.
    """
    explored(axes)
    require(count > 1, "pbt", True, "there is one setting, and a population has at least two members")
    for name in ("total_episodes", "stop_at_return", "patience"):
        value = getattr(settings, name)
        require(
            value is None,
            name,
            value,
            "no member of a population ends before the others: leave it out, if need be with another --recipe",
        )
    remedy = "its environments step on the host, where lanes cannot be copied: use one in JAX, or leave out --pbt"
    require(loop_of(settings.config.env) == "device", "env", settings.config.env, remedy)


class Scores(NamedTuple):
    """Of a population's newest evaluations."""

    mean: np.ndarray
    """[N], -inf for a member that diverged."""
    error: np.ndarray
    """[N], standard error of the mean; NaN for a member that diverged, or of one episode."""
    episodes: int
    """That each mean is of."""


def truncation(found: Scores, rng: np.random.Generator) -> np.ndarray:
    """For each member, int [N], whom it would copy: each of the worst fifth one of the best fifth, others themselves.

    Args:
      found: a member that diverged is among the worst, however many there are.
      rng: draws one of the best for each member.
    """
    scores = found.mean
    count = max(1, round(ELITE * len(scores)))
    order = np.argsort(-scores, kind="stable")
    wanted = order[rng.integers(count, size=len(scores))]
    worst = np.isin(np.arange(len(scores)), order[-count:]) | np.isneginf(scores)
    return np.where(worst, wanted, np.arange(len(scores)))


def tournament(found: Scores, rng: np.random.Generator) -> np.ndarray:
    """For each member, int [N], whom it would copy: another one drawn uniformly; one that diverged, the best of all."""
    count = len(found.mean)
    others = (np.arange(count) + 1 + rng.integers(count - 1, size=count)) % count
    return np.where(np.isneginf(found.mean), np.argmax(found.mean), others)


def t_test(found: Scores, rng: np.random.Generator) -> np.ndarray:
    """A tournament whose winner has to be better by more than chance: Welch's test of the episodes, one-sided, at
    `LEVEL` (Jaderberg et al. 2017, section 4.1.1). Where returns are mostly noise, nobody is copied."""
    wanted, own = tournament(found, rng), np.arange(len(found.mean))
    # One that diverged has no spread, and loses to whatever has a score.
    squares = np.nan_to_num(np.square(found.error))
    variance = squares + squares[wanted]
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (found.episodes - 1) * np.square(variance) / (np.square(squares) + np.square(squares[wanted]))
        chance = stdtr(freedom, (found.mean - found.mean[wanted]) / np.sqrt(variance))
    return np.where((chance < LEVEL) | (variance == 0.0), wanted, own)


SELECTIONS: dict[str, Callable[[Scores, np.random.Generator], np.ndarray]] = {
    "truncation": truncation,
    "tournament": tournament,
    "t-test": t_test,
}


class Decision(NamedTuple):
    """What a population does after a generation."""

    parents: np.ndarray
    """int [N]: the member that each is a copy of from now on, itself for most."""
    factors: np.ndarray
    """float64 [N, hyperparameters]: what a copy's are multiplied by, 1 where nothing is copied."""


def decide(selection: str, scores: Scores, fields: int, seed: int, generation: int) -> Decision:
    """Who copies whom, and how the copies' hyperparameters change; nobody copies one that is not better.

    Args:
      selection: name in `SELECTIONS`.
      scores: of the newest evaluations; NaN for a member that diverged.
      fields: hyperparameters explored.
      seed: of the population.
      generation: that has ended, from 0.
    """
    rng = np.random.default_rng([STREAM, seed, generation])
    known = np.where(np.isnan(scores.mean), -np.inf, scores.mean)
    wanted = SELECTIONS[selection](scores._replace(mean=known), rng)
    parents = np.where(known[wanted] > known, wanted, np.arange(len(known)))
    factors = rng.choice(FACTORS, size=(len(known), fields))
    return Decision(parents, np.where((parents != np.arange(len(known)))[:, None], factors, 1.0))


def multiplied(values: Array, factors: Array, of: Explored) -> Array:
    """Values [L] times factors [L] within their bounds; those with a factor of 1 stay as they are."""
    anchor = 1.0 if of.field in FROM_ONE else 0.0
    moved = jnp.clip(anchor + (values - anchor) * factors, of.low, of.high)
    whole = jnp.issubdtype(values.dtype, jnp.integer)
    return jnp.where(factors == 1.0, values, (jnp.round(moved) if whole else moved).astype(values.dtype))


def make_exchange(fields: Sequence[Explored], state: State, hypers: Hypers) -> Exchange:
    """The copying of lanes on the devices, jitted.

    Args:
      fields: hyperparameters explored.
      state: of all lanes, for its shardings.
      hypers: likewise.

    Returns:
      (state, hypers [L], parents int32 [L], names uint32 [L], factors by field float32 [L]) -> state, hypers; those
      given are donated. A copy has everything of its parent but the key: its own, with its name folded in, so that it
      draws random numbers of its own.
    """
    kept = jax.tree.map(lambda leaf: leaf.sharding, (state, hypers))

    @partial(jax.jit, donate_argnums=(0, 1), out_shardings=kept)
    def exchange(
        state: State, hypers: Hypers, parents: Array, names: Array, factors: dict[str, Array]
    ) -> tuple[State, Hypers]:
        own = fold_names(state.key_data, names)
        moved = map_lane_leaves(lambda leaf: leaf[parents], state)
        copied = factors[fields[0].field] != 1.0
        state = moved.replace(key_data=jnp.where(copied[:, None], own, state.key_data))
        inherited = jax.tree.map(lambda leaf: leaf[parents], hypers)
        changed = {of.field: multiplied(getattr(inherited, of.field), factors[of.field], of) for of in fields}
        return state, inherited.replace(**changed)

    return exchange


@jax.vmap
def fold_names(key_data: Array, name: Array) -> Array:
    """Keys uint32 [L, 2] with whole numbers [L] folded in."""
    return jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(key_data, impl=KEY_IMPL), name))


class Populations:
    """The populations of lanes that are trained side by side, and their history."""

    def __init__(
        self,
        fields: Sequence[Explored],
        options: Mapping[str, Any],
        layout: Layout,
        lanes: Sequence[int],
        programs: dict[int, Exchange],
    ):
        """No generation has ended.

        Args:
          fields: hyperparameters explored.
          options: of the sweep.
          layout: of the sweep.
          lanes: whole populations.
          programs: what `make_exchange` made, by the number of lanes with padding; filled here, and shared.
        """
        self.programs = programs
        self.fields, self.selection, self.every = tuple(fields), options["pbt_selection"], options["pbt_every"]
        self.layout, self.lanes = layout, np.array(lanes)
        self.seeds = np.array([layout.seed_of(lane) for lane in lanes])
        self.rows: list[dict[str, np.ndarray]] = []
        """Of population.npz: a part for the start, and for each generation."""

    @property
    def kinds(self) -> dict[str, str]:
        """Columns of the history."""
        return population_columns([of.field for of in self.fields])

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Columns of population.npz."""
        return join_columns(self.rows, self.kinds)

    def generation(self, training: Training, iterations: int) -> int:
        """Generations that have ended after so many iterations: whole chunks, each at least one."""
        chunk, total = training.chunk_iterations, training.settings.config.num_iterations
        return iterations // max(chunk, round(self.every * total / chunk) * chunk)

    def is_due(self, training: Training, newest: int) -> bool:
        """Whether a generation has ended in the newest iterations; at the end of the run none is needed."""
        now = training.iterations
        ended = self.generation(training, now) > self.generation(training, now - newest)
        return ended and now < training.settings.config.num_iterations

    def begin(self, training: Training) -> None:
        """Notes what members begin with."""
        self.note(training, np.full(len(self.lanes), np.nan), np.arange(len(self.lanes)))

    def restore(self, training: Training, history: Mapping[str, np.ndarray]) -> None:
        """Takes up a history, and gives lanes the hyperparameters that they had at its end."""
        self.rows = [dict(history)]
        newest = {of.field: history[of.field][-len(self.lanes) :] for of in self.fields}
        given = np.arange(len(training.settings.seeds)) % len(self.lanes)
        held = training.lane_hypers
        changed = {name: values[given].astype(getattr(held, name).dtype) for name, values in newest.items()}
        training.lane_hypers = held.replace(**changed)  # type: ignore[attr-defined]

    def step(self, training: Training, scores: np.ndarray, errors: np.ndarray) -> None:
        """Ends a generation: copies lanes, changes the copies' hyperparameters and notes both.

        Args:
          training: of the lanes, padded with copies of them.
          scores: of the lanes, [L] without padding; NaN where one diverged.
          errors: their standard errors, likewise.
        """
        count = len(self.lanes)
        parents, factors = np.arange(count), np.ones((count, len(self.fields)))
        generation = self.generation(training, training.iterations) - 1
        for seed in np.unique(self.seeds):
            members = np.flatnonzero(self.seeds == seed)
            found = Scores(scores[members], errors[members], training.settings.eval_episodes)
            decision = decide(self.selection, found, len(self.fields), int(seed), generation)
            parents[members], factors[members] = members[decision.parents], decision.factors
        # Padding mirrors the lanes that it was filled up with.
        given = np.arange(len(training.settings.seeds)) % count
        if (parents != np.arange(count)).any():
            self.copy(training, parents[given], factors[given])
        self.note(training, scores, parents)

    def copy(self, training: Training, parents: np.ndarray, factors: np.ndarray) -> None:
        """Makes lanes copies of others, int [L], with multiplied hyperparameters, factors [L, hyperparameters]."""
        width, put = len(parents), training.lanes.put
        if width not in self.programs:
            self.programs[width] = make_exchange(self.fields, training.state, training.hypers)
        names = np.resize(self.lanes, width).astype(np.uint32)
        by_field = {of.field: factors[:, i].astype(np.float32) for i, of in enumerate(self.fields)}
        training.state, training.hypers = self.programs[width](
            training.state, training.hypers, put(parents.astype(np.int32)), put(names), put(by_field)
        )
        training.lane_hypers = training.lanes.get(training.hypers)
        assert training.best is not None
        training.best = training.best.take(parents)
        training.endings.take(parents)
        training.kept = None

    def note(self, training: Training, scores: np.ndarray, parents: np.ndarray) -> None:
        """Adds a row for each lane to the history."""
        count = len(self.lanes)
        columns = {
            "lane": self.lanes,
            "setting": [self.layout.setting_of(lane).number for lane in self.lanes],
            "seed": self.seeds,
            "env_steps": np.full(count, training.env_steps),
            "score": scores,
            "parent": self.lanes[parents],
            **{of.field: np.asarray(getattr(training.lane_hypers, of.field))[:count] for of in self.fields},
        }
        self.rows.append(as_columns(columns, self.kinds))
