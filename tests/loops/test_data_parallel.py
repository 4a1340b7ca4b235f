"""A run in shards: it is the run that one device makes of the same batches, wherever its shards lie."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_lines import refused
from test_device_loop import assert_same_bits, equations
from test_host_loop import SPEC as SCRIPTED
from test_host_loop import ScriptedPool, learning_view, make_config
from test_lanes import assert_floats_close_and_others_equal

from purejaxdqn import evaluate, train
from purejaxdqn.build import Parts, build_learner, build_model, choose, make_prioritized
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.doctor import command as doctor
from purejaxdqn.envs.interface import HostEnv
from purejaxdqn.learn import Examples, init_learner, make_descend, make_replay_learn
from purejaxdqn.loops.data_parallel import check_room, join_logs, make_data_lanes
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.host_lanes import make_host_lanes
from purejaxdqn.loops.lanes import repeat_hypers, seed_keys
from purejaxdqn.loops.sharding import make_spread, on_first_device, over_shards, shard_axes
from purejaxdqn.machine.shards import WHOLE, make_shards
from purejaxdqn.replay.interface import Replay
from purejaxdqn.replay.sum_tree import set_leaves
from purejaxdqn.runs.folder import METRICS, SUMMARY
from purejaxdqn.sweep import command as sweep
from purejaxdqn.types import EpisodeLog, Hypers, Row, Transition, is_counter

COLLECTIVES = {"psum", "pmax", "pmin", "axis_index"}
BATCH, SHARDS, UPDATES = 12, 2, 2
ENV = EnvSpec("Test-v0", 3, (5,), "float32", None, 100)


def close(a, b, rtol=2e-5, atol=2e-6):
    """Two trees agree within tolerance, and in structure."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


# ---------------------------------------------------------------- one update


def batch_of(rng, size):
    """Random transitions, a tenth of which terminate."""
    return Transition(
        obs_tm1=jnp.asarray(rng.normal(size=(size, 5)), jnp.float32),
        a_tm1=jnp.asarray(rng.integers(0, 3, size), jnp.int32),
        r_t=jnp.asarray(rng.normal(size=size), jnp.float32),
        discount_t=jnp.asarray(np.where(rng.random(size) < 0.1, 0.0, 0.97), jnp.float32),
        obs_t=jnp.asarray(rng.normal(size=(size, 5)), jnp.float32),
    )


def given_replay():
    """Memory is a batch, its weights, and the priorities that came back."""
    return Replay(
        init=lambda row: (),
        add=lambda memory, rows: memory,
        sample=lambda memory, key, h: (memory[0], (), memory[1]),
        update=lambda memory, where, priority, h: (memory[0], memory[1], priority),
    )


