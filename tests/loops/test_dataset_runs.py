"""The dataset learner and demonstrations in a run: lanes are solo runs, parts a whole, and no state holds the data."""

from pathlib import Path

import jax
import numpy as np
import pytest
from command_lines import refused
from programs import same_bits

from purejaxdqn import evaluate, train
from purejaxdqn.build import build
from purejaxdqn.config import Config, SettingError
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.replay.dataset import Dataset, read_dataset, write_dataset
from purejaxdqn.runs.checkpoint import load_checkpoint
from purejaxdqn.runs.fitted_q import fitted_q_evaluation
from purejaxdqn.runs.folder import CHECKPOINTS
from purejaxdqn.types import Hypers

EPISODES, LENGTH = 12, 25


@pytest.fixture(scope="module")
def file(tmp_path_factory, tiny_config):
    """A dataset of CartPole's shapes: every other episode is cut, the others terminate."""
    rng, count = np.random.default_rng(0), EPISODES * LENGTH
    ends = np.arange(count) % LENGTH == LENGTH - 1
    cut = ends & (np.arange(count) // LENGTH % 2 == 0)
    dataset = Dataset(
        obs=rng.normal(size=(count, 4)).astype(np.float32),
        action=rng.integers(0, 2, count).astype(np.int32),
        reward=np.ones(count, np.float32),
        terminated=ends & ~cut,
        truncated=cut,
        episode_start=np.arange(EPISODES) * LENGTH,
        episode_seed=np.zeros(EPISODES, np.int64),
        episode_whole=np.ones(EPISODES, bool),
        final_obs=rng.normal(size=(EPISODES, 4)).astype(np.float32),
        final_known=np.ones(EPISODES, bool),
    )
    path = tmp_path_factory.mktemp("dataset") / "cartpole.npz"
    write_dataset(path, dataset, build(tiny_config).env.spec)
    return str(path)


def offline(tiny_config, file, **changes):
    """Settings of the learner that has a dataset alone."""
    names = ("env", "batch_size", "n_step", "hidden", "loss")
    kept = {name: getattr(tiny_config, name) for name in names}
    return type(tiny_config)(**kept | {"learner": "dataset", "dataset": file, "total_steps": 100} | changes)


def run(lanes, seeds, weights, *parts):
    """The last lane's state after some iterations."""
    h = lanes.put(repeat_hypers(Hypers(), len(seeds)).replace(constraint_weight=np.array(weights, np.float32)))
    state = lanes.init(lanes.put(seed_keys(seeds)), h)
    for n in parts:
        state, metrics = lanes.iterate(state, h, n)
    assert np.isfinite(metrics.loss_sum).all() and (np.asarray(metrics.env_steps) == 0).all()
    return jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else leaf[-1], lanes.get(state))


CASES = [
    {"replay": "prioritized", "constraint": "cql", "updates_per_rollout": 2},
    pytest.param({"constraint": "cql", "head": "bcq"}, marks=pytest.mark.long),
    pytest.param({"constraint": "cql", "head": "iql", "loss": "squared"}, marks=pytest.mark.long),
    pytest.param(
        {"constraint": "cql", "head": "quantile", "backup": "munchausen", "loss": "squared"}, marks=pytest.mark.long
    ),
    pytest.param({"constraint": "cql", "ensemble": 3}, marks=pytest.mark.long),
]


@pytest.mark.parametrize("changes", CASES, ids=lambda changes: "-".join(map(str, changes.values())))
def test_lanes_of_one_program_are_solo_runs_and_parts_make_a_whole(changes, tiny_config, file):
    """Lane 1 of 2 with another α is the solo run; 20 iterations are 10 and 10; the data is in no state."""
    agent = make_agent(offline(tiny_config, file, **changes))
    pair, solo = make_lanes(agent, make_plan(agent, 2)), make_lanes(agent, make_plan(agent, 1))
    whole = run(solo, [1], [2.0], 20)
    assert same_bits(run(solo, [1], [2.0], 10, 10), whole)
    assert same_bits(run(pair, [0, 1], [0.5, 2.0], 20), whole)
    assert not same_bits(run(solo, [1], [0.5], 20), whole)
    assert whole.vector_steps.count == 20 and whole.learner.updates.count == 20 * changes.get("updates_per_rollout", 1)
    # Of 300 steps of 4 numbers there is none: at most a leaf of a tree for each.
    assert not any(leaf.shape[:1] == (300,) and leaf.ndim > 1 for leaf in jax.tree.leaves(whole.memory))
    assert sum(leaf.size for leaf in jax.tree.leaves(whole.memory)) < 2 * EPISODES * LENGTH


