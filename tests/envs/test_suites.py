"""Suites of environments in JAX: what they share, and step by step what each one's own API gives.

A suite's tests are skipped where it is not installed: `make test-suites` makes an environment for each and runs them.
"""

import importlib
import sys
import tomllib
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_lines import refused
from doors import SMALL
from programs import same_bits

from purejaxdqn import Config, Hypers, SettingError, check_env, evaluate, load_policy, make_agent, train
from purejaxdqn.build import build_env
from purejaxdqn.envs import suites
from purejaxdqn.envs.interface import JAX_PREFIXES
from purejaxdqn.envs.names import env_settings, loop_of, suite_of
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.machine.random_bits import random_actions
from purejaxdqn.observations.leaves import plain
from purejaxdqn.types import Row

NAMES = [prefix.rstrip("/") for prefix in JAX_PREFIXES]
NEVER = 2**31 - 1
MOST_MEMORY = 3 * 2**30
"""Not in `make test`: to compile one program of octax alone took 2.04 GiB."""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def fake(monkeypatch):
    """A suite of two walks, whose states keep the keys that they are given, in the place of pgx."""

    def make(name, length=4, speed=1.0):
        def reset(key):
            return jnp.float32(0), {"key": key, "place": jnp.float32(0)}

        def step(key, state, action):
            place = state["place"] + speed * action
            return place, {"key": key, "place": place}, place, place >= length

        return {"reset": reset, "step": step, "num_actions": 2, "time_limit": 9}

    module = SimpleNamespace(
        names=lambda: ["Walk-v0", "Run-v0"], settings=lambda name: {"length": 4, "speed": 1.0}, make=make
    )
    monkeypatch.setitem(sys.modules, "pgx", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "purejaxdqn.envs.pgx", module)
    suites.make_env.cache_clear()
    yield module
    suites.make_env.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_that_is_not_installed_is_named_with_its_extra(name, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    suites.make_env.cache_clear()
    env_id = f"{name}/Anything-v0"
    assert suite_of(env_id) == "suites" and loop_of(env_id) == "device"
    said = refused(capsys, train.main, ["--env", env_id])
    assert f"--env {env_id}" in said and f"install purejaxdqn[{name}]" in said


def test_the_extras_are_the_suites():
    """Each has an extra of its name, and that a lock."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name in NAMES:
        assert any(wanted.startswith(name) for wanted in extras[name])
        assert f"\n{name}==" in (ROOT / "requirements" / f"lock-{name}.txt").read_text(encoding="utf-8").lower()


def test_an_environment_is_made_once_with_its_settings(fake):
    """At speed 2 it is over with the second step; by default a walk takes four."""
    assert env_settings("pgx/Walk-v0") == {"length": 4, "speed": 1.0}
    env = build_env(Config(env="pgx/Walk-v0", env_params={"speed": 2.0}))
    assert env is build_env(Config(env="pgx/Walk-v0", env_params={"speed": 2.0}))
    state, _ = env.reset(jax.random.key(0), 1)
    ends = []
    for _ in range(4):
        state, _, row = env.step(jax.random.key(1), state, jnp.array([1]))
        ends.append(bool(row.terminated[0]))
    assert ends == [False, True, False, True]
    assert (env.spec.env_id, env.spec.own_loop, env.spec.time_limit) == ("pgx/Walk-v0", None, 9)


def test_its_states_may_keep_keys(fake):
    """They are words, so that they can be saved."""
    env = build_env(Config(env="pgx/Walk-v0"))
    state, _ = env.reset(jax.random.key(0), 2)
    kept = state[0][0]["key"]
    assert kept.dtype == jnp.uint32 and kept.shape == (2, 2)
    expected = jax.random.key_data(jax.random.split(jax.random.key(0), 2))
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize(
    ("env_id", "params", "words"),
    [
        ("pgx/Wlak-v0", {}, "no such environment; the nearest names are pgx/Walk-v0"),
        ("pgx/", {}, "no such environment; the nearest names are pgx/"),
        ("pgx/Walk-v0", {"size": 3}, "pgx/Walk-v0 has no such parameter; it has length, speed"),
        ("pgx/Walk-v0", {"length": 2.5}, "whole number"),
        ("Walk-v0", {}, "no such environment"),
    ],
)
def test_what_a_suite_does_not_have_is_a_sentence(fake, env_id, params, words):
    with pytest.raises(SettingError, match=words):
        build_env(Config(env=env_id, env_params=params))


def test_what_a_suite_raises_is_a_sentence(fake):
    def broken(name, **given):
        raise FileNotFoundError("no such game on this disk")

    fake.make = broken
    with pytest.raises(SettingError, match=r"pgx/Run-v0.*its suite raised FileNotFoundError: no such game"):
        build_env(Config(env="pgx/Run-v0"))


# ------------------------------------------------------------------------------------------------- Each suite's own API


def of_pgx(name):
    """(reset, step) by pgx alone; `step` gives obs, state, reward, done, and whether it terminated, if that is told."""
    env = importlib.import_module("pgx").make(name)

    def reset(key):
        state = env.init(key)
        return state.observation, state

    def step(key, state, action):
        state = env.step(state, action, key)
        return state.observation, state, state.rewards[0], state.terminated, None

    return reset, step


def of_jumanji(name, **options):
    """By Jumanji alone, with its own time limit."""
    env = importlib.import_module("jumanji").make(name, **options)

    def reset(key):
        state, timestep = env.reset(key)
        return timestep.observation, state

    def step(key, state, action):
        state, timestep = env.step(state, action)
        return timestep.observation, state, timestep.reward, timestep.last(), None

    return reset, step


def of_xminigrid(name, **options):
    """By XLand-MiniGrid alone."""
    env, params = importlib.import_module("xminigrid").make(name, **options)

    def reset(key):
        timestep = env.reset(params, key)
        return timestep.observation, timestep

    def step(key, timestep, action):
        timestep = env.step(params, timestep, action)
        return timestep.observation, timestep, timestep.reward, timestep.last(), timestep.discount == 0

    return reset, step


def of_craftax(name, **options):
    """By Craftax alone, with its own time limit."""
    env = importlib.import_module("craftax.craftax_env").make_craftax_env_from_name(name, auto_reset=False)
    params = env.default_params.replace(**options)

    def step(key, state, action):
        return *env.step(key, state, action, params)[:4], None

    return lambda key: env.reset(key, params), step


def of_navix(name, **options):
    """By Navix alone; its `step` would reset in the one after an episode's last, which never comes here."""
    env = importlib.import_module("navix").make(name, **options)

    def reset(key):
        timestep = env.reset(key)
        return timestep.observation, timestep

    def step(key, timestep, action):
        timestep = env.step(timestep, action)
        return timestep.observation, timestep, timestep.reward, timestep.is_done(), timestep.is_termination()

    return reset, step


def of_octax(name, **options):
    """By Octax alone."""
    env, _ = importlib.import_module("octax.environments").create_environment(name, **options)

    def reset(key):
        state, obs, _ = env.reset(key)
        return obs, state

    def step(key, state, action):
        state, obs, reward, terminated, truncated, _ = env.step(state, action)
        return obs, state, reward, terminated | truncated, terminated

    return reset, step


def without_mask(obs):
    """A plain dict of Jumanji's observation but the mask."""
    return {name: leaf for name, leaf in plain(obs).items() if name != "action_mask"}


class Case(NamedTuple):
    """An environment of a suite, and what is known of it."""

    env_id: str
    num_actions: int
    obs_shape: Any
    obs_dtype: Any
    num_obs_values: Any = None
    obs_scale: Any = None
    masked: bool = False
    time_limit: int = NEVER
    params: Any = MappingProxyType({})
    """Settings, the same here and in the suite's own call."""
    steps: int = 400
    """Random steps to play."""
    ends: str = "both"
    """Kinds of ends that these have: both, terminations or truncations."""
    view: Any = plain
    """The suite's observation -> ours."""
    action_sizes: Any = None

    @property
    def suite(self):
        return self.env_id.split("/")[0]


CASES = [
    Case("pgx/2048", 4, (4, 4, 31), "bool", masked=True, steps=600, ends="terminations"),
    Case("pgx/minatar-breakout", 3, (10, 10, 4), "bool", steps=200, ends="terminations"),
    Case("pgx/minatar-freeway", 3, (10, 10, 7), "bool", time_limit=2_501, steps=5_100, ends="truncations"),
    Case(
        "jumanji/Snake-v1",
        4,
        {"grid": (5, 5, 5), "step_count": ()},
        {"grid": "float32", "step_count": "int32"},
        {"grid": None, "step_count": None},
        {"grid": None, "step_count": 149.0},
        masked=True,
        time_limit=150,
        params={"num_rows": 5, "num_cols": 5, "time_limit": 150},
        steps=4_000,
        view=without_mask,
    ),
    Case(
        "jumanji/Minesweeper-v0",
        100,
        {"board": (10, 10), "num_mines": (), "step_count": ()},
        {"board": "int32", "num_mines": "int32", "step_count": "int32"},
        {"board": 10, "num_mines": None, "step_count": None},
        {"board": None, "num_mines": 99.0, "step_count": 90.0},
        masked=True,
        ends="terminations",
        # An unexplored square is -1 there.
        view=lambda obs: without_mask(obs) | {"board": obs.board + 1},
        action_sizes=(10, 10),
    ),
    Case(
        "jumanji/RubiksCube-partly-scrambled-v0",
        18,
        {"cube": (6, 3, 3), "step_count": ()},
        {"cube": "int8", "step_count": "int32"},
        {"cube": 6, "step_count": 21},
        {"cube": None, "step_count": None},
        time_limit=20,
        ends="truncations",
        view=without_mask,
        action_sizes=(6, 1, 3),
    ),
    Case(
        "xminigrid/MiniGrid-EmptyRandom-5x5",
        6,
        (7, 7, 2),
        "uint8",
        13,
        time_limit=20,
        params={"max_steps": 20},
    ),
    Case(
        "craftax/Craftax-Classic-Symbolic-v1",
        17,
        (1345,),
        "float32",
        time_limit=120,
        params={"max_timesteps": 120},
        steps=1_000,
    ),
    Case("navix/Navix-Empty-Random-5x5-v0", 7, (5, 5, 3), "uint8", 11, time_limit=20, params={"max_steps": 20}),
    Case(
        "octax/brix",
        3,
        (32, 64, 4),
        "bool",
        time_limit=30,
        params={"max_num_steps_per_episodes": 30},
        steps=1_000,
        view=lambda frames: jnp.moveaxis(jnp.swapaxes(frames, -1, -2), -3, -1),
    ),
]
"""The settings are such that both kinds of ends come soon."""


def made(case):
    """Our environment; the test is skipped where the suite is not there."""
    pytest.importorskip(case.suite)
    return build_env(Config(env=case.env_id, env_params=case.params))


@in_usual_modes
def play(env, steps):
    """Random legal actions in one environment: rows and next observations [T, 1, ...], and the keys of all that."""

    def step(state, keys):
        action = random_actions(keys[0], 1, env.spec.num_actions, env.mask(state))
        state, obs, row = env.step(keys[1], state, action)
        return state, (row, obs)

    @jax.jit
    def run(key, keys):
        state, first = env.reset(key, 1)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)
        return first, jax.lax.scan(step, state, keys)[1]

    key, keys = jax.random.key(0), jax.random.split(jax.random.key(1), (steps, 2))
    first, (rows, after) = jax.device_get(run(key, keys))
    return first, rows, after, (key, keys[:, 1])


