"""A run from Python's side: it drives chunks of `iterate` and, between them, logs, evaluates and checkpoints."""

import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter

from purejaxdqn import checkpoint as ckpt
from purejaxdqn.build import Parts, build
from purejaxdqn.config import require
from purejaxdqn.endings import STEPS, Budget, Endings
from purejaxdqn.folder import (
    CHECKPOINTS,
    EPISODES,
    EVENTS,
    METRICS,
    SUMMARY,
    Settings,
    append_rows,
    finite,
    hardware,
    read_table,
    remove_unfinished,
    versions,
    write_atomically,
    write_table,
)
from purejaxdqn.kept import Best, Flat, load_params, pick_lanes
from purejaxdqn.loops.device import KEY_IMPL, make_agent
from purejaxdqn.loops.host_lanes import make_host_lanes
from purejaxdqn.loops.lanes import Lanes, lane_shapes, make_lanes, make_plan, repeat_hypers, seed_keys
from purejaxdqn.recipes import family
from purejaxdqn.records import (
    MARKS,
    describe_returns,
    episode_rows,
    error_of_mean,
    finite_scores,
    mean_of,
    metric_rows,
    note_scores,
    write_events,
)
from purejaxdqn.types import Hypers, Metrics

EVAL_STREAM, FINAL_STREAM = 1, 2
"""Folded into a seed's key: evaluations draw from streams of their own and never disturb training."""


class Diverged(Exception):
    """A loss that is no finite number. Its text says which seed, and at which step."""


class Interrupted(Exception):
    """A run that was asked to stop and has saved itself."""


class ChunkReport(NamedTuple):
    """Means over seeds of one chunk, for a display; None is a missing number."""

    env_steps: int
    """Environment steps of each seed so far."""
    steps_per_second: float
    """Environment steps of all seeds per second of training in this chunk."""
    episode_return: float | None
    loss: float | None
    q_value: float | None
    epsilon: float
    eval_return: float | None
    """Mean over seeds of the newest evaluation."""


class Listener(Protocol):
    """What shows a run to somebody."""

    def started(self, plan: Any, settings: Settings, env_steps: int, compile_seconds: float) -> None: ...

    def chunk(self, report: ChunkReport) -> None: ...


def open_lanes(settings: Settings, seeds: tuple[int, ...]) -> tuple[Parts, Lanes]:
    """A run's functions, over the lanes of the loop that its environment needs.

    Raises:
      SettingError: where the settings cannot work.
    """
    if settings.config.loop == "host":
        remedy = "an environment of EnvPool has --env-params.max-episode-steps of its own: use that"
        require(settings.eval_max_steps is None, "eval_max_steps", settings.eval_max_steps, remedy)
        parts = build(settings.config)
        return parts, make_host_lanes(settings.config, parts, seeds, settings.eval_episodes, settings.keep_replay)
    agent = make_agent(settings.config)
    lanes = make_lanes(agent, make_plan(agent, len(seeds)), settings.eval_episodes, settings.eval_max_steps)
    return agent.parts, lanes


