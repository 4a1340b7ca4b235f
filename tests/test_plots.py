"""Learning curves from small metrics files, with gaps, for every number of seeds the drawing tells apart."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purejaxdqn.plots import _tidy, learning_curve, read_returns, step_label

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


def test_long_curves_are_thinned_in_blocks() -> None:
    steps = np.arange(1, 1001, dtype=np.float64)
    x, curves = _tidy(steps, np.stack([steps, np.full(1000, 3.0)]))
    assert x.shape == (400,) and x[-1] == 1000
    np.testing.assert_array_equal(curves[1], np.full(400, 3.0))
    assert curves[0, 0] == 1.5 and x[0] == 2  # The first block holds steps 1 and 2.


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, "0"), (500, "500"), (500_000, "500k"), (1_000_000, "1.0M"), (1_250_000, "1.25M"), (2e7, "20M"), (1e9, "1.0B")],
)
def test_step_labels(value: float, label: str) -> None:
    assert step_label(value) == label
