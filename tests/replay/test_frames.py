"""The ring of frames against a naive ring that keeps whole stacks of both observations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from purejaxdqn.config import EnvSpec
from purejaxdqn.observations.leaves import list_leaves
from purejaxdqn.replay.frames import FrameStore, frame_store
from purejaxdqn.replay.prioritized import prioritized
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Hypers, Row

pytestmark = pytest.mark.usefixtures("strict_ranks")

GAMMA = 0.9


def make_spec(stack, shape=(2, 2, 1), dtype="uint8"):
    """Pictures of 2 × 2 in one channel, stacked."""
    return EnvSpec("Scripted-v5", 3, (*shape[:-1], shape[-1] * stack), dtype, None, 1000, stack)


def example(spec):
    """A row of one environment, as shapes."""
    obs = jax.ShapeDtypeStruct(spec.obs_shape, jnp.dtype(spec.obs_dtype))
    number, flag = (jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.float32, jnp.bool_))
    return Row(obs, jax.ShapeDtypeStruct((), jnp.int32), number, flag, flag, obs, flag)


class Game:
    """One environment by the contract of the host: after an end, a step that is ignored and begins anew.

    A frame is the number of frames ever made, so that no two within 256 are alike and a wrong one shows.
    """

    def __init__(self, rng, spec):
        self.rng, self.spec = rng, spec
        self.made, self.over = int(rng.integers(256)), False
        self.stack = np.zeros(spec.obs_shape, spec.obs_dtype)
        self.begin()

    def frame(self):
        self.made += 1
        return np.full(list_leaves(self.spec)[0].frame_shape, self.made % 251, self.spec.obs_dtype)

    def push(self, frame):
        channels = frame.shape[-1]
        self.stack = np.concatenate([self.stack[..., channels:], frame], axis=-1)

    def begin(self):
        self.stack = np.concatenate([self.frame()] * self.spec.frame_stack, axis=-1)
        self.over = False

    def step(self, ends=0.1):
        """A row as a dict, of which `obs` and `next` are whole stacks."""
        row = {"obs": self.stack, "action": int(self.rng.integers(3)), "valid": not self.over}
        if self.over:
            self.begin()
            return row | {"reward": 0.0, "terminated": False, "truncated": False, "next": self.stack}
        self.push(self.frame())
        terminated, truncated = self.rng.random(2) < ends / 2
        self.over = bool(terminated or truncated)
        reward = float(self.rng.normal())
        return row | {
            "reward": reward,
            "terminated": bool(terminated),
            "truncated": bool(truncated and not terminated),
            "next": self.stack,
        }


def to_rows(steps):
    """`Row` [T, E] of lists of lists of dicts."""

    def field(name, dtype):
        return np.stack([np.stack([np.asarray(row[name], dtype) for row in step]) for step in steps])

    obs_dtype = steps[0][0]["obs"].dtype
    return Row(
        obs=field("obs", obs_dtype),
        action=field("action", np.int32),
        reward=field("reward", np.float32),
        terminated=field("terminated", bool),
        truncated=field("truncated", bool),
        final_obs=field("next", obs_dtype),
        valid=field("valid", bool),
    )


def naive(history, time, writer, n):
    """The n-step transition that starts at a row, from whole stacks."""
    total, discount = 0.0, 1.0
    for row in (history[time + i][writer] for i in range(n)):
        total += discount * row["reward"]
        discount *= GAMMA
        last = row
        if row["terminated"] or row["truncated"]:
            break
    return total, 0.0 if last["terminated"] else discount, last["next"]


@pytest.mark.parametrize(
    ("n", "num_envs"),
    [(1, 1), (3, 8), *(pytest.param(*case, marks=pytest.mark.long) for case in ((1, 8), (3, 1)))],
)
def test_equals_a_naive_ring_of_whole_stacks(n, num_envs):
    """25,000 random transitions for each of four shapes, over many turns of the ring, with random ends."""
    spec, capacity, batch = make_spec(4), 40, 500
    rng = np.random.default_rng(n * 10 + num_envs)
    store = frame_store(capacity, num_envs, n, spec)
    add, read = jax.jit(store.add, donate_argnums=0), jax.jit(store.read)
    games = [Game(rng, spec) for _ in range(num_envs)]
    kept, history, checked = store.init(example(spec)), [], 0
    for _ in range(50):
        new = [[game.step() for game in games] for _ in range(7)]
        history += new
        kept = add(kept, to_rows(new))
        oldest = max(0, len(history) - capacity)
        if len(history) < 14:
            continue
        times = rng.integers(oldest + spec.frame_stack - 1, len(history) - n, batch)
        writers = rng.integers(0, num_envs, batch)
        found, weight = jax.device_get(read(kept, times, writers, Hypers(gamma=GAMMA)))
        rows = [history[time][writer] for time, writer in zip(times, writers, strict=True)]
        valid = np.array([row["valid"] for row in rows])
        np.testing.assert_array_equal(weight, valid)
        starts = zip(times[valid], writers[valid], strict=True)
        totals, discounts, lasts = zip(*(naive(history, *start, n) for start in starts), strict=True)
        np.testing.assert_array_equal(found.obs_tm1[valid], [row["obs"] for row in rows if row["valid"]])
        np.testing.assert_array_equal(found.obs_t[valid], lasts)
        np.testing.assert_array_equal(found.a_tm1[valid], [row["action"] for row in rows if row["valid"]])
        np.testing.assert_allclose(found.r_t[valid], totals, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.discount_t[valid], discounts, rtol=1e-5, atol=1e-6)
        checked += valid.sum()
    assert checked > 20_000


def read_back(store, spec):
    """(rows, times, writers, h) -> what a store reads when it holds these rows, in one program."""
    return jax.jit(lambda rows, *drawn: store.read(store.add(store.init(example(spec)), rows), *drawn))


def test_takes_a_seventh_of_the_room():
    """Of 84 × 84 frames; a naive ring keeps eight of them a row. A million take 7.1 GB."""
    spec = make_spec(4, (84, 84, 1))
    kept = jax.eval_shape(lambda: frame_store(1_000_000, 1, 1, spec).init(example(spec)))
    size = sum(np.prod(leaf.shape, dtype=np.int64) * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    assert size * 7 <= 1_000_000 * 2 * 84 * 84 * 4
    assert 7.05e9 < size < 7.1e9


def test_an_episode_that_a_restart_cut_goes_no_further():
    """Rows 0 to 3 of one game, then a row that is no transition, then others': the fold stops at row 3."""
    spec = make_spec(2)
    game = Game(np.random.default_rng(0), spec)
    old = [[game.step(ends=0.0)] for _ in range(4)]
    gap = {**old[-1][0], "obs": game.stack, "valid": False, "reward": 0.0}
    other = Game(np.random.default_rng(1), spec)
    new = [[other.step(ends=0.0)] for _ in range(4)]
    store = frame_store(20, 1, 3, spec)
    times, writers = np.array([2, 4, 6], np.int32), np.zeros(3, np.int32)
    found, weight = read_back(store, spec)(to_rows([*old, [gap], *new]), times, writers, Hypers(gamma=GAMMA))
    np.testing.assert_array_equal(weight, [1.0, 0.0, 1.0])
    rewards = [step[0]["reward"] for step in old]
    np.testing.assert_allclose(found.r_t[0], rewards[2] + GAMMA * rewards[3], rtol=1e-6)
    np.testing.assert_allclose(found.discount_t[0], GAMMA**2, rtol=1e-6)
    np.testing.assert_array_equal(found.obs_t[0], gap["obs"])
    # The new game's second row still shows nothing of the old one's.
    np.testing.assert_array_equal(found.obs_tm1[2], new[1][0]["obs"])


