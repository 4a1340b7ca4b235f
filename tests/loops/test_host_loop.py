"""The host loop on a scripted environment, whose every step is known beforehand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import counting_explorer

from purejaxdqn.build import EXPLORERS, Choice, Parts, build_learner, build_model, choose
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.envs.interface import HostEnv, HostStep
from purejaxdqn.loops.host import RECENT, HostLoop
from purejaxdqn.loops.host_functions import greet, pack, packed_bytes, unpack
from purejaxdqn.loops.host_lanes import make_host_lanes
from purejaxdqn.types import Hypers

LENGTHS = (3, 5, 4, 6)
"""Steps of every episode of each environment."""
SPEC = EnvSpec("Scripted-v5", 3, (2, 2, 4), "uint8", None, 1000, 4)


class ScriptedPool:
    """Environment e plays episodes of LENGTHS[e] steps; odd ones are cut, even ones end. Rewards are 5 a step.

    A frame holds the environment, the episode and the step. A life is lost after the second step of every episode.
    """

    def __init__(self, num_envs, num_groups, lengths=LENGTHS):
        self.num_groups, self.lengths = num_groups, np.resize(lengths, num_envs)
        self.ids = np.arange(num_envs).reshape(num_groups, -1)
        self.episode, self.step = np.full(num_envs, -1), np.zeros(num_envs, int)
        self.over = np.ones(num_envs, bool)
        self.actions, self.in_flight = [], set()

    def reset(self):
        self.in_flight = set(range(self.num_groups))

    def send(self, group, action):
        assert group not in self.in_flight and action.dtype == np.int32
        self.in_flight.add(group)
        self.actions.append(np.array(action))

    def receive(self, group):
        self.in_flight.remove(group)
        ids = self.ids[group]
        begins = self.over[ids].copy()
        self.episode[ids] += begins
        self.step[ids] = np.where(begins, 0, self.step[ids] + 1)
        ended = self.step[ids] == self.lengths[ids]
        self.over[ids] = ended
        cut = self.episode[ids] % 2 == 1
        return HostStep(
            frame=self.frame(ids),
            reward=np.where(begins, 0.0, 5.0).astype(np.float32),
            terminated=ended & ~cut,
            truncated=ended & cut,
            life_lost=self.step[ids] == 2,
            begins=begins,
        )

    def frame(self, ids):
        code = np.stack([ids, self.episode[ids], self.step[ids], ids + 10], axis=-1)
        return code.reshape(-1, 2, 2, 1).astype(np.uint8)

    def screen(self):
        return np.zeros((4, 4, 3), np.uint8)

    def close(self):
        assert not self.in_flight


def learning_view(step):
    """Rewards clipped, a lost life is an end."""
    ended = step.terminated | step.life_lost
    return step._replace(reward=np.clip(step.reward, -1, 1), terminated=ended, truncated=step.truncated & ~ended)


def make_config(**changes):
    """A tiny run on four environments."""
    tiny = {"num_envs": 4, "total_steps": 2_000, "buffer_size": 400, "batch_size": 8, "learning_starts": 40}
    return Config(**{"env": "Scripted-v5", "hidden": (8,), "norm": "none", "network": "mlp"} | tiny | changes)


def make_loop(config, num_groups=1, lengths=LENGTHS):
    """A loop on the scripted environment, and the pools that it opens."""
    pools = []

    def open_pool(num_envs, seed, groups):
        pools.append(ScriptedPool(num_envs, groups, lengths))
        return pools[-1]

    env = HostEnv(SPEC, open_pool, learning_view, ("a", "b", "c"), num_groups, 4)
    network, head = build_model(config, SPEC)
    replay, learn = build_learner(config, env, network, head)
    explorer = choose("explorer", config).make(config)
    return HostLoop(config, Parts(env, network, head, replay, learn, explorer=explorer), 0), pools


def begin(loop, seed=0, **hypers):
    """A state after the prefill, and the hypers."""
    h = Hypers(**hypers).as_arrays()
    return loop.begin(loop.init(jax.random.key(seed), h), h, fill=True), h


@pytest.mark.parametrize(("dtype", "shape"), [("uint8", (2, 2, 1)), ("float32", (3,)), ("int32", ())])
def test_one_array_holds_a_whole_step(dtype, shape):
    """Packed and unpacked, everything is as it was, bit for bit."""
    rng = np.random.default_rng(0)
    spec = EnvSpec("X-v5", 2, shape, dtype, None, 10)
    flags = rng.random((4, 5)) < 0.5
    frame = (rng.random((5, *shape)) * 200).astype(dtype)
    step = HostStep(frame, rng.normal(size=5).astype(np.float32), *flags)
    packed = pack(step)
    assert packed.dtype == np.uint8 and packed.shape == (5, packed_bytes(spec))
    found = jax.jit(lambda x: unpack(spec, x))(packed)
    for mine, theirs in zip(
        found, (step.frame, step.reward, step.terminated, step.truncated, step.begins), strict=True
    ):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def stored(state):
    """Everything in the ring, in the order of time."""
    written = int(state.memory.ring.written.count)
    assert written <= state.memory.ring.capacity
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:written], state.memory.ring.rows)


@pytest.mark.parametrize("num_groups", [1, 2])
@pytest.mark.parametrize("overlap", [True, False])
def test_rows_are_what_was_played(overlap, num_groups):
    """Frames, actions, clipped rewards, ends and swallowed steps, each at its own time, in either order of the loop."""
    config = make_config(overlap=overlap)
    loop, pools = make_loop(config, num_groups)
    state, h = begin(loop)
    state, _ = loop.iterate(state, h, 20)
    rows = stored(state)
    # The last row has not got its step yet, so as many are written as steps were received.
    steps = int(state.vector_steps.count)
    assert rows.valid.shape[0] == steps == config.prefill_steps + 20
    # Row 0 is what there was before anything was received: no transition.
    assert not rows.valid[0].any()
    for env, length in enumerate(LENGTHS):
        frames = rows.frame[1:, env]
        episode, step = np.divmod(np.arange(steps - 1), length + 1)
        expected = np.stack([np.full_like(step, env), episode, step, np.full_like(step, env + 10)], axis=-1)
        np.testing.assert_array_equal(frames, expected)
        last, second = step == length - 1, step == 1
        ignored = step == length
        np.testing.assert_array_equal(rows.valid[1:, env], ~ignored)
        np.testing.assert_array_equal(rows.reward[1:, env], np.where(ignored, 0.0, 1.0))
        cut = episode % 2 == 1
        np.testing.assert_array_equal(rows.terminated[1:, env], (last & ~cut) | second)
        np.testing.assert_array_equal(rows.truncated[1:, env], last & cut & ~second)
    sent = np.concatenate(pools[0].actions).reshape(-1, 4)
    np.testing.assert_array_equal(rows.action[1:], sent[: steps - 1])
    assert set(np.unique(sent)) == {0, 1, 2}


def test_the_network_is_fed_stacks():
    """The first frame fills the stack; then frames come in from the right; the last one of an episode comes, too."""
    pool = ScriptedPool(4, 1)
    pool.reset()
    obs, seen = jnp.zeros((4, *SPEC.obs_shape), jnp.uint8), []
    show = jax.jit(lambda obs, packed: greet(SPEC, obs, packed))
    for _ in range(6):
        obs = show(obs, pack(pool.receive(0)))
        pool.send(0, np.zeros(4, np.int32))
        # The third number of a frame is its step.
        seen.append(np.asarray(obs[0, 1, 0]).tolist())
    assert seen == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_returns_are_of_whole_games_in_raw_rewards():
    """Five a step, lost lives or not: 15 to 30 a game, and none is counted before it has ended."""
    loop, _ = make_loop(make_config())
    state, h = begin(loop)
    assert loop.recent and set(loop.recent) == {5.0 * length for length in LENGTHS}
    before = len(loop.recent)
    state, metrics = loop.iterate(state, h, 60)
    # In 60 steps after a prefill of 11 (the first of which only began): how often has each ended by then?
    ends = [sum((1 + i) % (length + 1) == 0 for i in range(11 - 1, 71 - 1)) for length in LENGTHS]
    assert int(metrics.episodes) == sum(ends) == len(loop.recent) - before
    assert float(metrics.return_sum) == sum(5.0 * n * length for n, length in zip(ends, LENGTHS, strict=True))
    assert float(metrics.length_sum) == sum(n * length for n, length in zip(ends, LENGTHS, strict=True))
    assert int(metrics.env_steps) < 60 * 4 and int(metrics.updates) == 60
    assert loop.recent.maxlen == RECENT


def assert_same(first, second):
    """Two trees are equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(first), jax.device_get(second))


