"""What `python -m purejaxdqn.check` does: builds an environment, plays it, and says what was found."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any, Literal

import jax
from rich.console import Console

from purejaxdqn import cli
from purejaxdqn.check.checks import Finding, Subject, judge
from purejaxdqn.check.play import play_device, play_host
from purejaxdqn.envs.interface import Env, HostEnv
from purejaxdqn.envs.names import env_settings, make_env
from purejaxdqn.envs.own import as_env
from purejaxdqn.machine.devices import PLATFORMS, use_platform
from purejaxdqn.machine.threefry import KEY_IMPL
from purejaxdqn.machine.verdict_table import Line, print_verdicts
from purejaxdqn.observations.leaves import bracketed, list_leaves

COMMAND = "purejaxdqn-check"
DESCRIPTION = "`python -m purejaxdqn.check`: plays an environment and says what is wrong with it."


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """The flags of `check` beside the environment."""

    seed: int = 0
    """Of the resets and the random actions."""
    imports: cli.Several = ()
    """A module, or a file such as path/to/file.py, to import first, which has or registers the environment."""
    json: bool = False
    """Print JSON and nothing else."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to run; auto is JAX's own choice."""


def check_env(env: Any, seed: int = 0) -> list[Finding]:
    """Plays an environment with random actions and looks for what would spoil training on it.

    Args:
      env: the name of one, or one in any of the forms of `envs.own.as_env`.
      seed: of the resets and the actions.

    Returns:
      A `Finding` for each check, in their order; `severity` is alarm, note, ok or not applicable.

    Raises:
      SettingError: where it cannot be made, or what it gives is not what a run can learn from at all.
    """
    made = make_env(env) if isinstance(env, str) else as_env(env)
    if isinstance(made, HostEnv):
        return judge(Subject(made.spec, play_host(made, seed), play_host(made, seed), None))
    key = jax.random.key(seed, impl=KEY_IMPL)
    played = [play_device(made, key), play_device(made, key), play_device(made, key, lanes=True)]
    return judge(Subject(made.spec, *played))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 1 where something is wrong."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: check(args))


def check(args: list[str]) -> int:
    """Parses, plays and prints."""
    device = cli.peek(args, "--device") or "auto"
    use_platform(device if device in PLATFORMS else "auto", 1)
    cli.check_device(device)
    cli.import_parts(args)
    flags = cli.parse(flags_class(cli.peek(args, "--env") or "CartPole-v1"), args, COMMAND, DESCRIPTION)
    defaults = env_settings(flags.env)
    given = dataclasses.asdict(flags.env_params)
    changes = tuple(sorted((name, value) for name, value in given.items() if value != defaults[name]))
    env = make_env(flags.env, changes)
    findings = check_env(env, flags.seed)
    if flags.json:
        print(json.dumps({"env": flags.env, "findings": [finding._asdict() for finding in findings]}))
    else:
        show(Console(), env, findings)
    return int(any(finding.severity == "alarm" for finding in findings))


def flags_class(env: str) -> type:
    """The dataclass whose fields are the flags."""
    env_flags = cli.number_flags(env_settings(env), f"parameter of {env}")
    env_class = dataclasses.make_dataclass("EnvParams", env_flags, frozen=True)
    fields = [
        ("env", str, dataclasses.field(default=env)),
        *cli.as_flags(CheckOptions()),
        ("env_params", env_class, dataclasses.field(default_factory=env_class)),
    ]
    return dataclasses.make_dataclass("CheckFlags", fields, frozen=True)


def show(console: Console, env: Env | HostEnv, findings: list[Finding]) -> None:
    """Prints the findings: all in a table, then what to do about alarms and notes."""
    spec = env.spec
    where = "host" if isinstance(env, HostEnv) else "device"
    arrays = ", ".join(f"{leaf.dtype} {leaf.shape}{bracketed(leaf.path)}" for leaf in list_leaves(spec))
    says = f"{spec.num_actions} actions, observations {arrays}, on the {where}"
    lines = (Line(found.name, found.severity, found.value, found.sentence()) for found in findings)
    print_verdicts(console, f"{spec.env_id}: {says}", lines)
