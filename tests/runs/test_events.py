"""TensorBoard events: what is in the file, and that a disk that fails is an error at once."""

import struct
from functools import partial

import numpy as np
import pytest
import tensorboardX.record_writer
from tensorboardX.proto.event_pb2 import Event, SessionLog

from purejaxdqn.runs import events
from purejaxdqn.runs.events import Events


def read(folder):
    """All events of a folder's files."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_what_was_added_is_in_the_file(tmp_path):
    written = Events(tmp_path / "events", purge_step=40)
    written.add_scalars({"train/loss": 0.5, "eval/return": 7.0}, 50)
    written.add_picture("input/frames", np.zeros((4, 6, 3), np.uint8), 60)
    written.close()
    _, start, loss, score, picture = read(tmp_path / "events")
    assert start.step == 40 and start.session_log.status == SessionLog.START
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in (loss, score)] == [
        (50, "train/loss", 0.5),
        (50, "eval/return", 7.0),
    ]
    image = picture.summary.value[0].image
    assert picture.step == 60 and (image.height, image.width) == (4, 6)


def test_two_writers_in_one_second_have_a_file_each(tmp_path):
    for step in (0, 10):
        Events(tmp_path, step).close()
    assert len(list(tmp_path.iterdir())) == 2 and len(read(tmp_path)) == 4


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_full_disk_is_an_error_and_not_a_wait(tmp_path, monkeypatch, every):
    """At the flush that is due, or else as soon as the buffer is full: never later than the end."""
    full = partial(open, "/dev/full", "wb")
    monkeypatch.setattr(tensorboardX.record_writer, "open_file", lambda path: full())
    monkeypatch.setattr(events, "FLUSHED_EVERY", every)
    with pytest.raises(OSError, match="No space left"):
        written = Events(tmp_path, 0)
        for step in range(1_000):
            written.add_scalars({"train/loss": 0.5}, step)
