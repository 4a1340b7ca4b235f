"""Matrix products and convolution gradients laid out for XLA's fast CPU kernels.

On a CPU, XLA's product takes up to three times as long where the axis summed over is the first of both arrays as where
it is the last of one. A compiler that sees a transposition folds it back into the product: hence the barriers.
Automatic differentiation would turn such a product into a slow one again: hence the explicit gradients. On other
devices products take their factors in any layout, and nothing is rearranged for them.
"""

import jax
from jax import Array
from jax.lax import optimization_barrier

NARROW = 16
"""Columns or inputs up to which a product is a narrow one: a vector register of float32."""
LARGE = 2**14
"""Size of a kernel from which rearranging it for a product pays off."""
HUGE = 2**20
"""Size of a kernel from which the columns and the result are transposed instead: they are smaller."""


def laid_out(array: Array) -> Array:
    """The array, which a CPU has to write to memory in this layout."""
    # Elsewhere it would be one more kernel to launch, and with many lanes as many bytes again as the product reads.
    return optimization_barrier(array) if jax.default_backend() == "cpu" else array


def turn_result(product: Array) -> Array:
    """productᵀ, behind a barrier that keeps the transposition out of the product."""
    return laid_out(product).T


@jax.custom_vjp
def multiply_wide(kernel: Array, columns: Array) -> Array:
    """kernelᵀ columns, [outputs, B], where neither is narrow."""
    if kernel.size < LARGE:
        return jax.lax.dot_general(kernel, columns, (((0,), (0,)), ((), ())))
    if kernel.size < HUGE:
        return laid_out(kernel.T) @ columns
    return turn_result(columns.T @ kernel)


def wide_forward(kernel: Array, columns: Array) -> tuple[Array, tuple[Array, Array]]:
    """The product, and what its gradients need."""
    return multiply_wide(kernel, columns), (kernel, columns)


def wide_backward(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Gradients of kernel and columns, from that of the product."""
    kernel, columns = factors
    of_columns = kernel @ gradient
    # What reads it may turn it: a torso has rows.
    return columns @ gradient.T, laid_out(of_columns) if kernel.size >= LARGE else of_columns


multiply_wide.defvjp(wide_forward, wide_backward)


def multiply_columns(kernel: Array, columns: Array) -> Array:
    """kernelᵀ columns, [outputs, B] of [inputs, outputs] and [inputs, B]."""
    if columns.shape[1] <= NARROW:
        return turn_result(columns.T @ kernel)
    if kernel.shape[0] <= NARROW:
        # For the gradient, mostly: that of the kernel as it lies is the slow one.
        return laid_out(kernel.T) @ columns
    return multiply_wide(kernel, columns)


@jax.custom_vjp
def multiply_rows(rows: Array, kernel: Array) -> Array:
    """rows kernel, [R, outputs] of [R, inputs] and [inputs, outputs]."""
    return rows @ kernel


def rows_forward(rows: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    """The product, and what its gradients need."""
    return rows @ kernel, (rows, kernel)


def rows_backward(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Gradients of rows and kernel, from that of the product. Outputs are transposed: they are fewer."""
    rows, kernel = factors
    return gradient @ kernel.T, turn_result(gradient.T @ rows)


multiply_rows.defvjp(rows_forward, rows_backward)
