"""Fuzzed config.json and command lines: each is accepted, or refused in one sentence; none gives a traceback.

`python -m benchmarks.robustness.fuzz` takes some minutes and writes `benchmarks/results/fuzz.json`. Nothing is trained:
what is accepted is built, up to its first program.
"""

import argparse
import contextlib
import copy
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from purejaxdqn import cli, train
from purejaxdqn.bounds import SettingError
from purejaxdqn.config import Config, flag_name
from purejaxdqn.envs.gymnax import make_env
from purejaxdqn.machine.files import CHECK
from purejaxdqn.recipes.recipes import default_recipe, make_settings
from purejaxdqn.runs.folder import CONFIG, Settings, read_config, write_config
from purejaxdqn.train.settings import RunOptions
from purejaxdqn.types import Hypers

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 1.5, -0.5, 2**31, 2**32, 2**63, -(2**63), 10**400, 1e300, -1e300, 1e-300),
    *(float("nan"), float("inf"), "", "x", "inf", "nan", "1", "²", "../x", "none", [], [1], [-1], [[]], ["x"], {}),
    *({"a": 1}, {"": None}, [1] * 50),
)
"""What a field may be overwritten with."""
WORDS = (
    *("0", "1", "-1", "2", "1.5", "1e6", "1e-3", "1e400", "nan", "inf", "-inf", "²", "٣", "1_0", "", " ", "x", "None"),
    *("2147483647", "2147483648", "4294967296", "9223372036854775808", "1" * 50, "true", "--", "-", "--x", "=", "0x10"),
    *("Pong-v5", "CartPole-v1", "Breakout-MinAtar", "dqn", "rainbow", "pqn", "layer", "batch", "../x", "/dev/null"),
)
"""What may follow a flag."""
ODD_FLAGS = ("--x", "--no", "-", "--env-params.x", "--help-me", "--seed s", "---seeds")


def a_config(folder: Path) -> dict[str, Any]:
    """Writes the config.json of a small run, and returns what is in it, without the checksum that would tell all."""
    config, hypers = make_settings(default_recipe("CartPole-v1"), "CartPole-v1", "dqn", total_steps=4_000)
    config = config.replace(env_params={"max_steps_in_episode": 100})
    settings = Settings(
        config,
        hypers,
        (0, 1),
        log_every=40,
        eval_every=400,
        eval_episodes=5,
        checkpoint_every=None,
        recipe="cartpole",
        algo="dqn",
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, settings, make_env("CartPole-v1", config.env_params).spec, "a command", "today")
    data = dict(json.loads((folder / CONFIG).read_text()))
    del data[CHECK]
    return data


