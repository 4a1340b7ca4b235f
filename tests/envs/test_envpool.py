"""The adapter of EnvPool's environments: stacks, cuts, the host loop's rows and scores, seeds, groups, settings."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pools import play

pytest.importorskip("envpool")

import envpool

from purejaxdqn.build import build
from purejaxdqn.config import Config, SettingError
from purejaxdqn.envs.envpool import ATARI_OPTIONS, env_seeds, make_env
from purejaxdqn.envs.interface import HostStep
from purejaxdqn.loops.host import HostLoop
from purejaxdqn.loops.host_functions import greet, pack
from purejaxdqn.observations.leaves import list_leaves
from purejaxdqn.replay.frames import read_transitions
from purejaxdqn.types import Hypers

SMALL = (("img_height", 21), ("img_width", 16))


def random_actions(num_steps, num_envs, num_actions=4, seed=0):
    return np.random.default_rng(seed).integers(0, num_actions, (num_steps, num_envs)).astype(np.int32)


def assert_same(one, other):
    """Every field of two steps."""
    for field, a, b in zip(HostStep._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=field)


@pytest.mark.parametrize("limit", [pytest.param(27_000, marks=pytest.mark.long), 37])
def test_stacks_made_on_the_device_are_envpools_own(limit):
    """At every step of several episodes: first frames fill the stack, and last ones are pushed like any other."""
    env = make_env("Breakout-v5", (("max_episode_steps", limit),))
    options = ATARI_OPTIONS | {"max_episode_steps": limit}
    seeds = env_seeds(5, 3)
    own = envpool.make("Breakout-v5", env_type="gymnasium", num_envs=3, env_seed=seeds, stack_num=4, **options)
    stack, _ = own.reset()
    actions = random_actions(450, 3)
    obs, show = jnp.zeros((3, *env.spec.obs_shape), jnp.uint8), jax.jit(partial(greet, env.spec))
    begun = ended = 0
    for t, step in enumerate(play(env.open_pool(3, 5, 1), actions)):
        if t > 0:
            stack, *_ = own.step(actions[t - 1])
        obs = show(obs, pack(step))
        np.testing.assert_array_equal(obs, np.moveaxis(stack, 1, -1))
        begun, ended = begun + step.begins.sum(), ended + (step.terminated | step.truncated).sum()
    assert begun >= 7 and ended >= 6


def test_a_game_over_at_its_step_limit_is_terminated():
    """Not cut: nothing may be bootstrapped from. One step earlier it is cut."""
    actions = random_actions(400, 1)
    free = play(make_env("Breakout-v5", SMALL).open_pool(1, 0, 1), actions)
    length = next(t for t, step in enumerate(free) if step.terminated[0])
    for limit, terminated in ((length, True), (length - 1, False)):
        env = make_env("Breakout-v5", (*SMALL, ("max_episode_steps", limit)))
        steps = play(env.open_pool(1, 0, 1), actions[: limit + 1])
        assert not any(step.terminated[0] or step.truncated[0] for step in steps[:limit])
        assert (steps[limit].terminated[0], steps[limit].truncated[0]) == (terminated, not terminated)
        assert steps[limit + 1].begins[0]


def test_the_action_after_an_end_is_ignored():
    """Whatever it is: the step is a reset, with a reward of 0, and the game goes on as it would have."""
    env = make_env("Breakout-v5", (*SMALL, ("max_episode_steps", 6)))
    actions = random_actions(40, 3)
    others = actions.copy()
    others[6::7] = (others[6::7] + 1) % 4  # the actions before steps 7, 14, ...: a reset, six steps, a reset
    one, other = play(env.open_pool(3, 1, 1), actions), play(env.open_pool(3, 1, 1), others)
    for t, (a, b) in enumerate(zip(one, other, strict=True)):
        assert_same(a, b)
        assert np.all(a.begins == (t % 7 == 0)) and np.all(a.truncated == (t % 7 == 6))
        assert np.all(a.reward[a.begins] == 0.0)
    others[5::7] = (others[5::7] + 1) % 4  # one sooner, and it counts
    changed = play(env.open_pool(3, 1, 1), others)
    assert any(not np.array_equal(a.frame, b.frame) for a, b in zip(one, changed, strict=True))


class Witness:
    """A pool that keeps what it gave."""

    def __init__(self, pool, steps):
        self._pool, self._steps = pool, steps

    def __getattr__(self, name):
        return getattr(self._pool, name)

    def receive(self, group):
        self._steps.append(self._pool.receive(group))
        return self._steps[-1]


LIMIT = 50
"""Steps, before which no random player loses SpaceInvaders' three lives."""


