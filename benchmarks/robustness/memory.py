"""Does memory grow with steps? Peak resident memory of a short run and of one ten times as long.

python -m benchmarks.memory
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common import run, write_result

SHORT, LONG = 200_000, 2_000_000


def peak(total_steps: int) -> int:
    """Peak bytes of one whole training process."""
    with tempfile.TemporaryDirectory() as scratch:
        flags = [
            # Both compile: else a compiler's memory, where one finds its program cached, would make the difference.
            "--no-compilation-cache",
            "--env",
            "CartPole-v1",
            "--total-steps",
            str(total_steps),
            "--quiet",
            "--out",
            str(Path(scratch) / "run"),
        ]
        return run([sys.executable, "-m", "purejaxdqn.train", *flags]).peak_bytes


def main() -> None:
    """Measures both lengths in turn and writes results/memory.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    peaks: dict[int, list[int]] = {SHORT: [], LONG: []}
    for _ in range(args.repetitions):
        for steps, found in peaks.items():
            found.append(peak(steps))
            print(f"{steps:,} steps: {found[-1] / 2**20:.1f} MiB", flush=True)
    medians = {steps: statistics.median(found) for steps, found in peaks.items()}
    data = {
        "peak_bytes": {str(steps): found for steps, found in peaks.items()},
        "median_ratio": round(medians[LONG] / medians[SHORT], 4),
    }
    write_result("memory", "peak resident memory of training CartPole-v1 for 200k and for 2M steps", data)
    print(f"ratio of medians: {data['median_ratio']}")


if __name__ == "__main__":
    main()
