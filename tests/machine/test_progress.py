"""Bars and times left: by hand on a clock of a test's own, on terminals of any width, without UTF-8, in a notebook."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from purejaxdqn.machine import progress
from purejaxdqn.machine.devices import used_bytes
from purejaxdqn.machine.progress import Clock, TerminalBar, duration, left_text
from purejaxdqn.runs.runner import ChunkReport
from purejaxdqn.sweep.display import Progressing
from purejaxdqn.train import display


@pytest.fixture
def now(monkeypatch):
    """A clock that stands at what its one entry says."""
    seconds = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: seconds[0])
    return seconds


def test_what_is_left_is_told_by_the_speed_since_the_start(now):
    """200 of 1,000 were done before; 300 more in 30 s leave 500 at 10 a second: 50 s."""
    clock = Clock(200)
    assert clock.left(200, 1_000) == float("inf")
    now[0] = 130.0
    assert clock.left(500, 1_000) == 50.0 and clock.left(1_200, 1_000) == 0.0
    assert left_text(50.0) == "50 s left" and left_text(float("inf")) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (720, "12 min"), (11_160, "3.1 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def console(width, encoding="utf-8"):
    """A terminal of so many columns, and the bytes that it was given."""
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding, errors="replace", write_through=True)
    return Console(file=file, force_terminal=True, width=width, color_system=None, legacy_windows=False), written


def screen(width, encoding="utf-8"):
    """What a bar leaves on a terminal, line by line, without control sequences."""
    terminal, written = console(width, encoding)
    bar = TerminalBar("compiling", terminal)
    bar.show("1k/4k", 0.25, "12 min left", "return 20.1  ε 0.500")
    bar.close()
    text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", written.getvalue().decode(encoding))
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("width", [1, 10, 20, 40, 80, 200])
def test_a_bar_fits_terminals_of_any_width(width):
    lines = screen(width)
    assert all(cell_len(line) <= width for line in lines)
    said = "".join(lines).replace(" ", "")
    assert "25%12minleft" in said and "return20.1ε0.500" in said
    assert ("━" in said) == (width >= 40)


def test_a_terminal_without_utf_8_has_a_bar_of_what_it_knows():
    lines = "\n".join(screen(80, "ascii"))
    assert "25%  12 min left" in lines and "return 20.1  ? 0.500" in lines and "-----" in lines


def test_seconds_are_counted_where_no_share_is_known(now):
    terminal, _ = console(80)
    bar = TerminalBar("compiling", terminal)
    now[0] = 107.0
    assert bar.head == "7 s"
    bar.show("1/2", 0.5)
    now[0] = 110.0
    bar.show("evaluating")
    now[0] = 113.0
    assert bar.head == "3 s"
    bar.close()


class Settings:
    """As much of a run's settings as a display reads."""

    class config:
        total_steps = 1_000


class Plan:
    """Likewise of its plan."""

    @staticmethod
    def describe():
        return "1 lane"


def chunk(env_steps):
    return ChunkReport(env_steps, 100.0, 20.0, 0.1, 1.0, 0.5, None)


def test_a_run_shows_what_it_does_and_how_long_that_may_take(now, capsys):
    """250 of 1,000 steps and an evaluation of 2 s took 10 s, so 750 will take 30."""
    shown = []

    class Noting(progress.Bar):
        def show(self, *args, **kwargs):
            super().show(*args, **kwargs)
            shown.append((self.label, self.share, self.left))

    live = display.Live(Noting("compiling"))
    live.started(Plan(), Settings(), 0, 1.0)
    now[0] += 8.0
    live.phase("evaluating")
    now[0] += 2.0
    live.phase("training")
    live.chunk(chunk(250))
    live.phase("evaluating")
    assert shown == [
        ("0", 0.0, ""),
        ("evaluating", None, ""),
        ("0/1k", 0.0, ""),
        ("250/1k", 0.25, "30 s left"),
        ("evaluating", None, "of about 2 s"),
    ]
    assert live.bar.text.endswith(" MB")
    assert "compiled in 1.0 s" in capsys.readouterr().out


def test_a_sweep_shows_it_too(now, monkeypatch):
    bar = progress.Bar("compiling")
    monkeypatch.setattr("purejaxdqn.sweep.display.make_bar", lambda label: bar)
    shown = Progressing(1_000, 0, quiet=False)
    now[0] += 10.0
    shown.advance(250)
    assert (bar.label, bar.share, bar.left) == ("250/1k", 0.25, "30 s left")
    assert bar.text.startswith("25 steps/s  ") and bar.text.endswith(" MB")


def test_without_a_terminal_there_are_lines(now, capsys, monkeypatch):
    monkeypatch.setattr(display, "memory_text", lambda: "300 MB")
    lines = display.make_display(quiet=False)
    assert isinstance(lines, display.Lines) and type(display.make_display(quiet=True)) is display.Silent
    lines.started(Plan(), Settings(), 0, 1.0)
    now[0] += 10.0
    lines.chunk(chunk(250))
    assert capsys.readouterr().out.splitlines()[-1].endswith("ε 0.500  300 MB  30 s left")


def test_memory_is_that_of_a_process_at_least():
    """Python and JAX alone take 50 MB, and no test machine has a terabyte."""
    assert 50e6 < used_bytes() < 1e12


@pytest.mark.slow
def test_a_notebook_has_a_bar_in_its_cell():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = """
    from purejaxdqn.machine.progress import make_bar
    bar = make_bar("compiling")
    bar.show("1k/4k", 0.25, "12 min left", "return 20.1 & ε 0.500")
    bar.close()
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(map(str.strip, code.splitlines())))])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    shown = output["data"]["text/html"]
    assert 'value="0.2500"' in shown and "25%  12 min left" in shown and "return 20.1 &amp; ε 0.500" in shown
