"""The replay learner with a memory: windows against whole episodes unrolled by hand, and the rules of runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import same_bits
from test_host_loop import SPEC as SCRIPTED
from test_host_loop import begin as begin_loop
from test_host_loop import make_config as host_config
from test_host_loop import make_loop

from benchmarks.robustness.product import CHOICES, Combination, check, good
from purejaxdqn.build import build, build_backup, check_read
from purejaxdqn.config import Config, SettingError
from purejaxdqn.learn import Examples, batch_targets, init_learner, make_descend
from purejaxdqn.networks.windows import Recall, begin
from purejaxdqn.replay.sequences import read_frame_steps
from purejaxdqn.types import Hypers

H = Hypers(gamma=0.9).as_arrays()
TINY = {"memory_size": 4, "burn_in": 2, "unroll": 3, "window_period": 2}


def make_config(**changes):
    """CartPole in episodes of at most 7 steps, so that many are truncated."""
    sizes = {"num_envs": 4, "total_steps": 2_000, "buffer_size": 160, "batch_size": 16, "hidden": (8,), "norm": "none"}
    windows = {"memory": "gru", "memory_size": 6, "burn_in": 3, "unroll": 5, "window_period": 1, "n_step": 2}
    params = {"max_steps_in_episode": 7, "hide_velocity": True}
    return Config(env="CartPole-v1", env_params=params, **{**sizes, **windows, **changes})


class ByHand:
    """Episodes played by random actions, with the network one step at a time from the start of each."""

    def __init__(self, config, steps=40):
        self.parts = parts = build(config)
        self.params = parts.network.init(jax.random.key(3))
        self.step = jax.jit(lambda obs, recall: parts.network.step(self.params, obs, recall, None, "greedy"))
        env_step = jax.jit(parts.env.step)
        env, _ = parts.env.reset(jax.random.key(4), config.num_envs)
        recall, self.rows, self.q, self.q_after = parts.network.init_carry(config.num_envs), [], [], []
        for t in range(steps):
            key = jax.random.fold_in(jax.random.key(5), t)
            action = jax.random.randint(key, (config.num_envs,), 0, 2)
            dist, after = self.step(parts.env.observe(env), recall)
            env, _, row = env_step(key, env, action)
            self.q.append(parts.head.q_values(dist))
            # Of the true observation after the step, with the memory of its own episode.
            self.q_after.append(parts.head.q_values(self.step(row.final_obs, after)[0]))
            self.rows.append(row.replace(starts=recall.starts, carry=recall.carry))
            recall = begin(after, row.terminated | row.truncated)
        self.rows = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.rows)
        self.q, self.q_after = np.stack(self.q), np.stack(self.q_after)
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), self.rows)
        self.memory = jax.jit(parts.replay.add)(parts.replay.init(one), self.rows)

    def sample(self):
        """A batch, and the times [U, B] and writers [U, B] of its rows."""
        batch, where, weight = jax.jit(self.parts.replay.sample)(self.memory, jax.random.key(6), H)
        shape = where.learnt.shape
        return batch, np.asarray(where.times).reshape(shape), np.asarray(where.writers).reshape(shape), weight


def q_of(played, obs):
    """Action values [U, B, A] of a window."""
    dist = jax.jit(lambda params, obs: played.parts.network.apply(params, obs, None, "greedy"))(played.params, obs)
    return np.asarray(played.parts.head.q_values(dist)).reshape(*obs.pick.shape, -1)


@pytest.mark.parametrize(
    "memory", ["gru", *(pytest.param(name, marks=pytest.mark.long) for name in ("lstm", "lru", "attention"))]
)
def test_windows_give_what_whole_episodes_do(memory):
    """With stored carries: predictions, targets over n steps that end anywhere, and so the gradient, to 1e-5."""
    config = make_config(memory=memory, **({"memory_size": 8, "memory_window": 4} if memory == "attention" else {}))
    played = ByHand(config)
    batch, times, writers, weight = played.sample()
    assert np.all(weight == 1.0)
    found = q_of(played, batch.obs_tm1)
    np.testing.assert_allclose(found, played.q[times, writers], atol=1e-5)
    # By hand: rewards up to an end or over n steps, then the value of the true observation there.
    reward, terminated, truncated = (
        np.asarray(x) for x in (played.rows.reward, played.rows.terminated, played.rows.truncated)
    )
    y, cut = np.zeros(times.shape), 0
    for at in np.ndindex(times.shape):
        time, writer, discount = times[at], writers[at], 1.0
        for _ in range(config.n_step):
            y[at] += discount * reward[time, writer]
            discount *= 0.9
            if terminated[time, writer] or truncated[time, writer]:
                break
            time += 1
        else:
            time -= 1
        cut += truncated[time, writer]
        y[at] += 0.0 if terminated[time, writer] else discount * played.q_after[time, writer].max()
    learner = init_learner(config, played.parts.network, jax.random.key(3), H)
    learner = learner.replace(params=played.params, target_params=played.params)
    targets = jax.jit(lambda batch: batch_targets(
        played.parts.network, played.parts.head, build_backup(config, played.parts.env.spec), learner, batch,
        jax.random.key(0), H,
    ))(batch)  # fmt: skip
    np.testing.assert_allclose(np.reshape(targets, y.shape), y, atol=1e-5)
    assert cut > 5 and (played.rows.starts[times, writers]).any()


@pytest.mark.long
def test_the_gradient_of_a_window_is_that_of_its_steps_one_by_one():
    """Of one update's loss, with respect to all parameters; none passes the burn-in."""
    config = make_config(batch_size=2)
    played = ByHand(config)
    batch, *_ = played.sample()
    network, head, window = played.parts.network, played.parts.head, batch.obs_tm1
    weight = jnp.linspace(0.1, 1.0, batch.a_tm1.size)
    slots = np.asarray(window.pick) + config.burn_in

    def loss(q):
        error = 2.0 - jnp.take_along_axis(q, batch.a_tm1[:, None], axis=1)[:, 0]
        return jnp.mean(weight * 0.5 * error**2)

    def one_by_one(params):
        recall, values = Recall(window.carry, window.starts[0]), []
        for t in range(window.starts.shape[0]):
            recall = Recall(recall.carry, window.starts[t])
            recall = jax.lax.stop_gradient(recall) if t == config.burn_in else recall
            dist, recall = network.step(params, window.obs[t], recall, None, "online")
            values.append(head.q_values(dist))
        picked = jnp.take_along_axis(jnp.stack(values), jnp.asarray(slots)[..., None], axis=0)
        return loss(picked.reshape(-1, picked.shape[-1]))

    wanted = jax.jit(jax.grad(one_by_one))(played.params)
    found = jax.jit(jax.grad(lambda p: loss(head.q_values(network.apply(p, window, None, "online")))))(played.params)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # And that is the gradient which an update takes.
    learner = init_learner(config, network, jax.random.key(3), H).replace(params=played.params)
    examples = Examples(window, batch.a_tm1, jnp.full(batch.a_tm1.shape, 2.0), weight)
    norm = jax.jit(make_descend(config, network, head))(learner, examples, jax.random.key(0), H)[2].grad_norm
    np.testing.assert_allclose(
        norm, np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(wanted))), rtol=1e-4
    )


