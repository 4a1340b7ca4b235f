"""Memories: a window is its steps one by one, episodes don't see one another, and cells are those of the papers."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxdqn.build import build_model, register
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.networks import memory
from purejaxdqn.networks.windows import Recall, Window, begin, steps_in_a_row
from purejaxdqn.observations.moments import RUNNING, Moments

pytestmark = pytest.mark.usefixtures("strict_ranks")

T, B, A, SIZE = 5, 2, 2, 8
SPEC = EnvSpec("Test-v0", A, (4,), "float32", None, 100)
CELLS = ("gru", "lru", *(pytest.param(cell, marks=pytest.mark.long) for cell in ("lstm", "attention")))
# One environment goes on with the episode before; the other begins at the first step, then two in a row.
STARTS = np.zeros((T, B), bool)
STARTS[[0, 2, 3], 1] = True


@cache
def make(cell, **changes):
    """A small network with a memory, its parameters, none of them zero, and a window with a carry from some steps."""
    window = {"memory_window": 3} if cell == "attention" else {}
    config = Config(learner="rollout", hidden=(6, 5), memory=cell, memory_size=SIZE, norm="none", **window, **changes)
    network, _ = build_model(config, SPEC)
    remember = jax.jit(network.remember, static_argnums=3)
    network = network._replace(remember=remember, apply=lambda *given: remember(*given)[0])
    params = jax.tree.map(lambda leaf: leaf + 0.1, jax.jit(network.init)(jax.random.key(0)))
    before, obs = np.random.default_rng(0).normal(size=(2, T, B, 4)).astype(np.float32)
    none = jnp.zeros((T, B), bool)
    carry = remember(params, Window(before, none, network.init_carry(B).carry), None, "greedy")[1]
    return network, params, Window(jnp.asarray(obs), jnp.asarray(STARTS), carry)


def step_by_step(network, params, window):
    """Values [T · B, A] of a window whose steps are taken one after another, and what is carried then."""
    recall, found = Recall(window.carry, None), []
    for obs, starts in zip(window.obs, window.starts, strict=True):
        dist, recall = network.step(params, obs, begin(recall, starts), None, "greedy")
        found.append(dist.x[..., 0])
    return jnp.concatenate(found), recall.carry


def assert_close(found, expected, tolerance=1e-5):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "cell", ["gru", *(pytest.param(cell, marks=pytest.mark.long) for cell in ("lru", "lstm", "attention"))]
)
def test_a_window_is_its_steps_one_by_one(cell):
    """Values, what is carried after it, and the gradients of parameters, observations and the carry before."""
    network, params, window = make(cell)
    weight = jax.random.normal(jax.random.key(2), (T * B, A))
    real, held = partition(window.carry)

    def at_once(window, params):
        dist, after = network.remember(params, window, None, "greedy")
        return dist.x[..., 0], after

    def loss(run, params, obs, real):
        values, after = run(window.replace(obs=obs, carry=held(real)), params)
        return jnp.sum(weight * values) + sum(jnp.sum(jnp.sin(leaf)) for leaf in partition(after)[0]), (values, after)

    found, expected = (
        jax.jit(jax.value_and_grad(partial(loss, run), argnums=(0, 1, 2), has_aux=True))(params, window.obs, real)
        for run in (at_once, lambda window, params: step_by_step(network, params, window))
    )
    assert_close(found, expected)


def partition(carry):
    """The numbers that are carried, and the function that puts others in their place."""
    leaves, shape = jax.tree.flatten(carry)

    def held(real):
        rest = iter(real)
        return jax.tree.unflatten(shape, [next(rest) if leaf.dtype == jnp.float32 else leaf for leaf in leaves])

    return [leaf for leaf in leaves if leaf.dtype == jnp.float32], held


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_of_an_episode_is_seen_in_the_next(cell):
    """Whatever is carried and was observed before, from a start on values are those of a fresh episode."""
    network, params, window = make(cell)
    dist, after = network.remember(params, window, None, "greedy")
    first = network.init_carry(B)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(first.carry)) and first.starts.all()
    # Of the second environment the steps from 3 on, as the first steps of a window.
    moved = jax.tree.map(lambda leaf: jnp.roll(leaf, -3, axis=0), (window.obs, window.starts))
    alone = network.apply(params, Window(*moved, first.carry), None, "greedy")
    of_one = lambda values: values.x.reshape(T, B, A)[:, 1]  # noqa: E731
    assert_close(of_one(dist)[3:], of_one(alone)[: T - 3])
    # To the bit: what is zeroed is not multiplied by a small number.
    real, held = partition(window.carry)
    far, rest = network.remember(params, window.replace(carry=held([leaf + 1e6 for leaf in real])), None, "greedy")
    np.testing.assert_array_equal(of_one(far), of_one(dist))
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(rest), strict=True):
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("cell", CELLS)
def test_a_burn_in_moves_what_is_carried_and_has_no_gradient(cell):
    """Its steps give no values; the picked steps of the others are those of all."""
    network, params, window = make(cell)
    whole = network.apply(params, window, None, "greedy").x.reshape(T, B, A)
    pick = jnp.array([[0, 1], [2, 0]])

    def picked(obs):
        dist = network.apply(params, window.replace(obs=obs, burn_in=2, pick=pick), None, "greedy")
        return jnp.sum(jnp.square(dist.x)), dist.x

    gradient, values = jax.jit(jax.grad(picked, has_aux=True))(window.obs)
    assert_close(values.reshape(2, B, A), whole[2:][pick, jnp.arange(B)[None]])
    # No step after the last one that was picked, 1 of the second environment, counts.
    assert ((jnp.abs(gradient).sum(-1) > 0) == jnp.array([[0, 0], [0, 0], [1, 1], [1, 1], [1, 0]], bool)).all()


@pytest.mark.long
def test_attention_sees_the_newest_frames_and_no_others():
    """With a window of 3, step 4 sees steps 2 to 4; and step 1 sees one that was before the window, of the carry."""
    network, params, window = make("attention")
    window = window.replace(starts=jnp.zeros_like(window.starts))

    def value(obs, frames, step):
        carry = window.carry._replace(frames=frames)
        dist = network.apply(params, Window(obs, window.starts, carry), None, "greedy")
        return jnp.sum(dist.x.reshape(T, B, A)[step])

    slopes = jax.jit(jax.grad(value, argnums=(0, 1)))
    of_obs, _ = slopes(window.obs, window.carry.frames, 4)
    assert ((jnp.abs(of_obs).sum(axis=(1, 2)) > 0) == (np.arange(T) >= 2)).all()
    _, of_frames = slopes(window.obs, window.carry.frames, 1)
    assert (jnp.abs(of_frames).sum(axis=(0, 2)) > 0).tolist() == [False, True]


def cell_of(module, carry, x):
    """A module's parameters and its result for features [T, B, F] of one episode."""
    given = (carry, x, jnp.zeros(x.shape[:2], bool))
    params = jax.tree.map(lambda leaf: leaf + 0.05, jax.jit(module.init)(jax.random.key(0), *given))
    return params["params"], jax.jit(module.apply)(params, *given)


