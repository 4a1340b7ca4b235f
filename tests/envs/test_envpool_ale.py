"""EnvPool's games against the emulator itself, driven by ale_py without a wrapper: frames, rewards, lives, no-ops."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("envpool")
pytest.importorskip("ale_py")

from ale_py import ALEInterface, LoggerMode, roms

from benchmarks.learning.ale_replay import Game as ReplayedGame
from purejaxdqn.envs.envpool import check_changes, make_env
from purejaxdqn.envs.interface import HostStep
from purejaxdqn.loops.host import Tally
from purejaxdqn.observations.leaves import list_leaves

ALEInterface.setLoggerMode(LoggerMode.Error)
FULL_SIZE = (("img_height", 210), ("img_width", 160))
"""What the emulator draws, so that nothing is resized and frames are equal to the bit."""
ROMS = {"Breakout-v5": "breakout", "Pong-v5": "pong", "SpaceInvaders-v5": "space_invaders"}
SKIP = 4
RIGHT, LEFT = 2, 3
"""In Breakout's minimal set of no-op, fire, right and left."""


class Game:
    """One environment of the adapter's, and the emulator's memory after every step, which the adapter leaves out."""

    def __init__(self, env_id, changes=(), seed=0, num_envs=1):
        self.env = make_env(env_id, changes)
        self.pool = self.env.open_pool(num_envs, seed, 1)
        self.ram = np.zeros((num_envs, 128), np.uint8)
        raw = self.pool._pool
        recv = raw.recv

        def remember():
            result = recv()
            self.ram = result[4]["ram"][np.argsort(result[4]["env_id"])]
            return result

        raw.recv = remember

    def reset(self):
        self.pool.reset()
        return self.pool.receive(0)

    def step(self, *actions):
        self.pool.send(0, np.array(actions, np.int32))
        return self.pool.receive(0)


class Truth(NamedTuple):
    """One step, or reset, by the emulator."""

    grey: list
    """uint8 [210, 160] after each of its frames; there are fewer than the skip where the game ends."""
    rgb: list
    reward: int
    life_lost: bool
    over: bool


class Emulator:
    """ale_py's own."""

    def __init__(self, env_id):
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(roms.get_rom_path(ROMS[env_id]))
        self.actions = self.ale.getMinimalActionSet()

    def begin(self, ram, most=30):
        """Begins a game with the no-ops, at most so many, that lead to given memory; how many, or None."""
        self.ale.reset_game()
        for count in range(most + 1):
            if np.array_equal(self.ale.getRAM(), ram):
                return count
            self.ale.act(0)
        return None

    def first_moments(self, most):
        """memory -> the no-ops, up to so many, that lead to it."""
        self.ale.reset_game()
        found = {}
        for count in range(most + 1):
            found[bytes(self.ale.getRAM())] = count
            self.ale.act(0)
        assert len(found) == most + 1
        return found

    def look(self):
        return Truth([self.ale.getScreenGrayscale()], [self.ale.getScreenRGB()], 0, False, False)

    def step(self, action, skip=SKIP):
        before, grey, rgb, reward = self.ale.lives(), [], [], 0
        while len(grey) < skip and not self.ale.game_over():
            reward += self.ale.act(self.actions[action])
            grey.append(self.ale.getScreenGrayscale())
            rgb.append(self.ale.getScreenRGB())
        return Truth(grey, rgb, reward, self.ale.lives() < before, self.ale.game_over())


def random_actions(seed, num_actions):
    """A thousand of them."""
    return np.random.default_rng(seed).integers(0, num_actions, 1_000)


def walk(env_id, changes, num_steps, seed=0):
    """Random actions, and what the emulator says of the same: (step, truth) pairs, resets among them."""
    game, emulator = Game(env_id, changes, seed), Emulator(env_id)
    pairs, step = [], game.reset()
    for action in random_actions(seed, game.env.spec.num_actions)[:num_steps]:
        if step.begins[0]:
            assert emulator.begin(game.ram[0]) in range(1, 31)
            pairs.append((step, emulator.look()))
        step = game.step(action)
        if not step.begins[0]:
            pairs.append((step, emulator.step(action)))
            np.testing.assert_array_equal(game.ram[0], emulator.ale.getRAM())
    return game.env, pairs


