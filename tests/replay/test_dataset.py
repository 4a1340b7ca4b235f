"""Datasets: what is written is read, what is damaged or foreign is refused, and steps are held as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxdqn.config import EnvSpec, SettingError
from purejaxdqn.replay.dataset import Dataset, check_path, join, read_dataset, steps_of, write_dataset
from purejaxdqn.replay.held import Held, held_store, hold, lend, mixed, rows_of
from purejaxdqn.replay.uniform import uniform
from purejaxdqn.types import Hypers

SPEC = EnvSpec("toy", 3, (2,), "float32", None, 10)
MASKED = SPEC._replace(masked=True, obs_shape={"b": (2,), "a": ()}, obs_dtype={"b": "float32", "a": "int32"})
ENDS = [(3, "terminated"), (1, "truncated"), (4, "truncated"), (2, "terminated")]


def toy(spec=SPEC, ends=ENDS, seed=0):
    """Episodes of given lengths and ends, whose every number is another."""
    count, episodes = sum(length for length, _ in ends), len(ends)
    rng = np.random.default_rng(seed)

    def obs(n, start):
        numbers = start + np.arange(n, dtype=np.float32)
        b = np.stack([numbers, -numbers], axis=1)
        return {"b": b, "a": numbers.astype(np.int32)} if spec.masked else b

    last = np.cumsum([length for length, _ in ends]) - 1
    terminated, truncated = np.zeros((2, count), bool)
    terminated[last] = [kind == "terminated" for _, kind in ends]
    truncated[last] = [kind == "truncated" for _, kind in ends]
    action = rng.integers(0, 3, count).astype(np.int32)
    mask = np.eye(3, dtype=bool)[action]
    return Dataset(
        obs=obs(count, 0),
        action=action,
        reward=rng.normal(size=count).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        episode_start=np.append(0, last[:-1] + 1),
        episode_seed=np.zeros(episodes, np.int64),
        episode_whole=np.ones(episodes, bool),
        final_obs=obs(episodes, 1_000),
        final_known=np.ones(episodes, bool),
        mask=mask if spec.masked else None,
        final_mask=np.ones((episodes, 3), bool) if spec.masked else None,
    )


@pytest.mark.parametrize("spec", [SPEC, MASKED], ids=["array", "tree"])
def test_what_is_written_is_read(spec, tmp_path):
    written = toy(spec)
    write_dataset(tmp_path / "d.npz", written, spec)
    read = read_dataset(str(tmp_path / "d.npz"), spec)
    jax.tree.map(np.testing.assert_array_equal, read, written)
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]
    with np.load(tmp_path / "d.npz", allow_pickle=False) as columns:
        assert ("obs/a" in columns.files) is spec.masked and str(columns["env"]) == "toy"


def test_returns_and_joining():
    one = toy()
    both = join([one, one])
    np.testing.assert_array_equal(both.episode_start, [0, 3, 4, 8, 10, 13, 14, 18])
    np.testing.assert_allclose(both.returns[0], one.reward[:3].sum(), rtol=1e-6)
    np.testing.assert_allclose(both.returns[4:], both.returns[:4])


BROKEN = {
    "action": (lambda d: d._replace(action=np.full_like(d.action, 3)), "has the action [3], and toy has 0 to 2"),
    "shape": (
        lambda d: d._replace(obs=d.obs[:, :1]),
        "its column obs is (10, 1) float32, and of toy it would be (10, 2)",
    ),
    "type": (lambda d: d._replace(reward=d.reward.astype(np.float64)), "its column reward is (10,) float64"),
    "length": (lambda d: d._replace(reward=d.reward[:-1]), "its column reward is (9,)"),
    "number": (lambda d: d._replace(reward=d.reward * np.nan), "its reward holds numbers that are not finite"),
    "start": (lambda d: d._replace(episode_start=d.episode_start[::-1].copy()), "episode_start is not 0 and then"),
    "ends": (lambda d: d._replace(terminated=np.zeros_like(d.terminated)), "its episodes do not end"),
    "cut": (lambda d: d._replace(final_known=np.zeros_like(d.final_known)), "lacks the last observation"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_dataset_that_does_not_fit_is_refused_in_a_sentence(name, tmp_path):
    change, words = BROKEN[name]
    write_dataset(tmp_path / "d.npz", change(toy()), SPEC)
    with pytest.raises(SettingError) as caught:
        read_dataset(str(tmp_path / "d.npz"), SPEC)
    assert words in str(caught.value) and caught.value.field == "dataset" and "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_and_never_anything_else(tmp_path_factory, data):
    """Cut anywhere, or with any byte changed: it is read as it was written, or refused."""
    path = tmp_path_factory.mktemp("damaged") / "d.npz"
    written = toy()
    write_dataset(path, written, SPEC)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        whole[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
    try:
        read = read_dataset(str(path), SPEC)
    except SettingError as error:
        assert error.field == "dataset"
    else:
        jax.tree.map(np.testing.assert_array_equal, read, written)


def test_what_is_no_dataset_and_what_holds_objects_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "objects.npz", action=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "other.npz", action=np.zeros(3))
    secret = bytearray((tmp_path / "other.npz").read_bytes())
    secret[secret.index(b"PK\1\2") + 8] |= 1  # its directory says that the part is encrypted
    (tmp_path / "secret.npz").write_bytes(secret)
    for name in ("text", "objects", "other", "secret", "none"):
        with pytest.raises(SettingError, match="dataset"):
            read_dataset(str(tmp_path / f"{name}.npz"), SPEC)
    for name, words in (("d.txt", "ends in .npz"), (str(tmp_path / "no" / "d.npz"), "does not exist")):
        with pytest.raises(SettingError, match=words):
            check_path("save_dataset", name)


def naive(dataset, n_step, gamma, index):
    """The n-step transition that starts at a step, by walking."""
    total, discount, i, last = 0.0, 1.0, index, set(dataset.last.tolist())
    for _ in range(n_step):
        total += discount * float(dataset.reward[i])
        discount *= gamma
        if i in last:
            episode = int(np.searchsorted(dataset.last, i))
            return total, 0.0 if dataset.terminated[i] else discount, dataset.final_obs[episode]
        i += 1
    return total, discount, dataset.obs[i]


@pytest.mark.parametrize(("ends", "n_step"), [(ENDS, 3), ([(1, "truncated"), (1, "truncated"), (5, "terminated")], 2)])
def test_every_step_starts_the_transition_that_walking_finds(ends, n_step):
    """All can be drawn, none crosses the end of an episode, and cut ones bootstrap from their last observation."""
    dataset = toy(ends=ends)
    steps = hold(rows_of(dataset), n_step)
    store, h = held_store(steps, n_step), Hypers(gamma=0.9).as_arrays()
    count = dataset.num_steps
    times = jnp.arange(count)
    lent = Held(jax.tree.map(jnp.asarray, steps))
    found, weight = jax.jit(store.read)(lent, times, jnp.zeros(count, jnp.int32), h)
    np.testing.assert_array_equal(weight, np.ones(count))
    for i in range(count):
        r, discount, obs = naive(dataset, n_step, 0.9, i)
        np.testing.assert_allclose(found.r_t[i], r, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.discount_t[i], discount, rtol=1e-5)
        if discount > 0:
            np.testing.assert_array_equal(found.obs_t[i], obs)
        np.testing.assert_array_equal(found.obs_tm1[i], dataset.obs[i])
    # Uniform replay draws every one of them, and nothing else.
    _, (drawn, _), weight = jax.jit(uniform(store, 64 * count).sample)(lent, jax.random.key(0), h)
    assert set(np.asarray(drawn).tolist()) == set(range(count)) and (weight == 1).all()


def test_a_mixed_batch_begins_with_the_own_and_ends_with_the_datasets():
    """Own rewards are all 100; whatever is drawn from either is the same as it would be alone."""
    own_data = toy()._replace(reward=np.full(10, 100, np.float32))
    steps = [hold(rows_of(d), 1) for d in (own_data, toy())]
    own, held = (uniform(held_store(s, 1), size) for s, size in zip(steps, (5, 3), strict=True))
    both, h = mixed(own, held), Hypers().as_arrays()
    memory = both.init(None)
    lent = memory._replace(
        own=lend(memory.own, jax.tree.map(jnp.asarray, steps[0])),
        held=lend(memory.held, jax.tree.map(jnp.asarray, steps[1])),
    )
    key = jax.random.key(1)
    batch, _, weight = jax.jit(both.sample)(lent, key, h)
    assert weight.shape == (8,) and (batch.r_t[:5] == 100).all() and (np.abs(batch.r_t[5:]) < 10).all()
    alone, _, _ = jax.jit(own.sample)(lent.own, key, h)
    np.testing.assert_array_equal(batch.obs_tm1[:5], alone.obs_tm1)


def test_rows_of_an_environment_become_episodes():
    """By hand: a fragment that ends, an episode whose row is no transition in between, and one still running.

    Row 3 is no transition (its observation is the last of the cut episode of rows 2), and row 6 is the newest: all
    that is known of it is that its observation follows row 5.
    """
    rows = {
        "obs": np.arange(7, dtype=np.float32)[:, None],
        "action": np.arange(7, dtype=np.int32),
        "reward": np.arange(7, dtype=np.float32),
        "terminated": np.array([0, 1, 0, 0, 0, 0, 0], bool),
        "truncated": np.zeros(7, bool),
        "valid": np.array([1, 1, 1, 0, 1, 1, 1], bool),
        "mask": None,
    }
    after = np.append(rows["obs"][1:], rows["obs"][-1:], axis=0)
    known = np.array([1, 0, 1, 1, 1, 1, 0], bool)
    found = steps_of(rows, after, known, None, seed=7, begins=False)
    np.testing.assert_array_equal(found.action, [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(found.episode_start, [0, 2, 3])
    np.testing.assert_array_equal(found.episode_whole, [False, True, True])
    np.testing.assert_array_equal(found.terminated, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(found.truncated, [0, 0, 1, 0, 1])
    np.testing.assert_array_equal(found.final_known, [False, True, True])
    # The terminated one's is not known, and repeats row 1's own.
    np.testing.assert_array_equal(found.final_obs[:, 0], [1, 3, 6])
    assert (found.episode_seed == 7).all()
    assert steps_of({**rows, "valid": np.zeros(7, bool)}, after, known, None, 0, True) is None
