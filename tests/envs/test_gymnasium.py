"""Gymnasium's environments: ends, the true last observation, first steps, spaces, and what is refused."""

import sys
from functools import partial

import numpy as np
import pytest
from pools import play

from purejaxdqn.build import build_env
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.envs import gymnasium as adapter
from purejaxdqn.envs.own import as_env, remember
from purejaxdqn.recipes.recipes import default_recipe

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


class Counting(gymnasium.Env):
    """Counts from its seed's last digit; ends at 5 by the action 4, and is cut at 7. Actions are 3 and 4."""

    action_space = spaces.Discrete(2, start=3)

    def __init__(self, space=None, **changes):
        self.observation_space = spaces.Box(-100, 100, (2,), np.float64) if space is None else space
        self.changes, self.count = changes, 0

    def observe(self):
        return self.changes.get("obs", lambda count: np.array([count, -count], np.float64))(self.count)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observe(), self.info()

    def info(self):
        return self.changes.get("info", lambda count: {})(self.count)

    def step(self, action):
        assert action in (3, 4)
        self.count += 1
        reward = self.changes.get("reward", float(self.count))
        found = self.observe(), reward, self.count == 5 and action == 4, self.count >= 7, self.info()
        return found[: self.changes.get("values", 5)]


OPTIONS = {"num_groups": 1, "asynchronous": False}


def wrapped(**changes):
    return adapter.wrap("Counting", lambda: Counting(**changes), OPTIONS)


def test_steps_of_two_environments_by_hand():
    """The first takes the action 4 (number 1) and ends at 5, the other is cut at 7; the step after only begins."""
    env = wrapped()
    assert env.spec.obs_dtype == "float32" and env.spec.num_actions == 2 and env.spec.time_limit == 2**31 - 1
    pool = env.open_pool(2, 0, 1)
    steps = play(pool, [[1, 0]] * 10)
    pool.close()
    counts = np.array([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2]])
    np.testing.assert_array_equal(np.stack([step.frame[:, 0] for step in steps], axis=1), counts)
    begins = np.stack([step.begins for step in steps], axis=1)
    np.testing.assert_array_equal(begins, counts == 0)
    np.testing.assert_array_equal(np.stack([step.reward for step in steps], axis=1), np.where(begins, 0, counts))
    first, other = np.array([[1], [0]], bool), np.array([[0], [1]], bool)
    np.testing.assert_array_equal(np.stack([step.terminated for step in steps], axis=1), (counts == 5) & first)
    np.testing.assert_array_equal(np.stack([step.truncated for step in steps], axis=1), (counts == 7) & other)
    assert steps[0].frame.dtype == np.float32 and not steps[3].life_lost.any()


class Unseen(Counting):
    """Of a class that is told nothing of rendering."""

    def __init__(self):
        super().__init__()


def test_a_class_without_a_render_mode_is_drawn_by_what_it_observes():
    gymnasium.register("Unseen-v0", Unseen)
    try:
        pool = adapter.make_env("gymnasium/Unseen-v0").open_pool(1, 0, 1)
        play(pool, [[0]])
        picture = pool.screen()
        pool.close()
        assert picture.ndim == 3 and picture.dtype == np.uint8
    finally:
        del gymnasium.registry["Unseen-v0"]


def test_the_tasks_of_popgym_are_gymnasiums():
    """Where it is installed: whoever remembers the first of 52 cards gets 1 / 51 in each step."""
    pytest.importorskip("popgym")
    pool = adapter.make_env("gymnasium/popgym-RepeatFirstEasy-v0").open_pool(1, 0, 1)
    # The seed deals the same first card again.
    first = int(play(pool, [])[0].frame[0])
    steps = play(pool, [[first]] * 51)
    pool.close()
    assert steps[-1].terminated.all() and sum(step.reward[0] for step in steps) == pytest.approx(1.0)
    with pytest.raises(SettingError, match="no discrete actions"):
        adapter.make_env("gymnasium/popgym-PositionOnlyPendulumEasy-v0")


