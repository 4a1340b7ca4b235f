"""The on-device loop: clocks, chunks, compilations, counts and evaluation."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.config import Config
from purejaxdqn.loops.device import make_agent, make_train
from purejaxdqn.loops.plan import state_bytes
from purejaxdqn.types import Hypers, is_counter, lane_axes

KEY = jax.random.key(0, impl="threefry2x32")


def assert_same_bits(a, b):
    """Two trees are equal in structure, dtypes and every bit."""
    jax.tree.map(_assert_same_bits, a, b)


def _assert_same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def first_kernel(params):
    """The kernel of the first layer, [..., 4, 16]."""
    (kernel,) = [np.asarray(leaf) for leaf in jax.tree.leaves(params) if leaf.shape[-2:] == (4, 16)]
    return kernel


def rows_of(state):
    """The rows that a ring which has not wrapped holds, as numpy [T, E]."""
    written = int(state.memory.ring.written.count)
    assert written <= state.memory.ring.capacity
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:written], state.memory.ring.rows)


def finished_episodes(rows, start):
    """(return, length) of every episode that ended at time `start` or later, counted by hand."""
    found = []
    for env in range(rows.reward.shape[1]):
        total, length = 0.0, 0
        for t in range(rows.reward.shape[0]):
            total, length = total + float(rows.reward[t, env]), length + 1
            if rows.terminated[t, env] or rows.truncated[t, env]:
                if t >= start:
                    found.append((total, length))
                total, length = 0.0, 0
    return found


@pytest.fixture(scope="module")
def agent(tiny_config):
    return make_agent(tiny_config)


@pytest.fixture(scope="module")
def init(agent):
    return jax.jit(agent.init)


@pytest.fixture(scope="module")
def iterate(agent):
    return jax.jit(agent.iterate)


# ---------------------------------------------------------------- one run


def test_chunks_do_not_show(init, iterate):
    """iterate(4) equals iterate(2) twice, and iterate(1) four times, bit for bit, on every leaf."""
    h = Hypers(target_period=3)
    start = init(KEY, h)
    whole, whole_metrics = iterate(start, h, 4)
    half, first = iterate(start, h, 2)
    half, second = iterate(half, h, 2)
    assert_same_bits(whole, half)
    single = start
    for _ in range(4):
        single, _ = iterate(single, h, 1)
    assert_same_bits(whole, single)
    for name in ("episodes", "env_steps", "updates", "return_sum", "length_sum"):
        assert getattr(first, name) + getattr(second, name) == getattr(whole_metrics, name)
    np.testing.assert_allclose(first.loss_sum + second.loss_sum, whole_metrics.loss_sum, rtol=1e-5)


def test_zero_iterations_change_nothing(init, iterate):
    start = init(KEY, Hypers())
    after, metrics = iterate(start, Hypers(), 0)
    assert_same_bits(start, after)
    assert metrics.updates == 0 and metrics.env_steps == 0


def test_new_hypers_do_not_recompile(init, iterate, count_compilations):
    """Python floats, numpy and jax scalars of other values, and other numbers of iterations, use the same program."""
    state = init(KEY, Hypers())
    state, _ = iterate(state, Hypers(), 1)
    jax.block_until_ready(iterate(state, Hypers().as_arrays(), 1))  # strongly typed scalars may be one program more
    programs, compiled = iterate._cache_size(), count_compilations()
    for rate, gamma, period in ((1e-3, 0.5, 7), (2e-3, 0.9, 9), (0.0, 1.0, 1)):
        h = Hypers(learning_rate=rate, gamma=gamma, target_period=period, tau=gamma, epsilon_start=gamma)
        state, _ = iterate(state, h, period)
    assert iterate._cache_size() == programs
    assert count_compilations() == compiled


def test_the_state_of_init_is_that_of_iterate(init, iterate):
    """The first and the second chunk run one program: shapes, dtypes and weak types do not change."""
    state = init(KEY, Hypers())
    before = iterate._cache_size()
    once, _ = iterate(state, Hypers(), 1)
    first = iterate._cache_size()
    iterate(once, Hypers(), 1)
    assert iterate._cache_size() == first <= before + 1
    describe = lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type)  # noqa: E731
    assert jax.tree.map(describe, state) == jax.tree.map(describe, once)


def test_memory_does_not_grow(agent, init, iterate):
    """After many more iterations than the replay holds, the state has the bytes that the plan counted."""
    h = Hypers()
    state, _ = iterate(init(KEY, h), h, 200)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == state_bytes(agent)
    assert int(state.memory.ring.size) == state.memory.ring.capacity


@pytest.mark.usual_compilation
def test_a_donated_chunk_copies_no_replay(tiny_config):
    """With a replay of 10^6 transitions, a chunk reuses the state, and its scratch space has no room for a copy."""
    config = tiny_config.replace(buffer_size=1_000_000)
    agent = make_agent(config)
    state = jax.eval_shape(agent.init, KEY, Hypers())
    compiled = jax.jit(agent.iterate, donate_argnums=0).lower(state, Hypers(), jnp.int32(4)).compile()
    memory = compiled.memory_analysis()
    size = state_bytes(agent)
    assert size > 20_000_000
    assert memory.alias_size_in_bytes > 0.99 * size
    assert memory.temp_size_in_bytes < 1_000_000


def equations(jaxpr):
    """Every equation of a jaxpr, those of inner ones included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


