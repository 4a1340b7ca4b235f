"""A live page in a real browser: it follows the folder, keeps what the reader switched, and does not grow."""

import json
import shutil
import time

import pytest
from growing_run import log_chunk, write_run
from test_live import serving

from benchmarks.pages.browser import browser, missing
from purejaxdqn.report import live
from purejaxdqn.runs.folder import METRICS

pytest.importorskip("plotly")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

LIMIT = 60.0


def value(session, script):
    """What a script's expression comes to."""
    return json.loads(session.run(f"return JSON.stringify({script})"))


def wait_for(session, script):
    """Waits until a script's expression is true."""
    end = time.monotonic() + LIMIT
    while not value(session, script):
        assert time.monotonic() < end, f"not within {LIMIT:.0f} s: {script}; {session.errors()}"
        time.sleep(0.05)


REFRESHES = "Number(document.documentElement.dataset.refreshes || 0)"
POINTS = "Math.max(...document.querySelector('.plot')._fullData.map(t => t._length || 0))"
STATUS = "document.querySelector('#live').textContent"


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """(a browser on the live page of a run, the run's folder)"""
    monkeypatch.setattr(live, "SHORTEST", 0.02)
    monkeypatch.setattr(live, "SHARE", 0)
    run = write_run(tmp_path / "run")
    with serving(run) as (port, _), browser() as session:
        session.emulate("light", 1280, 900)
        session.call("POST", "/url", {"url": f"http://127.0.0.1:{port}/"})
        wait_for(session, f"{REFRESHES} >= 1")
        yield session, run


def test_the_page_follows_the_folder_and_keeps_what_was_switched(opened):
    session, run = opened
    before = value(session, POINTS)
    assert "CartPole-v1" in value(session, "document.querySelector('h1').textContent")
    session.run("document.querySelector('details').open = true")
    session.run("document.querySelectorAll('.key')[0].click()")
    pressed = value(session, "[...document.querySelectorAll('.key')].map(k => k.getAttribute('aria-pressed'))")
    assert "false" in pressed
    log_chunk(run, 5)
    wait_for(session, f"{REFRESHES} >= 2 && {POINTS} > {before}")
    assert value(session, "document.querySelector('details').open") is True
    again = value(session, "[...document.querySelectorAll('.key')].map(k => k.getAttribute('aria-pressed'))")
    assert again == pressed
    assert session.errors() == ()


def test_a_folder_that_vanishes_is_said_and_what_it_held_stays(opened, tmp_path):
    session, run = opened
    run.rename(tmp_path / "elsewhere")
    wait_for(session, f"{STATUS}.includes('cannot be read any more')")
    assert value(session, "document.querySelectorAll('svg.main-svg').length") > 0
    assert session.errors() == ()
    (tmp_path / "elsewhere").rename(run)
    wait_for(session, f"{STATUS}.startsWith('Live')")


def heap(session):
    """Bytes of the page's JavaScript after its garbage was collected."""
    session.devtools("HeapProfiler.collectGarbage", {})
    return session.devtools("Runtime.getHeapUsage", {})["usedSize"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_refreshes_leave_the_page_flat(opened):
    session, run = opened
    shutil.copy(run / METRICS, run / ".before")
    sizes = []
    for refresh in range(1_000):
        # As long a table as before, so that what grows is not the run.
        shutil.copy(run / ".before", run / METRICS)
        log_chunk(run, 5 + refresh % 2)
        wait_for(session, f"{REFRESHES} > {refresh + 1}")
        if refresh % 100 == 99:
            sizes.append(heap(session))
            nodes = value(session, "document.getElementsByTagName('*').length")
            print(f"{refresh + 1} refreshes: {sizes[-1] / 2**20:.1f} MiB, {nodes} elements", flush=True)
    assert session.errors() == ()
    assert sizes[-1] < sizes[0] * 1.1
