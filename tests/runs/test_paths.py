"""Folders of any name: what ends with 0 is resumed, evaluated, reported and loaded; what cannot be is one sentence."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from command_lines import refused

from purejaxdqn import cli, evaluate, load_policy, train
from purejaxdqn.config import SettingError
from purejaxdqn.doctor import command as doctor
from purejaxdqn.report import command as report

pytestmark = pytest.mark.usefixtures("shared_programs")

SMALL = ["--total-steps", "400", "--num-envs", "4", "--learning-starts", "40", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--no-compilation-cache", "--quiet"]
NAMES = ['proj [2024]/it\'s "100%" {a,b}*?', "two\nlines  and blanks"]
NAMES += [pytest.param(name, marks=pytest.mark.long) for name in ("-x", "a|\udcff", "[x]", "🙂 ü", "~", "linked/run")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run in a folder with brackets, trained through a relative path."""
    folder = tmp_path_factory.mktemp("paths")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert train.main([*SMALL, "--out", "proj [2024]/run"]) == 0
    finally:
        os.chdir(before)
    return folder / "proj [2024]" / "run"


@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_a_folder_of_any_name_is_read(trained, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    Path("linked").symlink_to("real")
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-r", str(trained), str(tmp_path / name)], check=True)
    load_policy(name)
    report.main([f"./{name}"])
    assert evaluate.main([f"./{name}", "--episodes", "1", "--json", "--no-compilation-cache"]) == 0
    assert train.main([f"--resume={name}", "--quiet"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("main", [evaluate.main, doctor.main, report.main])
@pytest.mark.parametrize("name", ["n" * 300, "file", "missing"])
def test_what_is_no_folder_is_one_sentence(main, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert name in refused(capsys, main, [name])
    with pytest.raises(SettingError):
        load_policy(name)
    assert name in refused(capsys, train.main, ["--resume", name])


def test_a_folder_that_may_not_be_looked_into_is_one_sentence(tmp_path, monkeypatch, capsys):
    """Root may look everywhere, so the system's answer is put in its place."""

    def refuse(path, *args, **kwargs):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied")
        return ask(path, *args, **kwargs)

    ask = os.stat
    monkeypatch.setattr(os, "stat", refuse)
    for main, args in ((train.main, ["--resume"]), (evaluate.main, []), (report.main, [])):
        assert "Permission denied" in refused(capsys, main, [*args, str(tmp_path / "closed")])
    assert "Permission denied" in refused(capsys, train.main, [*SMALL, "--out", str(tmp_path / "closed" / "run")])


@pytest.mark.parametrize("kind", ["link", "dangling", "device", "folder"])
def test_a_page_takes_the_place_of_a_regular_file_alone(trained, kind, tmp_path, capsys):
    out = tmp_path / "page.html"
    (tmp_path / "target").write_text("kept")
    if kind == "device":
        os.mkfifo(out)
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / ("target" if kind == "link" else "nothing"))
    before = os.lstat(out)
    assert f"--out {out}" in refused(capsys, report.main, [str(trained), "--out", str(out)])
    assert os.lstat(out).st_ino == before.st_ino and (tmp_path / "target").read_text() == "kept"
    assert "--out ''" in refused(capsys, report.main, [str(trained), "--out", ""])


@pytest.mark.parametrize("name", [*NAMES, "plain", "a b", "$(x)", "`y`;&|", "\x1b[0m"])
def test_a_printed_path_is_what_a_shell_reads(name):
    said = cli.quoted(Path(name))
    assert "\n" not in said and not said.startswith("-")
    shown = subprocess.run(["bash", "-c", f"printf %s {said}"], capture_output=True, check=True).stdout
    assert os.path.normpath(os.fsdecode(shown)) == name


def test_the_next_command_can_be_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main([*SMALL[:-1], "--out", "a b"]) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    assert shlex.split(said)[1:5] == ["python", "-m", "purejaxdqn.evaluate", "a b"]
