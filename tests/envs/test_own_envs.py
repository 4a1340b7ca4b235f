"""Environments of a user's own: every form that they come in, the same bits through each door, and what is refused."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from purejaxdqn import Config, Hypers, SettingError, batch_env, make_agent, make_train, register
from purejaxdqn.build import build, build_env, check_read
from purejaxdqn.envs import own
from purejaxdqn.envs.interface import Env, HostEnv
from purejaxdqn.envs.names import env_settings, loop_of
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.recipes.recipes import default_recipe
from purejaxdqn.runs.checkpoint import Checkpoint, from_flat, load_checkpoint, save_checkpoint, to_flat

pytestmark = pytest.mark.usefixtures("own_parts")

SMALL = {
    "num_envs": 4,
    "total_steps": 1_000,
    "buffer_size": 200,
    "batch_size": 8,
    "learning_starts": 40,
    "hidden": (8,),
}


def reset(key):
    """One place of three, at random."""
    place = jax.random.randint(key, (), 0, 3)
    return place / 8.0, place


def step(key, place, action):
    """Up or down; from 7 on it is over, with the place as the reward."""
    place = place + 2 * action - 1
    return place / 8.0, place, jnp.float32(place), place >= 7


def make(**changes):
    """`batch_env` of these, with changes."""
    given = {"reset": reset, "step": step, "num_actions": 2, "time_limit": 5} | changes
    return batch_env(given.pop("reset"), given.pop("step"), **given)


def run(config, env=None):
    """Everything of a run that a door could change."""
    agent = make_agent(config, env=env)
    state = jax.jit(agent.init)(jax.random.key(0), Hypers())
    state, metrics = jax.jit(agent.iterate)(state, Hypers(), config.num_iterations)
    return jax.device_get((state.learner, state.memory, state.episodes, metrics))


def test_an_empty_array_in_a_state_is_no_obstacle(tmp_path):
    """As pgx's Asterix has one: several lanes are made, saved, restored and go on."""

    def begin(key):
        obs, place = reset(key)
        return obs, (place, jnp.zeros((2, 0)))

    def go_on(key, state, action):
        obs, place, reward, ended = step(key, state[0], action)
        return obs, (place, state[1]), reward, ended

    agent = make_agent(Config(**SMALL), env=make(reset=begin, step=go_on))
    lanes, hypers = make_lanes(agent, make_plan(agent, 4, block=1)), repeat_hypers(Hypers(), 4)
    state = lanes.init(seed_keys([1, 2, 3, 4]), hypers)
    flat = to_flat(lanes.saved(state))
    save_checkpoint(tmp_path / "checkpoints", Checkpoint(0, flat, {"last": {"w": np.ones(1)}}, {}))
    state = lanes.restored(from_flat(load_checkpoint(tmp_path / "checkpoints").state, lanes.like), hypers)
    jax.tree.map(np.testing.assert_array_equal, flat, to_flat(lanes.saved(state)))
    assert any(leaf.shape == (4, 4, 2, 0) for leaf in jax.tree.leaves(state))
    state, metrics = lanes.iterate(state, hypers, 100)
    assert np.all(np.asarray(metrics.episodes) > 0)


@pytest.mark.exact_lanes
def test_cartpole_is_the_same_run_through_three_doors():
    """By its id, as gymnax's object, and by `batch_env` of its own functions: replay, parameters and metrics alike."""
    config = Config(**SMALL)
    env, params = gymnax.make("CartPole-v1")

    # In 32 bits, as gymnax's own step is given them: Python would add two of them in 64.
    narrow = jax.tree.map(jnp.asarray, params)

    def one_step(key, state, action):
        return env.step_env(key, state, action, narrow)[:4]

    by_id = run(config)
    plain = batch_env(lambda key: env.reset_env(key, narrow), one_step, num_actions=2, time_limit=500)
    for given in ((env, params), plain):
        jax.tree.map(np.testing.assert_array_equal, by_id, run(config, given))
    assert int(by_id[-1].episodes) > 5


