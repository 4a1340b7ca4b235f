"""The doctor's findings: the worst result of each check over the seeds, what to try, and where it is documented."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from purejaxdqn.doctor import checks
from purejaxdqn.doctor.checks import Case, Severity, Verdict

ORDER: tuple[Severity, ...] = ("alarm", "note", "not looked at", "ok", "not applicable")
"""Worst first."""


class Check(NamedTuple):
    """A check; its texts do not depend on the result."""

    name: str
    judge: Callable[[Case], Verdict]
    meaning: str
    remedy: str
    explained_by: tuple[str, ...] = ()
    """Checks whose alarm explains one here."""


@dataclass(frozen=True)
class Finding:
    """Result of a check for a run: that of the worst seed."""

    name: str
    severity: Severity
    value: str
    """The measurements, as text."""
    meaning: str
    remedy: str
    where: str
    """Where it is documented."""
    seeds: tuple[int, ...]
    """Seeds with this result."""
    follows_from: str | None = None
    """An alarm that explains this one."""

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """One line of text."""
        why = f" (probably follows from {self.follows_from})" if self.follows_from else ""
        return f"{self.severity}: {self.name}: {self.value}{why}. {self.meaning} {self.remedy} See {self.where}."


CHECKS: tuple[Check, ...] = (
    Check(
        "q-jumps",
        checks.q_jumps,
        "Single updates throw the Q-values about: the steps are too large.",
        "Try a learning rate ten times smaller, --reduction mean, --norm layer, or --max-grad-norm 10.",
        ("observations", "inputs"),
    ),
    Check(
        "policy-churn",
        checks.policy_churn,
        "A policy that differs from update to update explores by that, and any one of its snapshots may play badly.",
        "If evaluations lie far below the returns of training, try --average-params, or a smaller learning rate.",
    ),
    Check(
        "q-bounds",
        checks.q_bounds,
        "No sequence of such rewards could be worth that: bootstrapping feeds on itself.",
        "Try a longer --target-period, --backup double, a smaller learning rate or a smaller --gamma.",
        ("q-jumps", "target", "inputs", "dead-units"),
    ),
    Check(
        "td-errors",
        checks.td_errors,
        "The spread of what is still to be learnt; the 99th percentile is what a squared loss listens to.",
        "If they are no numbers, try a smaller learning rate; if a few are huge, --loss huber.",
        ("q-jumps", "inputs"),
    ),
    Check(
        "gradients",
        checks.gradients,
        "The spread of the gradient norms. None at all means that nothing is learnt.",
        "If the largest is far beyond the median, try --max-grad-norm 10; if all are 0, see dead-units and rewards.",
        ("q-jumps", "dead-units", "inputs"),
    ),
    Check(
        "target",
        checks.target,
        "A target network is there to stand still between its updates; one that follows at once is none.",
        "Try --target-period 50 or more with --tau 1, or --target-period 1 with --tau 0.005.",
    ),
    Check(
        "errors-clipped",
        checks.errors_clipped,
        "Huber's loss is linear beyond δ: where nearly all errors lie there, their size says nothing any more.",
        "Try a larger --huber-delta, --loss squared, or smaller rewards.",
        ("q-jumps", "q-bounds"),
    ),
    Check(
        "rewards",
        checks.rewards,
        "Clipping makes a large reward as good as a small one, and no reward at all teaches nothing.",
        "If sizes matter, try --no-env-params.reward-clip; if all are 0, more exploration (--epsilon-fraction).",
    ),
    Check(
        "ends",
        checks.ends,
        "A state after which nothing comes is worth nothing, and one at which a clock rang is worth what it was.",
        "Leave out --no-mask-terminals and --no-bootstrap-truncation.",
    ),
    Check(
        "observations",
        checks.observations,
        "What does not change cannot tell states apart.",
        "Look at the environment: its parameters, its time step, frames that are one array in memory.",
    ),
    Check(
        "inputs",
        checks.inputs,
        "A network wants inputs of about unit size; pixels are scaled where they are uint8.",
        "Scale the observations (--normalize-obs), give pixels as uint8, or use --norm layer.",
    ),
    Check(
        "actions",
        checks.actions,
        "One action whatever is seen is what a network does that has learnt nothing, or forgotten it.",
        "If it lasts, try more exploration (--epsilon-final, --epsilon-fraction) or a smaller learning rate.",
        ("q-jumps", "dead-units", "observations"),
    ),
    Check(
        "episodes",
        checks.episodes,
        "How long greedy episodes are, and how they end; one cut by the time limit is no failure.",
        "If every episode is one step long, there is nothing to bootstrap: --gamma 0 is enough.",
    ),
    Check(
        "dead-units",
        checks.dead_units,
        "These units give the same for every observation, so nothing passes them, and often no gradient either.",
        "Try a learning rate ten times smaller, --norm layer, or --activation elu.",
        ("q-jumps", "observations"),
    ),
    Check(
        "replay",
        checks.replay,
        "A replay is there to break up what is correlated: a batch of repetitions is a small batch.",
        "Try a larger --buffer-size, more --learning-starts, or a smaller --batch-size or --priority-exponent.",
    ),
    Check(
        "overestimation",
        checks.overestimation,
        "The maximum over noisy values is too high, and bootstrapping hands it on.",
        "Try --backup double, a longer --target-period, or --n-step 3.",
        ("q-jumps", "q-bounds", "target", "observations", "dead-units"),
    ),
    Check(
        "trend",
        checks.trend,
        "The run as metrics.csv tells it; a loss that is no number ends a run.",
        "If the loss grows without end, try a smaller learning rate, a longer --target-period or --max-grad-norm 10.",
        ("q-jumps", "q-bounds"),
    ),
)
"""In the order in which they are reported."""


def judge(cases: Mapping[int, Case], earlier: Collection[str] = ()) -> list[Finding]:
    """The result of every check for a run, each that of the worst seed.

    An alarm that another alarm explains is reported as a note that says so: each fault is reported once.

    Args:
      cases: by seed.
      earlier: names of checks that raised an alarm before in this run.
    """
    found = {check.name: worst(check, cases) for check in CHECKS}
    alarms = {name for name, finding in found.items() if finding.severity == "alarm"} | set(earlier)
    explained = {check.name: next((name for name in check.explained_by if name in alarms), None) for check in CHECKS}
    return [
        demoted(finding, explained[name]) if finding.severity == "alarm" and explained[name] else finding
        for name, finding in found.items()
    ]


def since_start(start: list[Finding], now: list[Finding]) -> list[Finding]:
    """The current findings, with the alarms at a run's start that are no longer raised."""
    return [
        replace(first, value=f"at the start {first.value}; now {last.value}")
        if first.severity == "alarm" and last.severity != "alarm"
        else last
        for first, last in zip(start, now, strict=True)
    ]


def worst(check: Check, cases: Mapping[int, Case]) -> Finding:
    """A check's finding, from the seeds with the worst result."""
    verdicts = {seed: check.judge(case) for seed, case in cases.items()}
    severity = min((verdict.severity for verdict in verdicts.values()), key=ORDER.index)
    seeds = tuple(seed for seed, verdict in verdicts.items() if verdict.severity == severity)
    where = f"docs/doctor.md#{check.name}"
    return Finding(check.name, severity, verdicts[seeds[0]].value, check.meaning, check.remedy, where, seeds)


def demoted(finding: Finding, cause: str | None) -> Finding:
    """An alarm as a note that names its cause."""
    return replace(finding, severity="note", follows_from=cause)