@pytest.mark.parametrize("lanes", [False, True])
def test_no_branch_and_no_select_on_the_replay(agent, tiny_config, lanes):
    """Over lanes a `cond` would run both branches, and a loop with a predicate per lane would select whole buffers."""
    state = jax.eval_shape(agent.init, KEY, Hypers())
    fn = agent.iterate
    if lanes:
        axes = lane_axes(state)
        grow = lambda node: (  # noqa: E731
            node
            if is_counter(node)
            else jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3, *leaf.shape), leaf.dtype), node)
        )
        state = jax.tree.map(grow, state, is_leaf=is_counter)
        fn = jax.vmap(agent.iterate, in_axes=(axes, None, None), out_axes=(axes, 0))
    jaxpr = jax.make_jaxpr(fn)(state, Hypers(), jnp.int32(2)).jaxpr
    found = list(equations(jaxpr))
    names = {equation.primitive.name for equation in found}
    assert {"while", "scan", "dot_general"} <= names  # the walk goes down to the network
    for equation in found:
        if equation.primitive.name == "cond":
            # Only by the platform that is compiled for, which leaves one of its branches.
            assert equation.params["branches_platforms"] is not None
        if equation.primitive.name == "while":
            assert equation.params["cond_jaxpr"].jaxpr.outvars[0].aval.shape == ()
        if equation.primitive.name == "select_n":
            assert equation.outvars[0].aval.size < tiny_config.buffer_size * 4 * (3 if lanes else 1)


def test_the_walk_finds_a_branch():
    """The check above can fail: a `cond` inside a scan inside a jit is found, and over lanes it is a select."""

    def fn(x, p):
        return jax.lax.scan(lambda c, _: (jax.lax.cond(p, lambda v: v + 1, lambda v: v, c), None), x, None, 3)[0]

    solo = jax.make_jaxpr(jax.jit(fn))(jnp.zeros(7), True).jaxpr
    lanes = jax.make_jaxpr(jax.vmap(fn))(jnp.zeros((2, 7)), jnp.array([True, False])).jaxpr
    assert "cond" in {e.primitive.name for e in equations(solo)}
    assert any(e.primitive.name == "select_n" and e.outvars[0].aval.size == 14 for e in equations(lanes))


# ---------------------------------------------------------------- prefill


