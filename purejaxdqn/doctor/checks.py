"""The doctor's checks: each judges some of a run's vitals.

Thresholds are constants; docs/doctor.md gives the reasons for them. An alarm is for what is wrong in any environment, a
note for what is often wrong but not always.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from purejaxdqn.config import Config
from purejaxdqn.doctor.vitals import Vitals
from purejaxdqn.types import Hypers

Severity = Literal["alarm", "note", "ok", "not looked at", "not applicable"]

Q_JUMP_ALARM, Q_JUMP_NOTE = 1.0, 0.5
"""Change of Q by one update over the size of Q, of the TD errors and of a reward together."""
CHURN_NOTE = 0.25
"""Share of observations whose greedy action one update changes."""
GRADIENT_TAIL = 100.0
"""Largest gradient norm over the median."""
TARGET_LAG = 4.0
"""Updates that the target stays behind, --target-period over --tau."""
SYNC_TOLERANCE = 1e-5
"""As a share of the size of the parameters."""
LINEAR_ALARM, LINEAR_NOTE = 0.9, 0.5
"""Share of errors in Huber's linear part."""
FAR_BEYOND = 10.0
"""Median error, in units of Huber's δ, below which such a share may pass as learning goes on."""
CLIPPED_NOTE = 0.5
FROZEN_ALARM, FROZEN_NOTE = 0.95, 0.5
"""Share of steps that leave the observation as it was."""
INPUT_ALARM, INPUT_NOTE = 100.0, 30.0
"""Largest absolute value that enters the network."""
DEAD_ALARM, DEAD_NOTE = 0.9, 0.75
"""Share of a layer's units that give one value for every observation."""
DUPLICATES_ALARM, DUPLICATES_NOTE = 0.25, 0.1
"""Share of a batch that repeats itself."""
EQUAL_NOTE = 0.95
ONE_ACTION = 0.999
OVERESTIMATION_ALARM, OVERESTIMATION_NOTE = 2.0, 0.5
"""Excess of Q at the start over the return obtained, in units of that return."""
BOUND_ALARM = 2.0
"""|Q| over the most that rewards could ever add up to."""
LOSS_GROWTH = 100.0
"""Loss of the newest tenth of a run over the median of all of it."""


class Verdict(NamedTuple):
    """Result of a check for one seed."""

    severity: Severity
    value: str


class Case(NamedTuple):
    """The data that a check judges."""

    vitals: Vitals
    config: Config
    hypers: Hypers
    history: list[Mapping[str, Any]]
    """The seed's rows of metrics.csv, values as text or numbers, "" or None for a missing one."""


UNSEEN = "nothing was kept of what the learner is fed"
NO_EPISODES = "no episodes were played: the environments step on the host"


def graded(value: float, alarm: float, note: float, text: str) -> Verdict:
    """An alarm or a note if a value reaches its threshold; NaN is an alarm."""
    if not value < alarm:
        return Verdict("alarm", text)
    return Verdict("note" if value >= note else "ok", text)


def listed(values: Iterable[float]) -> str:
    """Numbers of any magnitude, separated by slashes."""
    return " / ".join(f"{value:.3g}" for value in values)


def finite(values: Iterable[float]) -> bool:
    """Whether all values are finite."""
    return bool(np.isfinite(list(values)).all())


def reward_bound(case: Case) -> float | None:
    """Bound of |Q| if the largest reward seen came at every step; None if there is no such bound."""
    reward, gamma, h = case.vitals.reward_abs_max, float(case.hypers.gamma), case.hypers
    if not reward or gamma >= 1.0:
        return None
    bonus = abs(float(h.munchausen_alpha) * float(h.munchausen_clip)) if case.config.backup == "munchausen" else 0.0
    return (reward + bonus) / (1.0 - gamma)


def column(case: Case, name: str) -> np.ndarray:
    """A column of metrics.csv without its missing numbers."""
    return np.array([float(row[name]) for row in case.history if row.get(name) not in (None, "")])


def q_jumps(case: Case) -> Verdict:
    """Q-values that jump between updates."""
    v = case.vitals
    if v.q_jump is None or v.q_rms is None:
        return Verdict("not looked at", UNSEEN)
    text = f"one update changes Q, which is {v.q_rms:.3g}, by {v.q_jump:.2g} times the size of what it learns from"
    return graded(v.q_jump, Q_JUMP_ALARM, Q_JUMP_NOTE, text)


def policy_churn(case: Case) -> Verdict:
    """Greedy actions that a single update changes."""
    share = case.vitals.policy_churn
    if share is None:
        return Verdict("not looked at", UNSEEN)
    text = f"one update changes the greedy action at {share:.1%} of the observations"
    return Verdict("ok" if share < CHURN_NOTE else "note", text)