def run_flax(cell, own, carry, x):
    """The same of one of flax's cells, whose parameters are given."""
    after, y = jax.jit(lambda carry: jax.lax.scan(lambda h, step: cell.apply({"params": own}, h, step), carry, x))(
        carry
    )
    return y, after


def test_gru_is_flax_gru_cell():
    x, h = jax.random.normal(jax.random.key(3), (T, B, 5)), jax.random.normal(jax.random.key(4), (B, SIZE))
    params, (after, y) = cell_of(memory.GRU(SIZE), h, x)
    split = lambda array: jnp.split(array, 3, axis=-1)  # noqa: E731
    given, bias, recurrent = (
        *(split(params["Dense_0"][name]) for name in ("kernel", "bias")),
        split(params["recurrent_kernel"]),
    )
    own = {f"i{name}": {"kernel": k, "bias": b} for name, k, b in zip("rzn", given, bias, strict=True)}
    own |= {f"h{name}": {"kernel": k} for name, k in zip("rzn", recurrent, strict=True)}
    own["hn"]["bias"] = params["recurrent_bias"]
    assert_close((y, after), run_flax(nn.GRUCell(SIZE), own, h, x))


def test_lstm_is_flax_lstm_cell():
    """With the forget gate's bias of 1 among its biases."""
    x, carry = jax.random.normal(jax.random.key(3), (T, B, 5)), (jnp.ones((B, SIZE)), -jnp.ones((B, SIZE)))
    params, (after, y) = cell_of(memory.LSTM(SIZE), carry, x)
    parts = [jnp.split(params["Dense_0"]["kernel"], 4, axis=-1), jnp.split(params["recurrent_kernel"], 4, axis=-1)]
    bias = dict(zip("ifgo", jnp.split(params["Dense_0"]["bias"], 4), strict=True))
    bias["f"] = bias["f"] + 1.0
    own = {f"i{name}": {"kernel": k} for name, k in zip("ifgo", parts[0], strict=True)}
    own |= {f"h{name}": {"kernel": k, "bias": bias[name]} for name, k in zip("ifgo", parts[1], strict=True)}
    assert_close((y, after), run_flax(nn.LSTMCell(SIZE), own, carry, x))


