"""Goals told in hindsight: by hand, and against a twin that keeps every episode as a Python list."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from purejaxdqn.build import REPLAYS, check_read
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.envs.interface import Env, Goals
from purejaxdqn.loops.device import make_agent
from purejaxdqn.replay import hindsight
from purejaxdqn.types import Hypers, Row, Transition

pytestmark = pytest.mark.usefixtures("strict_ranks")

GAMMA = 0.9
GOALS = Goals(lambda a, d: jnp.where(jnp.all(a == d), 0.0, -1.0), lambda a, d: jnp.all(a == d))
PARTS = ("observation", "achieved_goal", "desired_goal")


@functools.cache
def make_parts(capacity, writers, n, limit, kind="future", replay="uniform", batch_size=8):
    """The replay that a configuration makes for an environment with goals of two numbers; several batches at a time."""
    shapes, dtypes = dict.fromkeys(PARTS, (2,)), dict.fromkeys(PARTS, "int32")
    spec = EnvSpec("Numbers", 3, shapes, dtypes, None, limit, fewest_steps=1)
    env = Env(spec, None, None, None, False, None, None, goals=GOALS)
    config = Config(
        num_envs=writers,
        buffer_size=capacity * writers,
        batch_size=batch_size,
        n_step=n,
        learning_starts=0,
        hindsight=kind,
        replay=replay,
    )
    made = hindsight.with_hindsight(REPLAYS[replay].make, config)(config, env)
    return made._replace(add=jax.jit(made.add), sample=jax.jit(jax.vmap(made.sample, (None, 0, None))))


class Writer:
    """An environment whose observations are numbers that never come again, and all that it has played."""

    def __init__(self, index):
        self.next, self.goal, self.swallowed = 1_000 * index, 0, False
        self.episodes, self.obs = [[]], self.fresh()

    def fresh(self):
        self.next += 1
        return self.next

    def step(self, time, event):
        """One row: 0 to 3 go on, 4 ends, 5 cuts; 6 and 7 do so and have the next row swallowed."""
        ends = {4: "terminated", 5: "truncated", 6: "terminated", 7: "truncated"}.get(event)
        row = dict.fromkeys(("terminated", "truncated"), False) | {"obs": self.obs, "goal": self.goal, "valid": True}
        if self.swallowed:
            self.swallowed = False
            return row | {"after": self.obs, "valid": False}
        row["after"] = after = self.fresh()
        self.episodes[-1].append((time, self.obs, after, ends))
        self.obs = after
        if ends:
            row[ends] = True
            self.swallowed, self.obs, self.goal = event > 5, self.fresh(), self.goal - 1
            self.episodes.append([])
        return row

    def find(self, time):
        """The steps of an episode from a time on; None for a row that is no transition."""
        for episode in self.episodes:
            for place, step in enumerate(episode):
                if step[0] == time:
                    return episode[place:]
        return None


tell = jax.jit(hindsight.tell, static_argnums=(5, 6))


def fold(steps, goal, n):
    """The return, discount and observation after, of one who wanted this goal."""
    total = 0.0
    for k, (_, _, after, ends) in enumerate(steps[:n]):
        total -= GAMMA**k * (after != goal)
        if after == goal or ends == "terminated":
            return total, 0.0, None
        if ends == "truncated" or k == n - 1:
            return total, GAMMA ** (k + 1), after
    raise AssertionError("a start needs n rows after it")


def pair(ids):
    """Observations of numbers: two numbers each, so that a mixed-up axis shows."""
    ids = np.asarray(ids)
    return np.stack([ids, -ids], axis=-1).astype(np.int32)


def as_rows(rows):
    """List over time of lists over writers -> Row [T, E]."""

    def column(name, dtype):
        return np.array([[row[name] for row in step] for step in rows], dtype)

    obs, goal, after = (pair(column(name, np.int64)) for name in ("obs", "goal", "after"))
    valid = column("valid", bool)
    return Row(
        obs=dict(zip(PARTS, (obs, obs, goal), strict=True)),
        action=np.zeros(valid.shape, np.int32),
        reward=np.full(valid.shape, 7.0, np.float32),
        terminated=column("terminated", bool),
        truncated=column("truncated", bool),
        final_obs=dict(zip(PARTS, (after, after, goal), strict=True)),
        valid=valid,
    )


def play(replay, events, num_steps=1):
    """Writers and the replay's memory after events [time][writer]."""
    writers = [Writer(index) for index in range(len(events[0]))]
    rows = [[w.step(time, e) for w, e in zip(writers, step, strict=True)] for time, step in enumerate(events)]
    one = jax.tree.map(lambda leaf: leaf[0, 0], as_rows(rows[:1]))
    memory = replay.init(one)
    for start in range(0, len(rows), num_steps):
        memory = replay.add(memory, as_rows(rows[start : start + num_steps]))
    return writers, memory


