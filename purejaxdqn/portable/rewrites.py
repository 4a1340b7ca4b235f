"""JAX's operators that can be said in simpler ones: windows and convolutions as slices and products, and a few others.

So whoever plays a list of steps needs no word for them. Each takes an equation's parameters and gives a function of its
arrays, which is traced in its place.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import jaxpr_as_fun

Parameters = Mapping[str, Any]


class UnknownOperator(Exception):
    """An operator that there is no word for. Its text says which, as the end of a sentence."""


def taps(x: Array, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> list[Array]:
    """For each place in a window: what lies there in every position of the window, as slices of x."""
    counts = [
        (size - 1 - (wide - 1) * far) // stride + 1
        for size, wide, stride, far in zip(x.shape, window, strides, dilation, strict=True)
    ]
    return [
        lax.slice(
            x,
            [place * far for place, far in zip(offset, dilation, strict=True)],
            [
                place * far + (count - 1) * stride + 1
                for count, place, far, stride in zip(counts, offset, dilation, strides, strict=True)
            ],
            strides,
        )
        for offset in itertools.product(*map(range, window))
    ]


def windowed(join: Callable[[Array, Array], Array], start: float) -> Callable[[Parameters], Callable[[Array], Array]]:
    """A reduction over windows, such as pooling, as one over slices."""

    def make(given: Parameters) -> Callable[[Array], Array]:
        check_plain(given["base_dilation"], "windows over a dilated array")
        window, strides = given["window_dimensions"], given["window_strides"]

        def reduced(x: Array) -> Array:
            edge = jnp.asarray(start if jnp.issubdtype(x.dtype, jnp.floating) else 0, x.dtype)
            around = lax.pad(x, edge, [(low, high, 0) for low, high in given["padding"]])
            return reduce(join, taps(around, window, strides, given["window_dilation"]))

        return reduced

    return make


def convolution(given: Parameters) -> Callable[[Array, Array], Array]:
    """A convolution as one product over patches."""
    check_plain(given["lhs_dilation"], "a transposed convolution")
    check_plain([given["batch_group_count"]], "a convolution with groups of examples")
    order, groups = given["dimension_numbers"], given["feature_group_count"]

    def convolve(x: Array, kernel: Array) -> Array:
        examples, features, *places = order.lhs_spec
        outputs, inputs, *window = order.rhs_spec
        x = x.transpose(examples, *places, features)
        kernel = kernel.transpose(*window, inputs, outputs)
        x = lax.pad(
            x, jnp.zeros((), x.dtype), [(0, 0, 0), *[(low, high, 0) for low, high in given["padding"]], (0, 0, 0)]
        )
        strides, dilation = (1, *given["window_strides"], 1), (1, *given["rhs_dilation"], 1)
        found = []
        # Sliced by lax: of an array of unknown size jax.numpy's indexing would gather.
        depth, width = kernel.shape[-2], kernel.shape[-1] // groups
        for group in range(groups):
            own = lax.slice_in_dim(x, group * depth, (group + 1) * depth, axis=x.ndim - 1)
            rows = jnp.concatenate(taps(own, (1, *kernel.shape[:-2], 1), strides, dilation), axis=-1)
            matrix = kernel[..., group * width : (group + 1) * width].reshape(-1, width)
            found.append(lax.dot_general(rows, matrix, (((rows.ndim - 1,), (0,)), ((), ()))))
        y = jnp.concatenate(found, axis=-1)
        back = [0] * y.ndim
        for here, there in enumerate((order.out_spec[0], *order.out_spec[2:], order.out_spec[1])):
            back[there] = here
        return y.transpose(back)

    return convolve


def check_plain(numbers: Sequence[int], kind: str) -> None:
    """Raises `UnknownOperator` unless all are 1."""
    if any(number != 1 for number in numbers):
        raise UnknownOperator(kind)


def pieces(given: Parameters) -> Callable[[Array], list[Array]]:
    """An array cut along an axis."""
    ends = list(itertools.accumulate(given["sizes"]))

    def cut(x: Array) -> list[Array]:
        return [
            lax.slice_in_dim(x, end - size, end, axis=given["axis"])
            for size, end in zip(given["sizes"], ends, strict=True)
        ]

    return cut


def power(given: Parameters) -> Callable[[Array], Array]:
    """A whole power."""
    exponent = given["y"]

    def raised(x: Array) -> Array:
        product = reduce(jnp.multiply, [x] * abs(exponent), jnp.ones_like(x))
        return product if exponent >= 0 else 1.0 / product

    return raised


def unrolled(given: Parameters) -> Callable[..., list[Array]]:
    """A loop of a known number of steps, such as a memory's over its window of one, step by step."""
    body, length = jaxpr_as_fun(given["jaxpr"]), given["length"]
    first, last = given["num_consts"], given["num_consts"] + given["num_carry"]
    order = range(length)[::-1] if given["reverse"] else range(length)

    def run(*arrays: Array) -> list[Array]:
        fixed, carry, rows = arrays[:first], arrays[first:last], arrays[last:]
        found: dict[int, Sequence[Array]] = {}
        for place in order:
            given_here = [lax.index_in_dim(row, place, keepdims=False) for row in rows]
            made = body(*fixed, *carry, *given_here)
            carry, found[place] = made[: len(carry)], made[len(carry) :]
        joined = zip(*(found[place] for place in range(length)), strict=True)
        return [*carry, *(jnp.concatenate([lax.expand_dims(one, (0,)) for one in each]) for each in joined)]

    return run


def added_at_once(given: Parameters) -> Callable[..., Array]:
    """What is added to the only place along some axes, and so to the whole array."""
    del given

    def added(x: Array, place: Array, new: Array) -> Array:
        del place
        if math.prod(x.shape) != math.prod(new.shape):
            raise UnknownOperator("scatter-add to some of several places")
        return x + new.reshape(x.shape)

    return added


def always(fn: Callable[..., Any]) -> Callable[[Parameters], Callable[..., Any]]:
    """Of an operator without parameters that matter."""
    return lambda given: fn


REWRITES: dict[str, Callable[[Parameters], Callable[..., Any]]] = {
    "square": always(lambda x: x * x),
    "integer_pow": power,
    "rsqrt": always(lambda x: 1.0 / jnp.sqrt(x)),
    "exp2": always(lambda x: jnp.exp(x * math.log(2.0))),
    "expm1": always(lambda x: jnp.exp(x) - 1.0),
    "log1p": always(lambda x: jnp.log(1.0 + x)),
    "logistic": always(lambda x: 1.0 / (1.0 + jnp.exp(-x))),
    "clamp": always(lambda low, x, high: jnp.minimum(jnp.maximum(x, low), high)),
    "is_finite": always(lambda x: x - x == 0.0),
    "split": pieces,
    "reduce_window_max": windowed(jnp.maximum, -math.inf),
    "reduce_window_sum": windowed(jnp.add, 0.0),
    "conv_general_dilated": convolution,
    "scan": unrolled,
    "scatter-add": added_at_once,
}
"""JAX's operator -> its parameters -> a function of its arrays, traced in its place."""
