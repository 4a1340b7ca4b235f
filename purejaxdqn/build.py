"""Builds a run's functions from a `Config`: the registry of components, and which settings each of them reads."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from purejaxdqn.bounds import flag
from purejaxdqn.config import Config, EnvSpec, SettingError, require
from purejaxdqn.envs import own
from purejaxdqn.envs.interface import Env, HostEnv
from purejaxdqn.envs.last_step import with_last_step
from purejaxdqn.envs.names import env_settings as env_settings
from purejaxdqn.envs.names import loop_of, make_env
from purejaxdqn.kernels.choice import find_kernel
from purejaxdqn.learn import LearnFn, anneal_importance, make_replay_learn, make_rollout_learn
from purejaxdqn.learning import heads
from purejaxdqn.learning.backups import Backup, of_members
from purejaxdqn.learning.branching import branching_head, check_branching, network_spec, of_parts, part_sizes
from purejaxdqn.learning.choices import BACKUPS, CONSTRAINTS, EXPLORERS, HEADS, SHAPINGS
from purejaxdqn.learning.choices import Choice as Choice
from purejaxdqn.learning.explorers import Explorer, check_takes_masks, plain
from purejaxdqn.learning.heads import Head
from purejaxdqn.learning.horizons import anneal_horizon, check_horizon
from purejaxdqn.learning.normalization import FollowFn, fresh_statistics, keep_seen, make_follow, with_following
from purejaxdqn.learning.resets import check_resets, with_resets
from purejaxdqn.learning.schedules import BY_STEP, OFF_LATER
from purejaxdqn.learning.shaping import View, as_given, make_view
from purejaxdqn.machine.number_modes import in_precision, in_usual_modes
from purejaxdqn.machine.shards import make_shards
from purejaxdqn.networks import TORSOS, Network, make_ensemble, make_network, network_reads, own_torso, torso_name
from purejaxdqn.networks.memory import MEMORIES, check_memory
from purejaxdqn.networks.normalized import with_statistics
from purejaxdqn.replay.augmented import with_random_shifts
from purejaxdqn.replay.held import find_steps, on_data, replay_of, when_learning
from purejaxdqn.replay.hindsight import with_hindsight
from purejaxdqn.replay.interface import Replay, no_replay
from purejaxdqn.replay.presampled import drawn_replay
from purejaxdqn.replay.prioritized import prioritized
from purejaxdqn.replay.sequences import by_rows
from purejaxdqn.replay.stores import make_store
from purejaxdqn.replay.transitions import TransitionStore
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Hypers


def make_prioritized(config: Config, env: Env | HostEnv) -> Replay:
    """Prioritized replay, whose β is annealed over the run."""
    return prioritized(
        make_store(config, env),
        config.shard_batch,
        partial(anneal_importance, config),
        shards=make_shards(config.data_parallel),
    )


REPLAYS: dict[str, Choice] = {
    "uniform": Choice(lambda config, env: uniform(make_store(config, env), config.shard_batch)),
    "prioritized": Choice(
        make_prioritized,
        ("priority_exponent", "priority_epsilon", "importance_exponent", "importance_exponent_final"),
    ),
}
"""name -> (config, env) -> Replay."""
SEAMS: dict[str, dict[str, Choice]] = {
    "head": HEADS,
    "backup": BACKUPS,
    "replay": REPLAYS,
    "constraint": CONSTRAINTS,
    "reward_shaping": SHAPINGS,
    "explorer": EXPLORERS,
    "memory": MEMORIES,
}
_PLAYING = ("num_envs", "rollout_length", "explorer", "epsilon_schedule", "epsilon_final", "epsilon_ladder")
_Q_LEARNING = (
    *("replay", "backup", "batch_size", "updates_per_rollout", "n_step", "tau", "target_period", "ensemble"),
    *("random_shift", "anneal_horizon", "dataset", "constraint"),
)
FIXED: dict[str, dict[Any, tuple[str, ...]]] = {
    "learner": {
        "replay": (
            *(*_Q_LEARNING, *_PLAYING, "buffer_size", "learning_starts", "prefill", "update_kernel", "demo_share"),
            "hindsight",
        ),
        "rollout": (*_PLAYING, "num_epochs", "num_minibatches", "trace_lambda"),
        "dataset": _Q_LEARNING,
    },
    "loop": {"host": ("overlap", "replay_memory"), "device": ("log_episodes",)},
    "has_windows": {True: ("burn_in", "unroll", "window_period", "stored_carry")},
    "ranks_windows": {True: ("priority_eta",)},
    "hindsight": dict.fromkeys(("future", "final"), ("hindsight_share",)),
    "loss": {"huber": ("huber_delta",)},
    "epsilon_ladder": {True: ("ladder_exponent",)},
    "average_params": {True: ("average_decay",)},
    "resets": {True: ("reset_period", "reset_shrink", "reset_until")},
    "anneal_horizon": {True: ("gamma_start", "n_step_final", "anneal_updates")},
    "noisy": {True: ("noisy_sigma",)},
    "normalize_reward": {False: ("reward_scale",)},
    "optimizer": {
        **dict.fromkeys(("adam", "radam", "rmsprop"), ("adam_epsilon",)),
        "adamw": ("adam_epsilon", "weight_decay"),
    },
    "epsilon_schedule": {
        **dict.fromkeys(("linear", "exponential"), ("epsilon_start", "epsilon_fraction")),
        **dict.fromkeys(BY_STEP, ("epsilon_start", "epsilon_decay")),
        OFF_LATER: ("epsilon_start", "epsilon_fraction", "epsilon_off"),
    },
    "learning_rate_schedule": {"linear": ("learning_rate_final",)},
}
"""Of the settings whose values are no records: the settings that each value reads."""


def register(seam: str, name: str, make: Callable[..., Any], reads: tuple[str, ...] = ()) -> None:
    """Adds a choice to a seam, for a configuration to name.

    Args:
      seam: `head`, `backup`, `replay`, `constraint`, `reward_shaping`, `explorer`, `memory`, `env` or `network`.
      name: what `Config` and the command line will call it.
      make: (config) -> `Head`, `Backup`, `Constraint`, `View` or `Explorer`, or (config, env) -> `Replay`; for `env` a
        factory, whose arguments with numbers as defaults become `--env-params` (see `envs.own.as_env` for what it may
        give); for `network` (config) -> flax module from features [B, ...] to features [B, ...], such a module, or all
        of a network, by `whole_network`; for `memory` (config) -> module, see `networks.memory`.
      reads: fields of `Config` and `Hypers` that it reads beside those that every choice does.

    Raises:
      SettingError: where there is no such seam, or it has that name already.
    """
    seams: dict[str, dict[str, Any]] = {**SEAMS, "env": own.FACTORIES, "network": TORSOS}
    require(seam in seams, "seam", seam, f"use one of {', '.join(seams)}")
    require(name not in seams[seam], seam, name, "this name is taken: choose another")
    records: dict[str, Callable[..., Any]] = {"env": partial(own.own_factory, name), "network": own_torso}
    seams[seam][name] = records.get(seam, Choice)(make, reads)


def readers() -> dict[str, list[tuple[str, Any]]]:
    """For each setting that only some choices read: the (field, value) pairs that do."""
    table = {seam: {name: choice.reads for name, choice in choices.items()} for seam, choices in SEAMS.items()}
    found: dict[str, list[tuple[str, Any]]] = {}
    for field, values in (table | FIXED | {"network": network_reads()}).items():
        for value, names in values.items():
            for name in names:
                found.setdefault(name, []).append((field, value))
    return found


def is_read(config: Config, name: str) -> bool:
    """Whether a run with this configuration reads a field of `Config` or `Hypers`."""
    conditions = readers().get(name)
    if conditions is None:
        return True
    return any(value_of(config, field) == value and is_read(config, field) for field, value in conditions)


def value_of(config: Config, field: str) -> Any:
    """What `readers` has a condition on: a field of a configuration, or what follows from several or from its
    environment."""
    if field == "ranks_windows":
        return config.has_windows and config.replay == "prioritized"
    return loop_of(config.env) if field == "loop" else getattr(config, field)


def check_read(config: Config, values: dict[str, Any]) -> None:
    """Refuses settings that somebody chose and that nothing would read.

    Args:
      config: the whole configuration.
      values: fields of `Config` or `Hypers` that were chosen, with their values.

    Raises:
      SettingError: it names the choice that would read the first of them.
    """
    table = readers()
    for name, value in values.items():
        if is_read(config, name):
            continue
        conditions = table[name]
        fields = dict.fromkeys(f for f, _ in conditions if is_read(config, f)) or {conditions[0][0]: None}
        wanted = " or ".join(dict.fromkeys(flag(f, v) for f, v in conditions))
        now = " with ".join(flag(f, value_of(config, f)) for f in fields)
        raise SettingError(name, value, f"{now} does not read it: leave it out, or use {wanted}")


def check_pair(config: Config, hypers: Hypers) -> tuple[Config, Hypers]:
    """The same settings; raises `SettingError` where the traced ones are out of range or do not fit the static ones."""
    check_resets(config, hypers.validate())
    check_horizon(config, hypers)
    return config, hypers


def choose(seam: str, config: Config) -> Choice:
    """The choice that a configuration names.

    Raises:
      SettingError: for an unknown name, with those that there are.
    """
    name, choices = getattr(config, seam), SEAMS[seam]
    require(name in choices, seam, name, f"use one of {', '.join(choices)}")
    return choices[name]


class Parts(NamedTuple):
    """The seams, filled in, and the learning phase that they make."""

    env: Any
    """`Env` or `HostEnv`: each has its own loop."""
    network: Network
    head: Head
    replay: Replay
    learn: LearnFn
    view: View = as_given
    """What the learner is told of a step."""
    explorer: Explorer = plain()
    follow: FollowFn = keep_seen
    """How running statistics move with fresh rows, where no learning phase is given them."""
    data: TransitionStore | None = None
    """The steps of a dataset, in numpy: see `replay.held`."""


def build_env(config: Config, env: Env | HostEnv | None = None) -> Env | HostEnv:
    """The environment that a configuration names, or another; with the last step in its observations if it says so."""
    env = make_env(config.env, config.env_params) if env is None else env
    return with_last_step(env) if config.last_inputs else env


def build_model(config: Config, spec: EnvSpec) -> tuple[Network, Head]:
    """The network and the head that reads it, which is all that a trained policy needs."""
    head = choose("head", config).make(config)
    check_memory(config)
    check_branching(config, spec)
    memory = None if config.memory == "none" else choose("memory", config).make
    remedy = "it does not know of action masks, which this environment has: use --head scalar"
    require(not (spec.masked and config.head in ("bcq", "iql")), "head", config.head, remedy)
    network = make_network(config, network_spec(config, spec), head.outputs, memory=memory)
    torso, sizes = torso_name(config, spec), part_sizes(config, spec)
    head = branching_head(head, sizes) if sizes else head
    if config.ensemble > 1:
        network = make_ensemble(network, config.ensemble, config.prior_scale, torso)
        head = heads.ensemble_head(head)
    network = with_statistics(network, spec, fresh_statistics(config, spec))
    return Network(*(part and in_precision(config.matmul_precision, part) for part in network)), head


def build_backup(config: Config, spec: EnvSpec) -> Backup:
    """The backup, of every part of an action with branching, and of every member where there is an ensemble."""
    backup, sizes = choose("backup", config).make(config), part_sizes(config, spec)
    backup = of_parts(backup, sizes) if sizes else backup
    return backup if config.ensemble == 1 else of_members(backup)


def build_rollout_learner(config: Config, env: Any, network: Network, head: Head, data: Any) -> tuple[Replay, LearnFn]:
    """No replay, and the learning phase from the newest rollout."""
    del env, data
    remedy = "the rollout learner's λ-returns are expected returns: use --head scalar"
    require(config.head == "scalar", "head", config.head, remedy)
    remedy = "the rollout learner keeps no replay: leave it out"
    require(config.replay_memory == "device", "replay_memory", config.replay_memory, remedy)
    return no_replay(), make_rollout_learn(config, network, head)


def build_replay_learner(config: Config, env: Any, network: Network, head: Head, data: Any) -> tuple[Replay, LearnFn]:
    """The replay, and the learning phase with it."""
    backup, constraint = build_backup(config, env.spec), on_data(config, choose("constraint", config).make(config))
    replay = replay_of(config, with_hindsight(choose("replay", config).make, config), env, data)
    if config.anneal_horizon:
        before = replay.now
        replay = replay._replace(now=lambda h, updates: anneal_horizon(config, before(h, updates), updates))
    if config.has_windows:
        replay = by_rows(replay, config.burn_in)
    # A replay in the host's memory gives whole phases of batches to the device, and a dataset is given no rows.
    nearby = when_learning(config, replay) if config.replay_memory == "device" else drawn_replay()
    if config.random_shift:
        nearby = with_random_shifts(nearby, config.random_shift, env.spec)
    kernel = find_kernel(config, env.spec, backup)
    return replay, make_replay_learn(config, network, head, backup, nearby, kernel, constraint)


def build_learner(
    config: Config, env: Env | HostEnv, network: Network, head: Head, data: TransitionStore | None = None
) -> tuple[Replay, LearnFn]:
    """What a learner learns from, and its learning phase."""
    build_one = build_rollout_learner if config.learner == "rollout" else build_replay_learner
    replay, learn = build_one(config, env, network, head, data)
    if config.resets:
        # An MLP's streams share its first layer as a CNN's share the torso.
        learn = with_resets(learn, config, network.init, torso_name(config, env.spec) or "Hidden_0")
    # For the gradients, which are products of their own.
    learn = in_precision(config.matmul_precision, learn)
    return replay, with_following(learn, make_follow(config, env.spec))


def changed_settings(config: Config) -> dict[str, Any]:
    """Fields of a configuration that differ from the defaults."""
    return {name: value for name, value in vars(config).items() if value != getattr(Config, name)}


@in_usual_modes
def build(config: Config, env: Env | HostEnv | None = None) -> Parts:
    """Turns a configuration into functions.

    With `data_parallel` they are those of one shard: all but a network's parameters and greedy play need its axes.

    Args:
      config: static settings.
      env: in place of the one that the configuration names.

    Raises:
      SettingError: where the environment, or what it needs, cannot be had, or a setting would not be read.
    """
    check_read(config, changed_settings(config))
    env = build_env(config, env)
    network, head = build_model(config, env.spec)
    view = make_view(config, choose("reward_shaping", config).make(config))
    data = find_steps(config, env.spec, isinstance(env, HostEnv), view)
    replay, learn = build_learner(config, env, network, head, data)
    explorer = choose("explorer", config).make(config)
    if env.spec.masked:
        check_takes_masks(config.explorer, explorer)
    return Parts(env, network, head, replay, learn, view, explorer, make_follow(config, env.spec), data)
