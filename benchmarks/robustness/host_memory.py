"""Does the host loop's memory grow? Resident memory and live device buffers over 200,000 steps with a full ring.

python -m benchmarks.host_memory
"""

import argparse
import gc
import resource
from pathlib import Path
from typing import Any

from purejaxdqn.machine.devices import use_platform

use_platform("auto", 1, on_host=True)

import jax  # noqa: E402

from benchmarks.common import write_result  # noqa: E402
from purejaxdqn.build import build  # noqa: E402
from purejaxdqn.config import Config  # noqa: E402
from purejaxdqn.loops.host import HostLoop  # noqa: E402
from purejaxdqn.types import Hypers  # noqa: E402

WHAT = "resident bytes and live buffers of the host loop on Pong-v5 with a full ring of frames, by environment steps"


def resident_bytes() -> int:
    """What the process holds now; the most that it ever held where the system says no more."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measures, writes the results and prints a line for every tenth of the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pong-v5")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--buffer-size", type=int, default=20_000)
    args = parser.parse_args()
    # A small network: memory is what is asked for, and it has every array that a large one has.
    config = Config(
        env=args.env,
        total_steps=args.steps + 2 * args.buffer_size,
        num_envs=16,
        buffer_size=args.buffer_size,
        batch_size=8,
        learning_starts=args.buffer_size,
        hidden=(8,),
        network="mlp",
        norm="none",
    )
    loop = HostLoop(config, build(config), 0)
    h = Hypers().as_arrays()
    state = loop.begin(loop.init(jax.random.key(0), h), h, fill=True)
    state, _ = loop.iterate(state, h, 200)
    found: list[dict[str, Any]] = []
    chunk = args.steps // 10 // config.num_envs
    for index in range(11):
        gc.collect()
        found.append(
            {
                "env_steps": index * chunk * config.num_envs,
                "ring_is_full": bool(state.memory.ring.written.count >= state.memory.ring.capacity),
                "resident_bytes": resident_bytes(),
                "live_buffers": len(jax.live_arrays()),
            }
        )
        print(found[-1], flush=True)
        if index < 10:
            state, _ = loop.iterate(state, h, chunk)
    loop.close()
    growth = found[-1]["resident_bytes"] / found[0]["resident_bytes"]
    write_result("host_memory", WHAT, {"env": args.env, "growth": growth, "measured": found})
    print(f"after {args.steps:,} steps {growth:.4f} times the memory, {found[-1]['live_buffers']} buffers")


if __name__ == "__main__":
    main()