@pytest.fixture(scope="module")
def cut_run():
    """A small run of the host loop, with episodes cut at the limit and lives that are no ends.

    Its parts, state, metrics, loop, and what the environments gave.
    """
    config = Config(
        env="SpaceInvaders-v5",
        env_params=(*SMALL, ("max_episode_steps", LIMIT), ("episodic_life", False)),
        num_envs=2,
        total_steps=2_000,
        buffer_size=1_000,
        batch_size=16,
        learning_starts=120,
        n_step=3,
        network="mlp",
        hidden=(8,),
    )
    parts, steps = build(config), []
    env = parts.env
    parts = parts._replace(env=env._replace(open_pool=lambda *args: Witness(env.open_pool(*args), steps)))
    loop, h = HostLoop(config, parts, seed=0), Hypers().as_arrays()
    assert config.prefill_steps == 60
    state = loop.begin(loop.functions.init(jax.random.key(0), h), h, fill=True)
    state, metrics = loop.iterate(state, h, 100)
    loop.close()
    return parts, state, metrics, loop, steps


def test_what_starts_before_a_cut_bootstraps_from_the_last_frames(cut_run):
    """A discount of γ to the steps left, and the stack that ends in the true last frame."""
    parts, state, _, _, steps = cut_run
    assert steps[50].truncated.all() and steps[51].begins.all()
    times, writers = jnp.repeat(jnp.array([48, 49, 50]), 2), jnp.tile(jnp.arange(2), 3)
    read = jax.jit(partial(read_transitions, parts.env.spec, n_step=3, gamma=0.9))
    got, weight = read(state.memory.ring, times, writers)
    np.testing.assert_array_equal(weight, 1.0)
    # The row at a time is the step received then: that at 50 was cut, those at 48 and 49 are folded up to it.
    np.testing.assert_allclose(got.discount_t, np.repeat([0.9**3, 0.9**2, 0.9], 2), rtol=1e-6)
    last, before = (np.concatenate([steps[t].frame for t in range(end - 3, end + 1)], axis=-1) for end in (50, 49))
    np.testing.assert_array_equal(got.obs_t, np.tile(last, (3, 1, 1, 1)))
    np.testing.assert_array_equal(got.obs_tm1[4:], before)
    assert not np.array_equal(last, before)
    rewards = sum(0.9**i * np.clip(steps[48 + i].reward, -1, 1) for i in range(3))
    np.testing.assert_allclose(got.r_t[:2], rewards, rtol=1e-6)


def test_no_sample_starts_where_an_action_was_ignored(cut_run):
    """One row in 51 is no transition: eight draws in a row are none once for 10^13 starts, of which these are 1,600."""
    parts, state, _, _, steps = cut_run
    ring = state.memory.ring
    written = int(ring.written.count)
    begins = np.stack([step.begins for step in steps])[:written]
    np.testing.assert_array_equal(ring.rows.valid[:written], ~begins)
    assert begins.sum() == 2 * 4  # at 0, 51, 102 and 153
    sample = jax.jit(jax.vmap(lambda key: parts.replay.sample(state.memory, key, Hypers())))
    _, (times, writers), weight = sample(jax.random.split(jax.random.key(1), 100))
    assert not begins[times, writers].any()
    np.testing.assert_array_equal(weight, 1.0)


def test_the_loop_counts_whole_games_in_raw_rewards(cut_run):
    """SpaceInvaders gives up to 30 a step: what is learnt from is clipped, the score is not."""
    _, state, metrics, loop, steps = cut_run
    # Three episodes of each environment: cut at 50, 101 and 152, of which the prefill of 60 steps has the first.
    scores = [[sum(step.reward[i] for step in steps[t : t + 51]) for i in range(2)] for t in (0, 51, 102)]
    assert list(loop.recent) == np.ravel(scores).tolist()
    assert (metrics.episodes, metrics.length_sum, metrics.return_sum) == (4, 4 * LIMIT, np.sum(scores[1:]))
    assert metrics.env_steps == 2 * (100 - 2)  # two resets
    raw = np.stack([step.reward for step in steps])[:160]
    stored = np.asarray(state.memory.ring.rows.reward)[:160]
    assert raw.max() >= 5.0
    np.testing.assert_array_equal(stored, np.minimum(raw, 1.0))


