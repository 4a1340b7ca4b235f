"""Examines a run, from its state between chunks or from its newest checkpoint, without changing anything."""

import contextlib
import gc
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.build import Parts
from purejaxdqn.doctor.checks import Case
from purejaxdqn.doctor.findings import Finding, judge
from purejaxdqn.doctor.probes import make_probe
from purejaxdqn.doctor.rollouts import make_play
from purejaxdqn.doctor.samples import make_look_replay, make_look_rollout
from purejaxdqn.doctor.vitals import Vitals, vitals_of
from purejaxdqn.envs.names import loop_of
from purejaxdqn.learning.normalization import seen_of
from purejaxdqn.loops.lanes import map_lane_leaves
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.runs.folder import METRICS, Settings, finite
from purejaxdqn.runs.tables import read_table
from purejaxdqn.types import Hypers

REPORT = "doctor.json"
STREAM = 3
"""Stream of a seed's random numbers that only examinations draw from."""
EPISODES = 16
"""Greedy episodes of one examination."""
MOST_SEEDS = 4
"""Seeds of a run that are examined while it trains: the first ones."""


class Subject(NamedTuple):
    """The examined parts of a state; a part that is absent, or that a checkpoint did not keep, is ()."""

    learner: Any
    memory: Any
    env: Any
    vector_steps: Any


def subject_of(state: Any) -> Subject:
    """The parts to examine of a state of either loop."""
    return Subject(state.learner, state.memory, getattr(state, "env", ()), state.vector_steps)


def part_with(tree: Any, lane: int) -> tuple[Any, int]:
    """The part of a tree with lanes that is on the device of one lane, and the lane's index in it.

    It is moved to the first device: the probes would otherwise be compiled for each device.
    """

    def start(shard: Any) -> int:
        return shard.index[0].start or 0

    leaves = [leaf for leaf in jax.tree.leaves(tree) if np.ndim(leaf)]
    if not isinstance(leaves[0], jax.Array):
        return tree, lane
    shard = max((s for s in leaves[0].addressable_shards if start(s) <= lane), key=start)

    def local(leaf: jax.Array) -> jax.Array:
        return next(s.data for s in leaf.addressable_shards if s.device == shard.device)

    return jax.device_put(jax.tree.map(local, tree), jax.local_devices()[0]), lane - start(shard)


def take_lane(tree: Any, place: Any) -> Any:
    """One lane of a tree with lanes."""
    return map_lane_leaves(lambda leaf: leaf[place], tree)


