"""`check_env` names each planted fault and nothing else, and is silent on an environment that is right."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_lines import refused

from benchmarks.learning.family import MINATAR
from purejaxdqn import SettingError, batch_env, check_env, register
from purejaxdqn.check import play
from purejaxdqn.check.checks import CHECKS, Subject, ended, judge, lengths
from purejaxdqn.check.command import main
from purejaxdqn.check.play import play_device
from purejaxdqn.envs.interface import HostEnv, HostStep
from purejaxdqn.envs.names import make_env

pytestmark = pytest.mark.usefixtures("own_parts")


def make_walk(**changes):
    """A walk between 0 and 8 from 2, 3 or 4, over at either end, cut after 6 steps."""

    def reset(key):
        place = jax.random.randint(key, (), 2, 5)
        return jnp.stack([place / 8.0, 1.0]), place

    def step(key, place, action):
        place = place + 2 * action - 1
        return jnp.stack([place / 8.0, 1.0]), place, jnp.float32(place == 8), jnp.logical_or(place == 0, place == 8)

    given = {"reset": reset, "step": step, "num_actions": 2, "time_limit": 6} | changes
    return batch_env(given.pop("reset"), given.pop("step"), **given)


@pytest.fixture(scope="module")
def sound():
    """What a sound environment gives: 64 steps of 8 environments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(play, "STEPS", 64)
        env, key = make_walk(), jax.random.key(0, impl="threefry2x32")
        once, lanes = play_device(env, key), play_device(env, key, lanes=True)
        return Subject(env.spec, once, once, lanes)


def everywhere(subject, change):
    """A subject all of whose records have a change in common, so that they still agree."""
    return subject._replace(**{name: change(getattr(subject, name)) for name in ("played", "again", "in_lanes")})


def with_row(**changes):
    """A change of fields of the rows, each from the record."""
    return lambda s: everywhere(
        s, lambda p: p._replace(row=p.row.replace(**{name: make(p) for name, make in changes.items()}))
    )


def without_change(p):
    """All observations are the same."""
    still = np.zeros_like(p.after)
    return p._replace(acted_on=still, after=still, row=p.row.replace(obs=still, final_obs=still))


def as_pictures(subject):
    """The same numbers as pictures of 2 by 2 with 8 channels."""

    def wider(obs):
        return np.broadcast_to(obs[..., :1, None, None], (*obs.shape[:-1], 2, 2, 8))

    def change(p):
        row = p.row.replace(obs=wider(p.row.obs), final_obs=wider(p.row.final_obs))
        return p._replace(acted_on=wider(p.acted_on), after=wider(p.after), row=row)

    return everywhere(subject, change)._replace(spec=subject.spec._replace(obs_shape=(2, 2, 8)))


def first_only(p):
    """A reward that is none in one place."""
    reward = p.row.reward.copy()
    reward[5, 2] = np.nan
    return reward


FAULTS = {
    "other numbers from the same keys": (
        lambda s: s._replace(again=s.again._replace(first=s.again.first + 1)), {"repeats"}),
    "lanes that disturb each other": (
        lambda s: s._replace(in_lanes=s.in_lanes._replace(after=s.in_lanes.after + 1)), {"lanes"}),
    "a reward that is none": (with_row(reward=first_only), {"finite"}),
    "an observation that never changes": (lambda s: everywhere(s, without_change), {"inputs", "last observation"}),
    "a discrete observation beyond its values": (
        lambda s: s._replace(spec=s.spec._replace(num_obs_values=1)), {"inputs"}),
    "channels first": (as_pictures, {"inputs"}),
    "rows of the next observation": (with_row(obs=lambda p: p.after), {"chain"}),
    "rows that skip an observation": (with_row(final_obs=lambda p: np.roll(p.row.final_obs, 1, axis=0)), {"chain"}),
    "a last observation of the reset": (
        with_row(final_obs=lambda p: np.where(ended(p)[..., None], p.after, p.row.final_obs)), {"last observation"}),
    "an end of both kinds": (with_row(truncated=ended, terminated=ended), {"ends", "limit"}),
    "a limit that is not kept": (lambda s: s._replace(spec=s.spec._replace(time_limit=3)), {"limit"}),
    "a cut sooner than is said": (lambda s: s._replace(spec=s.spec._replace(fewest_steps=7)), {"limit"}),
    "actions that do nothing": (
        lambda s: everywhere(s, lambda p: p._replace(each_action=tuple(0 * found for found in p.each_action))),
        {"actions"}),
}  # fmt: skip


MASKED = {
    "a state without a legal action": (
        lambda p: {"legal": blank(p.legal), "row": p.row.replace(mask=blank(p.row.mask))}, "1 of 512 states leave"),
    "a cut in a state without one": (
        lambda p: {"row": p.row.replace(final_mask=p.row.final_mask & ~p.row.truncated[..., None])}, "was cut"),
    "masks of the next observation": (
        lambda p: {"row": p.row.replace(mask=p.row.final_mask)}, "are not the masks of"),
}  # fmt: skip


def blank(mask):
    """A mask of no action in one place."""
    mask = mask.copy()
    mask[5, 2] = False
    return mask