def test_a_step_by_hand():
    """From 6 up is 7, which ends it with the reward 7; the next observation is a fresh one, the last is kept."""
    env = make(reset=lambda key: (jnp.float32(6 / 8), jnp.int32(6)))
    state, obs = env.reset(jax.random.key(0), 2)
    state, obs, row = env.step(jax.random.key(1), state, jnp.array([1, 0]))
    np.testing.assert_array_equal(row.obs, [6 / 8, 6 / 8])
    np.testing.assert_array_equal(row.final_obs, [7 / 8, 5 / 8])
    np.testing.assert_array_equal(obs, [6 / 8, 5 / 8])
    np.testing.assert_array_equal(env.observe(state), obs)
    np.testing.assert_array_equal(row.reward, [7.0, 5.0])
    assert row.terminated.tolist() == [True, False] and row.valid.all() and not row.truncated.any()


def test_the_time_limit_cuts_and_a_termination_on_its_step_is_none():
    """Down for ever is cut at each fifth step; five steps up from 2 reach 7 at the limit, which is a termination."""
    env = make(reset=lambda key: (jnp.float32(2 / 8), jnp.int32(2)))
    state, _ = env.reset(jax.random.key(0), 2)
    ends = []
    for index in range(10):
        state, _, row = env.step(jax.random.key(index), state, jnp.array([0, 1]))
        ends.append((row.terminated.tolist(), row.truncated.tolist()))
    quiet = ([False, False], [False, False])
    assert ends == [*[quiet] * 4, ([False, True], [True, False])] * 2
    assert (env.spec.time_limit, env.spec.fewest_steps) == (5, 5)


def test_a_step_may_say_itself_where_it_is_cut():
    """Then nothing is known of how often it is, and the replay keeps every last observation."""

    def five(key, place, action):
        return *step(key, place, action), place < -3

    env = make(step=five, time_limit=None)
    assert env.spec.fewest_steps == 1 and env.spec.time_limit == 2**31 - 1
    state, _ = env.reset(jax.random.key(0), 1)
    cuts = []
    for index in range(7):
        state, _, row = env.step(jax.random.key(index), state, jnp.array([0]))
        cuts.append(bool(row.truncated[0]))
    assert cuts.count(True) == 1


@struct.dataclass
class Params:
    """Parameters as gymnax's environments have them."""

    max_steps_in_episode: int = 3


class Old:
    """gymnax's protocol before version 1: `step_env` gives five values, with `done` at the limit too."""

    name = "Old"
    num_actions = 2
    default_params = Params()

    def reset_env(self, key, params):
        return jnp.zeros(2), jnp.int32(0)

    def step_env(self, key, state, action, params):
        state = state + 1
        done = jnp.logical_or(jnp.logical_and(action == 1, state == 2), state >= params.max_steps_in_episode)
        return jnp.zeros(2) + state, state, jnp.float32(1.0), done, {}


class Six(Old):
    """`step_env` of six values."""

    def step_env(self, key, state, action, params):
        obs, state, reward, _, info = super().step_env(key, state, action, params)
        return obs, state, reward, state >= 9, state >= 2, info


def ends_of(env, actions):
    """(terminated, truncated) of one environment."""
    state, _ = env.reset(jax.random.key(0), 1)
    found = []
    for action in actions:
        state, _, row = env.step(jax.random.key(1), state, jnp.array([action]))
        found.append((bool(row.terminated[0]), bool(row.truncated[0])))
    return found


def test_objects_that_keep_to_gymnaxs_protocol():
    """`done` at the limit of 3 is a truncation, before it a termination; six values say it themselves."""
    no = (False, False)
    assert ends_of(own.as_env(Old()), [0, 0, 0, 0, 1]) == [no, no, (False, True), no, (True, False)]
    assert ends_of(own.as_env((Old(), Params(5))), [0, 0, 0, 0, 0]) == [no, no, no, no, (False, True)]
    assert ends_of(own.as_env(Six()), [0, 0]) == [no, (False, True)]
    assert own.as_env(Old()).spec.env_id == "Old"


