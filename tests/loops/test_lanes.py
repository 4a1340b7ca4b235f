"""Lanes of the on-device loop: mapped and vmapped runs are solo runs, and what they compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import TINY_REPLAY, TINY_ROLLOUT, TINY_WINDOWS
from test_device_loop import assert_same_bits, first_kernel

from purejaxdqn.loops import plan
from purejaxdqn.loops.device import make_agent
from purejaxdqn.loops.lanes import make_lanes, repeat_hypers, seed_keys
from purejaxdqn.loops.plan import make_plan
from purejaxdqn.recipes.algorithms import ALGORITHMS
from purejaxdqn.recipes.recipes import RECIPES, make_settings
from purejaxdqn.types import Hypers, is_counter

pytestmark = pytest.mark.exact_lanes

KEY = jax.random.key(0, impl="threefry2x32")


def assert_floats_close_and_others_equal(a, b):
    """Two leaves: floats within 1e-5 (or 1e-4 of their value), integers and booleans equal."""
    if np.issubdtype(np.asarray(a).dtype, np.floating):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def agent(tiny_config):
    return make_agent(tiny_config)


SEEDS = [3, 1, 4]
LANE_HYPERS = [
    Hypers(learning_rate=1e-3, gamma=0.99, target_period=2),
    Hypers(learning_rate=3e-3, gamma=0.9, target_period=3, epsilon_fraction=1.0),
    Hypers(learning_rate=1e-2, gamma=0.5, target_period=5, tau=0.5),
]
CHUNKS = (3, 5)


def stack_hypers(hypers):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *[jax.device_get(h.as_arrays()) for h in hypers])


def run_lanes(lanes, seeds, hypers):
    """Chunks of some iterations; the state after each is checked for lane axes on its counters."""
    keys, h = lanes.put(seed_keys(seeds)), lanes.put(stack_hypers(hypers))
    state = lanes.init(keys, h)
    for n in (0, *CHUNKS):
        if n:
            state, metrics = lanes.iterate(state, h, n)
        for node in jax.tree.leaves(state, is_leaf=is_counter):
            if is_counter(node):
                assert node.count.shape == ()
    return lanes.get(state), lanes.get(metrics), lanes.get(lanes.evaluate(state.learner.params, keys, 0.1))


def lane(tree, i):
    """Lane i of a tree of lanes, counters as they are."""
    return jax.tree.map(lambda node: node if is_counter(node) else node[i], tree, is_leaf=is_counter)


@pytest.fixture(scope="module")
def solo_runs(agent):
    """Each of the three runs alone, on one device, through the same functions."""
    plan = make_plan(agent, 1)
    assert (plan.num_devices, plan.lanes_per_device, plan.block) == (1, 1, 1)
    lanes = make_lanes(agent, plan, eval_episodes=3)
    return [run_lanes(lanes, [seed], [h]) for seed, h in zip(SEEDS, LANE_HYPERS, strict=True)]


@pytest.fixture(scope="module")
def pair(agent):
    """Two lanes on two devices; the first test to use them compiles their programs."""
    return make_lanes(agent, make_plan(agent, 2), eval_episodes=2)


@pytest.mark.slow
def test_mapped_lanes_equal_solo_runs_bit_for_bit(agent, solo_runs):
    """Three lanes over two devices, one after another on each (and one of padding): state, metrics and evaluation."""
    plan = make_plan(agent, 3)
    assert (plan.num_devices, plan.lanes_per_device, plan.block) == (2, 2, 1)
    together = run_lanes(make_lanes(agent, plan, eval_episodes=3), SEEDS, LANE_HYPERS)
    for i, alone in enumerate(solo_runs):
        for ours, theirs in zip(together, alone, strict=True):
            assert_same_bits(lane(ours, i), lane(theirs, 0))
    kernels = first_kernel(together[0].learner.params)
    assert not np.any(kernels[0] == kernels[1]) and not np.any(kernels[1] == kernels[2])


@pytest.mark.long
def test_vmapped_lanes_equal_solo_runs(agent, solo_runs):
    """Blocks of two, one place of padding: floats within tolerance after a few updates, all else equal."""
    plan = make_plan(agent, 3, block=2)
    assert (plan.num_devices, plan.lanes_per_device, plan.block) == (2, 2, 2)
    state, metrics, _ = run_lanes(make_lanes(agent, plan, eval_episodes=3), SEEDS, LANE_HYPERS)
    for i, (alone, alone_metrics, _) in enumerate(solo_runs):
        for ours, theirs in ((lane(state, i), lane(alone, 0)), (lane(metrics, i), lane(alone_metrics, 0))):
            jax.tree.map(assert_floats_close_and_others_equal, ours, theirs)


TINY_OF = {
    **dict.fromkeys(("drqn", "r2d2"), TINY_WINDOWS),
    "pqn": TINY_ROLLOUT,
    "pqn-rnn": TINY_ROLLOUT | {"memory_size": 4},
}
"""Of the algorithms whose tiny runs have more settings than a replay."""
QUICK = ("pqn", "tiny")


def settings_of(algo, size):
    """CartPole's widths, norms, optimisers and clipping; or smaller layers and batches, of which XLA fuses more."""
    if size == "own":
        return make_settings(RECIPES["cartpole"], algo=algo, total_steps=20_000)
    return make_settings(RECIPES["cartpole"], algo=algo, **TINY_OF.get(algo, TINY_REPLAY))


