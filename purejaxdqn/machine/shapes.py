"""Shape assertions: arguments of the wrong shape or dtype are refused by name, when a function is traced.

Nothing of this is left in a compiled program. Shapes are written as for `chex.assert_shape`: a size, None for any size,
`...` for any further axes. Types are `float`, `int` or `bool`, of any width, or None for any.
"""

from typing import Any

import chex


def assert_array(name: str, value: Any, shape: tuple[Any, ...], dtype: Any = None) -> None:
    """Asserts the shape of one argument, and its dtype if one is given.

    Args:
      name: the argument's name, which the error begins with.
      value: array, shape with dtype, or Python scalar.
      shape: expected, as above.
      dtype: expected, as above.

    Raises:
      AssertionError: if the argument differs.
    """
    message = f"argument `{name}`"
    chex.assert_shape([value], [shape], custom_message=message)
    if dtype is not None:
        chex.assert_type([value], [dtype], custom_message=message)


def assert_arrays(shape: tuple[Any, ...], dtype: Any = None, **arguments: Any) -> None:
    """`assert_array` for several arguments of one shape and dtype, each under its keyword."""
    for name, value in arguments.items():
        assert_array(name, value, shape, dtype)


def assert_same_trees(**trees: Any) -> None:
    """Asserts that two pytrees have the same structure, and their arrays the same shapes and dtypes.

    Raises:
      AssertionError: with both keywords in its text, where they differ.
    """
    message = "arguments " + " and ".join(f"`{name}`" for name in trees)
    chex.assert_trees_all_equal_shapes_and_dtypes(*trees.values(), custom_message=message)
