"""The report in a real browser: a sweep of 1,000 lanes opens, is drawn without an error, and can be used."""

import json
import time

import pytest
from sweeps import write_thousand_lanes

from benchmarks.pages.browser import browser, missing
from purejaxdqn.report.write_page import write_report

pytest.importorskip("plotly")
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

# The page is to open in 3 seconds; the machine of a test may be busy with other things.
LIMIT = 10.0


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = write_thousand_lanes(tmp_path_factory.mktemp("browser") / "sweep")
    write_report([folder], folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium():
    with browser() as session:
        yield session


@pytest.fixture
def opened(chromium, page):
    """The browser with the page of 1,000 lanes open, light and 1280 pixels wide."""
    chromium.emulate("light", 1280, 900)
    found = chromium.open(page)
    assert found.errors == ()
    return chromium


def values(session, script):
    """What a script's expression comes to."""
    return json.loads(session.run(f"return JSON.stringify({script})"))


def settled(session, script, wanted):
    """What a script's expression comes to: the page hears of a change after the answer, and then draws anew."""
    end = time.monotonic() + LIMIT
    while not wanted(found := values(session, script)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def column(session, number):
    """The texts of one column of the first table."""
    rows = "[...document.querySelector('table').tBodies[0].rows]"
    return values(session, f"{rows}.map(row => row.cells[{number}].innerText)")


def test_a_thousand_lanes_open_without_an_error(chromium, page):
    chromium.emulate("light", 1280, 900)
    chromium.open(page)  # The browser's own start is not the page's.
    found = chromium.open(page)
    print(f"1,000 lanes: drawn after {found.seconds:.2f} s, {page.stat().st_size / 1e6:.1f} MB, {found.plots} pictures")
    assert found.errors == ()
    assert found.seconds < LIMIT
    empty = "[...document.querySelectorAll('.plot')].filter(p => p.offsetParent && !p.querySelector('svg.main-svg'))"
    assert values(chromium, f"{empty}.length") == 0 and found.plots >= 12
    # Curves, three fields, the first of three pairs, and the profile.
    assert values(chromium, "document.querySelectorAll('.js-plotly-plot').length") == 6


def test_nothing_is_loaded_and_nothing_is_shared(opened):
    assert values(opened, "performance.getEntriesByType('resource').map(e => e.name)") == []
    titles = values(opened, "[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert titles and not [title for title in titles if "hare" in title or "loud" in title or "dit" in title]


def test_a_click_sorts_a_column_and_another_one_turns_it(opened):
    assert column(opened, 0) == [str(rank) for rank in range(1, 251)]
    rates = [float(text) for text in column(opened, 1)]
    head = "document.querySelectorAll('th')[1].querySelector('button').click()"
    opened.run(head)
    assert [float(text) for text in column(opened, 1)] == sorted(rates)
    opened.run(head)
    assert [float(text) for text in column(opened, 1)] == sorted(rates, reverse=True)


VISIBLE = "document.querySelector('.plot').data.filter(t => t.visible === true && t.meta.kind === '{}').length"


def test_the_legend_switches_curves_and_single_seeds(opened):
    def drawn():
        return [values(opened, VISIBLE.format(kind)) for kind in ("line", "band", "seeds")]

    assert drawn() == [8, 8, 0]
    opened.run("document.querySelectorAll('.key')[20].click()")
    assert drawn() == [9, 9, 0]
    opened.run("document.querySelector('input.seeds').click()")
    assert drawn() == [9, 9, 9]
    opened.run("document.querySelectorAll('.key')[0].click()")
    assert drawn() == [8, 8, 8]
    opened.run("document.querySelector('.tools button[data-all=\"\"]').click()")
    assert drawn() == [0, 0, 0]
    assert opened.errors() == ()


def test_the_drop_down_draws_another_pair(opened):
    shown = "[...document.querySelectorAll('.choice .chart')].map(c => !c.hidden && !!c.querySelector('svg.main-svg'))"
    assert values(opened, shown) == [True, False, False]
    opened.run("const s = document.querySelector('select'); s.selectedIndex = 2; s.dispatchEvent(new Event('change'))")
    assert values(opened, shown) == [False, False, True]
    assert opened.errors() == ()


def test_light_and_dark_and_a_phone(opened):
    ink = "[document.querySelector('.xtick text').style.fill, getComputedStyle(document.body).backgroundColor]"
    light = values(opened, ink)
    opened.emulate("dark", 1280, 900)
    dark = settled(opened, ink, lambda found: found[0] != light[0])
    assert light[0] != dark[0] and light[1] == "rgb(255, 255, 255)" and dark[1] != light[1]
    for width in (390, 1280, 390):
        opened.emulate("light", width, 900)
        wide = settled(opened, "document.documentElement.scrollWidth", lambda found: found <= width)  # noqa: B023
        assert wide <= width, "only tables scroll sideways"
    assert opened.errors() == ()