class Run:
    """One run and its folder. `train` goes on from wherever the state stands."""

    def __init__(self, settings: Settings, folder: Path):
        """Builds the functions; nothing is compiled, computed or written yet.

        Raises:
          SettingError: where the settings cannot work.
        """
        self.settings, self.folder = settings, folder
        self.parts, self.lanes = open_lanes(settings, settings.seeds)
        self.lanes.check()
        self.plan = self.lanes.plan
        self.iterations = 0
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
        """The same hypers for every lane, on the devices."""
        return self.lanes.put(repeat_hypers(self.settings.hypers, len(self.settings.seeds)))

    @property
    def env_steps(self) -> int:
        """Environment steps of each seed so far."""
        return self.steps_at(self.iterations)

    def steps_at(self, iterations: int) -> int:
        """Environment steps of each seed after a number of iterations."""
        config = self.settings.config
        return config.prefill_steps * config.num_envs + iterations * config.steps_per_iteration

    def start(self) -> None:
        """Makes fresh states, and compiles."""
        begin = time.perf_counter()
        given = None if self.initial_params is None else self.lanes.put(self.initial_params)
        self.state = self.lanes.init(self.lanes.put(self.keys), self.hypers, given)
        self.compile(begin)
        params = ckpt.to_flat(self.lanes.get(self.state.learner.params))
        count = len(self.settings.seeds)
        self.best = Best(np.full(count, -np.inf), np.zeros(count, np.int64), params)
        if self.settings.count_prefill:
            self.endings.episodes += np.asarray(self.lanes.get(self.state.episodes.ended))
        for name in self.tables:
            write_table(self.folder, name, [])

    @property
    def tables(self) -> list[str]:
        """Files that every chunk adds rows to."""
        return [METRICS, *([EPISODES] if self.settings.config.log_episodes else [])]

    @cached_property
    def initial_params(self) -> Any:
        """Parameters of another run to begin with, [L, ...] in numpy, where one is named; see `load_params`."""
        name = self.settings.init_from
        if name is None:
            return None
        like = jax.eval_shape(self.parts.network.init, jax.random.key(0))
        return load_params(Path(name), self.settings.init_which, like, len(self.settings.seeds))

    def restore(self) -> None:
        """Goes back to the newest whole checkpoint, or to the beginning where there is none yet.

        Raises:
          DamagedCheckpoint: where it cannot be read.
        """
        folder = self.folder / CHECKPOINTS
        remove_unfinished(self.folder)
        ckpt.remove_unfinished(folder)
        if ckpt.latest_step(folder) is None:
            return self.start()
        begin = time.perf_counter()
        saved = ckpt.load_checkpoint(folder)
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
        for name in self.tables:
            write_table(self.folder, name, read_table(self.folder, name, self.env_steps))
        return None

    def compile(self, begin: float) -> None:
        """Compiles `iterate` by asking for no iterations, and counts the seconds since `begin`."""
        self.state, _ = self.lanes.iterate(self.state, self.hypers, 0)
        jax.block_until_ready(self.state)
        self.compile_seconds = time.perf_counter() - begin

    def train(
        self,
        listener: Listener,
        stop_requested: Callable[[], bool],
        on_rows: Callable[..., None],
        on_evaluation: Callable[[], None] = lambda: None,
    ) -> None:
        """Goes on to the end of the run, chunk by chunk.

        Args:
          listener: told of the start and of every chunk.
          stop_requested: asked after every chunk.
          on_rows: given each chunk's rows (per seed), for loggers outside.
          on_evaluation: called before the first chunk and after every evaluation; it may read the state.

        Raises:
          Interrupted: after `stop_requested`; the run is saved.
          Diverged: at a loss that is not finite; the last checkpoint stays as it is.
          OSError: where the folder cannot be written.
        """
        settings = self.settings
        listener.started(self.plan, settings, self.env_steps, self.compile_seconds)
        if self.iterations == 0:
            on_evaluation()
        with SummaryWriter(str(self.folder / EVENTS), purge_step=self.env_steps) as events:
            while not self.finished:
                before, running, episodes = self.env_steps, self.endings.running, self.endings.episodes.copy()
                metrics, iterations, seconds = self.advance()
                updates = self.iterations * settings.config.updates_per_iteration
                rows = metric_rows(metrics, settings.seeds, self.env_steps, updates)
                written = [row for row, runs in zip(rows, running, strict=True) if runs]
                self.check_finite(written)
                self.endings.train(np.asarray(metrics.episodes), np.asarray(metrics.return_max), self.env_steps)
                if self.iterations == settings.config.num_iterations:
                    self.endings.end(running, STEPS, self.env_steps)
                passed = self.passed_marks(before)
                due = self.due(before, running, episodes) if not passed else running
                if due.any():
                    self.evaluate_into(rows, due)
                self.keep_ended(running)
                if passed:
                    note_scores(self.folder, settings, passed, self.env_steps, rows[0]["eval_return"])
                append_rows(self.folder, METRICS, written)
                if settings.config.log_episodes:
                    append_rows(self.folder, EPISODES, self.episode_rows(metrics, running, episodes))
                write_events(events, written, self.env_steps)
                self.show_input(events, rows)
                on_rows(written)
                listener.chunk(self.report(written, iterations, seconds))
                if due.any():
                    on_evaluation()
                stop = stop_requested()
                if self.finished or stop or crosses(before, self.env_steps, settings.checkpoint_every):
                    self.save()
                if stop and not self.finished:
                    raise Interrupted(self.env_steps)

    @property
    def finished(self) -> bool:
        """Whether every lane has ended."""
        return self.iterations >= self.settings.config.num_iterations or not self.endings.running.any()

    def advance(self) -> tuple[Metrics, int, float]:
        """Goes on for one chunk; its metrics [L, ...] on the host, its iterations, and the seconds that it took."""
        config = self.settings.config
        chunk = max(1, self.settings.log_every // config.steps_per_iteration)
        count = min(chunk - self.iterations % chunk, config.num_iterations - self.iterations)
        begin = time.perf_counter()
        self.state, device_metrics = self.lanes.iterate(self.state, self.hypers, count)
        metrics = self.lanes.get(device_metrics)
        seconds = time.perf_counter() - begin
        self.run_seconds += seconds
        self.iterations += count
        return metrics, count, seconds

    def due(self, before: int, running: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        """Lanes to evaluate now, bool [L]: at their end, and where a period was crossed in the chunk.

        Args:
          before: environment steps before the chunk.
          running: lanes that ran then, bool [L].
          episodes: of each lane before the chunk, [L].
        """
        by_episodes = self.settings.eval_every_episodes
        if by_episodes is None:
            periodic = np.full_like(running, crosses(before, self.env_steps, self.settings.eval_every))
        else:
            periodic = self.endings.episodes // by_episodes > episodes // by_episodes
        return running & (periodic | ~self.endings.running)

    def keep_ended(self, running: np.ndarray) -> None:
        """Keeps the parameters of lanes that ended, bool [L] of those that ran in this chunk, while others go on."""
        if not self.endings.running.all():
            now = ckpt.to_flat(self.lanes.get(self.state.learner.params))
            self.kept = pick_lanes(running, now, self.kept or now)

    def last_params(self) -> Flat:
        """Each lane's newest parameters, or those at its end."""
        now = ckpt.to_flat(self.lanes.get(self.state.learner.params))
        return now if self.kept is None else self.kept

    def episode_rows(self, metrics: Metrics, running: np.ndarray, episodes: np.ndarray) -> list[dict[str, Any]]:
        """Rows of episodes.csv of the lanes that ran."""
        seeds, config = self.settings.seeds, self.settings.config
        rows = episode_rows(metrics, seeds, episodes, config.num_envs, self.settings.total_episodes)
        ran = {seed for seed, runs in zip(seeds, running, strict=True) if runs}
        return [row for row in rows if row["seed"] in ran]

    def passed_marks(self, before: int) -> list[int]:
        """Numbers of frames, at which the literature compares scores, that were passed since an environment step."""
        if family(self.settings.config.env) != "atari":
            return []
        frames = self.parts.env.frames_per_step
        return [mark for mark in MARKS if before * frames < mark <= self.env_steps * frames]

    def show_input(self, events: SummaryWriter, rows: list[dict[str, Any]]) -> None:
        """The very stack that the network is fed, wherever there was an evaluation."""
        picture = self.lanes.watch(self.state) if rows[0]["eval_return"] is not None else None
        if picture is not None:
            events.add_image("input/frames", picture, self.env_steps, dataformats="HWC")

    def check_finite(self, rows: list[dict[str, Any]]) -> None:
        """Raises `Diverged` for the first seed whose loss is not a finite number."""
        for row in rows:
            if row["loss"] is not None and not np.isfinite(row["loss"]):
                raise Diverged(
                    f"the loss of seed {row['seed']} became {row['loss']} by environment step {self.env_steps}"
                )

    def evaluate_into(self, rows: list[dict[str, Any]], due: np.ndarray) -> None:
        """Evaluates the seeds that are due, bool [L], writes it into their rows and keeps the best parameters."""
        assert self.best is not None
        returns = self.evaluate(self.state.learner.params, EVAL_STREAM)
        if returns is None:
            return
        for lane in np.flatnonzero(due):
            rows[lane]["eval_return"] = float(np.mean(returns[lane]))
            rows[lane]["eval_stderr"] = error_of_mean(returns[lane])
        params = ckpt.to_flat(self.lanes.get(self.state.learner.params))
        scores = returns.mean(axis=1)
        self.endings.evaluate(due, scores > self.best.score, self.env_steps)
        self.best = self.best.update(due, scores, self.env_steps, params)

    def evaluate(self, params: Any, stream: int) -> np.ndarray | None:
        """Returns of fresh episodes, float64 [L, episodes]; the same ones whenever asked at this point of the run.

        Without episodes of its own a run is scored by the newest ones of training, [1, 1]; None before the first.
        """
        if self.settings.eval_episodes == 0:
            found = self.lanes.training_return()
            return None if found is None else np.array([[found]])

        def eval_key(words: jax.Array, moment: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.wrap_key_data(words, impl=KEY_IMPL), stream)
            return jax.random.key_data(jax.random.fold_in(key, moment))

        # A lane that ended by itself is judged on episodes that do not depend on how long the others went on.
        early = np.array([cause not in (None, STEPS) for cause in self.endings.ended_by])
        moments = np.where(early, self.endings.env_steps, self.iterations)
        keys = np.asarray(jax.vmap(eval_key)(jnp.asarray(self.keys), jnp.asarray(moments)))
        played = self.lanes.evaluate(params, self.lanes.put(keys), self.settings.eval_epsilon)
        return np.asarray(self.lanes.get(played.returns), np.float64)

    def report(self, rows: list[dict[str, Any]], iterations: int, seconds: float) -> ChunkReport:
        """What a display needs of a chunk."""
        steps = iterations * self.settings.config.steps_per_iteration * len(self.settings.seeds)
        return ChunkReport(
            env_steps=self.env_steps,
            steps_per_second=steps / seconds,
            episode_return=mean_of(rows, "episode_return"),
            loss=mean_of(rows, "loss"),
            q_value=mean_of(rows, "q_value"),
            epsilon=rows[0]["epsilon"],
            eval_return=mean_of(rows, "eval_return"),
        )

    def save(self) -> None:
        """Saves everything that going on needs."""
        assert self.best is not None
        state = self.lanes.saved(self.state)
        progress = {
            "run_seconds": self.run_seconds,
            "env_steps": self.env_steps,
            "best_score": finite_scores(self.best.score),
            "best_env_steps": [int(step) for step in self.best.env_steps],
            "endings": self.endings.saved(),
        }
        policy = {"last": self.last_params(), "best": self.best.params}
        with ckpt.open_manager(self.folder / CHECKPOINTS, create=True) as manager:
            if manager.latest_step() != self.iterations:
                ckpt.save_checkpoint(manager, ckpt.Checkpoint(self.iterations, ckpt.to_flat(state), policy, progress))

    def summarize(self, command: str) -> dict[str, Any]:
        """Evaluates the last and the best parameters on fresh episodes and writes summary.json."""
        assert self.best is not None
        settings = self.settings
        best_tree = ckpt.from_flat(self.best.params, self.params_like())
        last_tree = ckpt.from_flat(self.last_params(), self.params_like())
        last = self.evaluate(self.lanes.put(last_tree), FINAL_STREAM)
        best = self.evaluate(self.lanes.put(best_tree), FINAL_STREAM)
        if settings.eval_episodes == 0:
            # Training says nothing more of parameters that it has left behind.
            best = self.best.score[:, None] if np.isfinite(self.best.score).all() else None
        trained = self.iterations * settings.config.steps_per_iteration * len(settings.seeds)
        summary = {
            "env": settings.config.env,
            "recipe": settings.recipe,
            "algo": settings.algo,
            "seeds": list(settings.seeds),
            "eval_epsilon": settings.eval_epsilon,
            "env_steps_per_seed": self.env_steps,
            "updates_per_seed": self.iterations * settings.config.updates_per_iteration,
            "compile_seconds": round(self.compile_seconds, 3),
            "run_seconds": round(self.run_seconds, 3),
            "steps_per_second": round(trained / max(self.run_seconds, 1e-9), 1),
            "evaluation": [
                {
                    "seed": seed,
                    "episodes": settings.eval_episodes,
                    **describe_returns("last", last, lane),
                    **describe_returns("best", best, lane),
                    "best_env_steps": int(self.best.env_steps[lane]),
                    "env_steps": int(self.endings.env_steps[lane]),
                    "training_episodes": int(self.endings.episodes[lane]),
                    "ended_by": self.endings.ended_by[lane],
                }
                for lane, seed in enumerate(settings.seeds)
            ],
            "plan": self.plan.describe(),
            "hardware": hardware(),
            "versions": versions(),
            "command": command,
        }
        write_atomically(self.folder / SUMMARY, json.dumps(finite(summary), indent=2, allow_nan=False) + "\n")
        return summary

    def params_like(self) -> Any:
        """Shapes of the parameters of all lanes."""
        one_lane = jax.eval_shape(self.parts.network.init, jax.random.key(0))
        return lane_shapes(one_lane, len(self.settings.seeds))


def crosses(before: int, after: int, period: int) -> bool:
    """Whether a multiple of `period` lies in (before, after]: periods cross, they need not coincide."""
    return after // period > before // period
