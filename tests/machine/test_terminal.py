"""Output that cannot stop a program: closed, full, without a reader, or in an encoding of few characters."""

import io
import os
import sys
from functools import partial

import pytest

from purejaxdqn.machine.terminal import forgiving_output


def pipe_without_reader():
    """A stream into a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def in_encoding(name):
    """A stream in an encoding, with what it holds."""
    return io.TextIOWrapper(io.BytesIO(), name, write_through=True)


@pytest.mark.parametrize("stream", [lambda: None, partial(open, "/dev/full", "w"), pipe_without_reader])
def test_what_cannot_be_written_is_left_out(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream())
    with forgiving_output():
        for _ in range(10_000):
            print("a line that is long enough to fill a buffer in time", flush=False)
        print("the last one", flush=True)
        # From then on all of it goes nowhere.
        assert os.path.samestat(os.fstat(sys.stdout.fileno()), os.stat(os.devnull))


ENCODINGS = [("ascii", b"? ? 3\n"), ("cp1252", b"? \xb1 3\n"), ("utf-8", "ε ± 3\n".encode())]


@pytest.mark.parametrize(("name", "expected"), ENCODINGS)
def test_a_character_that_an_encoding_lacks_becomes_a_question_mark(name, expected, monkeypatch):
    stream = in_encoding(name)
    monkeypatch.setattr(sys, "stdout", stream)
    with forgiving_output():
        print("ε ± 3")
    assert stream.buffer.getvalue() == expected


def test_the_streams_are_given_back_and_keep_their_own_ways(capsys):
    before = sys.stdout
    with forgiving_output():
        assert sys.stdout is not before and sys.stdout.isatty() is before.isatty()
        print("told")
    assert sys.stdout is before and capsys.readouterr().out == "told\n"