@in_usual_modes
def play_theirs(case, actions, keys):
    """The same actions and keys by the suite's own functions, reset where it says that an episode is done."""
    reset, step = globals()[f"of_{case.suite}"](case.env_id.split("/")[1], **case.params)
    words = jax.random.key_data
    first_key, step_keys = keys

    def strong(tree):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), tree)

    def both(state, given):
        key, action = given
        step_key, reset_key = jax.random.split(jax.random.split(key, 1)[0])
        obs, state, reward, done, terminated = step(words(step_key), state, action)
        state = jax.lax.cond(done, lambda: strong(reset(words(reset_key))[1]), lambda: strong(state))
        return state, (obs, reward, done, terminated)

    @jax.jit
    def run():
        obs, state = reset(words(jax.random.split(first_key, 1)[0]))
        parts = actions if case.action_sizes is None else jnp.stack(jnp.unravel_index(actions, case.action_sizes), -1)
        return obs, jax.lax.scan(both, strong(state), (step_keys, parts))[1]

    return jax.device_get(run())


def check_alike(mine, theirs):
    """Equal trees of arrays; of floats the last bits may differ, as another program has other roundings."""
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=0, atol=1e-6)


def episode_steps(over):
    """Which step of its episode each step is, from 1 on."""
    count, found = 0, []
    for ended in over:
        count += 1
        found.append(count)
        count = 0 if ended else count
    return np.array(found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.env_id)
