"""Arguments of a wrong shape, rank or dtype are refused by name; some pure functions are the same jitted and not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from purejaxdqn.learning import backups, heads
from purejaxdqn.learning.distributional import categorical_l2_projection, fraction_loss, quantile_huber
from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.learning.losses import double_td_target, huber, td_error, td_target
from purejaxdqn.learning.optim import periodic_update, soft_update
from purejaxdqn.learning.returns import lambda_returns, n_step_fold
from purejaxdqn.types import Dist, Hypers

ONE, TWO, THREE = jnp.float32(1.0), jnp.ones(2), jnp.ones(3)
ACTION, MASK = jnp.int32(0), jnp.zeros(3, bool)
DIST = Dist(x=jnp.ones((2, 1)), support=jnp.zeros(1), weight=jnp.ones(1))

WRONG = {
    "q_t": lambda: td_target(ONE, ONE, jnp.ones((2, 3))),
    "r_t": lambda: td_target(TWO, ONE, THREE),
    "q_t_selector": lambda: double_td_target(ONE, ONE, THREE, TWO),
    "a_tm1": lambda: td_error(THREE, ONE, ONE),
    "terminated": lambda: n_step_fold(THREE, THREE, MASK, 0.99),
    "truncated": lambda: n_step_fold(THREE, MASK, MASK[:2], 0.99),
    "value_t": lambda: lambda_returns(THREE, MASK, MASK, MASK, TWO, 0.99, 0.5),
    "probs": lambda: categorical_l2_projection(THREE, TWO, TWO),
    "weight": lambda: quantile_huber(THREE, THREE, TWO, THREE, 1.0),
    "x_boundary": lambda: fraction_loss(TWO, THREE, THREE),
    "epsilon": lambda: epsilon_greedy(jax.random.key(0), jnp.ones((2, 3)), THREE),
    "target_params": lambda: soft_update({"w": TWO}, {"w": THREE}, 0.5),
    "updates": lambda: periodic_update(TWO, TWO, ONE, 5, 0.5),
    "policy": lambda: heads.scalar("huber").target(DIST, THREE, None, ONE, ONE),
    "y": lambda: heads.scalar("huber").loss(DIST, ACTION, TWO, Hypers()),
    "dist_tm1.x": lambda: heads.quantile(2).loss(DIST.replace(x=TWO), ACTION, heads.QuantileTarget(TWO, TWO), Hypers()),
    "q_tm1": lambda: backups.munchausen().bonus(jnp.ones((2, 3)), ACTION, Hypers()),
}


@pytest.mark.parametrize("argument", WRONG)
def test_a_wrong_argument_is_named(argument):
    with pytest.raises(AssertionError, match=f"`{argument}`"):
        WRONG[argument]()


class SameJittedAndNot(chex.TestCase):
    """`chex.variants` needs a class of absl's."""

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(
        # 3 is beyond the threshold of 1: 1 · (3 - ½).
        ("huber", lambda: huber, lambda: (jnp.float32(3.0), 1.0), 2.5),
        # 1 + ½ · 4.
        ("td_target", lambda: td_target, lambda: (1.0, 0.5, jnp.asarray([2.0, 4.0])), 3.0),
        # A quarter of the way from 0 to 1.
        ("projection", lambda: categorical_l2_projection, lambda: (jnp.asarray([0.25]), jnp.ones(1), jnp.arange(2.0)),
         [0.75, 0.25]),
        # 1 + ½ · 1 + ¼ · 1, and γ³.
        ("fold", lambda: lambda *a: n_step_fold(*a)[:2], lambda: (THREE, MASK, MASK, 0.5), [1.75, 0.125]),
    )  # fmt: skip
    def test_value(self, function, arguments, expected):
        np.testing.assert_allclose(jnp.asarray(self.variant(function())(*arguments())), expected, rtol=1e-6)

    def test_hypers_are_not_traced_anew(self):
        fold = jax.jit(chex.assert_max_traces(n_step_fold, n=1))
        for gamma in (0.5, 0.9):
            fold(THREE, MASK, MASK, jnp.float32(gamma))