@pytest.mark.usual_compilation
@pytest.mark.parametrize(
    ("algo", "size"),
    [
        pytest.param(algo, size, marks=[] if (algo, size) == QUICK else pytest.mark.long)
        for size in ("tiny", "own")
        for algo in ALGORITHMS
        # A product of a matrix of 8 by 8 and a vector: of two devices it is summed in another order.
        if (algo, size) != ("dueling", "tiny")
    ],
)
def test_lanes_on_two_devices_are_solo_runs_as_compiled_for_a_user(algo, size):
    """Every algorithm, with all optimisations."""
    config, h = settings_of(algo, size)
    agent = make_agent(config)

    def last_lane(seeds):
        lanes = make_lanes(agent, make_plan(agent, len(seeds)))
        hypers = lanes.put(repeat_hypers(h, len(seeds)))
        state, _ = lanes.iterate(lanes.init(lanes.put(seed_keys(seeds)), hypers), hypers, iterations)
        return lane(lanes.get(state), -1)

    iterations = -(-2_000 // config.steps_per_iteration)
    alone, beside = last_lane([1]), last_lane([0, 1])
    assert int(alone.learner.updates.count) > 5
    assert_same_bits(beside, alone)


@pytest.mark.long
def test_a_solo_lane_equals_plain_jit(agent, solo_runs):
    """Without any of the machinery of lanes: `init` and `iterate` under plain `jit`, bit for bit."""
    init, iterate = jax.jit(agent.init), jax.jit(agent.iterate)
    for seed, h, (alone, metrics, evaluation) in zip(SEEDS, LANE_HYPERS, solo_runs, strict=True):
        key = jax.random.key(seed, impl="threefry2x32")
        state = init(key, h)
        for n in CHUNKS:
            state, plain_metrics = iterate(state, h, n)
        assert_same_bits(state, lane(alone, 0))
        assert_same_bits(plain_metrics, lane(metrics, 0))
        plain = jax.jit(agent.evaluate, static_argnames="episodes")(
            state.learner.params, key, episodes=3, epsilon=jnp.float32(0.1)
        )
        assert_same_bits(plain, lane(evaluation, 0))


def test_lanes_compile_once(pair, count_compilations):
    """init, iterate and evaluate of lanes serve other seeds, hypers and chunk lengths, and states put back."""
    keys, h = pair.put(seed_keys([0, 1])), pair.put(stack_hypers(LANE_HYPERS[:2]))

    def everything(n):
        state, _ = pair.iterate(pair.init(keys, h), h, n)
        state, _ = pair.iterate(pair.put(pair.get(state)), h, n)
        return pair.evaluate(state.learner.params, keys, 0.0)

    jax.block_until_ready(everything(1))
    compiled = count_compilations()
    assert compiled > 0
    keys, h = pair.put(seed_keys([7, 8])), pair.put(stack_hypers(LANE_HYPERS[1:]))
    jax.block_until_ready(everything(2))
    assert count_compilations() == compiled


def test_programs_compiled_to_look_at_their_memory_are_those_that_run(
    agent, solo_runs, monkeypatch, count_compilations
):
    """Where the compiler is asked, nothing but `init` is compiled afterwards, and no bit is another."""
    monkeypatch.setattr(plan, "SMALL_SHARE", 10**9)
    lanes = make_lanes(agent, make_plan(agent, 1), eval_episodes=3)
    lanes.check()
    asked = count_compilations()
    alone = run_lanes(lanes, SEEDS[:1], LANE_HYPERS[:1])
    assert asked >= 2 and count_compilations() == asked + 1
    assert_same_bits(alone, solo_runs[0])


@pytest.mark.slow
@pytest.mark.parametrize("with_params", [pytest.param(False, marks=pytest.mark.long), True])
def test_lanes_compiled_ahead_compile_nothing_on_use(agent, pair, count_compilations, with_params):
    """Three programs at once, the very ones that are called: JAX must find them, or each would be compiled twice."""
    h = stack_hypers(LANE_HYPERS[:2])

    def everything(lanes):
        keys, hypers = lanes.put(seed_keys([0, 1])), lanes.put(h)
        given = lanes.put(params) if with_params else None
        before = count_compilations()
        lanes.compile(keys, hypers, given)
        compiled = count_compilations() - before
        state, metrics = lanes.iterate(lanes.init(keys, hypers, given), hypers, 2)
        out = jax.block_until_ready(lanes.evaluate(state.learner.params, keys, 0.1))
        return compiled, count_compilations() - before - compiled, lanes.get((state, metrics, out))

    params = jax.tree.map(
        lambda leaf: np.full((2, *leaf.shape), 0.1, leaf.dtype),
        jax.eval_shape(agent.init, KEY, Hypers()).learner.params,
    )
    # The small programs around them, such as the one that makes a number an array, are compiled by the first.
    _, _, expected = everything(pair._replace(compile=lambda *given: None))
    ahead, on_use, found = everything(make_lanes(agent, pair.plan, eval_episodes=2))
    assert (ahead, on_use) == (3, 0)
    assert_same_bits(found, expected)
