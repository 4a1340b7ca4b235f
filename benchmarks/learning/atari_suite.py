"""Five Atari games, two protocols, three seeds, in pieces that resume: `benchmarks.atari_learning`, one by one.

python -m benchmarks.atari_suite --minutes 9             # again and again, until it says that nothing is left
python -m benchmarks.atari_suite --recipes sticky-pqn --games Phoenix-v5 --seeds 1 --minutes 9

The games are Atari-5, whose scores say most of all 57 (Aitchison et al. 2023, "Atari-5: Distilling the Arcade Learning
Environment down to Five Games"); 10M steps are 40M frames. Each run has a file of its own, results/atari-NAME.json, and
docs/atari.md a table of those that there are.
"""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.common import counted, read_result

GAMES = ("BattleZone-v5", "DoubleDunk-v5", "NameThisGame-v5", "Phoenix-v5", "Qbert-v5")
RECIPES = tuple(
    f"{protocol}-{algo}" for algo, protocol in itertools.product(("pqn", "rainbow", "btr"), ("nature", "sticky"))
)
SEEDS = (1, 2, 3)
SHORTEST = 60.0
"""Seconds for which a piece is still begun: starting and compiling take some of them."""


class Run(NamedTuple):
    """One training run of the suite."""

    seed: int
    recipe: str
    game: str

    @property
    def name(self) -> str:
        """Of its folder and of its result."""
        return f"{self.game}-{self.recipe}-{self.seed}"

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return bool((read_result(f"atari-{self.name}") or {}).get("finished"))


def unfinished(recipes: list[str], games: list[str], seeds: list[int]) -> Iterator[Run]:
    """What is left to train: one seed of everything before the next one."""
    runs = (Run(*chosen) for chosen in itertools.product(seeds, recipes, games))
    return (run for run in runs if not run.finished)


def main() -> None:
    """Trains for so long, and says what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--total-steps", type=int, default=10_000_000, help="of each run (default: 10,000,000)")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call (default: 9)")
    args, extra = parser.parse_known_args()
    end = time.perf_counter() + 60 * args.minutes
    for run in unfinished(args.recipes, args.games, args.seeds):
        left = end - time.perf_counter()
        if left < SHORTEST:
            break
        command = [sys.executable, "-m", "benchmarks.atari_learning", "--env", run.game, "--recipe", run.recipe]
        command += ["--seed", str(run.seed), "--total-steps", str(args.total_steps), *extra]
        # What is evaluated when it is stopped takes a moment more.
        subprocess.run([*command, "--name", run.name, "--minutes", f"{left / 60 - 0.2:.1f}"], check=True)
    left = list(unfinished(args.recipes, args.games, args.seeds))
    print(f"{counted(len(left), 'run')} left" + (f", the next is {left[0].name}" if left else ""))


if __name__ == "__main__":
    main()
