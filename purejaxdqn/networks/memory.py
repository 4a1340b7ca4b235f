"""Memories (GRU, LSTM, linear recurrence, attention): features of a step from those of the episode so far, by name.

A memory is a flax module with two methods: `init_carry(B)` gives what is carried before the first step, zeros [B, ...];
calling it with a carry, features [T, B, F] and starts [T, B] gives the carry after the steps, and features [T, B, H].
Where an episode begins the carry is zeroed, and nothing is seen of what was before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import Config, require
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.networks.recurrence import unroll_gru, unroll_lstm

HEADS = 4
"""Heads of attention."""
RING = (0.9, 0.999)
"""Least and greatest |λ| of a fresh linear recurrence; Orvieto et al. 2023 take such for long memories."""
PHASE = jnp.pi / 10
"""Greatest angle of a fresh λ, as there."""


def assert_features(x: Array, starts: Array) -> None:
    """Asserts features [T, B, F] and starts [T, B] of a window."""
    assert_array("x", x, (None, None, None), float)
    assert_array("starts", starts, x.shape[:2], bool)


def square_blocks(count: int) -> Callable[..., Array]:
    """Initialiser of `count` orthogonal matrices side by side, [H, count · H]."""

    def init(key: Array, shape: tuple[int, int]) -> Array:
        block = nn.initializers.orthogonal()
        return jnp.concatenate([block(k, (shape[0], shape[0])) for k in jax.random.split(key, count)], axis=1)

    return init


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014), with the reset after the product, as cuDNN's and PyTorch's:

    r, z = σ(W x + U h), n = tanh(W_n x + r ∘ (U_n h + b_n)), h' = (1 - z) ∘ n + z ∘ h.
    """

    size: int

    @nn.nowrap
    def init_carry(self, batch: int) -> Array:
        """h, float32 [batch, size]."""
        return jnp.zeros((batch, self.size))

    @nn.compact
    def __call__(self, carry: Array, x: Array, starts: Array) -> tuple[Array, Array]:
        assert_features(x, starts)
        size = self.size
        kernel = self.param("recurrent_kernel", square_blocks(3), (size, 3 * size))
        bias = self.param("recurrent_bias", nn.initializers.zeros, (size,))
        # Of all steps at once: only what needs the step before is left to the loop.
        given = nn.Dense(3 * size, name="Dense_0")(x)
        y = unroll_gru(kernel, bias, carry, given, starts)
        return y[-1], y


class LSTM(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), whose forget gate is biased towards keeping by 1, as
    Jozefowicz et al. 2015 have it.

    i, f, g, o = W x + U h + b, c' = σ(f + 1) ∘ c + σ(i) ∘ tanh(g), h' = σ(o) ∘ tanh(c').
    """

    size: int

    @nn.nowrap
    def init_carry(self, batch: int) -> tuple[Array, Array]:
        """c and h, float32 [batch, size] each."""
        return jnp.zeros((batch, self.size)), jnp.zeros((batch, self.size))

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], x: Array, starts: Array) -> tuple[tuple[Array, Array], Array]:
        assert_features(x, starts)
        kernel = self.param("recurrent_kernel", square_blocks(4), (self.size, 4 * self.size))
        given = nn.Dense(4 * self.size, name="Dense_0")(x)
        c, h = unroll_lstm(kernel, carry, given, starts)
        return (c[-1], h[-1]), h


def spread_rings(key: Array, shape: tuple[int]) -> Array:
    """ν with |λ| = exp(-exp(ν)), so that fresh λ are uniform on the ring between `RING`'s circles (lemma 3.2)."""
    least, greatest = RING
    squared = jax.random.uniform(key, shape, minval=least**2, maxval=greatest**2)
    return jnp.log(-0.5 * jnp.log(squared))


def spread_phases(key: Array, shape: tuple[int]) -> Array:
    """log θ of fresh angles θ, uniform in (0, `PHASE`)."""
    return jnp.log(jax.random.uniform(key, shape, minval=1e-4, maxval=PHASE))


def recur(decay: Array, driven: Array) -> Array:
    """x_t = decay_t x_{t-1} + driven_t from x_{-1} = 0, in log₂ T parallel steps.

    Args:
      decay: complex64 [T, B, N]; 0 where nothing of the step before is kept.
      driven: the same.
    """

    def join(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        return earlier[0] * later[0], later[0] * earlier[1] + later[1]

    found: Array = jax.lax.associative_scan(join, (decay, driven))[1]
    return found


class LRU(nn.Module):
    """A linear recurrent unit (Orvieto et al. 2023), diagonal and complex, all of whose steps are taken in parallel:

    s' = λ ∘ s + √(1 - |λ|²) ∘ B x, y = Re(C s') + D x, then GELU and a gated linear unit of y.
    """

    size: int

    @nn.nowrap
    def init_carry(self, batch: int) -> Array:
        """Real and imaginary parts of s side by side, float32 [batch, 2 · size]."""
        return jnp.zeros((batch, 2 * self.size))

    @nn.compact
    def __call__(self, carry: Array, x: Array, starts: Array) -> tuple[Array, Array]:
        assert_features(x, starts)
        size = self.size
        radius = jnp.exp(-jnp.exp(self.param("nu", spread_rings, (size,))))
        angle = jnp.exp(self.param("theta", spread_phases, (size,)))
        eigenvalue = jax.lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle))
        # Two real products: XLA's of complex numbers are slow on a CPU.
        real, imaginary = jnp.split(nn.Dense(2 * size, use_bias=False, name="Input")(x), 2, axis=-1)
        driven = jnp.sqrt(1.0 - jnp.square(radius))[None, None] * jax.lax.complex(real, imaginary)
        decay = jnp.where(starts[..., None], 0.0, eigenvalue[None, None])
        before = jax.lax.complex(carry[:, :size], carry[:, size:])
        state = recur(decay, driven.at[0].add(decay[0] * before))
        parts = jnp.concatenate([state.real, state.imag], axis=-1)
        y = nn.gelu(nn.Dense(size, name="Output")(parts) + nn.Dense(size, use_bias=False, name="Skip")(x))
        return parts[-1], y * nn.sigmoid(nn.Dense(size, name="Gate")(y))