def test_the_end_of_an_episode_is_found_by_hand():
    """Steps 0 to 2 terminate, 3 to 5 are cut, 6 and 7 go on; of a ring of 6, those from 2 on are held."""
    replay = make_parts(6, 1, 1, 100, batch_size=4)
    _, memory = play(replay, [[e] for e in (0, 0, 4, 0, 0, 5, 0, 0)])
    times = jnp.arange(2, 8)
    for longest, last in ((100, [2, 5, 5, 5, 7, 7]), (2, [2, 4, 5, 5, 7, 7]), (1, [2, 3, 4, 5, 6, 7])):
        found = hindsight.last_held(memory.marks, times, jnp.zeros(6, jnp.int32), longest)
        assert found.tolist() == last


@pytest.mark.parametrize(
    ("n", "time", "goal", "told"),
    [
        (1, 0, 1, (0.0, 0.0)),  # its own next state: reached at once
        (1, 0, 3, (-1.0, GAMMA)),
        (3, 0, 2, (-1.0, 0.0)),  # reached at the second of three steps
        (3, 0, 3, (-1.0 - GAMMA, 0.0)),
        (3, 1, 3, (-1.0, 0.0)),
        (3, 3, 6, (-1.0 - GAMMA, 0.0)),  # reached in the step that is cut: nothing is bootstrapped
        (2, 3, 6, (-1.0 - GAMMA, GAMMA**2)),
        (2, 4, 99, (-1.0 - GAMMA, GAMMA**2)),  # cut, and not reached
        (2, 1, 99, (-1.0 - GAMMA, 0.0)),  # an end by the rules stays one, whatever is wanted
    ],
)
def test_rewards_and_discounts_by_hand(n, time, goal, told):
    """Achieved are 1, 2, 3 by an episode that terminates, then 4, 5, 6 by one that is cut."""
    replay = make_parts(16, 1, 1, 100)
    writers, memory = play(replay, [[e] for e in (0, 0, 4, 0, 0, 5, 0, 0, 0, 0)])
    ids = {number: step[2] for number, step in enumerate(itertools.chain(*writers[0].episodes), 1)} | {99: 99}
    times, columns = jnp.array([time]), jnp.array([0])
    batch = jax.tree.map(jnp.asarray, as_batch(writers[0], time))
    found = tell(batch, memory, times, columns, jnp.asarray(pair([ids[goal]])), GOALS, n, GAMMA)
    np.testing.assert_allclose((found.r_t[0], found.discount_t[0]), told, rtol=1e-6)
    for obs in (found.obs_tm1, found.obs_t):
        assert obs["desired_goal"].tolist() == pair([ids[goal]]).tolist()
    assert found.obs_tm1["achieved_goal"].tolist() == batch.obs_tm1["achieved_goal"].tolist()


def as_batch(writer, time):
    """A batch of one row; what is told anew of it is none of its numbers but the observations' other parts."""
    step = writer.find(time)[0]
    obs, after = ({part: pair([number]) for part in PARTS} for number in step[1:3])
    return Transition(obs, np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1, np.float32), after)


# Writers, capacity, n, limit of an episode, steps a write, replay.
SHAPES = [
    (2, 11, 1, 100, 1, "future", "uniform"),
    (3, 16, 3, 7, 4, "future", "uniform"),
    pytest.param(1, 9, 2, 100, 2, "final", "uniform", marks=pytest.mark.long),
    pytest.param(2, 16, 1, 100, 2, "final", "prioritized", marks=pytest.mark.long),
]
LENGTH = 40


@pytest.mark.parametrize(("writers", "capacity", "n", "limit", "num_steps", "kind", "replay"), SHAPES)
def test_equals_a_twin_that_keeps_whole_episodes(writers, capacity, n, limit, num_steps, kind, replay):
    """Goals are achieved by later held steps of the same episode alone, around the ring several times."""
    made = make_parts(capacity, writers, n, limit, kind, replay)
    h = Hypers(gamma=GAMMA, hindsight_share=1.0).as_arrays()

    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.tuples(*[st.integers(0, 7)] * writers), min_size=LENGTH, max_size=LENGTH), st.integers(0, 99))
    def run(events, seed):
        # An episode may not be longer than the environment says.
        events = [[5 if time % limit == limit - 1 else e for e in step] for time, step in enumerate(events)]
        twins, memory = play(made, events, num_steps)
        keys = jax.random.split(jax.random.key(seed), 16)
        batch, index, weight = jax.device_get(made.sample(memory, keys, h))
        times, columns = index[0].ravel(), index[1].ravel()
        obs_tm1, obs_t, r_t, discount_t, weight = jax.tree.map(
            lambda leaf: leaf.reshape(len(times), *leaf.shape[2:]),
            (batch.obs_tm1, batch.obs_t, batch.r_t, batch.discount_t, weight),
        )
        for i, (time, writer) in enumerate(zip(times, columns, strict=True)):
            steps = twins[writer].find(time)
            if steps is None:
                assert weight[i] == 0.0
                continue
            goal = obs_tm1["desired_goal"][i, 0]
            assert goal in ([step[2] for step in steps] if kind == "future" else [steps[-1][2]])
            total, discount, after = fold(steps, goal, n)
            assert obs_tm1["achieved_goal"][i].tolist() == pair(steps[0][1]).tolist()
            assert obs_t["desired_goal"][i].tolist() == pair(goal).tolist()
            np.testing.assert_allclose((r_t[i], discount_t[i]), (total, discount), rtol=1e-5)
            if after is not None and weight[i] > 0:
                assert obs_t["achieved_goal"][i].tolist() == pair(after).tolist()

    run()


