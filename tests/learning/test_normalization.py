"""Running statistics: rewards by hand, which rows count, who keeps them, and what they are refused for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build, build_model
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.kernels.choice import why_not
from purejaxdqn.learn import init_learner, start_from
from purejaxdqn.learning.normalization import (
    RewardScale,
    Seen,
    discounted_returns,
    fresh_statistics,
    keep_seen,
    make_follow,
    read_reward,
    scale_reward,
    seen_of,
    with_following,
    with_seen,
)
from purejaxdqn.learning.optim import make_optimizer
from purejaxdqn.learning.resets import shrink_and_perturb
from purejaxdqn.learning.returns import n_step_fold
from purejaxdqn.observations.moments import RUNNING, Moments
from purejaxdqn.types import Hypers, Row

pytestmark = pytest.mark.usefixtures("strict_ranks")

SPEC = EnvSpec("Test-v0", 2, (1,), "float32", None, 100)
H = Hypers(gamma=0.5).as_arrays()
NO = np.zeros((3, 2), bool)


def rows_of(reward, obs=None, **ends):
    """Rows [T, 2] with those rewards; observations count up from 10 in one environment, and from 20 in the other."""
    reward = np.asarray(reward, np.float32)
    steps = np.arange(len(reward), dtype=np.float32)[:, None]
    obs = np.stack([10 + steps, 20 + steps], axis=1) if obs is None else obs
    found = {name: np.zeros(reward.shape, bool) for name in ("terminated", "truncated")}
    found |= {"valid": np.ones(reward.shape, bool)} | ends
    given = Row(obs, np.zeros(reward.shape, np.int32), reward, final_obs=obs, **found)
    return jax.tree.map(jnp.asarray, given)


def part(rows, steps):
    return jax.tree.map(lambda leaf: leaf[steps], rows)


# γ = ½. First: 1, 1 · ½ + 2 = 2½, where it terminates, then 4. Second: 2, where it is cut, then 0, then 2.
REWARD = [[1.0, 2.0], [2.0, 0.0], [4.0, 2.0]]
ENDS = {"terminated": np.array([[0, 0], [1, 0], [0, 0]], bool), "truncated": np.array([[0, 1], [0, 0], [0, 0]], bool)}
RETURNS = [[1.0, 2.0], [2.5, 0.0], [4.0, 2.0]]


def config_of(**changes):
    return Config(**{"num_envs": 2, "normalize_reward": True} | changes)


def fresh(config):
    return Seen(fresh_statistics(config, SPEC), jnp.zeros(2) if config.normalize_reward else ())


def test_discounted_returns_by_hand():
    rows = rows_of(REWARD, **ENDS)
    ended = rows.terminated | rows.truncated
    last, each = discounted_returns(jnp.zeros(2), rows.reward, ended, rows.valid, 0.5)
    assert each.tolist() == RETURNS and last.tolist() == [4.0, 2.0]
    # Between two episodes of the second lies a row that is none of theirs, whatever it holds.
    valid = jnp.array([[1, 1], [1, 0], [1, 1]], bool)
    last, each = discounted_returns(jnp.array([8.0, 0.0]), rows.reward + 6 * ~valid, jnp.asarray(NO), valid, 0.5)
    assert each.tolist() == [[5.0, 2.0], [4.5, 0.0], [6.25, 2.0]] and last.tolist() == [6.25, 2.0]


@pytest.mark.parametrize("parts", [(slice(None),), (slice(1), slice(1, None))])
def test_the_scale_of_rewards_by_hand(parts):
    """Of 1, 2½, 4, 2, 0 and 2 the mean is 23/12 and the variance 31¼/6 - (23/12)² = 1.5347; in any parts."""
    follow, seen = jax.jit(make_follow(config_of(), SPEC)), fresh(config_of())
    for steps in parts:
        seen = follow(seen, part(rows_of(REWARD, **ENDS), steps), H)
    scale = seen.statistics["reward"]
    assert set(seen.statistics) == {"reward"} and float(scale.returns.count) == 6.0
    np.testing.assert_allclose([scale.returns.mean, scale.returns.variance], [23 / 12, 1.5347222], rtol=1e-6)
    assert float(scale.largest) == 4.0 and seen.returns.tolist() == [4.0, 2.0]
    np.testing.assert_allclose(scale_reward(scale, jnp.array([1.0, -4.0])), [0.8072073, -3.228829], rtol=1e-5)


def test_rows_that_are_no_transitions_do_not_count():
    """Neither their observation nor their reward."""
    config = config_of(normalize_obs=True)
    valid = np.array([[1, 1], [0, 1], [1, 1]], bool)
    obs = np.array([[1, 2], [np.nan, 4], [3, 5]], np.float32)[..., None]
    reward = np.where(valid, REWARD, 1e9)
    seen = jax.jit(make_follow(config, SPEC))(fresh(config), rows_of(reward, obs, valid=valid), H)
    moments, scale = seen.statistics["obs"], seen.statistics["reward"]
    assert float(moments.count) == float(scale.returns.count) == 5.0
    np.testing.assert_allclose([moments.mean[0], moments.variance[0]], [3.0, 2.0], rtol=1e-6)
    # 1 | 4 and 2, ½ · 2 + 0, ½ · 1 + 2.
    np.testing.assert_allclose(scale.returns.mean, np.mean([1, 4, 2, 1, 2.5]), rtol=1e-6)
    assert float(scale.largest) == 4.0


def test_no_reward_of_one_step_is_read_as_more_than_ten():
    """One reward in 10,000 steps makes a variance of 1e-4: over its root it would be 100."""
    scale = RewardScale(Moments(jnp.float32(1e4), jnp.float32(1e-4), jnp.float32(1e-4)), jnp.float32(1.0))
    np.testing.assert_allclose(scale_reward(scale, jnp.array([1.0, -0.5])), [10.0, -5.0], rtol=1e-6)
    assert scale_reward(None, 3.0) == 3.0 and read_reward({"w": 0.0}, 3.0) == 3.0
    unseen = fresh(config_of()).statistics["reward"]
    np.testing.assert_allclose(scale_reward(unseen, jnp.array([7.0])), [7.0], rtol=1e-6)


def test_a_scale_may_be_applied_before_a_fold_or_after():
    scale = RewardScale(Moments(jnp.float32(9.0), jnp.float32(0.0), jnp.float32(6.25)), jnp.float32(3.0))
    reward, no = jnp.array([1.0, -2.0, 3.0]), jnp.zeros(3, bool)
    after = scale_reward(scale, n_step_fold(reward, no, no, 0.9)[0])
    np.testing.assert_allclose(n_step_fold(scale_reward(scale, reward), no, no, 0.9)[0], after, rtol=1e-6)
    np.testing.assert_allclose(after, (1 - 1.8 + 2.43) / 2.5, rtol=1e-6)


@pytest.fixture(scope="module")
def learner():
    config = config_of(normalize_obs=True, hidden=(3,), average_params=True)
    network, _ = build_model(config, SPEC)
    return jax.jit(lambda key: init_learner(config, network, key, H))(jax.random.key(0))


def moved(learner):
    """The same learner after some rows."""
    config = config_of(normalize_obs=True)
    return with_seen(learner, jax.jit(make_follow(config, SPEC))(seen_of(learner), rows_of(REWARD, **ENDS), H))


def test_all_networks_of_a_learner_have_the_newest_statistics(learner):
    """No two of them in one buffer, which could not be donated; and nothing else of it changes."""
    found = moved(learner)
    assert float(found.params[RUNNING]["obs"].mean[0]) == 16.0 and found.returns.tolist() == [4.0, 2.0]
    networks = [found.params, found.target_params, found.average]
    for other in networks[1:]:
        jax.tree.map(np.testing.assert_array_equal, other[RUNNING], networks[0][RUNNING])
    buffers = [leaf.unsafe_buffer_pointer() for net in networks for leaf in jax.tree.leaves(net)]
    assert len(set(buffers)) == len(buffers)
    jax.tree.map(np.testing.assert_array_equal, found.params["params"], learner.params["params"])
    begun = start_from(learner, found.policy_params)
    assert float(begun.target_params[RUNNING]["obs"].count) == 6.0, (
        "a run that begins with parameters goes on with them"
    )


def test_a_learning_phase_follows_the_rows_that_it_is_given(learner):
    """Before it learns; and given none, it follows none."""
    config = config_of(normalize_obs=True)
    follow = jax.jit(make_follow(config, SPEC))
    phase = with_following(lambda learner, memory, rows, key, h: (learner, memory, ()), follow)
    after, _, _ = phase(learner, (), rows_of(REWARD, **ENDS), None, H)
    jax.tree.map(np.testing.assert_array_equal, after, moved(learner))
    assert phase(learner, (), None, None, H)[0] is learner


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "radam", "sgd"])
def test_no_optimiser_moves_statistics(learner, optimizer):
    config, found = Config(optimizer=optimizer), moved(learner)
    steps = make_optimizer(config, Hypers(weight_decay=0.5), jnp.int32(0))
    grads = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, 0.0 if "running" in jax.tree_util.keystr(path) else 1.0), found.params
    )
    changes, _ = jax.jit(lambda grads, params: steps.update(grads, steps.init(params), params))(grads, found.params)
    assert all((leaf == 0.0).all() for leaf in jax.tree.leaves(changes[RUNNING]))
    assert all((leaf != 0.0).all() for leaf in jax.tree.leaves(changes["params"]))


def test_a_reset_forgets_no_statistics(learner):
    found = moved(learner).params
    renewed = shrink_and_perturb(found, learner.params, 0.5, "Hidden_0")
    jax.tree.map(np.testing.assert_array_equal, renewed[RUNNING], found[RUNNING])


def test_nothing_is_kept_where_nothing_is_normalised():
    config = Config(num_envs=2, hidden=(3,))
    assert make_follow(config, SPEC) is keep_seen and fresh_statistics(config, SPEC) == {}
    network, _ = build_model(config, SPEC)
    plain = init_learner(config, network, jax.random.key(0), H)
    assert RUNNING not in plain.params and plain.returns == ()
    assert with_seen(plain, keep_seen(seen_of(plain), None, H)) is plain
    learn = object()
    assert with_following(learn, keep_seen) is learn


def test_what_cannot_be_normalised_is_refused_in_a_sentence():
    whole = EnvSpec("Kinds-v0", 2, {"map": (4, 4, 3), "kind": ()}, {"map": "uint8", "kind": "int32"}, {"kind": 5}, 100)
    with pytest.raises(
        SettingError, match=r"normalize_obs=True: Kinds-v0 gives no observations of floats: leave it out"
    ):
        build_model(Config(normalize_obs=True), whole)
    build_model(Config(normalize_reward=True), whole)
    with pytest.raises(
        SettingError, match=r"reward_scale=0.5: --normalize-reward does not read it.*--no-normalize-reward"
    ):
        build(Config(normalize_reward=True, reward_scale=0.5))


@pytest.mark.parametrize("changes", [{"normalize_obs": True}, {"normalize_reward": True}])
def test_there_is_no_kernel_of_it(changes):
    assert why_not(Config(**changes), SPEC) == "observations or rewards are normalised"
    assert why_not(Config(), SPEC) is None
