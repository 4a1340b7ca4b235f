"""Matrix products of columns and of rows, and their gradients, in every arrangement of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.networks import products
from purejaxdqn.networks.products import HUGE, LARGE, NARROW, multiply_columns, multiply_rows

WIDE = NARROW + 3
# Inputs, outputs, and columns or rows; the last three have a large kernel, of which the last is a huge one.
SHAPES = {
    "one": (1, 1, 1),
    "few columns": (40, WIDE, NARROW),
    "few inputs": (NARROW, WIDE, 40),
    "few outputs": (WIDE, 2, 33),
    "wide": (120, 84, 128),
    "just large": (128, 128, WIDE),
    "large, more columns": (96, 200, 300),
    "huge": (1024, 1024, WIDE),
}
MULTIPLY = {"columns": multiply_columns, "rows": multiply_rows}


def whole_numbers(seed, shape):
    """From -4 to 4, whose sums of products float32 holds exactly, in whatever order they are made."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def operands(kind, shape, draw=whole_numbers):
    """Both factors and the weights of the product's numbers."""
    inputs, outputs, many = shape
    if kind == "columns":
        return draw(0, (inputs, outputs)), draw(1, (inputs, many)), draw(2, (outputs, many))
    return draw(0, (many, inputs)), draw(1, (inputs, outputs)), draw(2, (many, outputs))


def with_gradients(kind):
    """(a, b, weights) -> the product, and the gradients of its weighted sum by both factors."""

    def weighted(a, b, weights):
        product = MULTIPLY[kind](a, b)
        return jnp.sum(weights * product), product

    def both(a, b, weights):
        (_, product), gradients = jax.value_and_grad(weighted, (0, 1), has_aux=True)(a, b, weights)
        return product, *gradients

    return both


def by_numpy(kind, a, b, g):
    return (a.T @ b, b @ g.T, a @ g) if kind == "columns" else (a @ b, g @ b.T, a.T @ g)


def test_the_shapes_have_every_arrangement():
    sizes = [inputs * outputs for inputs, outputs, _ in SHAPES.values()]
    assert min(sizes) < LARGE <= sizes[-3] < HUGE <= sizes[-1]
    assert SHAPES["just large"][0] * SHAPES["just large"][1] == LARGE


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", MULTIPLY)
def test_products_and_gradients_are_exact(kind, shape, backend, monkeypatch):
    """Of whole numbers: each is numpy's to the bit, in a program and out of one, arranged as for either device."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    factors = operands(kind, shape)
    for compute in (with_gradients(kind), jax.jit(with_gradients(kind))):
        for found, expected in zip(compute(*factors), by_numpy(kind, *factors), strict=True):
            assert found.dtype == jnp.float32
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", ["few columns", "wide", "large, more columns"])
@pytest.mark.parametrize("kind", MULTIPLY)
def test_lanes_are_their_solo_products(kind, shape):
    """Under vmap, as lanes on an accelerator are."""
    lanes = [
        operands(kind, SHAPES[shape], lambda seed, s, lane=lane: whole_numbers(seed + 10 * lane, s)) for lane in (0, 1)
    ]
    together = jax.jit(jax.vmap(with_gradients(kind)))(*(np.stack(leaf) for leaf in zip(*lanes, strict=True)))
    for lane, factors in enumerate(lanes):
        for found, expected in zip(together, by_numpy(kind, *factors), strict=True):
            np.testing.assert_array_equal(found[lane], expected)


def test_only_wide_products_have_gradients_written_out():
    """A narrow one keeps those of automatic differentiation, which come out fast."""
    jaxpr = {
        name: str(jax.make_jaxpr(multiply_columns)(*operands("columns", shape)[:2])) for name, shape in SHAPES.items()
    }
    written = {name for name, text in jaxpr.items() if products.multiply_wide.__name__ in text}
    assert written == set(SHAPES) - {"one", "few columns", "few inputs"}


@pytest.mark.parametrize("kind", MULTIPLY)
def test_only_a_cpu_has_arrays_laid_out_anew(kind, monkeypatch):
    """Elsewhere each would be a kernel of its own."""

    def barriers(shape):
        return str(jax.make_jaxpr(with_gradients(kind))(*operands(kind, SHAPES[shape]))).count("optimization_barrier")

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert barriers("large, more columns") > 0
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [barriers(shape) for shape in SHAPES] == [0] * len(SHAPES)
