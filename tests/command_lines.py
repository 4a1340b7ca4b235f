"""What tests of command lines share."""

import itertools

import pytest

from purejaxdqn.sweep import command as sweep_command


def refused(capsys, main, args):
    """The one sentence with which a command line is refused."""
    with pytest.raises(SystemExit) as stop:
        main(args)
    said = capsys.readouterr()
    assert stop.value.code == 2
    lines = said.err.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in said.err, said.err
    return lines[0]


def stop_after(monkeypatch, count):
    """Sweeps are told to stop when they ask for the count-th time; with None by signals alone, as ever."""
    times = itertools.count(1)

    def ask():
        return next(times) >= count

    monkeypatch.setattr(sweep_command, "stop_of_all", lambda folder, asked, processes: asked if count is None else ask)
