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
from purejaxdqn.atari_scores import human_normalized
from purejaxdqn.build import Parts, build
from purejaxdqn.folder import (
    CHECKPOINTS,
    EVENTS,
    SCORES,
    SUMMARY,
    Settings,
    append_metrics,
    finite,
    hardware,
    read_metrics,
    remove_unfinished,
    versions,
    write_atomically,
    write_metrics,
)
from purejaxdqn.loops.device import KEY_IMPL, make_agent
from purejaxdqn.loops.host_lanes import make_host_lanes
from purejaxdqn.loops.lanes import Lanes, lane_shapes, make_lanes, make_plan, repeat_hypers, seed_keys
from purejaxdqn.recipes import family, protocol_of
from purejaxdqn.stats import standard_error
from purejaxdqn.types import Hypers, Metrics

MARKS = tuple(int(millions * 1e6) for millions in (10, 40, 50, 100, 200))
"""Frames of the emulator at which Atari scores are compared."""
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


def mean_of(rows: list[dict[str, Any]], column: str) -> float | None:
    """Mean of a column over the rows that have it."""
    values = [row[column] for row in rows if row[column] is not None]
    return float(np.mean(values)) if values else None


def ratio(total: Any, count: Any) -> float | None:
    """A mean from a sum and a count; missing where nothing was counted."""
    return float(total) / int(count) if int(count) else None


def metric_rows(metrics: Metrics, seeds: tuple[int, ...], env_steps: int, updates: int) -> list[dict[str, Any]]:
    """One chunk's metrics as a row of metrics.csv for each seed, without its evaluation."""
    return [
        {
            "seed": seed,
            "env_steps": env_steps,
            "updates": updates,
            "episodes": int(metrics.episodes[lane]),
            "episode_return": ratio(metrics.return_sum[lane], metrics.episodes[lane]),
            "episode_length": ratio(metrics.length_sum[lane], metrics.episodes[lane]),
            "loss": ratio(metrics.loss_sum[lane], metrics.updates[lane]),
            "q_value": ratio(metrics.q_sum[lane], metrics.updates[lane]),
            "abs_td_error": ratio(metrics.td_sum[lane], metrics.updates[lane]),
            "grad_norm": ratio(metrics.grad_norm_sum[lane], metrics.updates[lane]),
            "epsilon": float(metrics.epsilon[lane]),
            "eval_return": None,
            "eval_stderr": None,
        }
        for lane, seed in enumerate(seeds)
    ]


class Best(NamedTuple):
    """Each seed's best evaluation so far, and the parameters that reached it."""

    score: np.ndarray
    """float64 [L], -inf before the first evaluation."""
    env_steps: np.ndarray
    """int64 [L], where it was reached."""
    params: dict[str, np.ndarray]
    """Leaves by path, [L, ...]."""

    def update(self, scores: np.ndarray, env_steps: int, params: dict[str, np.ndarray]) -> "Best":
        """The better of old and new for each seed; a tie goes to the new one, which has learnt for longer."""
        better = scores >= self.score
        pick = {
            name: np.where(better.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, self.params[name])
            for name, leaf in params.items()
        }
        return Best(np.where(better, scores, self.score), np.where(better, env_steps, self.env_steps), pick)


