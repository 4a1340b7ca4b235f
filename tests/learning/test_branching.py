"""Action branching: parts valued each by itself, by hand and beside networks that value one part alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxdqn import batch_env, make_train
from purejaxdqn.build import build_backup, build_model
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.learn import Examples, batch_targets, init_learner, make_descend
from purejaxdqn.learning.backups import greedy
from purejaxdqn.learning.branching import branching_head, of_parts
from purejaxdqn.learning.choices import EXPLORERS
from purejaxdqn.learning.explore import best_action, best_value, epsilon_greedy
from purejaxdqn.learning.heads import scalar, value_of
from purejaxdqn.machine.part_values import PartValues, count_actions
from purejaxdqn.networks.qnetwork import duel
from purejaxdqn.runs.policy import Policy
from purejaxdqn.types import Dist, Hypers, Transition

SIZES = (2, 3)
SPEC = EnvSpec("Test-v0", 6, (3,), "float32", None, 100, action_sizes=SIZES)
KEY = jax.random.key(0)
SMALL = {"hidden": (7, 6), "num_atoms": 5, "num_quantiles": 4, "num_target_quantiles": 3, "num_policy_quantiles": 2}
H = Hypers()


def dist_of(*values):
    """The `Dist` of one example, by a value of each choice of each part."""
    x = jnp.array(values, jnp.float32)[:, None]
    return Dist(x=x, support=jnp.zeros(1), weight=jnp.ones(1))


def test_target_and_loss_by_hand():
    """Parts of 2 and 3 choices. Target network: (1, 4 | 2, 0, 5), online: (9, 3 | 1, 7, 2); r = 1, γ = 0.5. The best by
    the target network are 4 and 5, so y = 1 + 0.5 · 4.5; by the online one 1 and 0, so y = 1 + 0.5 · 0.5."""
    target_dist, online = dist_of(1, 4, 2, 0, 5), PartValues(jnp.array([9.0, 3, 1, 7, 2]), SIZES)
    head, backup = branching_head(scalar("squared"), SIZES), of_parts(greedy(double=True), SIZES)
    one, half = jnp.float32(1.0), jnp.float32(0.5)
    for values, due in ((head.q_values(target_dist), 3.25), (online, 1.25)):
        policy, penalty = backup.policy(values, H)
        assert penalty is None and float(head.target(target_dist, policy, None, one, half)) == due
    # The action (1, 2) is the combination 1 · 3 + 2; its values are 4 and 5, so the errors -1 and -2.
    loss = head.loss(target_dist, jnp.int32(5), jnp.float32(3.0), H)
    assert float(loss.loss) == (0.5 + 2.0) / 2 and float(loss.abs_td_error) == float(loss.priority) == 1.5
    assert float(value_of(head.q_values(target_dist), jnp.int32(5))) == 4.5


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), st.integers(0, 2**32 - 1))
def test_the_best_combination_is_that_of_the_best_parts(sizes, seed):
    """Beside a table of all combinations, whose value is the mean of their parts'."""
    x = np.random.default_rng(seed).integers(-3, 4, size=sum(sizes)).astype(np.float32)
    parts, values = np.split(x, np.cumsum(sizes)[:-1]), PartValues(jnp.asarray(x), sizes)
    table = np.array([np.mean(chosen) for chosen in itertools.product(*parts)], np.float32)
    assert count_actions(values) == len(table)
    assert int(best_action(values)) == int(table.argmax())
    np.testing.assert_allclose(best_value(values), table.max(), rtol=1e-6, atol=1e-6)
    of_each = [float(value_of(values, jnp.int32(action))) for action in range(len(table))]
    np.testing.assert_allclose(of_each, table, rtol=1e-5, atol=1e-6)


def test_exploration_draws_combinations():
    """With ε = 1 each of the six about as often, with ε = 0 the best one."""
    values = PartValues(jnp.tile(jnp.array([0.0, 1, 5, 2, 3]), (6_000, 1)), SIZES)
    drawn = np.bincount(epsilon_greedy(KEY, values, 1.0), minlength=6)
    assert (abs(drawn - 1_000) < 150).all()
    assert (epsilon_greedy(KEY, values, 0.0) == 3).all(), "(1, 0)"


@pytest.mark.parametrize("name", EXPLORERS)
def test_explorers_know_parts(name):
    """Without randomness each takes the best combination; the bootstrapped one its member's."""
    explorer = EXPLORERS[name].make(Config(ensemble=2))
    h = Hypers(boltzmann_temperature=1e-3)
    parts = jnp.array([[0.0, 1, 5, 2, 3], [1, 0, 2, 9, 3]])
    values = PartValues(jnp.tile(parts, (4, 1, 1)) if explorer.per_member else parts[:1].repeat(4, 0), SIZES)
    action, held = explorer.act(KEY, values, jnp.float32(0.0), explorer.init(4), h)
    due = jnp.where(held == 0, 3, 1) if explorer.per_member else jnp.full(4, 3)
    assert action.tolist() == due.tolist()


def test_each_part_duels_by_itself():
    """V = 10 and advantages (1, 3 | 0, 3, 6): without their means -1, 1 | -3, 0, 3."""
    found = duel(jnp.array([10.0]), jnp.array([[1.0], [3], [0], [3], [6]]), SIZES)
    assert found[:, 0].tolist() == [9, 11, 7, 10, 13]