def test_prefill(agent, init, tiny_config):
    """learning_starts environment steps, no update, target equal to the parameters, one clock for everything."""
    state = init(KEY, Hypers())
    steps = tiny_config.learning_starts // tiny_config.num_envs
    assert int(state.vector_steps.count) == int(state.memory.ring.written.count) == steps == 10
    assert int(state.learner.updates.count) == 0
    assert_same_bits(state.learner.params, state.learner.target_params)
    rows = rows_of(state)
    assert rows.valid.all()
    # Episodes that began in the prefill go on: running returns are those of the rows since each last end.
    for env in range(tiny_config.num_envs):
        done = np.flatnonzero((rows.terminated | rows.truncated)[:, env])
        since = steps - 1 - (done[-1] if len(done) else -1)
        assert int(state.episodes.episode_length[env]) == since
        assert float(state.episodes.episode_return[env]) == since


@pytest.mark.parametrize(
    ("learning_starts", "num_envs", "n_step", "expected"), [(0, 4, 3, 4), (41, 4, 1, 11), (8, 7, 1, 2)]
)
def test_prefill_is_rounded_up_and_holds_a_window(learning_starts, num_envs, n_step, expected):
    config = Config(learning_starts=learning_starts, num_envs=num_envs, n_step=n_step)
    assert config.prefill_steps == expected


def test_prefill_actions_are_random_whatever_epsilon_says(tiny_config):
    """Uniform over 4 000 draws: 5.5 standard errors, 4e-8 of fresh seeds; and independent of ε and of the network."""
    config = tiny_config.replace(learning_starts=4_000, buffer_size=4_000, total_steps=8_000)
    init = jax.jit(make_agent(config).init)
    greedy = init(KEY, Hypers(epsilon_start=0.0, epsilon_final=0.0))
    actions = rows_of(greedy).action
    assert actions.size == 4_000
    assert abs(actions.mean() - 0.5) < 5.5 * 0.5 / np.sqrt(4_000)
    np.testing.assert_array_equal(actions, rows_of(init(KEY, Hypers(epsilon_start=1.0))).action)
    assert np.abs(np.corrcoef(actions.T) - np.eye(4)).max() < 5.5 / np.sqrt(1_000)


def test_seeds_differ_in_everything(init, iterate):
    """Parameters, resets, prefill actions, environment states and the keys of what follows."""
    h = Hypers()
    one, other = (init(jax.random.key(seed), h) for seed in (0, 1))
    assert not np.any(first_kernel(one.learner.params) == first_kernel(other.learner.params))
    assert not np.any(rows_of(one).obs[0] == rows_of(other).obs[0])
    assert np.mean(rows_of(one).action == rows_of(other).action) < 0.9
    assert not np.array_equal(one.key_data, other.key_data)
    # The rows after the prefill come from another key too: with the same start, the run key alone changes them.
    same_start = one.replace(key_data=other.key_data)
    a, b = (rows_of(iterate(s, Hypers(epsilon_fraction=1.0), 30)[0]) for s in (one, same_start))
    np.testing.assert_array_equal(a.action[:10], b.action[:10])
    assert 0.2 < np.mean(a.action[10:] == b.action[10:]) < 0.8


def test_raw_and_typed_keys_are_one_seed(init):
    assert_same_bits(init(KEY, Hypers()), init(jax.random.key_data(KEY), Hypers()))


# ---------------------------------------------------------------- counts


def test_metrics_equal_a_count_by_hand(init, iterate, tiny_config):
    """Episodes, returns, lengths and steps of a chunk, against the rows in the replay; later chunks start afresh."""
    config, h = tiny_config, Hypers(epsilon_fraction=1.0, learning_rate=0.0)
    state = init(KEY, h)
    start = int(state.vector_steps.count)
    for n in (15, 20):
        state, metrics = iterate(state, h, n)
        found = finished_episodes(rows_of(state), start)
        start += n
        assert len(found) > 0
        assert int(metrics.episodes) == len(found)
        assert float(metrics.return_sum) == sum(total for total, _ in found)
        assert float(metrics.length_sum) == sum(length for _, length in found)
        assert int(metrics.env_steps) == n * config.num_envs and int(metrics.updates) == n