def open_lanes(settings: Settings, seeds: tuple[int, ...]) -> tuple[Parts, Lanes]:
    """A run's functions, over the lanes of the loop that its environment needs.

    Raises:
      SettingError: where the settings cannot work.
    """
    if settings.config.loop == "host":
        parts = build(settings.config)
        return parts, make_host_lanes(settings.config, parts, seeds, settings.eval_episodes, settings.keep_replay)
    agent = make_agent(settings.config)
    return agent.parts, make_lanes(agent, make_plan(agent, len(seeds)), settings.eval_episodes)


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
        self.state = self.lanes.init(self.lanes.put(self.keys), self.hypers)
        self.compile(begin)
        params = ckpt.to_flat(self.lanes.get(self.state.learner.params))
        count = len(self.settings.seeds)
        self.best = Best(np.full(count, -np.inf), np.zeros(count, np.int64), params)
        write_metrics(self.folder, [])

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
        self.compile(begin)
        write_metrics(self.folder, read_metrics(self.folder, self.env_steps))
        return None

    def compile(self, begin: float) -> None:
        """Compiles `iterate` by asking for no iterations, and counts the seconds since `begin`."""
        self.state, _ = self.lanes.iterate(self.state, self.hypers, 0)
        jax.block_until_ready(self.state)
        self.compile_seconds = time.perf_counter() - begin

    def train(self, listener: Listener, stop_requested: Callable[[], bool], on_rows: Callable[..., None]) -> None:
        """Goes on to the end of the run, chunk by chunk.

        Args:
          listener: told of the start and of every chunk.
          stop_requested: asked after every chunk.
          on_rows: given each chunk's rows (per seed), for loggers outside.

        Raises:
          Interrupted: after `stop_requested`; the run is saved.
          Diverged: at a loss that is not finite; the last checkpoint stays as it is.
          OSError: where the folder cannot be written.
        """
        config, settings = self.settings.config, self.settings
        chunk = max(1, settings.log_every // config.steps_per_iteration)
        listener.started(self.plan, settings, self.env_steps, self.compile_seconds)
        with SummaryWriter(str(self.folder / EVENTS), purge_step=self.env_steps) as events:
            while self.iterations < config.num_iterations:
                before = self.env_steps
                count = min(chunk - self.iterations % chunk, config.num_iterations - self.iterations)
                begin = time.perf_counter()
                self.state, device_metrics = self.lanes.iterate(self.state, self.hypers, count)
                metrics = self.lanes.get(device_metrics)
                seconds = time.perf_counter() - begin
                self.run_seconds += seconds
                self.iterations += count
                updates = self.iterations * config.updates_per_iteration
                rows = metric_rows(metrics, settings.seeds, self.env_steps, updates)
                self.check_finite(rows)
                finished = self.iterations == config.num_iterations
                passed = self.passed_marks(before)
                if finished or passed or crosses(before, self.env_steps, settings.eval_every):
                    self.evaluate_into(rows)
                if passed:
                    note_scores(self.folder, settings, passed, self.env_steps, rows[0]["eval_return"])
                append_metrics(self.folder, rows)
                write_events(events, rows, self.env_steps)
                self.show_input(events, rows)
                on_rows(rows)
                listener.chunk(self.report(rows, count, seconds))
                stop = stop_requested()
                if finished or stop or crosses(before, self.env_steps, settings.checkpoint_every):
                    self.save()
                if stop and not finished:
                    raise Interrupted(self.env_steps)

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

    def evaluate_into(self, rows: list[dict[str, Any]]) -> None:
        """Evaluates every seed, writes it into the rows and keeps the best parameters."""
        assert self.best is not None
        returns = self.evaluate(self.state.learner.params, EVAL_STREAM)
        if returns is None:
            return
        for row, seed_returns in zip(rows, returns, strict=True):
            row["eval_return"] = float(np.mean(seed_returns))
            row["eval_stderr"] = error_of_mean(seed_returns)
        params = ckpt.to_flat(self.lanes.get(self.state.learner.params))
        self.best = self.best.update(returns.mean(axis=1), self.env_steps, params)

    def evaluate(self, params: Any, stream: int) -> np.ndarray | None:
        """Returns of fresh episodes, float64 [L, episodes]; the same ones whenever asked at this point of the run.

        Without episodes of its own a run is scored by the newest ones of training, [1, 1]; None before the first.
        """
        if self.settings.eval_episodes == 0:
            found = self.lanes.training_return()
            return None if found is None else np.array([[found]])

        def eval_key(words: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.wrap_key_data(words, impl=KEY_IMPL), stream)
            return jax.random.key_data(jax.random.fold_in(key, self.iterations))

        keys = np.asarray(jax.vmap(eval_key)(jnp.asarray(self.keys)))
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
        }
        policy = {"last": ckpt.to_flat(self.lanes.get(self.state.learner.params)), "best": self.best.params}
        with ckpt.open_manager(self.folder / CHECKPOINTS, create=True) as manager:
            if manager.latest_step() != self.iterations:
                ckpt.save_checkpoint(manager, ckpt.Checkpoint(self.iterations, ckpt.to_flat(state), policy, progress))

    def summarize(self, command: str) -> dict[str, Any]:
        """Evaluates the last and the best parameters on fresh episodes and writes summary.json."""
        assert self.best is not None
        settings = self.settings
        best_tree = ckpt.from_flat(self.best.params, self.params_like())
        last = self.evaluate(self.state.learner.params, FINAL_STREAM)
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


def note_scores(folder: Path, settings: Settings, marks: list[int], env_steps: int, score: float | None) -> None:
    """Adds to scores.json what a game was worth when numbers of frames were passed."""
    path = folder / SCORES
    found = json.loads(path.read_text())["scores"] if path.exists() else []
    kept = [entry for entry in found if entry["frames"] not in marks]
    new = [
        {
            "frames": mark,
            "env_steps": env_steps,
            "score": score,
            "human_normalized": None if score is None else human_normalized(settings.config.env, score),
        }
        for mark in marks
    ]
    how = f"{settings.eval_episodes} games with ε = {settings.eval_epsilon:g}"
    data = {
        "env": settings.config.env,
        "seed": settings.seeds[0],
        "protocol": protocol_of(settings.config),
        "score_is": how if settings.eval_episodes else "the newest 100 games of training",
        "scores": [*kept, *new],
    }
    write_atomically(path, json.dumps(data, indent=2) + "\n")


def describe_returns(which: str, returns: np.ndarray | None, lane: int) -> dict[str, float | None]:
    """Mean and its error of one seed's returns; both missing where no episode ended."""
    if returns is None:
        return {f"{which}_mean_return": None, f"{which}_stderr": None}
    return {f"{which}_mean_return": float(returns[lane].mean()), f"{which}_stderr": error_of_mean(returns[lane])}


def error_of_mean(returns: np.ndarray) -> float | None:
    """Standard error of the mean; missing for a single episode."""
    return float(standard_error(returns)) if len(returns) > 1 else None


def finite_scores(scores: np.ndarray) -> list[float | None]:
    """Scores as JSON values, None before the first evaluation."""
    return [float(score) if np.isfinite(score) else None for score in scores]


def crosses(before: int, after: int, period: int) -> bool:
    """Whether a multiple of `period` lies in (before, after]: periods cross, they need not coincide."""
    return after // period > before // period


def write_events(events: SummaryWriter, rows: list[dict[str, Any]], env_steps: int) -> None:
    """Means over seeds to TensorBoard; missing numbers are left out."""
    names = {
        "train/episode_return": "episode_return",
        "train/episode_length": "episode_length",
        "train/loss": "loss",
        "train/q_value": "q_value",
        "train/abs_td_error": "abs_td_error",
        "train/grad_norm": "grad_norm",
        "train/epsilon": "epsilon",
        "eval/return": "eval_return",
    }
    for tag, column in names.items():
        value = mean_of(rows, column)
        if value is not None:
            events.add_scalar(tag, value, env_steps)
