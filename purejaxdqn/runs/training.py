"""Training on the host's side: chunks of `iterate` and, between them, evaluation, early stopping and best parameters.

Every lane is a seed with its hypers; whether it is one of a run's seeds or of a sweep's thousands does not show here.
What is written of it is for `runner` and `sweep` to say.
"""

import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.build import Parts, build
from purejaxdqn.envs.names import loop_of
from purejaxdqn.loops.data_parallel import make_data_lanes
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.host_lanes import make_host_lanes
from purejaxdqn.loops.lanes import Lanes, lane_shapes, make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import NoRoom, make_plan
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.recipes.algorithms import family
from purejaxdqn.runs import checkpoint as ckpt
from purejaxdqn.runs.best_params import Best, Flat, load_params, pick_lanes
from purejaxdqn.runs.early_stopping import DIVERGED, STEPS, Budget, Endings
from purejaxdqn.runs.folder import Settings
from purejaxdqn.runs.program_cache import compiler_of
from purejaxdqn.runs.records import MARKS, error_of_mean, finite_scores
from purejaxdqn.types import Hypers, Metrics

EVAL_STREAM, FINAL_STREAM = 2**31, 2**31 + 1
"""Folded into a seed's key: evaluations draw from streams of their own and never disturb training. `fold_in(key, i)` is
`split(key, n)[i]`, so these lie beyond whatever a key is split into: with 1 and 2 they were `init`'s own keys."""


class Chunk(NamedTuple):
    """What one chunk of training came to; arrays are in numpy, [L]."""

    metrics: Metrics
    """[L, ...]."""
    running: np.ndarray
    """bool: lanes that ran in it."""
    episodes: np.ndarray
    """Episodes of each lane before it."""
    due: np.ndarray
    """bool: lanes to evaluate after it."""
    eval_return: np.ndarray
    """float64: mean return of an evaluation after it, NaN where there was none."""
    eval_stderr: np.ndarray
    """float64: its standard error, NaN for a single episode."""
    before: int
    """Environment steps of each lane before it."""
    iterations: int
    seconds: float
    """Of training, evaluation left out."""


def open_lanes(settings: Settings, seeds: tuple[int, ...], block: int | None = None) -> tuple[Parts, Lanes]:
    """A run's functions, over the lanes of the loop that its environment needs; of `block` lanes vmapped together.

    Raises:
      SettingError: where the settings cannot work.
    """
    if loop_of(settings.config.env) == "host":
        parts = build(settings.config)
        episodes, most = settings.eval_episodes, settings.eval_max_steps
        keep = settings.keep_replay
        return parts, make_host_lanes(settings.config, parts, seeds, episodes, keep, eval_max_steps=most)
    if settings.config.data_parallel > 1:
        return make_data_lanes(settings.config, seeds, settings.eval_episodes, settings.eval_max_steps)
    agent = make_agent(settings.config)
    plan, compiler = make_plan(agent, len(seeds), block), compiler_of(settings.config)
    lanes = make_lanes(agent, plan, settings.eval_episodes, settings.eval_max_steps, compiler)
    return agent.parts, lanes