@pytest.fixture(scope="module")
def breakout():
    """Three whole games of five lives."""
    return walk("Breakout-v5", FULL_SIZE, 700)


@pytest.fixture(scope="module")
def invaders():
    """A whole game of three lives, with rewards of 5 to 30."""
    return walk("SpaceInvaders-v5", FULL_SIZE, 520)


@pytest.fixture(scope="module")
def pong():
    """The beginning of a game without lives."""
    return walk("Pong-v5", FULL_SIZE, 350)


@pytest.fixture(params=["breakout", "invaders", "pong"])
def walked(request):
    """Each of the three by turns."""
    return request.getfixturevalue(request.param)


def test_a_frame_is_the_larger_of_the_last_two_greys(walked):
    """Pixel by pixel, of the third and fourth of a step. A game that ends sooner is the next test's."""
    _, pairs = walked
    checked = 0
    for step, truth in pairs:
        if step.begins[0] or len(truth.grey) == SKIP:
            np.testing.assert_array_equal(step.frame[0, ..., 0], np.max(truth.grey[-2:], axis=0))
            checked += 1
    assert checked >= 345


def test_greys_come_before_the_larger(pong):
    """The grey of the larger of two colours, which is DQN's own order, is lighter wherever two hues meet."""
    luminance = np.array([0.299, 0.587, 0.114])
    lighter = [
        np.max(np.max(truth.rgb[-2:], axis=0) @ luminance - step.frame[0, ..., 0]) for step, truth in pong[1][1:]
    ]
    assert max(lighter) > 10  # and rounding is less than 1


def test_where_a_game_ends_early_the_frame_before_comes_again(breakout, invaders):
    """Ended by its last frame: as ever. By the last but one: that one. Before: EnvPool looks no more, and repeats."""
    found = set()
    for _, pairs in (breakout, invaders):
        for (before, _), (step, truth) in pairwise(pairs):
            if truth.over:
                shown = step.frame[0, ..., 0]
                if len(truth.grey) == SKIP - 1:
                    np.testing.assert_array_equal(shown, truth.grey[-1])
                elif len(truth.grey) < SKIP - 1:
                    np.testing.assert_array_equal(shown, before.frame[0, ..., 0])
                found.add(len(truth.grey))
    assert {1, 2, 3} <= found  # the seeds have such games


def test_rewards_are_sums_and_ends_and_lives_the_emulators(walked):
    """Of all the emulator's frames in a step; a lost life, the last one included, is one and does not end the game."""
    _, pairs = walked
    for step, truth in pairs:
        assert step.reward[0] == truth.reward and step.reward.dtype == np.float32
        assert step.terminated[0] == truth.over and not step.truncated[0]
        assert step.life_lost[0] == truth.life_lost


def test_the_walks_have_what_they_are_to_show(breakout, invaders, pong):
    """Games that end, lives that are lost without an end, rewards above 1 and below 0."""
    for (_, pairs), lives, games in ((breakout, 5, 3), (invaders, 3, 1)):
        assert sum(truth.over for _, truth in pairs) == games
        first_end = next(i for i, (_, truth) in enumerate(pairs) if truth.over)
        assert sum(step.life_lost[0] for step, _ in pairs[: first_end + 1]) == lives
        assert pairs[first_end][0].life_lost[0]
    assert {5, 10, 15} <= {truth.reward for _, truth in invaders[1]}
    assert -1 in {truth.reward for _, truth in pong[1]}
    assert not any(step.life_lost[0] for step, _ in pong[1])


