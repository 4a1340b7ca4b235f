"""Learning curves from small metrics files, with gaps, for every number of seeds the drawing tells apart."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purejaxdqn.pictures.plots import (
    episode_curve,
    learning_curve,
    read_episodes,
    read_returns,
    step_label,
    tidy,
    trailing_mean,
)

HEADER = ["seed", "env_steps", "loss", "episode_return", "eval_return"]


def write_metrics(path: Path, seeds: int, chunks: int = 12, evaluations: bool = True, lift: float = 0.0) -> Path:
    """Write a rising curve for each seed; no episode ends in the first chunk, and every third one evaluates."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for chunk in range(1, chunks + 1):
            for seed in range(seeds):
                trained = "" if chunk == 1 else 10.0 * chunk + seed
                evaluated = 12.0 * chunk + seed + lift if evaluations and chunk % 3 == 0 else ""
                writer.writerow([seed, 1000 * chunk, 0.5, trained, evaluated])
    return path


def draw(folder: Path, metrics: Path, name: str = "curve.png", solved_at: float | None = 100.0) -> np.ndarray:
    """Draw a metrics file and return the picture, uint8 [H, W, 3]."""
    learning_curve(metrics, folder / name, env_id="CartPole-v1", solved_at=solved_at)
    with Image.open(folder / name) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [1, 3, 5, 12])
def test_draws_any_number_of_seeds(tmp_path: Path, seeds: int) -> None:
    picture = draw(tmp_path, write_metrics(tmp_path / "metrics.csv", seeds))
    assert picture.shape == (675, 1200, 3)  # 8 × 4.5 in at 150 dpi.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "metrics.csv"]


def test_the_picture_shows_the_data(tmp_path: Path) -> None:
    plain = write_metrics(tmp_path / "plain.csv", 3)
    lifted = write_metrics(tmp_path / "lifted.csv", 3, lift=30.0)
    first = draw(tmp_path, plain)
    np.testing.assert_array_equal(first, draw(tmp_path, plain))
    assert not np.array_equal(first, draw(tmp_path, lifted))
    assert not np.array_equal(first, draw(tmp_path, plain, solved_at=None))


def test_draws_training_alone_and_refuses_a_file_without_returns(tmp_path: Path) -> None:
    draw(tmp_path, write_metrics(tmp_path / "metrics.csv", 2, evaluations=False))
    empty = write_metrics(tmp_path / "empty.csv", 2, chunks=1, evaluations=False)
    with pytest.raises(ValueError, match="no return"):
        draw(tmp_path, empty, "none.png")
    header_only = write_metrics(tmp_path / "header.csv", 0)
    with pytest.raises(ValueError, match="no rows"):
        draw(tmp_path, header_only, "none.png")
    assert not (tmp_path / "none.png").exists()


def test_reads_returns_in_order_with_gaps_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = ["5,2000,0,7,", "5,1000,0,,1.5", "2,1000,0,3,", "2,2000,0,nan,4", "2,1000,0,6,"]
    path.write_text("\n".join([",".join(HEADER), *rows]) + "\n", encoding="utf-8")
    steps, training, evaluation = read_returns(path)
    np.testing.assert_array_equal(steps, [1000, 2000])
    np.testing.assert_array_equal(training, [[6, np.nan], [np.nan, 7]])  # The later of two rows for seed 2 holds.
    np.testing.assert_array_equal(evaluation, [[np.nan, 4], [1.5, np.nan]])


@pytest.mark.parametrize("torn", ["5,3000,0", "5,3000,0,8,", "5,30"])
def test_a_last_line_without_an_end_is_left_out(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join([",".join(HEADER), "5,1000,0,,1.5", torn]), encoding="utf-8")
    steps, _, evaluation = read_returns(path)
    np.testing.assert_array_equal(steps, [1000])
    np.testing.assert_array_equal(evaluation, [[1.5]])


def test_long_curves_are_thinned_in_blocks() -> None:
    steps = np.arange(1, 1001, dtype=np.float64)
    x, curves = tidy(steps, np.stack([steps, np.full(1000, 3.0)]))
    assert x.shape == (400,) and x[-1] == 1000
    np.testing.assert_array_equal(curves[1], np.full(400, 3.0))
    assert curves[0, 0] == 1.5 and x[0] == 2  # The first block holds steps 1 and 2.


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, "0"), (500, "500"), (500_000, "500k"), (1_000_000, "1.0M"), (1_250_000, "1.25M"), (2e7, "20M"), (1e9, "1.0B")],
)
def test_step_labels(value: float, label: str) -> None:
    assert step_label(value) == label


def write_episodes(path: Path, lengths: list[int], told: float = 1.0) -> Path:
    """Write seeds with so many episodes, whose return is their number and the learner's `told` times it."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "episode", "env_steps", "episode_return", "learning_return", "episode_length"])
        for seed, count in enumerate(lengths):
            for episode in range(1, count + 1):
                writer.writerow([seed, episode, 10 * episode, episode, told * episode, 10])
    return path


def test_episodes_of_seeds_that_ended_early_are_missing(tmp_path: Path) -> None:
    numbers, returns, learning = read_episodes(write_episodes(tmp_path / "episodes.csv", [3, 1], told=2.0))
    np.testing.assert_array_equal(numbers, [1, 2, 3])
    np.testing.assert_array_equal(returns, [[1, 2, 3], [1, np.nan, np.nan]])
    np.testing.assert_array_equal(learning, 2.0 * returns)
    with pytest.raises(ValueError, match="no rows"):
        read_episodes(write_episodes(tmp_path / "none.csv", []))


def test_trailing_mean_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    curves = rng.normal(size=(3, 50))
    curves[1, 30:] = np.nan
    curves[2, 10:13] = np.nan
    for width in (1, 7, 60):
        found = trailing_mean(curves, width)
        for row, means in zip(curves, found, strict=True):
            for t, value in enumerate(row):
                held = row[max(0, t + 1 - width) : t + 1]
                expected = np.nan if np.isnan(value) else np.nanmean(held)
                np.testing.assert_allclose(means[t], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lengths", [[30], [30, 25, 40], [60] * 6])
def test_episodes_are_drawn_and_shaped_rewards_add_a_line(tmp_path: Path, lengths: list[int]) -> None:
    pictures = []
    for told in (1.0, 3.0):
        path = write_episodes(tmp_path / "episodes.csv", lengths, told)
        episode_curve(path, tmp_path / "episodes.png", env_id="CartPole-v1", solved_at=100.0)
        with Image.open(tmp_path / "episodes.png") as image:
            pictures.append(np.asarray(image.convert("RGB")))
    assert pictures[0].shape == (675, 1200, 3) and not np.array_equal(*pictures)
