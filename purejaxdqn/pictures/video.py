"""Writes videos of episodes (MP4); the encoder comes with the extra `atari`."""

import itertools
import os
import warnings
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.config import SettingError


def save_mp4(frames: Iterable[np.ndarray], path: str | os.PathLike[str], fps: int = 30) -> None:
    """Write frames as an MP4 that browsers play: H.264 with 4:2:0 colours, its index in front.

    H.264 with these colours requires even sizes, so an odd height or width gets one more row or column, a copy of the
    last. Quality is constant (CRF 18), which keeps the edges of pixel art.

    Args:
        frames: Pictures of equal shape, uint8 [H, W, 3]; taken one by one, so a generator needs memory for one only.
        path: Where the video goes; it is written to a temporary file and renamed into place.
        fps: Frames per second of playing time.

    Raises:
        ValueError: On no frames, frames that are not uint8 [H, W, 3] or differ in shape, or `fps` below 1.
        SettingError: Where imageio or its encoder is not installed.
    """
    left = iter(frames)
    first = next(left, None)
    check_frame(first, first, fps)
    assert first is not None
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise SettingError("mp4", str(path), "install the encoder: pip install 'purejaxdqn[atari]'") from error
    height, width = first.shape[:2]
    even = ((0, height % 2), (0, width % 2), (0, 0))
    target = Path(path)
    beside = target.with_name(f".{target.name}.tmp.mp4")  # The encoder tells the format by the ending.
    options: dict[str, Any] = {
        "codec": "libx264",
        "quality": None,  # Its own scale would take the place of the one below.
        "pixelformat": "yuv420p",
        "macro_block_size": 2,
        "output_params": ["-crf", "18", "-movflags", "+faststart"],
    }
    try:
        # Python warns of a fork beside JAX's threads; here the child becomes the encoder at once.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            writer: Any = imageio.get_writer(beside, format="FFMPEG", fps=fps, **options)
            with closing(writer):  # A writer's own `with` does not end the encoder after an error.
                for frame in itertools.chain([first], left):
                    check_frame(frame, first, fps)
                    writer.append_data(np.pad(frame, even, mode="edge"))
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def check_frame(frame: np.ndarray | None, first: np.ndarray | None, fps: int) -> None:
    """Raises ValueError for a frame that is not a picture, or whose shape differs from the first one's."""
    kinds = [None if one is None else (np.shape(one), str(np.asarray(one).dtype)) for one in (first, frame)]
    whole = kinds[0] is not None and kinds[0][1] == "uint8" and len(kinds[0][0]) == 3 and kinds[0][0][2] == 3
    if not whole or kinds[0] != kinds[1] or fps < 1:
        raise ValueError(f"need frames of one shape [H, W, 3] in uint8, and fps ≥ 1; got {kinds}, {fps}")