def batch(spec=SPEC, size=5):
    rng = np.random.default_rng(0)
    obs = jnp.asarray(rng.normal(size=(2, size, 3)), jnp.float32)
    action = jnp.asarray(rng.integers(spec.num_actions, size=size), jnp.int32)
    reward = jnp.asarray(rng.normal(size=size), jnp.float32)
    return Transition(obs[0], action, reward, jnp.full(size, 0.9), obs[1])


PAIRS = list(itertools.product(("scalar", "categorical", "quantile", "iqn", "fqf"), ("max", "double", "munchausen")))
QUICK = {("scalar", "munchausen"), ("categorical", "double"), ("iqn", "max")}


@pytest.mark.parametrize(
    ("head", "backup"), [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.long) for pair in PAIRS]
)
def test_one_part_is_an_action_like_any_other(head, backup):
    """Targets and a step of gradient descent are those without branching, for every head and backup."""
    spec = SPEC._replace(num_actions=4, action_sizes=(4,))
    config = Config(head=head, backup=backup, dueling=True, **SMALL)

    @jax.jit
    def step():
        found = []
        for branching in (False, True):
            own = config.replace(branching=branching)
            network, read = build_model(own, spec)
            learner, rows = init_learner(own, network, KEY, H.as_arrays()), batch(spec)
            y = batch_targets(network, read, build_backup(own, spec), learner, rows, KEY, H)
            examples = Examples(rows.obs_tm1, rows.a_tm1, y, jnp.ones(5))
            found.append((y, make_descend(own, network, read)(learner, examples, KEY, H.as_arrays())))
        return found

    plain, parted = step()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), plain, parted)


def test_an_ensemble_of_branching_networks():
    """Each member has its own parts' policies: the targets of all members at once are those of each alone."""
    config = Config(branching=True, ensemble=2, backup="double", **SMALL)
    network, read = build_model(config, SPEC)
    learner, rows = init_learner(config, network, KEY, H.as_arrays()), batch()
    own, alone = config.replace(ensemble=1), build_model(config.replace(ensemble=1), SPEC)
    y = batch_targets(network, read, build_backup(config, SPEC), learner, rows, KEY, H)
    for i in range(2):
        mine = learner.replace(
            **{
                name: jax.tree.map(lambda leaf, i=i: leaf[i], getattr(learner, name))
                for name in ("params", "target_params")
            }
        )
        due = batch_targets(*alone, build_backup(own, SPEC), mine, rows, KEY, H)
        np.testing.assert_allclose(y[:, i], due, rtol=1e-5, atol=1e-6)


def test_a_policy_chooses_parts():
    """As many numbers as there are parts, for one observation and for a batch, from the values of each part."""
    values = jnp.array([[0.0, 1, 5, 2, 3], [4, 1, 0, 2, 9]])
    policy = Policy({}, lambda params, obs, carry: (values[: len(obs)], carry), SPEC, branching=True)
    obs = np.zeros((2, 3), np.float32)
    assert policy(obs).tolist() == [[1, 0], [0, 2]] and policy(obs[0]).tolist() == [1, 0]
    assert policy.greedy(obs).tolist() == [3, 2] and policy.q_values(obs[0]).shape == (5,)
    with pytest.raises(ValueError, match="knows no mask"):
        policy(obs, np.ones((2, 2, 3), bool))


@pytest.mark.parametrize(
    ("spec", "changes", "words"),
    [
        (SPEC._replace(action_sizes=None), {}, "have no parts: leave it out"),
        (SPEC._replace(masked=True), {}, "which combinations are legal"),
        (SPEC, {"head": "bcq"}, "values combinations alone"),
        (SPEC, {"constraint": "cql", "learner": "dataset"}, "compares combinations"),
        (SPEC._replace(num_actions=5**12, action_sizes=(5,) * 12), {"branching": False}, "244,140,625 .*--branching"),
    ],
)
def test_what_cannot_be_branched_is_a_sentence(spec, changes, words):
    with pytest.raises(SettingError, match=words):
        build_model(Config(**{"branching": True, **changes}), spec)


PARTS, CHOICES, SEEDS = 6, 5, 2


def dials():
    """Six dials, each to be turned to where its number says, out of 15,625 combinations: an episode of one step."""

    def reset(key):
        shown = jax.random.uniform(key, (PARTS,))
        return shown, shown

    def step(key, shown, action):
        return shown, shown, jnp.mean(action == jnp.floor(shown * CHOICES)), True

    return batch_env(reset, step, num_actions=(CHOICES,) * PARTS, time_limit=1, name="dials")


def test_learns_what_has_more_combinations_than_a_network_has_outputs():
    """At random 0.2 of the dials are right. Both seeds have to come to twice that with ε = 0.05: the
    least of 16 others came to 0.52."""
    config = Config(
        branching=True, total_steps=16_000, num_envs=16, updates_per_rollout=2, batch_size=128, learning_starts=500,
        buffer_size=16_000, hidden=(64,), epsilon_schedule="constant", learning_rate_schedule="constant",
    )  # fmt: skip
    h = Hypers(learning_rate=3e-3, gamma=0.0, epsilon_final=0.05)
    train = jax.jit(jax.vmap(make_train(config, num_chunks=8, env=dials()), in_axes=(0, None)))
    _, metrics = train(jax.random.split(KEY, SEEDS), h)
    reached = metrics.return_sum[:, -1] / metrics.episodes[:, -1]
    assert (reached > 0.4).all(), reached