def test_its_description(case):
    spec = made(case).spec
    assert spec.env_id == case.env_id and spec.own_loop is None
    facts = set(case._fields) & set(spec._fields)
    assert len(facts) == 9 and {name: getattr(spec, name) for name in facts} == {
        name: getattr(case, name) for name in facts
    }
    assert loop_of(case.env_id) == "device"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.env_id)
def test_it_is_step_by_step_what_the_suites_own_functions_give(case):
    """Rewards, ends of both kinds, and every observation, of episodes' last steps too."""
    env = made(case)
    first, rows, after, keys = play(env, case.steps)
    theirs_first, (obs, reward, done, terminated) = play_theirs(case, rows.action[:, 0], keys)
    mine: Row = jax.tree.map(lambda leaf: leaf[:, 0], rows)
    over = mine.terminated | mine.truncated
    np.testing.assert_array_equal(over, done)
    np.testing.assert_array_equal(mine.reward, reward)
    check_alike(jax.tree.map(lambda leaf: leaf[0], first), case.view(theirs_first))
    check_alike(mine.final_obs, jax.vmap(case.view)(obs))
    assert not (mine.terminated & mine.truncated).any()
    np.testing.assert_array_equal(mine.truncated, (episode_steps(over) == case.time_limit) & ~mine.terminated)
    if terminated is not None:
        np.testing.assert_array_equal(mine.terminated, terminated & done)
    kinds = {"terminations": mine.terminated.any(), "truncations": mine.truncated.any()}
    assert kinds == {kind: case.ends in ("both", kind) for kind in kinds}
    # What is acted on after an end is of a fresh episode.
    assert same_bits(jax.tree.map(lambda leaf: leaf[1:], mine.obs), jax.tree.map(lambda leaf: leaf[:-1, 0], after))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.env_id)
