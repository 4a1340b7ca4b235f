"""n-step transitions out of the ring, against a twin that keeps every episode in full as Python lists."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from purejaxdqn.replay import transitions
from purejaxdqn.replay.uniform import sample_valid_starts, uniform
from purejaxdqn.types import Hypers, Row

GAMMA = 0.9
ROW = Row(
    obs=jax.ShapeDtypeStruct((2,), jnp.uint8),
    action=jax.ShapeDtypeStruct((), jnp.int32),
    reward=jax.ShapeDtypeStruct((), jnp.float32),
    terminated=jax.ShapeDtypeStruct((), jnp.bool_),
    truncated=jax.ShapeDtypeStruct((), jnp.bool_),
    final_obs=jax.ShapeDtypeStruct((2,), jnp.uint8),
    valid=jax.ShapeDtypeStruct((), jnp.bool_),
)

jit_add = jax.jit(transitions.add_steps)
jit_read = jax.jit(transitions.read_transitions, static_argnums=3)


@dataclasses.dataclass
class Step:
    """One step of an episode, as the twin keeps it."""

    time: int
    obs: int
    action: int
    reward: float


@dataclasses.dataclass
class Episode:
    """All steps of one episode and how it ended."""

    steps: list
    final_obs: int | None = None
    end: str | None = None


class Writer:
    """An environment that ends episodes on command or at its time limit, and the episodes that it has played."""

    def __init__(self, index, limit):
        self.index, self.limit = index, limit
        self.time, self.swallowed, self.next_id = 0, False, 10_000 * index
        self.episodes = [Episode([])]
        self.obs = self.new_obs()

    def new_obs(self):
        self.next_id += 1
        return self.next_id

    def step(self, terminate, swallow, cut=False):
        """One row. After a done with `swallow`, the next row is no transition, as EnvPool gives it."""
        row = {"obs": self.obs, "action": self.time % 5, "reward": 0.0, "terminated": False, "truncated": False}
        if self.swallowed:
            self.swallowed = False
            row |= {"valid": False, "final_obs": self.obs}
        else:
            row |= {"valid": True, "reward": (37 * self.time + 11 * self.index) % 101 / 10, "final_obs": self.new_obs()}
            episode = self.episodes[-1]
            episode.steps.append(Step(self.time, row["obs"], row["action"], row["reward"]))
            self.obs = row["final_obs"]
            row["terminated"] = terminate
            row["truncated"] = not terminate and (cut or len(episode.steps) == self.limit)
            if row["terminated"] or row["truncated"]:
                episode.end = "terminated" if terminate else "truncated"
                episode.final_obs = row["final_obs"]
                self.episodes.append(Episode([]))
                self.obs = self.new_obs()
                self.swallowed = swallow
        self.time += 1
        return row

    def expected(self, n):
        """start time -> (obs_tm1, action, r, discount, obs_t; None after a termination) of every valid start."""
        table = {}
        for episode in self.episodes:
            for i, step in enumerate(episode.steps):
                window = episode.steps[i : i + n]
                r = sum(GAMMA**k * s.reward for k, s in enumerate(window))
                after = i + len(window)
                discount, obs_t = GAMMA ** len(window), None
                if after < len(episode.steps):
                    obs_t = episode.steps[after].obs
                elif episode.end == "terminated":
                    discount = 0.0
                elif episode.end == "truncated":
                    obs_t = episode.final_obs
                else:
                    obs_t = self.obs  # the episode goes on
                table[step.time] = (step.obs, step.action, r, discount, obs_t)
        return table


def pixels(ids):
    """Distinct uint8 observations of ids."""
    ids = np.asarray(ids, np.int64)
    return np.stack([ids // 256, ids % 256], axis=-1).astype(np.uint8)


def stack_rows(rows):
    """List over time of lists over writers of dicts -> Row [T, writers]."""
    column = lambda name, dtype: np.array([[row[name] for row in step] for step in rows], dtype)  # noqa: E731
    return Row(
        obs=pixels(column("obs", np.int64)),
        action=column("action", np.int32),
        reward=column("reward", np.float32),
        terminated=column("terminated", bool),
        truncated=column("truncated", bool),
        final_obs=pixels(column("final_obs", np.int64)),
        valid=column("valid", bool),
    )


def every_start(store, n):
    """Times and writers of every start that the store can offer, padded to one size so that one program serves."""
    capacity, writers = store.ring.capacity, store.ring.num_writers
    written = int(store.ring.written.count)
    oldest = max(0, written - capacity)
    pairs = [(t, w) for t in range(oldest, written - n) for w in range(writers)]
    padded = pairs + [(oldest, 0)] * (capacity * writers - len(pairs))
    times, columns = np.array(padded, np.int32).T
    return pairs, times, columns


def assert_equals_twin(store, twins, n, valid_only_weight=True):
    """Every start of the store gives the twin's transition; returns how many starts were truncated within n steps."""
    pairs, times, writers = every_start(store, n)
    batch, weight = jit_read(store, times, writers, n, GAMMA)
    assert batch.obs_tm1.dtype == batch.obs_t.dtype == jnp.uint8
    batch, weight = jax.device_get((batch, weight))
    weight = weight[: len(pairs)]
    tables = [twin.expected(n) for twin in twins]
    held = np.array([t in tables[w] for t, w in pairs], bool)
    assert np.all(weight[~held] == 0.0)  # no transition
    if valid_only_weight:
        assert np.all(weight[held] == 1.0)
    at = np.flatnonzero(held)
    columns = zip(*(tables[w][t] for t, w in pairs if t in tables[w]), strict=True)
    obs_tm1, action, r, discount, obs_t = map(list, columns) if len(at) else [[]] * 5
    np.testing.assert_array_equal(batch.obs_tm1[at], pixels(obs_tm1))
    np.testing.assert_array_equal(batch.a_tm1[at], action)
    np.testing.assert_allclose(batch.r_t[at], r, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(batch.discount_t[at], discount, rtol=1e-5)
    whole = [(i, obs) for i, obs in zip(at, obs_t, strict=True) if obs is not None and weight[i] == 1.0]
    np.testing.assert_array_equal(batch.obs_t[[i for i, _ in whole]], pixels([obs for _, obs in whole]))
    return weight


# n, writers, capacity, time limit, steps per write: wrapping seams that divide and that do not, limits of 1, of less
# than n, of more than the capacity.
SHAPES = [(1, 2, 8, 3, 1), (2, 1, 11, 1, 3), (3, 4, 12, 5, 4), (5, 3, 16, 2, 1), (4, 2, 9, 50, 2), (3, 1, 8, 8, 5)]


@pytest.mark.parametrize(("n", "writers", "capacity", "limit", "num_steps"), SHAPES)
def test_equals_a_twin_that_keeps_whole_episodes(n, writers, capacity, limit, num_steps):
    """Random terminations, truncations at the limit and swallowed steps, around the ring several times."""
    empty = transitions.init_store(ROW, capacity, writers, limit)

    @settings(max_examples=12, deadline=None)
    @given(
        st.lists(st.tuples(*[st.integers(0, 7)] * writers), min_size=capacity + n, max_size=4 * capacity),
        st.integers(1, 3),
    )
    @example([(1,) * writers] * (2 * capacity), 1)  # every step terminates
    @example([(2,) * writers] * (3 * capacity), 1)  # truncations only, each followed by a swallowed step
    def run(events, rarity):
        store, twins = empty, [Writer(w, limit) for w in range(writers)]
        events = events[: len(events) // num_steps * num_steps]
        rows = [
            [
                twin.step(terminate=e & 1 and e >= 2 * rarity - 1, swallow=bool(e & 2))
                for twin, e in zip(twins, step, strict=True)
            ]
            for step in events
        ]
        for row in (row for step in rows for row in step):
            row["terminated"] = bool(row["terminated"])
        for start in range(0, len(rows), num_steps):
            store = jit_add(store, stack_rows(rows[start : start + num_steps]))
            if start + num_steps > n and start % (3 * num_steps) == 0:
                assert_equals_twin(store, twins_at(rows, start + num_steps, writers, limit), n)
        if len(rows) > n:
            assert_equals_twin(store, twins, n)

    def twins_at(rows, length, writers, limit):
        """Twins that have seen only the first rows: replayed, since a twin knows all that it has played."""
        twins = [Writer(w, limit) for w in range(writers)]
        for step, after in zip(rows[:length], [*rows[1:], None], strict=False):
            for w, twin in enumerate(twins):
                swallow = after is not None and not after[w]["valid"]
                twin.step(terminate=step[w]["terminated"], swallow=swallow)
        return twins

    run()


def play(writer, actions, store=None, num_writers=1):
    """Writes one step of one writer for each letter: . goes on, t terminates, c cuts; capital letters swallow next."""
    for letter in actions:
        row = writer.step(terminate=letter.lower() == "t", swallow=letter.isupper(), cut=letter.lower() == "c")
        store = jit_add(store, stack_rows([[row] * num_writers]))
    return store


def read_one(store, time, n):
    return jax.device_get(jit_read(store, np.int32([time]), np.int32([0]), n, GAMMA))


def test_truncation_bootstraps_from_the_final_observation():
    """Cut at step 2: two rewards, γ², and the observation before the reset, not the one after."""
    writer = Writer(0, 3)
    store = play(writer, ".....", transitions.init_store(ROW, 10, 1, 3))
    first = writer.episodes[0]
    assert first.end == "truncated" and len(first.steps) == 3
    batch, weight = read_one(store, 1, 3)
    np.testing.assert_allclose(batch.r_t[0], first.steps[1].reward + GAMMA * first.steps[2].reward, rtol=1e-6)
    np.testing.assert_allclose(batch.discount_t[0], GAMMA**2, rtol=1e-6)
    np.testing.assert_array_equal(batch.obs_t[0], pixels(first.final_obs))
    assert not np.array_equal(batch.obs_t[0], pixels(writer.episodes[1].steps[0].obs)) and weight[0] == 1.0


def test_termination_has_no_discount():
    """The reset's observation lies in the next row, and a discount of zero keeps it out of the target."""
    store = play(Writer(0, 50), ".t...", transitions.init_store(ROW, 10, 1, 50))
    batch, weight = read_one(store, 1, 3)
    assert batch.discount_t[0] == 0.0 and weight[0] == 1.0


def test_swallowed_rows_have_no_weight_and_are_not_folded_across():
    """Time 2 is the swallowed row after the end at time 1; it starts nothing, and nothing folds over it."""
    writer = Writer(0, 50)
    store = play(writer, ".T....", transitions.init_store(ROW, 10, 1, 50))
    assert [step.time for step in writer.episodes[1].steps] == [3, 4, 5]
    assert read_one(store, 2, 3)[1][0] == 0.0
    batch, weight = read_one(store, 0, 3)
    first = writer.episodes[0].steps
    np.testing.assert_allclose(batch.r_t[0], first[0].reward + GAMMA * first[1].reward, rtol=1e-6)
    assert weight[0] == 1.0 and batch.discount_t[0] == 0.0


def test_an_early_truncation_gets_weight_zero_not_a_wrong_observation():
    """Two cuts within one stated limit share a place: the earlier one is lost and says so; the later one is whole."""
    writer = Writer(0, 8)
    store = play(writer, ".c.c....", transitions.init_store(ROW, 16, 1, 8))
    assert read_one(store, 1, 1)[1][0] == 0.0
    assert read_one(store, 0, 2)[1][0] == 0.0
    assert read_one(store, 0, 1)[1][0] == 1.0  # its next observation is in the ring
    batch, weight = read_one(store, 3, 2)
    assert weight[0] == 1.0
    np.testing.assert_array_equal(batch.obs_t[0], pixels(writer.episodes[1].final_obs))
    weights = assert_equals_twin(store, [writer], 1, valid_only_weight=False)
    assert np.sum(weights == 0.0) == 1


def test_a_limit_of_one_holds_every_truncation():
    """Where nothing is known of the environment, every step may be cut."""
    writer = Writer(0, 1)
    store = play(writer, "." * 20, transitions.init_store(ROW, 6, 1, 1))
    assert np.all(assert_equals_twin(store, [writer], 2) == 1.0)


def test_the_side_store_has_a_place_for_every_truncation_held():
    """The tightest case: cuts at times 2 and 9, a limit of 3 and 8 rows touch four blocks of 3, 0 … 3."""
    writer = Writer(0, 3)
    store = play(writer, "...t......", transitions.init_store(ROW, 8, 1, 3))
    assert [episode.steps[-1].time for episode in writer.episodes if episode.end == "truncated"] == [2, 6, 9]
    assert np.all(assert_equals_twin(store, [writer], 1) == 1.0)


def test_each_observation_is_stored_once():
    """Apart from the final observations of truncations (here at most 1 in 100) the pixels are there once, as uint8."""
    row = dataclasses.replace(
        ROW, obs=jax.ShapeDtypeStruct((10, 10, 4), jnp.uint8), final_obs=jax.ShapeDtypeStruct((10, 10, 4), jnp.uint8)
    )
    store = jax.eval_shape(lambda: transitions.init_store(row, 1_000, 2, 100))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(store))
    once = 1_000 * 2 * 400
    assert once < size < 1.06 * once
    assert store.final_obs.dtype == jnp.uint8


@pytest.mark.usual_compilation
def test_a_donated_write_is_in_place():
    """Writing one step copies neither ring nor side store."""
    store = jax.eval_shape(lambda: transitions.init_store(ROW, 100_000, 4, 10))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(store))
    rows = stack_rows([[Writer(w, 10).step(False, False) for w in range(4)]])
    memory = jax.jit(transitions.add_steps, donate_argnums=0).lower(store, rows).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= size and memory.temp_size_in_bytes < 10_000


