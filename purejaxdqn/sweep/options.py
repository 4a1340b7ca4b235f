"""The flags of `sweep` that are neither Config nor Hypers."""

import dataclasses
from collections.abc import Collection
from typing import Literal

from purejaxdqn import cli
from purejaxdqn.bounds import as_type, check_seeds, flag_name, require

RankName = Literal["last", "best", "area"]
SearchName = Literal["tpe", "cmaes", "random"]
SelectionName = Literal["truncation", "tournament", "t-test"]


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """The flags of `sweep` that are neither Config nor Hypers."""

    file: str | None = None
    """A TOML file with the same settings as flags; flags take precedence. See docs/sweeps.md."""
    recipe: str | None = None
    """Named settings to start from, or a recipe file; by default those for the environment."""
    seeds: int = 8
    """Seeds of every setting."""
    seed: int = 0
    """The first seed; --seeds 3 --seed 10 trains 10, 11 and 12."""
    random: int | None = None
    """Number of settings drawn at random from the axes, in place of every combination of their values."""
    draw_seed: int = 0
    """Seed of the random draws: another one gives other settings."""
    rank_by: RankName = "last"
    """What settings are ranked by: the `last` parameters, the `best` ones by evaluation, or the `area` under the
    evaluations."""
    halving: bool = False
    """Successive halving: settings that trail are dropped on the way, so that steps go to those that lead."""
    halving_factor: int = 2
    """At each rung one setting in this many continues, and the next rung is this many times as far."""
    halving_first: float = 0.175
    """Share of the run after which the first settings are dropped."""
    pbt: bool = False
    """Population-based training: the settings of a seed are a population, of which those that trail become copies of
    others, with other hyperparameters."""
    pbt_every: float = 0.1
    """Share of the run between two generations of a population."""
    pbt_selection: SelectionName = "truncation"
    """Who is copied: one of the best fifth by each of the worst; in a tournament the better of two; by t-test where it
    is better by more than chance."""
    search: SearchName | None = None
    """Who proposes settings, by the scores of those before them: Optuna's TPE, CMA-ES or random draws (needs the extra
    optuna). Ranges without a count, such as loguniform:1e-4:1e-2, and lists of values are what it searches."""
    trials: int = 64
    """Settings that a search proposes in all."""
    trials_at_once: int = 8
    """Settings that a search proposes at a time; with their seeds they are trained side by side."""
    study: str | None = None
    """The study.log of an earlier search of the same ranges, whose scores this one begins with."""
    out: str | None = None
    """Folder of the sweep; by default a new one under sweeps/."""
    resume: str | None = None
    """Folder of a sweep to resume; no other flag is needed."""
    eval_episodes: int = 50
    """Episodes of each evaluation."""
    eval_epsilon: float = 0.0
    """Probability of a random action in evaluations; 0 is greedy."""
    eval_max_steps: int | None = None
    """Environment steps after which an evaluation episode is cut and scored; by default 27,000."""
    total_episodes: int | None = None
    """Episodes of training after which a lane ends, if --total-steps does not end it before."""
    stop_at_return: float | None = None
    """A training episode with at least this return ends its lane."""
    patience: int | None = None
    """This many evaluations in a row without an improvement end a lane."""
    log_every: int | None = None
    """Environment steps (per lane) between rows of curves.npz; by default a fiftieth of the run."""
    eval_every: int | None = None
    """Environment steps (per lane) between evaluations; by default a tenth of the run. The end is always evaluated."""
    checkpoint_minutes: float = 2.0
    """Minutes of work that a sweep may lose when it is stopped."""
    lanes_per_block: int | None = None
    """Lanes vmapped together; by default 1 on a CPU, else what the memory holds."""
    dry_run: bool = False
    """Print what would be done and how long it may take, and exit."""
    report: bool = True
    """Whether the sweep ends with report.html and the animation of its best policy."""
    distributed: bool = False
    """Whether this is one of several processes that JAX finds by itself (SLURM, Open MPI, Kubernetes)."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, where JAX cannot find it by itself."""
    num_processes: int | None = None
    """Number of processes, with --coordinator."""
    process_id: int | None = None
    """Which of them this is, from 0, with --coordinator."""
    coordinator_timeout: int = 60
    """Seconds to wait for the others at the start."""
    imports: cli.Several = ()
    """A module, or a file such as path/to/file.py, to import first, which has or registers parts of your own."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to run; auto is JAX's own choice."""
    compilation_cache: bool = True
    """Whether compiled programs are kept in the user's cache folder for the next start."""
    quiet: bool = False
    """Print nothing but errors."""


DEFINING = (
    *("seeds", "seed", "random", "draw_seed", "rank_by", "halving", "halving_factor", "halving_first"),
    *("eval_episodes", "eval_epsilon", "eval_max_steps", "total_episodes", "stop_at_return", "patience"),
    *("log_every", "eval_every", "lanes_per_block", "pbt", "pbt_every", "pbt_selection"),
    *("search", "trials", "trials_at_once"),
)
"""Options that determine a sweep's results or its division into units: they cannot change on resuming."""


READERS = {
    **dict.fromkeys(("halving_factor", "halving_first"), ("halving", True)),
    **dict.fromkeys(("pbt_every", "pbt_selection"), ("pbt", True)),
    **dict.fromkeys(("trials", "trials_at_once", "study"), ("search", "tpe")),
}
"""Options that nothing reads unless another one is set -> that one, and a value."""


def check_read(options: SweepOptions, typed: Collection[str]) -> None:
    """Raises `SettingError` for the first typed option that nothing would read."""
    for name, (reader, value) in READERS.items():
        with_it = flag_name(reader) if value is True else f"{flag_name(reader)} {value}"
        remedy = f"nothing reads it without {flag_name(reader)}: add {with_it}, or leave it out"
        require(name not in typed or bool(getattr(options, reader)), name, getattr(options, name), remedy)


def check_options(options: SweepOptions) -> None:
    """Raises `SettingError` if an option cannot work."""
    for field in dataclasses.fields(options):
        as_type(field.type, field.name, getattr(options, field.name))
    check_seeds(options.seed, options.seeds)
    for other in ("halving", "search"):
        remedy = f"a population changes its settings by itself: leave out {flag_name(other)}, or --pbt"
        require(not (options.pbt and getattr(options, other)), other, getattr(options, other), remedy)
    remedy = "a search proposes settings by itself: leave out --random, or --search"
    require(options.search is None or options.random is None, "random", options.random, remedy)
    remedy = "a t-test compares spreads, and one episode has none: use at least 2, or another --pbt-selection"
    spread = options.eval_episodes > 1 or not options.pbt or options.pbt_selection != "t-test"
    require(spread, "eval_episodes", options.eval_episodes, remedy)
    require(options.eval_episodes >= 1, "eval_episodes", options.eval_episodes, "use a whole number of at least 1")