@pytest.mark.long
def test_zero_carries_are_right_as_far_as_the_burn_in_reaches():
    """Rows whose episode begins within their window are those of the whole episode; of the others some are not."""
    config = make_config(stored_carry=False)
    played = ByHand(config)
    batch, times, writers, _ = played.sample()
    assert not np.any(batch.obs_tm1.carry)
    starts = np.asarray(played.rows.starts)
    reached = np.array([starts[a : b + 1, w].any() for a, b, w in zip(
        np.broadcast_to(times[:1] - config.burn_in, times.shape).ravel(), times.ravel(), writers.ravel(), strict=True
    )]).reshape(times.shape)  # fmt: skip
    off = np.abs(q_of(played, batch.obs_tm1) - played.q[times, writers]).max(axis=-1)
    assert reached.any() and off[reached].max() < 1e-5
    assert not reached.all() and off[~reached].max() > 1e-4


PRODUCT = [
    Combination(head, backup, False, False, replay, 2)
    for head in CHOICES.head
    for backup in CHOICES.backup
    for replay in CHOICES.replay
]
SAMPLE = Combination("scalar", "double", False, False, "prioritized", 2)


@pytest.mark.parametrize(
    ("combination", "memory"),
    [
        pytest.param(each, memory, marks=[] if (each, memory) == (SAMPLE, "gru") else pytest.mark.long)
        for each in PRODUCT
        for memory in ("gru", "lru")
    ],
    ids=lambda c: c if isinstance(c, str) else "-".join(map(str, c)),
)
def test_choices_compose_with_a_memory(combination, memory):
    """Trains 2,000 steps, stays finite, vmaps over seeds and hypers, and new values compile nothing."""
    result = check(combination, memory=memory, **TINY)
    assert good(result), result


