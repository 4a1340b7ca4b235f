"""Runs with goals: lanes are solo runs, parts a whole; what is learnt of, recorded and resumed; the environments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_lines import refused
from doors import page_file
from programs import same_bits

from purejaxdqn import SettingError, batch_env, make_agent, train
from purejaxdqn.build import build
from purejaxdqn.config import Config
from purejaxdqn.envs.names import make_env
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.replay.dataset import read_dataset
from purejaxdqn.runs.checkpoint import load_checkpoint
from purejaxdqn.runs.folder import CHECKPOINTS
from purejaxdqn.types import Hypers

SMALL = {
    **{"env": "BitFlip", "env_params": {"bits": 4}, "num_envs": 4, "total_steps": 2_000, "buffer_size": 200},
    **{"batch_size": 8, "learning_starts": 40, "hidden": (8,), "hindsight": "future"},
}


def run(lanes, seeds, shares, *parts):
    """The last lane's state after some iterations."""
    h = lanes.put(repeat_hypers(Hypers(), len(seeds)).replace(hindsight_share=np.array(shares, np.float32)))
    state = lanes.init(lanes.put(seed_keys(seeds)), h)
    for n in parts:
        state, _ = lanes.iterate(state, h, n)
    return jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else leaf[-1], lanes.get(state))


