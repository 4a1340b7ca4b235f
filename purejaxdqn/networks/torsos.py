"""Torsos: from observations to features, by name."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.networks.layers import ACTIVATIONS, NORMS, Conv3x3

MakeTorso = Callable[[Config], nn.Module]
"""config -> a module that maps features [B, ...] to features [B, ...]."""


def to_features(obs: Array, num_obs_values: int | None) -> Array:
    """Observations in the environment's dtype as float32: one-hot if discrete, pixels scaled to [0, 1].

    Args:
      obs: [B, ...].
      num_obs_values: see `EnvSpec`.
    """
    if num_obs_values is not None:
        return nn.one_hot(obs, num_obs_values)
    scale = 1.0 / 255.0 if obs.dtype == jnp.uint8 else 1.0
    return obs.astype(jnp.float32) * scale


class MinAtarTorso(nn.Module):
    """One convolution of 16 3×3 filters (Young & Tian 2019), for [B, H, W, C] with any number of channels."""

    config: Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv3x3(16, self.config.initializer, name="Conv_0")(x)
        x = NORMS[self.config.norm](-1)(x)
        return ACTIVATIONS[self.config.activation](x)


class Torso(NamedTuple):
    """What stands between an observation's features and the dense layers."""

    make: MakeTorso | None
    """None where there is nothing but dense layers. A module that wants the configured norm takes it from `NORMS`."""
    fits: Callable[[tuple[int, ...]], bool]
    """(shape of one observation) -> whether the torso can take it."""
    takes: str
    """What it can take, for the error: "and <takes>: use mlp"."""


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether a 3×3 convolution without padding can take an observation of this shape."""
    return len(shape) == 3 and min(shape[:2]) >= 3


TORSOS: dict[str, Torso] = {
    "mlp": Torso(None, lambda shape: True, "an MLP takes any"),
    "minatar-cnn": Torso(MinAtarTorso, is_picture, "a CNN takes [height, width, channels] of at least 3 by 3"),
}
"""Torso by name. Another name may be added; `auto` is no entry, see `find_torso`."""


def find_torso(config: Config, spec: EnvSpec) -> Torso:
    """The torso that `Config.network` names; `auto` is the CNN for observations of rank 3, else the MLP.

    Raises:
      SettingError: where there is no such torso, or it cannot take the observation's shape.
    """
    automatic = "minatar-cnn" if len(spec.obs_shape) == 3 else "mlp"
    torsos = {"auto": TORSOS[automatic], **TORSOS}
    require(config.network in torsos, "network", config.network, f"use one of {', '.join(torsos)}")
    torso = torsos[config.network]
    require(
        torso.fits(spec.obs_shape),
        "network",
        config.network,
        f"{spec.env_id} gives observations of shape {spec.obs_shape}, and {torso.takes}: use mlp",
    )
    return torso
