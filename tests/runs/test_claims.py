"""One process at a time writes in a folder; a dead one keeps nobody out; a new folder is one process's."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from command_lines import refused

from purejaxdqn import train
from purejaxdqn.config import SettingError
from purejaxdqn.runs import runner
from purejaxdqn.runs.claims import LOCK, claim, claim_new
from purejaxdqn.runs.folder import METRICS

pytestmark = pytest.mark.usefixtures("shared_programs")

SMALL = ["--total-steps", "400", "--num-envs", "4", "--learning-starts", "40", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--no-compilation-cache", "--quiet"]
HOLDER = """
import sys, time
from pathlib import Path
from purejaxdqn.runs.claims import claim
with claim(Path(sys.argv[1]), "resume"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def held_elsewhere(folder):
    """The process that has claimed a folder."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            yield holder
        finally:
            holder.kill()


def test_a_claimed_folder_is_refused_and_free_as_soon_as_its_holder_is_killed(tmp_path):
    with held_elsewhere(tmp_path) as holder:
        with pytest.raises(SettingError, match=f"process {holder.pid} on .* is writing in it"), claim(tmp_path, "out"):
            raise AssertionError("two processes hold one folder")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert (tmp_path / LOCK).exists()
        with claim(tmp_path, "out"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_being_trained_is_neither_resumed_nor_begun_again(tmp_path, capsys):
    folder = tmp_path / "run"
    assert train.main([*SMALL, "--out", str(folder)]) == 0
    before = (folder / METRICS).read_bytes()
    with held_elsewhere(folder) as holder:
        said = refused(capsys, train.main, ["--resume", str(folder), "--total-steps", "800", "--quiet"])
        assert f"--resume {folder}: process {holder.pid}" in said
        assert (folder / METRICS).read_bytes() == before
    assert train.main(["--resume", str(folder), "--total-steps", "600", "--quiet"]) == 0
    assert not (folder / LOCK).exists()


def test_eight_at_one_instant_have_eight_folders(tmp_path):
    default = str(tmp_path / "runs" / "CartPole-v1-20240101-000000")
    with ThreadPoolExecutor(8) as pool, contextlib.ExitStack() as claims:
        made = list(pool.map(lambda _: claims.enter_context(claim_new(None, default, "config.json", "run")), range(8)))
        assert len(set(made)) == 8 and all(folder.is_dir() for folder in made)
    names = sorted(folder.name for folder in made)
    assert names[0] == "CartPole-v1-20240101-000000" and names[-1] == "CartPole-v1-20240101-000000-8"


def test_one_of_eight_has_a_folder_that_all_of_them_name(tmp_path):
    """Even where it was there before, and empty."""

    def take(_):
        try:
            return claims.enter_context(claim_new(str(tmp_path), "unused", "config.json", "run"))
        except SettingError as error:
            return error

    with ThreadPoolExecutor(8) as pool, contextlib.ExitStack() as claims:
        made = list(pool.map(take, range(8)))
        assert made.count(tmp_path) == 1
        assert all("is writing in it" in item.remedy for item in made if item != tmp_path)


@pytest.mark.parametrize("out", ["", "gs://bucket", "s3://bucket/run", "n" * 300, "file/run"])
def test_what_can_be_no_folder_is_one_sentence_and_leaves_nothing(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert "--out" in refused(capsys, train.main, [*SMALL, "--out", out])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_removed_while_it_is_trained_in_is_one_sentence_and_stays_away(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    rows = runner.append_rows

    def remove_first(*args):
        shutil.rmtree(folder)
        return rows(*args)

    monkeypatch.setattr(runner, "append_rows", remove_first)
    said = refused(capsys, train.main, [*SMALL, "--out", str(folder)])
    assert f"--out {folder}: the folder was removed" in said
    assert list(tmp_path.iterdir()) == []