@pytest.mark.long
def test_more_choices_compose_with_a_memory():
    """Two streams, noise, rescaled values, running statistics, the last action and reward, resets and annealed n."""
    everything = {"normalize_reward": True, "last_inputs": True, "resets": True, "anneal_horizon": True}
    result = check(SAMPLE._replace(dueling=True, noisy=True), memory="lstm", rescale_values=True, **everything, **TINY)
    assert good(result), result


ON_HOST = [{"overlap": False}, {"replay_memory": "host"}, {"replay": "prioritized", "updates_per_rollout": 2}]


@pytest.mark.parametrize(
    "changes",
    [case if "replay_memory" in case else pytest.param(case, marks=pytest.mark.long) for case in ON_HOST],
    ids=str,
)
def test_the_host_keeps_the_carries_of_its_episodes(changes):
    """Of stacked frames, with ignored steps between episodes: what the network carries there by hand."""
    config = host_config(memory="gru", learning_starts=60, prefill="policy", **TINY, **changes)
    loop, _ = make_loop(config, 2)
    state, h = begin_loop(loop, learning_rate=0.0)
    state, metrics = loop.iterate(state, h, 30)
    assert np.isfinite(float(metrics.loss_sum)) and int(metrics.updates) == 30 * config.updates_per_rollout
    store = getattr(state.memory, "store", state.memory)
    first, written = SCRIPTED.frame_stack - 1, int(store.ring.written.count)
    assert written <= store.ring.capacity
    steps = read_frame_steps(SCRIPTED, store.steps, jnp.full(4, first), jnp.arange(4), written - first)
    step = jax.jit(lambda obs, recall: loop.parts.network.step(state.learner.params, obs, recall, None, "greedy")[1])
    recall, known, compared = loop.parts.network.init_carry(4), np.zeros(4, bool), 0
    for t in range(written - first):
        known |= np.asarray(steps.starts[t])
        if (first + t) % config.window_period == 0:
            wanted = np.where(np.asarray(steps.starts[t])[:, None], 0.0, recall.carry)
            kept = store.carry[(first + t) // config.window_period % store.carry.shape[0]]
            np.testing.assert_allclose(kept[known], wanted[known], atol=1e-6)
            compared += int(known.sum())
        recall = step(steps.obs[t], Recall(recall.carry, steps.starts[t]))
    assert compared > 30


@pytest.mark.long
def test_a_replay_of_windows_in_the_hosts_memory_changes_nothing():
    """Uniform draws do not depend on priorities: the same parameters, bit for bit, in any chunks."""
    ends = []
    for where, parts in (("device", (9,)), ("host", (9,)), ("host", (4, 5))):
        loop, _ = make_loop(
            host_config(memory="gru", learning_starts=60, replay_memory=where, updates_per_rollout=2, **TINY), 2
        )
        state, h = begin_loop(loop)
        for count in parts:
            state, _ = loop.iterate(state, h, count)
        ends.append(state.learner.params)
    assert same_bits(ends[0], ends[1]) and same_bits(ends[0], ends[2])


WRONG = [
    ({"unroll": 30, "buffer_size": 120}, "buffer_size", "use more than 140"),
    ({"burn_in": 400}, "buffer_size", "use more than"),
    ({"window_period": 100}, "buffer_size", "use more than"),
    ({"unroll": 0}, "unroll", "use a whole number of at least 1"),
    ({"memory": "none", "unroll": 5}, "unroll", "use --memory gru with --learner replay"),
    ({"priority_eta": 0.5}, "priority_eta", "use --replay prioritized"),
    ({"head": "categorical", "rescale_values": True}, "rescale_values", "use --head scalar"),
    ({"ensemble": 3}, "ensemble", "use --memory none"),
    (
        {"memory": "attention", "memory_size": 8, "memory_window": 9, "stored_carry": False},
        "memory_window",
        "holds 8 frames (burn_in + unroll): use at most that",
    ),
]


@pytest.mark.parametrize(("changes", "field", "words"), WRONG)
def test_what_cannot_be_is_one_sentence(changes, field, words):
    """Windows that the replay cannot hold, and settings that nothing would read."""

    def make():
        config = make_config(**{k: v for k, v in changes.items() if k != "priority_eta"})
        check_read(config, changes)
        build(config)

    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.field == field and words in str(caught.value) and "\n" not in str(caught.value)