def test_a_registered_factory_has_its_arguments_as_parameters():
    def factory(length: int = 3, fast: bool = False, title: str = "x"):
        assert type(length) is int and type(fast) is bool
        return make(time_limit=length + 10 * fast)

    register("env", "places", factory)
    assert env_settings("places") == {"length": 3, "fast": False}
    assert build_env(Config(env="places")).spec.time_limit == 3
    env = build_env(Config(env="places", env_params={"length": 7.0, "fast": 1}))
    assert (env.spec.time_limit, env.spec.env_id, env.spec.own_loop) == (17, "places", "device")
    assert build_env(Config(env="places", env_params={"length": 7, "fast": True})) is env
    with pytest.raises(SettingError, match=r"env_params\.width.*it has length, fast"):
        build_env(Config(env="places", env_params={"width": 3}))
    with pytest.raises(SettingError, match="taken"):
        register("env", "places", factory)
    with pytest.raises(SettingError, match="gymnax has"):
        register("env", "CartPole-v1", factory)
    with pytest.raises(SettingError, match="without / and :"):
        register("env", "gymnasium/Mine", factory)
    with pytest.raises(SettingError, match="leave it out"):
        register("env", "others", factory, reads=("gamma",))


def host_factory():
    """An environment on the host that nobody opens."""
    spec = make().spec
    return HostEnv(spec, lambda *args: None, lambda given: given, ("a", "b"), 1, 1)


def test_the_loop_follows_from_what_was_built():
    """Whatever a name is spelt like; so does what is read, and the family of the default recipe."""
    register("env", "Looks-like-Atari-v5", make)
    register("env", "looks-like-gymnax", host_factory)
    register("env", "squares", lambda: make(reset=lambda key: (jnp.zeros((6, 6, 2)), 0), step=pictures))
    assert loop_of("Looks-like-Atari-v5") == "device" and loop_of("looks-like-gymnax") == "host"
    assert default_recipe("Looks-like-Atari-v5").name == "vector" and default_recipe("squares").name == "minatar"
    assert isinstance(build(Config(env="Looks-like-Atari-v5", **SMALL)).env, Env)
    check_read(Config(env="looks-like-gymnax"), {"overlap": False})
    check_read(Config(env="Looks-like-Atari-v5"), {"log_episodes": 5})
    for name, setting in (("Looks-like-Atari-v5", {"overlap": False}), ("looks-like-gymnax", {"log_episodes": 5})):
        with pytest.raises(SettingError, match="does not read it"):
            check_read(Config(env=name), setting)
    with pytest.raises(SettingError, match="step on the host"):
        make_agent(Config(env="looks-like-gymnax"))
    with pytest.raises(SettingError, match="step on the host"):
        make_agent(Config(), env=host_factory())


def pictures(key, state, action):
    """A picture that shows the action."""
    return jnp.zeros((6, 6, 2)) + action, state, 0.0, False


@pytest.mark.long
def test_make_train_takes_an_object_and_shaping_reads_its_name():
    config = Config(**SMALL)
    _, metrics = jax.jit(make_train(config, num_chunks=2, env=make()))(jax.random.key(0), Hypers())
    assert metrics.episodes.shape == (2,) and int(metrics.episodes.sum()) > 50
    assert make_agent(config, env=make(name="mine")).config.env == "mine"
    with pytest.raises(SettingError, match="CartPole alone"):
        make_agent(config.replace(reward_shaping="cartpole-distance"), env=make())


def changing(key, place, action):
    """An observation of another type than the reset's."""
    return jnp.int32(place), *step(key, place, action)[1:]


def always(place):
    """A mask of all actions."""
    return jnp.ones(2, bool)


