"""The five tutorials as settings: faithful to their texts, and beside each what it takes to solve its task reliably.

Every value is an ordinary field of `Config`, `Hypers` or the run; what a text leaves open has the library's default,
save where the text's own framework has one that matters (Keras's initialiser). All are plain DQN, whose choices at the
seams `recipes` adds. Further recipes are a faithful one with the few values that `VARIANTS` names.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NO_TIME_LIMIT = 1_000_000_000
"""Steps that no episode reaches."""


class Tutorial(NamedTuple):
    """One tutorial's settings."""

    description: str
    """Where the values come from, and what the text leaves open."""
    config: Mapping[str, Any]
    """What differs from plain DQN, and what a run needs beside it."""
    hypers: Mapping[str, Any]
    run: Mapping[str, Any]
    solved_at: float | None = None


_COMMON = {
    "num_envs": 1,
    "norm": "none",
    "learning_rate_schedule": "constant",
    "reduction": "mean",
}
_NO_CLIP = float("inf")

KERAS_MOUNTAINCAR = Tutorial(
    "Reinforcement Learning with Keras and OpenAI: DQNs. The listing trains on 32 single samples a step, here they are "
    "one batch; it draws them without replacement, here with. Keras's own initialiser and Adam's ε.",
    config={
        **_COMMON,
        "env": "MountainCar-v0",
        "total_steps": 20_000,
        "rollout_length": 1,
        "updates_per_rollout": 1,
        "buffer_size": 2_000,
        "batch_size": 32,
        "learning_starts": 32,
        "prefill": "policy",
        "hidden": (24, 48, 24),
        "activation": "relu",
        "initializer": "glorot_uniform",
        "loss": "squared",
        "optimizer": "adam",
        "epsilon_schedule": "multiplicative",
        "last_step_reward": -20.0,
        "bootstrap_truncation": False,
        "log_episodes": 64,
    },
    hypers={
        "learning_rate": 0.01,
        "adam_epsilon": 1e-7,
        "max_grad_norm": _NO_CLIP,
        "gamma": 0.95,
        "tau": 0.05,
        "target_period": 1,
        "epsilon_start": 1.0,
        "epsilon_decay": 0.995,
        "epsilon_final": 0.01,
    },
    # An episode that is over by its 199th step is the text's success, and ends it.
    run={"total_episodes": 100, "stop_at_return": -199.0, "log_every": 1_000, "eval_every": 10_000},
    solved_at=-110.0,
)
TORCHKERAS_CARTPOLE = Tutorial(
    "DQN in 30 minutes (torchkeras). The listing asks its policy twice in a step, so its ε falls twice as fast; its "
    "validation episodes stop at 200 steps, here they stop at 300 like those of its last evaluation.",
    config={
        **_COMMON,
        "env": "CartPole-v1",
        "total_steps": 300_000,
        "rollout_length": 5,
        "updates_per_rollout": 1,
        "buffer_size": 2_048,
        "batch_size": 128,
        "learning_starts": 512,
        "prefill": "policy",
        "hidden": (32, 16),
        "activation": "tanh",
        "loss": "huber",
        "optimizer": "adam",
        "epsilon_schedule": "decremental",
        "log_episodes": 64,
    },
    hypers={
        "learning_rate": 0.01,
        "max_grad_norm": 1.0,
        "gamma": 0.9,
        "tau": 1.0,
        "target_period": 200,
        "epsilon_start": 0.1,
        "epsilon_decay": 0.001,
        "epsilon_final": 0.01,
        "huber_delta": 1.0,
    },
    # An epoch is an episode of training and one of evaluation.
    run={
        "total_episodes": 600,
        "patience": 100,
        "eval_every_episodes": 1,
        "eval_episodes": 1,
        "eval_max_steps": 300,
        "log_every": 100,
    },
    solved_at=288.5,
)
NOTE51_CARTPOLE = Tutorial(
    "PyTorch Note 51: Deep Q Networks. No target is masked: a fallen pole is worth what its last observation is. "
    "The text has no evaluation; here it stops at 500 steps.",
    config={
        **_COMMON,
        "env": "CartPole-v1",
        "env_params": (("max_steps_in_episode", NO_TIME_LIMIT),),
        "total_steps": 300_000,
        "rollout_length": 1,
        "updates_per_rollout": 1,
        "buffer_size": 2_000,
        "batch_size": 32,
        "learning_starts": 2_000,
        "prefill": "policy",
        "hidden": (50,),
        "activation": "relu",
        "initializer": "normal",
        "loss": "squared",
        "optimizer": "adam",
        "epsilon_schedule": "constant",
        "reward_shaping": "cartpole-distance",
        "mask_terminals": False,
        "log_episodes": 256,
    },
    hypers={
        "learning_rate": 0.01,
        "max_grad_norm": _NO_CLIP,
        "gamma": 0.9,
        "tau": 1.0,
        "target_period": 100,
        "epsilon_final": 0.1,
    },
    # Its three hundred episodes begin with those that fill its memory.
    run={
        "total_episodes": 300,
        "count_prefill": True,
        "log_every": 1_000,
        "eval_max_steps": 500,
        "eval_episodes": 10,
    },
    solved_at=475.0,
)
# 84 × 84 × 4 grey frames, skip 4, maximum over two frames and up to 30 no-ops are EnvPool's defaults here.
_NATURE_CONFIG = {
    **_COMMON,
    "env": "Pong-v5",
    "network": "nature-cnn",
    "hidden": (512,),
    "rollout_length": 4,
    "updates_per_rollout": 1,
    "batch_size": 32,
    "learning_starts": 50_000,
    "buffer_size": 1_000_000,
    "total_steps": 10_000_000,
}
_NATURE_HYPERS = {
    "learning_rate": 2.5e-4,
    "max_grad_norm": _NO_CLIP,
    "gamma": 0.99,
    "tau": 1.0,
    "target_period": 2_500,
    "epsilon_start": 1.0,
    "epsilon_final": 0.1,
    "epsilon_fraction": 0.1,
}
_ATARI_RUN = {"eval_episodes": 10, "eval_epsilon": 0.05, "eval_every": 250_000}
PYTORCH_ATARI = Tutorial(
    "Deep Q Network with PyTorch. The text has the network, Adam, the squared error and ε from 1 (0.05 in tests); the "
    "rest is Nature's.",
    config={**_NATURE_CONFIG, "loss": "squared", "optimizer": "adam"},
    hypers=_NATURE_HYPERS,
    run=_ATARI_RUN,
)
NATURE_ATARI = Tutorial(
    "A Tour of Gotchas When Implementing Deep Q Networks. Nature's settings with the text's own: mean over the batch "
    "and learning rate 0.00025; frames are kept as uint8.",
    config={**_NATURE_CONFIG, "loss": "huber", "optimizer": "rmsprop"},
    # Nature's 0.01 is beside a squared gradient that is summed over 32.
    hypers={**_NATURE_HYPERS, "adam_epsilon": 0.01 / 32**2, "huber_delta": 1.0},
    run=_ATARI_RUN,
)
FAITHFUL: Mapping[str, Tutorial] = MappingProxyType(
    {
        "keras-mountaincar": KERAS_MOUNTAINCAR,
        "pytorch-atari": PYTORCH_ATARI,
        "nature-atari": NATURE_ATARI,
        "torchkeras-cartpole": TORCHKERAS_CARTPOLE,
        "note51-cartpole": NOTE51_CARTPOLE,
    }
)
# Pong's frames as in pong-laptop (recipes/atari.py), and ten-step double DQN.
_LAPTOP = {
    "env_params": (("img_height", 42), ("img_width", 42)),
    "network": "half-cnn",
    "hidden": (256,),
    "norm": "layer",
    "num_envs": 32,
    "rollout_length": 1,
    "batch_size": 128,
    "learning_starts": 20_000,
    "buffer_size": 100_000,
    "total_steps": 1_250_000,
    "n_step": 10,
    "backup": "double",
    "adam_epsilon": 1e-5,
    "learning_rate": 3e-4,
    "learning_rate_schedule": "linear",
    "target_period": 250,
    "epsilon_final": 0.01,
    "epsilon_fraction": 0.12,
    "average_params": True,
    "eval_every": 100_000,
    "eval_epsilon": 0.001,
}
_ON_A_LAPTOP = (
    "for Pong on two cores: frames of 42 by 42, a torso for them with layer normalisation, ten-step double targets, "
    "32 environments, a step size that falls and averaged parameters."
)
VARIANTS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = MappingProxyType(
    {
        "keras-mountaincar-copy": (
            "keras-mountaincar",
            "with the target network of its listing, a copy in every step, in place of the τ that the text declares.",
            {"tau": 1.0},
        ),
        "keras-mountaincar-tuned": (
            "keras-mountaincar",
            "with layer normalisation, a tenth of its learning rate, a longer horizon and the steps to learn in.",
            {
                "norm": "layer",
                "learning_rate": 1e-3,
                "gamma": 0.99,
                "total_steps": 150_000,
                "total_episodes": None,
                "stop_at_return": None,
            },
        ),
        "torchkeras-cartpole-tuned": (
            "torchkeras-cartpole",
            "with layer normalisation, ten episodes to an evaluation and more patience.",
            {"norm": "layer", "eval_episodes": 10, "patience": 300, "total_episodes": 1_000},
        ),
        "note51-cartpole-tuned": (
            "note51-cartpole",
            "with a learning rate that falls to zero over the run.",
            {"learning_rate_schedule": "linear"},
        ),
        "pytorch-atari-tuned": (
            "pytorch-atari",
            "with Huber's loss and the step size and ε of Dopamine's Adam; not measured yet.",
            {"loss": "huber", "learning_rate": 6.25e-5, "adam_epsilon": 1.5e-4, "epsilon_final": 0.01},
        ),
        "nature-atari-tuned": (
            "nature-atari",
            "with Dopamine's Adam in place of RMSProp; not measured yet.",
            {"optimizer": "adam", "learning_rate": 6.25e-5, "adam_epsilon": 1.5e-4, "epsilon_final": 0.01},
        ),
        "pytorch-atari-laptop": ("pytorch-atari", _ON_A_LAPTOP, {**_LAPTOP, "loss": "huber"}),
        "nature-atari-laptop": ("nature-atari", _ON_A_LAPTOP, {**_LAPTOP, "optimizer": "adam"}),
        "note51-cartpole-masked": (
            "note51-cartpole",
            "with its targets masked, as they ought to be.",
            {"mask_terminals": True},
        ),
    }
)
"""name -> the recipe that it differs from, in what words, and in which values."""
