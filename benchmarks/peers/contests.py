"""Who is measured against whom, on what: each peer's own settings, and purejaxdqn's set to the same.

A peer's settings are in its runner beside this file; here is what makes ours equal to them: the same network, batch,
replay, environments, updates for a step, target and exploration. What cannot be made equal is said in `differs`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Contest(NamedTuple):
    """One comparison."""

    words: str
    """The peer's name in tables."""
    environment: str
    """Folder of its virtual environment, as `benchmarks.peers.environments` names it."""
    module: str
    """Its runner."""
    settings: str
    """For a reader."""
    total_steps: int
    """Of each seed."""
    config: Mapping[str, Any]
    """Fields of ours."""
    hypers: Mapping[str, Any]
    seeds: tuple[int, ...] = (1,)
    """Seeds trained at once: more than one where the peer can."""
    bars: Mapping[int, float] = {}
    """How many times as fast ours is to be, by number of seeds."""
    clone: str | None = None
    """Repository that the peer is taken from, where the package index does not have it."""
    flags: tuple[str, ...] = ()
    """Of the runner."""
    learning_only: bool = False
    """Whether only what comes after the prefill is timed: some peers' compilation lies inside their loop."""
    differs: str = ""


_MLP = {"env": "CartPole-v1", "norm": "none", "backup": "max", "n_step": 1, "learning_rate_schedule": "constant"}
# CleanRL's, which PureJaxRL took over with ten environments in place of one.
_CLEANRL = {**_MLP, "hidden": (120, 84), "batch_size": 128, "buffer_size": 10_000, "loss": "squared"}
_CLEANRL_HYPERS = {"learning_rate": 2.5e-4, "target_period": 50, "epsilon_final": 0.05}
# Peers on gymnax take the end of time for the end of the episode; so does ours beside them.
_CUT = {"bootstrap_truncation": False}
_ONE = {"num_envs": 1, "rollout_length": 10}
_PUREJAXQL = {
    **_CUT,
    "env": "CartPole-v1",
    "learner": "rollout",
    "num_envs": 32,
    "rollout_length": 64,
    "num_epochs": 4,
    "num_minibatches": 16,
    "hidden": (256, 256),
    "norm": "layer",
    "optimizer": "radam",
    "reward_scale": 0.1,
}
_PUREJAXQL_HYPERS = {
    "learning_rate": 1e-4,
    "max_grad_norm": 10.0,
    "trace_lambda": 0.95,
    "epsilon_final": 0.2,
    "epsilon_fraction": 0.2,
}

