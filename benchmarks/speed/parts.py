"""The parts of a training iteration, each alone and beside its bound: stepping, acting, replay, one learner update.

python -m benchmarks.parts [--only learner] [--device cpu]

Each part runs in a compiled loop, on one thread on a CPU as one lane does, and takes turns with the matrix products and
the bytes that bound it (see `benchmarks.bounds`). The bound is the larger of two times: that of the program's own
products, each at the rate measured at its shape, and that of the bytes that have to be moved, at the rate measured for
data of that size. An environment and a replay multiply nothing, so what holds them up is neither, but work on single
numbers and the drawing of random ones; their shares say how much there would be to win.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.common import counted, write_result
from benchmarks.speed.bounds import (
    SIZES,
    SQUARE,
    Bounds,
    Shape,
    bound_timers,
    count_products,
    operations,
    size_name,
)
from benchmarks.speed.learners import FRAMES, PLAIN, learners, make_act, make_update
from benchmarks.speed.replay import Rows, cartpole_rows, filled, make_replays, sample_once
from benchmarks.speed.timing import Body, loop_timer, medians, take_turns
from purejaxdqn.build import build_env, build_model
from purejaxdqn.config import Config
from purejaxdqn.envs.interface import Env
from purejaxdqn.machine.devices import PLATFORMS, use_platform
from purejaxdqn.replay.frames import frame_store
from purejaxdqn.replay.interface import Replay
from purejaxdqn.replay.sum_tree import FAN_OUT
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Hypers, Row

GAMES = 8


class Part(NamedTuple):
    """One thing to time."""

    name: str
    body: Body
    carry: Any
    moved: int
    """Bytes that have to be read or written in one trip."""
    footprint: int
    """Bytes of what they are taken from."""
    products: Mapping[Shape, int] = MappingProxyType({})
    """Of one trip."""
    steps: int = 0
    """Environment steps of one trip."""


def tree_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def trip_key(trip: Array) -> Array:
    """A PRNG key that no other trip has."""
    return jax.random.fold_in(jax.random.key(0), trip)


def environments(small: bool) -> Iterator[Part]:
    """Stepping alone, with random actions."""
    names = ("CartPole-v1", "MountainCar-v0", "Acrobot-v1", "Breakout-MinAtar")
    for name in names[:1] if small else names:
        env: Any = build_env(Config(env=name))
        for num_envs in (10,) if small else (1, 10, 256):
            state, _ = env.reset(jax.random.key(0), num_envs)
            size = tree_bytes(state)
            words = f"{name}, {counted(num_envs, 'environment')}"
            yield Part(words, step_body(env, num_envs), state, 2 * size, size, steps=num_envs)


def step_body(env: Env, num_envs: int) -> Body:
    """One vector step."""

    def body(trip: Array, state: Any) -> Any:
        action_key, step_key = jax.random.split(trip_key(trip))
        action = jax.random.randint(action_key, (num_envs,), 0, env.spec.num_actions)
        return env.step(step_key, state, action)[0]

    return body


def acting(small: bool) -> Iterator[Part]:
    """The network on the observations of E environments, and ε-greedy actions."""
    for name, (config, _, spec) in learners(small).items():
        act, params = make_act(config, spec), build_model(config, spec)[0].init(jax.random.key(0))
        for num_envs in (1, 10, 256) if name == PLAIN and not small else (10,):
            obs = jnp.ones((num_envs, *spec.obs_shape), spec.obs_dtype)
            products = count_products(act, params, obs, jax.random.key(0))
            size = tree_bytes((params, obs))
            # A copy: the parameters are given away.
            carry = jax.tree.map(jnp.copy, (params, obs))
            where = f"{name}, {counted(num_envs, 'environment')}"
            yield Part(where, act_body(act), carry, size, size, products, num_envs)


def act_body(act: Callable[[Any, Array, Array], Array]) -> Body:
    """Actions for one vector step."""

    def body(trip: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        params, obs = carry
        action = act(params, obs, trip_key(trip))
        # Never so, which no compiler can know: the same observations every time would be taken out of the loop.
        return params, jnp.where(jnp.sum(action) < 0, jnp.zeros_like(obs), obs)

    return body


def learner(small: bool) -> Iterator[Part]:
    """One update from batches that lie ready."""
    for name, settings in learners(small).items():
        update, carry = make_update(*settings)
        learning, memory = carry
        products = count_products(update, jnp.int32(0), carry)
        batches, batch_size = memory.weight.shape
        moved = 2 * tree_bytes(learning) + tree_bytes(memory.batch) // batches
        yield Part(f"{name}, batch {batch_size}", update, carry, moved, tree_bytes(carry), products)


def replays(small: bool) -> Iterator[Part]:
    """A write of a row of every environment, and a sample with the update of its priorities."""
    for capacity in (2_000,) if small else (10_000, 100_000, 1_000_000):
        for batch_size in (32, 128, 512) if capacity == 100_000 else (128,):
            of_rows = make_replays(capacity, [FAN_OUT], batch_size)
            for kind, replay in zip(("uniform", "prioritized"), of_rows.values(), strict=True):
                write, sample = replay_parts(kind, replay, cartpole_rows, capacity, batch_size)
                yield from (write, sample) if batch_size == 128 else (sample,)
    for capacity in (400,) if small else (10_000, 100_000):
        store = frame_store(capacity // GAMES, GAMES, n_step=3, spec=FRAMES)
        yield from replay_parts("frames", uniform(store, 32), game_rows, capacity, 32)


def replay_parts(kind: str, replay: Replay, rows: Rows, capacity: int, batch_size: int) -> tuple[Part, Part]:
    """The two parts of one replay, full."""
    memory = filled(replay, capacity, rows)
    row = jax.eval_shape(rows, 0)
    # Its share of everything that is kept.
    row_bytes = row.action.size * tree_bytes(memory) // capacity
    batch = jax.eval_shape(lambda: replay.sample(memory, jax.random.key(0), Hypers())[0])
    where, size = f"{kind}, {capacity:,} transitions", tree_bytes(memory)
    start = (jax.tree.map(jnp.copy, memory), jnp.float32(0))
    write = Part(f"write {row.action.size}, {where}", lambda i, m: replay.add(m, rows(i)), memory, 2 * row_bytes, size)
    sample = partial(sample_once, replay)
    return write, Part(f"sample {batch_size}, {where}", sample, start, 2 * tree_bytes(batch), size)


def game_rows(i: int | Array) -> Row:
    """Rows [1, GAMES] of Atari's shapes, which differ from call to call."""
    per_game = (1, GAMES)
    return Row(
        obs=jnp.full((*per_game, *FRAMES.obs_shape), jnp.asarray(i, jnp.uint8)),
        action=jnp.full(per_game, i % FRAMES.num_actions, jnp.int32),
        reward=jnp.ones(per_game),
        terminated=jnp.full(per_game, i % 100 == 0),
        truncated=jnp.zeros(per_game, bool),
        final_obs=jnp.zeros((*per_game, 0), jnp.uint8),
        valid=jnp.full(per_game, i % 100 != 1),
    )


