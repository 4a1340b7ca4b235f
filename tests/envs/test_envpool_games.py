"""EnvPool's other environments and every one of its games: they open, step and can be seen."""

import warnings

import numpy as np
import pytest
from pools import play

pytest.importorskip("envpool")

import envpool

from purejaxdqn.envs.envpool import draw_observation, find_spec, is_atari, make_env
from purejaxdqn.observations.leaves import list_leaves

OTHERS = {
    "CartPole-v1": ((4,), "float32", None),
    "MountainCar-v0": ((2,), "float32", None),
    "Acrobot-v1": ((6,), "float32", None),
    "FrozenLake-v1": ((), "int32", 16),
    "Taxi-v3": ((), "int32", 500),
    "Catch-v0": ((10, 5), "float32", None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_discrete_environments_run_and_are_drawn(name):
    """Fifty steps; a picture by EnvPool or, where it has none, of the observation. And nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make_env(f"envpool/{name}")
        pool = env.open_pool(3, 0, 1)
        steps = play(pool, np.random.default_rng(0).integers(0, env.spec.num_actions, (50, 3)))
    assert (list_leaves(env.spec)[0].frame_shape, env.spec.obs_dtype, env.spec.num_obs_values) == OTHERS[name]
    for step in steps:
        assert step.frame.shape == (3, *list_leaves(env.spec)[0].frame_shape) and step.frame.dtype == env.spec.obs_dtype
        assert np.all(np.isfinite(step.frame)) and not step.life_lost.any()
    assert steps[0].begins.all() and len(np.unique([step.frame.tobytes() for step in steps])) > 1
    picture = pool.screen()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3
    assert picture.min() < picture.max()


@pytest.mark.parametrize("name", ["MiniGrid-DoorKey-5x5-v0", "BabyAI-GoToObj-v0"])
def test_dicts_of_minigrid_are_kinds_and_a_direction(name):
    """The mission, which is text, is left out; the numbers of the image are below eleven and no colours."""
    env = make_env(f"envpool/{name}")
    assert env.spec.obs_shape == {"direction": (), "image": (7, 7, 3)} and env.spec.time_limit > 1
    assert env.spec.num_obs_values == {"direction": 4, "image": 11}
    pool = env.open_pool(4, 0, 2)
    pool.reset()
    steps = [[pool.receive(group)] for group in range(2)]
    for _ in range(20):
        for group in range(2):
            pool.send(group, np.zeros(2, np.int32))
            steps[group].append(pool.receive(group))
    frames = [step.frame for step in steps[0]]
    assert all(frame["image"].shape == (2, 7, 7, 3) and frame["image"].dtype == np.uint8 for frame in frames)
    assert 0 < max(int(frame["image"].max()) for frame in frames) < 11
    # Turning left, one faces every way in turn.
    assert {int(frame["direction"][0]) for frame in frames} == {0, 1, 2, 3}
    picture = pool.screen()
    assert picture.dtype == np.uint8 and picture.shape[-1] == 3


def test_nested_dicts_of_jumanji_come_as_they_are():
    """The city behind CVRP's routes is a file that EnvPool's wheels lack: its observation is shown in its place."""
    env = make_env("envpool/Jumanji/CVRP-v1")
    assert env.spec.num_obs_values["position"] == 21 and env.spec.obs_shape["coordinates"] == (21, 2)
    pool = env.open_pool(2, 0, 1)
    frame = play(pool, [[1, 1]])[1].frame
    picture = pool.screen()
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert {name: array.shape[1:] for name, array in frame.items()} == env.spec.obs_shape
    assert {name: str(array.dtype) for name, array in frame.items()} == env.spec.obs_dtype


@pytest.mark.parametrize("name", ["Game2048-v1", "Snake-v1"])
def test_jumanji_says_which_actions_are_legal(name):
    """The mask is no part of the observation; each group has its own, and legal actions go on for a while."""
    env = make_env(f"envpool/Jumanji/{name}")
    assert env.spec.masked and "action_mask" not in env.spec.obs_shape
    pool, rng = env.open_pool(4, 0, 2), np.random.default_rng(0)
    pool.reset()
    seen = []
    for _ in range(30):
        for group in (0, 1):
            step = pool.receive(group)
            assert step.mask.shape == (2, 4) and step.mask.dtype == bool
            assert step.mask[~step.ended].any(axis=1).all()
            seen.append(step.mask)
            pool.send(group, np.argmax(np.where(step.mask, rng.random((2, 4)), -1), axis=1).astype(np.int32))
    assert not np.all(seen), "some actions are illegal"
    assert not make_env("envpool/Jumanji/Sokoban-v0").spec.masked


def test_an_undrawn_environment_is_shown_as_it_stands():
    """EnvPool draws no Catch: the picture follows the first environment's newest observation, and no other's."""
    env = make_env("envpool/Catch-v0")
    pool = env.open_pool(2, 0, 1)
    first = play(pool, [])[0].frame
    shown = pool.screen()
    pool.send(0, np.array([1, 1], np.int32))
    moved = pool.receive(0).frame
    assert not np.array_equal(first[0], moved[0])  # the ball has dropped
    assert not np.array_equal(shown, pool.screen())


def test_an_observation_that_is_a_picture_is_shown_as_itself():
    colour = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(draw_observation(colour), colour)
    np.testing.assert_array_equal(draw_observation(colour[..., :1]), colour[..., [0, 0, 0]])
    # Four planes are no colours, and numbers that are no bytes no picture: both are drawn as cells.
    for cells in (np.zeros((7, 5, 4), np.uint8), colour / 255):
        assert draw_observation(cells).shape == (312, 400, 3)


def test_other_warnings_are_heard(monkeypatch):
    """Of what is warned of while a pool is made, only the precision of bounds is kept quiet."""
    env, make = make_env("envpool/CartPole-v1"), envpool.make

    def warn(*args, **options):
        for message in ("Box low's precision lowered by casting to float32", "Box is out of fashion"):
            warnings.warn(message, UserWarning, stacklevel=2)
        return make(*args, **options)

    monkeypatch.setattr(envpool, "make", warn)
    with pytest.warns(UserWarning) as heard:
        env.open_pool(1, 0, 1).close()
    assert [str(warning.message) for warning in heard] == ["Box is out of fashion"]


GAMES = [
    name for name in envpool.list_all_envs() if name.endswith("-v5") and not name.startswith(("phys2d/", "tabular/"))
]
SAMPLE = ("Adventure", "Backgammon", "Boxing", "Crossbow", "Enduro", "Freeway", "Hangman", "Klax", "MontezumaRevenge")
SAMPLE += ("Pitfall2", "Qbert", "Skiing", "Surround", "TicTacToe3d", "VideoPinball")


def check_game(env_id):
    """It opens, begins, takes each of its actions, and can be seen."""
    env = make_env(env_id)
    num_actions = env.spec.num_actions
    pool = env.open_pool(1, 0, 1)
    steps = play(pool, np.arange(num_actions)[:, None])
    for t, step in enumerate(steps):
        assert step.frame.shape == (1, 84, 84, 1) and step.frame.dtype == np.uint8
        assert np.all(np.isfinite(step.reward))
        assert step.begins[0] == (t == 0)
    assert any(step.frame.min() < step.frame.max() for step in steps)
    screen = pool.screen()
    assert screen.dtype == np.uint8 and screen.ndim == 3 and screen.shape[-1] == 3
    pool.close()


@pytest.mark.parametrize("game", SAMPLE)
def test_games_run(game):
    check_game(f"{game}-v5")


@pytest.mark.learning
def test_all_games_run():
    """Each of them once."""
    games = [name for name in GAMES if is_atari(find_spec(name))]
    assert len(games) == 104
    for env_id in games:
        check_game(env_id)