def learn_of(config):
    network, head = build_model(config, ENV)
    backup = choose("backup", config).make(config)
    return network, make_replay_learn(config, network, head, backup, given_replay())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"loss": "huber"}, marks=pytest.mark.long),
        {"reduction": "sum", "norm": "none"},
        pytest.param({"norm": "batch", "dueling": True}, marks=pytest.mark.long),
        pytest.param({"head": "categorical", "noisy": True, "reduction": "sum"}, marks=pytest.mark.long),
        pytest.param({"head": "quantile", "backup": "max"}, marks=pytest.mark.long),
        pytest.param({"head": "iqn", "backup": "munchausen", "noisy": True}, marks=pytest.mark.long),
        pytest.param({"head": "fqf", "norm": "batch"}, marks=pytest.mark.long),
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_an_update_is_that_of_the_whole_batch(changes):
    """Parameters, target, optimiser, metrics and priorities after two updates, weights and a gradient clip included."""
    small = {"num_quantiles": 4, "num_target_quantiles": 3, "num_policy_quantiles": 5, "num_cosines": 4, "num_atoms": 5}
    config = Config(**small, hidden=(6,), batch_size=BATCH, updates_per_rollout=UPDATES, optimizer="sgd", **changes)
    h = Hypers(learning_rate=0.1, max_grad_norm=0.3, target_period=2, tau=0.5).as_arrays()
    rng, key = np.random.default_rng(1), jax.random.key(7, impl="threefry2x32")
    memory = (batch_of(rng, BATCH), jnp.asarray(rng.uniform(0.1, 1.0, BATCH), jnp.float32), jnp.zeros(BATCH))
    network, learn = learn_of(config)
    learner = jax.jit(lambda key: init_learner(config, network, key, h))(jax.random.key(3))
    expected = jax.jit(lambda *args: learn(*args, None, key, h))(learner, memory)

    _, learn_shard = learn_of(config.replace(data_parallel=SHARDS))
    split = jax.tree.map(lambda leaf: leaf.reshape(SHARDS, -1, *leaf.shape[1:]), memory)
    for num_devices in (1, 2):
        spread = make_spread(SHARDS, num_devices)
        assert spread.num_devices == num_devices
        step = over_shards(spread, lambda *args: learn_shard(*args, None, key, h), (None, 0), (None, 0, None))
        after, memories, metrics = jax.jit(step)(learner, split)
        joined = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), memories)
        close((after, joined, metrics), expected)
    assert float(metrics.grad_norm) > 0.3 * UPDATES  # the clip had something to do
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), learner.params, after.params)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_every_shard_draws_a_batch_of_its_own():
    """The replays of two shards are given different keys."""
    network, head = build_model(Config(hidden=(6,)), ENV)
    batch = batch_of(np.random.default_rng(1), BATCH // SHARDS)
    weight = jnp.ones(BATCH // SHARDS)
    replay = given_replay()._replace(
        sample=lambda memory, key, h: (batch, jax.random.key_data(key), weight),
        update=lambda memory, where, priority, h: where,
    )
    config = Config(hidden=(6,), batch_size=BATCH, optimizer="sgd", data_parallel=SHARDS)
    learn = make_replay_learn(config, network, head, choose("backup", config).make(config), replay)
    h, key = Hypers().as_arrays(), jax.random.key(7, impl="threefry2x32")
    step = over_shards(make_spread(SHARDS), lambda *args: learn(*args, None, key, h), (None, 0), (None, 0, None))
    learner = init_learner(config, network, jax.random.key(3), h)
    _, keys, _ = jax.jit(step)(learner, jnp.zeros((SHARDS, 2), jnp.uint32))
    assert keys.any() and not np.array_equal(keys[0], keys[1])


def test_without_the_mean_the_update_would_differ():
    """The test above can fail: half of the batch alone gives other parameters."""
    config = Config(hidden=(6,), batch_size=BATCH, optimizer="sgd")
    network, head = build_model(config, ENV)
    descend = make_descend(config, network, head)
    h = Hypers(learning_rate=0.1).as_arrays()
    learner = init_learner(config, network, jax.random.key(3), h)
    batch = batch_of(np.random.default_rng(1), BATCH)
    examples = Examples(batch.obs_tm1, batch.a_tm1, batch.r_t, jnp.ones(BATCH))
    step = jax.jit(lambda part: descend(learner, part, jax.random.key(0), h)[0].params)
    whole, half = step(examples), step(jax.tree.map(lambda leaf: leaf[: BATCH // 2], examples))
    with pytest.raises(AssertionError):
        close(whole, half)


def rows_of(num_steps, num_envs):
    """Rows [T, E] that are all transitions of endless episodes."""
    flags = jnp.zeros((num_steps, num_envs), bool)
    obs = jnp.zeros((num_steps, num_envs, 5))
    actions = jnp.zeros((num_steps, num_envs), jnp.int32)
    return Row(obs, actions, flags.astype(jnp.float32), flags, flags, obs, ~flags)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_importance_weights_are_of_what_was_drawn(num_devices):
    """Each shard draws from a tree of its own; the weights are (P_min / P(i))^β of P(i) = leaf / total / shards."""
    config = Config(
        env="CartPole-v1", num_envs=4, batch_size=BATCH, buffer_size=80, replay="prioritized", n_step=1,
        data_parallel=SHARDS, total_steps=1_000, learning_starts=40,
    )  # fmt: skip

    class env:
        spec, every_row_valid = ENV, True

    replay = make_prioritized(config, env)
    one_row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), rows_of(1, 1))
    h = Hypers(importance_exponent=0.5, importance_exponent_final=0.5, priority_exponent=1.0).as_arrays()

    def draw(scale):
        memory = replay.add(replay.init(one_row), rows_of(10, 2))
        every = jnp.arange(18)
        leaves = jnp.zeros(40).at[every].set((1.0 + every) * scale)
        tree = jax.tree.map(jnp.zeros_like, memory.tree)
        memory = dataclasses.replace(memory, tree=set_leaves(tree, jnp.arange(40), leaves))
        own = make_shards(SHARDS).own_keys(jax.random.key(0, impl="threefry2x32"))
        _, drawn, weight = replay.sample(memory, own, h)
        largest = replay.update(memory, drawn, jnp.full(BATCH // SHARDS, 50.0) * scale, h).max_leaf
        return drawn.leaf, weight, leaves.sum(), largest

    # The second shard's leaves are three times as large, which changes nothing of its probabilities.
    leaf, weight, total, largest = jax.jit(over_shards(make_spread(SHARDS, num_devices), draw, (0,), 0))(
        jnp.array([1.0, 3.0])
    )
    p = np.asarray(leaf / total[:, None]) / SHARDS
    np.testing.assert_allclose(weight, np.sqrt(p.min() / p), rtol=1e-5)
    assert float(weight.max()) == 1.0 and not np.array_equal(leaf[0] * 3.0, leaf[1])
    np.testing.assert_allclose(largest, [150.0, 150.0], rtol=1e-4)  # new rows of every shard get the largest of all


# ---------------------------------------------------------------- the loop on the device


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config.replace(data_parallel=4, num_envs=8, buffer_size=400, log_episodes=6)


def open_lanes(config, num_devices=None):
    return make_data_lanes(config, (0,), eval_episodes=3, num_devices=num_devices)[1]


def begin(lanes, hypers=None):
    h = lanes.put(repeat_hypers(hypers or Hypers(target_period=3), 1))
    keys = lanes.put(seed_keys([0]))
    return lanes.init(keys, h), h, keys


@pytest.fixture(scope="module")
def two_devices(config):
    return open_lanes(config)


@pytest.fixture(scope="module")
def finished(two_devices):
    """State and metrics of a run of 30 iterations in two chunks, on two devices."""
    state, h, keys = begin(two_devices)
    chunks = []
    for count in (12, 18):
        state, metrics = two_devices.iterate(state, h, count)
        chunks.append(two_devices.get(metrics))
    evaluation = two_devices.get(two_devices.evaluate(state.learner.params, keys, 0.1))
    return two_devices.get(state), chunks, evaluation


@pytest.mark.slow
def test_shards_do_not_care_where_they_lie(config, two_devices, finished):
    """Four shards on two devices and on one: floats within tolerance after 30 updates, all else equal."""
    lanes = open_lanes(config, 1)
    assert (two_devices.plan.spread.num_devices, two_devices.plan.spread.per_device) == (2, 2)
    assert two_devices.plan.describe().startswith("1 run in 4 shards on 2 CPU devices, vmapped on each")
    assert lanes.plan.spread.num_devices == 1
    state, h, keys = begin(lanes)
    state, metrics = lanes.iterate(state, h, 12)
    jax.tree.map(assert_floats_close_and_others_equal, lanes.get(metrics), finished[1][0])
    state, metrics = lanes.iterate(state, h, 18)
    jax.tree.map(assert_floats_close_and_others_equal, lanes.get(metrics), finished[1][1])
    jax.tree.map(assert_floats_close_and_others_equal, lanes.get(state), finished[0])
    evaluation = lanes.get(lanes.evaluate(state.learner.params, keys, 0.1))
    jax.tree.map(assert_floats_close_and_others_equal, evaluation, finished[2])


def test_chunks_do_not_show_and_a_state_fits_other_devices(config, two_devices, finished):
    """iterate(12) and iterate(18) equal iterate(30), bit for bit; what was saved of two devices goes on on one."""
    state, h, _ = begin(two_devices)
    state, _ = two_devices.iterate(state, h, 30)
    assert_same_bits(two_devices.get(state), finished[0])
    jax.tree.map(lambda leaf, like: (leaf.shape, leaf.dtype) == (like.shape, like.dtype) or pytest.fail(str(like)),
                 two_devices.saved(state), two_devices.like)  # fmt: skip
    lanes = open_lanes(config, 1)
    there, _ = lanes.iterate(lanes.restored(two_devices.saved(state), h), on_first_device(h), 4)
    here, _ = two_devices.iterate(two_devices.restored(two_devices.saved(state), h), h, 4)
    jax.tree.map(assert_floats_close_and_others_equal, lanes.get(there), two_devices.get(here))


def test_shards_share_what_they_should(config, finished):
    """One set of parameters and one clock; games, rings and actions of their own."""
    state = finished[0]
    for node in jax.tree.leaves(state, is_leaf=is_counter):
        assert not is_counter(node) or node.count.shape == ()
    assert state.key_data.shape == (1, 2) and jax.tree.leaves(state.learner.params)[0].ndim <= 3
    ring = state.memory.ring.rows
    assert ring.obs.shape == (1, 4, config.buffer_rows, 2, 4)
    for i in range(1, 4):
        assert not np.array_equal(ring.obs[0, 0], ring.obs[0, i])
        assert not np.array_equal(ring.action[0, 0], ring.action[0, i])
    assert int(state.learner.updates.count) == 30


def test_every_shard_acts_by_keys_of_its_own(config, two_devices):
    """Where all actions are random, those after the prefill differ too."""
    state, h, _ = begin(two_devices, Hypers(epsilon_start=1.0, epsilon_final=1.0))
    state, _ = two_devices.iterate(state, h, 30)
    start = config.prefill_steps
    actions = two_devices.get(state).memory.ring.rows.action[0, :, start : start + 30]
    assert all(np.mean(actions[0] != actions[i]) > 0.2 for i in range(1, 4))


def test_metrics_count_every_shard_once(config, finished):
    """Environment steps, episodes, returns and the log equal a count over all rings."""
    state, chunks, _ = finished
    written, start = int(state.memory.ring.written.count), config.prefill_steps + 12
    rows = jax.tree.map(lambda leaf: leaf[0][:, :written], state.memory.ring.rows)
    assert written == config.prefill_steps + 30 <= config.buffer_rows
    ends = []
    for shard in range(4):
        for env in range(2):
            total = 0.0
            for t in range(written):
                total += rows.reward[shard, t, env]
                if rows.terminated[shard, t, env] or rows.truncated[shard, t, env]:
                    ends.append((t + 1, shard * 2 + env, total))
                    total = 0.0
    late = sorted(end for end in ends if end[0] > start)
    metrics = chunks[1]
    assert len(late) > 1 and int(metrics.episodes[0]) == len(late) and int(metrics.env_steps[0]) == 18 * 8
    assert metrics.return_sum[0] == metrics.length_sum[0] == sum(end[2] for end in late)
    assert metrics.return_max[0] == max(end[2] for end in late) and int(metrics.updates[0]) == 18
    logged = min(len(late), config.log_episodes)
    assert metrics.log.vector_steps[0][:logged].tolist() == [end[0] for end in late[:logged]]
    assert metrics.log.episode_return[0][:logged].tolist() == [end[2] for end in late[:logged]]
    assert int(state.episodes.ended.sum()) == len(ends)


def test_a_run_begins_with_given_parameters(two_devices, finished):
    """Those of another run, on every device, as the target too."""
    given = jax.tree.map(lambda leaf: leaf + 1.0, finished[0].learner.params)
    h, keys = two_devices.put(repeat_hypers(Hypers(), 1)), two_devices.put(seed_keys([0]))
    learner = two_devices.get(two_devices.init(keys, h, two_devices.put(given)).learner)
    assert_same_bits(learner.params, given)
    assert_same_bits(learner.target_params, given)


def test_a_state_that_does_not_fit_is_refused(config, two_devices):
    """By the memory of one device, with what it would take."""
    gpu = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 100_000_000})
    spread = types.SimpleNamespace(mesh=types.SimpleNamespace(devices=np.array([gpu, gpu])))
    check_room(config, two_devices.plan._replace(spread=spread))
    with pytest.raises(SettingError, match=r"buffer_size=400: a device's shards take 86 MB, and 76 MB fit"):
        check_room(config, two_devices.plan._replace(spread=spread, device_bytes=90_000_000))


def test_logs_are_joined_in_the_order_of_ends():
    """Two shards with logs of three: a full one and one of a single episode, whose other entries are left over."""
    times = jnp.array([[2, 5, 7], [5, 1, 1]])
    log = EpisodeLog(times * 1.0, times * 2.0, times, times)
    joined = join_logs(log, jnp.array([9, 1]))
    assert joined.vector_steps.tolist() == [2, 5, 5] and joined.episode_return.tolist() == [2.0, 5.0, 5.0]
    assert join_logs(log, jnp.array([1, 1])).vector_steps.tolist()[:2] == [2, 5]


def test_new_hypers_and_chunks_compile_nothing(two_devices, count_compilations):
    state, h, keys = begin(two_devices)
    state, _ = two_devices.iterate(state, h, 2)
    state, _ = two_devices.iterate(two_devices.restored(two_devices.saved(state), h), h, 2)
    two_devices.evaluate(state.learner.params, keys, 0.0)
    before = count_compilations()
    state, h, keys = begin(two_devices, Hypers(learning_rate=0.1, gamma=0.5, target_period=7))
    state, _ = two_devices.iterate(state, h, 3)
    jax.block_until_ready(two_devices.evaluate(state.learner.params, keys, 0.3))
    assert count_compilations() == before


@pytest.mark.long
@pytest.mark.parametrize("replay", ["uniform", "prioritized"])
@pytest.mark.parametrize("per_device", [1, 2])
def test_a_donated_chunk_copies_no_replay(tiny_config, per_device, replay):
    """With a replay of 10^6 transitions, a chunk reuses the state, and its scratch space has no room for a copy."""
    config = tiny_config.replace(data_parallel=2 * per_device, buffer_size=1_000_000, replay=replay)
    agent, spread = make_agent(config), make_spread(config.data_parallel)
    lanes = open_lanes(config)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), lanes.like)
    state = jax.tree.map(lambda a, b: b if is_counter(a) else a, state, lanes.like, is_leaf=is_counter)
    axes = shard_axes(state)
    fn = over_shards(spread, agent.iterate, (axes, None, None), (axes, 0))
    memory = jax.jit(fn, donate_argnums=0).lower(state, Hypers(), jnp.int32(4)).compile().memory_analysis()
    assert lanes.plan.device_bytes > 10_000_000
    assert memory.alias_size_in_bytes > 0.99 * lanes.plan.device_bytes
    assert memory.temp_size_in_bytes < 1_000_000


def test_a_run_in_one_piece_has_no_collectives(tiny_config):
    """Its program is as if there were no shards; of several shards it has some."""
    assert make_shards(1) is WHOLE
    names = []
    for shards in (1, 2):
        changes = {"replay": "prioritized", "norm": "batch", "head": "iqn", "loss": "squared"}
        agent = make_agent(tiny_config.replace(data_parallel=shards, **changes))
        run = lambda key, agent=agent: agent.iterate(agent.init(key, Hypers()), Hypers(), 2)[1]  # noqa: E731
        fn = run if shards == 1 else over_shards(make_spread(shards), run, (None,), 0)
        names.append({e.primitive.name for e in equations(jax.make_jaxpr(fn)(jax.random.key(0)).jaxpr)})
    assert not names[0] & COLLECTIVES
    assert {"psum", "pmin", "pmax", "axis_index"} <= names[1]


@pytest.mark.long
def test_eight_devices():
    """Eight shards on eight simulated devices equal the same ones on a single device, for both kinds of learner."""
    code = """
        from purejaxdqn.machine.devices import use_platform
        use_platform("cpu", 1, shards=8)
        import jax, numpy as np
        assert len(jax.devices()) == 8
        from purejaxdqn.config import Config
        from purejaxdqn.loops.data_parallel import make_data_lanes
        from purejaxdqn.loops.lanes import repeat_hypers, seed_keys
        from purejaxdqn.types import Hypers
        small = dict(num_envs=16, total_steps=4_000, hidden=(16,), data_parallel=8)
        replay = dict(buffer_size=400, batch_size=32, learning_starts=80, loss="huber")
        rollout = dict(learner="rollout", rollout_length=4, num_minibatches=2)
        for more in (replay, rollout):
            ends = []
            for count in (8, 1):
                _, lanes = make_data_lanes(Config(**small, **more), (0,), 2, None, count)
                assert lanes.plan.spread.num_devices == count
                h = lanes.put(repeat_hypers(Hypers(), 1))
                state, metrics = lanes.iterate(lanes.init(lanes.put(seed_keys([0])), h), h, 10)
                ends.append(lanes.get((state, metrics)))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *ends)
        print("equal")
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


# ---------------------------------------------------------------- the loop on the host


def open_host_lanes(config, num_devices, num_groups=1):
    """Lanes of the scripted environment, and the pools that they open."""
    pools = []

    def open_pool(num_envs, seed, groups):
        pools.append(ScriptedPool(num_envs, groups))
        return pools[-1]

    env = HostEnv(SCRIPTED, open_pool, learning_view, ("a", "b", "c"), num_groups, 4)
    network, head = build_model(config, SCRIPTED)
    parts = Parts(env, network, head, *build_learner(config, env, network, head))
    return make_host_lanes(config, parts, (0,), 5, True, num_devices), pools


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "num_groups"),
    [
        pytest.param({}, 2, marks=pytest.mark.long),
        pytest.param({"overlap": False, "replay": "prioritized", "head": "iqn"}, 1, marks=pytest.mark.long),
        ({"learner": "rollout", "rollout_length": 3}, 1),
    ],
    ids=["overlap", "sequence", "rollout"],
)
def test_host_shards_do_not_care_where_they_lie(changes, num_groups):
    """On two devices and on one, and in other chunks; the ring holds each shard's own environments."""
    config = make_config(num_envs=8, data_parallel=2, **{"learning_starts": 80} | changes)
    ends = []
    for num_devices, chunks in ((2, (3, 4)), (1, (7,))):
        lanes, pools = open_host_lanes(config, num_devices, num_groups)
        state, h, keys = begin(lanes)
        for count in chunks:
            state, metrics = lanes.iterate(state, h, count)
        evaluation = lanes.evaluate(state.learner.params, keys, 0.0)
        assert (evaluation.returns.shape == (5,) and lanes.watch(state) is None) or lanes.watch(state).ndim == 3
        actions = np.stack(pools[0].actions)
        lanes.close()
        ends.append((lanes.get(state), lanes.get(metrics.loss_sum if len(chunks) == 1 else 0.0), actions))
    jax.tree.map(assert_floats_close_and_others_equal, ends[0][0], ends[1][0])
    np.testing.assert_array_equal(ends[0][2], ends[1][2])
    assert np.isfinite(ends[1][1]).all()
    if config.learner == "replay":
        # The first number of a frame is its environment.
        ring = ends[0][0].memory
        ring = (ring.store if hasattr(ring, "store") else ring).ring
        ids = ring.rows.frame[0, :, 5, :, 0]
        expected = np.arange(8).reshape(num_groups, 2, -1).transpose(1, 0, 2).reshape(2, -1)
        np.testing.assert_array_equal(ids, expected)
        # All actions of the prefill are random, by keys of each shard's own.
        filled = ring.rows.action[0, :, 1 : config.prefill_steps]
        assert np.mean(filled[0] != filled[1]) > 0.2


@pytest.mark.long
def test_host_runs_go_on_elsewhere(count_compilations):
    """What two devices saved goes on on one, with other games; new hypers compile nothing."""
    config = make_config(num_envs=4, data_parallel=2)
    lanes, _ = open_host_lanes(config, 2)
    state, h, _ = begin(lanes)
    state, _ = lanes.iterate(state, h, 3)
    before = count_compilations()
    state, metrics = lanes.iterate(state, lanes.put(repeat_hypers(Hypers(learning_rate=0.1, gamma=0.5), 1)), 3)
    assert count_compilations() == before and int(metrics.updates) == 3
    saved = lanes.saved(state)
    other, _ = open_host_lanes(config, 1)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.shape, b.shape), saved, other.like)
    again = other.restored(saved, other.put(repeat_hypers(Hypers(), 1)))
    assert_same_bits(other.get(again.learner), lanes.get(state.learner))
    again, metrics = other.iterate(again, other.put(repeat_hypers(Hypers(), 1)), 3)
    assert np.isfinite(float(metrics.loss_sum)) and int(again.vector_steps.count) == int(state.vector_steps.count) + 3