def test_seeds_differ_between_environments_and_between_seeds():
    """Twenty neighbouring seeds of 256 environments each share none."""
    seeds = [seed for run_seed in range(20) for seed in env_seeds(run_seed, 256)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0 and max(seeds) < 2**31
    assert env_seeds(3, 4) == env_seeds(3, 8)[:4]


def test_a_seed_is_a_stream_of_episodes():
    """The same one gives the same steps over several episodes, and another gives others."""
    env = make_env("Breakout-v5", (*SMALL, ("max_episode_steps", 9), ("repeat_action_probability", 0.25)))
    actions = random_actions(25, 4)
    one, same, other = (play(env.open_pool(4, seed, 1), actions) for seed in (7, 7, 8))
    for a, b in zip(one, same, strict=True):
        assert_same(a, b)
    assert any(not np.array_equal(a.frame, b.frame) for a, b in zip(one, other, strict=True))
    # Nor are two environments of a pool alike, though here they are told the same.
    alike = play(env.open_pool(4, 7, 1), np.repeat(actions[:, :1], 4, axis=1))
    streams = np.stack([step.frame for step in alike], axis=1)
    assert all(not np.array_equal(streams[i], streams[j]) for i in range(4) for j in range(i))


def test_groups_give_what_the_whole_gives():
    """Each group's results in the order of its environments, whichever is asked for first."""
    env = make_env("Breakout-v5", (*SMALL, ("max_episode_steps", 11), ("num_groups", 2)))
    assert env.num_groups == 2
    actions = random_actions(40, 6)
    whole = play(env.open_pool(6, 2, 1), actions)
    pool = env.open_pool(6, 2, 2)
    pool.reset()
    for t, step in enumerate(whole):
        found = {group: pool.receive(group) for group in ((0, 1) if t % 2 else (1, 0))}
        for group, mine in found.items():
            assert_same(mine, jax.tree.map(lambda field, group=group: field[3 * group : 3 * group + 3], step))
        if t < len(actions):
            for group in (0, 1) if t % 3 else (1, 0):
                pool.send(group, actions[t, 3 * group : 3 * group + 3])
    streams = np.stack([step.frame for step in whole], axis=1)
    assert len(np.unique([stream.tobytes() for stream in streams])) == 6  # so that a wrong order would show


def test_actions_frames_and_sizes_are_as_asked_for():
    """Breakout's own four actions or all 18; colour frames have three channels each, of which four are stacked."""
    spec = make_env("Breakout-v5").spec
    assert spec == ("Breakout-v5", 4, (84, 84, 4), "uint8", None, 27_000, 4, 1, None, None, False, None)
    every = make_env("Breakout-v5", (("full_action_space", True),))
    assert every.spec.num_actions == 18 and len(set(every.action_names)) == 18
    changes = (("gray_scale", False), ("img_height", 40), ("img_width", 30), ("frame_skip", 3))
    colour = make_env("Breakout-v5", changes)
    assert colour.spec.obs_shape == (40, 30, 12) and list_leaves(colour.spec)[0].frame_shape == (40, 30, 3)
    assert colour.frames_per_step == 3
    step = play(colour.open_pool(2, 0, 1), [])[0]
    assert step.frame.shape == (2, 40, 30, 3)
    assert np.any(step.frame[..., 0] != step.frame[..., 2])  # a hue
    obs = greet(colour.spec, jnp.zeros((2, 40, 30, 12), jnp.uint8), pack(step))
    np.testing.assert_array_equal(obs, np.tile(step.frame, 4))
    one = make_env("Breakout-v5", (("stack_num", 1),)).spec
    assert one.obs_shape == list_leaves(one)[0].frame_shape == (84, 84, 1)


def test_more_frames_to_a_step_end_a_game_in_fewer():
    """Twelve of the emulator's for four: a third of the steps, near enough."""
    lengths = []
    for skip in (4, 12):
        env = make_env("Breakout-v5", (*SMALL, ("frame_skip", skip)))
        steps = play(env.open_pool(1, 0, 1), np.ones((400, 1)))  # always fire: five balls are lost
        lengths.append(next(t for t, step in enumerate(steps) if step.terminated[0]))
    assert lengths[0] / 3 == pytest.approx(lengths[1], rel=0.1)


@pytest.mark.parametrize(
    ("env_id", "changes", "sentence"),
    [
        ("Pingpong-v5", (), r"env='Pingpong-v5'.*nearest names are .*Pong-v5"),
        ("%%%%%%%%%%%%%%%%%%%%-v5", (), r"no such environment.*Pong-v5, Breakout-v5"),
        ("envpool/CartPole", (), r"env='envpool/CartPole'.*CartPole-v1"),
        ("Ant-v5", (), r"env='Ant-v5'.*discrete actions"),
        ("envpool/LeducHoldem-v1", (), r"LeducHoldem-v1.*several players"),
        ("envpool/Backgammon-v1", (), r"Backgammon-v1.*several players"),
        ("envpool/VizdoomCustom-v1", (), r"VizdoomCustom.*cannot make it here"),
        ("Pong-v5", (("noop_max", 0),), r"env_params.noop_max=0.*at least 1"),
        ("Pong-v5", (("frame_skip", 0),), r"env_params.frame_skip=0.*at least 1"),
        ("Pong-v5", (("num_groups", 0),), r"env_params.num_groups=0.*at least 1"),
        ("Pong-v5", (("num_threads", -1),), r"env_params.num_threads=-1: .*at least 0"),
        ("Pong-v5", (("repeat_action_probability", 1.0),), r"env_params.repeat_action_probability=1.0.*below 1"),
        ("Pong-v5", (("gravity", 1),), r"env_params.gravity=1.*no such parameter.*noop_max"),
        ("envpool/CartPole-v1", (("frame_skip", 4),), r"env_params.frame_skip=4.*it has max_episode_steps"),
    ],
)
def test_what_cannot_work_is_said(env_id, changes, sentence):
    with pytest.raises(SettingError, match=sentence):
        make_env(env_id, changes)


def test_groups_must_divide_the_environments():
    with pytest.raises(SettingError, match=r"num_envs=5: .*2 groups"):
        make_env("Pong-v5", (("num_groups", 2),)).open_pool(5, 0, 2)
