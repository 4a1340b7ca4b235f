"""Resets: what they leave by hand, and at which updates they come."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config, SettingError
from purejaxdqn.learning.optim import make_optimizer
from purejaxdqn.learning.resets import check_resets, last_reset, shrink_and_perturb, with_resets
from purejaxdqn.recipes.recipes import RECIPES, make_settings
from purejaxdqn.types import PRIOR, STATISTICS, Counter, Hypers, Learner

pytestmark = pytest.mark.usefixtures("strict_ranks")


def network(value):
    """Parameters of a network, all of one value."""
    number = jnp.float32(value)
    return {
        "params": {"Torso_0": {"Conv_0": {"kernel": number}}, "Hidden_0": {"kernel": number}, "Output": number},
        STATISTICS: {"Torso_0": {"mean": number}, "Hidden_0": {"mean": number}},
        PRIOR: {"params": {"Torso_0": number, "Output": number}},
    }


def test_shrink_and_perturb_by_hand():
    """Of 8 and a fresh 4, a quarter and three quarters: 2 + 3 = 5 in the torso; and the prior is left alone."""
    found = shrink_and_perturb(network(8), network(4), 0.25, "Torso_0")
    assert found == {
        "params": {"Torso_0": {"Conv_0": {"kernel": 5.0}}, "Hidden_0": {"kernel": 4.0}, "Output": 4.0},
        STATISTICS: {"Torso_0": {"mean": 5.0}, "Hidden_0": {"mean": 4.0}},
        PRIOR: {"params": {"Torso_0": 8.0, "Output": 8.0}},
    }
    assert shrink_and_perturb(network(8), network(4), 0.25, "Other_0")["params"] == network(4)["params"]
    assert shrink_and_perturb(network(8), network(4), 1.0, "Torso_0")["params"]["Torso_0"]["Conv_0"]["kernel"] == 8.0


def test_the_last_reset_by_hand():
    """Every 10 updates until 25: at 10 and at 20, and none at 30."""
    h = Hypers(reset_period=10, reset_until=25).as_arrays()
    found = {updates: int(last_reset(h, jnp.int32(updates))) for updates in (0, 9, 10, 11, 19, 20, 25, 30, 99)}
    assert found == {0: 0, 9: 0, 10: 10, 11: 10, 19: 10, 20: 20, 25: 20, 30: 20, 99: 20}
    exactly = Hypers(reset_period=10, reset_until=20).as_arrays()
    assert int(last_reset(exactly, jnp.int32(99))) == 20


CONFIG = Config(resets=True, updates_per_rollout=3, average_params=True)


def phases(config, h, count):
    """The learner before and after each of the first phases of a learning that adds 1 to all it has."""

    def learn(learner, memory, rows, key, h):
        more = jax.tree.map(lambda leaf: leaf + 1, learner)
        return more.replace(updates=Counter(learner.updates.count + config.updates_per_rollout)), memory, ()

    phase = jax.jit(with_resets(learn, config, lambda key: network(4), "Torso_0"))
    state = make_optimizer(config, Hypers(), jnp.int32(0)).init(network(8))
    learner = Learner(network(8), network(16), state, Counter(jnp.int32(0)), network(24))
    seen = []
    for _ in range(count):
        learner, _, _ = phase(learner, (), (), jax.random.key(0), h.as_arrays())
        seen.append(learner)
    return seen


def torso(params):
    return float(params["params"]["Torso_0"]["Conv_0"]["kernel"])


def head(params):
    return float(params["params"]["Output"])


@pytest.mark.parametrize(
    ("period", "until", "expected"),
    [
        (6, 99, [2, 4, 6]),  # of phases of 3 updates: before the 3rd, the 5th and the 7th
        (6, 12, [2, 4]),
        (6, 11, [2]),
        (3, 99, [1, 2, 3, 4, 5, 6]),
        (24, 99, []),
        (4, 99, [2, 3, 4, 6]),  # 4, 8 and 12 are within phases 1, 2 and 3; 16 within 5; at 12 a phase ends
    ],
)
def test_resets_come_at_exactly_their_periods(period, until, expected):
    """A phase begins with one after so many whole phases, and the run does not begin with one."""
    seen = phases(CONFIG, Hypers(reset_period=period, reset_until=until), 7)
    # A fresh head is 4, and 5 after the phase.
    assert [i for i, learner in enumerate(seen) if head(learner.params) == 5.0] == expected


def test_everything_is_reset_with_the_same_fresh_parameters():
    """A share of ½: torsos of 9, 17 and 25 become 6.5, 10.5 and 14.5, and a phase adds 1; all heads are fresh."""
    before, after = phases(CONFIG, Hypers(reset_period=3, reset_shrink=0.5), 2)
    assert [torso(p) for p in (before.params, before.target_params, before.average)] == [9.0, 17.0, 25.0]
    assert [torso(p) for p in (after.params, after.target_params, after.average)] == [7.5, 11.5, 15.5]
    assert [head(p) for p in (after.params, after.target_params, after.average)] == [5.0, 5.0, 5.0]
    assert int(after.updates.count) == 6


def test_the_optimisers_state_is_a_fresh_one():
    """Of Adam all moments and the count are 0, to which a phase adds 1."""
    for learner in phases(CONFIG, Hypers(reset_period=6), 3)[1:]:
        moments = 2.0 if int(learner.updates.count) == 6 else 1.0
        assert {float(x) for leaf in jax.tree.leaves(learner.opt_state) for x in np.ravel(leaf)} == {moments}


@pytest.mark.parametrize(
    ("changes", "hypers", "said"),
    [
        ({}, {"reset_period": 40_000}, "reset_period=40000: the run makes 990 updates, so it would have no reset"),
        ({}, {"reset_period": 990}, "the run makes 990 updates"),
        ({"updates_per_rollout": 3}, {"reset_period": 100}, "a learning phase makes 3 updates.*such as 99 or 102"),
        ({"updates_per_rollout": 3}, {"reset_period": 2}, "a learning phase makes 3 updates.*such as 3$"),
        ({"resets": False}, {"reset_period": 100}, "--no-resets does not read it: leave it out, or use --resets"),
        ({}, {"reset_shrink": 1.5}, r"reset_shrink=1.5: use a number in \[0, 1\]"),
        ({}, {"reset_period": 0}, "reset_period=0: use a whole number of at least 1"),
    ],
)
def test_periods_that_cannot_be_are_refused(changes, hypers, said):
    """In a sentence, before anything is trained: 10,900 steps by 10 environments, of them 1,000 before learning."""
    with pytest.raises(SettingError, match=said):
        make_settings(RECIPES["cartpole"], **{"total_steps": 10_900, "resets": True, **changes, **hypers})


def test_the_last_period_that_fits_is_taken():
    config, h = make_settings(RECIPES["cartpole"], total_steps=10_900, resets=True, reset_period=989)
    assert config.num_updates == 990 and h.reset_period == 989
    check_resets(Config(total_steps=10_900), Hypers())