def half_valid_store():
    """Two writers whose every other row is swallowed: each step terminates, and the next row is no transition."""
    twins = [Writer(w, 50) for w in range(2)]
    rows = [[twin.step(terminate=True, swallow=True) for twin in twins] for _ in range(40)]
    return jit_add(transitions.init_store(ROW, 40, 2, 50), stack_rows(rows))


def test_invalid_rows_are_drawn_only_when_all_draws_fail():
    """With half of the rows invalid, 8 draws leave 1 in 256 starts with weight 0 and sample the others uniformly.

    Of 20 000 starts 78 ± 9 are invalid; outside 25 to 145 with probability 1e-8. χ² as above, 1e-5.
    """
    store, n = half_valid_store(), 2
    sample = jax.jit(sample_valid_starts, static_argnums=(2, 3, 4, 5))
    times, writers = jax.device_get(sample(jax.random.key(0), store.ring, 20_000, n, 0, 8))
    valid = np.asarray(store.ring.rows.valid)[times, writers]
    assert 25 < np.sum(~valid) < 145
    _, weight = jit_read(store, times, writers, n, GAMMA)
    np.testing.assert_array_equal(weight, valid.astype(np.float32))
    counts = np.bincount((times * 2 + writers)[valid], minlength=2 * 38)
    counts = counts[np.asarray(store.ring.rows.valid)[:38].ravel()]
    expected = counts.sum() / len(counts)
    assert chi2.sf(np.sum((counts - expected) ** 2 / expected), len(counts) - 1) > 1e-5