def make_taxi_like():
    """Counting with a mask: action 4 from a count of 2 on, and 3 before 4, as 0 and 1."""
    return Counting(info=lambda count: {"action_mask": np.array([count < 4, count >= 2], np.int8)})


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_masks_come_with_every_observation(apart):
    """Also with that of a reset, from one process or from several."""
    env = adapter.wrap("Counting", make_taxi_like, {**OPTIONS, "asynchronous": apart})
    assert env.spec.masked
    pool = env.open_pool(2, 0, 1)
    steps = play(pool, [[0, 0]] * 2 + [[0, 1]] * 2 + [[1, 1]] * 5)
    pool.close()
    counts = np.stack([step.frame[:, 0] for step in steps])
    masks = np.stack([step.mask for step in steps])
    assert masks.dtype == bool and (counts[1:] == 0).any(), "there is a reset"
    np.testing.assert_array_equal(masks, np.stack([counts < 4, counts >= 2], axis=-1))
    assert wrapped().spec.masked is False and play(wrapped().open_pool(1, 0, 1), [[0]])[0].mask is None


class Two(Counting):
    """An action of two parts, of which the first begins at 5."""

    action_space = spaces.MultiDiscrete([2, 3], start=[5, 0])

    def step(self, action):
        assert action.shape == (2,)
        self.taken = action.tolist()
        return super().step(3)

    def observe(self):
        return np.array(getattr(self, "taken", [0, 0]), np.float64)


def test_actions_of_several_parts():
    """Number 4 of 2 × 3 is (1, 1), here (6, 1); a mask has the shape of the parts."""
    info = {"action_mask": np.arange(6).reshape(2, 3) != 2}
    env = adapter.wrap("Two", lambda: Two(info=lambda count: info), OPTIONS)
    assert (env.spec.num_actions, env.spec.action_sizes, len(env.action_names)) == (6, (2, 3), 6)
    steps = play(env.open_pool(2, 0, 1), [[4, 0]])
    assert steps[1].frame.tolist() == [[6, 1], [5, 0]]
    np.testing.assert_array_equal(steps[1].mask, [np.arange(6) != 2] * 2)


class Many(Two):
    """43 million combinations."""

    action_space = spaces.MultiDiscrete([9] * 8)

    def step(self, action):
        assert action.shape == (8,)
        return super().step(action[:2])


def test_actions_of_many_parts():
    """No array has an entry for each combination, and a mask that would is refused."""
    assert adapter.wrap("Many", Many, OPTIONS).spec.num_actions == 9**8
    with pytest.raises(SettingError, match="43,046,721 combinations, and at most 4,096"):
        adapter.wrap("Many", lambda: Many(info=lambda count: {"action_mask": np.ones(3)}), OPTIONS)


def test_taxi_has_a_mask():
    newest = max(name for name in gymnasium.registry if name.startswith("Taxi-"))
    env = build_env(Config(env=f"gymnasium/{newest}"))
    assert env.spec.masked
    pool = env.open_pool(2, 0, 1)
    pool.reset()
    mask = pool.receive(0).mask
    assert mask.shape == (2, 6) and mask.dtype == bool and mask.any() and not mask.all()
    pool.close()


def test_groups_are_stepped_apart_and_seeds_are_kept():
    env = build_env(Config(env="gymnasium/CartPole-v1", env_params={"num_groups": 2}))
    assert env.num_groups == 2 and env.spec.time_limit == 500
    first = {}
    for seed in (0, 0, 1):
        pool = env.open_pool(4, seed, 2)
        pool.reset()
        frames = [pool.receive(group).frame for group in (1, 0)]
        pool.send(0, np.zeros(2, np.int32))
        assert pool.receive(0).reward.tolist() == [1.0, 1.0]
        pool.close()
        first.setdefault(seed, []).append(np.concatenate(frames))
    np.testing.assert_array_equal(*first[0])
    assert len({*map(tuple, first[0][0].tolist()), *map(tuple, first[1][0].tolist())}) == 8