@pytest.mark.parametrize("learner", ["replay", "rollout"])
@pytest.mark.parametrize("overlap", [True, False])
def test_chunks_do_not_show(overlap, learner):
    """iterate(6) equals iterate(2) and iterate(4), bit for bit, and another seed is another run."""
    more = {"learner": "rollout", "rollout_length": 3} if learner == "rollout" else {}
    config = make_config(overlap=overlap, **more)
    ends = []
    for seed, parts in ((0, (6,)), (0, (2, 4)), (1, (6,))):
        loop, _ = make_loop(config)
        state, h = begin(loop, seed)
        for count in parts:
            state, metrics = loop.iterate(state, h, count)
        assert np.isfinite(float(metrics.loss_sum))
        loop.close()
        ends.append(state)
    assert_same(ends[0], ends[1])
    first, other = (jax.tree.leaves(ends[i].learner.params)[-1] for i in (0, 2))
    assert not np.array_equal(first, other)


def test_a_replay_in_the_hosts_memory_changes_nothing():
    """Uniform draws do not depend on priorities: the same rows, batches and parameters, bit for bit, in any chunks."""
    ends = []
    for where, parts in (("device", (9,)), ("host", (9,)), ("host", (4, 5))):
        loop, _ = make_loop(make_config(replay_memory=where, updates_per_rollout=2), 2)
        state, h = begin(loop)
        for count in parts:
            state, metrics = loop.iterate(state, h, count)
        assert int(metrics.updates) == 2 * parts[-1]
        ends.append(state)
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


