"""The settings of a new or resumed run from the flags of `train`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp

from purejaxdqn import cli
from purejaxdqn.bounds import INT32, LIMITS, check_seeds, read_whole, whole
from purejaxdqn.build import check_pair, check_read, env_settings
from purejaxdqn.config import Config, SettingError, require
from purejaxdqn.envs.names import loop_of
from purejaxdqn.envs.own import is_own
from purejaxdqn.learning.explore import env_steps_at, epsilon_at
from purejaxdqn.machine.imports import require_imported
from purejaxdqn.recipes.files import find_recipe
from purejaxdqn.recipes.recipes import Recipe, default_recipe, make_settings, run_options
from purejaxdqn.runs.checkpoint import DamagedCheckpoint, latest_step, load_checkpoint
from purejaxdqn.runs.early_stopping import STEPS
from purejaxdqn.runs.folder import CHECKPOINTS, Settings, read_config
from purejaxdqn.train.groups import groups_of
from purejaxdqn.types import Hypers

COMMAND = "purejaxdqn-train"
DESCRIPTION = "`python -m purejaxdqn.train`: trains one or many seeds and leaves a run folder."


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The flags of `train` that are neither Config nor Hypers."""

    recipe: str | None = None
    """Named settings to start from, or a recipe file (TOML); by default those for the environment. Other flags override
    them."""
    algo: str | None = None
    """Algorithm: dqn, double, dueling, prioritized, n-step, noisy, c51, qr-dqn, iqn, fqf, m-dqn, m-iqn, rainbow or pqn;
    by default the recipe's own. Its ingredients are flags too, which override it."""
    seeds: int = 1
    """Number of seeds trained side by side, each a run of its own."""
    seed: int = 0
    """The first seed; --seeds 3 --seed 10 trains 10, 11 and 12."""
    out: str | None = None
    """Run folder; by default a new one under runs/."""
    resume: str | None = None
    """Folder of a run to resume from its newest checkpoint; no other flag is needed."""
    eval_episodes: int = 100
    """Episodes of each evaluation. With 0, for EnvPool alone, the newest 100 episodes of training are the score."""
    eval_epsilon: float = 0.0
    """Probability of a random action in evaluations; 0 is greedy."""
    eval_max_steps: int | None = None
    """Environment steps after which an evaluation episode is cut and scored; by default 27,000, half an hour of
    play, after which the Arcade Learning Environment cuts a game."""
    total_episodes: int | None = None
    """Episodes of training after which a seed ends, if --total-steps does not end it before."""
    count_prefill: bool = False
    """Whether --total-episodes counts the episodes of the prefill too (gymnax's environments)."""
    stop_at_return: float | None = None
    """A training episode with at least this return ends its seed."""
    patience: int | None = None
    """This many evaluations in a row without an improvement end a seed."""
    init_from: str | None = None
    """Folder of a run whose trained parameters to start from, in place of fresh ones."""
    init_which: Literal["last", "best"] = "best"
    """Which of its parameters."""
    log_every: int | None = None
    """Environment steps (per seed) between rows of metrics.csv; by default a hundredth of the run."""
    eval_every: int | None = None
    """Environment steps (per seed) between evaluations; by default the recipe's or the algorithm's, else a tenth of the
    run. The end is always evaluated."""
    eval_every_episodes: int | None = None
    """Episodes of training between evaluations, in place of --eval-every; checked after every --log-every steps."""
    checkpoint_every: int | None = None
    """Environment steps (per seed) between checkpoints; by default a tenth of the run, at most every two minutes. The
    end is always saved."""
    checkpoint_replay: bool = False
    """Whether checkpoints of a run on EnvPool hold the replay too (7 GB a million frames); its games always start anew.
    Runs on the device always keep all of it."""
    save_dataset: str | None = None
    """A file, NAME.npz, for the steps that the replay holds at the end: the newest --buffer-size of each seed, so all
    of them where that is --total-steps (see docs/offline.md)."""
    imports: cli.Several = ()
    """A module, or a file such as path/to/file.py, to import first, which has or registers parts of your own."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to run; auto is JAX's own choice."""
    compilation_cache: bool = True
    """Whether compiled programs are kept in the user's cache folder for the next start."""
    probe: str | None = None
    """A function (state, metrics) -> dict of numbers, which join the table, metrics.csv and TensorBoard:
    path/to/file.py:function or module:function."""
    callback: str | None = None
    """A function, named likewise, that is given what was just logged, and stops the run by returning True."""
    doctor: bool = False
    """Whether the run is examined at every evaluation: alarms are printed, everything is in doctor.json."""
    live: int | None = None
    """Serve the report on this port, to this machine alone, refreshed as chunks end; without a number, on one that is
    free."""
    wandb: bool = False
    """Whether to log to Weights & Biases too (needs the extra wandb)."""
    quiet: bool = False
    """Print nothing but errors."""