def test_nothing_is_wrong_with_it(case):
    pytest.importorskip(case.suite)
    alarms = [finding.sentence() for finding in check_env(made(case)) if finding.severity == "alarm"]
    assert alarms == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.env_id)
def test_2000_steps_of_training(case):
    """By the default agent, small; actions in the replay are legal ones."""
    made(case)
    config = Config(
        env=case.env_id,
        env_params=case.params,
        num_envs=8,
        total_steps=2_000,
        buffer_size=2_000,
        batch_size=8,
        learning_starts=200,
        hidden=(16,),
    )
    agent = make_agent(config)
    state = jax.jit(agent.init)(jax.random.key(0), Hypers())
    state, metrics = jax.jit(agent.iterate)(state, Hypers(), config.num_iterations)
    assert int(metrics.updates) > 100
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.learner.params, metrics.loss_sum)))
    if case.masked:
        ring = getattr(state.memory, "store", state.memory).ring
        rows = jax.tree.map(lambda leaf: np.asarray(leaf)[: int(ring.size)], ring.rows)
        assert np.take_along_axis(rows.mask, rows.action[..., None].astype(int), axis=-1).all()
        assert not rows.mask.all()


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("pgx/go_9x9", "for 2 players"),
        ("pgx/sparrow_mahjong", "for 3 players"),
        ("pgx/2049", "nearest names are pgx/2048"),
        ("jumanji/SearchAndRescue-v0", "its actions are a BoundedArray"),
        ("jumanji/Connector-v3", "its rewards"),
        ("jumanji/JobShop-v0", "combinations"),
        ("jumanji/Snake-v9", "nearest names are jumanji/Snake-v1"),
        ("xminigrid/XLand-MiniGrid-R1-9x9", "by its id it has no goal"),
        ("xminigrid/MiniGrid-Empty-5", "nearest names are xminigrid/MiniGrid-Empty-5x5"),
        ("craftax/Craftax-v1", "nearest names are craftax/Craftax-Pixels-v1"),
        ("navix/Navix-Empty-5x5", "nearest names are navix/Navix-Empty-5x5-v0"),
        ("octax/cavern", "nearest names are octax/cavern"),
        ("octax/breakout", "nearest names are octax/"),
    ],
)
def test_what_cannot_be_learnt_from_is_a_sentence(env_id, words, capsys):
    pytest.importorskip(env_id.split("/")[0])
    assert words in refused(capsys, train.main, ["--env", env_id, "--total-steps", "1000"])


def test_by_the_command_line(tmp_path, monkeypatch):
    """2048: trained, evaluated, and loaded as a policy, which needs no pgx."""
    pytest.importorskip("pgx")
    folder = str(tmp_path / "run")
    assert train.main(["--env", "pgx/2048", *SMALL, "--out", folder]) == 0
    assert evaluate.main([folder, "--no-compilation-cache", "--episodes", "2", "--json"]) == 0
    monkeypatch.setitem(sys.modules, "pgx", None)
    policy = load_policy(folder)
    mask = np.array([False, False, True, False])
    assert policy(np.zeros((4, 4, 31), bool), mask) == 2
