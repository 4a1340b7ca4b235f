"""The host loop behind the interface of the device loop's lanes: one lane, whose environments cannot be saved."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.build import Parts
from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.envs.interface import check_groups
from purejaxdqn.learn import start_from
from purejaxdqn.loops.counts import zero_metrics
from purejaxdqn.loops.evaluation import Evaluation
from purejaxdqn.loops.host import RECENT, HostLoop
from purejaxdqn.loops.host_functions import HostState
from purejaxdqn.loops.lanes import Lanes, Probed, map_lane_leaves
from purejaxdqn.loops.plan import MEMORY_SHARE, tree_bytes
from purejaxdqn.loops.sharding import Spread, bytes_of_device, make_spread, on_first_device, shardings
from purejaxdqn.machine.devices import available_bytes, host_bytes
from purejaxdqn.observations.leaves import list_leaves
from purejaxdqn.types import Hypers


class HostPlan(NamedTuple):
    """How a run on the host is laid out."""

    num_envs: int
    num_groups: int
    place: str
    """What holds the replay."""
    replay_bytes: int

    def describe(self) -> str:
        """A one-line description."""
        groups = f" in {self.num_groups} groups" if self.num_groups > 1 else ""
        size = f"{self.replay_bytes / 1e9:.2f} GB of replay"
        return f"{self.num_envs} environments on the host{groups}, {size} {self.place}"


def place_of_replay(config: Config, spread: Spread | None) -> str:
    """Where the replay is stored, as text."""
    if spread is not None:
        return f"in {spread.describe()}"
    platform = jax.default_backend() if config.replay_memory == "device" else "cpu"
    return "on the CPU" if platform == "cpu" else f"on the {platform.upper()}"


def check_memory(config: Config, size: int) -> None:
    """Raises `SettingError` if the replay does not fit its memory, with a size that does."""
    room = int(MEMORY_SHARE * (available_bytes() if config.replay_memory == "device" else host_bytes()))
    fits = room // max(1, size // config.buffer_size)
    remedy = f"the replay takes {size / 1e9:.1f} GB, and {room / 1e9:.1f} GB are free here: use at most {fits}"
    if config.replay_memory == "device":
        remedy += ", or the machine's own memory by --replay-memory host"
    require(size <= room, "buffer_size", config.buffer_size, remedy)


def picture_of(spec: EnvSpec, obs: Any) -> np.ndarray | None:
    """The first observation of a batch as one picture, where it has colours [H, W, channels × stack]; else None.

    The frames of a stack are side by side, the oldest first.
    """
    for leaf, x in zip(list_leaves(spec), jax.tree.leaves(obs), strict=True):
        colours = leaf.num_values is None and leaf.divisor == 255.0 and leaf.dtype == "uint8"
        if leaf.is_picture and colours and leaf.frame_shape[-1] in (1, 3):
            frames = np.split(np.asarray(x[0]).reshape(-1, *leaf.shape)[0], leaf.frame_stack, axis=-1)
            return np.concatenate([np.broadcast_to(frame, (*frame.shape[:2], 3)) for frame in frames], axis=1)
    return None


def make_host_lanes(
    config: Config,
    parts: Parts,
    seeds: tuple[int, ...],
    episodes: int,
    keep_replay: bool,
    num_devices: int | None = None,
    eval_max_steps: int | None = None,
) -> Lanes:
    """The host loop as the only lane of a run.

    Args:
      config: static settings.
      parts: from `build`.
      seeds: of the run.
      episodes: of each evaluation.
      keep_replay: whether checkpoints hold the replay.
      num_devices: maximum number of devices for the shards, if there are any; by default all.
      eval_max_steps: steps after which an evaluation episode is cut and scored.

    Raises:
      SettingError: for more than one seed, or environments that do not divide evenly into groups.
    """
    remedy = "environments on the host run one seed in a process: use 1, and start a process for each seed"
    require(len(seeds) == 1, "seeds", len(seeds), remedy)
    groups = parts.env.num_groups
    check_groups(config.num_envs, groups, config.data_parallel)
    spread = make_spread(config.data_parallel, num_devices) if config.data_parallel > 1 else None
    everywhere = None if spread is None else shardings(spread, None)
    loop = HostLoop(config, parts, seeds[0], spread)
    shapes = jax.eval_shape(loop.functions.init, jax.random.key(0), Hypers())
    size = tree_bytes(shapes.memory)

    def first(tree: Any) -> Any:
        return jax.device_put(map_lane_leaves(lambda leaf: np.asarray(leaf)[0], tree), everywhere)

    def get(tree: Any) -> Any:
        return map_lane_leaves(lambda leaf: np.asarray(leaf)[None], jax.device_get(tree))

    def init(key: Any, h: Hypers, params: Any = None) -> HostState:
        state = loop.init(key, h)
        if params is not None:
            state = state.replace(learner=start_from(state.learner, params))  # type: ignore[attr-defined]
        return loop.begin(state, h, fill=True)

    def saved(state: HostState) -> Any:
        kept = jax.device_get(state if keep_replay else state.replace(memory=()))  # type: ignore[attr-defined]
        return {"run": kept, "recent_returns": loop.recent_returns}

    def restored(tree: Any, h: Hypers) -> HostState:
        loop.recent_returns = tree["recent_returns"]
        state = tree["run"]
        if keep_replay:
            return loop.begin(state, h, fill=False)
        # An empty replay is not all zeros: new rows need a priority to begin with.
        return loop.begin(state.replace(memory=loop.init(jax.random.key(0), h).memory), h, fill=True)

    def evaluate(params: Any, key: Any, epsilon: float) -> Evaluation:
        seed = int(np.asarray(key).astype(np.uint64) @ np.array([2**32, 1], np.uint64)) >> 1
        # Of a run in shards every device has the parameters, and the first one plays.
        nearby = params if spread is None else on_first_device(params)
        return loop.evaluate(nearby, seed, episodes, epsilon, eval_max_steps)

    def near(state: HostState) -> HostState:
        # A replay in the host's memory is not where the learner is.
        return state if config.replay_memory == "device" else state.replace(memory=())  # type: ignore[attr-defined]

    def probe(fn: Callable[..., Any]) -> Probed:
        jitted = jax.jit(fn)
        found = jax.eval_shape(fn, near(shapes), jax.eval_shape(zero_metrics))
        return Probed(found, lambda state, metrics: jitted(near(state), metrics))

    def watch(state: HostState) -> np.ndarray | None:
        return picture_of(parts.env.spec, state.actors[0].obs)

    return Lanes(
        plan=HostPlan(config.num_envs, groups, place_of_replay(config, spread), size),
        init=init,
        iterate=loop.iterate,
        evaluate=evaluate,
        put=first,
        get=get,
        saved=saved,
        like={
            "run": shapes if keep_replay else shapes.replace(memory=()),
            "recent_returns": jax.ShapeDtypeStruct((RECENT,), np.float64),
        },
        restored=restored,
        probe=probe,
        training_return=lambda: float(np.mean(loop.recent)) if loop.recent else None,
        watch=watch,
        check=lambda: check_memory(config, size if spread is None else bytes_of_device(spread, size)),
        close=loop.close,
    )
