"""Compiles the programs of one case for a device that is not here, and prints what they do as one JSON line.

    ENVIRONMENT/bin/python -m benchmarks.count_case --case purejaxrl --lanes 1 --device h100

`benchmarks.gpu_count` calls it, in an environment that has the device's compiler.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks.learning.scripted import make_catch
from benchmarks.peers.contests import CONTESTS
from benchmarks.peers.ours_dqn import settings_of
from benchmarks.speed.deviceless import (
    DEVICES,
    ONE_GRAPH,
    WHOLE_PRODUCTS,
    Call,
    count_on_gpu,
    count_on_tpu,
    described,
    lower,
    traced_for,
)
from purejaxdqn.build import build
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.kernels.choice import why_not
from purejaxdqn.learn import no_metrics
from purejaxdqn.loops.acting import make_acting
from purejaxdqn.loops.device import Agent, make_agent
from purejaxdqn.loops.host_functions import make_shard_functions, packed_bytes
from purejaxdqn.loops.lanes import lane_shapes, make_lanes, repeat_hypers, run_block, seed_keys
from purejaxdqn.loops.plan import Plan
from purejaxdqn.machine.threefry import FUSED_IMPL, KEY_IMPL
from purejaxdqn.recipes.algorithms import ALGORITHMS
from purejaxdqn.recipes.recipes import RECIPES, default_recipe, make_settings
from purejaxdqn.types import Hypers

MINATAR = "Breakout-MinAtar"
ATARI = tuple(name for algo in ALGORITHMS if (name := f"nature-{algo}") in RECIPES)
CASES = ("purejaxrl", *ALGORITHMS, *(f"{MINATAR} {algo}" for algo in ("dqn", "rainbow", "pqn")), *ATARI)
"""Ours at PureJaxRL's settings, each algorithm on CartPole-v1, some on MinAtar, and what Atari's recipes learn by."""
PROGRAMS = ("iterate", "learn", "evaluate", "init")
FLAGS: dict[str, dict[str, Any]] = {"plain": {}, "one graph": ONE_GRAPH, "whole products": WHOLE_PRODUCTS}
WAYS = (*FLAGS, "kernel")
"""How `iterate` is compiled: with flags of XLA, or an update as one kernel. Other programs are compiled plainly."""


class Programs(NamedTuple):
    """What is compiled of a case."""

    calls: dict[str, Call]
    ring: set[int]
    """Bytes of the replay's largest arrays."""
    kernel: Call | None = None
    """`iterate` with an update as one kernel, where there is one."""


def settings(case: str) -> Config:
    """A case's configuration."""
    if case in CONTESTS:
        return settings_of(CONTESTS[case], CONTESTS[case].total_steps)[0]
    if case in ATARI:
        return make_settings(RECIPES[case])[0]
    *env, algo = case.split()
    env_id = env[0] if env else "CartPole-v1"
    return make_settings(default_recipe(env_id), env_id, algo)[0]


def rows_of(agent: Agent, state: Any) -> Any:
    """Shapes of a rollout's rows, [T, E]."""
    env, view = agent.parts.env, agent.parts.view
    action = jax.ShapeDtypeStruct((agent.config.num_envs,), jnp.int32)

    def recorded(carry: Any, action: Any, explorer: Any) -> Any:
        row = view(env.step(jax.random.key(0), carry, action)[2])
        return make_acting(agent.config, agent.parts).record(row, explorer)

    row = jax.eval_shape(recorded, state.env, action, state.explorer)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((agent.config.rollout_length, *leaf.shape), leaf.dtype), row)


def calls_of(agent: Agent, state: Any, lanes: int) -> dict[str, Call]:
    """The programs of a run over lanes, as `loops.lanes` makes them, and its learning phase alone."""
    h = jax.eval_shape(lambda: Hypers().as_arrays())
    key, n = jax.ShapeDtypeStruct((2,), jnp.uint32), jax.ShapeDtypeStruct((), jnp.int32)

    def evaluate(params: Any, key: Any) -> Any:
        return agent.evaluate(params, jax.random.wrap_key_data(key, impl=KEY_IMPL), episodes=100)

    def learn(learner: Any, memory: Any, rows: Any, key: Any, h: Hypers) -> Any:
        return agent.parts.learn(learner, memory, rows, jax.random.wrap_key_data(key, impl=FUSED_IMPL), h)

    def iterate(state: Any, h: Hypers, n: Any) -> Any:
        return run_block(lambda lane, own: agent.iterate(lane, own, n), lanes, state, h)

    def over_lanes(function: Callable[..., Any], *one_lane: Any, donated: tuple[int, ...] = ()) -> Call:
        return Call(partial(run_block, function, lanes), tuple(lane_shapes(tree, lanes) for tree in one_lane), donated)

    return {
        "iterate": Call(iterate, (lane_shapes(state, lanes), lane_shapes(h, lanes), n), (0,)),
        "learn": over_lanes(learn, state.learner, state.memory, rows_of(agent, state), key, h, donated=(0, 1)),
        "evaluate": over_lanes(evaluate, state.learner.policy_params, key),
        "init": over_lanes(agent.init, key, h),
    }


