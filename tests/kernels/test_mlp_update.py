"""The update as one kernel against the plain update, by Pallas's interpreter; which runs it is chosen for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn import make_agent
from purejaxdqn.build import build, build_backup, build_model
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.kernels import choice
from purejaxdqn.learn import init_learner, make_replay_learn
from purejaxdqn.replay.presampled import DrawnMemory, drawn_replay
from purejaxdqn.types import Hypers, Transition

SPEC = EnvSpec("made up", num_actions=3, obs_shape=(5,), obs_dtype="float32", num_obs_values=None, time_limit=100)


def batches_of(seed, updates, size, features=5):
    """Memory of so many random batches; some of their steps end an episode."""
    rng = np.random.default_rng(seed)
    shape = (updates, size)
    obs_tm1, obs_t = (jnp.asarray(rng.normal(size=(*shape, features)), jnp.float32) for _ in range(2))
    batch = Transition(
        obs_tm1=obs_tm1,
        a_tm1=jnp.asarray(rng.integers(0, 3, shape), jnp.int32),
        r_t=jnp.asarray(rng.normal(size=shape), jnp.float32),
        discount_t=jnp.asarray(rng.choice([0.0, 0.97], shape), jnp.float32),
        obs_t=obs_t,
    )
    weight = jnp.asarray(rng.uniform(0.2, 1.0, shape), jnp.float32)
    return DrawnMemory(batch, weight, jnp.zeros(shape), jnp.zeros((), jnp.int32))


def learn_both(config, h, updates, features=5):
    """Learner, memory with priorities and metrics after so many updates: (plain, by the kernel)."""
    spec = SPEC._replace(obs_shape=(features,))
    config = config.replace(updates_per_rollout=updates)
    network, head = build_model(config, spec)
    backup, h = build_backup(config, SPEC), h.as_arrays()
    learner, memory = (
        init_learner(config, network, jax.random.key(3), h),
        batches_of(1, updates, config.batch_size, features),
    )
    kernel = choice.find_kernel(config.replace(update_kernel=True), spec, backup)
    made = [make_replay_learn(config, network, head, backup, drawn_replay(), k) for k in (None, kernel)]
    return [jax.jit(lambda *args, m=m: m(*args, None, jax.random.key(0), h))(learner, memory) for m in made]


def check_close(plain, fused, tolerance):
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(fused), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=tolerance)


CHOICES = [
    {"hidden": (20, 9), "norm": "layer", "backup": "double", "loss": "huber", "batch_size": 96},
    {"hidden": (17,), "norm": "none", "backup": "max", "loss": "squared", "reduction": "sum", "activation": "tanh"},
    {"hidden": (16, 16, 3), "norm": "layer", "backup": "munchausen", "activation": "silu", "batch_size": 16},
]


@pytest.mark.parametrize(
    "changes",
    [CHOICES[1], *(pytest.param(choice, marks=pytest.mark.long) for choice in CHOICES[::2])],
    ids=["max", "double", "munchausen"],
)
def test_its_updates_are_those_of_the_plain_path(changes):
    """Parameters, target, moments, priorities and metrics, with a clip that bites and a schedule that falls."""
    falls = {"learning_rate_schedule": "linear", "learning_starts": 50, "total_steps": 400}
    config = Config(**{"batch_size": 32, **falls, **changes})
    h = Hypers(learning_rate=0.01, max_grad_norm=0.1, target_period=3, tau=0.5, huber_delta=0.6)
    (before, _, _), (after, _, _) = plain, fused = learn_both(config, h, 7)
    check_close(plain, fused, 1e-5)
    assert float(plain[2].grad_norm) > 7 * 0.1
    start = init_learner(config, build_model(config, SPEC)[0], jax.random.key(3), h.as_arrays())
    for name in ("params", "target_params"):
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), getattr(start, name), getattr(after, name))
        assert min(jax.tree.leaves(moved)) > 1e-4
    assert int(before.updates.count) == int(after.updates.count) == 7


def test_observations_of_one_number_are_no_scalars():
    config = Config(hidden=(8,), norm="none", batch_size=16)
    check_close(*learn_both(config, Hypers(learning_rate=0.01), 3, features=1), 2e-6)


@pytest.mark.long
@pytest.mark.parametrize("changes", CHOICES, ids=lambda changes: changes["backup"])
def test_a_thousand_updates_stay_close(changes):
    config = Config(**{"batch_size": 32, **changes})
    plain, fused = learn_both(config, Hypers(target_period=50), 1000)
    check_close(plain[0].params, fused[0].params, 1e-4)


@pytest.mark.long
def test_lanes_are_the_kernels_grid_and_equal_runs_alone():
    config = Config(hidden=(16,), batch_size=16, num_envs=2, learning_starts=32, update_kernel=True)
    agent = make_agent(config)
    hypers = [Hypers(learning_rate=rate, target_period=3).as_arrays() for rate in (1e-3, 1e-2)]
    alone = [jax.jit(lambda k, h: agent.iterate(agent.init(k, h), h, 3))(jax.random.key(0), h) for h in hypers]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *hypers)
    lanes = jax.jit(jax.vmap(lambda h: agent.iterate(agent.init(jax.random.key(0), h), h, 3)))(stacked)
    for lane in range(2):
        one = jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes)
        check_close(alone[lane][0].learner.params, one[0].learner.params, 1e-6)


REFUSED = {
    "the head is categorical": {"head": "categorical"},
    "the optimiser is rmsprop": {"optimizer": "rmsprop"},
    "the norm is batch": {"norm": "batch"},
    "products are of highest precision": {"matmul_precision": "highest"},
    "the network has two streams": {"dueling": True},
    "layers are noisy": {"noisy": True},
    "there is an ensemble": {"ensemble": 2},
    "the network has a memory": {"memory": "gru"},
    "parameters are averaged": {"average_params": True},
    "a batch of 40 is no multiple of 16": {"batch_size": 40},
    "hidden layers of (256, 256) are too wide": {"hidden": (256, 256)},
    "the network is no MLP": {"env": "Breakout-MinAtar"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_it_is_refused_in_a_sentence_where_it_does_not_know_the_run(reason):
    with pytest.raises(SettingError) as told:
        build(Config(update_kernel=True, **REFUSED[reason]))
    assert str(told.value).count("\n") == 0 and f"as {reason}: leave it out" in str(told.value)


def test_what_is_no_vector_of_numbers_has_no_kernel():
    trees = {"obs_shape": {"a": (4,)}, "obs_dtype": {"a": "float32"}}
    for changes in ({"num_obs_values": 7}, {"obs_dtype": "uint8"}, {"obs_scale": 2.0}, trees):
        assert choice.why_not(Config(), SPEC._replace(**changes)) == "observations are no vectors of numbers"
    assert choice.why_not(Config(), SPEC) is None
    assert choice.why_not(Config(), SPEC._replace(masked=True)) == "actions are masked"
    assert choice.why_not(Config(branching=True), SPEC) == "parts of an action have values of their own"
    assert choice.why_not(Config(learner="rollout"), SPEC) == "the learner is not replay"


class Gpu:
    def __init__(self, capability):
        self.compute_capability = capability


@pytest.mark.parametrize("capability", ["7.5", "gfx942"])
def test_a_gpu_that_cannot_run_it_is_refused_in_a_sentence(monkeypatch, capability):
    monkeypatch.setattr(jax, "local_devices", lambda: [Gpu(capability)])
    with pytest.raises(SettingError, match=f"capability 8.0, and this GPU has {capability}: leave it out"):
        choice.find_kernel(Config(update_kernel=True), SPEC, build_backup(Config(), SPEC))
    assert choice.find_kernel(Config(), SPEC, build_backup(Config(), SPEC)) is None
    monkeypatch.setattr(jax, "local_devices", lambda: [Gpu("9.0")])
    assert choice.find_kernel(Config(update_kernel=True), SPEC, build_backup(Config(), SPEC)) is not None
