"""Videos of episodes."""

from pathlib import Path
from typing import Any

import numpy as np


def save_mp4(frames: list[np.ndarray], path: Path, fps: int) -> None:
    """Writes frames uint8 [H, W, 3] as a video."""
    import imageio

    save: Any = imageio.mimsave
    save(path, frames, fps=fps, macro_block_size=2)