def test_a_chunk_without_an_episode_says_so(init, iterate):
    """No episode ends in one step of some chunk: 0 episodes and sums of 0, so that the mean is missing, not 0."""
    h = Hypers()
    state, counts = init(KEY, h), []
    for _ in range(12):
        state, metrics = iterate(state, h, 1)
        counts.append(int(metrics.episodes))
        if counts[-1] == 0:
            assert metrics.return_sum == 0.0 and metrics.length_sum == 0.0
    assert 0 in counts and max(counts) > 0


def test_epsilon_in_the_metrics_is_that_of_the_last_step(init, iterate, tiny_config):
    """Prefill 40 steps, then 5 iterations of 4: the last action was taken after 56 environment steps of 4 000."""
    h = Hypers(epsilon_start=1.0, epsilon_final=0.0, epsilon_fraction=0.5)
    _, metrics = iterate(init(KEY, h), h, 5)
    np.testing.assert_allclose(metrics.epsilon, 1.0 - 56 / 2_000, rtol=1e-6)


def test_greedy_runs_act_greedily(agent, init, iterate):
    """With ε = 0 and no learning, every action after the prefill is the network's argmax."""
    h = Hypers(epsilon_start=0.0, epsilon_final=0.0, learning_rate=0.0)
    state, _ = iterate(init(KEY, h), h, 10)
    rows = rows_of(state)
    q = agent.parts.network.apply(state.learner.params, rows.obs[10:].reshape(-1, 4), None, "greedy").x[..., 0]
    np.testing.assert_array_equal(rows.action[10:].ravel(), np.argmax(q, axis=-1))


def test_truncated_episodes_are_cut_not_terminated(tiny_config):
    """With a limit of 5 steps every episode of CartPole is truncated, none terminated, and all are 5 long."""
    config = tiny_config.replace(env_params=(("max_steps_in_episode", 5),))
    agent = make_agent(config)
    h = Hypers(epsilon_fraction=1.0)
    state, metrics = jax.jit(lambda key: agent.iterate(agent.init(key, h), h, 30))(KEY)
    rows = rows_of(state)
    assert not rows.terminated.any()
    ends = np.arange(rows.truncated.shape[0]) % 5 == 4
    np.testing.assert_array_equal(rows.truncated, np.repeat(ends[:, None], 4, axis=1))
    assert float(metrics.return_sum) == float(metrics.length_sum) == 5 * int(metrics.episodes) == 5 * 4 * 6


# ---------------------------------------------------------------- periods


@pytest.fixture(scope="module")
def odd():
    """Sizes that divide nothing: 7 environments, rollouts of 3, 2 updates; `iterate` of one, and its start."""
    config = Config(
        num_envs=7,
        total_steps=5_000,
        rollout_length=3,
        updates_per_rollout=2,
        buffer_size=1_000,
        batch_size=9,
        learning_starts=50,
        n_step=2,
        hidden=(8,),
    )
    agent = make_agent(config)
    return config, jax.jit(agent.init), jax.jit(agent.iterate)


def test_counts_with_seven_environments(odd):
    """Prefill 8 vector steps (56 ≥ 50), 236 iterations of 21 steps reach 5 000 and do not pass by a whole one."""
    config, init, iterate = odd
    h = Hypers()
    state = init(KEY, h)
    assert int(state.vector_steps.count) == 8
    assert config.num_iterations == 236 and 56 + 236 * 21 >= 5_000 > 56 + 235 * 21
    assert config.num_updates == 472
    state, metrics = iterate(state, h, 11)
    assert int(metrics.env_steps) == 11 * 21 and int(metrics.updates) == int(state.learner.updates.count) == 22
    assert int(state.vector_steps.count) == int(state.memory.ring.written.count) == 8 + 33


