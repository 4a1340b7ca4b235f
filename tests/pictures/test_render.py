"""Pictures and GIFs: what is drawn follows the state, and files play as long as they should."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from purejaxdqn.pictures.render import ACTION_NAMES, annotate, render_frame, save_gif

CARTPOLE = SimpleNamespace(x_threshold=2.4, theta_threshold_radians=0.2095, length=0.5)
MOUNTAIN_CAR = SimpleNamespace(min_position=-1.2, max_position=0.6, goal_position=0.5)
ACROBOT = SimpleNamespace(link_length_1=1.0, link_length_2=1.0)
POLE_COLOUR = (0xD9, 0x82, 0x2B)

STATES: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
    ("CartPole-v1", CARTPOLE, {"x": 0.0, "theta": 0.0}, {"x": 0.0, "theta": 0.1}),
    ("CartPole-v1", CARTPOLE, {"x": 0.0, "theta": 0.0}, {"x": 1.0, "theta": 0.0}),
    ("MountainCar-v0", MOUNTAIN_CAR, {"position": np.float32(-0.5)}, {"position": np.float32(0.3)}),
    ("Acrobot-v1", ACROBOT, {"joint_angle1": 0.0, "joint_angle2": 0.0}, {"joint_angle1": 0.0, "joint_angle2": 2.0}),
    ("FourRooms-misc", None, {"pos": [4, 1], "goal": [8, 9]}, {"pos": [4, 2], "goal": [8, 9]}),
]


@pytest.mark.parametrize(("env_id", "params", "one", "other"), STATES)
def test_state_scenes_follow_the_state(env_id: str, params: Any, one: dict[str, Any], other: dict[str, Any]) -> None:
    first, again, second = (
        render_frame(env_id, SimpleNamespace(**fields), np.zeros(4), params) for fields in (one, one, other)
    )
    assert first.dtype == np.uint8 and first.shape == second.shape and first.shape[1:] == (400, 3)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_cartpole_leans_the_way_its_angle_says() -> None:
    """A positive angle leans right, a positive position stands right of the middle."""

    def pole_columns(x: float, theta: float) -> np.ndarray:
        frame = render_frame("CartPole-v1", SimpleNamespace(x=x, theta=theta), np.zeros(4), CARTPOLE)
        return np.nonzero((frame == POLE_COLOUR).all(axis=2))[1]

    upright, right, left = (pole_columns(0.0, theta).mean() for theta in (0.0, 0.2, -0.2))
    assert upright == pytest.approx(199.5, abs=1)
    assert right - upright == pytest.approx(upright - left, abs=1)
    assert right > upright + 5
    # The threshold, 2.4, is 1 / 2.3 of the picture's width off the middle.
    assert pole_columns(1.2, 0.0).mean() - upright == pytest.approx(400 / 2.3 / 2, abs=1)


def test_acrobot_swings_to_the_side_of_its_angle() -> None:
    """A positive first angle turns the links from straight down to the right, as in Gymnasium."""
    state = SimpleNamespace(joint_angle1=np.pi / 2, joint_angle2=0.0)
    frame = render_frame("Acrobot-v1", state, np.zeros(6), ACROBOT)
    rows, columns = np.nonzero((frame == POLE_COLOUR).all(axis=2))  # The second link.
    assert columns.min() > 250 and rows.mean() == pytest.approx(149.5, abs=1)


@pytest.mark.parametrize(
    ("env_id", "shape", "centre", "colour"),
    [
        # Cells are 28 pixels, the board starts at (16, 16): row 3, column 7 is centred on (114, 226).
        ("Breakout-MinAtar", (10, 10, 4), (114, 226), (0xFF, 0xD1, 0x66)),
        ("Unknown-env", (10, 10, 2), (114, 226), (0xFF, 0xD1, 0x66)),
        # Without a legend the board is centred: it starts at column 60.
        ("Unknown-env", (10, 10), (114, 270), (0xFF, 0xD1, 0x66)),
    ],
)
def test_grids_colour_the_cells_that_are_set(
    env_id: str, shape: tuple[int, ...], centre: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    obs = np.zeros(shape, dtype=np.float32)
    empty = render_frame(env_id, None, obs, None)
    obs[(3, 7) if len(shape) == 2 else (3, 7, 1)] = 1.0
    frame = render_frame(env_id, None, obs, None)
    assert tuple(frame[centre]) == colour
    assert tuple(empty[centre]) == (0x17, 0x1B, 0x24)
    changed = np.argwhere((frame != empty).any(axis=2))
    assert (np.ptp(changed, axis=0) <= 29).all()  # One cell, and nothing else.


@pytest.mark.parametrize("env_id", [name for name in ACTION_NAMES if name.endswith("-MinAtar")])
def test_every_minatar_game_is_drawn_from_gymnax(env_id: str) -> None:
    import gymnax
    import jax

    env, params = gymnax.make(env_id)
    obs, state = env.reset(jax.random.key(0), params)
    frame = render_frame(env_id, jax.tree.map(np.asarray, state), np.asarray(obs), params)
    assert frame.shape == (312, 400, 3)
    assert len(ACTION_NAMES[env_id]) == env.num_actions
    assert len(np.unique(frame[16:296, 16:296].reshape(-1, 3), axis=0)) >= 3


@pytest.mark.parametrize("shape", [(), (3,), (16,), (17,), (200,), (2, 3, 4, 5), (84, 84)])
def test_other_observations_are_drawn_generically(shape: tuple[int, ...]) -> None:
    zeros = render_frame("Unknown-env", None, np.zeros(shape), None)
    ones = render_frame("Unknown-env", None, np.ones(shape), None)
    assert zeros.shape == ones.shape
    assert not np.array_equal(zeros, ones)
    render_frame("Unknown-env", None, np.full(shape, np.nan), None)


def test_annotate_adds_a_strip_that_shows_values_and_action() -> None:
    frame = np.full((50, 400, 3), 9, dtype=np.uint8)

    def strip(values: list[float] | None, action: int | None) -> np.ndarray:
        array = None if values is None else np.array(values)
        picture = annotate(frame, step=3, episode_return=-1.5, q_values=array, action=action)
        np.testing.assert_array_equal(picture[:50], frame)
        return picture[50:]

    base = strip([1.0, 2.0], 0)
    assert base.dtype == np.uint8 and base.shape == (92, 400, 3)
    assert strip(None, None).shape == (44, 400, 3)
    for other in (strip([1.0, 2.0], 1), strip([1.5, 2.0], 0), strip([-1.0, 2.0], 0), strip([float("nan"), 2.0], 0)):
        assert other.shape == base.shape
        assert not np.array_equal(base, other)
    # The best of two positive values fills the groove, half of it fills the half: columns 100 to 322.
    middle = [54, 74]
    assert not np.array_equal(base[middle[0], 205], base[middle[0], 217])
    np.testing.assert_array_equal(base[middle[1], 205], base[middle[1], 217])
    with pytest.raises(ValueError, match="3 action names for 2"):
        annotate(frame, step=0, episode_return=0.0, q_values=np.zeros(2), action=0, action_names=["a", "b", "c"])


def test_an_illegal_action_has_no_bar_and_many_actions_have_none() -> None:
    frame = np.full((50, 400, 3), 9, dtype=np.uint8)

    def strip(values: list[float]) -> np.ndarray:
        return annotate(frame, step=0, episode_return=0.0, q_values=np.array(values), action=0)[50:]

    legal, illegal, lowest = strip([1.0, 0.5]), strip([1.0, -np.inf]), strip([1.0, 0.0])
    np.testing.assert_array_equal(legal[:64], illegal[:64])
    # The groove is empty as for a value of nothing, and the number's place has a word.
    np.testing.assert_array_equal(illegal[68:80, 100:320], lowest[68:80, 100:320])
    assert not np.array_equal(illegal[64:, 322:], lowest[64:, 322:])
    assert strip([0.0] * 32).shape[0] > 600 and strip([0.0] * 33).shape[0] == 44


def moving_square(count: int) -> list[np.ndarray]:
    """Frames that all differ, 40 × 700: Pillow merges equal neighbours into one."""
    frames = [np.full((40, 700, 3), 250, dtype=np.uint8) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[10:30, i : i + 20] = (217, 130, 43)
    return frames


def read_gif(path: Path) -> tuple[list[int], np.ndarray]:
    """Return a GIF's delays in ms and its last frame, uint8 [H, W, 3]."""
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        delays = []
        for i in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(i)
            delays.append(int(image.info["duration"]))
        return delays, np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("count", "fps", "max_frames", "kept", "seconds"),
    [
        (60, 30, 500, 60, 2.0),  # 33.3 ms is no multiple of 10: delays of 30 and 40 add up.
        (60, 50, 500, 60, 1.2),
        (120, 100, 500, 60, 1.2),  # 10 ms is too short for browsers: every other frame.
        (120, 30, 100, 100, 4.0),  # Thinned, the playing time kept.
        (600, 30, 50, 50, 3.0),  # Thinned a lot: 60 ms a frame and faster than life.
        (4, 2, 500, 4, 2.0),  # As slow as asked for.
    ],
)
def test_gif_frames_and_playing_time(
    tmp_path: Path, count: int, fps: int, max_frames: int, kept: int, seconds: float
) -> None:
    frames = moving_square(count)
    save_gif(frames, tmp_path / "episode.gif", fps=fps, max_frames=max_frames)
    delays, last = read_gif(tmp_path / "episode.gif")
    assert len(delays) == kept
    assert sum(delays) == pytest.approx(1000 * seconds)
    assert min(delays) >= 20 and all(delay % 10 == 0 for delay in delays)
    np.testing.assert_array_equal(last, frames[-1])  # Plain colours survive the palette exactly.
    assert [path.name for path in tmp_path.iterdir()] == ["episode.gif"]


