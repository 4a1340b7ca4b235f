"""One drawing for each kind of environment state: dispatched by `render_frame`.

Coordinates are pixels of the finished picture, y downwards; see `drawing`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from purejaxdqn.pictures import drawing as d
from purejaxdqn.pictures.drawing import Point

_BOARD, _BOARD_GRID = "#171b24", "#262c38"
_COLOURS = {
    "blue": "#5ab0ff",
    "yellow": "#ffd166",
    "red": "#ef6f6c",
    "green": "#7bd389",
    "violet": "#c792ea",
    "orange": "#f4a261",
    "cyan": "#4dd0e1",
    "pink": "#f78fb3",
    "white": "#e8eaf0",
    "navy": "#2f6fae",
    "slate": "#4c5670",
    "olive": "#7d6a35",
}
# Observation channels by environment: "channel colour name", drawn in this order, so what matters most comes
# last. A channel left out repeats another (SpaceInvaders has its aliens again by the way they are heading).
_LAYERS = {
    "Asterix-MinAtar": "2 slate trail, 3 yellow gold, 1 red enemy, 0 blue player",
    "Breakout-MinAtar": "3 red brick, 2 olive trail, 1 yellow ball, 0 blue paddle",
    "Freeway-MinAtar": "6 slate trail, 5 slate, 4 slate, 3 slate, 2 slate, 1 red car, 0 yellow chicken",
    "Pong-misc": "2 olive trail, 1 yellow ball, 0 blue paddle",
    "FourRooms-misc": "0 slate wall, 1 green goal, 2 yellow agent",
    "Seaquest-MinAtar": "7 cyan oxygen, 8 violet divers saved, 3 slate trail, 9 green diver, 5 orange fish, "
    "6 red enemy sub, 4 pink enemy bullet, 2 white own bullet, 1 navy sub (rear), 0 blue sub (front)",
    "SpaceInvaders-MinAtar": "1 green alien, 5 red alien bullet, 4 yellow own bullet, 0 blue cannon",
}
# gymnax keeps this map on the environment, not in its state; the state's positions are (row, column).
_FOUR_ROOMS = (
    *("xxxxxxxxxxxxx", "x     x     x", "x     x     x", "x           x", "x     x     x", "x     x     x"),
    *("xx xxxx     x", "x     xxx xxx", "x     x     x", "x     x     x", "x           x", "x     x     x"),
    "xxxxxxxxxxxxx",
)


def render_frame(env_id: str, state: Any, obs: np.ndarray, params: Any) -> np.ndarray:
    """Draw one environment state.

    CartPole, MountainCar, Acrobot and FourRooms are drawn from their state; observations
    of rank 2 and 3 as a grid of cells, coloured by channel; everything else as bars.

    Args:
        env_id: gymnax's name of the environment.
        state: The environment's state, leaves NumPy arrays or scalars.
        obs: Observation of that state, any shape.
        params: The environment's parameters, leaves NumPy arrays or scalars.

    Returns:
        Picture, uint8 [H, 400, 3]; H depends on the environment alone.
    """
    obs = np.asarray(obs, dtype=np.float64)
    if env_id in _SCENES:
        return _SCENES[env_id](state, params)
    if obs.ndim in (2, 3):
        return _draw_grid(env_id, obs)
    return _draw_bars(obs.ravel())


def _draw_cartpole(state: Any, params: Any) -> np.ndarray:
    """Cart and pole to scale, the track's ends, and the angles at which the episode ends."""
    image, draw = d.canvas(210)
    limit, tilt = float(params.x_threshold), float(params.theta_threshold_radians)
    scale, track = d.WIDTH / (2.3 * limit), 160.0
    x, theta = d.WIDTH / 2 + scale * float(state.x), float(state.theta)
    pivot, length = (x, track - 30), 2 * scale * float(params.length)
    for side in (-1, 1):
        post = d.WIDTH / 2 + side * scale * limit
        d.box(draw, (post, d.WIDTH / 2 * (1 + side)), (0, 210), "#f9eceb")
        d.line(draw, [(post, 0), (post, 210)], "#e3a5a1", 1.5)
        d.line(draw, [pivot, d.polar(pivot, length + 22, math.pi + side * tilt)], d.RULE, 1.5)
    d.line(draw, [(0, track), (d.WIDTH, track)], d.INK, 2)
    for wheel in (-15, 15):
        d.dot(draw, (x + wheel, track - 5), 5, d.INK)
    d.box(draw, (x - 27, x + 27), (track - 30, track - 7), d.ACCENT, 4)
    d.rod(draw, pivot, d.polar(pivot, length, math.pi - theta), d.SECOND, 8)
    d.dot(draw, pivot, 2.5, d.PAGE)
    return d.finish(image)