def paths_of(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all entries of JSON, inner ones included."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, item in entries for path in ((*before, key), *paths_of(item, (*before, key)))]


def damaged(data: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy with one to three entries overwritten, removed or added."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        *above, key = rng.choice(paths_of(data))
        place: Any = data
        for step in above:
            place = place[step]
        what = rng.choice(("change", "change", "change", "remove", "add"))
        if what == "remove":
            del place[key]
        elif what == "add" and isinstance(place, dict):
            place[rng.choice(("x", "", "seeds", "gamma"))] = copy.deepcopy(rng.choice(VALUES))
        else:
            # A copy: the next entry may be one within it.
            place[key] = copy.deepcopy(rng.choice(VALUES))
    return data


OPTIONAL = ("last_step_reward", "max_grad_norm", "dataset")
"""Settings that may be None, or a word beside their numbers."""


def same_kinds(data: dict[str, Any], like: dict[str, Any]) -> bool:
    """Whether all settings are of the types that they were written in; whole and real numbers are one, so is None."""
    for table in ("config", "hypers"):
        for name, value in data[table].items():
            kinds = {kind_of(value), kind_of(like[table].get(name))}
            # One width may stand for a list of one, and these have a word beside their numbers.
            one_width = name == "hidden" and kind_of(value) == "number"
            if len(kinds) > 1 and name not in OPTIONAL and not one_width:
                return False
    return bool(data["seeds"]) and all(kind_of(seed) == "number" for seed in data["seeds"])


def kind_of(value: Any) -> str:
    """The type of a JSON value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__


def command_line(rng: random.Random, plain: Mapping[str, str]) -> list[str]:
    """One to four flags with words that may suit them or not.

    Args:
      rng: for the choice.
      plain: a word that suits it for each flag.
    """
    words = []
    for _ in range(rng.randint(1, 4)):
        flag = rng.choice([*plain]) if rng.random() < 0.95 else rng.choice(ODD_FLAGS)
        word = plain[flag] if flag in plain and rng.random() < 0.7 else rng.choice(WORDS)
        words += [f"{flag}={word}"] if rng.random() < 0.2 else [flag, *word.split(" ")] if word else [flag]
        words += [rng.choice(WORDS)] if rng.random() < 0.05 else []
    return words


def plain_words() -> dict[str, str]:
    """The value that each flag of `train` has by default, as it is typed; switches have none."""
    values = {name: value for made in (Config(), Hypers(), RunOptions()) for name, value in vars(made).items()}
    del values["env_params"]
    return {flag_name(name): "" if isinstance(value, bool) else cli.typed(value) for name, value in values.items()}


def outcome(call: Callable[[], Any]) -> str:
    """`accepted`, `refused` in one sentence, `no sentence`, or the name of what was raised."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            call()
            return "accepted"
        except SettingError as error:
            return "refused" if "\n" not in str(error.remedy) else "no sentence"
        except SystemExit as stop:
            lines = said.getvalue().strip().splitlines()
            one = len(lines) == 1 and stop.code == 2
            return "accepted" if stop.code in (0, None) else "refused" if one else "no sentence"
        except BaseException as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def train_nothing(args: list[str]) -> int:
    """`train` up to the point where it would begin."""
    with mock.patch("purejaxdqn.train.command.drive", lambda *rest: 0):
        return train.main([*args, "--no-compilation-cache"])


def fuzz_configs(count: int, seed: int, build: bool) -> tuple[Counter[str], list[Any]]:
    """Outcomes of so many damaged config.json, and those that went wrong.

    Args:
      count: how many.
      seed: of the damage.
      build: whether what is accepted is also built, as by `train --resume`.
    """
    rng, found, wrong = random.Random(seed), Counter[str](), []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        data = a_config(folder)
        for _ in range(count):
            bad = damaged(data, rng)
            (folder / CONFIG).write_text(json.dumps(bad))
            what = outcome(lambda: read_config(folder))
            if what == "accepted" and not same_kinds(bad, data):
                what = "nonsense accepted"
            elif what == "accepted" and build:
                what = outcome(lambda: train_nothing(["--resume", str(folder), "--quiet"]))
            found[what if what in ("accepted", "refused") else "wrong"] += 1
            if what not in ("accepted", "refused"):
                wrong.append([what, {k: v for k, v in bad.items() if v != data.get(k)}])
    return found, wrong


def fuzz_command_lines(count: int, seed: int) -> tuple[Counter[str], list[Any]]:
    """Outcomes of so many command lines, and those that went wrong."""
    rng, found, wrong = random.Random(seed), Counter[str](), []
    plain = plain_words()
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        for index in range(count):
            args = command_line(rng, plain)
            begun = [*args, "--out", str(Path(root) / f"run-{index}")] if "--out" not in args else args
            what = outcome(lambda words=begun: train_nothing(words))  # type: ignore[misc]
            found[what if what in ("accepted", "refused") else "wrong"] += 1
            if what not in ("accepted", "refused"):
                wrong.append([what, args])
    return found, wrong


def main() -> None:
    """Fuzzes, writes the results and says them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=2_000)
    parser.add_argument("--command-lines", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="benchmarks/results/fuzz.json")
    args = parser.parse_args()
    out = Path(args.out).absolute()
    lines, wrong_lines = fuzz_command_lines(args.command_lines, args.seed)
    configs, wrong_configs = fuzz_configs(args.configs, args.seed, build=True)
    result = {
        "seed": args.seed,
        "command_lines": {"count": args.command_lines, **lines, "wrong": wrong_lines},
        "configs": {"count": args.configs, **configs, "wrong": wrong_configs},
    }
    out.write_text(json.dumps(result, indent=2, ensure_ascii=False, default=str) + "\n")
    print(f"command lines {dict(lines)}, config.json {dict(configs)}: {out}")


if __name__ == "__main__":
    main()
