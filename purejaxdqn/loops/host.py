"""The host loop: environments step on the host, and acting, replay and learning are the device's.

Each vector step transfers one small batch to the device and one batch of actions back, and nothing else. With
`Config.overlap` the device learns while the environments step. The resulting lag is fixed: an action at vector step t
comes from parameters trained on the rows up to t - 2, instead of t - 1 in the sequential loop.
"""

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from purejaxdqn.build import Parts
from purejaxdqn.config import Config
from purejaxdqn.envs.actions import check_masks
from purejaxdqn.envs.interface import HostStep
from purejaxdqn.learn import LearnMetrics, no_metrics
from purejaxdqn.loops.evaluation import MAX_STEPS, Evaluation
from purejaxdqn.loops.host_functions import Actor, HostState, make_host_functions, pack
from purejaxdqn.loops.host_memory import DevicePhase, HostPhase
from purejaxdqn.loops.host_sharding import spread_functions
from purejaxdqn.loops.sharding import Spread
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.networks.windows import begin
from purejaxdqn.observations.leaves import zeros
from purejaxdqn.types import Hypers, Metrics, Row, counter

REFILL = 2**30
"""Index of the first random draw while a resumed run fills a new replay."""
RECENT = 100
"""Episodes of training whose mean return is the score of a run that is not evaluated (Machado et al. 2018)."""
EVAL_ENVS = 16
"""Environments side by side in an evaluation."""


class Chunk:
    """What the host counts over one chunk."""

    def __init__(self) -> None:
        self.episodes, self.env_steps, self.return_sum, self.length_sum = 0, 0, 0.0, 0
        self.return_max = -np.inf

    def follow(self, step: HostStep, returns: np.ndarray, lengths: np.ndarray) -> None:
        """Adds one step of some environments, and the episodes that it ended."""
        self.episodes += len(returns)
        self.env_steps += int(np.sum(~step.begins))
        self.return_sum += float(returns.sum())
        self.return_max = max([self.return_max, *returns])
        self.length_sum += int(lengths.sum())

    def metrics(self, learned: LearnMetrics, updates: int, epsilon: float) -> Metrics:
        """The chunk's metrics with those of learning, [] each."""
        found: dict[str, Any] = {
            "episodes": np.int32(self.episodes),
            "return_sum": np.float32(self.return_sum),
            "return_max": np.float32(self.return_max),
            "length_sum": np.float32(self.length_sum),
            "env_steps": np.int32(self.env_steps),
            "updates": np.int32(updates),
            "loss_sum": learned.loss,
            "q_sum": learned.q,
            "td_sum": learned.abs_td_error,
            "grad_norm_sum": learned.grad_norm,
            "epsilon": np.float32(epsilon),
            "log": (),
        }
        return Metrics(**found)


class Tally:
    """Episodes of a number of environments, in raw rewards and whole games."""

    def __init__(self, num_envs: int):
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)

    def follow(self, envs: slice, step: HostStep) -> tuple[np.ndarray, np.ndarray]:
        """Adds one step of some environments; the returns and lengths of the episodes that it ended."""
        valid = ~step.begins
        self.returns[envs] += np.where(valid, step.reward, 0.0)
        self.lengths[envs] += valid
        done = step.ended
        ended = self.returns[envs][done], self.lengths[envs][done]
        self.returns[envs] = np.where(done, 0.0, self.returns[envs])
        self.lengths[envs] = np.where(done, 0, self.lengths[envs])
        return ended