def test_priorities_reach_a_replay_in_the_hosts_memory():
    """After two phases leaves differ from those of new rows, and the run goes on."""
    loop, _ = make_loop(make_config(replay_memory="host", replay="prioritized", updates_per_rollout=2))
    state, h = begin(loop)
    fresh = set(np.unique(state.memory.tree.levels[0]).tolist())
    assert fresh == {0.0, 1.0}
    state, metrics = loop.iterate(state, h, 2)
    assert len(np.unique(state.memory.tree.levels[0])) > 10 and np.isfinite(float(metrics.loss_sum))


@pytest.mark.parametrize("changes", [{}, {"overlap": False}, {"replay_memory": "host"}], ids=str)
def test_what_an_explorer_carries_follows_the_episodes(changes, monkeypatch):
    """As many actions as the environment has observations of the episode that goes on."""
    monkeypatch.setitem(EXPLORERS, "counting", Choice(lambda config: counting_explorer()))
    loop, pools = make_loop(make_config(explorer="counting", **changes), 2)
    state, h = begin(loop)
    for _ in range(3):
        state, _ = loop.iterate(state, h, 3)
        carried = np.concatenate([actor.explorer for actor in state.actors])
        np.testing.assert_array_equal(carried, pools[0].step + 1)


def test_a_ladder_has_a_rung_for_every_environment():
    """With α so large that only the first environment explores: all others act as without any ε, in both groups."""

    def actions(epsilon):
        loop, pools = make_loop(make_config(epsilon_ladder=True, epsilon_schedule="constant"), 2)
        state, h = begin(loop, epsilon_final=epsilon, ladder_exponent=1e4, learning_rate=0.0)
        pools[0].actions.clear()
        loop.iterate(state, h, 30)
        # Group by group, two environments in each.
        return np.array(pools[0].actions).reshape(30, 4)

    exploring, greedy = actions(0.5), actions(0.0)
    np.testing.assert_array_equal(exploring[:, 1:], greedy[:, 1:])
    assert (exploring[:, 0] != greedy[:, 0]).any()


def use(loop, **functions):
    """Puts others in the place of a loop's functions."""
    loop.functions = loop.phase.functions = loop.functions._replace(**functions)


def log_of(overlap, num_groups, rollout_length=1):
    """The order in which a loop does things in three iterations, as letters."""
    loop, pools = make_loop(make_config(overlap=overlap, rollout_length=rollout_length), num_groups)
    state, h = begin(loop)
    pool, functions, said = pools[0], loop.functions, []

    def noting(letter, fn):
        def call(*args):
            said.append(letter)
            return fn(*args)

        return call

    pool.send, pool.receive = noting("s", pool.send), noting("r", pool.receive)
    use(loop, act=noting("a", functions.act), learn=noting("L", functions.learn))
    loop.iterate(state, h, 3)
    return "".join(said)


def test_the_order_of_the_loop_is_what_the_module_says():
    """Overlapped, the environments are stepping (s) when learning (L) begins; in sequence they wait for it."""
    assert log_of(True, 1) == "rasL" * 3
    assert log_of(False, 1) == "rLas" * 3
    assert log_of(True, 2) == "rasrasL" * 3
    assert log_of(False, 2) == "rrLasas" * 3
    assert log_of(True, 1, 2) == "rasrasL" * 3


def test_overlap_lags_by_one_vector_step():
    """The parameters that act at a step have learnt from the rows up to two before it, not one."""
    for overlap, lag in ((True, 2), (False, 1)):
        loop, _ = make_loop(make_config(overlap=overlap))
        state, h = begin(loop)
        functions, seen, acted = loop.functions, [], []

        def learn(learner, memory, total, rows, key, h, functions=functions, seen=seen):
            out = functions.learn(learner, memory, total, rows, key, h)
            seen.append((int(out[0].updates.count), int(out[1].ring.written.count) - 1))
            return out

        def act(params, obs, mask, carried, key, h, clock, draw, group, functions=functions, seen=seen, acted=acted):
            acted.append((clock, seen[-1][1] if seen else None))
            return functions.act(params, obs, mask, carried, key, h, clock, draw, group)

        use(loop, learn=learn, act=act)
        loop.iterate(state, h, 5)
        # Row t is what was seen and done at vector step t, where clock t - 1 is row t: row 0 came before everything.
        assert [clock + 1 - newest for clock, newest in acted if newest is not None] == [lag] * (5 - overlap)


