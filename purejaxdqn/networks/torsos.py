"""Torsos (MLP, MinAtar, Nature and IMPALA CNN): from observations to features, by name."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.networks.layers import (
    ACTIVATIONS,
    Conv,
    Hidden,
    adaptive_max_pool,
    as_floats,
    make_norm,
    of_values,
)
from purejaxdqn.observations.leaves import Leaf, list_leaves

MakeTorso = Callable[[Config], nn.Module]
"""config -> a module that maps features [B, ...], or a tree of such, to features [B, ...]."""


def to_features(obs: Array, num_obs_values: int | None, divisor: float | None = None) -> Array:
    """One array of observations, in the environment's dtype, as float32: one-hot if discrete, pixels scaled to [0, 1].

    Args:
      obs: [B, ...]; a discrete picture [B, H, W, C] of N values becomes one of C · N channels.
      num_obs_values: see `EnvSpec`.
      divisor: of the numbers; None for 255 of uint8, and 1 of others.
    """
    if num_obs_values is not None:
        hot = nn.one_hot(obs, num_obs_values)
        return hot.reshape(*obs.shape[:3], -1) if obs.ndim == 4 else hot
    scale = 1.0 / (divisor or (255.0 if obs.dtype == jnp.uint8 else 1.0))
    return obs.astype(jnp.float32) * scale


def fed(module: nn.Module, x: Any) -> Any:
    """Features as a module takes them: pictures of bytes as numbers, unless it says that it takes bytes."""
    return x if getattr(module, "takes_bytes", False) else jax.tree.map(as_floats, x)


def run_torso(torso: nn.Module, x: Any) -> Array:
    """A torso's output for features."""
    found: Array = torso(fed(torso, x))
    return found


def join(features: Any) -> Array:
    """All features of a tree of arrays [B, ...] in a row, [B, F]."""
    floats = map(as_floats, jax.tree.leaves(features))
    rows = [leaf.reshape(leaf.shape[0], -1) for leaf in floats]
    return rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=1)


def pool_picture(config: Config, x: Array) -> Array:
    """A torso's output [B, H, W, C] as [B, P, P, C]; raises `SettingError` where P is more than H or W."""
    rows, columns = x.shape[1:3]
    remedy = f"the torso's output is {rows} by {columns}: use at most {min(rows, columns)}"
    require(config.pool <= min(rows, columns), "pool", config.pool, remedy)
    return adaptive_max_pool(x, config.pool)


class MinAtarTorso(nn.Module):
    """One convolution of 16 3×3 filters (Young & Tian 2019), for [B, H, W, C] with any number of channels."""

    config: Config
    takes_bytes: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Any) -> Array:
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
    takes_bytes: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Any) -> Array:
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
    takes_bytes: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Any) -> Array:
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

    def convolve(self, x: Any, width: int, name: str, spectral_norm: bool) -> Array:
        """A 3×3 convolution that keeps height and width."""
        x = of_values(lambda values: jnp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0))), x)
        filters = width * self.config.torso_width
        return Conv(filters, 3, 1, self.config.initializer, spectral_norm, name=name)(x)

    def activate(self, x: Array) -> Array:
        """The configured norm and activation."""
        return ACTIVATIONS[self.config.activation](make_norm(self.config, -1)(x))


class TreeTorso(nn.Module):
    """Of a tree of arrays [B, ...]: a torso for each picture, a dense layer for each other array, joined to [B, F].

    Without its layer a vector of a few numbers would be lost among the thousands that a picture's torso gives.
    """

    config: Config
    makes: tuple[MakeTorso | None, ...]
    """Of the arrays, in JAX's order; None where there is a dense layer, as wide as the first of `Config.hidden`."""
    takes_bytes: ClassVar[bool] = True

    @nn.compact
    def __call__(self, features: Any) -> Array:
        config, found = self.config, []
        for make, x in zip(self.makes, jax.tree.leaves(features), strict=True):
            if make is None:
                row = join(x)
                found.append(Hidden(config, config.hidden[0])(row.T).T if config.hidden else row)
            else:
                x = run_torso(make(config), x)
                found.append(pool_picture(config, x) if config.pool else x)
        return join(found)


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
    of_pictures: bool = False
    """Whether it takes one picture. Then each picture of a tree gets one of its own; another torso takes the tree."""
    whole: bool = False
    """Whether it is a whole network, after which there is no layer; see `whole_network`."""
    source: Any = None
    """The module or function that it was made from, of a user's own."""


OF_PICTURES = ("torso_width", "pool")
"""Fields of `Config` that a torso for pictures reads."""