@pytest.mark.parametrize("every_row_valid", [False, True])
def test_uniform_replay(every_row_valid):
    """The record of functions: shapes, weights of one, a γ that is a hyper, and an update that changes nothing."""
    replay = uniform(transitions.transition_store(40, 2, 3, 5, every_row_valid), 16)
    twins = [Writer(w, 5) for w in range(2)]
    rows = stack_rows([[twin.step(False, False) for twin in twins] for _ in range(30)])
    memory = jax.jit(lambda rows: replay.add(replay.init(ROW), rows))(rows)
    batch, index, weight = jax.jit(replay.sample)(memory, jax.random.key(0), Hypers(gamma=0.0))
    assert batch.obs_tm1.shape == batch.obs_t.shape == (16, 2)
    assert batch.a_tm1.shape == batch.r_t.shape == batch.discount_t.shape == weight.shape == (16,)
    np.testing.assert_array_equal(weight, 1.0)
    np.testing.assert_array_equal(batch.discount_t, 0.0)
    np.testing.assert_allclose(batch.r_t, rows.reward[tuple(map(np.asarray, index))], rtol=1e-6)
    assert replay.update(memory, index, np.ones(16, np.float32), Hypers()) is memory


@pytest.mark.usefixtures("strict_ranks")
def test_no_rank_promotion():
    """Whoever adds [B, 1] and [n] without saying so raises under this fixture."""
    _, weight = read_one(play(Writer(0, 3), ".....", transitions.init_store(ROW, 11, 1, 3)), 1, 2)
    assert weight.tolist() == [1.0]


@functools.cache
def read_back(n, annealed=False):
    """(rows, times, writers, h) -> what a store of n-step folds reads when it holds these rows, in one program."""
    store = transitions.transition_store(40, 2, n, 5, True, annealed=annealed)
    return jax.jit(lambda rows, *drawn: store.read(store.add(store.init(ROW), rows), *drawn))


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_an_annealed_fold_is_that_of_a_store_of_fewer_steps(n):
    """Of 4 steps at most, with terminations and time limits within them; a larger number changes nothing."""
    rng, twins = np.random.default_rng(n), [Writer(w, 5) for w in range(2)]
    rows = stack_rows([[twin.step(rng.random() < 0.2, False) for twin in twins] for _ in range(40)])
    times, writers = (x.ravel().astype(np.int32) for x in np.mgrid[0:36, 0:2])
    found = read_back(4, annealed=True)(rows, times, writers, Hypers(gamma=GAMMA, n_step_final=n))
    expected = read_back(min(n, 4))(rows, times, writers, Hypers(gamma=GAMMA))
    # Powers of γ and sums of rewards may be rounded differently in windows of another length.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), found, expected)
