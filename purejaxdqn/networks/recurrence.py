"""Gated recurrences (GRU, LSTM) over the steps of a window, with gradients in which a loop does what needs a loop.

Automatic differentiation of a loop keeps every gate of every step, and adds to the kernel's gradient step by step: an
array as large as the kernel is read and written for each product of a few rows. Here only what is carried is kept. The
gates are made anew from it for all steps at once, and so are the gradients of kernel and bias; the loop is left with
what a step needs of the one after it. On a GPU a loop also launches one kernel for each array that it stacks.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.networks.products import laid_out
from purejaxdqn.networks.windows import steps_in_a_row, zero_at

Step = Callable[[Any, Any], Any]
"""(t, what is carried before it) -> what is carried after it, or the other way round in time."""


def at(tree: Any, t: Any) -> Any:
    """A step of arrays [T, ...]."""
    return jax.tree.map(lambda leaf: leaf[t], tree)


def put(tree: Any, value: Any, t: Any) -> Any:
    """Arrays [T, ...] with other values of a step."""
    write = jax.lax.dynamic_update_index_in_dim
    return jax.tree.map(lambda leaf, new: write(leaf, new, t, 0), tree, value)


def forwards(step: Step, carry: Array, steps: int) -> Array:
    """What is carried, one array, after each of T steps, [T, ...]."""
    first = step(0, carry)
    if steps == 1:
        return jnp.asarray(first[None])
    held = put(jnp.zeros((steps, *first.shape), first.dtype), first, 0)
    found: Array = jax.lax.fori_loop(1, steps, lambda t, held: put(held, step(t, held[t - 1]), t), held)
    return found


def backwards(step: Step, given: Any, steps: int) -> tuple[Any, Any]:
    """Gradients of what is carried after each of T steps, and of what is carried before them.

    Args:
      step: (t, gradient of what is carried after t) -> of what is carried before it.
      given: gradients [T, ...] that come from elsewhere than the next step.
      steps: T.
    """

    def body(i: Any, held: Any) -> Any:
        t = steps - 1 - i
        before = jax.tree.map(jnp.add, at(given, t - 1), step(t, at(held, t)))
        return put(held, before, t - 1)

    held = jax.lax.fori_loop(0, steps - 1, body, given)
    return held, step(0, at(held, 0))


def carried_before(carry: Any, held: Any, starts: Array) -> Any:
    """What each step has seen of the steps before it, in a row [T · B, ...]."""
    before = jax.tree.map(lambda first, leaf: jnp.concatenate([first[None], leaf[:-1]]), carry, held)
    return zero_at(starts.reshape(-1), steps_in_a_row(before))


def gru_step(kernel: Array, bias: Array, h: Array, from_x: Array) -> tuple[Array, tuple[Array, ...]]:
    """h' and what it is made of, from h [R, H] and the inputs' part of the gates [R, 3 H]; see `memory.GRU`."""
    size = h.shape[1]
    from_h = h @ kernel
    r, z = jnp.split(jax.nn.sigmoid(from_x[:, : 2 * size] + from_h[:, : 2 * size]), 2, axis=1)
    shifted = from_h[:, 2 * size :] + bias[None]
    n = jnp.tanh(from_x[:, 2 * size :] + r * shifted)
    return (1.0 - z) * n + z * h, (r, z, n, shifted)


@jax.custom_vjp
def unroll_gru(kernel: Array, bias: Array, carry: Array, from_x: Array, starts: Array) -> Array:
    """h after each step of a GRU, [T, B, H].

    Args:
      kernel: [H, 3 H].
      bias: of the candidate's part, [H].
      carry: h before the first step, [B, H].
      from_x: the inputs' part of the gates, [T, B, 3 H].
      starts: bool [T, B], where h is zeroed before the step.
    """
    assert_array("starts", starts, (None, None), bool)
    assert_array("from_x", from_x, (*starts.shape, kernel.shape[1]), float)

    def step(t: Any, h: Array) -> Array:
        return gru_step(kernel, bias, zero_at(starts[t], h), from_x[t])[0]

    return forwards(step, carry, starts.shape[0])


def gru_forward(*given: Array) -> tuple[Array, tuple[Array, ...]]:
    """`unroll_gru`, and what its gradients need."""
    h = unroll_gru(*given)
    return h, (*given, h)


def gru_backward(kept: tuple[Array, ...], gradient: Array) -> tuple[Any, ...]:
    """Gradients of what `unroll_gru` takes, from that of h."""
    kernel, bias, carry, from_x, starts, h = kept
    before = carried_before(carry, h, starts)
    _, (r, z, n, shifted) = gru_step(kernel, bias, before, steps_in_a_row(from_x))
    # Slopes of h' by the sums in r, z and n: gradients of the gates are these times the gradient of h'.
    of_n = (1.0 - z) * (1.0 - n * n)
    of_r, of_z = of_n * shifted * r * (1.0 - r), (before - n) * z * (1.0 - z)
    slope = jnp.concatenate([of_r, of_z, of_n * r], axis=1)
    slopes, keeps, turned = slope.reshape(from_x.shape), z.reshape(h.shape), laid_out(kernel.T)

    def step(t: Any, dh: Array) -> Array:
        return zero_at(starts[t], dh * keeps[t] + (jnp.concatenate([dh] * 3, axis=1) * slopes[t]) @ turned)

    dh, of_carry = backwards(step, gradient, starts.shape[0])
    dh = steps_in_a_row(dh)
    of_product = jnp.concatenate([dh] * 3, axis=1) * slope
    of_x = jnp.concatenate([of_product[:, : -bias.size], dh * of_n], axis=1)
    of_bias = jnp.sum(of_product[:, -bias.size :], axis=0)
    return before.T @ of_product, of_bias, of_carry, of_x.reshape(from_x.shape), None


unroll_gru.defvjp(gru_forward, gru_backward)


def lstm_step(kernel: Array, carry: tuple[Array, Array], from_x: Array) -> tuple[tuple[Array, Array], Any]:
    """(c', h') and what they are made of, from c and h [R, H] and the inputs' part of the gates [R, 4 H]; see
    `memory.LSTM`."""
    c, h = carry
    i, f, g, o = jnp.split(from_x + h @ kernel, 4, axis=1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f + 1.0), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * c + i * g
    shown = jnp.tanh(c)
    return (c, o * shown), (i, f, g, o, shown)


@jax.custom_vjp
def unroll_lstm(kernel: Array, carry: tuple[Array, Array], from_x: Array, starts: Array) -> tuple[Array, Array]:
    """c and h after each step of an LSTM, [T, B, H] both.

    Args:
      kernel: [H, 4 H].
      carry: c and h before the first step, [B, H].
      from_x: the inputs' part of the gates, [T, B, 4 H].
      starts: bool [T, B], where both are zeroed before the step.
    """
    assert_array("starts", starts, (None, None), bool)
    assert_array("from_x", from_x, (*starts.shape, kernel.shape[1]), float)

    def step(t: Any, both: Array) -> Array:
        return jnp.stack(lstm_step(kernel, zero_at(starts[t], (both[0], both[1])), from_x[t])[0])

    # In one array: written alone, c would be a copy of what was computed for h, and a copy keeps a loop out of a graph.
    found = forwards(step, jnp.stack(carry), starts.shape[0])
    return found[:, 0], found[:, 1]


def lstm_forward(*given: Any) -> tuple[Any, Any]:
    """`unroll_lstm`, and what its gradients need."""
    held = unroll_lstm(*given)
    return held, (*given, held)


def lstm_backward(kept: Any, gradient: tuple[Array, Array]) -> tuple[Any, ...]:
    """Gradients of what `unroll_lstm` takes, from those of c and h."""
    kernel, carry, from_x, starts, held = kept
    before = carried_before(carry, held, starts)
    _, (i, f, g, o, shown) = lstm_step(kernel, before, steps_in_a_row(from_x))
    # Slopes of c' by the sums in i, f and g, and of h' by that in o and by c'.
    of_i, of_f, of_g = g * i * (1.0 - i), before[0] * f * (1.0 - f), i * (1.0 - g * g)
    slope = jnp.concatenate([of_i, of_f, of_g, shown * o * (1.0 - o)], axis=1)
    of_c = o * (1.0 - shown * shown)
    slopes, keeps, through = slope.reshape(from_x.shape), f.reshape(held[0].shape), of_c.reshape(held[0].shape)
    turned = laid_out(kernel.T)

    def step(t: Any, after: tuple[Array, Array]) -> Any:
        dc, dh = after
        dc = dc + dh * through[t]
        of_product = jnp.concatenate([dc, dc, dc, dh], axis=1) * slopes[t]
        return zero_at(starts[t], (dc * keeps[t], of_product @ turned))

    found, of_carry = backwards(step, gradient, starts.shape[0])
    dc, dh = steps_in_a_row(found)
    dc = dc + dh * of_c
    of_product = jnp.concatenate([dc, dc, dc, dh], axis=1) * slope
    return before[1].T @ of_product, of_carry, of_product.reshape(from_x.shape), None


unroll_lstm.defvjp(lstm_forward, lstm_backward)