# ---------------------------------------------------------------- the command line

SMALL = ["--total-steps", "400", "--num-envs", "4", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--no-compilation-cache"]
PQN = ["--data-parallel", "2", "--algo", "pqn"]


@pytest.mark.long
@pytest.mark.slow
def test_a_run_in_shards_goes_on_and_is_evaluated(tmp_path, capsys):
    """By the command line: trained, resumed with the devices that there are, evaluated, and all of it written down."""
    folder = tmp_path / "run"
    counted = ["--total-episodes", "1000", "--count-prefill", "--learning-starts", "120"]
    assert train.main([*SMALL, *counted, "--data-parallel", "2", "--quiet", "--out", str(folder)]) == 0
    assert train.main(["--resume", str(folder), "--total-steps", "600", "--quiet"]) == 0
    summary = json.loads((folder / SUMMARY).read_text())
    assert summary["plan"].startswith("1 run in 2 shards on 2 CPU devices, ")
    rows = list(csv.DictReader((folder / METRICS).open()))
    assert int(rows[-1]["env_steps"]) == 600 and len({row["env_steps"] for row in rows}) == len(rows)
    assert summary["evaluation"][0]["training_episodes"] > sum(int(row["episodes"]) for row in rows) > 0
    capsys.readouterr()
    assert evaluate.main([str(folder), "--episodes", "3", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["seeds"]
    assert found["episodes"] == 3 and found["mean_return"] > 1.0
    assert "--data-parallel" in refused(capsys, doctor.main, [str(folder)])


@pytest.mark.long
def test_a_run_on_envpool_in_shards(tmp_path):
    """The same of environments on the host, whose replay is filled anew."""
    pytest.importorskip("envpool")
    folder = tmp_path / "run"
    args = [*SMALL, "--env", "envpool/CartPole-v1", "--learning-starts", "40", "--data-parallel", "2", "--quiet"]
    assert train.main([*args, "--out", str(folder)]) == 0
    assert train.main(["--resume", str(folder), "--total-steps", "600", "--quiet"]) == 0
    summary = json.loads((folder / SUMMARY).read_text())
    assert "4 environments on the host" in summary["plan"] and "in 2 shards on 2 CPU devices" in summary["plan"]
    assert summary["env_steps_per_seed"] == 600 and summary["evaluation"][0]["best_mean_return"] > 1.0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data-parallel", "0"], ["--data-parallel 0", "at least 1"]),
        (["--data-parallel", "4"], ["--num-envs 10", "multiple", "8 or 12"]),
        (["--data-parallel", "2", "--batch-size", "7"], ["--batch-size 7", "6 or 8"]),
        (["--data-parallel", "2", "--seeds", "3"], ["--seeds 3", "--data-parallel 2", "use 1"]),
        (["--data-parallel", "2", "--doctor"], ["--doctor", "--data-parallel"]),
        ([*PQN, "--rollout-length", "3", "--num-envs", "2", "--num-minibatches", "2"],
         ["--num-minibatches 2", "3 steps", "divisor"]),
        (["--env", "Pong-v5", "--data-parallel", "2", "--replay-memory", "host"], ["--replay-memory host", "device"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_sentence(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, train.main, [*args, "--no-compilation-cache"])
    assert all(word in said for word in words), said
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_refuses_shards(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, sweep.main, ["--data-parallel", "2", "--seeds", "2", "--learning-rate", "1e-3", "1e-4"])
    assert "--data-parallel 2" in said and "leave it out" in said
    assert list(tmp_path.iterdir()) == []
