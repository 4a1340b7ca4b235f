"""Minari's format by its own library, there and back; skipped where the extra minari is not installed."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from purejaxdqn.config import SettingError
from purejaxdqn.envs.names import make_env
from purejaxdqn.replay.dataset import Dataset, read_dataset, write_dataset

minari = pytest.importorskip("minari", reason="the extra minari is not installed")
from purejaxdqn.replay.minari import minari_to_npz, npz_to_minari  # noqa: E402

LENGTHS = (5, 1, 7)
ENDS = ("terminated", "truncated", "terminated")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Minari keeps its datasets in a folder of the test's."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)


PAGE = Path(__file__).parents[2] / "docs" / "offline.md"


def make(env, observe, **changes):
    """A file d.npz of three episodes, and what is in it; observe(rng, count) -> a tree [count, ...]."""
    spec, rng, count = make_env(env).spec, np.random.default_rng(0), sum(LENGTHS)
    last = np.cumsum(LENGTHS) - 1
    ends = {name: np.isin(np.arange(count), last[[end == name for end in ENDS]]) for name in set(ENDS)}
    dataset = Dataset(
        obs=observe(rng, count),
        action=rng.integers(0, spec.num_actions, count).astype(np.int32),
        reward=rng.normal(size=count).astype(np.float32),
        **ends,
        episode_start=np.append(0, last[:-1] + 1).astype(np.int64),
        episode_seed=np.zeros(3, np.int64),
        episode_whole=np.ones(3, bool),
        final_obs=observe(rng, 3),
        final_known=np.ones(3, bool),
    )._replace(**changes)
    write_dataset(Path("d.npz"), dataset, spec)
    return dataset, spec


def bits(rng, count):
    """Observations of BitFlip."""
    flat = rng.integers(0, 2, (count, 15)).astype(bool)
    return {"observation": flat, "achieved_goal": flat, "desired_goal": ~flat}


def cells(rng, count):
    """Observations of GoalGrid: numbers of kinds."""
    names = ("observation", "achieved_goal", "desired_goal")
    return {name: rng.integers(0, 121, count).astype(np.int32) for name in names}


def numbers(rng, count):
    """Observations of CartPole."""
    return rng.normal(size=(count, 4)).astype(np.float32)


def same(one, other):
    """Whether all columns are equal, and of the same types."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("env", "observe"), [("CartPole-v1", numbers), ("BitFlip", bits), ("GoalGrid", cells)])
def test_there_and_back_nothing_is_lost(env, observe):
    dataset, spec = make(env, observe)
    written = npz_to_minari("d.npz", "ours/mixed-v0", env, description="a test")
    assert (written.total_episodes, written.total_steps) == (3, 13) and written.action_space.n == spec.num_actions
    first = next(iter(minari.load_dataset("ours/mixed-v0").iterate_episodes()))
    assert first.terminations.tolist() == [False] * 4 + [True] and len(first.actions) == 5
    assert same(minari_to_npz("ours/mixed-v0", "back.npz", env), dataset)
    assert same(read_dataset("back.npz", spec), dataset)


def test_the_page_is_true(tmp_path):
    """Its block, as it stands, of a file that it names."""
    dataset, _ = make("CartPole-v1", numbers)
    (tmp_path / "d.npz").rename("medium.npz")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (block,) = [code for code in blocks if "minari" in code]
    exec(block, {})
    assert same(read_dataset("again.npz", make_env("CartPole-v1").spec), dataset)


def test_what_does_not_fit_is_one_sentence(tmp_path):
    make("CartPole-v1", numbers)
    npz_to_minari("d.npz", "ours/mixed-v0", "CartPole-v1")
    for call, says in (
        (("mixed", "x.npz", "Acrobot-v1"), r"its actions are Discrete\(2\), and Acrobot-v1 has Discrete\(3\)"),
        (("mixed", "x.npz", "DeepSea-bsuite"), "its observations are"),
        (("none", "x.npz", "CartPole-v1"), "it is not here: get it by `minari download`"),
        (("mixed", "x.pkl", "CartPole-v1"), r"name a file that ends in .npz"),
    ):
        with pytest.raises(SettingError, match=says):
            minari_to_npz(f"ours/{call[0]}-v0", *call[1:])
    make("CartPole-v1", numbers, final_known=np.array([False, True, True]))
    with pytest.raises(SettingError, match="it lacks observations after terminations"):
        npz_to_minari("d.npz", "ours/other-v0", "CartPole-v1")
    assert not (tmp_path / "x.npz").exists()
