"""Torsos (MLP, MinAtar, Nature and IMPALA CNN): from observations to features, by name."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.networks.layers import ACTIVATIONS, Conv, make_norm

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
        x = Conv(16 * self.config.torso_width, 3, 1, self.config.initializer, name="Conv_0")(x)
        x = make_norm(self.config, -1)(x)
        return ACTIVATIONS[self.config.activation](x)


class NatureTorso(nn.Module):
    """Three convolutions (Mnih et al. 2015), for [B, H, W, C] of at least 36 by 36; 84 by 84 gives [B, 7, 7, 64].

    The paper's dense layer of 512 is `Config.hidden`. With layer norm, PQN's network for Atari (Gallici et al. 2024).
    """

    config: Config
    convolutions: tuple[tuple[int, int, int], ...] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    """Filters, size of the kernel and stride of each."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, (width, size, stride) in enumerate(self.convolutions):
            filters = width * self.config.torso_width
            x = Conv(filters, size, stride, self.config.initializer, name=f"Conv_{i}")(x)
            x = ACTIVATIONS[self.config.activation](make_norm(self.config, -1)(x))
        return x


def half_size_torso(config: Config) -> nn.Module:
    """Nature's geometry on frames of half the size, with half its filters: 42 by 42 gives [B, 7, 7, 32].

    A kernel covers as much of the screen as Nature's does at 84 by 84, for a fifth of the arithmetic.
    """
    return NatureTorso(config, ((16, 4, 2), (32, 4, 2), (32, 3, 1)))


class ImpalaTorso(nn.Module):
    """Three stages of two residual blocks each (Espeholt et al. 2018, figure 3), for any [B, H, W, C].

    Each stage halves height and width, rounding up: 84 by 84 gives [B, 11, 11, 32]. The paper has no norm; a configured
    one stands before each activation, as everywhere. Spectral norm is on the four convolutions of each stage's residual
    blocks and not on its first, before the pooling (Clark et al. 2024, table D6).
    """

    config: Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for stage, width in enumerate((16, 32, 32)):
            x = self.convolve(x, width, f"Conv_{stage}", spectral_norm=False)
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
            for block in range(2):
                y = x
                for i in range(2):
                    name = f"Conv_{stage}_{block}_{i}"
                    y = self.convolve(self.activate(y), width, name, self.config.spectral_norm)
                x = x + y
        return self.activate(x)

    def convolve(self, x: Array, width: int, name: str, spectral_norm: bool) -> Array:
        """A 3×3 convolution that keeps height and width."""
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        filters = width * self.config.torso_width
        return Conv(filters, 3, 1, self.config.initializer, spectral_norm, name=name)(x)

    def activate(self, x: Array) -> Array:
        """The configured norm and activation."""
        return ACTIVATIONS[self.config.activation](make_norm(self.config, -1)(x))


class Torso(NamedTuple):
    """The layers between an observation's features and the dense layers."""

    make: MakeTorso | None
    """None if there are only dense layers. A module that wants the configured norm takes `make_norm`."""
    fits: Callable[[tuple[int, ...]], bool]
    """(shape of one observation) -> whether the torso can take it."""
    takes: str
    """What it can take, for the error message: "and <takes>: use mlp"."""
    reads: tuple[str, ...] = ()
    """Fields of `Config` that only some torsos read, this one among them."""


OF_PICTURES = ("torso_width", "pool")
"""Fields of `Config` that a torso for pictures reads."""


def picture_torso(name: str, make: MakeTorso, least: int, reads: tuple[str, ...] = ()) -> Torso:
    """A torso for images of at least `least` by `least`, where each convolution still has one output position."""
    takes = f"{name} takes [height, width, channels] of at least {least} by {least}"
    return Torso(make, lambda shape: len(shape) == 3 and min(shape[:2]) >= least, takes, OF_PICTURES + reads)


TORSOS: dict[str, Torso] = {
    "mlp": Torso(None, lambda shape: True, "an MLP takes any"),
    "minatar-cnn": picture_torso("minatar-cnn", MinAtarTorso, least=3),
    "nature-cnn": picture_torso("nature-cnn", NatureTorso, least=36),
    "half-cnn": picture_torso("half-cnn", half_size_torso, least=18),
    "impala-cnn": picture_torso("impala-cnn", ImpalaTorso, least=1, reads=("spectral_norm",)),
}
"""Torso by name. Another name may be added; `auto` is no entry, see `automatic_torso`."""


def made_anew(module: Any) -> nn.Module:
    """A module like another, made where it is called, so that it belongs to the network that is being made there."""
    fields = [field.name for field in dataclasses.fields(module) if field.init and field.name not in ("parent", "name")]
    return type(module)(**{name: getattr(module, name) for name in fields})


def own_torso(make: MakeTorso | nn.Module, reads: tuple[str, ...] = ()) -> Torso:
    """A torso of a user's own, which says itself what it cannot take.

    Args:
      make: (config) -> module, or a module that reads nothing of the configuration.
      reads: fields of `Config` that only some torsos read.
    """
    made: MakeTorso = (lambda config: made_anew(make)) if isinstance(make, nn.Module) else make
    return Torso(made, lambda shape: True, "it takes any", reads)


def automatic_torso(shape: tuple[int, ...]) -> str:
    """The torso that `auto` selects: a CNN for observations of rank 3, by their size, else the MLP."""
    if len(shape) != 3:
        return "mlp"
    return "nature-cnn" if TORSOS["nature-cnn"].fits(shape) else "minatar-cnn"


def torso_reads() -> dict[str, tuple[str, ...]]:
    """For each value of `Config.network`, the settings that only some torsos read; `auto` may take one for pictures."""
    return {"auto": OF_PICTURES, **{name: torso.reads for name, torso in TORSOS.items()}}


def torso_name(config: Config, spec: EnvSpec) -> str | None:
    """Name of the torso among a network's modules, which flax gives by its class; None where there is none."""
    make = find_torso(config, spec).make
    return None if make is None else f"{type(make(config)).__name__}_0"


def find_torso(config: Config, spec: EnvSpec) -> Torso:
    """The torso that `Config.network` names; for `auto` see `automatic_torso`.

    Raises:
      SettingError: if there is no such torso, or it cannot take the observation's shape.
    """
    torsos = {"auto": TORSOS[automatic_torso(spec.obs_shape)], **TORSOS}
    require(config.network in torsos, "network", config.network, f"use one of {', '.join(torsos)}")
    torso = torsos[config.network]
    require(
        torso.fits(spec.obs_shape),
        "network",
        config.network,
        f"{spec.env_id} gives observations of shape {spec.obs_shape}, and {torso.takes}: use mlp",
    )
    for name in sorted(set(torso_reads()[config.network]) - set(torso.reads)):
        value, unset = getattr(config, name), getattr(Config, name)
        why = f"{spec.env_id} gives observations of shape {spec.obs_shape}, for which auto takes an MLP"
        require(value == unset, name, value, f"{why}, and that does not read it: leave it out")
    return torso