def picture_torso(name: str, make: MakeTorso, least: int, reads: tuple[str, ...] = ()) -> Torso:
    """A torso for images of at least `least` by `least`, where each convolution still has one output position."""
    takes = f"{name} takes [height, width, channels] of at least {least} by {least}"
    return Torso(make, lambda shape: len(shape) == 3 and min(shape[:2]) >= least, takes, OF_PICTURES + reads, True)


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


def own_torso(make: MakeTorso | nn.Module | Torso, reads: tuple[str, ...] = ()) -> Torso:
    """A torso of a user's own, which says itself what it cannot take.

    Args:
      make: (config) -> module, or a module that reads nothing of the configuration; or what `whole_network` gave.
      reads: fields of `Config` that only some torsos read.
    """
    if isinstance(make, Torso):
        return make._replace(reads=make.reads + reads)
    made: MakeTorso = (lambda config: made_anew(make)) if isinstance(make, nn.Module) else make
    return Torso(made, lambda shape: True, "it takes any", reads, source=make)


def network_name(network: Any) -> str:
    """The name, in this process, of a network that was passed as an object: its class's or its function's.

    Args:
      network: as for `own_torso`. Passed again, the same object has the same name.
    """
    torso = own_torso(network)
    for name, known in TORSOS.items():
        if known.source is torso.source and known.whole == torso.whole:
            return name
    title = getattr(torso.source, "__name__", type(torso.source).__name__)
    names = itertools.chain([title], (f"{title}-{i}" for i in itertools.count(2)))
    name = next(name for name in names if name not in TORSOS)
    TORSOS[name] = torso
    return name


def automatic_torso(shape: tuple[int, ...]) -> str:
    """The torso that `auto` selects: a CNN for observations of rank 3, by their size, else the MLP."""
    if len(shape) != 3:
        return "mlp"
    return "nature-cnn" if TORSOS["nature-cnn"].fits(shape) else "minatar-cnn"


LAYERS = ("hidden", "activation", "initializer", "norm", "dueling", "noisy", "resets", "memory")
"""Fields of `Config` that every network reads but a whole one of a user's own."""


def network_reads() -> dict[str, tuple[str, ...]]:
    """For each value of `Config.network`, the settings that not all networks read."""
    whole = {name for name, torso in TORSOS.items() if torso.whole}
    layers = LAYERS if whole else ()
    return {name: reads if name in whole else reads + layers for name, reads in torso_reads().items()}


def torso_reads() -> dict[str, tuple[str, ...]]:
    """For each value of `Config.network`, the settings that only some torsos read; `auto` may take one for pictures."""
    return {"auto": OF_PICTURES, **{name: torso.reads for name, torso in TORSOS.items()}}


def torso_name(config: Config, spec: EnvSpec) -> str | None:
    """Name of the torso among a network's modules, which flax gives by its class; None where there is none."""
    torso = find_torso(config, spec)
    return None if torso.make is None or torso.whole else f"{type(torso.make(config)).__name__}_0"


def torso_of(config: Config, env_id: str, leaf: Leaf) -> Torso:
    """The torso that `Config.network` names, for one array; see `find_torso`."""
    torsos = {"auto": TORSOS[automatic_torso(leaf.shape)], **TORSOS}
    require(config.network in torsos, "network", config.network, f"use one of {', '.join(torsos)}")
    torso, gives = torsos[config.network], f"{env_id} gives {leaf.name or 'observations'} of shape {leaf.shape}"
    require(torso.fits(leaf.shape), "network", config.network, f"{gives}, and {torso.takes}: use mlp")
    for name in sorted(set(torso_reads()[config.network]) - set(torso.reads)):
        value, unset = getattr(config, name), getattr(Config, name)
        why = f"{gives}, for which auto takes an MLP"
        require(value == unset, name, value, f"{why}, and that does not read it: leave it out")
    return torso


def find_torso(config: Config, spec: EnvSpec) -> Torso:
    """The torso that `Config.network` names; for `auto` see `automatic_torso`.

    Of a tree one for pictures becomes a `TreeTorso`; an MLP takes all numbers in a row, and a user's own the tree.

    Raises:
      SettingError: if there is no such torso, or it cannot take the observation's shape.
    """
    leaves = list_leaves(spec)
    pictures = [leaf for leaf in leaves if leaf.is_picture]
    found = {leaf: torso_of(config, spec.env_id, leaf) for leaf in pictures or leaves}
    torso = next(iter(found.values()))
    if not torso.of_pictures or leaves[0].path == ():
        return torso
    makes = tuple(found[leaf].make if leaf in found else None for leaf in leaves)
    return torso._replace(make=lambda config: TreeTorso(config, makes))
