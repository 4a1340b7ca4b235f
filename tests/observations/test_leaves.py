"""An observation as a tree of leaves: plain trees, what leaves say of themselves, and what is refused."""

import json
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import EnvSpec, SettingError
from purejaxdqn.observations.leaves import (
    Leaf,
    arrays_of,
    as_one,
    assert_obs,
    channels_first,
    check_leaf,
    check_values,
    describe,
    find,
    flatten,
    leaves_of,
    list_leaves,
    longest_stack,
    plain,
    zeros,
)
from purejaxdqn.runs.folder import spec_from_json


class Seen(NamedTuple):
    """A named tuple whose fields are not in the order of their names."""

    picture: Any
    arms: Any


OBS = Seen(picture=np.zeros((5, 5, 2), np.uint8), arms=[np.int32(1), {"b": np.ones(3, np.float32), "a": np.float32(2)}])
PLAIN = {"arms": (OBS.arms[0], {"a": OBS.arms[1]["a"], "b": OBS.arms[1]["b"]}), "picture": OBS.picture}
SPEC = EnvSpec(
    "Tree-v0",
    3,
    {"arms": ((), {"a": (), "b": (3,)}), "picture": (5, 5, 8)},
    {"arms": ("int32", {"a": "float32", "b": "float32"}), "picture": "uint8"},
    {"arms": (4,)},
    100,
    frame_stack={"picture": 4},
    obs_scale={"picture": 10.0},
)


def test_any_tree_becomes_one_of_dicts_and_tuples():
    """Named tuples by their names, lists in their order; an array stays what it is, and None holds nothing."""
    made = plain(OBS)
    assert jax.tree.structure(made) == jax.tree.structure(PLAIN)
    assert all(x is y for x, y in zip(jax.tree.leaves(made), jax.tree.leaves(PLAIN), strict=True))
    assert plain(OBS.picture) is OBS.picture
    assert plain(OrderedDict(b=1, a=None)) == {"b": 1}
    assert plain({2: 0.5, 10: 1.5}) == {"2": 0.5, "10": 1.5}
    assert flatten(PLAIN)[0] == [("arms", 0), ("arms", 1, "a"), ("arms", 1, "b"), ("picture",)]


def test_a_spec_is_a_tree_of_leaves():
    """What is left out of its trees says nothing, and a stack counts for the leaf that it is of."""
    number, a, b, picture = list_leaves(SPEC)
    assert number == Leaf(("arms", 0), (), "int32", 4, None, 1) and number.name == "arms/0" and number.features == 4
    assert (a.shape, b.shape, b.features, b.divisor) == ((), (3,), 3, 1.0)
    assert picture.is_picture and picture.frame_shape == (5, 5, 2) and picture.divisor == 10.0
    assert (picture.frame_stack, longest_stack(SPEC)) == (4, 4)
    assert jax.tree.structure(leaves_of(SPEC)) == jax.tree.structure(PLAIN)
    made = zeros(SPEC, 2)
    assert made["picture"].shape == (2, 5, 5, 8) and made["arms"][0].dtype == jnp.int32
    assert_obs(SPEC, made)
    with pytest.raises(AssertionError, match="argument `obs arms/1/b`"):
        assert_obs(SPEC, {**made, "arms": (made["arms"][0], {"a": jnp.zeros(2), "b": jnp.zeros((2, 4))})})


@pytest.mark.parametrize(
    ("shape", "dtype", "values", "first"),
    [
        ((3, 64, 64), "uint8", None, "surely"),
        ((4, 8, 8), "float32", None, "surely"),
        ((5, 6, 7), "bool", None, "surely"),
        ((2, 2, 8), "float32", None, "perhaps"),
        ((4, 4, 31), "bool", None, "no"),
        ((4, 4, 31), "int32", 9, "no"),
        ((4, 3, 3), "float32", None, "no"),
        ((84, 84, 4), "uint8", None, "no"),
        ((64,), "float32", None, "no"),
    ],
)
def test_whether_channels_seem_to_come_first(shape, dtype, values, first):
    assert channels_first(Leaf((), shape, dtype, values, None, 1)) == first


def test_a_plain_array_is_the_tree_of_one_leaf():
    spec = EnvSpec("Pong-v5", 6, (84, 84, 4), "uint8", None, 27_000, frame_stack=4)
    (leaf,) = list_leaves(spec)
    assert leaf == Leaf((), (84, 84, 4), "uint8", None, None, 4) == leaves_of(spec)
    assert leaf.divisor == 255.0 and leaf.name == "" and leaf.frame_shape == (84, 84, 1)
    assert zeros(spec, 3).shape == (3, 84, 84, 4)