@pytest.mark.long
def test_vmapped_lanes_share_one_dataset_and_an_agents_own_functions_need_no_more_arguments(tiny_config, file):
    agent = make_agent(offline(tiny_config, file))
    state = jax.jit(agent.init)(jax.random.key(3), Hypers())
    alone, _ = jax.jit(agent.iterate)(state, Hypers(), 5)
    lanes = make_lanes(agent, make_plan(agent, 4, block=2))
    found = run(lanes, [0, 1, 2, 3], [1.0] * 4, 5)
    for a, b in zip(jax.tree.leaves(found.learner.params), jax.tree.leaves(alone.learner.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def demonstrated(tiny_config, file):
    return tiny_config.replace(dataset=file, demo_share=0.25, constraint="margin", replay="prioritized")


@pytest.mark.long
def test_demonstrations_in_a_run_on_the_device(tiny_config, file):
    """Lanes and parts as above; the run's own steps are in its state, the demonstrations are not."""
    agent = make_agent(demonstrated(tiny_config, file))
    pair, solo = make_lanes(agent, make_plan(agent, 2)), make_lanes(agent, make_plan(agent, 1))

    def own(lanes, seeds, weights, *parts):
        h = lanes.put(repeat_hypers(Hypers(), len(seeds)).replace(constraint_weight=np.array(weights, np.float32)))
        state = lanes.init(lanes.put(seed_keys(seeds)), h)
        for n in parts:
            state, _ = lanes.iterate(state, h, n)
        return jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else leaf[-1], lanes.get(state))

    whole = own(solo, [1], [2.0], 20)
    assert same_bits(own(solo, [1], [2.0], 10, 10), whole)
    assert same_bits(own(pair, [0, 1], [0.5, 2.0], 20), whole)
    assert not same_bits(own(solo, [1], [0.5], 20), whole)
    assert jax.tree.leaves(whole.memory.held) == [] and jax.tree.leaves(whole.memory.own) != []


def test_what_cannot_be_learnt_from_a_dataset_is_refused(tiny_config, file):
    """Each in one sentence, which names the setting."""
    base = offline(tiny_config, file)
    cases = [
        (lambda: base.replace(dataset=None), "dataset"),
        (lambda: base.replace(env="Acrobot-v1"), "dataset"),
        (lambda: base.replace(normalize_obs=True), "normalize_obs"),
        (lambda: base.replace(num_envs=3), "num_envs"),
        (lambda: base.replace(demo_share=0.5), "demo_share"),
        (lambda: base.replace(epsilon_schedule="constant"), "epsilon_schedule"),
        (lambda: tiny_config.replace(dataset=file), "dataset"),
        (lambda: tiny_config.replace(demo_share=0.5), "dataset"),
        (lambda: tiny_config.replace(constraint="cql"), "constraint"),
        (lambda: tiny_config.replace(bcq_threshold=0.5), "bcq_threshold"),
    ]
    for make, field in cases:
        with pytest.raises(SettingError) as caught:
            make_agent(make())
        assert caught.value.field == field and "\n" not in str(caught.value)


def test_fitted_q_evaluation_knows_the_better_of_two_policies(tiny_config, tmp_path):
    """One state, two actions: the first pays 1 and the second nothing; γ = 0.5, and an episode of 1 step.

    Always the first is worth 1, always the second 0.
    """
    count = 64
    dataset = Dataset(
        obs=np.eye(4, dtype=np.float32)[np.zeros(count, int)],
        action=np.arange(count, dtype=np.int32) % 2,
        reward=(np.arange(count) % 2 == 0).astype(np.float32),
        terminated=np.ones(count, bool),
        truncated=np.zeros(count, bool),
        episode_start=np.arange(count),
        episode_seed=np.zeros(count, np.int64),
        episode_whole=np.ones(count, bool),
        final_obs=np.zeros((count, 4), np.float32),
        final_known=np.ones(count, bool),
    )
    write_dataset(tmp_path / "bandit.npz", dataset, build(tiny_config).env.spec)
    always = {str(a): lambda obs, mask, a=a: np.full(len(obs), a) for a in (0, 1)}
    h = Hypers(gamma=0.5, learning_rate=1e-2, target_period=10)
    found = fitted_q_evaluation(tiny_config, always, str(tmp_path / "bandit.npz"), 300, h)
    assert abs(found["0"].value - 1) < 0.1 and abs(found["1"].value) < 0.1
    assert found["0"].agreement == found["1"].agreement == 0.5


TINY = [
    *("--env", "CartPole-v1", "--hidden", "8", "--batch-size", "8", "--eval-episodes", "2", "--quiet"),
    *("--no-compilation-cache", "--log-every", "40", "--eval-every", "40"),
]


def obeys_physics(found):
    """Whether a cart's next position is its position and a fiftieth of its speed, within and at the end of episodes."""
    inner, known = np.setdiff1d(np.arange(found.num_steps), found.last), found.final_known
    before = np.concatenate([found.obs[inner], found.obs[found.last[known]]])
    after = np.concatenate([found.obs[inner + 1], found.final_obs[known]])
    return len(before) > 100 and np.allclose(after[:, 0], before[:, 0] + 0.02 * before[:, 1], atol=1e-5)


ONLINE = ["--num-envs", "4", "--total-steps", "240", "--buffer-size", "200", "--learning-starts", "40"]


@pytest.mark.long
def test_a_run_its_dataset_and_a_run_on_that_by_the_command_line(tmp_path, monkeypatch, capsys):
    """Saved, learnt from, resumed as if nobody had stopped, evaluated and valued."""
    monkeypatch.chdir(tmp_path)
    assert train.main([*TINY, *ONLINE, "--seeds", "2", "--out", "own", "--save-dataset", "own.npz"]) == 0
    spec = build(Config(env="CartPole-v1")).env.spec
    found = read_dataset("own.npz", spec)
    # The newest 200 of 240 steps of each seed, of which an environment's newest one is only an observation.
    assert 2 * (200 - 4) <= found.num_steps <= 2 * 200 and set(found.episode_seed.tolist()) == {0, 1}
    assert obeys_physics(found)

    learn = [*TINY, "--learner", "dataset", "--dataset", "own.npz", "--constraint", "cql"]
    assert train.main([*learn, "--total-steps", "80", "--out", "whole"]) == 0
    assert train.main([*learn, "--total-steps", "40", "--learning-rate-schedule", "constant", "--out", "a"]) == 0
    assert train.main(["--resume", "a", "--total-steps", "80", "--quiet", "--no-compilation-cache"]) == 0
    assert train.main([*learn, "--total-steps", "80", "--learning-rate-schedule", "constant", "--out", "b"]) == 0
    a, b = (load_checkpoint(tmp_path / name / CHECKPOINTS) for name in ("a", "b"))
    assert same_bits(a.state, b.state)
    capsys.readouterr()
    assert evaluate.main(["whole", "--episodes", "3", "--save-dataset", "played.npz", "--json"]) == 0
    assert read_dataset("played.npz", spec).final_known.all()
    assert evaluate.main(["whole", "--fqe", "own.npz", "--fqe-updates", "5", "--json"]) == 0
    assert '"value"' in capsys.readouterr().out


@pytest.mark.long
def test_a_run_with_a_memory_is_recorded_and_played_but_not_valued(tmp_path, monkeypatch, capsys):
    """Its replay of windows lies over that of steps, and it plays step by step with what it carries."""
    monkeypatch.chdir(tmp_path)
    windows = ["--memory", "gru", "--memory-size", "4", "--burn-in", "2", "--unroll", "4", "--window-period", "2"]
    assert train.main([*TINY, *ONLINE, *windows, "--out", "own", "--save-dataset", "own.npz"]) == 0
    spec = build(Config(env="CartPole-v1")).env.spec
    found = read_dataset("own.npz", spec)
    assert 200 - 4 <= found.num_steps <= 200 and obeys_physics(found)
    assert evaluate.main(["own", "--episodes", "20", "--save-dataset", "played.npz", "--json"]) == 0
    assert obeys_physics(read_dataset("played.npz", spec))
    said = refused(capsys, evaluate.main, ["own", "--fqe", "own.npz"])
    assert "--fqe own.npz" in said and "memory needs whole episodes" in said


@pytest.mark.long
def test_a_run_on_the_host_keeps_its_steps_too(tmp_path, monkeypatch):
    """Of every episode the last observation is known there, also where it terminated."""
    monkeypatch.chdir(tmp_path)
    assert (
        train.main([*TINY, "--env", "gymnasium/CartPole-v1", *ONLINE, "--out", "own", "--save-dataset", "d.npz"]) == 0
    )
    spec = build(Config(env="gymnasium/CartPole-v1")).env.spec
    found = read_dataset("d.npz", spec)
    assert found.final_known.all() and obeys_physics(found) and found.terminated.any()


def test_what_is_wrong_with_a_dataset_is_said_in_a_sentence_and_nothing_is_made(tmp_path, monkeypatch, capsys, file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.npz").write_bytes(Path(file).read_bytes()[:-100])
    cut = [*TINY, "--learner", "dataset", "--dataset", "cut.npz", "--out", "never"]
    assert "--dataset cut.npz: it is damaged" in refused(capsys, train.main, cut)
    other = [*TINY, "--env", "Acrobot-v1", "--learner", "dataset", "--dataset", file, "--out", "never"]
    assert "of Acrobot-v1 it would be" in refused(capsys, train.main, other)
    stops = [*TINY, "--learner", "dataset", "--dataset", file, "--stop-at-return", "9", "--out", "never"]
    assert "without playing" in refused(capsys, train.main, stops)
    examined = [*TINY, "--learner", "dataset", "--dataset", file, "--doctor", "--out", "never"]
    assert "--doctor" in refused(capsys, train.main, examined)
    assert not (tmp_path / "never").exists()
    shaped = [*TINY, *ONLINE, "--reward-scale", "0.5", "--out", "never", "--save-dataset", "x.npz"]
    assert "--reward-scale" in refused(capsys, train.main, shaped)