CONTESTS: dict[str, Contest] = {
    "purejaxrl": Contest(
        "PureJaxRL `dqn.py`",
        "purejaxrl",
        "purejaxrl_dqn",
        "CartPole-v1, MLP 120-84, 10 environments, an update of 128 for every 10 steps, replay 10,000",
        300_000,
        {**_CLEANRL, **_CUT, "num_envs": 10, "learning_starts": 10_000},
        {**_CLEANRL_HYPERS, "epsilon_fraction": 250_000 / 300_000},
        seeds=(1, 16),
        bars={1: 2.0, 16: 4.0},
        clone="luchris429/purejaxrl",
        differs="its own main vmaps a single seed, too, and so it is run; all its seeds begin with the same parameters "
        "and draw the same numbers, since `make_train` goes on with a constant key, so its returns are of one seed",
    ),
    "rejax": Contest(
        "rejax's DQN",
        "rejax",
        "rejax_dqn",
        "CartPole-v1, its defaults: MLP 64-64 (swish), 1 environment, an update of 256 for every step, replay 131,072",
        32_768,
        {
            **_MLP,
            **_CUT,
            "num_envs": 1,
            "hidden": (64, 64),
            "activation": "silu",
            "backup": "double",
            "loss": "squared",
            "batch_size": 256,
            "buffer_size": 131_072,
            "learning_starts": 2_048,
        },
        {"learning_rate": 3e-4, "tau": 0.01, "target_period": 1, "epsilon_final": 0.05, "epsilon_fraction": 0.1},
        bars={1: 3.0},
        differs="its evaluations during training are left out; its greedy policy keeps ε = 0.005",
    ),
    "purejaxql": Contest(
        "purejaxql `pqn_gymnax.py`",
        "purejaxql",
        "purejaxql_pqn",
        "CartPole-v1, its settings: PQN, MLP 256-256 with layer norm, 32 environments × 64 steps, 4 × 16 minibatches",
        500_000,
        _PUREJAXQL,
        _PUREJAXQL_HYPERS,
        seeds=(1, 16),
        bars={1: 1.5},
        clone="mttga/purejaxql",
        differs="its own main vmaps a single seed, too, and so it is run; its tests during training are switched off; "
        "it keeps running statistics of a batch norm that it does not use",
    ),
    "purejaxql-rnn": Contest(
        "purejaxql `pqn_rnn_gymnax.py`",
        "purejaxql",
        "purejaxql_pqn",
        "CartPole-v1, its settings: PQN with a GRU of 256 and two layers of 256, 32 environments × 64 steps, 4 × 16 "
        "minibatches",
        500_000,
        {**_PUREJAXQL, "memory": "gru", "memory_size": 256, "last_inputs": True},
        _PUREJAXQL_HYPERS,
        bars={1: 1.5},
        clone="mttga/purejaxql",
        flags=("--memory",),
        differs="of both layers before its GRU one is after ours, which is told the last reward, too; every rollout it "
        "learns from has 4 steps of the one before, and targets are made anew in each update; its own main vmaps a "
        "single seed, too, and so it is run; its tests during training are switched off",
    ),
    "stoix-r2d2": Contest(
        "Stoix `rec_r2d2.py`",
        "stoix",
        "stoix_r2d2",
        "CartPole-v1, its settings: R2D2 with a GRU of 256, 1,024 environments × 40 steps, then 32 updates of 32 "
        "windows of 80",
        253_952,
        {
            "env": "CartPole-v1",
            "num_envs": 1_024,
            "rollout_length": 40,
            "updates_per_rollout": 32,
            "batch_size": 32,
            "learning_starts": 131_072,
            "prefill": "policy",
            "buffer_size": 163_840,
            "memory": "gru",
            "memory_size": 256,
            "burn_in": 40,
            "unroll": 35,
            "window_period": 40,
            "n_step": 5,
            "hidden": (256, 256, 256),
            "norm": "layer",
            "dueling": True,
            "backup": "double",
            "replay": "prioritized",
            "rescale_values": True,
            "loss": "squared",
            "learning_rate_schedule": "constant",
            "epsilon_schedule": "constant",
        },
        {
            "learning_rate": 1e-4,
            "adam_epsilon": 1e-5,
            "max_grad_norm": 0.5,
            "tau": 0.005,
            "target_period": 1,
            "epsilon_final": 0.1,
            "priority_exponent": 0.9,
            "importance_exponent": 0.6,
        },
        clone="EdanToledo/Stoix",
        learning_only=True,
        differs="it learns from 39 of a window's steps, by targets of fewer steps at its end, and ours from 35, by 5 "
        "steps each; of the two layers around its GRU ours has both before it; its replay of 100,000 steps has no "
        "room for its own warm-up, so both have 163,840; its loss is summed over a window; too short to compare "
        "returns: a figure of speed alone",
    ),
    "sbx": Contest(
        "SBX's DQN",
        "sbx",
        "sb3_dqn",
        "CartPole-v1, MLP 120-120, 1 environment, an update of 128 for every 10 steps, replay 10,000, Huber",
        60_000,
        {**_CLEANRL, **_ONE, "hidden": (120, 120), "loss": "huber", "learning_starts": 1_000},
        {**_CLEANRL_HYPERS, "target_period": 125, "epsilon_fraction": 0.5},
        bars={1: 20.0},
        flags=("--library", "sbx"),
    ),
    "sb3": Contest(
        "Stable-Baselines3's DQN",
        "sb3",
        "sb3_dqn",
        "CartPole-v1, MLP 120-84, 1 environment, an update of 128 for every 10 steps, replay 10,000, Huber",
        60_000,
        {**_CLEANRL, **_ONE, "loss": "huber", "learning_starts": 1_000},
        {**_CLEANRL_HYPERS, "target_period": 125, "max_grad_norm": 10.0, "epsilon_fraction": 0.5},
        bars={1: 30.0},
        flags=("--library", "stable_baselines3"),
    ),
    "cleanrl": Contest(
        "CleanRL's `dqn_jax.py`",
        "cleanrl",
        "cleanrl_dqn",
        "CartPole-v1, its settings: MLP 120-84, 1 environment, an update of 128 for every 10 steps, replay 10,000",
        60_000,
        {**_CLEANRL, **_ONE, "learning_starts": 10_000},
        {**_CLEANRL_HYPERS, "epsilon_fraction": 0.5},
        clone="vwxyzjn/cleanrl",
        learning_only=True,
    ),
    "cleanrl-atari": Contest(
        "CleanRL's `dqn_atari_jax.py`",
        "cleanrl",
        "cleanrl_dqn",
        "Breakout, Nature's network, 1 environment, an update of 32 for every 4 steps, replay of 20,000 frames",
        6_000,
        {
            "env": "Breakout-v5",
            "num_envs": 1,
            "rollout_length": 4,
            "hidden": (512,),
            "norm": "none",
            "backup": "max",
            "n_step": 1,
            "loss": "squared",
            "batch_size": 32,
            "buffer_size": 20_000,
            "learning_starts": 2_000,
            "learning_rate_schedule": "constant",
        },
        {"learning_rate": 1e-4, "target_period": 250, "epsilon_final": 0.01, "epsilon_fraction": 0.1},
        clone="vwxyzjn/cleanrl",
        flags=("--atari",),
        learning_only=True,
        differs="too short to learn anything: a figure of speed alone; its replay and prefill are made smaller",
    ),
    "dopamine": Contest(
        "Dopamine's `JaxDQNAgent`",
        "dopamine",
        "dopamine_dqn",
        "CartPole-v0, its settings: MLP 512-512, 1 environment, an update of 128 for every 4 steps, replay 50,000",
        20_000,
        {
            **_MLP,
            "env_params": (("max_steps_in_episode", 200),),
            "num_envs": 1,
            "rollout_length": 4,
            "hidden": (512, 512),
            "initializer": "glorot_uniform",
            "loss": "squared",
            "batch_size": 128,
            "buffer_size": 50_000,
            "learning_starts": 500,
            "epsilon_schedule": "constant",
        },
        {"learning_rate": 1e-3, "adam_epsilon": 3.125e-4, "target_period": 25, "epsilon_final": 0.01},
        learning_only=True,
        differs="it scales observations to [-1, 1]; its prefill acts by its policy",
    ),
}
