"""Explorers: durations, repetitions, softmax frequencies, members that are held, and a ladder of ε.

Statistical checks use fixed seeds; each states how often a correct implementation would fail on a fresh seed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import EXPLORERS
from purejaxdqn.config import Config, SettingError
from purejaxdqn.learning.explore import epsilon_greedy, ladder_of
from purejaxdqn.learning.explorers import NOBODY, Repeat, boltzmann, bootstrapped, ez_greedy, plain, zeta_duration
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY, H = jax.random.key(0), Hypers()
Q = jnp.tile(jnp.array([0.0, 3.0, 1.0, 2.0]), (8, 1))


def test_epsilon_greedy_is_what_it_was():
    """The same draws from the same key, and nothing is carried."""
    actions, carried = plain().act(KEY, Q, jnp.float32(0.5), (), H)
    np.testing.assert_array_equal(actions, epsilon_greedy(KEY, Q, 0.5))
    assert carried == () and plain().init(8) == () and plain().begin((), jnp.ones(8, bool)) == ()


def test_a_ladder_by_hand():
    """0.4 to the powers 1, 4.5 and 8 (Horgan et al. 2018: N = 3, α = 7); environments keep their number in any part."""
    config = Config(num_envs=3, epsilon_ladder=True)
    expected = np.float32(0.4) ** np.array([1.0, 4.5, 8.0], np.float32)
    found = ladder_of(config, Hypers(ladder_exponent=7.0), jnp.float32(0.4), jnp.arange(3))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(ladder_of(config, H, jnp.float32(0.4), jnp.array([2])), expected[2:], rtol=1e-6)
    ends = ladder_of(config, H, jnp.float32(1.0), jnp.arange(3)), ladder_of(config, H, jnp.float32(0.0), jnp.arange(3))
    np.testing.assert_array_equal(ends, [[1.0] * 3, [0.0] * 3])


def test_durations_by_hand():
    """1, ¼ and 1/9 are 36, 9 and 4 of 49 parts; bits on both sides of each boundary."""
    shares = np.array([0.0, 35.9, 36.1, 44.9, 45.1, 48.99]) / 49
    bits = jnp.asarray((shares * 2**32).astype(np.uint32))
    durations = jax.jit(zeta_duration, static_argnums=2)
    np.testing.assert_array_equal(durations(bits, 2.0, 3), [1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(durations(bits, 2.0, 1), [1] * 6)
    # A large exponent leaves nearly all of the mass to a single step.
    np.testing.assert_array_equal(durations(bits, 30.0, 3), [1] * 6)


def test_a_repetition_runs_out_and_an_episode_ends_it():
    """Held for as many steps as are left, at any ε; greedy after that; and greedy at once where an episode begins."""
    explorer, zero = ez_greedy(100), jnp.float32(0.0)
    act = jax.jit(explorer.act)
    carried = Repeat(jnp.array([2, 3, 0, 2]), jnp.array([3, 1, 0, 5]))
    carried = explorer.begin(carried, jnp.array([False, False, False, True]))
    seen = []
    for key in jax.random.split(KEY, 4):
        actions, carried = act(key, Q[:4], zero, carried, H)
        seen.append(actions.tolist())
    assert np.transpose(seen).tolist() == [[2, 2, 2, 1], [3, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert carried.left.tolist() == [0, 0, 0, 0]


def test_repetitions_are_as_long_as_they_were_drawn():
    """At ε = 1, with durations of 1 and 2 in proportion 4 to 1, a twin in NumPy follows what is left.

    The share of first steps with another one to follow is 1/5: of 40 000 or so, 5.5 standard errors, 4e-8.
    """
    explorer, envs = ez_greedy(2), 64

    def step(carried, key):
        q = jnp.broadcast_to(Q[:1], (envs, 4))
        actions, after = explorer.act(key, q, jnp.float32(1.0), carried, H)
        return after, (actions, carried.left, after.left)

    _, (actions, before, after) = jax.lax.scan(step, explorer.init(envs), jax.random.split(KEY, 1_000))
    actions, before, after = map(np.asarray, (actions, before, after))
    assert (before[0] == 0).all() and (before[1:] == after[:-1]).all()
    going = before > 0
    assert (actions[1:][going[1:]] == actions[:-1][going[1:]]).all() and (after[going] == before[going] - 1).all()
    starts = after[~going]
    assert set(starts.tolist()) == {0, 1}
    assert abs(np.mean(starts == 1) - 0.2) < 5.5 * np.sqrt(0.2 * 0.8 / starts.size)
    counts = np.bincount(actions[~going], minlength=4)
    # χ² of 3 degrees of freedom: above 37.3 with probability 4e-8.
    assert np.sum((counts - counts.sum() / 4) ** 2 / (counts.sum() / 4)) < 37.3


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
def test_boltzmann_has_the_softmax_frequencies(epsilon):
    """χ² of 3 degrees of freedom: above 37.3 with probability 4e-8."""
    h = Hypers(boltzmann_temperature=2.0)
    draw = jax.jit(jax.vmap(lambda key: boltzmann().act(key, Q, jnp.float32(epsilon), (), h)[0]))
    counts = np.bincount(np.asarray(draw(jax.random.split(KEY, 5_000))).ravel(), minlength=4)
    softmax = np.exp(np.asarray(Q[0]) / 2.0) / np.exp(np.asarray(Q[0]) / 2.0).sum()
    expected = counts.sum() * ((1 - epsilon) * softmax + epsilon / 4)
    assert np.sum((counts - expected) ** 2 / expected) < 37.3


def test_a_cold_boltzmann_is_greedy():
    actions, _ = jax.jit(boltzmann().act)(KEY, Q, jnp.float32(0.0), (), Hypers(boltzmann_temperature=1e-6))
    np.testing.assert_array_equal(actions, 1)


def test_a_member_is_held_for_an_episode():
    """Member k prefers action k. Every environment follows one, until its episode begins anew; each is drawn evenly."""
    explorer, envs, members = bootstrapped(4), 4_000, 4
    values = jnp.broadcast_to(jnp.eye(members), (envs, members, members))
    act = jax.jit(lambda key, carried: explorer.act(key, values, jnp.float32(0.0), carried, H))
    keys = jax.random.split(KEY, 4)
    carried = explorer.init(envs)
    assert (carried == NOBODY).all()
    first, carried = act(keys[0], carried)
    np.testing.assert_array_equal(first, carried)
    second, carried = act(keys[1], carried)
    np.testing.assert_array_equal(first, second)
    begins = jnp.arange(envs) < envs // 2
    third, carried = act(keys[2], explorer.begin(carried, begins))
    np.testing.assert_array_equal(third[envs // 2 :], first[envs // 2 :])
    # A quarter draws the same member again: 5.5 standard errors.
    same = np.mean(np.asarray(third == first)[: envs // 2])
    assert abs(same - 0.25) < 5.5 * np.sqrt(0.25 * 0.75 / (envs // 2))
    counts = np.bincount(np.asarray(first), minlength=members)
    assert np.sum((counts - envs / members) ** 2 / (envs / members)) < 37.3


def test_with_epsilon_one_all_explorers_are_uniform():
    """Whatever the values; a single step each, so that nothing is repeated. χ² as above."""
    made = {name: choice.make(Config(ensemble=3)) for name, choice in EXPLORERS.items()}
    for name, explorer in made.items():
        values = jnp.broadcast_to(Q[0], (8_000, 3, 4) if explorer.per_member else (8_000, 4))
        actions, _ = jax.jit(explorer.act)(KEY, values, jnp.float32(1.0), explorer.init(8_000), H)
        counts = np.bincount(np.asarray(actions), minlength=4)
        assert np.sum((counts - 2_000) ** 2 / 2_000) < 37.3, name


@pytest.mark.parametrize(
    ("make", "field", "remedy"),
    [
        (lambda: EXPLORERS["bootstrapped"].make(Config()), "ensemble", "at least 2"),
        (lambda: Config(epsilon_ladder=True, num_envs=1), "epsilon_ladder", "at least 2"),
        (lambda: Config(prior_scale=1.0), "prior_scale", "--ensemble"),
        (lambda: Config(prior_scale=1.0, ensemble=3, noisy=True), "prior_scale", "noise"),
        (lambda: Config(prior_scale=1.0, ensemble=3, norm="batch"), "prior_scale", "batch norm"),
        (lambda: Config(prior_scale=1.0, ensemble=3, head="fqf"), "prior_scale", "fqf"),
        (lambda: Config(prior_scale=-1.0, ensemble=3), "prior_scale", "at least 0"),
        (lambda: Config(ensemble=0), "ensemble", "at least 1"),
        (lambda: Config(duration_cap=0), "duration_cap", "at least 1"),
        (lambda: Hypers(boltzmann_temperature=0.0), "boltzmann_temperature", "above 0"),
        (lambda: Hypers(duration_exponent=1.0), "duration_exponent", "above 1"),
        (lambda: Hypers(ladder_exponent=-1.0), "ladder_exponent", "at least 0"),
    ],
)
def test_bad_settings_are_one_sentence(make, field, remedy):
    with pytest.raises(SettingError) as error:
        make()
    assert error.value.field == field and remedy in str(error.value) and "\n" not in str(error.value)
