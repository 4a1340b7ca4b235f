"""Windows of rows, against a twin that keeps every episode in full as Python lists."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from purejaxdqn.config import EnvSpec
from purejaxdqn.replay import sequences
from purejaxdqn.replay.frames import frame_store
from purejaxdqn.replay.prioritized import prioritized
from purejaxdqn.replay.sequences import Lengths
from purejaxdqn.replay.transitions import transition_store
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Hypers, Row

pytestmark = pytest.mark.usefixtures("strict_ranks")

GAMMA, LIMIT, STACK = 0.9, 6, 2
H = Hypers(gamma=GAMMA, priority_eta=0.9, priority_exponent=1.0, priority_epsilon=1e-6).as_arrays()


class Episode:
    """Everything that happened in one episode; its last observation comes after its last step."""

    def __init__(self, first):
        self.obs, self.rewards, self.actions, self.end = [first], [], [], None


class World:
    """One environment, which ends anywhere, and the episodes that it has played.

    On the device the row after an end begins the next episode; on the host it repeats the last observation.
    """

    def __init__(self, rng, index, on_host):
        self.rng, self.on_host, self.made, self.over = rng, on_host, 100_000 * index, False
        self.episode, self.since_cut = Episode(self.new_obs()), 0
        self.rows = []

    def new_obs(self):
        self.made += 1
        return self.made

    def step(self):
        """A row as a dict; `rows` notes where in which episode it lies."""
        time, episode = len(self.rows), self.episode
        row = {"obs": stack_of(episode, len(episode.obs) - 1), "carry": 1.0 + time + 1000.0 * self.rng.integers(9)}
        row |= {"starts": not episode.rewards and not self.over, "valid": not self.over}
        if self.over:
            self.rows.append((episode, len(episode.rewards), row))
            self.over, self.episode = False, Episode(self.new_obs())
            return row | {"action": 0, "reward": 0.0, "terminated": False, "truncated": False, "final": row["obs"]}
        self.since_cut += 1
        terminated = self.rng.random() < 0.15
        # Two truncations are at least LIMIT steps apart.
        truncated = not terminated and self.since_cut >= LIMIT and self.rng.random() < 0.3
        self.since_cut = 0 if truncated else self.since_cut
        episode.actions.append(int(self.rng.integers(4)))
        episode.rewards.append(float(self.rng.integers(100)))
        episode.obs.append(self.new_obs())
        self.rows.append((episode, len(episode.rewards) - 1, row))
        final = stack_of(episode, len(episode.obs) - 1)
        if terminated or truncated:
            episode.end = "terminated" if terminated else "truncated"
            self.over = self.on_host
            self.episode = episode if self.on_host else Episode(self.new_obs())
        # A run that goes on with new games leaves the old ones where they are.
        self.over = self.over or (self.on_host and self.rng.random() < 0.05)
        done = {"terminated": terminated, "truncated": truncated, "final": final}
        return row | done | {"action": episode.actions[-1], "reward": episode.rewards[-1]}


def stack_of(episode, i):
    """The observation of step i: its frame and the one before, or its own twice where there is none."""
    return [episode.obs[max(0, i - back)] for back in reversed(range(STACK))]


def to_rows(steps):
    """`Row` [T, E] of lists of lists of dicts."""

    def field(name, dtype):
        return np.array([[row[name] for row in step] for step in steps], dtype)

    obs, final = (field(name, np.int32)[..., None, None, :] for name in ("obs", "final"))
    flags = {name: field(name, bool) for name in ("terminated", "truncated", "valid", "starts")}
    row = Row(obs, field("action", np.int32), field("reward", np.float32), final_obs=final, **flags)
    return row.replace(carry={"h": field("carry", np.float32)[..., None]})


SPEC = EnvSpec("Scripted-v5", 4, (1, 1, STACK), "int32", None, LIMIT, STACK)


def make_store(on_host, lengths, num_envs, period, stored, capacity=41, annealed=False, limit=LIMIT):
    """A store of windows of either kind."""
    if on_host:
        base = frame_store(capacity, num_envs, lengths.n_step, SPEC)
        read = partial(sequences.read_frame_steps, SPEC)
    else:
        base = transition_store(capacity, num_envs, lengths.n_step, limit, True)
        read = sequences.read_ring_steps
    return sequences.window_store(base, read, lengths, period, stored, annealed)


def example_row():
    """Shapes of a row of one environment."""
    rows = to_rows([[World(np.random.default_rng(0), 0, False).step()]])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), rows)


class Run:
    """Worlds, the store that their rows are written to, and its functions, compiled once."""

    def __init__(self, store, on_host, seed, steps_at_once=5):
        self.store, self.steps_at_once = store, steps_at_once
        rng = np.random.default_rng(seed)
        self.worlds = [World(rng, i + 1, on_host) for i in range(store.num_envs)]
        self.kept = jax.jit(lambda: store.init(example_row()))()
        self.add = jax.jit(store.add, donate_argnums=0)
        self.read = jax.jit(lambda kept, times, writers: store.read(kept, times, writers, H))

    def play(self):
        self.kept = self.add(
            self.kept, to_rows([[world.step() for world in self.worlds] for _ in range(self.steps_at_once)])
        )

    def starts(self):
        """Every time and writer at which a window may begin."""
        written = len(self.worlds[0].rows)
        oldest = max(0, written - self.store.capacity) + self.store.history
        times = [t for t in range(oldest, written - self.store.n_step) if t % self.store.period == 0]
        return [(t, w) for t in times for w in range(len(self.worlds))]


def expected_step(world, time, n):
    """(action, r, discount, number of the observation to bootstrap from) of a row; None for no transition."""
    episode, i, row = world.rows[time]
    if not row["valid"]:
        return None
    taken = min(n, len(episode.rewards) - i)
    r = sum(GAMMA**k * episode.rewards[i + k] for k in range(taken))
    ended = i + taken == len(episode.rewards) and episode.end == "terminated"
    return episode.actions[i], r, 0.0 if ended else GAMMA**taken, i + taken


def seen_before(window, b, slot):
    """Observations of the episode that a network has seen at a slot, and whether its first one begins the window."""
    since = max([0, *np.flatnonzero(window.starts[: slot + 1, b])])
    return window.obs[since : slot + 1, b].reshape(-1, STACK).tolist(), since == 0


def assert_window(run, lengths, pair, time, writer, b, stored):
    """One window is the twin's: what is learnt, and what a network has seen of the episode by then.

    Returns what `assert_returns` looks at.
    """
    found = []
    batch, learnt = pair
    world, burn_in = run.worlds[writer], lengths.burn_in
    first, start, row = world.rows[time]
    zeroed = not stored or row["starts"]
    assert batch.obs_tm1.carry["h"][b, 0] == (0.0 if zeroed else row["carry"])
    for u in range(lengths.unroll):
        wanted = expected_step(world, time + burn_in + u, lengths.n_step)
        assert learnt[u, b] == (wanted is not None)
        if wanted is None:
            continue
        episode, i, _ = world.rows[time + burn_in + u]
        action, r, discount, after = wanted
        at = u * learnt.shape[1] + b
        assert batch.a_tm1[at] == action
        found.append((at, r, discount))
        # After a termination any observation will do.
        for window, number in ((batch.obs_tm1, i), *([(batch.obs_t, after)] if discount else [])):
            seen, from_first = seen_before(window, b, window.pick[u, b] + window.burn_in)
            begins = start if episode is first else 0
            assert seen == [stack_of(episode, j) for j in range(begins, number + 1)]
            assert from_first == (episode is first)
    return found


def assert_returns(batch, wanted, r_tolerance=1e-5, discount_tolerance=1e-6):
    """Rewards and discounts are those wanted, a list of (index, r, discount); together, as each call takes its time."""
    at, r, discount = np.array(wanted).reshape(-1, 3).T
    np.testing.assert_allclose(batch.r_t[at.astype(int)], r, rtol=r_tolerance)
    np.testing.assert_allclose(batch.discount_t[at.astype(int)], discount, rtol=discount_tolerance)


def check_windows(run, lengths, count, stored, batch=64):
    """Checks `count` random windows, while the worlds play on; the carry of each goes with the first row."""
    rng, checked = np.random.default_rng(1), 0
    while checked < count:
        run.play()
        starts = run.starts()
        if not starts:
            continue
        chosen = [starts[i] for i in rng.integers(len(starts), size=batch)]
        times, writers = np.array(chosen, np.int32).T
        pair, weight = jax.device_get(run.read(run.kept, times, writers))
        assert np.all(weight == 1.0)
        wanted = []
        for b, (time, writer) in enumerate(chosen):
            wanted += assert_window(run, lengths, pair, time, writer, b, stored)
        assert_returns(pair[0], wanted)
        checked += batch
    assert len(run.worlds[0].rows) > 3 * run.store.capacity


CASES = [
    (False, Lengths(2, 4, 1), 8, 3, True),
    (False, Lengths(3, 5, 3), 1, 1, True),
    (True, Lengths(2, 4, 5), 1, 2, True),
    (True, Lengths(0, 4, 3), 8, 4, False),
]


@pytest.mark.parametrize(("on_host", "lengths", "num_envs", "period", "stored"), CASES)
def test_windows_equal_those_of_whole_episodes(on_host, lengths, num_envs, period, stored):
    """Over wraps, with ends and starts anywhere."""
    run = Run(make_store(on_host, lengths, num_envs, period, stored), on_host, seed=num_envs)
    check_windows(run, lengths, 2_000, stored)


@pytest.mark.long
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("num_envs", [1, 8])
@pytest.mark.parametrize("on_host", [False, True])
def test_a_hundred_thousand_windows(on_host, num_envs, n, stored):
    """Of each kind of environment, number of them, n and carry."""
    for seed, (burn_in, unroll, period) in enumerate(((0, 1, 1), (4, 3, 2), (1, 8, 5), (7, 6, 13))):
        lengths = Lengths(burn_in, unroll, n)
        run = Run(make_store(on_host, lengths, num_envs, period, stored), on_host, seed, steps_at_once=1 + 2 * seed)
        check_windows(run, lengths, 25_000, stored, batch=200)


def test_an_environment_that_truncates_too_soon_costs_rows_and_never_correctness():
    """Final observations of which some are no longer held: their steps are not learnt from, all others are right."""
    lengths = Lengths(1, 9, 3)
    run = Run(make_store(False, lengths, 8, 2, True, limit=30), False, seed=3)
    lost = 0
    for _ in range(30):
        run.play()
        starts = (run.starts() or [(0, 0)] * 64)[-64:]
        batch, learnt = jax.device_get(run.read(run.kept, *np.array(starts, np.int32).T)[0])
        if len(run.worlds[0].rows) <= lengths.rows:
            continue
        lost += int(np.sum(learnt == 0.0))
        wanted = []
        for b, (time, writer) in enumerate(starts):
            for u in np.flatnonzero(learnt[:, b]):
                world, at = run.worlds[writer], u * learnt.shape[1] + b
                episode = world.rows[time + 1 + u][0]
                action, r, discount, after = expected_step(world, time + 1 + u, 3)
                assert batch.a_tm1[at] == action
                wanted.append((at, r, discount))
                slot = batch.obs_t.pick[u, b] + batch.obs_t.burn_in
                assert discount == 0.0 or batch.obs_t.obs[slot, b].ravel().tolist() == stack_of(episode, after)
        assert_returns(batch, wanted, 1e-5, 1e-5)
    assert lost > 0


@pytest.mark.parametrize("capacity", [40, 41])
def test_every_window_is_drawn_equally_often(capacity):
    """Those that begin at multiples of the period and lie within the ring, and no others; also over the seam."""
    lengths = Lengths(1, 3, 2)
    store = make_store(False, lengths, 2, 3, True, capacity)
    run, replay = Run(store, False, seed=0), uniform(store, 4_096)
    sample = jax.jit(lambda memory, key: replay.sample(memory, key, H)[1])
    for turn in range(13):
        run.play()
        starts = run.starts()
        if turn not in (1, 4, 9, 12):
            continue
        times, writers = jax.device_get(sample(run.kept, jax.random.key(turn)))
        counts = dict.fromkeys(starts, 0)
        for start in zip(times.tolist(), writers.tolist(), strict=True):
            counts[start] += 1  # KeyError: a start that there is not
        expected = 4_096 / len(starts)
        statistic = sum((count - expected) ** 2 / expected for count in counts.values())
        assert statistic < chi2.ppf(1 - 1e-6, max(1, len(starts) - 1))


def test_prioritized_windows_have_leaves_where_they_may_begin():
    """After every write the leaves above zero are the starts, on the host also those that are no transitions."""
    lengths = Lengths(1, 3, 2)
    store = make_store(True, lengths, 2, 3, True)
    replay = sequences.by_rows(prioritized(store, 16), lengths.burn_in)
    memory, run = jax.jit(lambda: replay.init(example_row()))(), Run(store, True, seed=5)
    add = jax.jit(replay.add)
    for _ in range(25):
        rows = to_rows([[world.step() for world in run.worlds] for _ in range(5)])
        memory = add(memory, rows)
        leaves = np.asarray(memory.tree.levels[0])[: 41 * 2].reshape(41, 2)
        wanted = np.zeros((41, 2), bool)
        for time, writer in run.starts():
            wanted[time % 41, writer] = True
        np.testing.assert_array_equal(leaves > 0.0, wanted)


window_priority = jax.jit(sequences.window_priority)


def test_a_window_is_ranked_by_the_largest_and_the_mean_priority_of_what_was_learnt():
    """η = 0.9: 0.9 · 4 + 0.1 · (1 + 4 + 1) / 3 = 3.8; of the second window one row alone counts: 0.9 · 2 + 0.1 · 2."""
    priority = np.float32([[1.0, 9.0], [4.0, 2.0], [1.0, 7.0]])
    learnt = np.float32([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    found = window_priority(priority, learnt, 0.9)
    np.testing.assert_allclose(found, [3.8, 2.0], rtol=1e-6)
    nothing = window_priority(priority, 0.0 * learnt, 0.9)
    np.testing.assert_array_equal(nothing, [0.0, 0.0])


def test_priorities_of_rows_become_those_of_their_windows():
    """What a learner gives for [U * B] rows changes the leaves of the B windows, and weights come for the rows."""
    lengths = Lengths(1, 3, 1)
    store = make_store(True, lengths, 1, 2, False)
    replay = sequences.by_rows(prioritized(store, 4), lengths.burn_in)
    memory, run = jax.jit(lambda: replay.init(example_row()))(), Run(store, True, seed=6)
    for _ in range(4):
        memory = jax.jit(replay.add)(memory, to_rows([[world.step() for world in run.worlds] for _ in range(5)]))
    batch, index, weight = jax.device_get(jax.jit(replay.sample)(memory, jax.random.key(0), H))
    learnt = index.learnt
    np.testing.assert_array_equal(weight, learnt.reshape(-1))  # all leaves are equal, so all importance weights are 1
    assert batch.r_t.shape == weight.shape == (12,) and batch.obs_t.pick.shape == (3, 4)
    priority = np.arange(12, dtype=np.float32)
    after = jax.jit(replay.update)(memory, index, priority, H)
    drawn = index.windows
    np.testing.assert_array_equal(index.times.reshape(3, 4), drawn.times[None] + np.array([[1], [2], [3]]))
    np.testing.assert_array_equal(index.writers, 0)
    wanted = window_priority(priority.reshape(3, 4), learnt, H.priority_eta) + H.priority_epsilon
    best = {}
    for time, leaf in zip(drawn.times.tolist(), wanted.tolist(), strict=True):
        best[time] = max(best.get(time, 0.0), leaf)
    leaves = np.asarray(after.tree.levels[0])
    for time, leaf in best.items():
        np.testing.assert_allclose(leaves[time % 41], leaf, rtol=1e-5)


def test_an_annealed_n_ends_a_fold_of_a_window_sooner():
    """With n_step_final = 1 a store of 3-step folds gives the 1-step ones, observations to bootstrap from included."""
    lengths = Lengths(1, 4, 3)
    run = Run(make_store(False, lengths, 2, 1, True, annealed=True), False, seed=7)
    for _ in range(12):
        run.play()
    starts = run.starts()[-8:]
    times, writers = np.array(starts, np.int32).T
    h = H.replace(n_step_final=jnp.int32(1))
    (batch, learnt), _ = jax.device_get(jax.jit(run.store.read)(run.kept, times, writers, h))
    for b, (time, writer) in enumerate(starts):
        for u in range(4):
            _, r, discount, after = expected_step(run.worlds[writer], time + 1 + u, 1)
            at = u * 8 + b
            np.testing.assert_allclose((batch.r_t[at], batch.discount_t[at]), (r, discount), rtol=1e-6)
            slot = batch.obs_t.pick[u, b] + batch.obs_t.burn_in
            episode = run.worlds[writer].rows[time + 1 + u][0]
            assert not discount or batch.obs_t.obs[slot, b].ravel().tolist() == stack_of(episode, after)
    assert np.all(learnt == 1.0)