@pytest.mark.slow
def test_environments_in_processes_of_their_own_give_the_same_steps():
    steps = []
    for apart in (0, 1):
        env = build_env(Config(env="gymnasium/CartPole-v1", env_params={"asynchronous": apart}))
        pool = env.open_pool(2, 3, 1)
        steps.append(play(pool, [[0, 1]] * 25))
        pool.close()
    assert any(step.terminated.any() for step in steps[0])
    for one, other in zip(*steps, strict=True):
        for name in one._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_observations_of_other_spaces():
    """Discrete ones count from 0, whatever their start; bits are numbers."""
    discrete = wrapped(space=spaces.Discrete(20, start=-3), obs=lambda count: count - 3)
    assert (discrete.spec.num_obs_values, discrete.spec.obs_shape, discrete.spec.obs_dtype) == (20, (), "int32")
    steps = play(discrete.open_pool(1, 0, 1), [[0]] * 3)
    assert [step.frame.tolist() for step in steps] == [[0], [1], [2], [3]]
    bits = wrapped(space=spaces.MultiBinary(3), obs=lambda count: np.array([1, 0, count % 2], np.int8))
    assert (bits.spec.num_obs_values, bits.spec.obs_shape, bits.spec.obs_dtype) == (None, (3,), "int8")
    assert play(bits.open_pool(1, 0, 1), [[0]])[1].frame.tolist() == [[1, 0, 1]]


PARTS = spaces.Dict(
    {
        "near": spaces.Box(0, 10, (4, 4, 3), np.uint8),
        "way": spaces.Discrete(4, start=-1),
        "hand": spaces.Tuple((spaces.MultiBinary(3), spaces.Box(-1.0, 1.0, (2,), np.float64))),
        "words": spaces.Text(10),
        "kinds": spaces.MultiDiscrete([3, 5], start=[0, 2]),
    }
)


def parts_of(count):
    """An observation of that space; what it has of a count can be read again."""
    return {
        "near": np.full((4, 4, 3), count, np.uint8),
        "way": np.int64(count % 4 - 1),
        "hand": (np.array([0, 1, count % 2], np.int8), np.array([0.5, count / 10])),
        "words": "go " + "on " * count,
        "kinds": np.array([2, 2 + count % 5]),
    }


