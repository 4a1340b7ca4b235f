"""Environments on the device that give trees: the same run as of one array, lanes, chunks, and refusals."""

from collections import namedtuple
from types import SimpleNamespace

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import same_bits
from trees import cartpole, room_module

from benchmarks.robustness.product import Combination, check, good
from purejaxdqn import Config, Hypers, SettingError, batch_env, make_agent, register
from purejaxdqn.build import build_env
from purejaxdqn.check import play
from purejaxdqn.check.checks import Subject, judge
from purejaxdqn.check.play import play_device
from purejaxdqn.envs.own import as_env
from purejaxdqn.loops.lanes import make_lanes, seed_keys
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.observations.leaves import plain
from purejaxdqn.types import is_counter

pytestmark = pytest.mark.usefixtures("own_parts")

SMALL = {"num_envs": 4, "total_steps": 1_000, "hidden": (8,)}
REPLAY = {"buffer_size": 200, "batch_size": 8, "learning_starts": 40}
REPLAYS = ("uniform", "prioritized, 3 steps")
RUNS = {
    "uniform": REPLAY,
    "prioritized, 3 steps": {**REPLAY, "replay": "prioritized", "n_step": 3, "backup": "double"},
    "rollout": {"learner": "rollout", "rollout_length": 5, "num_minibatches": 2},
}


@pytest.mark.exact_lanes
@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.long) for name in REPLAYS), "rollout"])
def test_a_tree_is_the_same_run_as_its_numbers_in_one_array(name):
    """CartPole in two halves, one of them in a tuple: parameters, replay, episodes and metrics bit for bit."""
    found = []
    for env in (cartpole(lambda x: x), cartpole(lambda x: {"a": x[:2], "b": (x[2:],)})):
        agent = make_agent(Config(**SMALL, **RUNS[name]), env=env)
        state = jax.jit(agent.init)(jax.random.key(0), Hypers())
        state, metrics = jax.jit(agent.iterate)(state, Hypers(), agent.config.num_iterations)
        batches = ()
        if "learner" not in RUNS[name]:
            batch, _, weight = agent.parts.replay.sample(state.memory, jax.random.key(1), Hypers())
            halves = jax.tree.map(lambda obs: obs, (batch.obs_tm1, batch.obs_t))
            rows = [jnp.concatenate(jax.tree.leaves(obs), axis=-1) for obs in halves]
            batches = (rows, batch.r_t, batch.discount_t, batch.a_tm1, weight)
        found.append(jax.device_get((state.learner, state.episodes, metrics, batches)))
    assert int(found[0][2].episodes) > 10
    assert same_bits(*found)


@pytest.fixture(scope="module")
def room_agent():
    """The page's room: a picture, a number of four and a number."""
    config = Config(num_envs=2, total_steps=400, hidden=(8,), buffer_size=100, batch_size=4, learning_starts=20)
    return make_agent(config, env=room_module().make_env())


@pytest.mark.long
def test_chunks_and_new_hypers_do_not_show(room_agent, count_compilations):
    init, iterate = jax.jit(room_agent.init), jax.jit(room_agent.iterate)
    h = Hypers().as_arrays()
    state = init(jax.random.key(0), h)
    whole, _ = iterate(state, h, 12)
    half, _ = iterate(state, h, 5)
    before = count_compilations()
    half, _ = iterate(half, h, 7)
    assert same_bits(whole, half)
    other, _ = iterate(state, Hypers(learning_rate=5e-3, gamma=0.9).as_arrays(), 12)
    assert count_compilations() == before and not same_bits(whole.learner.params, other.learner.params)


@pytest.mark.long
def test_a_lane_is_its_solo_run(room_agent):
    """Two lanes that differ in seed and step size, on a device each: state, metrics and evaluation bit for bit."""

    def run(seeds, rates):
        lanes = make_lanes(room_agent, make_plan(room_agent, len(seeds)), eval_episodes=3)
        keys, each = lanes.put(seed_keys(seeds)), [Hypers(learning_rate=rate).as_arrays() for rate in rates]
        h = lanes.put(jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(each)))
        state, metrics = lanes.iterate(lanes.init(keys, h), h, 12)
        return lanes.get(state), lanes.get(metrics), lanes.get(lanes.evaluate(state.learner.params, keys, 0.1))

    seeds, rates = (3, 4), (1e-3, 3e-3)
    both = run(seeds, rates)
    for i in range(2):
        alone = run(seeds[i : i + 1], rates[i : i + 1])
        for ours, theirs in zip(both, alone, strict=True):
            assert same_bits(lane(ours, i), lane(theirs, 0))