def test_a_fresh_linear_recurrence_is_on_its_ring():
    """0.9 ≤ |λ| ≤ 0.999, uniform in area: the mean of |λ|² is halfway between the squares."""
    nu = memory.spread_rings(jax.random.key(0), (20_000,))
    radius = np.exp(-np.exp(np.asarray(nu, np.float64)))
    assert radius.min() >= 0.9 - 1e-5 and radius.max() <= 0.999 + 1e-5
    assert np.mean(radius**2) == pytest.approx((0.9**2 + 0.999**2) / 2, abs=2e-3)


RECUR = jax.jit(memory.recur)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 6, 9]), st.integers(0, 1_000))
def test_the_parallel_scan_is_the_recurrence(steps, seed):
    rng = np.random.default_rng(seed)
    decay, driven = rng.normal(size=(2, 2, steps, 2, 3)).astype(np.float32)
    decay, driven = (part[0] + 1j * part[1] for part in (decay, driven))
    decay[rng.uniform(size=decay.shape) < 0.3] = 0.0
    state, expected = np.zeros((2, 3), complex), []
    for a, b in zip(decay, driven, strict=True):
        state = a * state + b
        expected.append(state)
    found = RECUR(jnp.asarray(decay), jnp.asarray(driven))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * (1 + np.abs(expected).max()))


def test_normalised_observations_reach_a_memory_in_windows():
    """Moments as of other numbers: the values of a window, and of one step, are those of what these make of it."""
    (plain, own, window), (normal, params, _) = make("gru"), make("gru", normalize_obs=True)
    moments = Moments(jnp.ones(()), jnp.full(4, 2.0), jnp.full(4, 9.0))
    dist = normal.apply({**own, RUNNING: {"obs": moments}}, window, None, "greedy")
    assert params.keys() == {*own, RUNNING}
    assert_close(dist.x, plain.apply(own, window.replace(obs=(window.obs - 2.0) / 3.0), None, "greedy").x)


class Mean(nn.Module):
    """A memory of one's own: the running sum of an episode's features."""

    @nn.nowrap
    def init_carry(self, batch):
        return jnp.zeros((batch, 6))

    def __call__(self, carry, x, starts):
        def step(carry, inputs):
            carry = jnp.where(inputs[1][:, None], 0.0, carry) + inputs[0]
            return carry, carry

        return jax.lax.scan(step, carry, (x, starts))


def test_a_memory_of_ones_own():
    register("memory", "sum", lambda config: Mean())
    try:
        network, _ = build_model(Config(learner="rollout", hidden=(6,), memory="sum"), SPEC)
        params = jax.jit(network.init)(jax.random.key(0))
        obs = jax.random.normal(jax.random.key(1), (T, B, 4))
        window = Window(obs, jnp.asarray(STARTS), network.init_carry(B).carry)
        found = jax.jit(lambda: network.apply(params, window, None, "greedy").x[..., 0])()
        assert_close(found, jax.jit(lambda: step_by_step(network, params, window)[0])())
    finally:
        del memory.MEMORIES["sum"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ensemble": 3}, "ensemble=3: an ensemble's members"),
        ({"num_minibatches": 4, "num_envs": 6, "rollout_length": 2}, "of some of 6 environments: use a divisor"),
        ({"memory": "attention", "memory_size": 6}, "memory_size=6: attention has 4 heads: use a multiple of 4"),
        ({"memory": "elephant"}, "memory='elephant': use one of none, gru"),
    ],
)
def test_what_a_memory_cannot_be_combined_with(changes, words):
    base = {"learner": "replay" if "ensemble" in changes else "rollout", "memory": "gru"}
    with pytest.raises(SettingError) as error:
        build_model(Config(**{**base, **changes}), SPEC)
    assert words in str(error.value)


def test_rows_of_a_window_are_flattened_in_time_order():
    """Examples are the environments of the first step, then those of the second."""
    assert steps_in_a_row(jnp.arange(6).reshape(3, 2)).tolist() == [0, 1, 2, 3, 4, 5]