SAVED_OPTIONS = (
    *("eval_max_steps", "eval_every_episodes", "total_episodes", "stop_at_return", "patience"),
    *("count_prefill", "init_from", "init_which"),
)
"""Options that keep their values when a run is resumed."""
TYPED_ALONE = ("imports", "probe", "callback", "live")
"""Options that no recipe has, but who types them: they import a user's own modules, or open a port."""


def flags_class(config: Config, hypers: Hypers, options: RunOptions) -> type:
    """The dataclass whose fields are the flags, with defaults from a recipe or a saved run."""
    known = env_settings(config.env)
    for name, value in config.env_params:
        remedy = f"{config.env} has no such parameter; it has {', '.join(known)}"
        require(name in known, f"env_params.{name}", value, remedy)
    values = known | dict(config.env_params)
    env_flags = cli.number_flags(values, f"parameter of {config.env}")
    env_class = dataclasses.make_dataclass("EnvParams", env_flags, frozen=True)
    fields = [
        ("env", *cli.as_flags(config, skip=[f.name for f in dataclasses.fields(config) if f.name != "env"])[0][1:]),
        *cli.as_flags(options),
        *cli.as_flags(config, skip=["env", "env_params"]),
        *cli.as_flags(hypers),
        ("env_params", env_class, dataclasses.field(default_factory=env_class)),
    ]
    return dataclasses.make_dataclass("TrainFlags", fields, frozen=True)


def recipe_of(args: Sequence[str]) -> tuple[Recipe, str]:
    """The recipe and the environment that the flags name."""
    env, name = cli.peek(args, "--env"), cli.peek(args, "--recipe")
    if name is None:
        recipe = default_recipe(env or "CartPole-v1")
        return recipe, env or "CartPole-v1"
    recipe = find_recipe(name)
    return recipe, env or recipe.config.get("env", "CartPole-v1")


def split_flags(flags: Any) -> tuple[Config, Hypers, RunOptions]:
    """Parsed flags as validated settings."""
    defaults = env_settings(flags.env)
    changes = tuple(sorted((k, v) for k, v in dataclasses.asdict(flags.env_params).items() if v != defaults[k]))

    def take(cls: type, **more: Any) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(cls) if field.name not in more]
        return {name: getattr(flags, name) for name in names} | more

    config = Config(**take(Config, env_params=changes))
    return config, Hypers(**take(Hypers)).validate(), RunOptions(**take(RunOptions))


def number_of_seeds(args: Sequence[str]) -> int | None:
    """Seeds that a run will have, before its flags are parsed; None if it is not known yet."""
    resume, seeds = cli.peek(args, "--resume"), cli.peek(args, "--seeds")
    if resume is not None:
        return len(read_config(Path(resume))[0].seeds)
    if seeds is None:
        return RunOptions().seeds
    # What is out of bounds is refused with all the others.
    number = read_whole(seeds)
    return number if number and number > 0 else None