def q_bounds(case: Case) -> Verdict:
    """Action values beyond any sum of rewards, now or in any row of the history."""
    bound = reward_bound(case)
    if bound is None:
        missing = case.vitals.reward_abs_max is None
        return Verdict(*(("not looked at", UNSEEN) if missing else ("not applicable", "rewards set no bound on Q")))
    # Where rewards are normalised, earlier values were in other units.
    history = np.abs(column(case, "q_value")) if not case.config.normalize_reward else np.zeros(0)
    largest = max([case.vitals.q_abs_max or 0.0, *history[np.isfinite(history)]])
    text = f"|Q| up to {largest:.3g}, where rewards add up to {bound:.3g} at most"
    return graded(largest / bound, BOUND_ALARM, BOUND_ALARM, text)


def td_errors(case: Case) -> Verdict:
    """Percentiles of the TD errors."""
    found = case.vitals.td_percentiles
    if found is None:
        return Verdict("not looked at", UNSEEN)
    return Verdict("ok" if finite(found) else "alarm", f"|TD error| at 50 / 90 / 99 / 100 %: {listed(found)}")


def gradients(case: Case) -> Verdict:
    """Percentiles of the gradient norms."""
    found, clipped = case.vitals.grad_percentiles, case.vitals.grad_clipped_share
    if found is None:
        return Verdict("not looked at", UNSEEN)
    text = f"gradient norm at 50 / 90 / 99 / 100 %: {listed(found)}; {clipped:.0%} clipped"
    if not finite(found) or found[-1] == 0.0:
        return Verdict("alarm", text)
    return Verdict("note" if found[-1] > GRADIENT_TAIL * found[0] else "ok", text)


def target(case: Case) -> Verdict:
    """Whether the target network stays fixed between its updates, and is updated when due."""
    v, h = case.vitals, case.hypers
    if case.config.learner == "rollout":
        return Verdict("not applicable", "a rollout learner has no target network")
    if v.target_moved is None or v.target_sync_error is None or v.target_distance is None:
        return Verdict("not looked at", UNSEEN)
    lag = float(h.target_period) / max(float(h.tau), 1e-12)
    if float(h.target_period) > 1 and v.target_moved > 0.0:
        return Verdict("alarm", f"a target parameter moved by {v.target_moved:.2g} when no update of it was due")
    if not v.target_sync_error <= SYNC_TOLERANCE * max(1.0, v.target_distance):
        return Verdict("alarm", f"a target parameter was {v.target_sync_error:.2g} off after its update")
    text = (
        f"it stays {lag:.3g} updates behind; distance from the online parameters {v.target_distance:.2g} of their size"
    )
    return Verdict("alarm" if lag < TARGET_LAG else "ok", text)


def errors_clipped(case: Case) -> Verdict:
    """Share of TD errors in Huber's linear part."""
    if case.config.head != "scalar" or case.config.loss != "huber":
        return Verdict("not applicable", "the loss clips no TD error")
    share, found, delta = case.vitals.td_linear_share, case.vitals.td_percentiles, float(case.hypers.huber_delta)
    if share is None or found is None:
        return Verdict("not looked at", UNSEEN)
    verdict = graded(share, LINEAR_ALARM, LINEAR_NOTE, f"{share:.0%} of the TD errors lie beyond δ = {delta:g}")
    passing = verdict.severity == "alarm" and found[0] < FAR_BEYOND * delta
    return verdict._replace(severity="note") if passing else verdict


def rewards(case: Case) -> Verdict:
    """Rewards that are all zero, or clipped."""
    v = case.vitals
    if v.reward_zero_share is None or v.reward_abs_max is None:
        return Verdict("not looked at", UNSEEN)
    if v.reward_abs_max == 0.0:
        return Verdict("note", "every reward in the newest rows is 0")
    text = f"{v.reward_zero_share:.0%} are 0, the largest is {v.reward_abs_max:.3g}"
    if v.reward_clipped_share is None:
        return Verdict("ok", f"{text}; nothing clips them")
    return graded(
        v.reward_clipped_share, 2.0, CLIPPED_NOTE, f"{text}; {v.reward_clipped_share:.0%} of the others clipped"
    )


def observations(case: Case) -> Verdict:
    """Observations that never change, change too rarely, or contain values that never change."""
    v = case.vitals
    if v.obs_dims is None or v.obs_dead_dims is None or v.followed_steps is None:
        return Verdict("not looked at", UNSEEN)
    text = f"{v.obs_dead_dims} of {v.obs_dims} values are constant"
    if v.obs_frozen_share is not None:
        text += f"; {v.obs_frozen_share:.0%} of {v.followed_steps} steps change nothing"
    # A bandit's only state is no fault.
    constant = v.obs_dead_dims == v.obs_dims and v.followed_steps > 0
    frozen = v.obs_frozen_share or 0.0
    if constant or frozen >= FROZEN_ALARM:
        return Verdict("alarm", text)
    # Most of a picture's places never change; a vector's values were put there to be read.
    dead = v.obs_dead_dims > 0 and v.obs_dims < 64
    return Verdict("note" if dead or frozen >= FROZEN_NOTE else "ok", text)


