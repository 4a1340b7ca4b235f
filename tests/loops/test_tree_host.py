"""The host loop on trees: bytes of a step, and leaf by leaf the run that an environment of one array gives."""

import jax
import numpy as np
import pytest
from test_host_loop import SPEC, ScriptedPool, begin, learning_view, make_config, stored

from purejaxdqn.build import Parts, build_learner, build_model, choose
from purejaxdqn.config import EnvSpec
from purejaxdqn.envs.interface import HostEnv, HostStep
from purejaxdqn.loops.host import HostLoop
from purejaxdqn.loops.host_functions import pack, packed_bytes, unpack
from purejaxdqn.loops.host_lanes import picture_of
from purejaxdqn.observations.leaves import zeros

TREE = EnvSpec(
    "Tree-v5",
    3,
    {"codes": (2, 2, 4), "more": ((), (2,))},
    {"codes": "uint8", "more": ("int32", "float32")},
    {"more": (200,)},
    1000,
    frame_stack={"codes": 4},
)


class TreePool(ScriptedPool):
    """The same games; beside the picture the number of the step, and the environment with the episode, as floats."""

    def frame(self, ids):
        codes = super().frame(ids)
        numbers = np.stack([ids, self.episode[ids]], axis=-1).astype(np.float32) / 8
        return {"codes": codes, "more": (self.step[ids].astype(np.int32), numbers)}


def make_loop(spec, pool, **changes):
    config = make_config(**changes)
    env = HostEnv(spec, lambda count, seed, groups: pool(count, groups), learning_view, ("a", "b", "c"), 2, 4)
    network, head = build_model(config, spec)
    replay, learn = build_learner(config, env, network, head)
    return HostLoop(
        config, Parts(env, network, head, replay, learn, explorer=choose("explorer", config).make(config)), 0
    )


def test_one_array_holds_a_whole_step_of_a_tree():
    rng = np.random.default_rng(0)
    frame = {
        "codes": rng.integers(0, 256, (5, 2, 2, 1)).astype(np.uint8),
        "more": (rng.integers(0, 99, 5).astype(np.int32), rng.normal(size=(5, 2)).astype(np.float32)),
    }
    step = HostStep(frame, rng.normal(size=5).astype(np.float32), *(rng.random((4, 5)) < 0.5))
    packed = pack(step)
    assert packed.shape == (5, packed_bytes(TREE)) == (5, 4 + 4 + 8 + 7)
    found = jax.jit(lambda x: unpack(TREE, x))(packed)
    given = (step.frame, step.reward, step.terminated, step.truncated, step.begins)
    assert jax.tree.structure(found) == jax.tree.structure(given)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(given), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("replay", ["prioritized", pytest.param("uniform", marks=pytest.mark.long)])
def test_a_tree_is_stored_and_fed_leaf_by_leaf(replay):
    """At random the games are the same: the picture's frames are those of the plain run, and the numbers go with it."""
    hypers = {"epsilon_start": 1.0, "epsilon_final": 1.0}
    loops = [make_loop(SPEC, ScriptedPool, replay=replay, n_step=2), make_loop(TREE, TreePool, replay=replay, n_step=2)]
    found = []
    for loop in loops:
        state, h = begin(loop, **hypers)
        state, metrics = loop.iterate(state, h, 12)
        assert np.isfinite(float(metrics.loss_sum))
        found.append((state, stored_rows(state, replay), float(metrics.return_sum)))
    (_, plain, plain_return), (state, tree, tree_return) = found
    frames = tree.frame["codes"].reshape(*tree.frame["codes"].shape[:2], 2, 2)
    np.testing.assert_array_equal(tree.frame["codes"], plain.frame)
    np.testing.assert_array_equal(tree.frame["more"][0][1:, :, 0], frames[1:, :, 1, 0])
    np.testing.assert_array_equal(tree.frame["more"][1][1:] * 8, frames[1:, :, 0].astype(np.float32))
    for name in ("action", "reward", "terminated", "truncated", "valid"):
        np.testing.assert_array_equal(getattr(tree, name), getattr(plain, name))
    assert plain_return == tree_return > 0
    actor = state.actors[0].obs
    assert jax.tree.structure(actor) == jax.tree.structure(zeros(TREE, 2))
    # The picture is a stack of four frames, whose newest has the step that the number says.
    np.testing.assert_array_equal(actor["codes"][:, 1, 0, -1], actor["more"][0])
    played = loops[1].evaluate(state.learner.params, 0, 3, 0.1)
    assert played.returns.tolist() == loops[0].evaluate(found[0][0].learner.params, 0, 3, 0.1).returns.tolist()


def stored_rows(state, replay):
    return stored(state if replay == "uniform" else state.replace(memory=state.memory.store))


def test_what_is_watched_of_a_tree_is_its_first_picture_of_colours():
    """Its stack side by side; numbers of kinds are no colours."""
    codes = np.arange(16, dtype=np.uint8).reshape(1, 2, 2, 4)
    obs = {"codes": codes, "more": (np.zeros(1, np.int32), np.zeros((1, 2), np.float32))}
    found = picture_of(TREE, obs)
    assert found.shape == (2, 8, 3) and found[0, :, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert picture_of(TREE._replace(obs_scale={"codes": 10.0}), obs) is None
    assert picture_of(TREE._replace(num_obs_values={"codes": 16}), obs) is None