@pytest.mark.long
@pytest.mark.exact_lanes
@pytest.mark.parametrize(
    "changes",
    [
        {"n_step": 2},
        {"hindsight": "final", "replay": "prioritized", "head": "quantile"},
        {"env": "GoalGrid", "env_params": {"size": 5}},
        {"normalize_reward": True, "anneal_horizon": True, "resets": True},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_lanes_of_one_program_are_solo_runs_and_parts_make_a_whole(changes):
    """Lane 1 of 2 with another share is the solo run; 12 iterations are 5 and 7; a share is of consequence."""
    agent = make_agent(Config(**SMALL | changes))
    pair, solo = make_lanes(agent, make_plan(agent, 2)), make_lanes(agent, make_plan(agent, 1))
    whole = run(solo, [1], [0.8], 12)
    assert same_bits(run(solo, [1], [0.8], 5, 7), whole)
    assert same_bits(run(pair, [0, 1], [0.0, 0.8], 12), whole)
    assert not same_bits(run(solo, [1], [0.1], 12).learner.params, whole.learner.params)


def step_by_hand(env, state, *actions):
    """Rows of one environment."""
    rows = []
    for action in actions:
        state, _, row = env.step(jax.random.key(1), state, jnp.array([action]))
        rows.append(jax.tree.map(lambda leaf: np.asarray(leaf)[0], row))
    return rows


def test_bits_are_flipped_until_they_are_the_goals():
    """From 0 0 0 0 to 1 0 0 1 by two flips, of which the last is worth 0 and ends it; no more than 4 are made."""
    env = make_env("BitFlip", (("bits", 4),))
    (held, _), _ = env.reset(jax.random.key(0), 1)
    held = jnp.zeros_like(held[0]).at[0, 1].set(jnp.array([True, False, False, True])), held[1]
    obs = {"observation": held[0][:, 0], "achieved_goal": held[0][:, 0], "desired_goal": held[0][:, 1]}
    state = held, obs
    rows = step_by_hand(env, state, 0, 3)
    assert [float(row.reward) for row in rows] == [-1.0, 0.0] and rows[1].terminated and not rows[0].terminated
    assert rows[1].final_obs["achieved_goal"].tolist() == [True, False, False, True]
    rows = step_by_hand(env, state, 1, 1, 2, 2)
    assert rows[3].truncated and not any(row.terminated for row in rows)
    firsts = jax.vmap(lambda key: env.reset(key, 1)[1])(jax.random.split(jax.random.key(2), 300))
    assert (firsts["achieved_goal"] != firsts["desired_goal"]).any(axis=-1).all(), "none begins at its goal"


def test_a_grid_has_walls_and_doors():
    """Size 5: rooms of 2 by 2, and doors in row 2 at columns 1 and 3. Down from (1, 1) is a door, then a room."""
    env = make_env("GoalGrid", (("size", 5), ("time_limit", 9)))
    at = lambda row, column: jnp.int32(5 * row + column)[None]  # noqa: E731
    place = jnp.array([[1, 1]], jnp.int32)
    obs = {"observation": at(1, 1), "achieved_goal": at(1, 1), "desired_goal": at(3, 1)}
    rows = step_by_hand(env, (((place, at(3, 1)), jnp.zeros(1, jnp.int32)), obs), 2, 1, 2)
    assert [int(row.final_obs["achieved_goal"]) for row in rows] == [11, 11, 16]
    assert [float(row.reward) for row in rows] == [-1.0, -1.0, 0.0] and rows[2].terminated
    rows = step_by_hand(env, (((jnp.array([[0, 0]], jnp.int32), at(3, 1)), jnp.zeros(1, jnp.int32)), obs), 0, 2, 2)
    assert [int(row.final_obs["achieved_goal"]) for row in rows] == [0, 5, 5], "the edge, a cell, and a wall"
    firsts = jax.vmap(lambda key: env.reset(key, 1)[1])(jax.random.split(jax.random.key(0), 400))
    cells = {5 * row + column for row in (0, 1, 3, 4) for column in (0, 1, 3, 4)}
    assert set(np.asarray(firsts["desired_goal"]).ravel()) == set(np.asarray(firsts["achieved_goal"]).ravel()) == cells
    assert (firsts["achieved_goal"] != firsts["desired_goal"]).all()


def of(**changes):
    """A `batch_env` of one number that counts up, and a goal of 3."""

    def seen(place):
        return {"achieved_goal": place / 8, "desired_goal": jnp.float32(3 / 8)}

    def step(key, place, action):
        return seen(place + 1), place + 1, jnp.where(place + 1 == 3, 0.0, -1.0), place + 1 == 3

    given = {"compute_reward": lambda a, d: jnp.where(a == d, 0.0, -1.0), "compute_terminated": lambda a, d: a == d}
    given |= {"step": step, "seen": seen} | changes
    seen_of, step = given.pop("seen"), given.pop("step")
    return batch_env(lambda key: (seen_of(jnp.float32(0)), jnp.float32(0)), step, num_actions=2, time_limit=5, **given)


def test_an_environments_goals_are_tried_before_anything_is_trained():
    assert of().goals is not None and of(compute_reward=None).goals is None
    for changes, says in (
        ({"compute_reward": lambda a, d: jnp.where(a == d, 1.0, -1.0)}, "another reward than its goals do"),
        ({"compute_terminated": lambda a, d: a >= d / 2}, "another terminated than its goals do"),
        ({"compute_reward": lambda a, d: jnp.stack([a, d])}, r"its reward of goals has the shape \(2,\)"),
        ({"compute_reward": lambda a, d: a["x"]}, "its reward of goals raised"),
    ):
        with pytest.raises(SettingError, match=says):
            of(**changes)
    # A termination that no goal explains is one all the same.
    assert of(compute_terminated=lambda a, d: jnp.bool_(False)).goals is not None
    with pytest.raises(SettingError, match="dicts with achieved_goal and desired_goal"):
        batch_env(
            lambda key: (jnp.zeros(2), jnp.zeros(2)),
            lambda key, state, action: (state, state, 0.0, False),
            num_actions=2,
            time_limit=5,
            compute_reward=lambda a, d: 0.0,
        )
    for name, value in (("bits", 0), ("bits", 5_000)):
        with pytest.raises(SettingError, match=r"env_params.bits"):
            make_env("BitFlip", ((name, value),))
    with pytest.raises(SettingError, match="use an odd number"):
        make_env("GoalGrid", (("size", 6),))


def test_the_pages_environment_learns_with_goals():
    names = {}
    exec(page_file("reach"), names)
    agent = make_agent(Config(**SMALL | {"env_params": ()}), env=names["make_env"](length=5))
    state = jax.jit(lambda key: agent.iterate(agent.init(key, Hypers()), Hypers(), 4)[0])(jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.params))


FLAGS = [
    *("--env", "BitFlip", "--env-params.bits", "4", "--num-envs", "4", "--buffer-size", "200", "--batch-size", "8"),
    *("--learning-starts", "40", "--hidden", "8", "--hindsight", "future", "--hindsight-share", "0.5"),
    *("--learning-rate-schedule", "constant", "--epsilon-schedule", "constant", "--eval-episodes", "2"),
    *("--no-compilation-cache", "--quiet"),
]


@pytest.mark.long
def test_a_run_goes_on_bit_for_bit_and_its_steps_are_recorded_as_they_were_played(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main([*FLAGS, "--total-steps", "240", "--out", "a", "--save-dataset", "a.npz"]) == 0
    assert train.main([*FLAGS, "--total-steps", "120", "--out", "b"]) == 0
    assert train.main(["--resume", "b", "--total-steps", "240", "--no-compilation-cache", "--quiet"]) == 0
    a, b = (load_checkpoint(tmp_path / name / CHECKPOINTS) for name in ("a", "b"))
    assert same_bits(a.state, b.state)
    found = read_dataset("a.npz", build(Config(env="BitFlip", env_params={"bits": 4})).env.spec)
    desired = found.obs["desired_goal"]
    assert (desired[1:] == desired[:-1])[~(found.terminated | found.truncated)[:-1]].all()
    assert "says nothing of goals" in refused(capsys, train.main, ["--env", "CartPole-v1", "--hindsight", "final"])