def broken(*args):
    """Raises."""
    raise KeyError("no such place")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": changing}, r"observations are \(\) float32, and \(\) int32 later"),
        ({"step": lambda *args: (jnp.zeros(2), *step(*args)[1:])}, r"and \(2,\) float32 later"),
        ({"step": lambda *args: (*step(*args), False)}, "gives 5 values: give obs, state, reward, terminated$"),
        ({"time_limit": None}, "gives 4 values: give obs, state, reward, terminated, truncated$"),
        ({"reset": lambda key: jnp.zeros(())}, "gives no pair"),
        ({"reset": broken}, "its reset raised KeyError: 'no such place'"),
        ({"step": broken}, "its step raised KeyError"),
        ({"step": lambda key, p, a: (p / 8.0, p / 1.0, 0.0, False)}, r"its state is \(\) int32 at a reset, and"),
        ({"step": lambda key, p, a: (p / 8.0, (p, p), 0.0, False)}, "changes its structure"),
        ({"step": lambda key, p, a: (p / 8.0, p, jnp.inf, False)}, "no finite numbers"),
        ({"step": lambda key, p, a: (p / 8.0, p, jnp.zeros(3), False)}, r"its reward has the shape \(3,\)"),
        ({"reset": lambda key: ({"place": 0.0}, 0)}, "its observations are place, and one array later"),
        ({"reset": lambda key: (jnp.zeros((2, 0)), 0), "step": lambda key, *_: (jnp.zeros((2, 0)), 0, 0.0, False)},
         r"its observations, \(2, 0\), hold no numbers: leave them out"),
        ({"reset": lambda key: (jnp.zeros(()), {"key": key})}, "typed PRNG key"),
        ({"reset": lambda key: (jnp.int32(9), 0), "num_obs_values": 3, "step": lambda *_: (jnp.int32(9), 0, 0., False)},
         "none of its values 0 to 2"),
        ({"num_actions": 0}, "at least 1"),
        ({"num_actions": (2, 0)}, "at least 1"),
        ({"num_actions": (64, 65), "mask": lambda place: jnp.ones((64, 65), bool)},
         r"64 × 65, make 4,160 combinations, and at most 4,096 .* leave choices out"),
        ({"num_actions": (2**16, 2**16)}, "at most 2,147,483,647 are chosen from"),
        ({"mask": lambda place: jnp.ones(3, bool)}, r"its mask is \(3,\) bool: give \(2,\) bool"),
        ({"mask": lambda place: jnp.ones(2)}, r"its mask is \(2,\) float32: give \(2,\) bool"),
        ({"mask": lambda place: [True, True]}, "its mask is not one array"),
        ({"mask": lambda place: jnp.stack([place > 1] * 2)}, "leaves no legal action"),
        ({"mask": broken}, "its mask raised KeyError"),
        ({"time_limit": 0}, "at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_from_is_a_sentence(changes, words):
    with pytest.raises(SettingError, match=words):
        make(**changes)


def test_masks_by_hand():
    """Down is illegal at 0, and up from 5 on: beside the observation before the step, and beside the last one."""
    starts = jnp.array([0, 5])

    def begin(key):
        place = starts[jax.random.randint(key, (), 0, 2)]
        return place / 8.0, place

    env = make(reset=begin, mask=lambda place: jnp.stack([place > 0, place < 5]), time_limit=2)
    assert env.spec.masked and env.spec.action_sizes is None
    step_all, masks = jax.jit(env.step), jax.jit(env.mask)
    state, obs = env.reset(jax.random.key(3), 8)
    first = np.asarray(obs) * 8 > 0
    assert set(first.tolist()) == {False, True}, "both places"
    np.testing.assert_array_equal(masks(state), np.stack([first, ~first], axis=1))
    state, _, row = step_all(jax.random.key(1), state, jnp.where(first, 0, 1))
    np.testing.assert_array_equal(row.mask, np.stack([first, ~first], axis=1))
    np.testing.assert_array_equal(row.final_mask, [[True, True]] * 8)
    state, obs, row = step_all(jax.random.key(2), state, jnp.where(first, 1, 0))
    assert row.truncated.all(), "the time limit"
    np.testing.assert_array_equal(row.final_mask, np.stack([first, ~first], axis=1))
    fresh = np.asarray(obs) * 8 > 0
    np.testing.assert_array_equal(masks(state), np.stack([fresh, ~fresh], axis=1))


def test_without_a_mask_there_is_none():
    env = make()
    state, _ = env.reset(jax.random.key(0), 2)
    _, _, row = jax.eval_shape(env.step, jax.random.key(0), state, jnp.zeros(2, jnp.int32))
    assert not env.spec.masked and env.mask(state) is row.mask is row.final_mask is None


def test_actions_of_several_parts_by_hand():
    """Number 7 of 3 × 4 is (1, 3); the mask of both parts is flattened likewise."""

    def both(key, place, action):
        assert action.shape == (2,)
        return (action[0] * 10 + action[1]) / 8.0, place, 0.0, False

    env = make(step=both, num_actions=(3, 4), mask=lambda place: jnp.arange(12).reshape(3, 4) > 4)
    assert (env.spec.num_actions, env.spec.action_sizes) == (12, (3, 4))
    state, _ = env.reset(jax.random.key(0), 3)
    np.testing.assert_array_equal(env.mask(state), [np.arange(12) > 4] * 3)
    _, obs, _ = jax.jit(env.step)(jax.random.key(0), state, jnp.array([5, 7, 11]))
    np.testing.assert_array_equal(obs * 8, [11, 13, 23])


class Masked(Six):
    """gymnax's protocol with a mask, and actions of two parts: `step` alone would not tell the last state."""

    num_actions = (2, 2)

    def step_env(self, key, state, action, params):
        return super().step_env(key, state, action[0], params)

    def reset(self, key, params):
        raise AssertionError("it is stepped by step_env")

    step = reset

    def action_mask(self, state, params):
        return jnp.arange(4).reshape(2, 2) <= state + params.max_steps_in_episode - 3


def test_an_object_of_gymnaxs_protocol_says_what_is_legal():
    env = own.as_env(Masked())
    assert env.spec.masked and env.spec.action_sizes == (2, 2)
    state, _ = env.reset(jax.random.key(0), 1)
    np.testing.assert_array_equal(env.mask(state), [[True, False, False, False]])
    state, _, row = env.step(jax.random.key(0), state, jnp.array([0]))
    np.testing.assert_array_equal(row.final_mask, [[True, True, False, False]])
    state, _, row = env.step(jax.random.key(0), state, jnp.array([1]))
    assert row.truncated.all()
    np.testing.assert_array_equal(row.final_mask, [[True, True, True, False]])
    np.testing.assert_array_equal(env.mask(state), [[True, False, False, False]])


class Five(Old):
    """A `step` of five values, and nothing else to go by."""

    reset_env = step_env = None

    def reset(self, key, params):
        return jnp.zeros(2), 0

    def step(self, key, state, action, params):
        return jnp.zeros(2), state, 0.0, False, {}


class Continuous(Old):
    """A space of actions without a number of them."""

    def action_space(self, params):
        return object()


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda: 3, "its factory gave int: give an Env, a HostEnv, batch_env"),
        (broken, "its factory raised KeyError"),
        (lambda length: None, "its factory raised TypeError"),
        (Five, "its step does not give the 6 values that are due"),
        (Continuous, "continuous actions"),
        (lambda: make()._replace(spec=make().spec._replace(obs_shape=(2,))), r"its spec says \(3, 2\)"),
        (lambda: make()._replace(spec=make().spec._replace(masked=True)), r"its mask is none, .* says \(3, 2\) bool"),
        (lambda: make(mask=always)._replace(spec=make().spec), r"its mask is \(3, 2\) bool, and its spec says none"),
        (type("Lost", (Masked,), {"step_env": None}), "with an action_mask, .* needs reset_env and step_env"),
    ],
)
def test_a_factory_that_gives_something_else_is_a_sentence(factory, words):
    register("env", "mine", factory)
    with pytest.raises(SettingError, match=words) as told:
        build_env(Config(env="mine"))
    assert told.value.field == "env" and told.value.value == "mine"


def test_a_gymnax_that_was_overwritten_is_told(monkeypatch):
    """gymnax's own class, whose step gives five values as it once did."""
    from purejaxdqn.envs import gymnax as adapter

    env, params = gymnax.make("CartPole-v1")
    old = type("CartPole", (), {"__module__": "gymnax.environments.x", "reset": env.reset, "step": None})()
    old.step = lambda *args: env.step(*args)[:5]
    old.action_space = env.action_space
    monkeypatch.setattr(adapter, "make_raw", lambda env_id, **options: (old, params))
    with pytest.raises(SettingError, match="another package has overwritten"):
        adapter.make_env("CartPole-v1")


def test_what_is_not_known_here_asks_for_its_import():
    with pytest.raises(SettingError, match=r"add --import maze\.py"):
        build_env(Config(env="maze.py:make_env"))
    with pytest.raises(SettingError, match=r"add --import my_mazes\.small"):
        loop_of("my_mazes.small:make_env")
