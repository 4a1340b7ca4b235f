"""`purejaxdqn COMMAND`: what is dispatched, listed, shown, completed and grouped, and how fast the first word is."""

import dataclasses
import io
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import refused
from growing_run import SEEDS, write_run
from sweeps import write_sweep

from purejaxdqn import cli, train
from purejaxdqn.build import SEAMS
from purejaxdqn.commands import dispatch, lists, show
from purejaxdqn.commands.completion import flags_of
from purejaxdqn.config import Config
from purejaxdqn.machine.commit import read_commit
from purejaxdqn.machine.nearest_names import nearest
from purejaxdqn.recipes.algorithms import ALGORITHMS
from purejaxdqn.recipes.recipes import RECIPES
from purejaxdqn.runs.folder import METRICS, SUMMARY
from purejaxdqn.train import groups
from purejaxdqn.types import Hypers


def module(*words):
    """`python -m purejaxdqn` in a process of its own."""
    return subprocess.run([sys.executable, "-m", "purejaxdqn", *words], capture_output=True, text=True)


def help_of(main, capsys):
    """What a command prints on --help."""
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def headings(text):
    """Headings of a help text, each with its flags."""
    parts = [part.splitlines() for part in text.split("\n\n") if part.splitlines()[0].endswith(":")]
    return {part[0][:-1]: [line.split()[0].rstrip(",") for line in part[1:] if line[2] == "-"] for part in parts}


def test_help_is_there_in_half_a_second_and_without_jax():
    """By the processor's time, the best of three: the machine of a test may be busy with other things."""

    def used():
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    seconds = []
    for _ in range(3):
        begin = used()
        done = module("--help")
        seconds.append(used() - begin)
        assert done.returncode == 0 and all(f"\n  {name} " in done.stdout for name in dispatch.COMMANDS)
    assert min(seconds) < 0.5
    program = "import sys, purejaxdqn.commands.dispatch as d; d.main(['--help']); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_every_subcommand_is_reached_and_has_a_help_of_its_own(capsys):
    for name in dispatch.COMMANDS:
        text = help_of(lambda words, name=name: dispatch.main([name, *words]), capsys)
        assert text.startswith(f"usage: purejaxdqn-{name} "), name
    assert set(flags_of()) == set(dispatch.COMMANDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["trian"], "did you mean train?"), (["evalute"], "did you mean evaluate?"), (["---"], "there are train, sweep")],
)
def test_an_unknown_subcommand_has_the_nearest_one(words, said, capsys):
    assert dispatch.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_a_subcommand_speaks_as_it_was_called(monkeypatch):
    spoken = {}
    for program in ("/bin/purejaxdqn", "/lib/purejaxdqn/__main__.py", "/lib/purejaxdqn/train/__main__.py", "pytest"):
        monkeypatch.setattr(sys, "argv", [program])
        spoken[program] = cli.spoken("purejaxdqn-train")
    assert list(spoken.values()) == ["purejaxdqn train", "purejaxdqn train", "purejaxdqn-train", "purejaxdqn-train"]


def test_flags_of_train_are_grouped_and_the_ten_most_used_come_first(capsys):
    found = headings(help_of(train.main, capsys))
    assert list(found) == [
        *("most used", "run", "environment", "algorithm", "network", "replay", "exploration", "hypers"),
    ]
    assert len(found["most used"]) == 10 and found["most used"][0] == "--env"
    assert "--env-params.gravity" in found["environment"] and "--head" in found["algorithm"]
    assert "--hidden" in found["network"] and "--priority-exponent" in found["replay"]
    assert "--epsilon-final" in found["exploration"] and "--gamma" in found["hypers"] and "--quiet" in found["run"]
    flags = [flag for group in found.values() for flag in group]
    assert len(flags) == len(set(flags))


def test_what_the_groups_name_are_fields():
    fields = {field.name for cls in (Config, Hypers) for field in dataclasses.fields(cls)}
    tables = (groups.ENVIRONMENT, groups.NETWORK, groups.REPLAY, groups.EXPLORATION, groups.RUN)
    named = [name for table in tables for name in table]
    assert set(named) <= fields and len(named) == len(set(named))


def test_help_of_a_terminal_of_ten_columns_is_whole(capsys, monkeypatch):
    """Nothing is lost, and what can be wrapped keeps to the narrowest width."""
    wide = help_of(train.main, capsys).split()
    monkeypatch.setenv("COLUMNS", "10")
    narrow = help_of(train.main, capsys)
    assert narrow.split() == wide
    assert refused(capsys, train.main, ["--nun-envs", "3"]).count("--num-envs") == 1