@pytest.mark.parametrize("period", [1, 2, 3, 5, 6])
def test_target_syncs_at_multiples_of_its_period(odd, period):
    """With 2 updates an iteration: the target changes when a multiple of the period is crossed, and only then.

    Where the multiple is an iteration's last update, the target equals the parameters; else it does not.
    """
    _, init, iterate = odd
    h = Hypers(target_period=period)
    state = init(KEY, h)
    flat = lambda params: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])  # noqa: E731
    for i in range(8):
        before = flat(state.learner.target_params)
        state, _ = iterate(state, h, 1)
        params, target = flat(state.learner.params), flat(state.learner.target_params)
        crossed = (2 * i + 2) // period > (2 * i) // period
        assert np.array_equal(before, target) != crossed
        assert np.array_equal(params, target) == ((2 * i + 2) % period == 0)


def test_soft_target(init, iterate):
    """τ = ¼ at every second update: the target moves a quarter of the way, and stays in between."""
    h = Hypers(target_period=2, tau=0.25)
    state = init(KEY, h)
    for i in range(4):
        before = state.learner.target_params
        state, _ = iterate(state, h, 1)
        expected = before
        if i % 2:
            expected = jax.tree.map(lambda p, t: 0.25 * p + 0.75 * t, state.learner.params, before)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), state.learner.target_params, expected
        )


def test_the_average_follows_every_update_and_is_what_plays(tiny_config):
    averaging = make_agent(tiny_config.replace(average_params=True))
    h = Hypers(average_decay=0.6, learning_rate=1e-2)
    iterate = jax.jit(averaging.iterate)
    state = jax.jit(averaging.init)(KEY, h)
    expected = state.learner.params
    for i in range(4):
        state, _ = iterate(state, h, 1)
        share = max(0.4, 1 / (i + 1))
        expected = jax.tree.map(lambda p, a, share=share: share * p + (1 - share) * a, state.learner.params, expected)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.learner.average, expected
        )
    assert state.learner.policy_params is state.learner.average
    assert not np.array_equal(first_kernel(state.learner.average), first_kernel(state.learner.params))


def test_an_average_changes_nothing_of_training(tiny_config, init, iterate):
    averaging = make_agent(tiny_config.replace(average_params=True))
    averaged, _ = jax.jit(averaging.iterate)(jax.jit(averaging.init)(KEY, Hypers()), Hypers(), 5)
    plain, _ = iterate(init(KEY, Hypers()), Hypers(), 5)
    assert_same_bits(averaged.learner.params, plain.learner.params)
    assert plain.learner.average == () and plain.learner.policy_params is plain.learner.params


# ---------------------------------------------------------------- make_train and evaluate


@pytest.fixture(scope="module")
def short(tiny_config):
    """A whole run of 9 iterations."""
    return tiny_config.replace(total_steps=76)


@pytest.mark.long
@pytest.mark.slow
def test_train_under_jit_and_over_a_grid(short, init, iterate, count_compilations):
    """The whole run as one function: alone it is `init` and `iterate`, and one compilation serves a grid of lanes."""
    assert short.num_iterations == 9
    train = make_train(short, num_chunks=4)
    solo_train = jax.jit(train)
    # Flat schedules, so that the longer run, whose functions are compiled already, is the same one.
    flat = Hypers(learning_rate=1e-3, learning_rate_final=1e-3, epsilon_start=0.3, epsilon_final=0.3)
    state, metrics = solo_train(KEY, flat)
    expected, _ = iterate(init(KEY, flat), flat, 9)
    assert_same_bits(state, expected)
    # Nine iterations in four chunks: the longer ones first.
    np.testing.assert_array_equal(metrics.updates, [3, 2, 2, 2])

    rates = jnp.array([1e-4, 1e-2])
    keys = jnp.stack([KEY, jax.random.key(1, impl="threefry2x32")])

    @jax.jit
    def grid(keys, rates):
        over_rates = jax.vmap(lambda key, rate: train(key, Hypers(learning_rate=rate))[0].learner, in_axes=(None, 0))
        return jax.vmap(over_rates, in_axes=(0, None))(keys, rates).params

    params = jax.block_until_ready(grid(keys, rates))
    compiled = count_compilations()
    other = jax.block_until_ready(grid(keys, 2 * rates))
    assert grid._cache_size() == 1 and count_compilations() - compiled <= 1  # the product 2 * rates
    kernel = first_kernel(params)
    assert kernel.shape == (2, 2, 4, 16)
    assert len({kernel[i, j].tobytes() for i in range(2) for j in range(2)}) == 4
    assert not np.array_equal(kernel, first_kernel(other))
    solo, _ = solo_train(keys[1], Hypers(learning_rate=1e-2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1, 1], b, rtol=1e-4, atol=1e-5), params, solo.learner.params)


