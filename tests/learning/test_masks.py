"""Action masks: no illegal action is ever chosen, and no target reads anything of one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import same_bits

from purejaxdqn.build import BACKUPS, EXPLORERS, HEADS
from purejaxdqn.config import Config
from purejaxdqn.learn import batch_targets, make_rollout_learn
from purejaxdqn.learning.backups import of_members
from purejaxdqn.learning.explore import epsilon_greedy
from purejaxdqn.learning.explorers import Repeat
from purejaxdqn.learning.heads import ensemble_head
from purejaxdqn.learning.masks import legal_values, or_all, without_illegal
from purejaxdqn.learning.optim import make_optimizer
from purejaxdqn.machine.random_bits import index_from_bits, legal_index_from_bits, random_actions
from purejaxdqn.networks import Network
from purejaxdqn.types import Dist, Hypers, Learner, Row, Transition, counter

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY, H = jax.random.key(0), Hypers().as_arrays()
A, E, N = 4, 6, 5
PLANTED = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e6])
MASK = st.lists(st.booleans(), min_size=A, max_size=A).map(np.array)
LEGAL = MASK.filter(np.any)


def test_values_by_hand():
    """-inf where it is illegal, for every member; of an empty mask all are legal."""
    mask, values = jnp.array([True, False, True]), jnp.array([[1.0, jnp.nan, 3.0], [4.0, 9.0, 6.0]])
    np.testing.assert_array_equal(legal_values(values, mask), [[1.0, -np.inf, 3.0], [4.0, -np.inf, 6.0]])
    assert legal_values(values, None) is values
    np.testing.assert_array_equal(legal_values(values[1], jnp.zeros(3, bool)), values[1])
    np.testing.assert_array_equal(or_all(jnp.array([[False, True], [False, False]])), [[False, True], [True, True]])
    dist = Dist(x=values[..., None], support=jnp.zeros((2, 1)), weight=jnp.ones((2, 1)))
    kept, penalty = without_illegal(dist, -values, mask)
    np.testing.assert_array_equal(kept.x[..., 0], [[1.0, 0.0, 3.0], [4.0, 0.0, 6.0]])
    np.testing.assert_array_equal(penalty, [[-1.0, 0.0, -3.0], [-4.0, 0.0, -6.0]])
    assert without_illegal(dist, None, None) == (dist, None)


def test_draws_by_hand():
    """Halves of the bits' range are the second and the fourth action; no legal action is the first; all are as ever."""
    mask = jnp.array([[False, True, False, True]] * 2 + [[False] * 4])
    bits = jnp.array([2**31 - 1, 2**31, 2**31], jnp.uint32)
    np.testing.assert_array_equal(legal_index_from_bits(bits, mask), [1, 3, 0])
    many = jax.random.bits(KEY, (1_000,), jnp.uint32)
    np.testing.assert_array_equal(legal_index_from_bits(many, jnp.ones((1_000, 4), bool)), index_from_bits(many, 4))


def test_random_actions_are_uniform_over_the_legal_ones():
    """χ² of 2 degrees of freedom: above 34 with probability 4e-8."""
    mask = jnp.broadcast_to(jnp.array([True, False, True, True]), (9_000, 4))
    for actions in (random_actions(KEY, 9_000, 4, mask), epsilon_greedy(KEY, jnp.zeros((9_000, 4)), 1.0, mask)):
        counts = np.bincount(np.asarray(actions), minlength=4)
        assert counts[1] == 0 and np.sum((counts[[0, 2, 3]] - 3_000) ** 2 / 3_000) < 34


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_takes_legal_actions_alone(name):
    """Whatever illegal ones are worth, and whatever it carries; of a mask of ones it takes what it takes without."""
    explorer = EXPLORERS[name].make(Config(ensemble=3))
    shape = (E, 3, A) if explorer.per_member else (E, A)
    act = jax.jit(explorer.act)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(LEGAL, min_size=E, max_size=E), PLANTED, st.floats(0, 1, width=32), st.integers(0, 2**31))
    def check(masks, planted, epsilon, seed):
        mask, rng = np.stack(masks), np.random.default_rng(seed)
        legal = mask[:, None] if explorer.per_member else mask
        values = np.where(legal, rng.normal(size=shape), planted).astype(np.float32)
        carried = explorer.init(E)
        if name == "ez-greedy":
            carried = Repeat(*(jnp.asarray(rng.integers(0, A, E), jnp.int32) for _ in range(2)))
        key = jax.random.key(seed)
        actions, after = act(key, values, jnp.float32(epsilon), carried, H, mask)
        assert mask[np.arange(E), actions].all()
        if name == "ez-greedy":
            going = (np.asarray(carried.left) > 0) & mask[np.arange(E), carried.action]
            np.testing.assert_array_equal(np.asarray(actions)[going], np.asarray(carried.action)[going])
            np.testing.assert_array_equal(np.asarray(after.left)[going], np.asarray(carried.left)[going] - 1)
        finite = rng.normal(size=shape).astype(np.float32)
        every = act(key, finite, jnp.float32(epsilon), carried, H, np.ones_like(mask))
        assert same_bits(every, act(key, finite, jnp.float32(epsilon), carried, H))

    check()


def apply(params, obs, key, role):
    """The outputs that the parameters are, of state 0 or 1."""
    del key, role
    x = params["x"][obs]
    support = jnp.broadcast_to(jnp.linspace(0.1, 0.9, x.shape[-1]), (*x.shape[:-2], x.shape[-1]))
    return Dist(x=x, support=support, weight=jnp.full_like(support, 1.0 / x.shape[-1]))