def inputs(case: Case) -> Verdict:
    """Type and range of what enters the network."""
    v = case.vitals
    if v.input_min is None or v.input_max is None:
        return Verdict("not looked at", UNSEEN)
    text = f"{v.obs_dtype} from the environment, {v.input_min:.3g} to {v.input_max:.3g} into the network"
    if not v.input_finite:
        return Verdict("alarm", f"{text}, and values that are no numbers")
    return graded(max(abs(v.input_min), abs(v.input_max)), INPUT_ALARM, INPUT_NOTE, text)


def actions(case: Case) -> Verdict:
    """Whether greedy play still uses more than one action."""
    v = case.vitals
    found = v.greedy_action_shares or v.action_shares
    if found is None:
        return Verdict("not looked at", UNSEEN if v.episode_lengths is None else "there are too many actions to count")
    whose = "greedy" if v.greedy_action_shares else "behaviour"
    text = f"{whose}: {' / '.join(f'{share:.0%}' for share in found)}"
    return Verdict("note" if len(found) > 1 and max(found) >= ONE_ACTION else "ok", text)


def episodes(case: Case) -> Verdict:
    """Lengths of episodes, and how they end."""
    v = case.vitals
    if v.episode_lengths is None or v.episodes_terminated is None:
        return Verdict("not looked at", NO_EPISODES)
    low, mean, high = v.episode_lengths
    text = f"greedy lengths {low:.0f} to {high:.0f}, mean {mean:.1f}; {v.episodes_terminated:.0%} terminated"
    return Verdict("note" if high <= 1 else "ok", text)


def dead_units(case: Case) -> Verdict:
    """Units whose activation no observation changes."""
    found = case.vitals.dead_units
    if not found:
        return Verdict("not looked at", UNSEEN if found is None else "the network has no hidden layers that are known")
    text = ", ".join(f"{share:.0%} of {name}" for name, share in found.items())
    return graded(max(found.values()), DEAD_ALARM, DEAD_NOTE, text)


def ends(case: Case) -> Verdict:
    """How targets treat the end of an episode, according to the settings."""
    faults = [
        text
        for wrong, text in (
            (not case.config.mask_terminals, "targets bootstrap where an episode terminated"),
            (not case.config.bootstrap_truncation, "a time limit counts as the end of all value"),
        )
        if wrong
    ]
    return (
        Verdict("note", " and ".join(faults)) if faults else Verdict("ok", "terminations end value, time limits do not")
    )


def replay(case: Case) -> Verdict:
    """Age and repetitions of the transitions drawn."""
    v = case.vitals
    if case.config.learner == "rollout":
        return Verdict("not applicable", "a rollout learner has no replay")
    if v.replay_duplicates is None or v.replay_age is None or v.replay_equal_rows is None or v.replay_fill is None:
        return Verdict("not looked at", UNSEEN)
    held = v.replay_fill * case.config.buffer_rows * case.config.num_envs
    size = case.config.batch_size
    by_chance = 1.0 - held / size * (1.0 - (1.0 - 1.0 / max(held, 1.0)) ** size)
    text = (
        f"{v.replay_fill:.0%} full, drawn at a mean age of {v.replay_age:,.0f} steps; {v.replay_duplicates:.1%} of a "
        f"batch repeats itself, {v.replay_equal_rows:.0%} of the newest rows equal an earlier one"
    )
    verdict = graded(v.replay_duplicates, DUPLICATES_ALARM, DUPLICATES_NOTE, text)
    # What a replay that is still being filled cannot help.
    passes = v.replay_fill < 1.0 and v.replay_duplicates <= 1.5 * by_chance
    repeats = v.replay_equal_rows >= EQUAL_NOTE and verdict.severity == "ok"
    return verdict._replace(severity="note") if repeats or (passes and verdict.severity == "alarm") else verdict


def overestimation(case: Case) -> Verdict:
    """Q at the start against the discounted return actually obtained."""
    v = case.vitals
    if v.start_q is None or v.start_return is None or v.return_scale is None:
        return Verdict("not looked at", NO_EPISODES)
    if case.config.backup == "munchausen":
        return Verdict("not applicable", "a Munchausen backup's values are not returns")
    text = f"Q at the start {v.start_q:.3g}, discounted return obtained {v.start_return:.3g}"
    return graded((v.start_q - v.start_return) / v.return_scale, OVERESTIMATION_ALARM, OVERESTIMATION_NOTE, text)


def trend(case: Case) -> Verdict:
    """Loss and Q over the run, from metrics.csv."""
    loss, q = column(case, "loss"), column(case, "q_value")
    if not loss.size:
        return Verdict("not looked at", "metrics.csv has no row with a loss")
    tenth = max(1, len(loss) // 10)
    text = (
        f"loss {loss[0]:.3g} at first, {loss[-tenth:].mean():.3g} in the newest tenth; Q {q[0]:.3g}, then {q[-1]:.3g}"
    )
    if not finite([*loss, *q]):
        return Verdict("alarm", text)
    return Verdict("note" if loss[-tenth:].mean() > LOSS_GROWTH * max(float(np.median(loss)), 1e-9) else "ok", text)