@pytest.fixture(scope="module")
def evaluate(agent):
    return jax.jit(agent.evaluate, static_argnames="episodes")


def test_evaluate_counts_each_first_episode_once(agent, init, evaluate):
    """Returns equal lengths in CartPole; they are those of a plain loop over one episode per environment."""
    params = init(KEY, Hypers()).learner.params
    result = jax.device_get(evaluate(params, KEY, episodes=6, epsilon=0.5))
    assert result.returns.shape == result.lengths.shape == (6,)
    np.testing.assert_array_equal(result.returns, result.lengths)
    assert result.lengths.min() >= 8 and result.lengths.max() < 500 and len(set(result.lengths.tolist())) > 1
    assert not np.array_equal(
        result.lengths, jax.device_get(evaluate(params, jax.random.key(9), episodes=6, epsilon=0.5)).lengths
    )


def test_greedy_evaluation_equals_a_loop_by_hand(agent, init, evaluate):
    """CartPole is deterministic after its reset: the lengths follow from the resets and the greedy policy alone."""
    env, params = agent.parts.env, init(KEY, Hypers()).learner.params
    result = jax.device_get(evaluate(params, KEY, episodes=4))
    state, obs = env.reset(jax.random.split(KEY)[0], 4)
    running, lengths = np.ones(4, bool), np.zeros(4, int)
    step = jax.jit(env.step)
    q_values = jax.jit(lambda obs: agent.parts.network.apply(params, obs, None, "greedy").x[..., 0])
    while running.any():
        state, obs, row = step(KEY, state, jnp.argmax(q_values(obs), axis=-1))
        lengths += running
        running &= ~np.asarray(row.terminated | row.truncated)
    np.testing.assert_array_equal(result.lengths, lengths)


def test_evaluation_ends_at_the_time_limit(tiny_config):
    """With a limit of 5 steps every episode is 5 long, and the loop ends."""
    agent = make_agent(tiny_config.replace(env_params=(("max_steps_in_episode", 5),)))
    params = agent.parts.network.init(KEY)
    result = jax.device_get(jax.jit(partial(agent.evaluate, episodes=7))(params, KEY))
    np.testing.assert_array_equal(result.lengths, [5] * 7)
    np.testing.assert_array_equal(result.returns, [5.0] * 7)


def test_rows_that_are_no_transitions_are_not_counted(agent):
    """An environment that swallows its second step: evaluation, returns and lengths leave that step out."""
    env = agent.parts.env

    def step(key, state, action):
        inner, time = state
        inner, obs, row = env.step(key, inner, action)
        row = dataclasses.replace(row, reward=jnp.where(time == 1, 100.0, 1.0) + jnp.zeros_like(row.reward))
        row = dataclasses.replace(
            row, valid=jnp.full_like(row.valid, time != 1), terminated=jnp.full_like(row.valid, time == 4)
        )
        return (inner, time + 1), obs, row

    def reset(key, num_envs):
        inner, obs = env.reset(key, num_envs)
        return (inner, jnp.int32(0)), obs

    from purejaxdqn.loops.evaluation import make_evaluate

    swallowing = env._replace(step=step, reset=reset, observe=lambda state: env.observe(state[0]))
    evaluate = make_evaluate(agent.parts._replace(env=swallowing))
    result = evaluate(agent.parts.network.init(KEY), KEY, episodes=2)
    # Steps 0 to 4, of which step 1 does not count.
    np.testing.assert_array_equal(result.lengths, [4, 4])
    np.testing.assert_array_equal(result.returns, [4.0, 4.0])