@pytest.mark.parametrize(("kind", "names"), [("algos", ALGORITHMS), ("recipes", RECIPES), ("heads", SEAMS["head"])])
def test_lists_have_every_name(kind, names, capsys):
    assert lists.main([kind, "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == list(names)


def test_every_list_has_lines_and_words_choose_among_them(capsys):
    for kind in lists.KINDS:
        if kind != "envs":
            assert lists.main([kind]) == 0 and capsys.readouterr().out.strip(), kind
    assert lists.main(["recipes", "NATURE", "rainbow"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nature-rainbow ")


def test_environments_of_gymnax_with_discrete_actions_are_listed():
    found = dict(lists.gymnax_lines())
    assert found["CartPole-v1"] == "recipe cartpole, solved at 475" and found["Asterix-MinAtar"] == "recipe minatar"
    assert "Pendulum-v1" not in found and len(found) > 15
    assert dict(lists.suite_lines("no_such_suite/")) == {
        "no_such_suite/...": "not installed: install purejaxdqn[no_such_suite]"
    }


@pytest.mark.parametrize(("args", "said"), [([], "name what to list"), (["env"], "did you mean envs?")])
def test_a_list_of_nothing_known_is_refused(args, said, capsys):
    assert said in refused(capsys, lists.main, args)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two seeds, as if it had been trained."""
    folder = write_run(tmp_path_factory.mktemp("shown") / "run")
    scores = {"last_mean_return": 123.4, "last_stderr": 1.0, "best_mean_return": 234.5, "best_stderr": 2.0}
    evaluation = [{"seed": seed, "episodes": 5, **scores, "best_env_steps": 3_000} for seed in SEEDS]
    told = {"env": "CartPole-v1", "eval_epsilon": 0.0, "env_steps_per_seed": 5_000, "evaluation": evaluation}
    (folder / SUMMARY).write_text(json.dumps(told))
    return folder


def test_a_finished_run_is_shown(run, capsys):
    assert show.main([str(run)]) == 0
    said = capsys.readouterr().out
    assert "123.4 ± 1.0" in said and "234.5 ± 2.0" in said
    # Of plain defaults the recipe has ε's fraction, and not its own number of steps.
    assert "dueling" not in said
    assert str(read_commit()) in said or "not known" in said
    assert f"purejaxdqn train --resume {run} --total-steps 400000\n" in said and f"purejaxdqn report {run}\n" in said
    # Nothing that needs a checkpoint, which it lacks.
    assert "purejaxdqn evaluate" not in said


def test_a_terminal_without_utf_8_is_shown_what_it_can_show(run, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert show.main([str(run)]) == 0 and lists.main(["recipes"]) == 0 and dispatch.main([]) == 0
    said = written.getvalue().decode("ascii")
    assert "123.4 ? 1.0" in said and "plain-dqn" in said and "usage: purejaxdqn" in said


def test_all_settings_and_json(run, capsys):
    assert show.main([str(run), "--all"]) == 0
    assert "gamma " in capsys.readouterr().out
    assert show.main([str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"].get("dueling", "false") == "false" and len(found["summary"]["evaluation"]) == 2


def test_an_unfinished_run_is_shown_as_far_as_it_has_come(run, capsys, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy with a blank")
    (copy / SUMMARY).unlink()
    assert show.main([str(copy)]) == 0
    said = capsys.readouterr().out
    assert (
        "seed 1 at 5k environment steps: return 24.0, evaluation 31.7" in said and f"train --resume '{copy}'\n" in said
    )
    (copy / METRICS).unlink()
    assert show.main([str(copy)]) == 0
    assert "nothing is logged yet" in capsys.readouterr().out


def test_a_sweep_is_shown(capsys, tmp_path):
    folder = write_sweep(tmp_path / "sweep")
    assert show.main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert "learning_rate" in said and f"purejaxdqn train --recipe {folder / 'best.toml'}" in said
    (folder / SUMMARY).unlink()
    assert show.main([str(folder)]) == 0
    assert f"purejaxdqn sweep --resume {folder}" in capsys.readouterr().out


def test_no_folder_of_either_is_refused(capsys, tmp_path):
    assert "no such folder" in refused(capsys, show.main, [str(tmp_path / "nothing")])
    assert "holds no config.json" in refused(capsys, show.main, [str(tmp_path)])


def test_the_nearest_names():
    """By hand: of `cart` and `Card` both differ from `carp` in one letter of four; three are the most."""
    assert set(nearest("carp", ["cart", "Card", "pong"])) == {"cart", "Card"}
    assert nearest("PONG", ["pong"]) == ["pong"] and nearest("xyz", ["pong"]) == []
    assert nearest("xyz", ["pong"], least=0.0) == ["pong"] and len(nearest("a", ["aa", "ab", "ac", "ad"])) == 3


def test_a_commit_is_that_of_a_checkout_of_its_own(tmp_path):
    assert read_commit(tmp_path) is None

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "one")
    found = read_commit(tmp_path)
    assert found is not None and len(found) == 12
    (tmp_path / "file").write_text("b")
    assert read_commit(tmp_path) == f"{found}-dirty"
    (tmp_path / "within").mkdir()
    assert read_commit(tmp_path / "within") is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_subcommands_flags_and_values(tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        dispatch.main(["--tyro-write-completion", "bash", str(tmp_path / "script")])
    assert not stop.value.code
    asking = """
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _tyro_purejaxdqn; echo "${COMPREPLY[@]}"
    """

    def completed(*words):
        command = ["bash", "-c", asking, "bash", str(tmp_path / "script"), "purejaxdqn", *words]
        path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=path).stdout.split()

    assert completed("tr") == ["train"]
    assert completed("train", "--num-e") == ["--num-envs", "--num-epochs"]
    assert completed("train", "--optimizer", "ada") == ["adam", "adamw"]
    assert completed("show", "--j") == ["--json"]