def lane(tree, i):
    """Lane i of a tree of lanes, counters as they are."""
    return jax.tree.map(lambda node: node if is_counter(node) else node[i], tree, is_leaf=is_counter)


COMPOSED = [
    (("categorical", "double", True, True, "prioritized", 3), {"random_shift": 1, "resets": True}),
    (("scalar", "munchausen", False, False, "uniform", 1), {"ensemble": 2, "norm": "batch"}),
    (("fqf", "max", True, False, "uniform", 3), {"network": "impala-cnn", "spectral_norm": True, "pool": 1}),
]


@pytest.mark.long
@pytest.mark.parametrize(("combination", "changes"), COMPOSED, ids=[case[0][0] for case in COMPOSED])
def test_choices_compose_on_a_tree(combination, changes):
    """As in the product of the seams: three lanes of 2,000 steps, finite, and new values compile nothing."""
    register("env", "room", room_module().make_env)
    result = check(Combination(*combination), env="room", **changes)
    assert good(result), result


def test_named_tuples_become_dicts_and_lists_tuples():
    pair = namedtuple("pair", "near far")
    env = cartpole(lambda x: pair(near=[x[:2], x[2:3]], far=x[3]), num_obs_values=pair(near=[None], far=None))
    assert env.spec.obs_shape == {"near": ((2,), (1,)), "far": ()} == env.spec._replace().obs_shape
    state, obs = env.reset(jax.random.key(0), 3)
    assert jax.tree.map(jnp.shape, obs) == {"far": (3,), "near": ((3, 2), (3, 1))}
    state, obs, row = env.step(jax.random.key(1), state, jnp.zeros(3, jnp.int32))
    assert all(jax.tree.structure(tree) == jax.tree.structure(obs) for tree in (row.obs, row.final_obs))
    assert same_bits(env.observe(state), obs)


def test_spaces_of_gymnaxs_protocol_say_what_the_parts_are():
    """A number of a discrete part and the bound of uint8 are read of the spaces, found by name."""
    spaces = gymnax.environments.spaces

    def observe(count):
        return {"id": count % 3, "grid": jnp.full((2,), count % 3, jnp.uint8), "x": count / 10.0}

    def step_env(key, count, action, params):
        return observe(count + 1), count + 1, 1.0, count >= 4, False, {}

    parts = {
        "id": spaces.Discrete(3),
        "grid": spaces.Box(0, 2, (2,), jnp.uint8),
        "x": spaces.Box(0, 1, (), jnp.float32),
    }
    env = SimpleNamespace(
        name="protocol",
        default_params=None,
        num_actions=2,
        observation_space=lambda params: spaces.Dict(parts),
        reset_env=lambda key, params: (observe(jnp.int32(0)), jnp.int32(0)),
        step_env=step_env,
    )
    spec = as_env(env).spec
    assert spec.num_obs_values == {"id": 3, "grid": None, "x": None}
    assert spec.obs_scale == {"id": None, "grid": 2.0, "x": None}