def _draw_mountain_car(state: Any, params: Any) -> np.ndarray:
    """The hill sin(3x), the car standing on it, and the flag at the goal."""
    image, draw = d.canvas(260)
    low, high = float(params.min_position), float(params.max_position)
    scale = d.WIDTH / (high - low + 0.2)

    def ground(position: float) -> Point:
        return scale * (position - low + 0.1), 140 - 0.45 * scale * math.sin(3 * position)

    hill = [ground(position) for position in np.linspace(low - 0.1, high + 0.1, 81)]
    d.polygon(draw, [*hill, (d.WIDTH, 260), (0, 260)], "#e9edf3")
    d.line(draw, hill, d.INK, 2)
    goal_x, goal_y = ground(float(params.goal_position))
    d.line(draw, [(goal_x, goal_y), (goal_x, goal_y - 46)], d.INK, 2)
    d.polygon(draw, [(goal_x, goal_y - 46), (goal_x + 24, goal_y - 38), (goal_x, goal_y - 30)], d.GOAL)
    position = float(state.position)
    (x, y), slope = ground(position), math.atan(1.35 * math.cos(3 * position))

    def on_car(along: float, above: float) -> Point:
        return (
            x + along * math.cos(slope) - above * math.sin(slope),
            y - along * math.sin(slope) - above * math.cos(slope),
        )

    body = [(-19, 6), (-19, 14), (-11, 15), (-7, 23), (7, 23), (12, 15), (19, 13), (19, 6)]
    d.polygon(draw, [on_car(*corner) for corner in body], d.ACCENT)
    for along in (-11, 11):
        d.dot(draw, on_car(along, 5.5), 5.5, d.INK)
        d.dot(draw, on_car(along, 5.5), 2, d.PAGE)
    return d.finish(image)


def _draw_acrobot(state: Any, params: Any) -> np.ndarray:
    """Both links to scale, and the height that the tip must pass."""
    image, draw = d.canvas(300)
    first, second = float(params.link_length_1), float(params.link_length_2)
    scale, pivot = 132 / (first + second), (d.WIDTH / 2, 150.0)
    angle = float(state.joint_angle1)
    elbow = d.polar(pivot, scale * first, angle)
    tip = d.polar(elbow, scale * second, angle + float(state.joint_angle2))
    target = pivot[1] - scale
    for x in range(16, d.WIDTH - 16, 12):
        d.line(draw, [(x, target), (x + 7, target)], d.GOAL, 2)
    d.text(draw, (16, target - 12), "target height", d.GOAL)
    d.rod(draw, pivot, elbow, d.ACCENT, 12)
    d.rod(draw, elbow, tip, d.SECOND, 12)
    for joint in (pivot, elbow):
        d.dot(draw, joint, 3, d.PAGE)
    return d.finish(image)


