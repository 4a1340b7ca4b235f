"""Random shifts against numpy's padding and slicing, and where they are drawn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.loops.device import make_agent
from purejaxdqn.replay.augmented import shift_pictures, with_random_shifts
from purejaxdqn.replay.presampled import DrawnMemory, drawn_replay
from purejaxdqn.types import Hypers, Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

SPEC = EnvSpec("Test-v0", 3, (5, 4, 2), "uint8", None, 100)


shift = jax.jit(shift_pictures, static_argnums=2)


def pictures(seed, size=40):
    return np.random.default_rng(seed).integers(0, 256, (size, *SPEC.obs_shape), dtype=np.uint8)


def padded_and_cropped(picture, offset, pixels):
    """In numpy, by the paper's words."""
    wide = np.pad(picture, ((pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    row, column = offset
    return wide[row : row + picture.shape[0], column : column + picture.shape[1]]


def test_by_hand():
    """One row 1 2 3, shifted by one either way, has its edge twice."""
    row = np.array([1, 2, 3], np.int32)[None, None, :, None]
    offsets = [np.array([[1, column]], np.int32) for column in range(3)]
    found = [np.asarray(shift(row, offset, 1)).ravel().tolist() for offset in offsets]
    assert found == [[1, 1, 2], [1, 2, 3], [2, 3, 3]]


@pytest.mark.parametrize("pixels", [1, 3, 7])
def test_a_shift_is_a_crop_of_the_padded_picture(pixels):
    """Also where the padding is wider than the picture."""
    some = pictures(0)
    offsets = np.random.default_rng(1).integers(0, 2 * pixels + 1, (len(some), 2)).astype(np.int32)
    found = shift(some, offsets, pixels)
    expected = [padded_and_cropped(p, o, pixels) for p, o in zip(some, offsets, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == jnp.uint8


def drawn(size=300):
    """A batch, and a memory from which it is drawn."""
    numbers = np.zeros(size, np.float32)
    batch = Transition(
        obs_tm1=pictures(2, size),
        a_tm1=np.zeros(size, np.int32),
        r_t=numbers,
        discount_t=numbers,
        obs_t=pictures(3, size),
    )
    one = jax.tree.map(lambda leaf: leaf[None], (batch, numbers))
    return batch, DrawnMemory(*one, numbers[None], np.int32(0))


def places(found, original, pixels):
    """All offsets whose crop a picture is."""
    choices = [(row, column) for row in range(2 * pixels + 1) for column in range(2 * pixels + 1)]
    return [o for o in choices if np.array_equal(found, padded_and_cropped(original, o, pixels))]


def test_each_example_has_a_draw_of_its_own_for_either_observation():
    """All nine offsets of one pixel, about equally often; and an offset of obs_t says nothing of that of obs_tm1."""
    batch, memory = drawn()
    replay = with_random_shifts(drawn_replay(), 1, SPEC)
    sample = jax.jit(replay.sample)
    found, _, _ = jax.device_get(sample(memory, jax.random.key(0), Hypers()))
    seen = {}
    for name in ("obs_tm1", "obs_t"):
        each = [places(*pair, 1) for pair in zip(getattr(found, name), getattr(batch, name), strict=True)]
        assert all(len(offsets) == 1 for offsets in each)
        seen[name] = [offsets[0] for offsets in each]
        counts = [seen[name].count((row, column)) for row in range(3) for column in range(3)]
        assert min(counts) > 14 and max(counts) < 60  # of 300 / 9 = 33, within 3.5 standard deviations
    same = sum(a == b for a, b in zip(seen["obs_tm1"], seen["obs_t"], strict=True))
    assert same < 60
    for name in ("a_tm1", "r_t", "discount_t"):
        np.testing.assert_array_equal(getattr(found, name), getattr(batch, name))
    again, _, _ = sample(memory, jax.random.key(1), Hypers())
    assert (again.obs_tm1 != found.obs_tm1).any()


def test_what_is_no_picture_is_refused_and_so_is_a_learner_without_a_replay():
    with pytest.raises(SettingError, match=r"random_shift=4: CartPole-v1 gives observations of shape \(4,\)"):
        make_agent(Config(random_shift=4))
    with pytest.raises(SettingError, match="random_shift=4: --learner rollout does not read it"):
        make_agent(Config(env="Breakout-MinAtar", learner="rollout", random_shift=4))
    with pytest.raises(SettingError, match="random_shift=-1: use a whole number of at least 0"):
        Config(random_shift=-1)


@pytest.mark.slow
def test_a_run_shifts_what_it_learns_from_and_not_what_it_keeps():
    """After one phase of learning the replay is that of a run without shifts, the parameters are not."""
    config = Config(
        env="Breakout-MinAtar",
        num_envs=2,
        total_steps=200,
        buffer_size=100,
        batch_size=4,
        learning_starts=20,
        hidden=(4,),
    )
    states = []
    for shift in (0, 2):
        agent = make_agent(dataclasses.replace(config, random_shift=shift))
        key, h = jax.random.key(0, impl="threefry2x32"), Hypers(epsilon_final=1.0)
        states.append(jax.jit(lambda key, agent=agent, h=h: agent.iterate(agent.init(key, h), h, 1)[0])(key))
    plain, shifted = states
    jax.tree.map(np.testing.assert_array_equal, plain.memory, shifted.memory)
    differ = jax.tree.map(lambda a, b: bool((a != b).any()), plain.learner.params, shifted.learner.params)
    assert any(jax.tree.leaves(differ))