def key_words(seed: int, iterations: int) -> np.ndarray:
    """Raw keys uint32 [3, 2] for one examination, made with NumPy to avoid compiling JAX's own functions."""
    return np.random.SeedSequence([seed, STREAM, iterations]).generate_state(6).reshape(3, 2)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Switches garbage collection off: tracing creates many objects, and took half as long again with it on."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Examiner:
    """A run's probes, compiled on first use, for every lane and every examination."""

    def __init__(self, settings: Settings, parts: Parts, episodes: int = EPISODES):
        """Compiles nothing yet.

        Args:
          settings: of the run.
          parts: of the run.
          episodes: greedy episodes of each examination.
        """
        self.settings, self.parts, self.episodes = settings, parts, episodes
        self.on_device = loop_of(settings.config.env) == "device"

    def jit(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` of one lane, jitted, with arguments (first one with lanes, lane's index, others, raw key, hypers)."""
        # The host loop has one lane and no axis for it: its replay may be too large to copy.
        take = take_lane if self.on_device else lambda tree, place: tree

        def of_lane(tree: Any, place: Any, *rest: Any) -> Any:
            *others, words, h = rest
            return fn(take(tree, place), *others, jax.random.wrap_key_data(words, impl=KEY_IMPL), h)

        return jax.jit(of_lane)

    @cached_property
    def hypers(self) -> Hypers:
        """Strongly typed, as the compiled functions expect."""
        return self.settings.hypers.as_arrays()

    @cached_property
    def look_replay(self) -> Callable[..., Any]:
        """(memory, lane's index, raw key, hypers) -> the learner's data."""
        return self.jit(make_look_replay(self.parts))

    @cached_property
    def look_rollout(self) -> Callable[..., Any]:
        """((environments, parameters, vector steps), lane's index, raw key, hypers) -> the learner's data."""
        look = make_look_rollout(self.settings.config, self.parts)
        return self.jit(lambda lane, key, h: look(lane[0], lane[1], lane[2].count, key, h))

    @cached_property
    def probe(self) -> Callable[..., Any]:
        """(learner, lane's index, data, raw key, hypers) -> what updates would do."""
        return self.jit(make_probe(self.settings.config, self.parts))

    @cached_property
    def play(self) -> Callable[..., Any]:
        """(parameters, lane's index, raw key, hypers) -> greedy episodes."""
        return self.jit(make_play(self.parts, float(self.settings.hypers.gamma), self.episodes))

    @no_collection()
    def examine(self, subject: Subject, lane: int, iterations: int) -> Vitals:
        """The vitals of one lane, which is neither changed nor donated.

        Args:
          subject: all lanes of a run.
          lane: its index.
          iterations: made by the run so far; they determine the random draws.
        """
        settings, config = self.settings, self.settings.config
        local, place = part_with(subject, lane) if self.on_device else (subject, 0)
        h, words = self.hypers, key_words(settings.seeds[lane], iterations)
        now = self.parts.replay.now(h, jnp.int32(iterations * config.updates_per_iteration))
        fed = self.look(local, place, words[0], now)
        probed = played = None
        if fed is not None:
            # A replay in the host's memory gives its batches where the learner is not.
            near = fed if config.replay_memory == "device" else jax.device_put(fed, jax.local_devices()[0])
            probed = self.probe(local.learner, place, near, words[1], h)
        if self.on_device:
            played = self.play(local.learner.params, place, words[2], h)
        seen = seen_of(local.learner).statistics
        statistics = take_lane(seen, place) if self.on_device else seen
        fed, probed, played, statistics = jax.device_get((fed, probed, played, statistics))
        return vitals_of(fed, probed, played, config, settings.hypers, self.parts.env.spec, statistics)

    def look(self, subject: Subject, place: int, words: np.ndarray, h: Hypers) -> Any:
        """The learner's data; None if it was not kept."""
        if self.settings.config.learner == "replay":
            return self.look_replay(subject.memory, place, words, h) if jax.tree.leaves(subject.memory) else None
        if not self.on_device:
            return None
        return self.look_rollout((subject.env, subject.learner.params, subject.vector_steps), place, words, h)


def judge_run(
    settings: Settings, folder: Path, env_steps: int, vitals: Mapping[int, Vitals], earlier: Collection[str] = ()
) -> list[Finding]:
    """The findings of a run at one point of its training.

    Args:
      settings: of the run.
      folder: where its metrics.csv is.
      env_steps: environment steps; later rows are ignored.
      vitals: by seed.
      earlier: checks that raised an alarm before in this run.
    """
    rows = read_table(folder, METRICS, env_steps, "run")
    return judge(
        {
            seed: Case(found, settings.config, settings.hypers, [row for row in rows if int(row["seed"]) == seed])
            for seed, found in vitals.items()
        },
        earlier,
    )


class Watch:
    """Examines a run while it trains, between chunks, and writes RUN/doctor.json; training is unaffected."""

    def __init__(self, run: Any, say: Callable[[str], None]):
        """Reads the examinations of an earlier part of a resumed run.

        Args:
          run: a `runner.Run` with a state.
          say: called with every alarm once, when it appears.
        """
        self.run, self.say = run, say
        self.examiner = Examiner(run.settings, run.parts)
        self.moments = earlier_moments(run.folder, run.env_steps)
        self.said: set[str] = {name for moment in self.moments for name in moment["alarms"]}

    def __call__(self) -> None:
        """Examines the run in its current state."""
        run, settings = self.run, self.run.settings
        lanes = range(min(MOST_SEEDS, len(settings.seeds)))
        subject = subject_of(run.state)
        vitals = {settings.seeds[lane]: self.examiner.examine(subject, lane, run.iterations) for lane in lanes}
        findings = judge_run(settings, run.folder, run.env_steps, vitals, self.said)
        alarms = [finding for finding in findings if finding.severity == "alarm"]
        self.moments.append(
            {
                "env_steps": run.env_steps,
                "alarms": [finding.name for finding in alarms],
                "vitals": {str(seed): found.as_json() for seed, found in vitals.items()},
            }
        )
        report = {"format": 1, "findings": [finding.as_json() for finding in findings], "moments": self.moments}
        write_atomically(run.folder / REPORT, json.dumps(finite(report), allow_nan=False) + "\n")
        for finding in alarms:
            if finding.name not in self.said:
                self.said.add(finding.name)
                self.say(f"doctor, at {run.env_steps:,} environment steps: {finding.sentence()}")

    def closing(self) -> str:
        """One line that sums up all examinations."""
        seen = f"no alarm in {len(self.moments)} examinations"
        alarmed = f"alarms of {', '.join(sorted(self.said))}" if self.said else seen
        return f"doctor: {alarmed} ({self.run.folder / REPORT})"


def earlier_moments(folder: Path, env_steps: int) -> list[dict[str, Any]]:
    """Examinations in a run's doctor.json before an environment step; none if it cannot be read."""
    try:
        moments = json.loads((folder / REPORT).read_text())["moments"]
        return [moment for moment in moments if moment["env_steps"] < env_steps and "alarms" in moment]
    except (OSError, ValueError, KeyError, TypeError):
        return []