def drawn(share, kind="future", count=4_000):
    """A batch from one unending episode of 12 steps, its times, and the memory's replay."""
    made = make_parts(16, 1, 1, 100, kind)
    writers, memory = play(made, [[0]] * 13)
    h, keys = Hypers(gamma=GAMMA, hindsight_share=share).as_arrays(), jax.random.split(jax.random.key(3), count // 8)
    batch, index, _ = jax.device_get(made.sample(memory, keys, h))
    return writers[0], batch.obs_tm1["desired_goal"][..., 0].ravel(), batch, index[0].ravel()


def test_every_later_step_is_as_likely_and_the_share_is_what_is_asked_for():
    """χ² over the 13 - t goals of each start t; a share of 0.3 of 4,000 within 4 standard deviations of 29."""
    writer, goals, _, times = drawn(1.0)
    after = [step[2] for step in writer.episodes[0]]
    statistic, degrees = 0.0, 0
    for time in range(12):
        counts = np.array([np.sum(goals[times == time] == goal) for goal in after[time:]])
        assert counts.sum() == np.sum(times == time)
        statistic += np.sum((counts - counts.mean()) ** 2 / counts.mean())
        degrees += len(counts) - 1
    assert chi2.sf(statistic, degrees) > 1e-4
    assert abs(np.sum(drawn(0.3)[1] != 0) - 1_200) < 116


def test_a_share_of_none_is_what_was_played_and_the_same_rows_are_drawn():
    _, goals, batch, times = drawn(0.0)
    assert (goals == 0).all() and (batch.r_t == 7.0).all()
    np.testing.assert_array_equal(times, drawn(1.0)[3])


def test_a_horizon_that_is_annealed_ends_the_fold_sooner():
    made = Config(hindsight="future", env="BitFlip", env_params={"bits": 3}, n_step=3, anneal_horizon=True)
    h = Hypers(gamma=GAMMA, hindsight_share=1.0, n_step_final=1).as_arrays()
    _, memory = play(make_parts(16, 1, 1, 100), [[0]] * 13)
    times, columns = jnp.arange(4), jnp.zeros(4, jnp.int32)
    goal = jnp.asarray(pair([-1] * 4))
    batch = jax.tree.map(lambda leaf: jnp.zeros((4, *leaf.shape[1:]), leaf.dtype), as_batch(play_one(), 0))
    told = tell(batch, memory, times, columns, goal, GOALS, 3, h.gamma, h.n_step_final)
    assert made.anneal_horizon and told.r_t.tolist() == [-1.0] * 4
    np.testing.assert_allclose(told.discount_t, GAMMA)


def play_one():
    """A writer of one step."""
    writer = Writer(0)
    writer.step(0, 0)
    return writer


GOAL_RUN = {"env": "BitFlip", "hindsight": "future"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env": "CartPole-v1"}, "hindsight='future': CartPole-v1 says nothing of goals: use one such as BitFlip"),
        ({"memory": "gru"}, "memory='gru': --hindsight tells steps anew"),
        ({"last_inputs": True}, "last_inputs=True: --hindsight tells steps anew"),
        ({"reward_scale": 0.5}, "reward_scale=0.5: --hindsight tells"),
        ({"last_step_reward": 1.0}, "last_step_reward=1.0: --hindsight tells"),
        ({"mask_terminals": False}, "mask_terminals=False: --hindsight tells"),
        ({"learner": "rollout"}, "hindsight='future': --learner rollout does not read it"),
        ({"hindsight": "past"}, "hindsight='past': use one of none, future, final"),
    ],
)
def test_what_does_not_go_with_it_is_one_sentence(changes, says):
    with pytest.raises(SettingError) as error:
        make_agent(Config(**GOAL_RUN | changes))
    assert says in str(error.value)


def test_a_share_needs_hindsight_and_is_one():
    with pytest.raises(SettingError, match=r"hindsight_share=0.5: --hindsight none does not read it"):
        check_read(Config(env="BitFlip"), {"hindsight_share": 0.5})
    with pytest.raises(SettingError, match=r"hindsight_share=1.5: use a number in \[0, 1\]"):
        Hypers(hindsight_share=1.5)
