"""The receding horizon by hand, against a numpy twin of the published schedule, after resets, and beside β."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build
from purejaxdqn.config import Config, SettingError
from purejaxdqn.learning.horizons import anneal_horizon
from purejaxdqn.recipes.recipes import RECIPES, make_settings
from purejaxdqn.types import Hypers

pytestmark = pytest.mark.usefixtures("strict_ranks")


def path(config, h, updates):
    """n and γ at some updates."""
    many = jax.vmap(lambda h, u: anneal_horizon(config, h, u), in_axes=(None, 0))
    at = jax.jit(many)(h.as_arrays(), jnp.array(updates, jnp.int32))
    return np.asarray(at.n_step_final).tolist(), np.asarray(at.gamma)


def test_half_way_by_hand():
    """From 8 to 2 the middle is 4; 1 - γ from 0.04 to 0.01 is 0.02 there. At the end it stays."""
    config = Config(anneal_horizon=True, n_step=8)
    n, gamma = path(config, Hypers(n_step_final=2, gamma_start=0.96, gamma=0.99, anneal_updates=10), [0, 5, 10, 11, 99])
    assert n == [8, 4, 2, 2, 2]
    np.testing.assert_allclose(gamma, [0.96, 0.98, 0.99, 0.99, 0.99], rtol=1e-6)


def published(duration, first, last, reverse, step):
    """The schedule of the authors' code: a straight line in the logarithm of the value, or of its distance from 1."""
    first, last = (1 - first, 1 - last) if reverse else (first, last)
    share = np.clip((duration - step) / duration, 0.0, 1.0)
    value = np.exp(share * (np.log(first) - np.log(last)) + np.log(last))
    return 1 - value if reverse else value


def test_it_is_the_published_schedule():
    """BBF's own ends, for every seventh update: n is what they round, and γ within the precision of float32."""
    h = Hypers(n_step_final=3, gamma_start=0.97, gamma=0.997, anneal_updates=10_000)
    steps = np.arange(0, 11_000, 7)
    n, gamma = path(Config(anneal_horizon=True, n_step=10), h, steps)
    unrounded = 10 * published(10_000, 1.0, 3 / 10, False, steps)
    clear = np.abs(unrounded % 1.0 - 0.5) > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(np.array(n)[clear], np.round(unrounded)[clear])
    np.testing.assert_allclose(gamma, published(10_000, 0.97, 0.997, True, steps), atol=2e-7)
    assert sorted(set(n), reverse=True) == [10, 9, 8, 7, 6, 5, 4, 3]


def test_it_begins_anew_at_each_reset_and_not_after_the_last():
    """A reset every 20 updates until 45, and 4 updates of a path from 4 to 1: its middle is 2."""
    h = Hypers(n_step_final=1, anneal_updates=4, reset_period=20, reset_until=45)
    config = Config(anneal_horizon=True, n_step=4, resets=True)
    updates = [0, 2, 4, 19, 20, 22, 24, 40, 42, 60, 62, 80]
    assert path(config, h, updates)[0] == [4, 2, 1, 1, 4, 2, 1, 4, 2, 1, 1, 1]
    assert path(config.replace(resets=False), h, updates)[0] == [4, 2, 1] + [1] * 9


def test_a_discount_of_one_is_reached():
    assert path(Config(anneal_horizon=True), Hypers(gamma=1.0, anneal_updates=10), [10, 20])[1].tolist() == [1.0, 1.0]


def test_a_replay_anneals_it_beside_its_own():
    """β of prioritized replay is at 0.7 half-way through the run, and n and γ are at their ends."""
    h = Hypers(n_step_final=1, anneal_updates=100).as_arrays()
    for name in ("uniform", "prioritized"):
        config = Config(replay=name)
        plain, annealed = (
            build(c).replay.now(h, jnp.int32(9_900)) for c in (config, config.replace(anneal_horizon=True))
        )
        assert int(annealed.n_step_final) == 1 and float(annealed.gamma) == pytest.approx(0.99)
        assert annealed.importance_exponent == plain.importance_exponent
        beta = {"uniform": 0.4, "prioritized": 0.7}[name]
        assert float(plain.importance_exponent) == pytest.approx(beta, abs=1e-3)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"anneal_horizon": True, "n_step_final": 4}, "n_step_final=4: n falls from --n-step, which is 3: use at most"),
        ({"n_step_final": 2}, "--no-anneal-horizon does not read it: leave it out, or use --anneal-horizon"),
        ({"algo": "pqn", "anneal_horizon": True}, "--learner rollout does not read it"),
        ({"anneal_horizon": True, "anneal_updates": 0}, "anneal_updates=0: use a whole number of at least 1"),
        ({"anneal_horizon": True, "gamma_start": 1.5}, "gamma_start=1.5"),
    ],
)
def test_what_cannot_recede_is_refused(overrides, said):
    with pytest.raises(SettingError, match=said):
        make_settings(RECIPES["cartpole"], **overrides)
