"""A zoo of trained runs: what is added is fetched whole, from a folder and by HTTP; anything else is one sentence."""

import contextlib
import hashlib
import http.server
import io
import json
import shutil
import threading
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from purejaxdqn import load_policy
from purejaxdqn.runs.checkpoint import load_checkpoint, save_checkpoint
from purejaxdqn.runs.folder import CHECKPOINTS
from purejaxdqn.zoo import shelf
from purejaxdqn.zoo.command import main
from tests.command_lines import refused

FINISHED = Path(__file__).parents[1] / "fixtures" / "0.1" / "runs" / "finished"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run that version 0.1 made, with a checkpoint of today's."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    shutil.copytree(FINISHED, folder)
    checkpoint = load_checkpoint(folder / CHECKPOINTS)
    save_checkpoint(folder / CHECKPOINTS, checkpoint._replace(step=checkpoint.step + 1))
    return folder


@pytest.fixture
def zoo(run, tmp_path):
    """A zoo that has it."""
    shelf.add(tmp_path / "zoo", run, "small")
    return tmp_path / "zoo"


@contextlib.contextmanager
def served(folder):
    """The URL of a folder, on the loopback address."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *words: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_what_is_added_comes_back_from_a_folder_and_a_url_without_its_replay(run, zoo, tmp_path, capsys):
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    expected = load_policy(run).q_values(obs)
    with served(zoo) as url:
        for source, out in ((str(zoo), "a"), (url, "b")):
            assert main(["fetch", source, "small", "--out", str(tmp_path / out)]) == 0
            fetched = tmp_path / out / "small"
            assert np.array_equal(load_policy(fetched).q_values(obs), expected)
            assert not [path for path in fetched.rglob("*") if "state" in path.parts]
        capsys.readouterr()
        assert main(["list", url, "--json"]) == 0
    (name, entry), *others = json.loads(capsys.readouterr().out).items()
    summary = json.loads((run / "summary.json").read_text())
    assert name == "small" and not others and entry["env"] == "CartPole-v1"
    assert entry["best_mean_return"] == [seed["best_mean_return"] for seed in summary["evaluation"]]
    assert entry["sha256"] == hashlib.sha256((zoo / "small.zip").read_bytes()).hexdigest()
    assert main(["list", str(zoo)]) == 0 and "CartPole-v1" in capsys.readouterr().out


def test_the_same_run_is_the_same_bytes(run, zoo):
    before = (zoo / "small.zip").read_bytes(), (zoo / "manifest.json").read_bytes()
    assert main(["add", str(zoo), str(run), "--json"]) == 0
    assert before == ((zoo / "small.zip").read_bytes(), (zoo / "manifest.json").read_bytes())


def listed_as(zoo, data):
    """Puts other bytes into a zoo, and their own size and sum into its manifest."""
    (zoo / "small.zip").write_bytes(data)
    manifest = json.loads((zoo / "manifest.json").read_text())
    manifest["runs"]["small"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (zoo / "manifest.json").write_text(json.dumps(manifest))


def archive(**files):
    """An archive with some files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return file.getvalue()


def test_what_is_not_what_was_listed_is_refused_and_leaves_nothing(zoo, tmp_path, capsys):
    whole, out = (zoo / "small.zip").read_bytes(), tmp_path / "out"
    says = partial(refused, capsys, main, ["fetch", str(zoo), "small", "--out", str(out)])
    (zoo / "small.zip").write_bytes(whole[:-1])
    assert f"small.zip is truncated or too long: {len(whole) - 1} bytes came, and {len(whole)} are listed" in says()
    (zoo / "small.zip").write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert "small.zip is not the file that is listed: its SHA-256 differs" in says()
    # Listed as what they are: no archive, one that would write elsewhere, and runs that are not whole.
    for data, what in (
        (b"nothing", "no whole run (File is not a zip file)"),
        (archive(**{"../evil.txt": "x"}), "'../evil.txt' does not belong to a run"),
        (archive(**{"/evil.txt": "x"}), "'/evil.txt' does not belong to a run"),
        (archive(**{"config.json": "{"}), "config.json is damaged"),
    ):
        listed_as(zoo, data)
        assert what in says()
    kept = {
        entry: zipfile.ZipFile(io.BytesIO(whole)).read(entry) for entry in zipfile.ZipFile(io.BytesIO(whole)).namelist()
    }
    spoilt = next(name for name in kept if "/policy/d/" in name)
    listed_as(zoo, archive(**{**kept, spoilt: b"x" + kept[spoilt][1:]}))
    assert "is not the file that was saved" in says()
    assert not out.exists() or list(out.iterdir()) == []
    assert not list(tmp_path.rglob("evil.txt"))


def test_sources_and_names_that_are_not_there(zoo, run, tmp_path, capsys):
    def says(*words):
        return refused(capsys, main, [str(word) for word in words])

    assert "its manifest.json cannot be read" in says("list", tmp_path / "none")
    assert "its manifest.json cannot be read" in says("list", "http://127.0.0.1:9/zoo")
    assert "use a folder, or a URL of http or https" in says("list", "ftp://zoo")
    assert "use one of small" in says("fetch", zoo, "large")
    assert "say what to fetch" in says("fetch", zoo)
    (tmp_path / "small").mkdir()
    assert "there is something already" in says("fetch", zoo, "small", "--out", tmp_path)
    for text in (
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 1, "runs": {"../x": {}}}',
        '{"format": 1, "runs": {"x": {"bytes": "1"}}}',
    ):
        (zoo / "manifest.json").write_text(text)
        assert "its manifest.json is damaged" in says("list", zoo)
    (zoo / "manifest.json").write_text('{"format": 2, "runs": {}}')
    assert "its manifest.json is of another format" in says("list", zoo)
    (run / "summary.json").rename(tmp_path / "summary.json")
    assert "it has not ended: resume it first" in says("add", zoo, run)
    (tmp_path / "summary.json").rename(run / "summary.json")


@pytest.mark.long
def test_a_recipe_is_built_by_one_command(tmp_path):
    assert main(["build", str(tmp_path), "cartpole", "--total-steps", "2000", "--json"]) == 0
    assert shelf.read_manifest(str(tmp_path))["cartpole"]["env_steps"] == 2000