def test_evaluation_counts_every_environments_share():
    """Twenty games in sixteen environments: two in each of the first four, although short ones could play many more."""
    loop, _ = make_loop(make_config(), lengths=(1, 1, 50, 50))
    state, _ = begin(loop)
    loop.close()
    found = loop.evaluate(state.learner.params, 3, 20, 0.0)
    assert sorted(found.lengths.tolist()) == [1] * 10 + [50] * 10
    np.testing.assert_array_equal(found.returns, 5.0 * found.lengths)


def test_going_on_with_other_games_leaves_no_window_across():
    """A run that goes on fills a new replay with its own actions, keeps its clock, and begins with a gap."""
    config = make_config(n_step=3)
    loop, _ = make_loop(config)
    state, h = begin(loop)
    state, _ = loop.iterate(state, h, 7)
    clock = int(state.vector_steps.count)
    again, _ = make_loop(config)
    empty = jax.tree.map(jnp.zeros_like, state.memory)
    after = again.begin(state.replace(memory=empty), h, fill=True)
    assert int(after.vector_steps.count) == clock
    assert int(after.memory.ring.written.count) == config.prefill_steps
    kept = again.begin(state, h, fill=False)
    assert int(kept.memory.ring.written.count) == int(state.memory.ring.written.count)
    kept, _ = again.iterate(kept, h, 5)
    # The row after the last one of the old games holds what that one led to, and is no transition.
    rows = stored(kept)
    assert not rows.valid[clock].any() and rows.valid[clock - 1].any()


def test_a_new_replay_of_a_run_that_goes_on_can_be_drawn_from():
    """Prioritized, from a checkpoint without it: new rows have the first priority, not none, and are learnt from."""
    config = make_config(replay="prioritized")
    loop, pools = make_loop(config)
    lanes = make_host_lanes(config, loop.parts, (0,), 4, keep_replay=False)
    h = Hypers().as_arrays()
    state = lanes.init(jax.random.key(0), h)
    state, _ = lanes.iterate(state, h, 5)
    kept = lanes.saved(state)
    assert kept["run"].memory == ()
    after = lanes.restored(kept, h)
    leaves = np.asarray(after.memory.tree.levels[0])
    assert set(np.unique(leaves)) == {0.0, 1.0} and leaves.sum() > config.batch_size
    _, metrics = lanes.iterate(after, h, 2)
    assert float(metrics.td_sum) > 0.0 and float(metrics.loss_sum) > 0.0
    assert len(pools) == 2


def test_the_newest_returns_survive_a_restart():
    """As an array of a fixed length, in their order; and other games begin than at first."""
    loop, _ = make_loop(make_config())
    state, h = begin(loop)
    state, _ = loop.iterate(state, h, 3)
    again, _ = make_loop(make_config())
    again.recent_returns = loop.recent_returns
    assert list(again.recent) == list(loop.recent) and len(loop.recent) > 0
    assert loop.recent_returns.shape == (RECENT,)
    seeds = []
    for each in (loop, again):
        opened = each.parts.env.open_pool
        env = each.parts.env._replace(
            open_pool=lambda n, seed, g, opened=opened: (seeds.append(seed), opened(n, seed, g))[1]
        )
        each.parts = each.parts._replace(env=env)
    begin(loop)
    again.begin(state, h, fill=False)
    assert seeds[0] == 0 and seeds[1] not in (0, 1)


def test_the_newest_hypers_compile_nothing(count_compilations):
    """Another learning rate, γ or ε is another argument."""
    loop, _ = make_loop(make_config())
    state, h = begin(loop)
    state, _ = loop.iterate(state, h, 2)
    before = count_compilations()
    state, _ = loop.iterate(state, Hypers(learning_rate=0.1, gamma=0.5, epsilon_final=0.3).as_arrays(), 2)
    assert count_compilations() == before


def test_an_evaluation_cuts_episodes_that_nothing_ends():
    """20 episodes of 16 environments that go on for ever: 7 steps of reward 5 each, also the second ones of four."""
    loop, pools = make_loop(make_config(), lengths=(10**9,))
    state, _ = begin(loop)
    found = loop.evaluate(state.learner.params, 1, 20, 0.0, max_steps=7)
    assert found.returns.tolist() == [35.0] * 20 and found.lengths.tolist() == [7] * 20
    assert len(pools[-1].actions) == 14, "two episodes of seven steps, and no step beyond"
