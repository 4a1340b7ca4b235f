"""Parallel runs: lanes (seed × hyperparameters), vmapped or mapped over devices as suits the machine.

On a CPU vmapping over lanes ruins the cache, so each core is a device of its own that runs its lanes one after another.
On a GPU or TPU the lanes of a device are vmapped. Either way lane i equals the solo run with that seed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from purejaxdqn.loops.counts import zero_metrics
from purejaxdqn.loops.device import Agent
from purejaxdqn.loops.plan import Plan, check_work
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.types import Hypers, Metrics, State, is_counter, lane_axes


def seed_keys(seeds: list[int]) -> np.ndarray:
    """Raw threefry keys uint32 [L, 2] of seeds below 2³², as `jax.random.key(seed)` makes them."""
    return np.array([(0, seed) for seed in seeds], np.uint32)


def map_lane_leaves(fn: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """`fn` on every leaf that has a lane axis; counters stay as `tree` has them."""
    return jax.tree.map(
        lambda node, *rest: node if is_counter(node) else fn(node, *rest), tree, *others, is_leaf=is_counter
    )


def lane_shapes(one_lane: Any, num_lanes: int) -> Any:
    """Shapes of a tree of all lanes, from those of one lane."""
    return map_lane_leaves(lambda leaf: jax.ShapeDtypeStruct((num_lanes, *leaf.shape), leaf.dtype), one_lane)


def repeat_hypers(hypers: Hypers, num_lanes: int) -> Hypers:
    """The same hypers for every lane, on the host."""
    return jax.tree.map(lambda leaf: np.full(num_lanes, leaf, leaf.dtype), hypers.as_arrays())


def only_counters(tree: Any) -> Any:
    """The tree with None in place of everything but counters."""
    return map_lane_leaves(lambda _: None, tree)


def with_counters(tree: Any, counters: Any) -> Any:
    """The tree with its counters taken from another (as `only_counters` made it, or a whole one)."""
    return jax.tree.map(lambda a, b: b if is_counter(a) else a, tree, counters, is_leaf=is_counter)


def run_block(fn: Callable[..., Any], block: int, *trees: Any) -> Any:
    """`fn` of one lane on trees with a lane axis of `block`; counters are shared by the lanes and stay so.

    A block of one is not vmapped: batched matrix products of one would be slower.
    """
    if block > 1:
        one = [map_lane_leaves(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree) for tree in trees]
        out_axes = lane_axes(jax.eval_shape(fn, *one))
        return jax.vmap(fn, in_axes=tuple(lane_axes(tree) for tree in trees), out_axes=out_axes)(*trees)
    out = fn(*(map_lane_leaves(lambda leaf: leaf[0], tree) for tree in trees))
    return map_lane_leaves(lambda leaf: leaf[None], out)


def take_block(tree: Any, index: Array, block: int) -> Any:
    """The `block` lanes that start at lane index × block."""
    return map_lane_leaves(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index * block, block), tree)


def map_blocks(fn: Callable[..., Any], plan: Plan, *trees: Any) -> Any:
    """`fn` of one lane over all lanes of one device, block after block; the results are stacked."""

    def body(_: None, index: Array) -> tuple[None, Any]:
        return None, run_block(fn, plan.block, *(take_block(tree, index, plan.block) for tree in trees))

    _, out = jax.lax.scan(body, None, jnp.arange(plan.lanes_per_device // plan.block))
    # Not -1, of which an empty array of an environment's state has no one value.
    joined = map_lane_leaves(lambda leaf: leaf.reshape(plan.lanes_per_device, *leaf.shape[2:]), out)
    return with_counters(joined, last_counters(out))


def last_counters(stacked: Any) -> Any:
    """Counters of the last of stacked blocks: they are the same in all."""
    return jax.tree.map(lambda leaf: leaf[-1], only_counters(stacked))


def iterate_blocks(
    agent: Agent, plan: Plan, state: State, hypers: Hypers, n: Array, *data: Any
) -> tuple[State, Metrics]:
    """`agent.iterate` over all lanes of one device, block after block; each block is written back in place.

    A dataset, where there is one, is all lanes' own.
    """

    def body(lanes: State, index: Array) -> tuple[State, tuple[Metrics, Any]]:
        # Every block starts from the counters that the chunk started from.
        before = with_counters(take_block(lanes, index, plan.block), state)
        one_lane = lambda lane, h: agent.iterate(lane, h, n, *data)  # noqa: E731
        after, metrics = run_block(one_lane, plan.block, before, take_block(hypers, index, plan.block))
        write = lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, index * plan.block, 0)  # noqa: E731
        return map_lane_leaves(write, lanes, after), (metrics, only_counters(after))

    blocks = jnp.arange(plan.lanes_per_device // plan.block)
    lanes, (metrics, counters) = jax.lax.scan(body, state, blocks)
    metrics = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), metrics)
    return with_counters(lanes, last_counters(counters)), metrics


class Call(NamedTuple):
    """A function to compile, and the arguments that it will be called with."""

    function: Any
    """Jitted."""
    arguments: Callable[[], tuple[Any, ...]]
    """() -> its arguments: arrays, or their shapes and shardings. Making them may need tracing."""
    what: str
    """What the function is made from, beside the settings of the run."""


Compiler = Callable[[Sequence[Call], Sequence[jax.Device]], list[Any]]
"""(calls, their devices) -> the functions, compiled for exactly these arguments."""


def compile_calls(
    calls: Sequence[Call],
    devices: Sequence[jax.Device],
    compile: Callable[[Call, jax.stages.Lowered], Any] = lambda call, lowered: lowered.compile(),
) -> list[Any]:
    """Compiles functions; a `Compiler`.

    The next function is traced while XLA, which does not hold Python's lock, compiles the previous one or reads it from
    JAX's cache on disk.
    """
    with ThreadPoolExecutor() as pool:
        begun = [pool.submit(compile, call, call.function.lower(*call.arguments())) for call in calls]
    return [compiled.result() for compiled in begun]


def present(*given: Any) -> tuple[Any, ...]:
    """The arguments that are not None."""
    return tuple(one for one in given if one is not None)


class Probed(NamedTuple):
    """A function of one lane's state and of its metrics of a chunk, over all lanes."""

    shapes: Any
    """Of what it gives of one lane."""
    run: Callable[[Any, Any], Any]
    """(state, metrics [L] as `Lanes.put` gives them) -> what it gives, [L]; jitted, and nothing is donated."""