def test_gif_frames_are_the_frames_given(tmp_path: Path) -> None:
    frames = moving_square(20)
    save_gif(frames, tmp_path / "episode.gif")
    with Image.open(tmp_path / "episode.gif") as image:
        for i, frame in enumerate(frames):
            image.seek(i)
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frame)


def test_gif_keeps_a_colour_that_only_one_frame_has(tmp_path: Path) -> None:
    frames = moving_square(40)
    frames[-1][0:12, 600:612] = (10, 200, 30)
    save_gif(frames, tmp_path / "episode.gif")
    assert tuple(read_gif(tmp_path / "episode.gif")[1][6, 606]) == (10, 200, 30)


def test_gif_of_a_cartpole_episode_is_small(tmp_path: Path) -> None:
    """100 frames in under 0.3 MB: 500 stay under 1.5 MB."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(100):
        state = SimpleNamespace(x=np.sin(i / 40), theta=0.1 * np.sin(i / 10))
        frame = render_frame("CartPole-v1", state, np.zeros(4), CARTPOLE)
        values = 90 + rng.normal(size=2)
        frames.append(annotate(frame, step=i, episode_return=i, q_values=values, action=i // 3 % 2))
    save_gif(frames, tmp_path / "episode.gif")
    assert (tmp_path / "episode.gif").stat().st_size < 300_000


def test_gif_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    square = moving_square(2)
    for frames, fps in (([], 30), ([square[0], square[1][:20]], 30), (square, 0)):
        with pytest.raises(ValueError, match="one shape"):
            save_gif(frames, tmp_path / "episode.gif", fps=fps)
    assert not list(tmp_path.iterdir())


def test_importing_render_loads_neither_jax_nor_gymnax() -> None:
    code = "import sys, purejaxdqn.pictures.render; print(sorted({'jax', 'gymnax', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
