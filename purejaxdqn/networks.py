"""Networks: a torso for the observation's shape and a linear layer of action values."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.types import Dist

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "elu": nn.elu,
}
INITIALIZERS: dict[str, Callable[[], Any]] = {
    "lecun_normal": nn.initializers.lecun_normal,
    "he_normal": nn.initializers.he_normal,
    "he_uniform": nn.initializers.he_uniform,
    "glorot_uniform": nn.initializers.glorot_uniform,
    "orthogonal": nn.initializers.orthogonal,
}


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


class FeatureMajorDense(nn.Module):
    """`nn.Dense` on features [F, B] instead of [B, F]: the same parameters, gradients and initialisation.

    A batch is a multiple of a vector register's width and a layer's width often is not, so the batch belongs on the
    contiguous axis: on a CPU an update of a small network is a tenth faster for it.
    """

    width: int
    initializer: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", INITIALIZERS[self.initializer](), (x.shape[0], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return jax.lax.dot_general(kernel, x, (((0,), (0,)), ((), ()))) + bias[:, None]


class Hidden(nn.Module):
    """A dense layer on features [F, B], layer normalisation if wanted, and an activation."""

    width: int
    activation: str
    initializer: str
    layer_norm: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = FeatureMajorDense(self.width, self.initializer, name="Dense_0")(x)
        if self.layer_norm:
            x = nn.LayerNorm(reduction_axes=0, feature_axes=0)(x)
        return ACTIVATIONS[self.activation](x)


class Conv3x3(nn.Module):
    """`nn.Conv(width, (3, 3), padding="VALID")` as one matrix product: same function, parameters and initialisation.

    XLA's convolutions are slow on a CPU: with the gradient this took a third to a tenth of `nn.Conv`'s time (MinAtar
    observations, batches of 10 to 128).
    """

    width: int
    initializer: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        height, width, channels = x.shape[-3:]
        kernel = self.param("kernel", INITIALIZERS[self.initializer](), (3, 3, channels, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        # The nine shifted pictures joined on channels, in the order of the kernel's rows and columns.
        patches = jnp.concatenate(
            [x[..., i : i + height - 2, j : j + width - 2, :] for i in range(3) for j in range(3)], axis=-1
        )
        return patches @ kernel.reshape(9 * channels, self.width) + bias.reshape(1, 1, 1, -1)


class MinAtarTorso(nn.Module):
    """One convolution of 16 3×3 filters (Young & Tian 2019), for [B, H, W, C] with any number of channels."""

    activation: str
    initializer: str
    layer_norm: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv3x3(16, self.initializer, name="Conv_0")(x)
        if self.layer_norm:
            x = nn.LayerNorm()(x)
        return ACTIVATIONS[self.activation](x)


class QNetwork(nn.Module):
    """Torso, dense hidden layers and a linear layer of [A, N] outputs."""

    convolution: bool
    hidden: Sequence[int]
    activation: str
    initializer: str
    layer_norm: bool
    num_actions: int
    num_atoms: int
    num_obs_values: int | None

    @nn.compact
    def __call__(self, obs: Array) -> Dist:
        x = to_features(obs, self.num_obs_values)
        if self.convolution:
            x = MinAtarTorso(self.activation, self.initializer, self.layer_norm)(x)
        x = x.reshape(x.shape[0], -1).T
        for width in self.hidden:
            x = Hidden(width, self.activation, self.initializer, self.layer_norm)(x)
        x = FeatureMajorDense(self.num_actions * self.num_atoms, self.initializer, name="Output")(x)
        return Dist(x=x.T.reshape(-1, self.num_actions, self.num_atoms), support=jnp.zeros(self.num_atoms))


class Network(NamedTuple):
    """A network as two pure functions."""

    init: Callable[[Array], Any]
    """(key) -> parameters."""
    apply: Callable[[Any, Array, Array], Dist]
    """(parameters, obs [B, ...], key) -> Dist of [B, A, N]; the key is for networks that draw numbers."""


def make_network(config: Config, spec: EnvSpec, num_atoms: int) -> Network:
    """The configured network for an environment.

    Args:
      config: names torso, widths, activation and initialiser.
      spec: shapes of the observation and number of actions.
      num_atoms: outputs per action.

    Raises:
      SettingError: where the named torso cannot take the observation's shape.
    """
    rank = len(spec.obs_shape)
    convolution = {"auto": rank == 3, "mlp": False, "minatar-cnn": True}[config.network]
    fits = not convolution or (rank == 3 and min(spec.obs_shape[:2]) >= 3)
    require(
        fits,
        "network",
        config.network,
        f"{spec.env_id} gives observations of shape {spec.obs_shape}, and a CNN takes [height, width, channels] of at "
        "least 3 by 3: use mlp",
    )
    module = QNetwork(
        convolution=convolution,
        hidden=config.hidden,
        activation=config.activation,
        initializer=config.initializer,
        layer_norm=config.layer_norm,
        num_actions=spec.num_actions,
        num_atoms=num_atoms,
        num_obs_values=spec.num_obs_values,
    )

    def init(key: Array) -> Any:
        return module.init(key, jnp.zeros((1, *spec.obs_shape), spec.obs_dtype))

    def apply(params: Any, obs: Array, key: Array) -> Dist:
        del key
        return module.apply(params, obs)  # type: ignore[return-value]

    return Network(init=init, apply=apply)
