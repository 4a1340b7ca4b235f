"""A live page, asked as a browser asks: for this machine alone, read-only, made anew when files changed."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from command_lines import refused
from growing_run import log_chunk, write_run

from purejaxdqn import cli, train
from purejaxdqn.report import live
from purejaxdqn.report.command import main as report
from purejaxdqn.runs.folder import METRICS, SUMMARY

pytestmark = pytest.mark.usefixtures("shared_programs")

pytest.importorskip("plotly")
SMALL = ["--total-steps", "400", "--num-envs", "4", "--learning-starts", "40", "--buffer-size", "200"]
SMALL += ["--batch-size", "8", "--hidden", "8", "--eval-episodes", "2", "--no-compilation-cache"]


@contextlib.contextmanager
def serving(*folders):
    """A server of some folders in this process; its port, and what it watches."""
    with live.listen(0, "watch") as listening:
        server = live.Server(listening, live.Watched(folders))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield listening.getsockname()[1], server.watched
        finally:
            server.shutdown()


def ask(port, path, host="127.0.0.1", method="GET"):
    """The status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Host": f"{host}:{port}"})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def state_of(port):
    """What `/state` says."""
    return json.loads(ask(port, "/state")[2])


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_the_page_changes_with_the_folder_and_with_nothing_else(run):
    with serving(run) as (port, watched):
        code, headers, page = ask(port, "/")
        assert code == 200 and "connect-src 'self'" in page and headers["Cache-Control"] == "no-store"
        first = state_of(port)
        assert first["said"] is None and first["wait"] >= live.SHORTEST
        _, headers, body = ask(port, "/body")
        assert headers["X-Tag"] == first["tag"] and "<main>" in body and "CartPole-v1" in body
        made = watched.body
        assert state_of(port)["tag"] == first["tag"] and watched.body is made
        (run / "report.html").write_text("what a report writes is no news")
        (run / ".lock").write_text("neither is a lock")
        assert state_of(port)["tag"] == first["tag"]
        log_chunk(run, 5)
        assert state_of(port)["tag"] != first["tag"]
        assert ask(port, "/body")[2] != body


def test_who_asks_is_a_browser_of_this_machine_and_only_reads(run):
    with serving(run) as (port, _):
        assert ask(port, "/", host="localhost")[0] == 200
        assert ask(port, "/", host="example.org")[0] == 403
        assert ask(port, "/config.json")[0] == 404 and ask(port, "/../run/metrics.csv")[0] == 404
        assert ask(port, "/", method="POST")[0] == 501 and ask(port, "/", method="DELETE")[0] == 501
        _, headers, _ = ask(port, "/body")
        assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"
    assert live.HOST == "127.0.0.1"


def test_a_folder_that_vanishes_and_comes_back(run, tmp_path):
    with serving(run) as (port, _):
        before = ask(port, "/body")[2]
        run.rename(tmp_path / "elsewhere")
        said = state_of(port)["said"]
        assert str(run) in said and "cannot be read any more" in said
        assert ask(port, "/body")[2] == before
        (tmp_path / "elsewhere").rename(run)
        assert state_of(port)["said"] is None


def test_what_cannot_be_shown_yet_is_said(run):
    (run / METRICS).unlink()
    with serving(run) as (port, _):
        assert "has not logged anything yet" in state_of(port)["said"]
        assert ask(port, "/body")[2] == live.EMPTY
        (run / METRICS).write_text("seed,env_steps\n0,no number\n")
        assert "damaged" in state_of(port)["said"]


def test_what_is_slow_to_make_is_asked_for_less_often(run):
    """A page that took 3 s to make is looked at every minute: 5 % of a core."""
    watched = live.Watched([run])
    watched.renew()
    watched.seconds = 3.0
    assert watched.state().wait == 60.0


def test_a_port_that_is_taken_is_refused_before_there_is_a_folder(run, capsys, tmp_path):
    with live.listen(0, "watch") as listening:
        port = str(listening.getsockname()[1])
        said = refused(capsys, report, [str(run), "--watch", port])
        assert f"--watch {port}: this port cannot be had" in said
        said = refused(capsys, train.main, [*SMALL, "--live", port, "--out", str(tmp_path / "new")])
        assert f"--live {port}: this port cannot be had" in said and not (tmp_path / "new").exists()