NETWORK = Network(init=lambda key: {}, apply=apply)


@functools.cache
def target_fn(head_name, backup_name, members):
    """(target and online network's outputs of two states, masks of two states, action, reward, discount) -> y."""
    config = Config(num_atoms=N, num_quantiles=N)
    head, backup = HEADS[head_name].make(config), BACKUPS[backup_name].make(config)
    if members:
        head, backup = ensemble_head(head), of_members(backup)

    def target(x_target, x_online, mask_t, mask_tm1, a_tm1, r_t, discount_t):
        learner = Learner({"x": x_online}, {"x": x_target}, (), counter())
        masks = {} if mask_t is None else {"mask_t": mask_t[None], "mask_tm1": mask_tm1[None]}
        state = jnp.zeros(1, jnp.int32)
        batch = Transition(1 + state, a_tm1[None], r_t[None], discount_t[None], state, **masks)
        return batch_targets(NETWORK, head, backup, learner, batch, KEY, H)

    return jax.jit(target)


def outputs(rng, head_name, members, num_actions=A):
    """Random outputs of a target and an online network in two states, [2, 2, ..., A, N]."""
    size = (2, 2, *([2] if members else []), num_actions, 1 if head_name == "scalar" else N)
    return rng.normal(size=size).astype(np.float32)


REFUSED = ("bcq", "iql")
"""Heads that are refused in an environment with masks."""
PRODUCT = [(head, backup, False) for head in HEADS if head not in REFUSED for backup in BACKUPS] + [
    ("scalar", "munchausen", True),
    ("iqn", "double", True),
]


@pytest.mark.parametrize(("head", "backup", "members"), PRODUCT)
def test_no_target_reads_an_illegal_action(head, backup, members):
    """Whatever stands there, NaN too, the target is the same to the last bit; so it is of a state that terminates."""
    target = target_fn(head, backup, members)

    @settings(max_examples=25, deadline=None)
    @given(LEGAL, LEGAL, MASK, PLANTED, st.integers(0, 2**31))
    def check(mask_t, mask_tm1, last_mask, planted, seed):
        rng = np.random.default_rng(seed)
        clean, legal = outputs(rng, head, members), np.stack([mask_t, mask_tm1])
        legal = legal.reshape(1, 2, *([1] if members else []), A, 1)
        dirty = np.where(legal, clean, np.float32(planted))
        action, rest = np.int32(np.argmax(mask_tm1)), (np.float32(0.5), np.float32(0.9))
        y = target(*clean, mask_t, mask_tm1, action, *rest)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(y))
        assert same_bits(y, target(*dirty, mask_t, mask_tm1, action, *rest))
        over = (action, np.float32(0.5), np.float32(0.0))
        ended = (target(*clean, mask, mask_tm1, *over) for mask in (last_mask, np.ones(A, bool)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *ended)

    check()


@pytest.mark.parametrize(("head", "backup", "members"), PRODUCT)
def test_a_target_is_that_of_a_network_of_the_legal_actions_alone(head, backup, members):
    """Actions 1 and 3 of four, where others would be better: as if there were only these two."""
    target, rng = target_fn(head, backup, members), np.random.default_rng(0)
    few = outputs(rng, head, members, 2)
    many = outputs(rng, head, members)
    many += 3.0 * np.arange(1, many.shape[-1] + 1, dtype=np.float32)
    many[..., [1, 3], :] = few
    mask, rest = np.array([False, True, False, True]), (np.float32(0.5), np.float32(0.9))
    y = target(*many, mask, mask, np.int32(3), *rest)
    twin = target(*few, None, None, np.int32(1), *rest)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), y, twin)
    unmasked = target(*many, np.ones(4, bool), np.ones(4, bool), np.int32(3), *rest)
    assert not same_bits(y, unmasked), "the other actions would have been read"


def test_no_lambda_return_reads_an_illegal_action():
    """The errors of a rollout are the same to the last bit, whatever illegal actions are worth."""
    steps, states = 5, 6
    config = Config(learner="rollout", num_envs=2, rollout_length=steps, num_epochs=1, total_steps=1_000)
    learn = jax.jit(make_rollout_learn(config, NETWORK, HEADS["scalar"].make(config)))

    @settings(max_examples=25, deadline=None)
    @given(st.lists(LEGAL, min_size=states, max_size=states), PLANTED, st.integers(0, 2**31))
    def check(masks, planted, seed):
        rng, mask = np.random.default_rng(seed), np.stack(masks)
        obs, final = rng.integers(0, states, (2, steps, 2)).astype(np.int32)
        flags = rng.random((2, steps, 2)) < 0.3
        reward = rng.normal(size=(steps, 2)).astype(np.float32)
        terminated, truncated = flags[0], flags[1] & ~flags[0]
        # Of no meaning where the episode terminated.
        last = np.where(terminated[..., None], rng.random((steps, 2, A)) < 0.3, mask[final])
        action = np.argmax(mask[obs], axis=-1).astype(np.int32)
        valid = np.ones_like(terminated)
        rows = Row(obs, action, reward, terminated, truncated, final, valid, mask[obs], last)
        clean = rng.normal(size=(states, A, 1)).astype(np.float32)
        found = []
        for x in (clean, np.where(mask[..., None], clean, np.float32(planted))):
            params = {"x": jnp.asarray(x)}
            opt_state = make_optimizer(config, H, jnp.int32(0)).init(params)
            found.append(learn(Learner(params, (), opt_state, counter()), (), rows, KEY, H)[2])
        assert same_bits(*found) and np.isfinite(found[0].loss)

    check()