class Lanes(NamedTuple):
    """An agent's functions over lanes, jitted. Every array but a counter has a leading axis of lanes, with padding."""

    plan: Any
    """`Plan`, or another loop's layout, with a `describe` method."""
    init: Callable[..., Any]
    """(keys uint32 [L, 2], hypers [L], params [L] or None to begin with fresh ones) -> state."""
    iterate: Callable[[Any, Hypers, int], tuple[Any, Metrics]]
    """(state, hypers [L], n) -> state, metrics [L]; the state given is donated."""
    evaluate: Callable[[Any, Array, float], Any]
    """(params [L], keys uint32 [L, 2], epsilon) -> Evaluation of [L, episodes]."""
    put: Callable[[Any], Any]
    """Arrays of num_lanes lanes on the host -> on the devices, padded with copies of lane 0 and on."""
    get: Callable[[Any], Any]
    """The reverse: numpy arrays of num_lanes lanes."""
    saved: Callable[[Any], Any]
    """state -> what a checkpoint keeps of it, numpy arrays."""
    like: Any
    """Shapes and dtypes of that."""
    restored: Callable[[Any, Hypers], Any]
    """(what a checkpoint kept, hypers [L]) -> state."""
    probe: Callable[[Callable[..., Any]], Probed]
    """(function of one lane's state and metrics) -> the same over all lanes."""
    training_return: Callable[[], float | None] = lambda: None
    """Mean return of the newest episodes of training, where a run is scored by it."""
    watch: Callable[[Any], np.ndarray | None] = lambda state: None
    """state -> the frame stack that the network sees, as a picture uint8 [H, W, 3], where there is one."""
    compile: Callable[..., None] = lambda *given: None
    """(arguments of `init`) -> None; compiles all that training needs, which is otherwise compiled on first use."""
    check: Callable[[], None] = lambda: None
    """Raises `SettingError` if there is no room for training."""
    close: Callable[[], None] = lambda: None
    """Closes what the lanes keep open."""