@pytest.mark.parametrize(("shape", "dtype"), [((4,), "float32"), ((), "int32")])
def test_observations_that_are_no_pictures(shape, dtype):
    """A stack of 1 keeps any observation whole: vectors, and single numbers."""
    spec = EnvSpec("envpool/X", 2, shape, dtype, None, 100)
    store = frame_store(10, 2, 1, spec)
    obs = np.arange(12 * max(1, np.prod(shape, dtype=int))).reshape(6, 2, *shape).astype(dtype)
    no, yes = np.zeros((6, 2), bool), np.ones((6, 2), bool)
    rows = Row(obs, np.zeros((6, 2), np.int32), np.ones((6, 2), np.float32), no, no, obs, yes)
    times, writers = np.array([0, 3], np.int32), np.array([1, 0], np.int32)
    found, _ = read_back(store, spec)(rows, times, writers, Hypers(gamma=GAMMA))
    np.testing.assert_array_equal(found.obs_tm1, [obs[0, 1], obs[3, 0]])
    np.testing.assert_array_equal(found.obs_t, [obs[1, 1], obs[4, 0]])


@pytest.mark.parametrize(
    ("side", "stored"),
    [(40, (16, 128)), (32, (8, 128)), (31, (31 * 31,))],
)
def test_on_a_tpu_frames_are_whole_tiles(monkeypatch, side, stored):
    """1,600 numbers are two tiles of 8 lines of 128, 1,024 are one, and fewer stay flat; what is read is the same."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    spec = make_spec(2, (side, side, 1))
    obs = np.random.default_rng(0).integers(256, size=(6, 2, *spec.obs_shape)).astype(np.uint8)
    no, yes = np.zeros((6, 2), bool), np.ones((6, 2), bool)
    rows = Row(obs, np.zeros((6, 2), np.int32), np.ones((6, 2), np.float32), no, no, obs, yes)
    store = frame_store(10, 2, 1, spec)
    assert store.add(store.init(example(spec)), rows).ring.rows.frame.shape == (10, 2, *stored)
    times, writers = np.array([2, 3], np.int32), np.array([1, 0], np.int32)
    found, _ = read_back(store, spec)(rows, times, writers, Hypers(gamma=GAMMA))
    newest = obs[..., -1]
    np.testing.assert_array_equal(found.obs_tm1, [np.stack(newest[1:3, 1], -1), np.stack(newest[2:4, 0], -1)])
    np.testing.assert_array_equal(found.obs_t, [np.stack(newest[2:4, 1], -1), np.stack(newest[3:5, 0], -1)])


def play(replay, spec, num_envs, steps, seed=0):
    """A replay's memory after a number of vector steps, and all rows ever."""
    games = [Game(np.random.default_rng([seed, e]), spec) for e in range(num_envs)]
    history = [[game.step() for game in games] for _ in range(steps)]
    memory, add = jax.jit(lambda: replay.init(example(spec)))(), jax.jit(replay.add)
    for step in history:
        memory = add(memory, to_rows([step]))
    return memory, history