@pytest.mark.parametrize("asynchronous", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_spaces_of_several_parts_become_a_tree_of_arrays(asynchronous):
    """Numbers from 0 whatever they start from, in 32 bits, without the text; the bound of uint8 is its scale."""
    options = {**OPTIONS, "asynchronous": asynchronous}
    env = adapter.wrap("Counting", partial(Counting, space=PARTS, obs=parts_of), options)
    spec = env.spec
    assert spec.obs_shape == {"near": (4, 4, 3), "way": (), "hand": ((3,), (2,)), "kinds": (2,)}
    assert spec.obs_dtype == {"near": "uint8", "way": "int32", "hand": ("int8", "float32"), "kinds": "int32"}
    assert spec.num_obs_values == {"near": None, "way": 4, "hand": (None, None), "kinds": 5}
    assert spec.obs_scale == {"near": 10.0, "way": None, "hand": (None, None), "kinds": None}
    pool = env.open_pool(2, 0, 1)
    steps = play(pool, [[1, 0]] * 4)
    pool.close()
    for count, step in enumerate(steps):
        near, (bits, reals) = step.frame["near"], step.frame["hand"]
        assert set(step.frame) == set(spec.obs_shape) and near.dtype == np.uint8 and reals.dtype == np.float32
        assert near.tolist() == np.full((2, 4, 4, 3), count).tolist()
        assert step.frame["way"].tolist() == [count % 4] * 2 and step.frame["kinds"].tolist() == [[2, count % 5]] * 2
        assert bits.tolist() == [[0, 1, count % 2]] * 2 and np.allclose(reals, [0.5, count / 10])


def test_a_picture_of_a_tree_is_shown():
    pool = adapter.wrap("Counting", partial(Counting, space=PARTS, obs=parts_of), OPTIONS).open_pool(1, 0, 1)
    play(pool, [[0]])
    assert pool.screen().shape == (4, 4, 3)


def test_numbers_of_kinds_are_not_taken_for_colours():
    """A space of MiniGrid's says 255: unknown, that is refused; of its own ids the kinds are known."""
    kinds = spaces.Dict({"image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "direction": spaces.Discrete(4)})

    def seen(count):
        return {"image": np.full((7, 7, 3), count, np.uint8), "direction": np.int64(0)}

    with pytest.raises(
        SettingError, match=r"\(image\) are uint8 and reach 7 at most .* let its space say what they are"
    ):
        wrapped(space=kinds, obs=seen)
    env = adapter.wrap("gymnasium/MiniGrid-Mine-v0", lambda: Counting(space=kinds, obs=seen), OPTIONS)
    assert env.spec.num_obs_values == {"image": 11, "direction": 4}


def test_ids_have_their_arguments_and_limits_as_parameters():
    found = adapter.env_settings("gymnasium/FrozenLake-v1")
    assert found["is_slippery"] is True and found["max_episode_steps"] == 100 and found["num_groups"] == 1
    params = {"max_episode_steps": 3, "is_slippery": False}
    env = build_env(Config(env="gymnasium/FrozenLake-v1", env_params=params))
    assert (env.spec.time_limit, env.spec.num_obs_values, env.spec.num_actions) == (3, 16, 4)
    steps = play(env.open_pool(1, 0, 1), [[0]] * 3)
    assert [bool(step.truncated[0]) for step in steps] == [False, False, False, True]


def test_a_picture_of_one_environment():
    """Without a renderer the observation is drawn."""
    pool = wrapped().open_pool(1, 0, 1)
    pool.reset()
    pool.receive(0)
    assert pool.screen().dtype == np.uint8 and pool.screen().ndim == 3
    pool.close()


def test_default_recipes():
    assert default_recipe("gymnasium/CartPole-v1").name == "cartpole"
    assert default_recipe("gymnasium/FrozenLake-v1").name == "vector"


def test_the_family_of_a_run_that_was_read_is_known_without_its_suite(own_parts):
    spec = EnvSpec("gymnasium/NotHere-v0", 4, (84, 84, 3), "uint8", None, 100)
    with pytest.raises(SettingError, match="no such environment"):
        default_recipe(spec.env_id)
    remember(spec)
    assert default_recipe(spec.env_id).name == "minatar"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": spaces.Dict({"a": spaces.Discrete(2)})}, "its space has a, and it gives observations without it"),
        ({"space": spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))})}, r"\(a\) are of the space Sequence: wrap"),
        ({"space": spaces.Box(0, 1, (3,))}, r"its space says \(3,\) float32, and it gives observations \(2,\) float64"),
        ({"space": spaces.Box(0, 9, (2,), np.int32)}, r"its space says \(2,\) int32, and it gives .* float64"),
        ({"obs": lambda count: np.zeros(2 + (count == 3))}, r"it gives observations \(3,\)"),
        ({"info": lambda count: {"action_mask": np.ones(3, bool)}}, r"bool \(1, 2\), .* not bool \(1, 3\)"),
        ({"info": lambda count: {"action_mask": np.ones(2)}}, "cannot be used: a mask is bool .* not float64"),
        ({"info": lambda count: {"action_mask": np.full(2, count != 3)}}, "leaves no legal action"),
        ({"info": lambda count: {"action_mask": np.ones(2, bool)} if count < 2 else {}}, "leaves no legal action"),
        ({"values": 4}, "its step gives 4 values: give obs, reward, terminated, truncated, info"),
        ({"reward": float("nan")}, "no finite numbers"),
        ({"space": spaces.Box(0, 1, (3, 16, 16)), "obs": lambda count: np.zeros((3, 16, 16))}, "channels first"),
    ],
)
def test_what_cannot_be_learnt_from_is_a_sentence(changes, words):
    with pytest.raises(SettingError, match=words):
        wrapped(**changes)


@pytest.mark.parametrize(
    ("env", "changes", "words"),
    [
        ("gymnasium/CartPol-v1", {}, "Gymnasium has no such environment: .*CartPol"),
        ("gymnasium/Pendulum-v1", {}, "no discrete actions"),
        ("gymnasium/my_module:Mine-v0", {}, "its module by --import"),
        ("gymnasium/CartPole-v1", {"gravity": 3}, "has no such parameter"),
        ("gymnasium/CartPole-v1", {"num_groups": 0}, "at least 1"),
        ("gymnasium/CartPole-v1", {"asynchronous": 2}, "True or False"),
    ],
)
def test_ids_and_parameters_that_cannot_be(env, changes, words):
    with pytest.raises(SettingError, match=words):
        build_env(Config(env=env, env_params=changes))


def test_an_object_is_no_function_that_makes_one():
    with pytest.raises(SettingError, match="give a function that makes it"):
        as_env(Counting())


def test_without_gymnasium_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(SettingError, match=r"purejaxdqn\[gymnasium\]"):
        build_env(Config(env="gymnasium/CartPole-v1"))