def large_sizes(memory: Any, lanes: int) -> set[int]:
    """Bytes of the replay's largest arrays, all lanes together."""
    sizes = {leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory)}
    return {lanes * size for size in sizes if 2 * size >= max(sizes)}


def device_programs(config: Config, lanes: int) -> Programs:
    """Of the loop on the device."""
    agent = make_agent(config)
    state = jax.eval_shape(agent.init, jax.random.key(0), Hypers())
    kernel = None
    if why_not(config, agent.spec) is None:
        kernel = calls_of(make_agent(config.replace(update_kernel=True)), state, lanes)["iterate"]
    return Programs(calls_of(agent, state, lanes), large_sizes(state.memory, lanes), kernel)


def host_programs(config: Config) -> Programs:
    """Of the host loop on Atari's frames: learning, which is nearly all that its device does."""
    # No game is needed to compile for one: only what is known of it.
    spec = EnvSpec(config.env, 18, (84, 84, 4), "uint8", None, 27_000, frame_stack=4)
    functions = make_shard_functions(config, build(config, make_catch()._replace(spec=spec)))
    h = jax.eval_shape(lambda: Hypers().as_arrays())
    state = jax.eval_shape(functions.init, jax.random.key(0), h)
    packed = jax.ShapeDtypeStruct((config.num_envs, packed_bytes(spec)), jnp.uint8)
    row = jax.eval_shape(functions.receive, state.actors[0], packed)[1]
    rows, total = (row,) * config.rollout_length, jax.eval_shape(no_metrics)
    learn = Call(functions.learn, (state.learner, state.memory, total, rows, state.key_data, h), (0, 1, 2))
    return Programs({"learn": learn}, large_sizes(state.memory, 1))


Found = Iterator[tuple[str, str, dict[str, Any]]]
"""(program, way, counts) one after another."""


def lower_over(config: Config, lanes: int, devices: Sequence[Any]) -> Any:
    """An iteration of lanes that are divided over several devices, as `loops.lanes` makes it, before XLA's compiler."""
    calls: list[Any] = []

    def keep(given: Sequence[Any], _: Any) -> list[Any]:
        calls.extend(given)
        return calls

    each = -(-lanes // len(devices))
    with traced_for(devices[0]), mock.patch.object(jax, "local_devices", lambda: devices):
        # Of a CPU's plan all programs are handed to a compiler at once; nothing else in lanes asks for the platform.
        made = make_lanes(make_agent(config), Plan(lanes, len(devices), each, each, "cpu", 0), compiler=keep)
        made.compile(seed_keys(list(range(lanes))), repeat_hypers(Hypers(), lanes))
        _, iterate, _ = calls
        return iterate.function.lower(*iterate.arguments())


def count_case(case: str, lanes: int, devices: Sequence[Any], programs: Sequence[str], ways: Sequence[str]) -> Found:
    """What the programs of a case do, compiled in each way. The kernel is left out where a configuration has none."""
    config, device = settings(case), devices[0]
    if lanes > 1 and len(devices) > 1:
        if "iterate" in programs:
            yield "iterate", f"over {len(devices)} devices", count_on_tpu(lower_over(config, lanes, devices))
        return
    # What a state is made of depends on the platform.
    with traced_for(device):
        made = host_programs(config) if case in ATARI else device_programs(config, lanes)
    calls = {program: call for program, call in made.calls.items() if program in programs}
    if device.platform == "tpu":
        yield from ((program, "plain", count_on_tpu(lower(call, device))) for program, call in calls.items())
        return
    with tempfile.TemporaryDirectory() as folder:
        kernels = str(Path(folder) / "kernels")
        count = partial(count_on_gpu, ring=made.ring, updates=config.updates_per_rollout, cache=kernels)
        for program, call in calls.items():
            lowered, trip = lower(call, device), program in ("iterate", "evaluate")
            for way in (way for way in FLAGS if way in ways) if program == "iterate" else ("plain",):
                yield program, way, count(lowered, trip, FLAGS[way])
        if "kernel" in ways and "iterate" in calls and made.kernel is not None:
            yield "iterate", "kernel", count(lower(made.kernel, device), True, {})


def main() -> None:
    """Reads the command line, counts and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--device", choices=DEVICES, default="h100")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    args = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for program, way, counts in count_case(args.case, args.lanes, described(args.device), args.programs, args.ways):
        found.setdefault(program, {})[way] = counts
    print(json.dumps({"jax": jax.__version__, "programs": found}))


if __name__ == "__main__":
    main()