def drawable(history, capacity, n, stack):
    """(time, writer) of every row that may be drawn."""
    oldest = max(0, len(history) - capacity)
    times = range(oldest + stack - 1, len(history) - n)
    return {(t, e) for t in times for e, row in enumerate(history[t]) if row["valid"]}


@functools.cache
def replay_of(name, *shape):
    """A replay on a ring of frames, whose functions all cases share."""
    return {"uniform": uniform, "prioritized": prioritized}[name](frame_store(*shape), 20_000)


@pytest.mark.parametrize("steps", [25, 30, 31, 95])
@pytest.mark.parametrize("replay_name", ["uniform", "prioritized"])
def test_draws_every_row_that_it_may_and_no_other(replay_name, steps):
    """Before the ring is full, when it just is, and after; χ² of uniform draws with a false-alarm rate of 1e-5.

    The uniform replay draws an invalid row, with weight 0, where eight candidates were: here (1/7)⁸ of draws.
    """
    capacity, num_envs, n, spec = 30, 2, 3, make_spec(4)
    replay = replay_of(replay_name, capacity, num_envs, n, spec)
    memory, history = play(replay, spec, num_envs, steps)
    _, index, weight = jax.device_get(jax.jit(replay.sample)(memory, jax.random.key(steps), Hypers()))
    times, writers = index[0], index[1]
    drawn = list(zip(times[weight > 0].tolist(), writers[weight > 0].tolist(), strict=True))
    wanted = drawable(history, capacity, n, spec.frame_stack)
    assert set(drawn) == wanted
    if replay_name == "uniform":
        counts = np.unique(drawn, axis=0, return_counts=True)[1]
        expected = len(drawn) / len(wanted)
        assert chi2.sf(np.sum((counts - expected) ** 2) / expected, len(wanted) - 1) > 1e-5


@pytest.mark.usual_compilation
def test_writing_is_in_place():
    """A step written into a million frames, the ring donated, needs no scratch space for a copy of it."""
    spec = make_spec(4, (84, 84, 1))
    store = frame_store(125_000, 8, 3, spec)
    memory = jax.eval_shape(lambda: store.init(example(spec)))
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, 8, *leaf.shape), leaf.dtype), example(spec))
    found = jax.jit(store.add, donate_argnums=0).lower(memory, rows).compile().memory_analysis()
    assert found.alias_size_in_bytes > 7e9 and found.temp_size_in_bytes < 2e6
    assert isinstance(memory, FrameStore)


@functools.cache
def read_back_folds(n, annealed=False):
    """`read_back` of a store of n-step folds."""
    spec = make_spec(2)
    return read_back(frame_store(60, 4, n, spec, annealed=annealed), spec)


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_an_annealed_fold_is_that_of_a_store_of_fewer_steps(n):
    """Of 4 steps at most, for every start of four games with random ends; a larger number changes nothing."""
    spec, rng = make_spec(2), np.random.default_rng(n)
    games = [Game(rng, spec) for _ in range(4)]
    rows = to_rows([[game.step(ends=0.2) for game in games] for _ in range(60)])
    times, writers = (x.ravel().astype(np.int32) for x in np.mgrid[1:56, 0:4])
    found = read_back_folds(4, annealed=True)(rows, times, writers, Hypers(gamma=GAMMA, n_step_final=n))
    expected = read_back_folds(min(n, 4))(rows, times, writers, Hypers(gamma=GAMMA))
    # Powers of γ and sums of rewards may be rounded differently in windows of another length.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), found, expected)