def test_only_the_learner_is_told_of_clipped_rewards_and_lives_as_ends(invaders):
    """EnvPool plays whole games for the score either way."""
    env, pairs = invaders
    untouched = make_env("SpaceInvaders-v5", (*FULL_SIZE, ("reward_clip", False), ("episodic_life", False)))
    for step, truth in pairs:
        told = env.learning_view(step)
        assert told.reward[0] == np.clip(truth.reward, -1, 1)
        assert told.terminated[0] == (truth.over or truth.life_lost) and not told.truncated[0]
        assert told.begins[0] == step.begins[0] and told.frame is step.frame
        told = untouched.learning_view(step)
        assert (told.reward[0], told.terminated[0]) == (truth.reward, truth.over)


def test_a_cut_in_the_step_of_a_lost_life_is_an_end_for_the_learner():
    """With lives as ends, nothing is bootstrapped from beyond a lost one; without, the cut is a cut."""
    yes, no = np.array([True]), np.array([False])
    step = HostStep(np.zeros((1, 84, 84, 1), np.uint8), np.zeros(1, np.float32), no, yes, yes, no)
    told = make_env("Breakout-v5").learning_view(step)
    assert told.terminated[0] and not told.truncated[0]
    told = make_env("Breakout-v5", (("episodic_life", False),)).learning_view(step)
    assert told.truncated[0] and not told.terminated[0]


@pytest.mark.parametrize(("walked", "games"), [("breakout", 3), ("invaders", 1)], indirect=["walked"])
def test_the_tally_is_of_whole_games_in_raw_rewards(walked, games):
    """Three lives and rewards of up to 30 make one return, and a game's does not run on into the next."""
    _, pairs = walked
    tally, found, expected, score, length = Tally(1), [], [], 0, 0
    for step, truth in pairs:
        returns, lengths = tally.follow(slice(None), step)
        found.extend(zip(returns, lengths, strict=True))
        score, length = score + truth.reward, length + (not step.begins[0])
        if truth.over:
            expected.append((score, length))
            score, length = 0, 0
    assert found == expected and len(found) == games
    assert max(score for score, _ in found) > 0


def test_colours_are_kept_where_they_are_asked_for():
    """The larger of two colours, channel by channel; `screen` is the newest of them alone."""
    changes = (*FULL_SIZE, ("gray_scale", False))
    env, pairs = walk("Pong-v5", changes, 60)
    for step, truth in pairs:
        np.testing.assert_array_equal(step.frame[0], np.max(truth.rgb[-2:], axis=0))
    assert list_leaves(env.spec)[0].frame_shape == (210, 160, 3)


def test_the_screen_is_the_emulators():
    game, emulator = Game("Breakout-v5"), Emulator("Breakout-v5")
    game.reset()
    emulator.begin(game.ram[0])
    np.testing.assert_array_equal(game.pool.screen(), emulator.ale.getScreenRGB())
    for action in (1, 2, 2, 3, 2):
        game.step(action)
        np.testing.assert_array_equal(game.pool.screen(), emulator.step(action).rgb[-1])


def test_84_by_84_is_the_mean_over_areas(breakout):
    """210 × 160 pixels as 420 × 3,360, of which blocks of 5 × 40 are exactly one of the 84 × 84. It is rounded once."""
    small = Game("Breakout-v5")
    assert small.reset().frame.shape == (1, 84, 84, 1)
    actions, worst = random_actions(0, 4)[:150], 0.0
    for (full, _), step in zip(breakout[1][1:151], map(small.step, actions), strict=True):
        fine = full.frame[0, ..., 0].repeat(2, axis=0).repeat(21, axis=1)
        mean = fine.reshape(84, 5, 84, 40).mean(axis=(1, 3))
        worst = max(worst, np.abs(mean - step.frame[0, ..., 0]).max())
    assert worst <= 0.51


def test_no_ops_are_1_to_30():
    """200 resets, each a draw of its own: of 30 equally likely numbers four or more stay out once in 10^8 times."""
    game = Game("Breakout-v5", (("max_episode_steps", 1),), num_envs=8)
    moments, counts = Emulator("Breakout-v5").first_moments(40), []
    for _ in range(25):
        assert (game.step(*[0] * 8) if counts else game.reset()).begins.all()
        counts += [moments[bytes(ram)] for ram in game.ram]
        assert game.step(*[0] * 8).truncated.all()
    assert min(counts) == 1 and max(counts) == 30  # each end stays out of one seed in 900, which is not this one
    assert len(set(counts)) >= 27