SECTIONS: dict[str, Callable[[bool], Iterator[Part]]] = {
    "environments": environments,
    "acting": acting,
    "replay": replays,
    "learner": learner,
}


def measure(part: Part, seconds: float, repetitions: int) -> dict[str, Any]:
    """A part in turns with what bounds it."""
    timers = {"part": loop_timer(part.body, part.carry, seconds)}
    size = next((size for size in SIZES if size >= part.footprint), SIZES[-1])
    timers |= bound_timers([*part.products, SQUARE] if part.products else [], [size], seconds)
    found = take_turns(timers, repetitions)
    median = medians(found)
    bounds = Bounds(median)
    bound, by = bounds.least_seconds(part.products, part.moved, part.footprint)
    result = {
        "name": part.name,
        "microseconds": round(median["part"] * 1e6, 3),
        "bound_microseconds": round(bound * 1e6, 3),
        "bound_by": by,
        "fraction_of_bound": round(bound / median["part"], 4),
        "seconds": found["part"],
    }
    if part.steps:
        result["steps_per_second"] = round(part.steps / median["part"])
    if part.products:
        rate = sum(times * operations(shape) for shape, times in part.products.items()) / median["part"]
        result |= {
            "products": {size_name(shape): times for shape, times in part.products.items()},
            "gflops": round(rate / 1e9, 2),
            "gflops_of_512": round(bounds.flops(SQUARE) / 1e9, 2),
            "fraction_of_512": round(rate / bounds.flops(SQUARE), 4),
        }
    return result


def main() -> None:
    """Measures, writes results/parts.json after every part and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--device", choices=PLATFORMS, default="auto")
    parser.add_argument("--small", action="store_true", help="a few small parts, to try the script")
    parser.add_argument("--seconds", type=float, default=0.05, help="of one timing (default: 0.05)")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--name", default="parts", help="result file (default: parts)")
    args = parser.parse_args()
    use_platform(args.device, 1)
    sections: dict[str, list[dict[str, Any]]] = {}
    for section in args.only:
        sections[section] = []
        for part in SECTIONS[section](args.small):
            found = measure(part, args.seconds, args.repetitions)
            sections[section].append(found)
            of_512 = f", {found['fraction_of_512']:.0%} of 512³'s rate" if part.products else ""
            print(
                f"{section}: {part.name}: {found['microseconds']:,.1f} µs, {found['fraction_of_bound']:.1%} of the "
                f"bound ({found['bound_microseconds']:,.1f} µs, {found['bound_by']}){of_512}",
                flush=True,
            )
            what = "microseconds of one trip of each part, and of its bound, in turns"
            write_result(args.name, what, {"timing_seconds": args.seconds, "sections": sections})


if __name__ == "__main__":
    main()
