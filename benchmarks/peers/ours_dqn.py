"""Times purejaxdqn at a peer's settings and prints one JSON line, like the peers' runners beside this one.

python -m benchmarks.peers.ours_dqn --contest purejaxrl --seeds 16
"""

import time
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.contests import CONTESTS, Contest
from benchmarks.peers.outcome import parser, say
from purejaxdqn.envs.names import loop_of
from purejaxdqn.machine.devices import PLATFORMS, use_platform
from purejaxdqn.runs.folder import versions

EPISODES = 100


class Timed(NamedTuple):
    """A run, and where its time went, in seconds."""

    compiling: float
    prefill: float
    learning: float
    returns: float | None
    """Mean return of training's episodes in the last tenth."""
    greedy: list[float]
    """Mean return of every seed's last parameters; empty where they were not played."""
    plan: str


def settings_of(contest: Contest, total_steps: int) -> tuple[Any, Any]:
    """Ours at the peer's settings."""
    from purejaxdqn.config import Config
    from purejaxdqn.types import Hypers

    return Config(total_steps=total_steps, **contest.config), Hypers(**contest.hypers)


def mean_return(metrics: Any) -> float | None:
    """Of all episodes in some metrics [L]; None where none ended."""
    episodes = int(np.sum(metrics.episodes))
    return round(float(np.sum(metrics.return_sum)) / episodes, 2) if episodes else None


def train_on_device(config: Any, hypers: Any, seeds: list[int]) -> Timed:
    """Compiles and runs once, laid out as the command line lays it out."""
    import jax

    from purejaxdqn.loops.device import make_agent
    from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
    from purejaxdqn.loops.plan import make_plan

    agent = make_agent(config)
    lanes = make_lanes(agent, make_plan(agent, len(seeds)), EPISODES)
    keys, stacked = lanes.put(seed_keys(seeds)), lanes.put(repeat_hypers(hypers, len(seeds)))
    begin = time.perf_counter()
    jax.block_until_ready(lanes.iterate(lanes.init(keys, stacked), stacked, 0))
    compiled = time.perf_counter()
    # The prefill is part of the run: it is made again, now that it is compiled.
    state = jax.block_until_ready(lanes.init(keys, stacked))
    filled = time.perf_counter()
    last_tenth = max(1, config.num_iterations // 10)
    state, _ = lanes.iterate(state, stacked, config.num_iterations - last_tenth)
    state, metrics = lanes.iterate(state, stacked, last_tenth)
    jax.block_until_ready(state)
    done = time.perf_counter()
    played = np.asarray(lanes.get(lanes.evaluate(state.learner.params, keys, 0.0)).returns)
    greedy = [round(float(mean), 2) for mean in played.mean(axis=1)]
    returns = mean_return(lanes.get(metrics))
    plan = lanes.plan.describe()
    return Timed(compiled - begin, filled - compiled, done - filled, returns, greedy, plan)


def train_on_host(config: Any, hypers: Any, seeds: list[int]) -> Timed:
    """The same with environments on the host: one seed, and no greedy episodes."""
    import jax

    from purejaxdqn.build import build
    from purejaxdqn.loops.host_lanes import make_host_lanes
    from purejaxdqn.loops.lanes import repeat_hypers, seed_keys

    lanes = make_host_lanes(config, build(config), tuple(seeds), 1, keep_replay=False)
    keys, stacked = lanes.put(seed_keys(seeds)), lanes.put(repeat_hypers(hypers, 1))
    begin = time.perf_counter()
    state = jax.block_until_ready(lanes.init(keys, stacked))
    filled = time.perf_counter()
    # What is compiled here cannot be told from the little that is learnt: it is left out of the timed steps.
    state, _ = lanes.iterate(state, stacked, 1)
    jax.block_until_ready(state)
    compiled = time.perf_counter()
    state, metrics = lanes.iterate(state, stacked, config.num_iterations - 1)
    jax.block_until_ready(state)
    done = time.perf_counter()
    lanes.close()
    plan = lanes.plan.describe()
    return Timed(compiled - filled, filled - begin, done - compiled, mean_return(lanes.get(metrics)), [], plan)


def main() -> None:
    """Reads the command line, measures and prints one JSON line."""
    flags = parser(__doc__, 0)
    flags.add_argument("--contest", choices=list(CONTESTS), default="purejaxrl", help="whose settings")
    flags.add_argument("--device", choices=PLATFORMS, default="auto")
    flags.add_argument("--update-kernel", action="store_true", help="an update is one kernel")
    args = flags.parse_args()
    contest = CONTESTS[args.contest]
    use_platform(args.device, args.seeds, on_host=args.contest == "cleanrl-atari")
    config, hypers = settings_of(contest, args.total_steps or contest.total_steps)
    config = config.replace(update_kernel=args.update_kernel)
    train = {"device": train_on_device, "host": train_on_host}[loop_of(config.env)]
    timed = train(config, hypers, [args.seed + lane for lane in range(args.seeds)])
    import jax

    learning = config.num_iterations * config.steps_per_iteration
    steps = config.prefill_steps * config.num_envs + learning
    say(
        "purejaxdqn",
        seeds=args.seeds,
        steps=args.seeds * steps,
        seconds=timed.learning if contest.learning_only else timed.prefill + timed.learning,
        timed_steps=args.seeds * (learning if contest.learning_only else steps),
        updates=args.seeds * config.num_updates,
        compile_seconds=timed.compiling,
        returns_last_tenth=timed.returns,
        greedy_return=fmean(timed.greedy) if timed.greedy else None,
        greedy_returns=timed.greedy,
        device=jax.devices()[0].device_kind,
        packages=list(versions())[1:],
        plan=timed.plan,
    )


if __name__ == "__main__":
    main()