@pytest.mark.parametrize(
    ("observe", "says", "words"),
    [
        (lambda x: {"a": x, "id": jnp.uint8(3)}, {}, r"observations \(id\) are uint8: say num_obs_values"),
        (
            lambda x: {"a": x, "id": jnp.int32(3)},
            {"num_obs_values": {"id": 3}},
            r"\(id\) that are none of its values 0",
        ),
        (lambda x: {"a": x}, {"num_obs_values": {"b": 3}}, "num_obs_values speaks of b, and its observation is a"),
        (lambda x: {"a": x}, {"num_obs_values": {"a": 3}}, "type float32: give whole numbers"),
        (lambda x: {"a": x, "eye": jnp.ones((4, 4, 1), jnp.uint8)}, {}, r"\(eye\) are uint8 and reach 1 at most"),
        (lambda x: {"a": x, "eye": jnp.ones((4, 16, 16))}, {}, r"\(eye\), pictures \(4, 16, 16\), seem"),
        (lambda x: {"a": x, "b": x * 1j}, {}, r"observations \(b\) are of the type complex64: give numbers"),
        (lambda x: {"a": x, "b": "go"}, {}, r"observations \(b\) are of the type <U2: give numbers, or leave them out"),
        (lambda x: {"a": {}}, {}, "its observation holds no array"),
    ],
)
def test_what_a_network_could_take_for_something_else_is_a_sentence(observe, says, words):
    with pytest.raises(SettingError, match=words) as told:
        cartpole(observe, **says)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ({"a": 0.0}, "its observations are a, b, and a later"),
        ({"a": 0.0, "b": np.zeros(3), "c": 1.0}, "its observations are a, b, and a, b, c later"),
        ({"a": 0.0, "b": np.zeros(2)}, r"its observations \(b\) are \(3,\) float32, and \(2,\) float32 later"),
        ({"a": 0, "b": np.zeros(3)}, r"its observations \(a\) are \(\) float32, and \(\) int32 later"),
    ],
)
def test_an_observation_that_changes_names_what_does(later, words):
    def reset(key):
        return {"a": jnp.float32(0), "b": jnp.zeros(3)}, jnp.int32(0)

    with pytest.raises(SettingError, match=words):
        batch_env(reset, lambda key, state, action: (later, state, 0.0, False), num_actions=2, time_limit=5)


def test_a_record_by_hand_keeps_to_its_spec():
    """Its trees are plain ones, of the arrays that its spec has."""
    env = cartpole(lambda x: {"a": x[:1], "b": x[1:]})
    assert as_env(env).spec.obs_shape == {"a": (1,), "b": (3,)}
    other = env.spec._replace(obs_shape={"a": (1,), "b": (2,)})
    with pytest.raises(
        SettingError, match=r"reset gives observations \(b\) \(3, 3\) float32, and its spec says \(3, 2\)"
    ):
        as_env(env._replace(spec=other))
    pair = namedtuple("pair", "a b")
    odd = env._replace(reset=lambda key, count: (lambda state, obs: (state, pair(**obs)))(*env.reset(key, count)))
    with pytest.raises(SettingError, match="reset gives other trees than dicts and tuples"):
        as_env(odd)
    assert plain(pair(1, 2)) == {"a": 1, "b": 2}


def test_check_is_silent_on_the_room_and_names_the_array(monkeypatch):
    """What it says of arrays that say too little, hold large numbers, or lie beyond their values."""
    monkeypatch.setattr(play, "STEPS", 64)
    env, key = room_module().make_env(), jax.random.key(0, impl="threefry2x32")
    once, lanes = play_device(env, key), play_device(env, key, lanes=True)
    sound = Subject(env.spec, once, once, lanes)
    assert {f.severity for f in judge(sound) if f.name != "speed"} == {"ok"}

    def inputs(subject):
        return {finding.name: finding for finding in judge(subject)}["inputs"]

    silent = inputs(sound._replace(spec=env.spec._replace(num_obs_values=None, obs_scale=None)))
    assert silent.severity == "note" and silent.value == "map: uint8 up to 1, which is divided by 255"
    few = inputs(sound._replace(spec=env.spec._replace(num_obs_values={"facing": 3})))
    assert few.severity == "alarm" and few.value == "facing: values from 0 to 3 of 3"
    large = once._replace(after={**once.after, "time": 1e4 * once.after["time"]})
    told = inputs(sound._replace(played=large))
    assert told.severity == "note" and told.value == "time: float32 (), up to 1e+04 in size"
    broken = once._replace(after={**once.after, "time": np.full_like(once.after["time"], np.nan)})
    found = {finding.name: finding.value for finding in judge(sound._replace(played=broken))}["finite"]
    assert found == "observations (time) are no finite numbers"
    stale = once._replace(row=once.row.replace(obs={**once.row.obs, "facing": once.row.obs["facing"] + 1}))
    assert {f.name: f.severity for f in judge(sound._replace(played=stale))}["chain"] == "alarm"


def test_a_configuration_names_it_as_any_other():
    register("env", "room", room_module().make_env)
    env = build_env(Config(env="room", env_params={"size": 4}))
    assert env.spec.obs_shape == {"map": (4, 4, 2), "facing": (), "time": ()}
    assert env.spec.num_obs_values == {"map": None, "facing": 4, "time": None}
    assert env.spec.fewest_steps == env.spec.time_limit == 20