def test_no_recipe_opens_a_port(capsys, tmp_path):
    (tmp_path / "recipe.toml").write_text('name = "r"\n[config]\nenv = "CartPole-v1"\n[run]\nlive = 0\n')
    said = refused(capsys, train.main, ["--recipe", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run")])
    assert "has no option live" in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["--live"], ["--live", "0"]),
        (["--live", "--quiet"], ["--live", "0", "--quiet"]),
        (["--live", "8_765", "--quiet"], ["--live", "8_765", "--quiet"]),
        (["--live", "folder"], ["--live", "0", "folder"]),
        (["--live=3", "--live-or-not"], ["--live=3", "--live-or-not"]),
    ],
)
def test_a_flag_without_its_number_has_one_that_is_free(words, whole):
    assert cli.with_value(words, "--live", "0") == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--watch", "70000"], "--watch 70000: use a whole number of at most 65,535"),
        (["--watch", "--out", "x.html"], "--out x.html: a page that is served with --watch is not written"),
    ],
)
def test_watching_refuses(words, said, run, capsys):
    assert said in refused(capsys, report, [str(run), *words])


def test_watching_what_is_no_folder_is_refused(capsys, tmp_path):
    assert "it cannot be read" in refused(capsys, report, [str(tmp_path / "nothing"), "--watch"])


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(run):
    command = [sys.executable, "-m", "purejaxdqn", "report", str(run), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        port = int(said.split("http://127.0.0.1:")[1].split("/")[0])
        assert "CartPole-v1" in ask(port, "/body")[2]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "" and not (run / "report.html").exists()


def test_nobody_who_asks_starts_nothing(run, monkeypatch):
    monkeypatch.setattr(live, "start_server", lambda *_: pytest.fail("nobody asked"))
    before = threading.active_count()
    listening = live.listen(0, "live")
    with live.served_on_demand(listening, run):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before and listening.fileno() == -1


@pytest.mark.slow
def test_the_first_who_asks_is_answered_by_a_process_of_its_own_which_ends_with_the_run(run):
    listening = live.listen(0, "live")
    port = listening.getsockname()[1]
    with live.served_on_demand(listening, run):
        assert "CartPole-v1" in ask(port, "/body")[2]
        first = state_of(port)["tag"]
    # The run has ended: whoever watches sees its end, and then there is nobody any more.
    (run / SUMMARY).write_text("{}")
    assert state_of(port)["tag"] != first
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.2)
    pytest.fail("the page outlived its run")


@pytest.mark.long
def test_training_with_a_live_page_ends_with_the_same_numbers(tmp_path, capsys):
    tables = []
    for name, more in (("plain", []), ("live", ["--live"])):
        assert train.main([*SMALL, "--out", str(tmp_path / name), *more]) == 0
        tables.append((tmp_path / name / METRICS).read_bytes())
    assert tables[0] == tables[1]
    assert "live page: http://127.0.0.1:" in capsys.readouterr().out


def resident(process):
    """Bytes of memory of a process."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not tell a process's memory")
def test_a_thousand_refreshes_leave_memory_flat(run):
    """Of the process that `train --live` starts, from the hundredth refresh on."""
    with live.listen(0, "live") as listening:
        process, port, sizes = live.start_server(listening, run), listening.getsockname()[1], []
        for chunk in range(1_000):
            # As long a table as before, so that what grows is not the run.
            shutil.copy(run / METRICS, run / ".before")
            log_chunk(run, 5 + chunk % 2)
            assert state_of(port)["said"] is None
            assert ask(port, "/body")[0] == 200
            os.replace(run / ".before", run / METRICS)
            if chunk % 100 == 99:
                sizes.append(resident(process.pid))
    process.stdin.close()
    assert process.wait(60) == 0
    print([f"{size / 2**20:.0f} MiB" for size in sizes])
    assert sizes[-1] < sizes[0] * 1.05
