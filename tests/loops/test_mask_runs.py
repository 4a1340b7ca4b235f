"""Whole runs of environments with action masks: on the device, on the host, in lanes, chunks and shards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import counting_explorer, same_bits

from purejaxdqn import Config, Hypers, SettingError, batch_env, make_agent, register
from purejaxdqn.build import build
from purejaxdqn.loops.data_parallel import make_data_lanes
from purejaxdqn.loops.host import HostLoop
from purejaxdqn.loops.sharding import make_spread
from purejaxdqn.types import lane_axes

pytestmark = pytest.mark.usefixtures("own_parts")

KEY, PLACES = jax.random.key(0), 4
SMALL = {"num_envs": 4, "total_steps": 1_200, "hidden": (8,)}
REPLAY = {**SMALL, "buffer_size": 400, "batch_size": 8, "learning_starts": 60}


def is_legal(place, action):
    """Two of four actions, other ones in each place: the first leads down, the second up."""
    return (action - place) % 4 < 2


def make_ring(planted: float = 1e6):
    """Places from 0 to 4, where it ends and no action is legal. An illegal action is rewarded, and tears everything."""

    def reset(key):
        place = jax.random.randint(key, (), 0, 3)
        return jax.nn.one_hot(place, PLACES + 1), place

    def step(key, place, action):
        legal = is_legal(place, action)
        after = jnp.clip(place + 2 * ((action - place) % 4) - 1, 0, PLACES)
        obs = jnp.where(legal, jax.nn.one_hot(after, PLACES + 1), jnp.nan)
        reward = jnp.where(legal, jnp.float32(after == PLACES), planted)
        return obs, jnp.where(legal, after, place), reward, after == PLACES

    def mask(place):
        return jnp.logical_and(is_legal(place, jnp.arange(4)), place < PLACES)

    return batch_env(reset, step, num_actions=4, time_limit=9, mask=mask, name="ring")


def is_none(node):
    """Whether a node of a tree of axes is that of what lanes share."""
    return node is None


def stored_rows(state):
    """The rows of a replay that were written."""
    ring = state.memory.store.ring if hasattr(state.memory, "store") else state.memory.ring
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: int(ring.size)], ring.rows)


def check_rows(state):
    """Stored masks are those of the stored places, and every action is of them."""
    rows = stored_rows(state)
    place = np.argmax(rows.obs, axis=-1)
    np.testing.assert_array_equal(rows.mask, is_legal(place[..., None], np.arange(4)))
    assert np.take_along_axis(rows.mask, rows.action[..., None], axis=-1).all()


RUNS = [
    {**SMALL, "learner": "rollout", "rollout_length": 8, "num_minibatches": 2},
    {**REPLAY, "head": "categorical", "backup": "munchausen", "replay": "prioritized", "explorer": "ez-greedy"},
    {**REPLAY, "ensemble": 2, "explorer": "bootstrapped", "backup": "max", "noisy": True, "epsilon_ladder": True},
    {**REPLAY, "head": "iqn", "backup": "double", "explorer": "boltzmann", "dueling": True, "prefill": "policy"},
    {**REPLAY, "head": "fqf", "backup": "munchausen", "epsilon_ladder": True, "n_step": 1},
    {**REPLAY, "head": "quantile", "backup": "max", "anneal_horizon": True, "resets": True},
    {**REPLAY, "head": "categorical", "ensemble": 2, "backup": "munchausen"},
    {
        **SMALL,
        "learner": "rollout",
        "rollout_length": 8,
        "noisy": True,
        "explorer": "ez-greedy",
        "epsilon_ladder": True,
    },
]


@pytest.mark.parametrize(
    "settings", [pytest.param(run, marks=[] if i < 1 else pytest.mark.long) for i, run in enumerate(RUNS)]
)
def test_a_run_takes_legal_actions_alone(settings):
    """Rewards of illegal ones would be a million each, and their observations no numbers."""
    agent = make_agent(Config(**settings), env=make_ring())
    h = Hypers(reset_period=100)
    state, metrics = jax.jit(agent.iterate)(jax.jit(agent.init)(KEY, h), h, agent.config.num_iterations)
    assert 0.0 < float(metrics.return_max) <= 1.0 and int(metrics.episodes) > 50
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.learner, metrics.loss_sum, metrics.td_sum)))
    assert float(metrics.td_sum) < 10 * int(metrics.updates)
    for epsilon in (0.0, 1.0):
        found = jax.jit(lambda p, e: agent.evaluate(p, KEY, episodes=8, epsilon=e))(state.learner.params, epsilon)
        assert np.isin(np.asarray(found.returns), [0.0, 1.0]).all()
    if agent.config.learner == "replay":
        check_rows(state)


WANDERING = Config(**REPLAY, explorer="ez-greedy")


def iterations_of(agent):
    """(state, n) -> the state after n iterations."""
    return lambda state, n: agent.iterate(state, Hypers(), n)[0]


@pytest.mark.exact_lanes
def test_neither_planted_rewards_nor_chunks_show():
    """A million or nothing for illegal actions, four iterations or twice two: bit for bit one run."""
    agent, other = (make_agent(WANDERING, env=make_ring(planted)) for planted in (1e6, 0.0))
    advance, first = jax.jit(iterations_of(agent)), jax.jit(agent.init)(KEY, Hypers())
    whole = advance(first, 40)
    check_rows(whole)
    assert same_bits(whole, advance(advance(first, 15), 25))
    assert same_bits(whole, jax.jit(iterations_of(other))(first, 40))


@pytest.mark.long
@pytest.mark.exact_lanes
def test_lanes_with_masks_are_solo_runs():
    """The second of two, bit for bit."""
    agent = make_agent(WANDERING, env=make_ring())
    init, advance = jax.jit(agent.init), iterations_of(agent)
    first, second = init(KEY, Hypers()), init(jax.random.key(1), Hypers())
    axes = lane_axes(first)

    def of_lanes(fn, *trees):
        return jax.tree.map(lambda axis, *leaf: leaf[0] if axis is None else fn(*leaf), axes, *trees, is_leaf=is_none)

    lanes = jax.jit(jax.vmap(advance, in_axes=(axes, None), out_axes=axes))
    found = lanes(of_lanes(lambda *pair: jnp.stack(pair), second, first), 40)
    assert same_bits(jax.jit(advance)(first, 40), of_lanes(lambda leaf: leaf[1], found))


def test_an_explorer_that_takes_no_mask_is_refused():
    register("explorer", "counting", lambda config: counting_explorer())
    with pytest.raises(SettingError, match=r"explorer='counting'.*one more argument, mask"):
        make_agent(Config(**REPLAY, explorer="counting"), env=make_ring())


@pytest.mark.long
def test_shards_have_masks_of_their_own():
    register("env", "ring", make_ring)
    _, lanes = make_data_lanes(Config(env="ring", data_parallel=2, **REPLAY), (0,), 4)
    h = Hypers().as_arrays()
    state, metrics = lanes.iterate(lanes.init(np.zeros(2, np.uint32), h), h, 100)
    assert 0.0 < float(metrics.return_max) <= 1.0
    rows = state.memory.ring.rows
    assert np.take_along_axis(np.asarray(rows.mask), np.asarray(rows.action)[..., None], axis=-1)[:, :50].all()


gymnasium = pytest.importorskip("gymnasium")


class Ring(gymnasium.Env):
    """The same on the host, with an action of two parts that refuses an illegal one."""

    observation_space = gymnasium.spaces.Box(0, 1, (PLACES + 1,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([2, 2])

    def __init__(self, empty_after=-1):
        self.place, self.count, self.empty_after = 0, 0, empty_after

    def told(self):
        mask = np.array([is_legal(self.place, action) for action in range(4)], np.int8).reshape(2, 2)
        over = self.place == PLACES or self.count == self.empty_after
        return np.eye(PLACES + 1, dtype=np.float32)[self.place], {"action_mask": mask * (not over)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3))
        return self.told()

    def step(self, action):
        action = 2 * action[0] + action[1]
        assert is_legal(self.place, action)
        self.place = int(np.clip(self.place + 2 * ((action - self.place) % 4) - 1, 0, PLACES))
        self.count += 1
        obs, info = self.told()
        return obs, float(self.place == PLACES), self.place == PLACES, False, info


def make_loop(empty_after=-1, **changes):
    """The host loop of one, and hypers."""
    register("env", f"host-{empty_after}", lambda: gymnasium.wrappers.TimeLimit(Ring(empty_after), 9))
    config = Config(env=f"host-{empty_after}", **REPLAY | changes)
    return HostLoop(config, build(config), 0), Hypers().as_arrays()


@pytest.mark.parametrize("memory", ["device", pytest.param("host", marks=pytest.mark.long)])
def test_a_run_on_the_host_takes_legal_actions_alone(memory):
    """In either memory; the step after an end, whose action is ignored, has the mask of no state."""
    loop, h = make_loop(replay_memory=memory)
    state = loop.begin(loop.init(KEY, h), h, fill=True)
    state, metrics = loop.iterate(state, h, 150)
    assert 0.0 < float(metrics.return_max) <= 1.0 and np.isfinite(float(metrics.loss_sum))
    rows = stored_rows(state)
    # The first row of all is that of no observation.
    legal, valid = np.take_along_axis(rows.mask, rows.action[..., None], axis=-1)[1:, :, 0], rows.valid[1:]
    assert legal[valid].all() and not valid.all()
    place = np.argmax(rows.frame, axis=-1)[1:]
    due = is_legal(place[..., None], np.arange(4)) & (place < PLACES)[..., None]
    np.testing.assert_array_equal(rows.mask[1:], due)
    returns = loop.evaluate(state.learner.params, 0, 4, 0.5).returns
    assert np.isin(returns, [0.0, 1.0]).all()
    loop.close()


@pytest.mark.long
def test_shards_on_the_host_have_masks_of_their_own():
    """The environments refuse an illegal action."""
    register("env", "host-shards", lambda: gymnasium.wrappers.TimeLimit(Ring(), 9))
    config, h = Config(env="host-shards", data_parallel=2, **REPLAY), Hypers().as_arrays()
    loop = HostLoop(config, build(config), 0, make_spread(2))
    state, metrics = loop.iterate(loop.begin(loop.init(KEY, h), h, fill=True), h, 60)
    assert 0.0 < float(metrics.return_max) <= 1.0 and np.isfinite(float(metrics.loss_sum))
    assert state.actors[0].mask.shape == (2, 2, 4)
    loop.close()


def test_a_mask_that_empties_while_a_run_goes_on_is_a_sentence():
    loop, h = make_loop(empty_after=66, learning_starts=390)
    with pytest.raises(SettingError, match=r"host-66.*no legal action.*leave at least one"):
        loop.begin(loop.init(KEY, h), h, fill=True)
