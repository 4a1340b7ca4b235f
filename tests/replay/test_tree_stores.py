"""Stores of trees: leaf by leaf what a store of that array alone keeps and reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import EnvSpec, SettingError
from purejaxdqn.replay.augmented import shift_pictures, with_random_shifts
from purejaxdqn.replay.frames import frame_store
from purejaxdqn.replay.presampled import DrawnMemory, drawn_replay
from purejaxdqn.replay.transitions import transition_store
from purejaxdqn.types import Hypers, Row, Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

T, E, CAPACITY, N = 23, 2, 12, 3
EYE, CLOCK, HAND = ((2, 2, 3), "uint8", 3), ((), "float32", 1), ((4,), "int32", 1)
"""Shape, dtype and frames in a stack of three arrays."""
SPEC = EnvSpec(
    "Tree-v0",
    3,
    {"clock": CLOCK[0], "more": (EYE[0], HAND[0])},
    {"clock": CLOCK[1], "more": (EYE[1], HAND[1])},
    None,
    100,
    frame_stack={"more": (3, 1)},
)
H = Hypers(gamma=0.9)


def draw(seed, shape, dtype):
    return np.random.default_rng(seed).integers(0, 250, (T, E, *shape)).astype(dtype)


def rows(obs, final_obs):
    rng = np.random.default_rng(9)
    terminated, truncated = rng.random((2, T, E)) < 0.15
    reward = rng.normal(size=(T, E)).astype(np.float32)
    valid = rng.random((T, E)) < 0.9
    return Row(obs, rng.integers(0, 3, (T, E)).astype(np.int32), reward, terminated, truncated, final_obs, valid)


def make_rows():
    """The rows of the tree, and of each of its arrays alone."""
    parts = [(draw(i, *part[:2]), draw(10 + i, *part[:2])) for i, part in enumerate((CLOCK, EYE, HAND))]
    now, last = ({"clock": clock, "more": (eye, hand)} for clock, eye, hand in zip(*parts, strict=True))
    return rows(now, last), [rows(*part) for part in parts]


def kept(store, given):
    """The store after all rows, three at a time, and transitions of it."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), given)
    memory, add = store.init(one), jax.jit(store.add)
    for start in range(0, T - 2, 3):
        memory = add(memory, jax.tree.map(lambda leaf: jnp.asarray(leaf[start : start + 3]), given))  # noqa: B023
    times = jnp.arange(21 - CAPACITY + 2, 21 - N).repeat(E)
    return memory, store.read(memory, times, jnp.tile(jnp.arange(E), times.shape[0] // E), H)


def stores():
    """(of the tree, of each array alone) of both kinds."""
    shared = {"capacity": CAPACITY, "num_envs": E, "n_step": N}
    steps = transition_store(**shared, time_limit=2, every_row_valid=False)
    alone = [EnvSpec("One-v0", 3, shape, dtype, None, 100, stack) for shape, dtype, stack in (CLOCK, EYE, HAND)]
    frames = [frame_store(**shared, spec=spec) for spec in alone]
    return {"steps": (steps, [steps] * 3), "frames": (frame_store(**shared, spec=SPEC), frames)}


@pytest.mark.parametrize("kind", ["steps", "frames"])
def test_every_leaf_is_read_as_if_it_were_alone(kind):
    """Stacks of three and single frames, ends of all kinds, over the ring's turn; all else is read as ever."""
    tree, alone = make_rows()
    store, singles = stores()[kind]
    _, (batch, weight) = kept(store, tree)
    found = [(batch.obs_tm1["clock"], batch.obs_t["clock"])]
    found += list(zip(batch.obs_tm1["more"], batch.obs_t["more"], strict=True))
    assert weight.sum() > 4
    for (obs_tm1, obs_t), single, given in zip(found, singles, alone, strict=True):
        _, (other, other_weight) = kept(single, given)
        np.testing.assert_array_equal(obs_tm1, other.obs_tm1)
        np.testing.assert_array_equal(obs_t, other.obs_t)
        np.testing.assert_array_equal(weight, other_weight)
        for name in ("a_tm1", "r_t", "discount_t"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(other, name))
        assert obs_t.dtype == given.obs.dtype


def test_each_array_is_stored_once_in_its_own_type():
    tree, _ = make_rows()
    store = stores()["steps"][0]
    memory, _ = kept(store, tree)
    stored = memory.ring.rows.obs
    sizes = {"clock": (CAPACITY, E), "more": ((CAPACITY, E, 2, 2, 3), (CAPACITY, E, 4))}
    assert jax.tree.map(lambda leaf: leaf.shape, stored) == sizes
    assert jax.tree.map(lambda leaf: str(leaf.dtype), stored) == SPEC.obs_dtype
    eye = kept(stores()["frames"][0], tree)[0].ring.rows.frame["more"][0]
    assert eye.shape == (CAPACITY, E, 4) and eye.dtype == jnp.uint8, "one frame of the stack's three"


def test_the_pictures_of_a_tree_are_shifted_together():
    """As one picture is with the same key; what is no picture stays."""
    shapes, dtypes = {"a": (5, 4, 2), "b": (5, 4, 1), "c": (3,)}, {"a": "uint8", "b": "uint8", "c": "float32"}
    spec = EnvSpec("Tree-v0", 3, shapes, dtypes, None, 100)
    rng = np.random.default_rng(0)
    obs = {name: jnp.asarray(rng.integers(0, 255, (6, *spec.obs_shape[name])), spec.obs_dtype[name]) for name in "abc"}
    zero = jnp.zeros(6)
    one = jax.tree.map(lambda leaf: leaf[None], (Transition(obs, jnp.zeros(6, jnp.int32), zero, zero, obs), zero))
    memory, key = DrawnMemory(*one, jnp.zeros((1, 6)), jnp.int32(0)), jax.random.key(3)
    batch, _, _ = with_random_shifts(drawn_replay(), 2, spec).sample(memory, key, H)
    np.testing.assert_array_equal(batch.obs_tm1["c"], obs["c"])
    plain = spec._replace(obs_shape=(5, 4, 2), obs_dtype="uint8")
    alone = memory.replace(batch=memory.batch.replace(obs_tm1=obs["a"][None], obs_t=obs["a"][None]))
    other, _, _ = with_random_shifts(drawn_replay(), 2, plain).sample(alone, key, H)
    np.testing.assert_array_equal(batch.obs_tm1["a"], other.obs_tm1)
    assert not np.array_equal(batch.obs_tm1["b"], obs["b"])
    assert shift_pictures(obs["b"], jnp.full((6, 2), 2), 2).tolist() == obs["b"].tolist()
    vectors = spec._replace(obs_shape={"c": (3,)}, obs_dtype={"c": "float32"})
    with pytest.raises(SettingError, match="no pictures: use 0"):
        with_random_shifts(drawn_replay(), 2, vectors)


def test_rows_of_another_tree_are_refused():
    tree = jax.tree.map(lambda leaf: leaf[:4], make_rows()[0])
    store = stores()["steps"][0]
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), tree)
    wrong = tree.replace(obs={**tree.obs, "clock": tree.obs["clock"][..., None]})
    with pytest.raises(AssertionError, match=r"rows\.obs\['clock'\]"):
        jax.eval_shape(store.add, store.init(one), wrong)
    short = tree.replace(final_obs={**tree.final_obs, "clock": tree.final_obs["clock"][:1]})
    with pytest.raises(AssertionError, match=r"rows\.final_obs\['clock'\]"):
        jax.eval_shape(store.add, store.init(one), short)
