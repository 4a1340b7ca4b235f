"""Work that a batch of lanes does only where one of them needs it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def where_needed(compute: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is computed where it is needed: (needed bool [], old, *args) -> compute(old, *args), or old.

    Alone it is a `lax.cond`. Under `vmap` that would become a choice between two computed values, with the work done
    for every lane in every step; here it is done for all lanes where any needs it, and for none where none does.

    Args:
      compute: (old, *args) -> a tree of the structure, shapes and dtypes of `old`.
    """

    def keep(old: Any, *args: Any) -> Any:
        del args
        return old

    @jax.custom_batching.custom_vmap
    def run(needed: Array, old: Any, *args: Any) -> Any:
        return jax.lax.cond(needed, compute, keep, old, *args)

    def chosen(needed: Array, old: Any, *args: Any) -> Any:
        return jax.tree.map(partial(jnp.where, needed), compute(old, *args), old)

    @run.def_vmap
    def lanes(size: int, batched: Any, needed: Array, old: Any, *args: Any) -> tuple[Any, Any]:
        given = jax.tree.map(
            lambda leaf, is_batched: leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape)),
            (needed, old, *args),
            tuple(batched),
        )
        out = jax.lax.cond(jnp.any(given[0]), jax.vmap(chosen), lambda _, *rest: keep(*rest), *given)
        return out, jax.tree.map(lambda _: True, out)

    return run