def test_a_spec_comes_back_from_json():
    """Trees as lists and objects; the description of an older run, which says no scale, too."""
    again = spec_from_json(json.loads(json.dumps(SPEC._asdict())))
    assert list_leaves(again) == list_leaves(SPEC) and again == SPEC
    older = {"env_id": "X", "num_actions": 2, "obs_shape": [4], "obs_dtype": "float32", "num_obs_values": None}
    assert spec_from_json({**older, "time_limit": 5}) == EnvSpec("X", 2, (4,), "float32", None, 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"obs_shape": {"a": [3]}},
        {"obs_shape": [3], "obs_dtype": {"a": "float32"}},
        {"obs_dtype": {"a": 5}, "obs_shape": {"a": [3]}},
        {"obs_dtype": {}, "obs_shape": {}},
        {"num_obs_values": 0.5},
        {"num_obs_values": {"b": 2}},
        {"obs_scale": -1.0},
        {"obs_scale": "much"},
        {"frame_stack": {"a": 0}},
    ],
)
def test_a_spec_of_foreign_data_is_refused(changes):
    data = json.loads(json.dumps(EnvSpec("X", 2, (4,), "float32", None, 5)._asdict()))
    with pytest.raises((TypeError, ValueError)):
        spec_from_json(data | changes)


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (Leaf(("a",), (3,), "complex64", None, None, 1), r"observations \(a\) are of the type complex64"),
        (Leaf(("a", 1), (3,), "uint8", None, None, 1), r"observations \(a/1\) are uint8: say num_obs_values"),
        (Leaf((), (), "uint8", None, None, 1), "^env='X': its observations are uint8: say"),
        (Leaf(("a",), (3,), "float32", 5, None, 1), r"\(a\) are of 5 values, and of the type float32: give whole"),
        (Leaf(("a",), (3,), "bool", 2, None, 1), "type bool: give whole numbers"),
        (Leaf(("a",), (3,), "int32", 0, None, 1), "at least 1"),
        (Leaf(("a",), (3,), "uint8", None, 0.0, 1), "a finite number above 0"),
        (Leaf(("eye",), (3, 64, 64), "uint8", None, None, 1), r"\(eye\), pictures \(3, 64, 64\), seem to have"),
        (Leaf(("eye",), (5, 6, 7), "float32", None, None, 1), "channels first: give them last, or flatten"),
    ],
)
def test_a_leaf_that_could_be_taken_for_something_else_is_a_sentence(leaf, words):
    with pytest.raises(SettingError, match=words) as told:
        check_leaf("X", leaf)
    assert "\n" not in str(told.value)


def test_leaves_that_say_what_they_are_pass():
    for shape, dtype, values, scale in (
        ((84, 84, 3), "uint8", None, None),
        ((3,), "uint8", 9, None),
        ((3,), "uint8", None, 10.0),
        ((7, 7, 3), "int8", 11, None),
        ((4, 4, 31), "bool", None, None),
        ((10, 10, 4), "float32", None, None),
        ((2, 2, 2, 2), "bool", None, None),
        ((), "bfloat16", None, None),
    ):
        check_leaf("X", Leaf(("a",), shape, dtype, values, scale, 1))


def test_what_is_said_of_no_leaf_is_a_sentence():
    obs = {"near": jnp.zeros(3), "far": jnp.int32(1)}
    assert describe("X", obs, {"far": 4}, None)["num_obs_values"] == {"far": 4, "near": None}
    with pytest.raises(SettingError, match="num_obs_values speaks of fur, and its observation is far, near"):
        describe("X", obs, {"fur": 4}, None)
    with pytest.raises(SettingError, match="obs_scale speaks of one array, and its observation is far, near"):
        describe("X", obs, None, 255.0)
    with pytest.raises(SettingError, match="speaks of a, and its observation is one array"):
        describe("X", jnp.zeros(3), {"a": 4}, None)


@pytest.mark.parametrize(
    ("obs", "words"),
    [
        ({"a": np.zeros(2), "said": "go"}, r"observations \(said\) are of the type <U2: give numbers, or leave"),
        ({"a": {"b": np.zeros(2, complex)}}, r"\(a/b\) are of the type complex128"),
        ({"key": jax.random.key(0)}, r"\(key\) are of the type key<fry>"),
        ({}, "its observation holds no array"),
    ],
)
def test_what_is_no_array_of_numbers_is_a_sentence(obs, words):
    with pytest.raises(SettingError, match=words):
        arrays_of("X", obs)


def test_numbers_that_were_played_are_what_is_said():
    """Kinds outside their values, and uint8 in a picture that no colour of 255 explains."""
    spec = EnvSpec("X", 2, {"eye": (4, 4, 1), "id": ()}, {"eye": "uint8", "id": "int32"}, {"id": 3}, 5)
    bright = np.full((6, 4, 4, 1), 200, np.uint8)
    check_values(spec, {"eye": bright, "id": np.array([0, 2, 1, 1, 0, 2])})
    with pytest.raises(SettingError, match=r"observations \(id\) that are none of its values 0 to 2"):
        check_values(spec, {"eye": bright, "id": np.array([0, 3, 1, 1, 0, 2])})
    with pytest.raises(SettingError, match=r"\(eye\) are uint8 and reach 20 at most in some steps, of a picture's 255"):
        check_values(spec, {"eye": bright // 10, "id": np.zeros(6, int)})
    check_values(spec._replace(obs_scale={"eye": 20.0}), {"eye": bright // 10, "id": np.zeros(6, int)})


def test_an_array_is_found_by_its_names():
    """In dicts, which may have methods of that name, in named tuples and in tuples, whatever else is there."""
    assert find({"items": 3, "x": 1}, ("items",)) == 3
    assert find(Seen(1, (2, {"a": 5})), ("arms", 1, "a")) == 5
    assert find(7, ()) == 7
    for obs in ({"x": 1}, Seen(1, 2), (1,), 3.0):
        with pytest.raises(ValueError, match="an observation has arms/1, and this one has none"):
            find(obs, ("arms", 1))


def test_what_is_drawn_of_a_tree():
    """A picture before a grid, a grid before numbers, which are all drawn in a row."""
    assert as_one(PLAIN).shape == (5, 5, 2)
    assert as_one({"a": np.zeros(3), "b": np.zeros((4, 4))}).shape == (4, 4)
    np.testing.assert_array_equal(as_one({"a": np.arange(3), "b": np.float32(7)}), [0, 1, 2, 7])
    assert as_one(np.zeros((2, 2, 2, 2))).shape == (2, 2, 2, 2)
