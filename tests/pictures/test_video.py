"""MP4s read back: number, shape and colours of the frames; what cannot be written leaves nothing behind."""

import sys

import numpy as np
import pytest

from purejaxdqn.config import SettingError
from purejaxdqn.pictures.video import save_mp4

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [230, 230, 230], [20, 20, 20]], np.uint8)


def plain_frames(height, width, count=10):
    """Frames of one colour each; the colours alternate."""
    return [np.broadcast_to(COLOURS[i % 5], (height, width, 3)) for i in range(count)]


@pytest.fixture
def encoder():
    """imageio, where its encoder is installed too."""
    pytest.importorskip("imageio_ffmpeg")
    return pytest.importorskip("imageio.v3")


@pytest.mark.parametrize(("size", "written"), [((210, 160), (210, 160)), ((33, 47), (34, 48))])
def test_frames_come_back(tmp_path, encoder, size, written):
    path = tmp_path / "episode.mp4"
    save_mp4(plain_frames(*size), path, fps=20)
    frames = encoder.imread(path, plugin="FFMPEG")
    assert frames.shape == (10, *written, 3)
    for i, frame in enumerate(frames):
        # To the last row and column: what is added to an odd size is no black border.
        np.testing.assert_allclose(frame, np.broadcast_to(COLOURS[i % 5], frame.shape), atol=12)
    properties = encoder.immeta(path, plugin="FFMPEG")
    assert properties["codec"] == "h264" and properties["fps"] == 20
    assert properties["pix_fmt"].startswith("yuv420p") and properties["duration"] == pytest.approx(0.5, abs=0.06)
    assert [file.name for file in tmp_path.iterdir()] == ["episode.mp4"]


def test_its_index_stands_in_front(tmp_path, encoder):
    """So that a browser can start to play before it has all of the file."""
    save_mp4(plain_frames(32, 32), tmp_path / "episode.mp4")
    data = (tmp_path / "episode.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        ([], 30),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], 30),
        ([np.zeros((8, 8), np.uint8)], 30),
        ([np.zeros((8, 8, 4), np.uint8)], 30),
        ([np.zeros((8, 8, 3), np.float32)], 30),
        ([np.zeros((8, 8, 3), np.uint8)], 0),
    ],
)
def test_what_is_no_video(tmp_path, frames, fps):
    with pytest.raises(ValueError, match="frames of one shape"):
        save_mp4(frames, tmp_path / "episode.mp4", fps)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, encoder, monkeypatch):
    path = tmp_path / "episode.mp4"
    path.write_bytes(b"old")
    padded = iter([np.zeros((32, 32, 3), np.uint8)])  # The second frame fails, when the first is already being encoded.

    def fail_second(*args, **kwargs):
        try:
            return next(padded)
        except StopIteration:
            raise OSError("no space left") from None

    monkeypatch.setattr(np, "pad", fail_second)
    with pytest.raises(OSError, match="no space left"):
        save_mp4(plain_frames(32, 32), path)
    assert [file.name for file in tmp_path.iterdir()] == ["episode.mp4"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("module", ["imageio.v2", "imageio_ffmpeg"])
def test_without_the_encoder(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # An import of it fails.
    with pytest.raises(SettingError, match=r"mp4='.*episode.mp4': install the encoder: .*purejaxdqn\[atari\]"):
        save_mp4(plain_frames(32, 32), tmp_path / "episode.mp4")
    assert list(tmp_path.iterdir()) == []