def make_lanes(
    agent: Agent,
    plan: Plan,
    eval_episodes: int = 100,
    eval_max_steps: int | None = None,
    compiler: Compiler = compile_calls,
) -> Lanes:
    """An agent's functions over the lanes of a plan.

    Args:
      agent: the run's functions.
      plan: from `make_plan`.
      eval_episodes: episodes of each evaluation of each lane.
      eval_max_steps: steps after which an evaluation episode is cut and scored.
      compiler: used by `compile`.
    """
    mesh = Mesh(np.array(jax.local_devices()[: plan.num_devices]), ("lanes",))
    state = jax.eval_shape(agent.init, jax.random.key(0), Hypers())
    shard, whole = NamedSharding(mesh, P("lanes")), NamedSharding(mesh, P())
    data = tuple(jax.device_put(steps, whole) for steps in present(agent.parts.data))

    def specs(tree: Any) -> Any:
        return jax.tree.map(lambda node: P() if is_counter(node) else P("lanes"), tree, is_leaf=is_counter)

    def over_devices(fn: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        return jax.shard_map(fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def init(*given: Any) -> Any:
        # Keys, hypers and perhaps parameters; a lane's are all its own.
        start = over_devices(
            lambda *trees: map_blocks(agent.init, plan, *trees), tuple(P("lanes") for _ in given), specs(state)
        )
        return start(*given)

    iterate = over_devices(
        lambda lanes, hypers, n, *data: iterate_blocks(agent, plan, lanes, hypers, n, *data),
        (specs(state), P("lanes"), P(), *(P() for _ in data)),
        (specs(state), P("lanes")),
    )

    def evaluate_blocks(params: Any, keys: Array, epsilon: Array) -> Any:
        play = partial(agent.evaluate, episodes=eval_episodes, epsilon=epsilon, max_steps=eval_max_steps)
        return map_blocks(lambda p, k: play(p, jax.random.wrap_key_data(k, impl=KEY_IMPL)), plan, params, keys)

    evaluate = over_devices(evaluate_blocks, (P("lanes"), P("lanes"), P()), P("lanes"))

    def probe(fn: Callable[..., Any]) -> Probed:
        shapes = jax.eval_shape(fn, state, jax.eval_shape(lambda: zero_metrics(agent.config.log_episodes)))
        blocks = lambda lanes, metrics: map_blocks(fn, plan, lanes, metrics)  # noqa: E731
        return Probed(shapes, jax.jit(over_devices(blocks, (specs(state), P("lanes")), P("lanes"))))

    num_padded = plan.num_devices * plan.lanes_per_device
    pad = np.arange(num_padded) % plan.num_lanes

    def put(tree: Any) -> Any:
        return jax.tree.map(
            lambda node: (
                jax.device_put(node, whole) if is_counter(node) else jax.device_put(np.asarray(node)[pad], shard)
            ),
            tree,
            is_leaf=is_counter,
        )

    def get(tree: Any) -> Any:
        return jax.tree.map(
            lambda node: jax.device_get(node) if is_counter(node) else np.asarray(node)[: plan.num_lanes],
            tree,
            is_leaf=is_counter,
        )

    # Shardings are spelt out: states from `init`, `put` and `iterate` must all fit one compiled `iterate`.
    state_shardings = jax.tree.map(lambda node: whole if is_counter(node) else shard, state, is_leaf=is_counter)
    jitted = jax.jit(
        iterate,
        donate_argnums=0,
        in_shardings=(state_shardings, shard, whole, *(whole for _ in data)),
        out_shardings=(state_shardings, shard),
    )
    jitted_evaluate = jax.jit(evaluate)
    jitted_init = jax.jit(init, out_shardings=state_shardings)

    functions: dict[str, Any] = {"iterate": jitted, "evaluate": jitted_evaluate}

    def compile_all(keys: Array, hypers: Hypers, params: Any = None) -> None:
        given = present(keys, hypers, params)
        name = f"init of {len(given)}"
        # An accelerator's compiler times kernels on the device, where others must not run meanwhile.
        if plan.platform != "cpu" or name in functions:
            return

        def made() -> State:
            return jax.eval_shape(jitted_init, *given)

        def learnt() -> Any:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shard), made().learner.policy_params
            )

        lanes = f"{plan} {jax.tree.map(jax.typeof, given)}"
        calls = (
            Call(jitted_init, lambda: given, f"init {lanes}"),
            Call(jitted, lambda: (made(), hypers, jnp.zeros((), jnp.int32), *data), f"iterate {lanes}"),
            Call(
                jitted_evaluate,
                lambda: (learnt(), keys, jnp.float32(0.0)),
                f"evaluate {lanes} {eval_episodes} {eval_max_steps}",
            ),
        )
        compiled = compiler(calls, list(mesh.devices.flat))
        functions.update(zip((name, "iterate", "evaluate"), compiled, strict=True))

    def needed(program: str) -> int:
        """Bytes that a program needs on each device besides its arguments; finding out compiles it, for use as well."""

        def padded(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct((num_padded, *leaf.shape), leaf.dtype, sharding=shard)

        keys, hypers = padded(jnp.zeros(2, jnp.uint32)), jax.tree.map(padded, Hypers().as_arrays())
        made = jax.eval_shape(jitted_init, keys, hypers)
        calls = {
            "iterate": (jitted, (made, hypers, jnp.zeros((), jnp.int32), *data)),
            "evaluate": (jitted_evaluate, (made.learner.policy_params, keys, jnp.float32(0.0))),
        }
        function, arguments = calls[program]
        functions[program] = function.lower(*arguments).compile()
        found = functions[program].memory_analysis()
        assert found is not None
        return int(found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes)

    def start(keys: Array, hypers: Hypers, params: Any = None) -> State:
        given = present(keys, hypers, params)
        return functions.get(f"init of {len(given)}", jitted_init)(*given)

    return Lanes(
        plan=plan,
        init=start,
        iterate=lambda lanes, hypers, n: functions["iterate"](lanes, hypers, jnp.asarray(n, jnp.int32), *data),
        evaluate=lambda params, keys, epsilon: functions["evaluate"](params, keys, jnp.float32(epsilon)),
        put=put,
        get=get,
        saved=get,
        like=lane_shapes(state, plan.num_lanes),
        restored=lambda tree, hypers: put(tree),
        probe=probe,
        compile=compile_all,
        check=lambda: check_work(agent, plan, eval_episodes, needed),
    )