def open_fitting(settings: Settings, seeds: tuple[int, ...], block: int | None = None) -> tuple[Parts, Lanes]:
    """`open_lanes`, but half as many lanes are vmapped together, and half of these, until their programs fit."""
    parts, lanes = open_lanes(settings, seeds, block)
    try:
        lanes.check()
    except NoRoom:
        return open_fitting(settings, seeds, -(-lanes.plan.block // 2))
    return parts, lanes


class Training:
    """Lanes of one `Config`, from wherever their state stands."""

    def __init__(self, settings: Settings, parts: Parts, lanes: Lanes, hypers: Hypers | None = None):
        """Nothing is compiled, computed or written yet.

        Args:
          settings: of all lanes; `seeds` has the seed of each.
          parts: functions of the run.
          lanes: as many as there are seeds.
          hypers: of each lane, [L] in numpy; by default those of the settings for all.
        """
        self.settings, self.parts, self.lanes = settings, parts, lanes
        self.plan = lanes.plan
        self.lane_hypers = repeat_hypers(settings.hypers, len(settings.seeds)) if hypers is None else hypers
        self.iterations = 0
        self.tell: Callable[[str], None] = lambda phase: None
        """Told what the run is doing, `training` or `evaluating`, whenever that changes."""
        self.run_seconds = 0.0
        self.compile_seconds = 0.0
        self.state: Any = None
        self.best: Best | None = None
        budget = Budget(settings.total_episodes, settings.stop_at_return, settings.patience)
        self.endings = Endings(budget, len(settings.seeds))
        self.kept: Flat | None = None
        """Parameters of lanes that ended before the others, as they were then."""

    @cached_property
    def keys(self) -> np.ndarray:
        """uint32 [L, 2]."""
        return seed_keys(list(self.settings.seeds))

    @cached_property
    def hypers(self) -> Hypers:
        """Of each lane, on the devices."""
        return self.lanes.put(self.lane_hypers)

    @property
    def env_steps(self) -> int:
        """Environment steps of each lane so far."""
        return self.steps_at(self.iterations)

    @property
    def updates(self) -> int:
        """Gradient updates of each lane so far."""
        return self.iterations * self.settings.config.updates_per_iteration

    @property
    def chunk_iterations(self) -> int:
        """Iterations of one chunk."""
        return self.settings.chunk_iterations

    def steps_at(self, iterations: int) -> int:
        """Environment steps of each lane after a number of iterations."""
        config = self.settings.config
        return config.prefill_steps * config.num_envs + iterations * config.steps_per_iteration

    @cached_property
    def initial_params(self) -> Any:
        """Parameters of another run to begin with, [L, ...] in numpy, where one is named; see `load_params`."""
        name = self.settings.init_from
        if name is None:
            return None
        like = jax.eval_shape(self.parts.network.init, jax.random.key(0))
        return load_params(Path(name), self.settings.init_which, like, len(self.settings.seeds))

    def begin(self) -> None:
        """Makes fresh states, and compiles."""
        begin = time.perf_counter()
        given = None if self.initial_params is None else self.lanes.put(self.initial_params)
        keys = self.lanes.put(self.keys)
        self.lanes.compile(keys, self.hypers, given)
        self.state = self.lanes.init(keys, self.hypers, given)
        self.compile(begin)
        params = ckpt.to_flat(self.lanes.get(self.state.learner.policy_params))
        count = len(self.settings.seeds)
        self.best = Best(np.full(count, -np.inf), np.zeros(count, np.int64), params)
        if self.settings.count_prefill:
            # Of a lane in shards, those of all of them.
            ended = np.asarray(self.lanes.get(self.state.episodes.ended))
            self.endings.episodes += ended.reshape(len(self.endings.episodes), -1).sum(axis=1)

    def compile(self, begin: float) -> None:
        """Compiles `iterate` by asking for no iterations, and counts the seconds since `begin`."""
        self.state, _ = self.lanes.iterate(self.state, self.hypers, 0)
        jax.block_until_ready(self.state)
        self.compile_seconds = time.perf_counter() - begin

    def advance(self, until: int | None = None) -> Chunk:
        """Goes on for one chunk, counts what ended in it and evaluates the lanes that are due.

        Args:
          until: iterations beyond which it does not go; by default those of the run.
        """
        config = self.settings.config
        last = config.num_iterations if until is None else until
        count = min(self.chunk_iterations - self.iterations % self.chunk_iterations, last - self.iterations)
        before, running, episodes = self.env_steps, self.endings.running, self.endings.episodes.copy()
        begin = time.perf_counter()
        self.state, device_metrics = self.lanes.iterate(self.state, self.hypers, count)
        metrics = self.lanes.get(device_metrics)
        seconds = time.perf_counter() - begin
        self.run_seconds += seconds
        self.iterations += count
        self.endings.train(np.asarray(metrics.episodes), np.asarray(metrics.return_max), self.env_steps)
        self.endings.end(running & ~np.isfinite(np.asarray(metrics.loss_sum)), DIVERGED, self.env_steps)
        if self.iterations == config.num_iterations:
            self.endings.end(running, STEPS, self.env_steps)
        missing = np.full(len(running), np.nan)
        chunk = Chunk(metrics, running, episodes, running & False, missing, missing, before, count, seconds)
        chunk = self.judged(chunk._replace(due=self.due(chunk)))
        if not self.endings.running.all():
            now = ckpt.to_flat(self.lanes.get(self.state.learner.policy_params))
            self.kept = pick_lanes(running, now, self.kept or now)
        return chunk

    def due(self, chunk: Chunk) -> np.ndarray:
        """Lanes to evaluate after a chunk, bool [L]: at their end, and where a period was crossed in it.

        At marks where the literature compares scores all are; one that diverged never is.
        """
        fit = chunk.running & ~self.endings.diverged
        if self.passed_marks(chunk.before):
            return fit
        by_episodes = self.settings.eval_every_episodes
        if by_episodes is None:
            crossed = crosses(chunk.before, self.env_steps, self.settings.eval_every)
            periodic = np.full_like(chunk.running, crossed)
        else:
            periodic = self.endings.episodes // by_episodes > chunk.episodes // by_episodes
        return fit & (periodic | ~self.endings.running)

    def passed_marks(self, before: int) -> list[int]:
        """Numbers of frames, at which the literature compares scores, that were passed since an environment step."""
        if family(self.settings.config.env) != "atari":
            return []
        frames = self.parts.env.frames_per_step
        return [mark for mark in MARKS if before * frames < mark <= self.env_steps * frames]

    def judged(self, chunk: Chunk) -> Chunk:
        """Evaluates the lanes that are due, and keeps the best parameters."""
        if not chunk.due.any():
            return chunk
        assert self.best is not None
        returns = self.evaluate(self.state.learner.policy_params, EVAL_STREAM)
        if returns is None:
            return chunk
        scores = returns.mean(axis=1)
        errors = [error_of_mean(returns[lane]) for lane in range(len(returns))]
        params = ckpt.to_flat(self.lanes.get(self.state.learner.policy_params))
        self.endings.evaluate(chunk.due, scores > self.best.score, self.env_steps)
        self.best = self.best.update(chunk.due, scores, self.env_steps, params)
        return chunk._replace(
            eval_return=np.where(chunk.due, scores, np.nan),
            eval_stderr=np.where(chunk.due, np.array(errors, float), np.nan),
        )

    def evaluate(self, params: Any, stream: int) -> np.ndarray | None:
        """Returns of fresh episodes, float64 [L, episodes]; the same ones whenever asked at this point of the run.

        Without episodes of its own a run is scored by the newest ones of training, [1, 1]; None before the first.
        """
        if self.settings.eval_episodes == 0:
            found = self.lanes.training_return()
            return None if found is None else np.array([[found]])

        # A lane that ended by itself is judged on episodes that do not depend on how long the others went on.
        early = np.array([cause not in (None, STEPS) for cause in self.endings.ended_by])
        moments = np.where(early, self.endings.env_steps, self.iterations)
        keys = np.asarray(eval_keys(self.keys, moments.astype(np.uint32), np.uint32(stream)))
        self.tell("evaluating")
        played = self.lanes.evaluate(params, self.lanes.put(keys), self.settings.eval_epsilon)
        returns = np.asarray(self.lanes.get(played.returns), np.float64)
        self.tell("training")
        return returns

    def final_returns(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Returns of the last and of the best parameters over fresh episodes, [L, episodes] each; see `evaluate`."""
        assert self.best is not None
        best_tree = ckpt.from_flat(self.best.params, self.params_like())
        last_tree = ckpt.from_flat(self.last_params(), self.params_like())
        last = self.evaluate(self.lanes.put(last_tree), FINAL_STREAM)
        best = self.evaluate(self.lanes.put(best_tree), FINAL_STREAM)
        if self.settings.eval_episodes == 0:
            # Training says nothing more of parameters that it has left behind.
            best = self.best.score[:, None] if np.isfinite(self.best.score).all() else None
        return last, best

    def last_params(self) -> Flat:
        """Each lane's newest parameters, or those at its end."""
        now = ckpt.to_flat(self.lanes.get(self.state.learner.policy_params))
        return now if self.kept is None else self.kept

    def params_like(self) -> Any:
        """Shapes of the parameters of all lanes."""
        one_lane = jax.eval_shape(self.parts.network.init, jax.random.key(0))
        return lane_shapes(one_lane, len(self.settings.seeds))

    @property
    def finished(self) -> bool:
        """Whether every lane has ended."""
        return self.iterations >= self.settings.config.num_iterations or not self.endings.running.any()

    def snapshot(self) -> ckpt.Checkpoint:
        """Everything that going on needs."""
        assert self.best is not None
        progress = {
            "run_seconds": self.run_seconds,
            "env_steps": self.env_steps,
            "best_score": finite_scores(self.best.score),
            "best_env_steps": [int(step) for step in self.best.env_steps],
            "endings": self.endings.saved(),
        }
        policy = {"last": self.last_params(), "best": self.best.params}
        return ckpt.Checkpoint(self.iterations, ckpt.to_flat(self.lanes.saved(self.state)), policy, progress)

    def go_back(self, saved: ckpt.Checkpoint) -> None:
        """Goes back to a snapshot, and compiles.

        Raises:
          DamagedCheckpoint: where it is of other settings.
        """
        begin = time.perf_counter()
        self.state = self.lanes.restored(ckpt.from_flat(saved.state, self.lanes.like), self.hypers)
        self.iterations = saved.step
        progress = saved.progress
        self.run_seconds = progress["run_seconds"]
        score = np.array([-np.inf if value is None else value for value in progress["best_score"]])
        self.best = Best(score, np.array(progress["best_env_steps"]), saved.policy["best"])
        if "endings" in progress:
            longer = self.iterations < self.settings.config.num_iterations
            self.endings.restore(progress["endings"], again=STEPS if longer else None)
        if not self.endings.running.all():
            self.kept = saved.policy["last"]
        self.compile(begin)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None))
def eval_keys(words: jax.Array, moment: jax.Array, stream: jax.Array) -> jax.Array:
    """Keys of evaluations, uint32 [L, 2], from those of seeds and uint32 [L] and [], each folded in."""
    key = jax.random.fold_in(jax.random.wrap_key_data(words, impl=KEY_IMPL), stream)
    return jax.random.key_data(jax.random.fold_in(key, moment))


def crosses(before: int, after: int, period: int) -> bool:
    """Whether a multiple of `period` lies in (before, after]: periods cross, they need not coincide."""
    return after // period > before // period