def number_of_shards(args: Sequence[str]) -> int:
    """Shards of each run, before its flags are parsed."""
    resume, shards = cli.peek(args, "--resume"), cli.peek(args, "--data-parallel")
    if resume is not None:
        return read_config(Path(resume))[0].config.data_parallel
    # Likewise.
    number = read_whole(shards or "") or Config.data_parallel
    return number if 1 <= number <= LIMITS["data_parallel"][1] else Config.data_parallel


def steps_on_host(args: Sequence[str]) -> bool:
    """Whether a run's environments will step on the host, before its flags are parsed."""
    resume = cli.peek(args, "--resume")
    if resume is not None:
        return loop_of(read_config(Path(resume))[0].config.env) == "host"
    name = cli.peek(args, "--recipe")
    env = cli.peek(args, "--env") or (str(find_recipe(name).config["env"]) if name else Config.env)
    # One of a user's own is imported and built later, when JAX has its devices.
    return not is_own(env) and loop_of(env) == "host"


def new_settings(args: Sequence[str]) -> tuple[Settings, RunOptions]:
    """Settings of a new run from its flags."""
    recipe, env = recipe_of(args)
    algo = cli.peek(args, "--algo")
    config, hypers = make_settings(recipe, env, algo)
    run = run_options(recipe, env, algo)
    known = {field.name for field in dataclasses.fields(RunOptions)} - set(TYPED_ALONE)
    for name in run:
        require(name in known, "recipe", recipe.name, f"[run] has no option {name}")
    cls = flags_class(config, hypers, dataclasses.replace(RunOptions(), **run))
    flags = cli.parse(cls, args, COMMAND, DESCRIPTION, groups_of(cls))
    config, hypers, options = split_flags(flags)
    # Once more with what was typed alone: a value that only the recipe chose is left out where nothing reads it now.
    typed = typed_settings(args, cls, config, hypers)
    config, hypers = make_settings(recipe, env, algo, **typed)
    on_host = loop_of(config.env) == "host"
    remedy = "a run on the device always saves its replay: leave the flag out"
    require(on_host or not options.checkpoint_replay, "checkpoint_replay", options.checkpoint_replay, remedy)
    count = whole("seeds", options.seeds)
    first = whole("seed", options.seed)
    check_seeds(first, count)
    settings = Settings(
        config=config,
        hypers=hypers,
        seeds=tuple(range(first, first + count)),
        log_every=options.log_every or min(INT32, max(1, config.total_steps // 100)),
        eval_every=options.eval_every or max(1, config.total_steps // 10),
        eval_episodes=options.eval_episodes,
        checkpoint_every=options.checkpoint_every,
        recipe=recipe.name,
        algo=algo or recipe.algo,
        eval_epsilon=options.eval_epsilon,
        keep_replay=options.checkpoint_replay or not on_host,
        **{name: getattr(options, name) for name in SAVED_OPTIONS},
    )
    return settings, options


def typed_settings(args: Sequence[str], cls: type, config: Config, hypers: Hypers) -> dict[str, Any]:
    """The fields of Config and Hypers that were typed, with their values; environment parameters count as one."""
    typed = {name.split(".", 1)[0] for name in cli.typed_fields(args, cls)}
    values = vars(config) | vars(hypers)
    return {name: value for name, value in values.items() if name in typed and name != "env"}


def resumed_settings(args: Sequence[str], folder: Path) -> tuple[Settings, RunOptions]:
    """Settings of a saved run; flags may change hypers and lengthen it, but not change anything that is compiled in.

    Raises:
      SettingError: if the folder holds no run, or a flag differs from what the run was made with.
    """
    saved, _, data = read_config(folder)
    require_imported(data.get("imports", ()))
    options = RunOptions(
        recipe=saved.recipe,
        algo=saved.algo,
        seeds=len(saved.seeds),
        seed=saved.seeds[0],
        eval_episodes=saved.eval_episodes,
        log_every=saved.log_every,
        eval_every=saved.eval_every,
        checkpoint_every=saved.checkpoint_every,
        eval_epsilon=saved.eval_epsilon,
        **{name: getattr(saved, name) for name in SAVED_OPTIONS},
        checkpoint_replay=saved.keep_replay and loop_of(saved.config.env) == "host",
    )
    env = cli.peek(args, "--env")
    fixed = "was {} when the run began, and a saved state fits that alone: leave the flag out, or begin a new run"
    require(env in (None, saved.config.env), "env", env, "the environment " + fixed.format(saved.config.env))
    cls = flags_class(saved.config, saved.hypers, options)
    flags = cli.parse(cls, args, COMMAND, DESCRIPTION, groups_of(cls))
    config, hypers, chosen = split_flags(flags)
    check_read(saved.config, typed_settings(args, cls, config, hypers))
    require(chosen.out is None, "out", chosen.out, "a resumed run stays in its folder: leave the flag out")
    for field in dataclasses.fields(Config):
        before, after = getattr(saved.config, field.name), getattr(config, field.name)
        longer = field.name == "total_steps" and after > before
        require(before == after or longer, field.name, after, "it " + fixed.format(cli.typed(before)))
    fixed_options = ("recipe", "algo", "seeds", "seed", "log_every", "eval_every", "eval_episodes", "eval_epsilon")
    for name in (*fixed_options, *SAVED_OPTIONS, "checkpoint_replay"):
        before, after = getattr(options, name), getattr(chosen, name)
        require(before == after, name, after, "it " + fixed.format(cli.typed(before)))
    check_pair(config, hypers)
    settings = dataclasses.replace(saved, config=config, hypers=hypers, checkpoint_every=chosen.checkpoint_every)
    check_goes_on(folder, saved, settings)
    return settings, chosen


def check_goes_on(folder: Path, saved: Settings, settings: Settings) -> None:
    """Raises `SettingError` if a setting is changed of a run that has nothing left to train."""
    changed = changes(saved.config, settings.config) | changes(saved.hypers, settings.hypers)
    if settings.checkpoint_every != saved.checkpoint_every:
        changed["checkpoint_every"] = settings.checkpoint_every
    step = latest_step(folder / CHECKPOINTS) if changed else None
    if step is None:
        return
    name, value = next(iter(changed.items()))
    remedy = "the run has come to its end, so nothing would be trained: lengthen it by --total-steps, or leave it out"
    require(step < settings.config.num_iterations, name, value, remedy)
    try:
        progress = load_checkpoint(folder / CHECKPOINTS, with_state=False).progress
    except DamagedCheckpoint as error:
        raise SettingError("resume", str(folder), f"{error}; begin a new run") from error
    causes = progress.get("endings", {}).get("ended_by", [None])
    remedy = "all of its seeds have ended, so nothing would be trained: leave the flag out, or begin a new run"
    require(any(cause in (None, STEPS) for cause in causes), name, value, remedy)


def changes(before: Any, after: Any) -> dict[str, Any]:
    """Fields of a dataclass that differ, with their new values."""
    return {name: value for name, value in vars(after).items() if value != getattr(before, name)}


def rewound(folder: Path, config: Config, hypers: Hypers) -> str | None:
    """How lengthening a run changes its ε, in a sentence; None if it does not.

    Args:
      folder: of the run, before it is resumed.
      config: of the resumed run; the folder has the earlier one.
      hypers: likewise.
    """
    saved, step = read_config(folder)[0], latest_step(folder / CHECKPOINTS)
    if step is None or config.total_steps == saved.config.total_steps or config.learner == "dataset":
        return None
    vector_steps = jnp.int32(config.prefill_steps + step * config.rollout_length)
    done = config.prefill_steps * config.num_envs + step * config.steps_per_iteration
    before, after = (float(epsilon_at(c, hypers, env_steps_at(c, vector_steps))) for c in (saved.config, config))
    if abs(before - after) < 1e-6:
        return None
    return (
        f"at environment step {done:,} ε goes from {before:.3g} to {after:.3g}, since schedules span --total-steps, "
        f"now {config.total_steps:,}"
    )