@pytest.mark.parametrize("fault", MASKED)
def test_a_fault_of_a_mask_is_named(masked, fault):
    """The walk where a step that would end it to the left is illegal."""
    assert alarms(judge(masked)) == set()
    found = {finding.name: finding for finding in judge(masked)}
    assert found["masks"].severity == "ok" and "1 to 2 of 2 actions" in found["masks"].value
    change, words = MASKED[fault]
    findings = judge(everywhere(masked, lambda p: p._replace(**change(p))))
    told = {finding.name: finding for finding in findings}
    assert alarms(findings) == {"masks"} and told["masks"].remedy
    assert words in told["masks"].value


@pytest.fixture(scope="module")
def masked():
    """What a masked environment gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(play, "STEPS", 64)
        env, key = make_walk(mask=lambda place: jnp.stack([place > 1, True])), jax.random.key(0, impl="threefry2x32")
        once = play_device(env, key)
        return Subject(env.spec, once, once, once)


def alarms(findings):
    return {finding.name for finding in findings if finding.severity == "alarm"}


def test_a_sound_environment_gives_no_alarm_and_no_note(sound):
    findings = judge(sound)
    assert [finding.name for finding in findings] == [check.name for check in CHECKS]
    assert {finding.severity for finding in findings} == {"ok"}, findings
    assert not any(finding.remedy for finding in findings)
    found = lengths(sound.played)
    assert found.max() == 6 and found.min() == 2 and len(found) > 40


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(sound, fault):
    change, expected = FAULTS[fault]
    findings = judge(change(sound))
    assert alarms(findings) == expected
    assert all(
        finding.remedy and finding.remedy in finding.sentence() for finding in findings if finding.name in expected
    )


def test_what_may_be_meant_is_a_note(sound):
    """No reward, episodes that begin alike, large numbers, none that ends, and ends that are all as long."""

    def notes(change):
        return {finding.name for finding in judge(change(sound)) if finding.severity == "note"}

    assert notes(with_row(reward=lambda p: 0.0 * p.row.reward)) == {"rewards"}
    assert notes(with_row(reward=lambda p: 1e3 * p.row.reward)) == {"rewards"}
    assert notes(lambda s: everywhere(s, lambda p: p._replace(first=p.first[:1].repeat(8, 0)))) == {"resets"}
    never = {"terminated": lambda p: ended(p) & False, "truncated": lambda p: ended(p) & False}
    assert "ends" in notes(with_row(**never))
    assert "inputs" in notes(lambda s: everywhere(s, lambda p: p._replace(after=100 * p.after)))

    def alike(p):
        over = np.zeros_like(ended(p))
        over[4::5] = True
        return over

    assert "limit" in notes(with_row(terminated=alike, truncated=lambda p: ended(p) & False))


def test_an_impure_environment_is_found_by_playing_it(monkeypatch):
    """What a Python counter gives is another number at each tracing."""
    monkeypatch.setattr(play, "STEPS", 16)
    calls = []

    def reset(key):
        calls.append(0)
        return jnp.stack([jax.random.uniform(key), jnp.float32(len(calls))]), jnp.int32(0)

    def step(key, count, action):
        return jnp.stack([count + action + 1.0, 0.0]), count + 1, 1.0, False

    assert "repeats" in alarms(check_env(make_walk(reset=reset, step=step)))


class Pool:
    """Counts to three and begins anew."""

    num_groups = 1

    def __init__(self, num_envs, seed, num_groups):
        self.count, self.begin = np.arange(num_envs) % 3, np.ones(num_envs, bool)

    def reset(self):
        pass

    def send(self, group, action):
        over = self.count == 3
        self.count, self.begin = np.where(over, 0, self.count + 1), over

    def receive(self, group):
        over, no = (self.count == 3) & ~self.begin, np.zeros(len(self.count), bool)
        frame = self.count[:, None].astype(np.float32)
        return HostStep(frame, over.astype(np.float32), over, no, no, self.begin)

    def close(self):
        pass


def test_an_environment_on_the_host_and_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(play, "STEPS", 32)
    spec = make_walk().spec._replace(obs_shape=(1,), time_limit=3)
    register("env", "pool", lambda: HostEnv(spec, Pool, lambda step: step, ("a", "b"), 1, 1))
    assert main(["--env", "pool", "--json"]) == 0
    found = {finding["name"]: finding["severity"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert found.pop("lanes") == found.pop("actions") == found.pop("last observation") == "not applicable"
    assert set(found.values()) == {"ok"}
    register("env", "short", lambda: HostEnv(spec._replace(time_limit=2), Pool, lambda step: step, ("a", "b"), 1, 1))
    assert main(["--env", "short"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "1 alarm" in said and "an episode had 3 steps, and its limit is 2" in said
    assert "--env nothing" in refused(capsys, main, ["--env", "nothing"])
    with pytest.raises(SettingError, match="give an Env"):
        check_env(3)


@pytest.mark.long
@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "DeepSea-bsuite", *MINATAR])
def test_what_recipes_train_on_gives_no_alarm(env_id):
    """Freeway ignores actions for some steps, and gymnax's MinAtar begins episodes alike: that is no alarm."""
    assert alarms(check_env(make_env(env_id))) == set()
