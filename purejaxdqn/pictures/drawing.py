"""Small drawing primitives over Pillow, used by `scenes` and `render`.

Coordinates are pixels of the finished picture, y downwards. Canvases are `OVERSAMPLE`
times as large and reduced at the end, which smooths the edges.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

Point = tuple[float, float]

WIDTH = 400
OVERSAMPLE = 3
PAGE, INK, MUTED, RULE = "#fbfbfd", "#2b2f36", "#737a86", "#d9dee7"
ACCENT, SECOND, GOAL, QUIET, GROOVE = "#1f5fa8", "#d9822b", "#2f9e5f", "#b4bdcb", "#eef1f5"


def canvas(height: int, width: int = WIDTH) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Make an empty page of `height` × `width` finished pixels, with the pen that draws on it."""
    image = Image.new("RGB", (width * OVERSAMPLE, height * OVERSAMPLE), PAGE)
    return image, ImageDraw.Draw(image)


def finish(image: Image.Image) -> np.ndarray:
    """Reduce a canvas to its finished size: uint8 [height, width, 3]."""
    return np.asarray(image.reduce(OVERSAMPLE), dtype=np.uint8)


def polar(start: Point, length: float, angle: float) -> Point:
    """Point at a distance from another; `angle` in radians from straight down, counter-clockwise."""
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def line(draw: ImageDraw.ImageDraw, points: Sequence[Point], colour: str, width: float) -> None:
    """Draw an open path."""
    draw.line(_enlarged(points), fill=colour, width=round(width * OVERSAMPLE), joint="curve")


def polygon(draw: ImageDraw.ImageDraw, points: Sequence[Point], colour: str) -> None:
    """Fill a closed path."""
    draw.polygon(_enlarged(points), fill=colour)


def box(draw: ImageDraw.ImageDraw, x: Point, y: Point, colour: str, radius: float = 0.0) -> None:
    """Fill the rectangle between two x and two y, each pair in either order, corners rounded by `radius`."""
    left, right = (value * OVERSAMPLE for value in sorted(x))
    top, bottom = (value * OVERSAMPLE for value in sorted(y))
    # Pillow paints the far edge too, so an empty rectangle would still show as a line.
    if right - left >= 1 and bottom - top >= 1:
        draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius * OVERSAMPLE, fill=colour)


def dot(draw: ImageDraw.ImageDraw, centre: Point, radius: float, colour: str) -> None:
    """Fill a circle."""
    corners = [(centre[0] - radius, centre[1] - radius), (centre[0] + radius, centre[1] + radius)]
    draw.ellipse(_enlarged(corners), fill=colour)


def rod(draw: ImageDraw.ImageDraw, start: Point, end: Point, colour: str, width: float) -> None:
    """Draw a straight rod with round ends."""
    across = math.atan2(end[1] - start[1], end[0] - start[0]) + math.pi / 2
    dx, dy = width / 2 * math.cos(across), width / 2 * math.sin(across)
    polygon(
        draw,
        [
            (start[0] + dx, start[1] + dy),
            (end[0] + dx, end[1] + dy),
            (end[0] - dx, end[1] - dy),
            (start[0] - dx, start[1] - dy),
        ],
        colour,
    )
    dot(draw, start, width / 2, colour)
    dot(draw, end, width / 2, colour)


def text(draw: ImageDraw.ImageDraw, at: Point, words: str, colour: str, size: int = 13, anchor: str = "lm") -> None:
    """Write one line; `anchor` as Pillow has it, "lm" being left and middle."""
    draw.text((at[0] * OVERSAMPLE, at[1] * OVERSAMPLE), words, fill=colour, font=_font(size), anchor=anchor)


def value_bar(draw: ImageDraw.ImageDraw, groove: Point, y: float, ends: Point, colour: str) -> None:
    """Draw a bar 12 pixels high about `y`, between the x of `ends`, in a groove; NaN draws no bar."""
    box(draw, groove, (y - 6, y + 6), GROOVE, 2)
    if np.isfinite(ends).all():
        box(draw, ends, (y - 6, y + 6), colour, 2)


def rgb(colour: str) -> np.ndarray:
    """Turn "#rrggbb" into float64 [3], 0 to 255."""
    return np.asarray(ImageColor.getrgb(colour), dtype=np.float64)


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font: pictures look the same on every machine, whatever fonts it has."""
    return ImageFont.load_default(size * OVERSAMPLE)


def _enlarged(points: Sequence[Point]) -> list[Point]:
    return [(float(x) * OVERSAMPLE, float(y) * OVERSAMPLE) for x, y in points]
