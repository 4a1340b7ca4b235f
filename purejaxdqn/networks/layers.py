"""Layers: dense and noisy dense on feature-major arrays, convolution and pooling, norms, and the hidden layer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from purejaxdqn.config import Config
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.machine.shards import make_shards
from purejaxdqn.networks.noise import DRAWN, NOISE, draw_alone
from purejaxdqn.networks.products import multiply_columns, multiply_rows
from purejaxdqn.types import STATISTICS, Role

Initializer = Callable[..., Any]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "elu": nn.elu,
}
INITIALIZERS: dict[str, Callable[[], Initializer]] = {
    "lecun_normal": nn.initializers.lecun_normal,
    "he_normal": nn.initializers.he_normal,
    "he_uniform": nn.initializers.he_uniform,
    "glorot_uniform": nn.initializers.glorot_uniform,
    "orthogonal": nn.initializers.orthogonal,
    "normal": lambda: nn.initializers.normal(stddev=0.1),
}

MOMENTUM = 0.99
"""Share of batch norm's old running statistics that one refresh keeps."""
FIRST_ITERATIONS = 15
"""Steps of power iteration on a fresh kernel, as many as PyTorch makes."""
LEAST_NORM = 1e-12
"""What a vector's norm is taken to be at least, so that zero stays zero."""


@dataclass(frozen=True)
class Bytes:
    """A picture of bytes that are not yet numbers: a convolution rearranges them as they are, for a quarter of the
    memory traffic."""

    values: Array
    """uint8 or bool [B, H, W, C]."""
    factor: float
    """On each number."""


def as_floats(x: Array | Bytes) -> Array:
    """Bytes as float32, numbers as they are."""
    return x.values.astype(jnp.float32) * x.factor if isinstance(x, Bytes) else x


def of_values(function: Callable[[Array], Array], x: Any) -> Any:
    """A picture, of bytes or of numbers, rearranged."""
    return Bytes(function(x.values), x.factor) if isinstance(x, Bytes) else function(x)


class BatchNorm(nn.Module):
    """Batch norm (Ioffe & Szegedy 2015) over every axis but one: examples, and an image's positions or the fractions.

    It reads the batch's statistics where the collection of running ones may be written (under a gradient, and when they
    are refreshed), and the running ones elsewhere. So no flag has to pass through the modules above it.
    """

    axis: int
    shards: int = 1
    """Shards that hold the batch; the statistics are those of the whole batch."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        running = not self.is_mutable_collection(STATISTICS)
        # Flax hands the names on to JAX, which takes several.
        over: Any = make_shards(self.shards).axes
        return nn.BatchNorm(use_running_average=running, momentum=MOMENTUM, axis=self.axis, axis_name=over)(x)


def unit(vector: Array) -> Array:
    """vector / ‖vector‖, [F]; zero stays zero."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), LEAST_NORM)


class SpectralNorm(nn.Module):
    """A kernel divided by its largest singular value σ (Miyato et al. 2018, equation 8 and algorithm 1).

    σ = vᵀW u' with v = W u / ‖W u‖ and u' = Wᵀv / ‖Wᵀv‖: one step of power iteration from the vector u, which is kept
    with the statistics. A pass of any role takes that step, and `Network.refresh` keeps its u', so that u advances by
    one step with every update; only its direction counts. No gradient goes into v and u'.
    """

    @nn.compact
    def __call__(self, kernel: Array) -> Array:
        """The divided kernel, from a kernel W [inputs, outputs]; u is [outputs]."""
        assert_array("kernel", kernel, (None, None), float)

        def image(right: Array) -> Array:
            """Wᵀv of a vector u."""
            left = stop_gradient(unit(multiply_columns(kernel.T, right[:, None])[:, 0]))
            return multiply_columns(kernel, left[:, None])[:, 0]

        def first() -> Array:
            start = unit(jax.random.normal(self.make_rng("params"), kernel.shape[1:]))
            return jax.lax.fori_loop(0, FIRST_ITERATIONS, lambda _, right: unit(image(right)), start)

        kept = self.variable(STATISTICS, "right", first)
        product = image(kept.value)
        right = stop_gradient(unit(product))
        if self.is_mutable_collection(STATISTICS):
            kept.value = right
        return kernel / jnp.maximum(jnp.sum(right * product), LEAST_NORM)


def identity(x: Array) -> Array:
    """No norm."""
    return x


