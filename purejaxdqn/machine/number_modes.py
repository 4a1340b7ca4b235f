"""JAX's numeric modes (64 bits, strict promotion, another generator): a run's programs are the same in all of them.

What a run computes follows from its settings and its seed. gymnax does not work in every mode, and a run's numbers
would not be the same, so its functions are traced in JAX's default modes.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax

USUAL_MODES: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_prng_impl": "threefry2x32",
    # Infinity is a value here, of the largest return before the first episode has ended, say.
    "jax_debug_infs": False,
}


@contextmanager
def usual_modes() -> Iterator[None]:
    """JAX's default modes in all threads of this process, until exit; for a command, whose threads compile."""
    before = {name: getattr(jax.config, name) for name in USUAL_MODES}
    for name, value in USUAL_MODES.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def in_usual_modes(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced in JAX's default modes whatever its caller's; they change in the caller's thread alone."""

    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as modes:
            modes.enter_context(jax.enable_x64(False))
            modes.enter_context(jax.numpy_dtype_promotion("standard"))
            modes.enter_context(jax.default_prng_impl("threefry2x32"))
            modes.enter_context(jax.debug_infs(False))
            return fn(*args, **kwargs)

    return traced


def in_precision(precision: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced with matrix products and convolutions of a precision, in JAX's words.

    Args:
      precision: `default` leaves it to the device, and the function as it is.
      fn: gradients of what it multiplies have the precision too where they are taken within it.
    """
    if precision == "default":
        return fn

    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return fn(*args, **kwargs)

    return traced