class Frames(NamedTuple):
    """The newest frames before a step, the oldest first."""

    frames: Array
    """float32 [B, N - 1, size], 0 where there is none of the episode."""
    held: Array
    """bool [B, N - 1]: there is one."""


class Attention(nn.Module):
    """Causal attention of every step over the newest N frames of its episode, itself among them (Vaswani et al. 2017).

    Four heads, with a learnt bias for each age of a frame (Raffel et al. 2020); the result is added to the frame, and
    normalised.
    """

    size: int
    frames: int
    """N."""

    @nn.nowrap
    def init_carry(self, batch: int) -> Frames:
        """No frames."""
        held = self.frames - 1
        return Frames(jnp.zeros((batch, held, self.size)), jnp.zeros((batch, held), bool))

    @nn.compact
    def __call__(self, carry: Frames, x: Array, starts: Array) -> tuple[Frames, Array]:
        assert_features(x, starts)
        (steps, batch), held, size = starts.shape, self.frames - 1, self.size // HEADS
        new = nn.Dense(self.size, name="Embed")(x)
        frames = jnp.concatenate([carry.frames, jnp.swapaxes(new, 0, 1)], axis=1)
        # Frames [B, N - 1 + T] of one episode have one number: the starts up to them.
        episode = jnp.cumsum(jnp.pad(starts.T, ((0, 0), (held, 0))), axis=1)
        there = jnp.concatenate([carry.held, jnp.ones((batch, steps), bool)], axis=1)
        age = held + jnp.arange(steps)[:, None] - jnp.arange(held + steps)[None]
        recent = ((age >= 0) & (age <= held))[None]
        seen = recent & there[:, None] & (episode[:, held:, None] == episode[:, None])

        def heads(name: str, given: Array) -> Array:
            return nn.Dense(self.size, use_bias=False, name=name)(given).reshape(batch, -1, HEADS, size)

        query, key, value = heads("Query", frames[:, held:]), heads("Key", frames), heads("Value", frames)
        of_age = self.param("age_bias", nn.initializers.zeros, (HEADS, self.frames))
        logits = jnp.einsum("bthd,bshd->bhts", query, key) * size**-0.5 + of_age[None, :, jnp.clip(age, 0, held)]
        weight = nn.softmax(jnp.where(seen[:, None], logits, -jnp.inf), axis=-1)
        found = jnp.einsum("bhts,bshd->bthd", weight, value).reshape(batch, steps, self.size)
        y = nn.LayerNorm()(frames[:, held:] + nn.Dense(self.size, name="Join")(found))
        kept = there[:, steps:] & (episode[:, steps:] == episode[:, -1:])
        left = jnp.where(kept[..., None], frames[:, steps:], 0.0)
        return Frames(left, kept), jnp.swapaxes(y, 0, 1)


MakeMemory = Callable[[Config], nn.Module]
"""config -> module, as above."""


class Memory(NamedTuple):
    """A memory by name, and the settings that only matter with it."""

    make: Callable[[Config], nn.Module | None]
    reads: tuple[str, ...] = ("memory_size",)


def make_attention(config: Config) -> Attention:
    """Attention; raises `SettingError` for a size that its heads do not divide, or frames that no window holds."""
    size, frames = config.memory_size, config.memory_window
    remedy = f"attention has {HEADS} heads: use a multiple of {HEADS}, such as {HEADS * max(1, size // HEADS)}"
    require(size % HEADS == 0, "memory_size", size, remedy)
    # From zeros on, what is learnt from sees the frames of its own window alone.
    held = config.burn_in + config.unroll
    remedy = f"without --stored-carry a window of the replay holds {held} frames (burn_in + unroll): use at most that"
    require(not config.has_windows or config.stored_carry or frames <= held, "memory_window", frames, remedy)
    return Attention(size, frames)


MEMORIES: dict[str, Any] = {
    "none": Memory(lambda config: None, ()),
    "gru": Memory(lambda config: GRU(config.memory_size)),
    "lstm": Memory(lambda config: LSTM(config.memory_size)),
    "lru": Memory(lambda config: LRU(config.memory_size)),
    "attention": Memory(make_attention, ("memory_size", "memory_window")),
}
"""Memory by name. Another name may be added."""


def check_memory(config: Config) -> None:
    """Raises `SettingError` for what cannot be combined with a memory.

    Args:
      config: of the run.
    """
    if config.memory == "none":
        return
    unset = {
        "ensemble": (1, "an ensemble's members would each need a memory of their own"),
        "random_shift": (0, "frames of one window would each be shifted another way"),
    }
    for name, (default, why) in unset.items():
        value = getattr(config, name)
        require(value == default, name, value, f"{why}: leave it out, or use --memory none")
    envs, parts = config.shard_envs, config.num_minibatches
    remedy = f"with a memory a minibatch has whole rollouts of some of {envs} environments: use a divisor of that"
    require(config.learner == "replay" or envs % parts == 0, "num_minibatches", parts, remedy)
