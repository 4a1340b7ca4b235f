"""The scripted game of pixels that the host loop is shown to learn, and, as a learning test, that it does."""

import numpy as np
import pytest
from pools import play

from benchmarks.learning import host_pixels
from benchmarks.learning.scripted import BALL, CELL, CELLS, JUMP, PADDLE, REWARD, THIRD, CatchPool, make_catch

NUM_ENVS = 40


def ball(step):
    """Row and column of the ball, [B] each."""
    grid = step.frame[:, ::CELL, ::CELL, 0]
    return np.divmod((grid == BALL).reshape(len(grid), -1).argmax(axis=1), CELLS)


def test_whoever_sees_two_frames_catches_every_ball():
    """So the best score is 1: three episodes of eight steps, and the ignored one after each, in all games."""
    pool = CatchPool(NUM_ENVS, 3)
    pool.reset()
    steps, rng = [pool.receive(0)], np.random.default_rng(0)
    for _ in range(3 * CELLS - 1):
        action = rng.integers(0, 3, NUM_ENVS).astype(np.int32)
        row, column = ball(steps[-1])
        if (row == JUMP).all():
            drift = np.where((column - ball(steps[-2])[1]) % CELLS == 1, 1, -1)
            action = ((column + drift * (CELLS - 1 - JUMP)) % CELLS // THIRD).astype(np.int32)
        pool.send(0, action)
        steps.append(pool.receive(0))
    rewards = np.stack([step.reward for step in steps])
    last = np.arange(len(steps)) % CELLS == CELLS - 1
    np.testing.assert_array_equal(rewards, np.where(last, REWARD, 0.0)[:, None] * np.ones(NUM_ENVS))
    view = make_catch().learning_view(steps[CELLS - 1])
    assert (view.reward == 1.0).all() and view.terminated.all()


def test_whoever_sees_one_frame_catches_one_ball_of_two():
    """Where the paddle jumps each place of the ball goes with two thirds, equally often (within 5 standard errors).

    And nothing else is on the screen that could differ: the frame follows from the ball's place.
    """
    size = 4_000
    steps = play(CatchPool(size, 0), np.random.default_rng(0).integers(0, 3, (CELLS - 1, size)))
    column, third = ball(steps[JUMP])[1], ball(steps[-1])[1] // THIRD
    for place in range(CELLS):
        there = column == place
        found, counts = np.unique(third[there], return_counts=True)
        assert len(found) == 2
        assert abs(counts[0] / there.sum() - 0.5) < 2.5 / np.sqrt(there.sum())
        assert len(np.unique(steps[JUMP].frame[there], axis=0)) == 1


def test_the_step_after_an_end_is_ignored_and_begins():
    """As EnvPool has it: the final frame comes with the end, then a first frame with no reward, whatever was sent."""
    steps = play(CatchPool(NUM_ENVS, 3), np.zeros((2 * CELLS, NUM_ENVS), np.int32))
    begins, ended = (np.stack([getattr(step, name) for step in steps]) for name in ("begins", "ended"))
    first = np.arange(len(steps)) % CELLS == 0
    np.testing.assert_array_equal(begins, np.broadcast_to(first[:, None], begins.shape))
    np.testing.assert_array_equal(ended[:-1], begins[1:])
    for step in steps[::CELLS]:
        assert (ball(step)[0] == 0).all() and not step.reward.any()
        # Back in the middle, although it jumped to the left.
        assert (step.frame[:, -1, CELL * THIRD : 2 * CELL * THIRD] == PADDLE).all()
    assert all((ball(step)[0] == CELLS - 1).all() for step in steps[CELLS - 1 :: CELLS])


def test_groups_and_seeds():
    """A group is the same whoever is received first; another seed is other games."""

    def first(seed, order):
        pool = CatchPool(NUM_ENVS, seed, 2)
        pool.reset()
        frames = {group: pool.receive(group).frame for group in order}
        return np.concatenate([frames[0], frames[1]])

    np.testing.assert_array_equal(first(0, (0, 1)), first(0, (1, 0)))
    assert not np.array_equal(first(0, (0, 1)), first(1, (0, 1)))


@pytest.mark.learning
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("algo", host_pixels.ALGOS)
def test_pixels_are_learnt_from_stacks_and_not_from_single_frames(algo, seed):
    """Nine tenths of the best score with four frames, less than half with one; values are of clipped rewards."""
    seeing = host_pixels.measure(algo, seed, 4)
    assert seeing["score"] >= host_pixels.BAR, seeing
    # Games pay ±10, which learning clips to ±1, so that no true value passes 1; without clipping they would be near 10.
    assert seeing["training_return_max"] == REWARD and 0.1 < seeing["late_q"] < 2.0, seeing
    # Every frame is stored once: stacks of both observations would take eight.
    assert seeing["replay_bytes_per_step"] < 2 * (CELLS * CELL) ** 2, seeing
    blind = host_pixels.measure(algo, seed, 1)
    assert blind["score"] < host_pixels.BLIND, blind
