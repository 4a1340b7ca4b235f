"""Shape assertions of their own."""

import jax
import jax.numpy as jnp
import pytest

from purejaxdqn.machine.shapes import assert_array, assert_arrays, assert_same_trees


def test_scalars_of_python_and_shapes_without_values_pass():
    assert_arrays((), gamma=0.99, period=50)
    assert_array("x", jax.ShapeDtypeStruct((2, 3), jnp.float32), (2, None), float)
    assert_array("x", jnp.zeros((2, 3, 4)), (2, ...), float)


@pytest.mark.parametrize(("shape", "dtype"), [((3,), float), ((2, None), float), ((2,), int), ((2,), bool)])
def test_an_error_begins_with_the_name(shape, dtype):
    with pytest.raises(AssertionError, match="argument `reward`"):
        assert_array("reward", jnp.zeros(2), shape, dtype)


@pytest.mark.parametrize("other", [{"w": jnp.zeros(3)}, {"w": jnp.zeros(2, int)}, {"v": jnp.zeros(2)}])
def test_trees_that_differ(other):
    with pytest.raises(AssertionError, match="`params` and `target_params`"):
        assert_same_trees(params={"w": jnp.zeros(2)}, target_params=other)


def test_nothing_is_left_in_the_program():
    def fn(x):
        assert_array("x", x, (None,), float)
        return x

    assert not jax.make_jaxpr(fn)(jnp.zeros(2)).eqns