NORMS: dict[str, Callable[[Config, int], Callable[[Array], Array]]] = {
    "none": lambda config, axis: identity,
    "layer": lambda config, axis: nn.LayerNorm(reduction_axes=axis, feature_axes=axis),
    "batch": lambda config, axis: BatchNorm(axis, config.data_parallel),
}
"""Norm by name: (config, axis of the features) -> layer."""


def make_norm(config: Config, axis: int) -> Callable[[Array], Array]:
    """The configured norm over an axis of features."""
    return NORMS[config.norm](config, axis)


def affine(kernel: Array, bias: Array, x: Array) -> Array:
    """kernelᵀx + bias on features [F, B] or [F, B, N]."""
    # One matrix of columns: of a product with three axes the gradient took two and a half times as long on a CPU.
    assert_array("x", x, (kernel.shape[0], None, ...), float)
    columns = x.reshape(x.shape[0], -1)
    y = multiply_columns(kernel, columns)
    return (y + bias[:, None]).reshape(kernel.shape[1], *x.shape[1:])


class FeatureMajorDense(nn.Module):
    """`nn.Dense` on features [F, B] instead of [B, F]: the same parameters, gradients and initialisation.

    A batch is a multiple of a vector register's width and a layer's width often is not, so the batch belongs on the
    contiguous axis: on a CPU an update of a small network is a tenth faster for it.
    """

    width: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Array, key: Array | None = None, role: Role = "greedy") -> Array:
        del key, role
        kernel = self.param("kernel", self.kernel_init, (x.shape[0], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return affine(kernel, bias, x)


def symmetric_uniform(bound: float) -> Initializer:
    """Initialiser of U[-bound, bound]."""
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class NoisyDense(nn.Module):
    """A dense layer with factorised Gaussian noise (Fortunato et al. 2018, equations 9 to 11).

    w = μ + σ ∘ f(ε_in) f(ε_out)ᵀ and b = μ_b + σ_b ∘ f(ε_out), for p inputs with μ from U[-1/√p, 1/√p] and σ = σ₀/√p at
    the start. The noise is a function of the key and of the layer's path: two calls with one key see the same noise,
    and two layers see different noise.
    """

    width: int
    sigma: float
    """σ₀."""

    @nn.compact
    def __call__(self, x: Array, key: Array | None, role: Role) -> Array:
        """Outputs [width, B, ...] for inputs [p, B, ...].

        Args:
          x: [p, B] or [p, B, N]; all N columns of one example see the same noise.
          key: where the noise comes from; unused when acting greedily.
          role: `greedy` has no noise, `act` a draw for each of the B examples, and every other role a draw for all.
        """
        inputs, scale = x.shape[0], x.shape[0] ** -0.5
        mean = (
            self.param("kernel", symmetric_uniform(scale), (inputs, self.width)),
            self.param("bias", symmetric_uniform(scale), (self.width,)),
        )
        deviation = (
            self.param("kernel_sigma", nn.initializers.constant(self.sigma * scale), (inputs, self.width)),
            self.param("bias_sigma", nn.initializers.constant(self.sigma * scale), (self.width,)),
        )
        if role == "greedy":
            return affine(*mean, x)
        assert key is not None, "a noisy layer draws noise: give it a key, or the role greedy"
        draws = x.shape[1] if role == "act" else 1
        drawn: Any = self.get_variable(NOISE, DRAWN) or draw_alone(key, self.path, (inputs, self.width), draws)
        noise_in, noise_out = drawn
        if role == "act":
            # A rank-one kernel per example need not be formed: it scales the inputs, then the outputs.
            per_example = (draws, *[1] * (x.ndim - 2))
            noise_in, noise_out = noise_in.reshape(inputs, *per_example), noise_out.reshape(self.width, *per_example)
            return affine(*mean, x) + noise_out * affine(*deviation, noise_in * x)
        kernel = mean[0] + deviation[0] * (noise_in * noise_out.T)
        return affine(kernel, mean[1] + deviation[1] * noise_out[:, 0], x)


def make_dense(config: Config, width: int, noisy: bool, name: str) -> nn.Module:
    """A dense layer (features [F, B, ...], key, role) -> [width, B, ...], noisy or not."""
    if noisy:
        return NoisyDense(width, config.noisy_sigma, name=name)
    return FeatureMajorDense(width, INITIALIZERS[config.initializer](), name=name)


class Hidden(nn.Module):
    """A dense layer on features [F, B, ...], the configured norm, and the activation."""

    config: Config
    width: int
    noisy: bool = False

    @nn.compact
    def __call__(self, x: Array, key: Array | None = None, role: Role = "greedy") -> Array:
        x = make_dense(self.config, self.width, self.noisy, "Dense_0")(x, key, role)
        x = make_norm(self.config, 0)(x)
        return ACTIVATIONS[self.config.activation](x)


class Conv(nn.Module):
    """`nn.Conv(width, (k, k), s, padding="VALID")` as one matrix product: same function, parameters and initialisation.

    XLA's convolutions are slow on a CPU: with the gradient, in a loop of updates, `nn.Conv` took 8 to 23 times as long
    (MinAtar's network and that of Mnih et al. 2015, batches of 8 to 128); forward alone, they differ by little.
    """

    width: int
    kernel_size: int
    """k; a multiple of the stride."""
    stride: int
    initializer: str
    spectral_norm: bool = False
    """Whether the kernel, as a matrix of [k · k · C, width], is divided by its largest singular value."""

    @nn.compact
    def __call__(self, x: Array | Bytes) -> Array:
        """[B, H', W', width] from x [B, H, W, C], with H' = ⌊(H - k) / s⌋ + 1; k must not exceed H or W."""
        size, stride = self.kernel_size, self.stride
        assert size % stride == 0, f"a kernel of {size} is no multiple of its stride, {stride}"
        patches = as_floats(of_values(lambda values: patches_of(values, size, stride), x))
        assert_array("x", patches, (None, None, None, None), float)
        inputs = patches.shape[-1]
        kernel = self.param("kernel", INITIALIZERS[self.initializer](), (size, size, inputs // size**2, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        rows, kernel = patches.reshape(-1, inputs), kernel.reshape(inputs, self.width)
        y = multiply_rows(rows, SpectralNorm(name="SpectralNorm_0")(kernel) if self.spectral_norm else kernel)
        return y.reshape(*patches.shape[:3], self.width) + bias.reshape(1, 1, 1, -1)


def patches_of(x: Array, size: int, stride: int) -> Array:
    """The inputs of each output position of a convolution, [B, H', W', size · size · C], in the kernel's order.

    Args:
      x: [B, H, W, C].
      size: of the square kernel, a multiple of the stride.
      stride: input pixels between two neighbouring positions, in rows and in columns.
    """
    assert_array("x", x, (None, None, None, None))
    rows, columns = ((length - size) // stride + 1 for length in x.shape[1:3])
    blocks = size // stride
    x = x[:, : (rows - 1 + blocks) * stride, : (columns - 1 + blocks) * stride]
    # In blocks of stride by stride pixels, every slice is a shift by whole blocks: a row of a block is contiguous, and
    # there are size · size / stride slices to join instead of size · size.
    x = x.reshape(x.shape[0], rows - 1 + blocks, stride, columns - 1 + blocks, stride * x.shape[3])
    shifted = [
        x[:, i // stride : i // stride + rows, i % stride, j : j + columns] for i in range(size) for j in range(blocks)
    ]
    return jnp.concatenate(shifted, axis=-1)


def adaptive_max_pool(x: Array, size: int) -> Array:
    """The maxima of `size` by `size` windows that cover a picture and overlap where they must, [B, size, size, C].

    Window i of n pixels is from ⌊i n / size⌋ to ⌈(i + 1) n / size⌉, the end excluded, as PyTorch's AdaptiveMaxPool2d.

    Args:
      x: [B, H, W, C].
      size: windows in each direction, at most H and W.
    """
    assert_array("x", x, (None, None, None, None), float)
    assert size <= min(x.shape[1:3]), f"{size} windows of {x.shape[1]} by {x.shape[2]} pixels"
    # The maximum over a rectangle is that over its columns' maxima.
    for axis in (1, 2):
        count = x.shape[axis]
        lines = jnp.split(x, count, axis=axis)
        windows = [lines[i * count // size : -(-(i + 1) * count // size)] for i in range(size)]
        x = jnp.concatenate([reduce(larger, window) for window in windows], axis=axis)
    return x


def larger(a: Array, b: Array) -> Array:
    """The larger of two values, which alone has the gradient; of equal ones the first.

    That of `jnp.max` divides by the number of values that equal the maximum. A compiler that computes them twice, with
    another rounding, finds none: NaN.
    """
    return jnp.where(b > a, b, a)