def _draw_four_rooms(state: Any, params: Any) -> np.ndarray:
    """The map with its walls, the goal and the agent, as a grid of three channels."""
    cells = np.zeros((13, 13, 3))
    cells[..., 0] = [[tile == "x" for tile in row] for row in _FOUR_ROOMS]
    for channel, (row, column) in ((1, np.asarray(state.goal)), (2, np.asarray(state.pos))):
        cells[int(row), int(column), channel] = 1.0
    return _draw_grid("FourRooms-misc", cells)


def _draw_grid(env_id: str, cells: np.ndarray) -> np.ndarray:
    """Cells [H, W] (by value) or [H, W, C] (by channel, with a legend) on a dark board."""
    image, draw = d.canvas(312)
    layers = [(0, "yellow", "")]
    if cells.ndim == 3:
        spec = _LAYERS.get(env_id) or ", ".join(
            f"{c} {colour} channel {c}" for c, colour in zip(range(cells.shape[2]), _COLOURS, strict=False)
        )
        layers = [(int(c), colour, " ".join(name)) for c, colour, *name in map(str.split, spec.split(", "))]
    stack = np.nan_to_num(np.abs(cells)).reshape(*cells.shape[:2], -1)
    stack = stack / max(float(stack.max(initial=0.0)), 1e-9)
    colours = np.full((*stack.shape[:2], 3), d.rgb(_BOARD), dtype=np.float64)
    for channel, colour, _ in layers:
        colours += stack[..., channel, None] * (d.rgb(_COLOURS[colour]) - colours)
    rows, columns = stack.shape[:2]
    side = 280 / max(rows, columns)
    width, height = side * columns, side * rows
    names = [(colour, name) for _, colour, name in reversed(layers) if name]
    left, top = (16.0 if names else (d.WIDTH - width) / 2), (312 - height) / 2
    board = Image.fromarray(colours.round().astype(np.uint8))
    size = (round(width * d.OVERSAMPLE), round(height * d.OVERSAMPLE))
    corner = (round(left * d.OVERSAMPLE), round(top * d.OVERSAMPLE))
    image.paste(board.resize(size, Image.Resampling.NEAREST), corner)
    if side >= 8:  # Below that the lines would hide the cells.
        for i in range(1, columns):
            d.line(draw, [(left + side * i, top), (left + side * i, top + height)], _BOARD_GRID, 1)
        for i in range(1, rows):
            d.line(draw, [(left, top + side * i), (left + width, top + side * i)], _BOARD_GRID, 1)
    for i, (colour, name) in enumerate(names):
        d.box(draw, (308, 318), (18 + 22 * i, 28 + 22 * i), _COLOURS[colour], 2)
        d.text(draw, (324, 23 + 22 * i), name, d.INK, 11)
    return d.finish(image)


def _draw_bars(values: np.ndarray) -> np.ndarray:
    """A flat observation as signed bars, or as a grid where there are too many."""
    if values.size > 16:
        width = math.ceil(math.sqrt(values.size))
        return _draw_grid("", np.resize(np.append(values, np.zeros(width)), (-(-values.size // width), width)))
    image, draw = d.canvas(56 + 24 * values.size)
    d.text(draw, (16, 23), "observation", d.MUTED)
    reach = max(1.0, float(np.nan_to_num(np.abs(values)).max(initial=0.0)))
    for i, value in enumerate(values):
        y, zero = 56 + 24 * i, 190.0
        d.text(draw, (16, y), f"[{i}]", d.MUTED)
        d.value_bar(draw, (58, 322), y, (zero, zero + 132 * value / reach), d.ACCENT if value >= 0 else d.SECOND)
        d.line(draw, [(zero, y - 9), (zero, y + 9)], d.MUTED, 1)
        d.text(draw, (d.WIDTH - 16, y), f"{value:.3g}", d.INK, 13, "rm")
    return d.finish(image)


_SCENES: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "Acrobot-v1": _draw_acrobot,
    "CartPole-v1": _draw_cartpole,
    "FourRooms-misc": _draw_four_rooms,
    "MountainCar-v0": _draw_mountain_car,
}
