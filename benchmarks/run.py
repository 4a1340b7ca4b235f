"""The suite of speed: every topic is a module of its own, with its own result files and flags; this runs them.

python -m benchmarks.run                                     # everything that this machine can measure
python -m benchmarks.run --only bounds parts --device cpu
python -m benchmarks.run --only peers solved --peers PEERS --clone purejaxrl=CLONE

Results are benchmarks/results/*.json; `python -m benchmarks.report` makes the tables of the pages from them. A topic
that fails costs only itself.
"""

import argparse
import importlib.util
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from purejaxdqn.machine.devices import PLATFORMS

Command = list[str]
"""A module of this package, and its flags."""


class Topic(NamedTuple):
    """One part of the suite."""

    words: str
    commands: Callable[[argparse.Namespace], list[Command]]
    minutes: str
    """On two cores."""


def on_device(*command: str) -> Callable[[argparse.Namespace], list[Command]]:
    """One module that takes a device."""
    small = ["--small", "--name", f"{command[0]}-small"]
    return lambda args: [[*command, "--device", args.device, *(small if args.small else [])]]


def replays(args: argparse.Namespace) -> list[Command]:
    """Replays by fan-out, and what they cost the whole loop; on the CPU."""
    small = ["--capacities", "1000", "--fan-outs", "8", "--trips", "20", "--repetitions", "2", "--dry-run"]
    return [["replay", *(small if args.small else [])], *([] if args.small else [["replay_loop"]])]


def peers(args: argparse.Namespace) -> list[Command]:
    """Contests, where there are environments of the peers."""
    if args.peers is None:
        return []
    size = ["--total-steps", "12000", "--repetitions", "1", "--name", "peers-small"] if args.small else []
    speed = ["speed", "--peers", args.peers, "--device", args.device, "--clone", *args.clone, *size]
    clones = dict(word.split("=", 1) for word in args.clone)
    if args.small or "purejaxrl" not in clones:
        return [speed]
    return [speed, ["peer_returns", "--peers", args.peers, "--clone", clones["purejaxrl"]]]


def solved(args: argparse.Namespace) -> list[Command]:
    """Time to solved; ours alone without environments of the peers."""
    found = ["--peers", args.peers] if args.peers else []
    return [["solved", *found, *(["--repetitions", "1", "--name", "solved-small"] if args.small else [])]]


def envpool(args: argparse.Namespace) -> list[Command]:
    """The loop on EnvPool, where that is installed."""
    if importlib.util.find_spec("envpool") is None:
        return []
    device = ["--device", args.device]
    if args.small:
        return [["atari", *device, "--num-envs", "4", "--seconds", "0.2", "--repetitions", "1", "--dry-run"]]
    return [["atari", *device, "--num-envs", "8", "--repetitions", "5"]]


def tried(args: argparse.Namespace) -> list[Command]:
    """Where the time goes, and what was tried to make it less; on the CPU."""
    return [] if args.small else [["kernels"], ["tried"]]


def pixels(args: argparse.Namespace) -> list[Command]:
    """An update of Nature's CNN; on the CPU."""
    return [] if args.small else [["pixels"]]


def memory(args: argparse.Namespace) -> list[Command]:
    """Whether memory grows with steps."""
    return [] if args.small else [["memory"], ["host_memory"]]


TOPICS: dict[str, Topic] = {
    "bounds": Topic("matrix rate and bandwidth", on_device("bounds"), "1"),
    "parts": Topic("stepping, acting, replay, one update, each beside its bound", on_device("parts"), "8"),
    "loops": Topic("the whole loop by environments, lanes and algorithm; compile time", on_device("loops"), "12"),
    "tried": Topic("kernels of an iteration, and what was tried to make it faster", tried, "4"),
    "pixels": Topic("an update of Nature's CNN, by variant and threads", pixels, "14"),
    "replay": Topic("replays by fan-out, and in the whole loop", replays, "10"),
    "peers": Topic("beside the peers", peers, "55"),
    "solved": Topic("seconds to a solved task", solved, "30"),
    "envpool": Topic("Atari on EnvPool", envpool, "3"),
    "memory": Topic("memory by length of run", memory, "5"),
}


def main() -> int:
    """Runs the topics one after another; 1 where one failed."""
    listed = "\n".join(f"  {name:8} {topic.words} ({topic.minutes} min)" for name, topic in TOPICS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nTopics, and minutes on two cores:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(TOPICS), default=list(TOPICS))
    parser.add_argument("--device", choices=PLATFORMS, default="auto")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the suite")
    parser.add_argument("--peers", metavar="FOLDER", help="the peers' environments (benchmarks.peers.environments)")
    parser.add_argument(
        "--clone", nargs="*", default=[], metavar="NAME=FOLDER", help="clones of peers not on the index"
    )
    args = parser.parse_args()
    failed = []
    for name in args.only:
        commands = TOPICS[name].commands(args)
        if not commands:
            print(f"{name}: left out, nothing here to measure it with", flush=True)
        for module, *flags in commands:
            print(f"{name}: python -m benchmarks.{shlex.join([module, *flags])}", flush=True)
            begin = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *flags])
            print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
            failed += [name] if done.returncode != 0 else []
    if failed:
        print(f"failed: {', '.join(dict.fromkeys(failed))}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
