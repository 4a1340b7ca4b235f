"""How lanes (seed × hypers) are laid out over the devices of a machine, and the memory that they take."""

from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.config import require
from purejaxdqn.loops.device import Agent
from purejaxdqn.types import Hypers

MEMORY_SHARE = 0.8
"""Share of a device's memory that the lanes' states may take: the rest is for temporaries and evaluation."""


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
        """One line for a person."""
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
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def make_plan(agent: Agent, num_lanes: int, block: int | None = None) -> Plan:
    """Lays lanes out over the local devices.

    Args:
      agent: the run's functions, for the size of a lane.
      num_lanes: lanes in all.
      block: lanes vmapped together; by default 1 on a CPU, else all of a device.

    Raises:
      SettingError: where the lanes' states do not fit the devices' memory; it says how many would.
    """
    devices = jax.local_devices()
    num_devices = min(num_lanes, len(devices))
    share = -(-num_lanes // num_devices)
    size = state_bytes(agent)
    room = int(MEMORY_SHARE * (devices[0].memory_stats() or {}).get("bytes_limit", 0))
    require(
        room == 0 or share * size <= room,
        "seeds",
        num_lanes,
        f"a lane takes {size / 2**20:.0f} MB, and {room // size * len(devices)} of them fit: use fewer, or a smaller "
        "buffer_size",
    )
    if block is None:
        block = 1 if devices[0].platform == "cpu" else share
    block = min(block, share)
    return Plan(num_lanes, num_devices, -(-share // block) * block, block, devices[0].platform, size)
