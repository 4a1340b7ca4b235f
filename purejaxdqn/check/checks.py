"""The checks of an environment: each a function of what was played, with what to write instead."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from purejaxdqn.bounds import INT32
from purejaxdqn.check.play import Played
from purejaxdqn.config import EnvSpec
from purejaxdqn.observations.leaves import DARK, Leaf, bracketed, channels_first, list_leaves

Severity = Literal["alarm", "note", "ok", "not applicable"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
LARGE_INPUT, LARGE_REWARD = 30.0, 100.0
"""Sizes of numbers with which the recipes' step sizes were never tried."""
FEW_ENDS = 4
"""Episodes from which a pattern in their lengths is told."""


class Subject(NamedTuple):
    """What the checks read."""

    spec: EnvSpec
    played: Played
    again: Played
    """The same with the same keys, traced anew."""
    in_lanes: Played | None
    """The same as the first of two lanes; None on the host."""


class Finding(NamedTuple):
    """Result of a check."""

    name: str
    severity: Severity
    value: str
    """What was found, as text."""
    remedy: str = ""

    def sentence(self) -> str:
        """One line of text."""
        return f"{self.severity}: {self.name}: {self.value}" + (f". {self.remedy}" if self.remedy else "")


Verdict = tuple[Severity, str]


def same(a: Any, b: Any) -> bool:
    """Whether two trees are equal bit for bit."""
    return all(
        np.array_equal(x, y, equal_nan=True) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def at(tree: Any, steps: Any) -> Any:
    """Observations [T, E, ...] of some steps, bool [T, E]."""
    return jax.tree.map(lambda leaf: leaf[steps], tree)


def ended(played: Played) -> np.ndarray:
    """bool [T, E]: the step was the last one of its episode."""
    return np.asarray(played.row.valid & (played.row.terminated | played.row.truncated))


def lengths(played: Played, which: np.ndarray | None = None) -> np.ndarray:
    """Lengths of the episodes that ended, or of those that ended at `which`, bool [T, E]."""
    count, found = np.zeros(played.row.valid.shape[1], int), []
    chosen = ended(played) if which is None else which
    for valid, over, told in zip(played.row.valid, ended(played), chosen, strict=True):
        count += valid
        found.extend(count[told])
        count[over] = 0
    return np.array(found, int)


def repeats(subject: Subject) -> Verdict:
    """Whether the same keys give the same numbers."""
    equal = same(subject.played[:4], subject.again[:4])
    return ("ok", "the same keys give the same numbers") if equal else ("alarm", "the same keys gave other numbers")


def lanes(subject: Subject) -> Verdict:
    """Whether it can be vmapped."""
    if subject.in_lanes is None:
        return "not applicable", "it steps on the host"
    pairs = zip(jax.tree.leaves(subject.played[:4]), jax.tree.leaves(subject.in_lanes[:4]), strict=True)
    close = all(np.allclose(a.astype(float), b.astype(float), 1e-4, 1e-4, equal_nan=True) for a, b in pairs)
    return ("ok", "two lanes are as one alone") if close else ("alarm", "two lanes side by side are not as one alone")


def finite(subject: Subject) -> Verdict:
    """Whether observations and rewards are finite."""
    row = subject.played.row
    fields: dict[str, Any] = {"rewards": row.reward}
    for what, obs in (("last observations", row.final_obs), ("observations", subject.played.after)):
        arrays = zip(list_leaves(subject.spec), jax.tree.leaves(obs), strict=True)
        fields = {f"{what}{bracketed(leaf.path)}": array for leaf, array in arrays} | fields
    bad = [name for name, value in fields.items() if not np.isfinite(value.astype(float)).all()]
    return ("alarm", f"{' and '.join(bad)} are no finite numbers") if bad else ("ok", "all numbers are finite")


def inputs(subject: Subject) -> Verdict:
    """Whether observations are of a size and a layout that a network can take."""
    after = jax.tree.leaves(subject.played.after)
    if all(np.all(obs == obs.reshape(-1, *obs.shape[2:])[0]) for obs in after):
        return "alarm", "the observation never changes"
    found = [input_of(leaf, obs) for leaf, obs in zip(list_leaves(subject.spec), after, strict=True)]
    worst = min((severity for severity, _ in found), key=SEVERITIES.index)
    return worst, "; ".join(said for severity, said in found if severity == worst)


def input_of(leaf: Leaf, obs: np.ndarray) -> Verdict:
    """Whether one array of the observations is of a size and a layout that a network can take."""
    shape, name = leaf.shape, f"{leaf.name}: " if leaf.path else ""
    if leaf.num_values is not None:
        inside = bool(np.logical_and(obs >= 0, obs < leaf.num_values).all())
        said = f"{name}values from {obs.min()} to {obs.max()} of {leaf.num_values}"
        return ("ok" if inside else "alarm", said)
    if channels_first(leaf) != "no":
        return "alarm", f"{name}pictures {shape} have more channels than rows: they seem to come channels first"
    if obs.dtype == np.uint8 and leaf.scale is None and obs.max() <= DARK:
        return "note", f"{name}uint8 up to {obs.max()}, which is divided by 255"
    numbers = obs.astype(float) / leaf.divisor
    largest = float(np.max(np.abs(numbers))) if np.isfinite(numbers).all() else np.inf
    said = f"{name}{obs.dtype} {shape}, up to {float(np.max(np.abs(obs.astype(float)))):.4g} in size"
    return ("ok" if largest <= LARGE_INPUT else "note", said)


def chain(subject: Subject) -> Verdict:
    """Whether each row is of the observation that was acted on, and of the one after it."""
    played = subject.played
    if not same(played.row.obs, played.acted_on):
        return "alarm", "row.obs is not the observation that was acted on"
    goes_on = played.row.valid & ~ended(played)
    if not same(at(played.row.final_obs, goes_on), at(played.after, goes_on)):
        return "alarm", "within an episode row.final_obs is not the next observation"
    return "ok", "rows follow one another"


def masks(subject: Subject) -> Verdict:
    """Whether some action is legal wherever one is chosen or bootstrapped from, and masks follow one another."""
    played, legal = subject.played, subject.played.legal
    if legal is None:
        return "ok", "every action is always legal"
    row: Any = played.row
    goes_on = (row.valid & ~ended(played))[:-1]
    empty = int((row.valid & ~legal.any(axis=-1)).sum())
    if empty:
        return "alarm", f"{empty:,} of {int(row.valid.sum()):,} states leave no legal action"
    if (row.truncated & row.valid & ~row.final_mask.any(axis=-1)).any():
        return "alarm", "where an episode was cut no action is legal, although its value is what comes after"
    if not (same(row.mask, legal) and same(row.final_mask[:-1][goes_on], legal[1:][goes_on])):
        return "alarm", "row.mask and row.final_mask are not the masks of row.obs and row.final_obs"
    counts = legal[row.valid].sum(axis=-1)
    told = f"{counts.min()} to {counts.max()} of {legal.shape[-1]} actions are legal"
    return ("note" if counts.min() == legal.shape[-1] else "ok", told)


def last_observation(subject: Subject) -> Verdict:
    """Whether an episode's last observation is its own, and not that of the reset."""
    played, over = subject.played, ended(subject.played)
    if subject.in_lanes is None or not over.any():
        return "not applicable", "resets are steps of their own" if subject.in_lanes is None else "no episode ended"
    equal = same(at(played.row.final_obs, over), at(played.after, over))
    told = "of the reset" if equal else "the episode's own"
    return ("alarm" if equal else "ok", f"the last observation of an episode is {told}")


def ends(subject: Subject) -> Verdict:
    """Whether episodes end, in one way each."""
    row, over = subject.played.row, ended(subject.played)
    if (row.valid & row.terminated & row.truncated).any():
        return "alarm", "a step both terminates and truncates"
    found = lengths(subject.played)
    if not len(found):
        return "note", f"no episode ended in {len(over):,} random steps"
    cut = int((over & row.truncated).sum())
    return "ok", f"{len(found)} episodes of {found.min()} to {found.max()} steps ended, {cut} of them cut"


def limit(subject: Subject) -> Verdict:
    """Whether the time limit is what it is said to be, and a truncation."""
    spec, played, found = subject.spec, subject.played, lengths(subject.played)
    if len(found) and found.max() > spec.time_limit:
        return "alarm", f"an episode had {found.max()} steps, and its limit is {spec.time_limit}"
    cut = lengths(played, ended(played) & played.row.truncated)
    if len(cut) and cut.min() < spec.fewest_steps:
        return "alarm", f"an episode was cut after {cut.min()} steps, and spec.fewest_steps is {spec.fewest_steps}"
    if len(found) >= FEW_ENDS and not len(cut) and found.min() == found.max() > 1:
        return "note", f"all {len(found)} episodes terminated after {found.min()} steps, as at a time limit"
    return "ok", "no limit" if spec.time_limit >= INT32 else f"{spec.time_limit:,} steps at most"


def resets(subject: Subject) -> Verdict:
    """Whether episodes begin in different ways."""
    alike = all(bool(np.all(first == first[:1])) for first in jax.tree.leaves(subject.played.first))
    return ("note", "every episode begins alike") if alike else ("ok", "episodes begin in different ways")


def rewards(subject: Subject) -> Verdict:
    """Whether rewards are there, and of a size that recipes were made for."""
    reward = np.asarray(subject.played.row.reward)
    low, high = float(reward.min()), float(reward.max())
    odd = (low == high == 0.0) or max(-low, high) > LARGE_REWARD
    return "note" if odd else "ok", f"from {low:.4g} to {high:.4g}"


def actions(subject: Subject) -> Verdict:
    """Whether actions do anything."""
    each = subject.played.each_action
    if each is None or subject.spec.num_actions == 1:
        return "not applicable", "it cannot be put back" if each is None else "there is one action"
    alike = all(np.all(found == found[:1]) for found in jax.tree.leaves(each))
    return ("alarm", "every action does the same") if alike else ("ok", "actions differ in what they do")


def speed(subject: Subject) -> Verdict:
    """How fast it is."""
    row = subject.played.row
    return (
        "ok",
        f"{row.valid.size / max(subject.played.seconds, 1e-9):,.0f} steps a second, {row.valid.shape[1]} at once",
    )


class Check(NamedTuple):
    """A check, and what to write instead where it fails."""

    name: str
    judge: Callable[[Subject], Verdict]
    remedy: str


CHECKS: tuple[Check, ...] = (
    Check("repeats", repeats, "Draw from the key that is given alone, and keep what changes in the state."),
    Check("lanes", lanes, "Use jnp functions of the arguments alone: no global state, no callbacks."),
    Check("finite", finite, "Look for a division by 0 or a logarithm, and clip what grows."),
    Check(
        "inputs",
        inputs,
        "Give numbers about as large as 1 (or see --normalize-obs), and pictures as uint8 [height, width, channels].",
    ),
    Check("chain", chain, "Let the state hold the current observation, and fill the row from it."),
    Check(
        "last observation", last_observation, "Put the observation before the reset into final_obs, or use batch_env."
    ),
    Check("masks", masks, "True is for a legal action: leave one in each state but the last, by the state alone."),
    Check("ends", ends, "A task that is over terminates; one that goes on where it is cut truncates; never both."),
    Check("limit", limit, "A time limit truncates (time_limit of batch_env), and the spec says the true one."),
    Check("resets", resets, "If that is not meant, draw the first state from the key of reset."),
    Check(
        "rewards", rewards, "Try --reward-scale or --normalize-reward, or play longer: a random policy may find none."
    ),
    Check("actions", actions, "Use the action in step."),
    Check("speed", speed, ""),
)


def judge(subject: Subject) -> list[Finding]:
    """The findings of all checks, in their order."""
    found = []
    for check in CHECKS:
        severity, value = check.judge(subject)
        found.append(Finding(check.name, severity, value, check.remedy if severity in ("alarm", "note") else ""))
    return found
