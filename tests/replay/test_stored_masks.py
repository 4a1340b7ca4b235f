"""Masks come back out of a replay beside the observations that they belong to, wherever an episode ended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import EnvSpec
from purejaxdqn.replay.frames import frame_store
from purejaxdqn.replay.transitions import transition_store
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Hypers, Row

WRITERS, STEPS, BITS = 3, 40, 10
SPEC = EnvSpec("masked", BITS, (1,), "float32", None, 100, masked=True)
STORES = {
    "steps that reset": transition_store(16, WRITERS, 3, 1, True),
    "annealed": transition_store(16, WRITERS, 3, 1, True, annealed=True),
    "resets that are steps": frame_store(16, WRITERS, 3, SPEC),
}


def bits_of(obs):
    """An observation is a number, and its mask the number's bits."""
    return (np.asarray(obs)[..., :1].astype(int) >> np.arange(BITS)) % 2 == 1


def make_rows(next_step):
    """Numbers in random order, and episodes that end in either way; with `next_step` a reset is a row of its own."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(2**BITS)[: 2 * (STEPS + 1) * WRITERS].reshape(2, STEPS + 1, WRITERS, 1).astype(np.float32)
    kind = rng.integers(0, 8, (STEPS, WRITERS))
    valid = np.ones((STEPS, WRITERS), bool)
    if next_step:
        for t in range(1, STEPS):
            valid[t] = ~(valid[t - 1] & (kind[t - 1] < 2))
    terminated, truncated = (kind == 0) & valid, (kind == 1) & valid
    obs, after = numbers[0, :-1], numbers[0, 1:]
    last = after if next_step else np.where((terminated | truncated)[..., None], numbers[1, 1:], after)
    action, reward = np.zeros((STEPS, WRITERS), np.int32), np.ones((STEPS, WRITERS), np.float32)
    return Row(obs, action, reward, terminated, truncated, last, valid, bits_of(obs), bits_of(last))


@pytest.mark.parametrize("name", STORES)
def test_masks_stay_with_their_observations(name):
    rows, replay, h = make_rows(name == "resets that are steps"), uniform(STORES[name], 64), Hypers(n_step_final=2)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), rows)
    memory, add, sample = replay.init(one), jax.jit(replay.add), jax.jit(replay.sample)
    seen = {"cut": 0, "whole": 0, "over": 0}
    for start in range(0, STEPS, 4):
        memory = add(memory, jax.tree.map(lambda leaf, start=start: jnp.asarray(leaf[start : start + 4]), rows))
        if start < 4:
            continue
        batch, _, weight = sample(memory, jax.random.key(start), h)
        read = np.asarray(weight) > 0
        np.testing.assert_array_equal(batch.mask_tm1[read], bits_of(batch.obs_tm1)[read])
        np.testing.assert_array_equal(batch.mask_t[read], bits_of(batch.obs_t)[read])
        discount = np.asarray(batch.discount_t)[read]
        seen["over"] += int((discount == 0).sum())
        seen["whole"] += int(np.isclose(discount, 0.99 ** (2 if name == "annealed" else 3)).sum())
        seen["cut"] += int(np.isclose(discount, 0.99).sum())
    assert min(seen.values()) > 20, seen


def test_without_masks_nothing_is_stored_or_read():
    rows = jax.tree.map(lambda leaf: leaf[:4], make_rows(False).replace(mask=None, final_mask=None))
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), rows)
    for store in STORES.values():
        replay = uniform(store, 4)
        memory = jax.eval_shape(replay.add, replay.init(one), rows)
        assert bool not in {leaf.dtype.type for leaf in jax.tree.leaves(memory) if leaf.ndim > 2}
        batch = jax.eval_shape(replay.sample, memory, jax.random.key(0), Hypers())[0]
        assert batch.mask_t is None and batch.mask_tm1 is None