def test_noop_max_1_is_one_no_op():
    game = Game("Breakout-v5", (("noop_max", 1),), num_envs=8)
    game.reset()
    moments = Emulator("Breakout-v5").first_moments(40)
    assert {moments[bytes(ram)] for ram in game.ram} == {1}


def test_a_cut_shows_the_true_last_frame():
    """At exactly 50 steps; the next step is a reset, with a reward of 0."""
    env, pairs = walk("Breakout-v5", (*FULL_SIZE, ("max_episode_steps", 50)), 160)
    cuts = [i for i, (step, _) in enumerate(pairs) if step.truncated[0]]
    assert cuts == [50, 101, 152]  # a reset, 50 steps, and so on
    for i in cuts:
        step, truth = pairs[i]
        np.testing.assert_array_equal(step.frame[0, ..., 0], np.max(truth.grey[-2:], axis=0))
        assert not step.terminated[0] and not step.begins[0]
        assert pairs[i + 1][0].begins[0] and pairs[i + 1][0].reward[0] == 0.0
    assert env.spec.time_limit == 50


def repeats(probability, num_steps, num_envs):
    """How often Breakout's paddle went on the way that it was going, when the other way was asked for every frame.

    The emulator tries both, and its memory after one frame tells which it was.
    """
    changes = (("frame_skip", 1), ("repeat_action_probability", probability))
    game = Game("Breakout-v5", changes, num_envs=num_envs)
    game.reset()
    emulators = [Emulator("Breakout-v5") for _ in range(num_envs)]
    for emulator, ram in zip(emulators, game.ram, strict=True):
        assert emulator.begin(ram) is not None
    executed, count = [0] * num_envs, 0  # the last was a no-op
    for _ in range(num_steps):
        asked = [LEFT if action == RIGHT else RIGHT for action in executed]
        game.step(*asked)
        for i, emulator in enumerate(emulators):
            state, outcomes = emulator.ale.cloneState(), []
            for action in (asked[i], executed[i]):
                emulator.ale.restoreState(state)
                emulator.step(action, skip=1)
                outcomes.append(np.array_equal(emulator.ale.getRAM(), game.ram[i]))
            assert outcomes in ([True, False], [False, True])
            if outcomes[0]:
                emulator.ale.restoreState(state)
                emulator.step(asked[i], skip=1)
                executed[i] = asked[i]
            count += outcomes[1]
    return count


def test_sticky_actions_repeat_at_their_rate():
    """3.9 standard deviations of 2,000 draws: a false alarm once in 10^4 seeds, and the seed is fixed."""
    share = repeats(0.25, num_steps=500, num_envs=4) / 2_000
    assert abs(share - 0.25) < 3.9 * np.sqrt(0.25 * 0.75 / 2_000)


def test_without_stickiness_nothing_is_repeated():
    assert repeats(0.0, num_steps=100, num_envs=2) == 0


@pytest.mark.parametrize("size", [(84, 84), (42, 42), (50, 61)])
def test_the_replay_in_ale_sees_what_envpool_shows(size):
    """Area averages in NumPy, but for how a half is rounded: of frames in play, and after the no-ops."""
    changes = tuple(zip(("img_height", "img_width"), size, strict=True))
    env, pairs = walk("Pong-v5", changes, 80)
    game = ReplayedGame("Pong-v5", check_changes("Pong-v5", changes), 0)
    for step, truth in pairs:
        seen = game.look(truth.grey).astype(int)
        assert np.abs(seen - step.frame[0, ..., 0]).max() <= 1
    assert seen.shape == size == list_leaves(env.spec)[0].frame_shape[:2] and len(np.unique(seen)) > 10
