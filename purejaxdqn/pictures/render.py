"""Pictures of environment states and GIFs of episodes, with NumPy and Pillow alone."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from purejaxdqn.pictures import drawing as d
from purejaxdqn.pictures.scenes import render_frame

__all__ = ["ACTION_NAMES", "annotate", "render_frame", "save_gif"]

# By gymnax's environment names and their default action sets.
ACTION_NAMES: dict[str, tuple[str, ...]] = {
    "Acrobot-v1": ("torque -1", "torque 0", "torque +1"),
    "Asterix-MinAtar": ("stay", "left", "up", "right", "down"),
    "Breakout-MinAtar": ("stay", "left", "right"),
    "CartPole-v1": ("left", "right"),
    "Catch-bsuite": ("left", "stay", "right"),
    "FourRooms-misc": ("up", "right", "down", "left"),
    "Freeway-MinAtar": ("stay", "up", "down"),
    "FrozenLake-misc": ("left", "down", "right", "up"),
    "MountainCar-v0": ("left", "coast", "right"),
    "Seaquest-MinAtar": ("stay", "left", "up", "right", "down", "fire"),
    "SpaceInvaders-MinAtar": ("stay", "left", "right", "fire"),
}

MOST_BARS = 32
"""Actions beyond which a strip has no bars: they would be higher than any screen."""


def annotate(
    frame: np.ndarray,
    *,
    step: int,
    episode_return: float,
    q_values: np.ndarray | None,
    action: int | None,
    action_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Add a strip beneath a frame: step, return, and a bar for each action's value.

    Bars start at zero and share this frame's scale; the action taken is highlighted.
    The strip's height depends on the number of actions, so the frames of one GIF
    should all have Q-values or all have none.

    Args:
        frame: Picture, uint8 [H, W, 3].
        step: Steps taken in this episode.
        episode_return: Undiscounted return so far.
        q_values: Values, [A], -inf for an illegal action; None for a strip without bars.
            More than `MOST_BARS` are not drawn.
        action: Index of the action taken; None to highlight none.
        action_names: A names; None for plain numbers.

    Returns:
        Picture, uint8 [H + strip, W, 3].

    Raises:
        ValueError: If the number of names is not the number of values.
    """
    drawn = q_values is not None and np.size(q_values) <= MOST_BARS
    values = np.asarray(q_values, dtype=np.float64).ravel() if drawn else np.zeros(0)
    names = [f"action {i}" for i in range(len(values))] if action_names is None else list(action_names)
    if len(values) and len(names) != len(values):
        raise ValueError(f"{len(names)} action names for {len(values)} Q-values")
    width = frame.shape[1]
    image, draw = d.canvas(44 + 20 * len(values) + (8 if len(values) else 0), width)
    d.line(draw, [(0, 0.5), (width, 0.5)], d.RULE, 1)
    d.text(draw, (16, 23), "step", d.MUTED)
    d.text(draw, (48, 23), str(step), d.INK, 15)
    d.text(draw, (112, 23), "return", d.MUTED)
    d.text(draw, (156, 23), f"{episode_return:.4g}", d.INK, 15)
    if len(values):
        d.text(draw, (width - 16, 23), "Q-value of each action", d.MUTED, 12, "rm")
    present = values[np.isfinite(values)]
    low, high = np.min(present, initial=0.0), np.max(present, initial=0.0)
    unit = (width - 178) / max(high - low, 1e-9)
    zero = 100 - unit * low
    for i, value in enumerate(values):
        y, ink, fill = 54 + 20 * i, *((d.INK, d.ACCENT) if i == action else (d.MUTED, d.QUIET))
        d.text(draw, (16, y), names[i], ink)
        d.value_bar(draw, (100, width - 78), y, (zero, zero + unit * value), fill)
        d.text(draw, (width - 16, y), "illegal" if value == -np.inf else f"{value:.2f}", ink, 13, "rm")
    return np.concatenate([np.asarray(frame, dtype=np.uint8), d.finish(image)])


def save_gif(frames: Sequence[np.ndarray], path: str | os.PathLike[str], fps: int = 30, max_frames: int = 500) -> None:
    """Write frames as an endlessly repeating GIF, with one palette for all frames.

    GIF counts time in hundredths of a second, and browsers slow delays under 20 ms down
    to 100 ms. So delays alternate between neighbouring hundredths to keep the average
    right, and above 50 fps or `max_frames` frames are left out evenly, the last one kept.
    The playing time stays `len(frames) / fps` seconds, unless that would hold a frame for
    more than 60 ms (and longer than 1 / fps), which looks like stuttering: then the GIF
    plays faster.

    Args:
        frames: Pictures of equal shape, uint8 [H, W, 3].
        path: Where the GIF goes.
        fps: Frames per second of playing time.
        max_frames: Largest number of frames written.

    Raises:
        ValueError: On no frames, frames of different shapes, or `fps` or `max_frames` below 1.
    """
    shapes = sorted({np.shape(frame) for frame in frames})
    if len(shapes) != 1 or fps < 1 or max_frames < 1:
        raise ValueError(f"need frames of one shape, fps and max_frames ≥ 1; got {shapes}, {fps}, {max_frames}")
    total = len(frames) / fps  # Seconds.
    count = max(1, min(len(frames), max_frames, int(total / 0.02 + 1e-9)))
    total = min(total, count * max(1 / fps, 0.06))
    kept = [frames[i] for i in np.linspace(len(frames) - 1, 0, count).round().astype(int)[::-1]]
    delays = np.diff(np.round(np.linspace(0, total * 100, count + 1))).astype(int) * 10  # Milliseconds.
    palette = _shared_palette(kept)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept]
    target = Path(path)
    beside = target.with_name(f".{target.name}.tmp")
    images[0].save(
        beside,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=delays.tolist(),
        loop=0,
        optimize=True,
        palette=palette.getpalette(),  # Named, it is written once and not again with every frame.
    )
    os.replace(beside, target)


def _shared_palette(frames: Sequence[np.ndarray], colours: int = 127) -> Image.Image:
    """Choose the palette of a GIF: the commonest colour of each of the commonest shades.

    Pillow's own palettes average neighbouring colours, which tints large plain areas,
    and would have to be made from a few frames, missing what shows only in others.
    """
    # Every third row and column will do, shifted from frame to frame so that no thin line is always missed.
    stride = 3 if len(frames) >= 9 else 1
    parts = [frame[i % stride :: stride, i // stride % stride :: stride] for i, frame in enumerate(frames)]
    pixels = np.concatenate([part.reshape(-1, 3) for part in parts]).astype(np.uint32)
    exact, counts = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32), return_counts=True)
    exact, counts = exact[np.argsort(-counts, kind="stable")], np.sort(counts)[::-1]
    # A shade is the upper half of each channel's byte; np.unique finds its first, so commonest, colour.
    _, first, shade = np.unique(exact & 0xF0F0F0, return_index=True, return_inverse=True)
    totals = np.bincount(shade, weights=counts)
    chosen = exact[first[np.argsort(-totals, kind="stable")[:colours]]]
    # 127, so that with the one that Pillow adds, for pixels that stay, they are a power of two.
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.stack([chosen >> 16, (chosen >> 8) & 255, chosen & 255], axis=1).astype(np.uint8).tobytes())
    return palette
