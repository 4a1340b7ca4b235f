"""How lanes (seed × hypers) are laid out over the devices of a machine, and the memory that they take."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from purejaxdqn.config import Config, SettingError, require
from purejaxdqn.loops.device import Agent
from purejaxdqn.machine.devices import available_bytes
from purejaxdqn.observations.leaves import list_leaves
from purejaxdqn.types import Hypers

MEMORY_SHARE = 0.8
"""Share of a device's memory that the lanes' states may take, and all of a program: the rest is for other arrays."""


class NoRoom(SettingError):
    """More lanes than fit into memory, although some do."""


class Plan(NamedTuple):
    """How lanes are laid out."""

    num_lanes: int
    num_devices: int
    lanes_per_device: int
    """Lanes of each device, the padding that makes devices equal included; the padding costs no time."""
    block: int
    """Lanes vmapped together; 1 maps them one after another."""
    platform: str
    lane_bytes: int
    """Memory of one lane's state."""

    def describe(self) -> str:
        """A one-line description."""
        each = f"{self.lane_bytes / 2**20:.1f} MB"
        device = "core" if self.platform == "cpu" else self.platform.upper()
        if self.num_lanes == 1:
            return f"1 lane on 1 {device}, {each}"
        how = "one after another on each" if self.block == 1 else f"vmapped in blocks of {self.block}"
        devices = f"{self.num_devices} {device}{'s' if self.num_devices > 1 else ''}"
        return f"{self.num_lanes} lanes on {devices}, {how}, {each} a lane"


def state_bytes(agent: Agent) -> int:
    """Bytes of one lane's state, without making one."""
    return tree_bytes(jax.eval_shape(agent.init, jax.random.key(0), Hypers()))


def tree_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def room_of_device() -> int:
    """Bytes that the lanes of one device may take; the devices of a CPU share its memory."""
    devices = jax.local_devices()
    return int(MEMORY_SHARE * available_bytes()) // (len(devices) if devices[0].platform == "cpu" else 1)


def make_plan(agent: Agent, num_lanes: int, block: int | None = None) -> Plan:
    """Distributes lanes over the local devices.

    Args:
      agent: the run's functions, for the size of a lane.
      num_lanes: lanes in all.
      block: lanes vmapped together; by default 1 on a CPU, else all of a device.

    Raises:
      SettingError: if the lanes' states do not fit the devices' memory; it says how many would.
    """
    devices = jax.local_devices()
    num_devices = min(num_lanes, len(devices))
    share = -(-num_lanes // num_devices)
    size = state_bytes(agent)
    # Of a CPU's devices those without lanes leave their part to the others.
    room = room_of_device() * (len(devices) // num_devices if devices[0].platform == "cpu" else 1)
    fit = room // size * num_devices
    takes = f"a lane takes {size / 2**20:,.0f} MB, and {fit:,} of them fit"
    largest = "buffer_size" if agent.config.learner == "replay" else "num_envs"
    require(fit > 0, largest, getattr(agent.config, largest), f"{takes}: use a smaller number")
    if share * size > room:
        raise NoRoom("seeds", num_lanes, f"{takes}: use fewer, or a smaller buffer_size")
    if block is None:
        block = 1 if devices[0].platform == "cpu" else share
    block = min(block, share)
    return Plan(num_lanes, num_devices, -(-share // block) * block, block, devices[0].platform, size)


SMALL_SHARE = 100
"""Multiple of the largest layer's outputs: no measured program needs as much memory besides its state."""


class Work(NamedTuple):
    """The largest number of examples that one program processes at once, and the setting that determines it."""

    program: str
    field: str
    examples: int


def works(config: Config, eval_episodes: int) -> tuple[Work, ...]:
    """The work of one lane's programs."""
    batch = {
        "replay": ("batch_size", config.batch_size),
        "rollout": ("num_envs", config.steps_per_iteration),
        "dataset": ("batch_size", config.batch_size),
    }[config.learner]
    rollout = Work("iterate", "num_envs", config.steps_per_iteration)
    return (rollout, Work("iterate", *batch), Work("evaluate", "eval_episodes", eval_episodes))


def check_work(agent: Agent, plan: Plan, eval_episodes: int, needed: Callable[[str], int]) -> None:
    """Raises `SettingError` if a program would need more memory besides the lanes' states than is available, and
    `NoRoom` where fewer lanes vmapped together would need less.

    What cannot fit is rejected at once, and what certainly fits is accepted; a program is compiled only in between.

    Args:
      agent: the run's functions.
      plan: of the lanes.
      eval_episodes: of each evaluation.
      needed: name of a program, `iterate` or `evaluate` -> bytes that it needs on each device besides its arguments.
    """
    config, spec = agent.config, agent.spec
    used = plan.num_devices if plan.platform == "cpu" else 1
    room = int(MEMORY_SHARE * available_bytes()) // used - plan.lane_bytes * plan.lanes_per_device
    width = sum(leaf.features for leaf in list_leaves(spec)) + max(config.hidden, default=0)
    for work in works(config, eval_episodes):
        least = 4 * work.examples * width * plan.block
        if least * SMALL_SHARE <= room:
            continue
        size = least if least > room else needed(work.program)
        value = getattr(config, work.field, eval_episodes)
        most = max(1, value * room // size)
        takes = f"{work.program} takes {size / 2**20:,.0f} MB at once of each of {used} devices"
        takes = f"{takes}, and {room / 2**20:,.0f} MB are free"
        if size > room and plan.block > 1:
            raise NoRoom("seeds", plan.num_lanes, f"{takes} beside the lanes' states: use fewer")
        require(size <= room, work.field, value, f"{takes}: use at most {most:,}")