class HostLoop:
    """Drives the environments and the device, as the module describes. It owns the environments of one run."""

    def __init__(self, config: Config, parts: Parts, seed: int, spread: Spread | None = None):
        """Opens and computes nothing yet.

        Args:
          config: static settings.
          parts: from `build`.
          seed: of the environments.
          spread: placement of the shards, for a run that has some.
        """
        self.config, self.parts, self.seed = config, parts, seed
        functions = make_host_functions(config, parts)
        self.functions = functions if spread is None else spread_functions(config, parts, functions, spread)
        self.groups = range(parts.env.num_groups)
        self.pool: Any = None
        nearby = config.replay_memory == "device"
        self.phase = DevicePhase(self.functions) if nearby else HostPhase(config, self.functions, parts.replay)
        size = config.num_envs // len(self.groups)
        self.slices = [slice(group * size, (group + 1) * size) for group in self.groups]
        self.tally = Tally(config.num_envs)
        self.recent: deque[float] = deque(maxlen=RECENT)
        """Returns of the newest episodes of training."""

    def init(self, key: Array, h: Hypers) -> HostState:
        """A fresh state, with an empty replay."""
        return self.phase.init(key, h)

    def begin(self, state: HostState, h: Hypers, fill: bool) -> HostState:
        """Starts an episode in every environment.

        The newest observations in `state`, which come from a resumed run's earlier games, become rows that are not
        transitions, and which no window crosses.

        Args:
          state: a fresh one, or one to continue from.
          h: traced settings, strongly typed.
          fill: whether to fill the replay up to where learning may start: with random actions before the run's first
            update, else with the run's own policy.
        """
        state = self.phase.begin(state)
        start, learner, memory = int(state.vector_steps.count), state.learner, state.memory
        actors = list(state.actors)
        # Other games than those that the run began with.
        seed = self.seed if start == 0 else int(np.random.SeedSequence([self.seed, start]).generate_state(1)[0])
        self.pool = self.parts.env.open_pool(self.config.num_envs, seed, len(self.groups))
        self.pool.reset()
        steps = self.config.prefill_steps if fill else 0
        for index in range(steps):
            # A run that goes on keeps its clock, and so its ε, and only draws anew.
            clock, draw = (index, index) if start == 0 else (start, REFILL + index)
            rows = self.receive(actors, Chunk())
            self.act_and_send(learner.params, actors, state.key_data, h, clock, draw)
            learner, memory = self.phase.follow(learner, rows, h), self.phase.add(memory, rows)
        return HostState(counter(start or steps), learner, memory, tuple(actors), state.key_data)

    @property
    def recent_returns(self) -> np.ndarray:
        """float64 [RECENT], the newest last, padded with NaN; can be set to a checkpoint's values."""
        return np.array([np.nan] * (RECENT - len(self.recent)) + list(self.recent))

    @recent_returns.setter
    def recent_returns(self, found: np.ndarray) -> None:
        self.recent.extend(np.asarray(found)[~np.isnan(found)].tolist())

    def receive(self, actors: list[Actor], chunk: Chunk, groups: Iterable[int] | None = None) -> tuple[Row, ...]:
        """Waits for groups (by default all), passes their results to their actors and returns the completed rows."""
        rows = []
        for group in self.groups if groups is None else groups:
            step = self.pool.receive(group)
            check_masks(self.parts.env.spec, step)
            packed = pack(self.parts.env.learning_view(step))
            actors[group], row = self.phase.receive(actors[group], packed, group)
            rows.append(row)
            returns, lengths = self.tally.follow(self.slices[group], step)
            self.recent.extend(returns)
            chunk.follow(step, returns, lengths)
        return tuple(rows)

    def act_and_send(
        self,
        params: Any,
        actors: list[Actor],
        key_data: Array,
        h: Hypers,
        clock: int,
        draw: int,
        groups: Iterable[int] | None = None,
    ) -> None:
        """Chooses actions for groups (by default all) and steps them."""
        for group in self.groups if groups is None else groups:
            obs, mask, carried = actors[group].obs, actors[group].mask, actors[group].explorer
            action, carried = self.functions.act(params, obs, mask, carried, key_data, h, clock, draw, group)
            actors[group] = Actor(obs, action, carried, mask)
            sent = np.asarray(action).reshape(-1)
            self.phase.acted(group, sent, carried)
            self.pool.send(group, sent)

    def iterate(self, state: HostState, h: Hypers, n: int) -> tuple[HostState, Metrics]:
        """Advances a run by n iterations of `rollout_length` vector steps and `updates_per_iteration` updates.

        Args:
          state: the newest one, from `begin` or an earlier call; its learner and memory are donated.
          h: traced settings, strongly typed.
          n: iterations.

        Returns:
          The new state, and the metrics of these iterations, on the host.
        """
        config, key_data = self.config, state.key_data
        start, learner, memory, actors = int(state.vector_steps.count), state.learner, state.memory, list(state.actors)
        chunk, total = Chunk(), jax.tree.map(jnp.copy, no_metrics())
        steps = n * config.rollout_length
        rows: tuple[Row, ...] = ()
        for clock in range(start, start + steps):
            if config.overlap:
                # Group by group: while one is acted for, the others step, and all of them while the device learns.
                for group in self.groups:
                    rows += self.receive(actors, chunk, [group])
                    self.act_and_send(learner.params, actors, key_data, h, clock, clock, [group])
            else:
                rows += self.receive(actors, chunk)
            if len(rows) == config.rollout_length * len(self.groups):
                learner, memory, total = self.phase.learn(learner, memory, total, rows, key_data, h)
                rows = ()
            if not config.overlap:
                self.act_and_send(learner.params, actors, key_data, h, clock, clock)
        memory = self.phase.settle(memory)
        new = HostState(counter(start + steps), learner, memory, tuple(actors), key_data)
        epsilon = self.functions.epsilon(h, start + steps - 1)
        return new, chunk.metrics(jax.device_get(total), n * config.updates_per_iteration, float(epsilon))

    def evaluate(
        self, params: Any, seed: int, episodes: int, epsilon: float, max_steps: int | None = None
    ) -> Evaluation:
        """Plays whole games with fresh environments, in raw rewards.

        Every environment plays a number of episodes fixed in advance, so that short ones are not favoured. After an
        episode is cut, its environment continues from there with its next episode, as it cannot be reset from outside.

        Args:
          params: parameters of the network.
          seed: of the environments and the actions.
          episodes: how many.
          epsilon: probability of a random action.
          max_steps: environment steps after which an episode is cut and scored; by default `MAX_STEPS`.
        """
        spec, size = self.parts.env.spec, min(episodes, EVAL_ENVS)
        limit = min(spec.time_limit, max_steps or MAX_STEPS)
        pool = self.parts.env.open_pool(size, seed, 1)
        quota = np.full(size, episodes // size) + (np.arange(size) < episodes % size)
        tally, returns, lengths = Tally(size), [], []
        obs, recall = zeros(spec, size), self.parts.network.init_carry(size)
        key = jax.random.key(seed, impl=KEY_IMPL)
        pool.reset()
        for index in itertools.count():
            step = pool.receive(0)
            # A policy may stand still for ever, and an environment let it.
            cut = step._replace(truncated=step.truncated | (~step.terminated & (tally.lengths + 1 >= limit)))
            ended = tally.follow(slice(None), cut)
            counts = quota[cut.ended] > 0
            quota[cut.ended] -= 1
            returns.extend(ended[0][counts])
            lengths.extend(ended[1][counts])
            if len(returns) == episodes:
                break
            check_masks(spec, step)
            obs, recall = self.functions.greet(obs, pack(step)), begin(recall, jnp.asarray(step.begins))
            key_now = jax.random.fold_in(key, index)
            action, recall = self.functions.play(params, obs, recall, step.mask, key_now, epsilon)
            pool.send(0, np.asarray(action))
        pool.close()
        found: dict[str, Any] = {"returns": np.array(returns, np.float32), "lengths": np.array(lengths, np.int32)}
        return Evaluation(**found)

    def close(self) -> None:
        """Closes the environments, if there are any."""
        if self.pool is None:
            return
        for group in self.groups:
            self.pool.receive(group)
        self.pool.close()
        self.pool = None
