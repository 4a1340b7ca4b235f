"""Scores on the human scale: values by hand, the list of games, and what the intervals resample."""

import json

import numpy as np
import pytest

from purejaxdqn import scores
from purejaxdqn.statistics.atari_scores import SCORES, aggregate, human_normalized


def test_random_is_zero_and_human_is_one():
    for env_id, (random, human) in SCORES.items():
        assert random < human
        assert human_normalized(env_id, random) == 0.0 and human_normalized(env_id, human) == 1.0


def test_by_hand():
    assert human_normalized("Breakout-v5", 16.1) == pytest.approx(0.5)  # 14.4 of 28.8
    assert human_normalized("Pong-v5", 21.0) == pytest.approx(41.7 / 35.3)
    assert human_normalized("Freeway-v5", -29.6) == pytest.approx(-1.0)
    assert human_normalized("Adventure-v5", 1.0) is None and human_normalized("CartPole-v1", 1.0) is None


def test_the_games_are_envpools():
    envpool = pytest.importorskip("envpool")
    assert len(SCORES) == 57 and set(SCORES) <= set(envpool.list_all_envs())


def scaled(env_id, normalised):
    """Returns with these human-normalised scores."""
    random, human = SCORES[env_id]
    return [random + x * (human - random) for x in normalised]


def test_aggregate_by_hand():
    """Means over seeds 0.5, 1 and 6: median 1. Of the runs 0, 1, 1, 1, 4, 8 the middle four have the mean 7/4."""
    games = {"Pong-v5": [0.0, 1.0], "Boxing-v5": [1.0, 1.0], "Breakout-v5": [4.0, 8.0]}
    result = aggregate({env_id: scaled(env_id, values) for env_id, values in games.items()})
    assert result.median == pytest.approx(1.0) and result.iqm == pytest.approx(7 / 4)
    # Boxing's mean is always 1, Pong's never above, Breakout's never below: the median cannot move.
    assert result.median_interval == pytest.approx((1.0, 1.0))
    # Lowest: 0, 0, 1, 1, 4, 4 or 8 has 6/4 in the middle. Highest: 0 or 1, 1, 1, 1, 8, 8 has 11/4. Each comes with
    # probability 1/4 · 3/4, more often than the 2.5 % in a tail.
    assert result.iqm_interval == pytest.approx((6 / 4, 11 / 4))


def test_resampling_stays_within_a_game():
    """Games without spread give intervals without width, however far apart they are."""
    result = aggregate({"Pong-v5": scaled("Pong-v5", [0.0] * 3), "Boxing-v5": scaled("Boxing-v5", [5.0] * 4)})
    assert result.median == pytest.approx(2.5) and result.median_interval == pytest.approx((2.5, 2.5))
    # Of seven runs the lowest and the highest are dropped: 0, 0, 5, 5, 5.
    assert result.iqm == pytest.approx(3.0) and result.iqm_interval == pytest.approx((3.0, 3.0))


def test_the_interval_is_the_seeds_and_narrows_with_the_level():
    scores = {"Pong-v5": list(np.linspace(-20, 20, 9)), "Boxing-v5": list(np.linspace(0, 100, 7))}
    assert aggregate(scores, seed=1) == aggregate(scores, seed=1) != aggregate(scores, seed=2)
    wide, narrow = aggregate(scores), aggregate(scores, level=0.5)
    assert wide.iqm_interval[0] < narrow.iqm_interval[0] < wide.iqm < narrow.iqm_interval[1] < wide.iqm_interval[1]


@pytest.mark.parametrize(
    ("scores", "level", "message"),
    [
        ({}, 0.95, "at least one game"),
        ({"Pong-v5": []}, 0.95, "at least one score"),
        ({"Pong-v5": [1.0, float("nan")]}, 0.95, "none of them missing"),
        ({"Adventure-v5": [1.0], "Pong-v5": [1.0]}, 0.95, "no human score is known for Adventure-v5"),
        ({"Pong-v5": [1.0]}, 1.0, "level"),
    ],
)
def test_what_cannot_be_aggregated(scores, level, message):
    with pytest.raises(ValueError, match=message):
        aggregate(scores, level)


def write_run(folder, env, protocol, scores):
    """A run folder that holds scores and nothing else."""
    folder.mkdir()
    entries = [{"frames": frames, "env_steps": frames // 4, "score": score} for frames, score in scores.items()]
    data = {"env": env, "seed": 0, "protocol": protocol, "score_is": "30 games with ε = 0.05", "scores": entries}
    (folder / "scores.json").write_text(json.dumps(data))
    return str(folder)


def test_runs_of_two_protocols_never_share_a_line(tmp_path, capsys):
    """Breakout 16.1 is half a human's, Boxing 12.1 a human's: median and interquartile mean of both are 0.75."""
    runs = [
        write_run(tmp_path / "a", "Breakout-v5", "nature", {10_000_000: 16.1, 40_000_000: 30.5}),
        write_run(tmp_path / "b", "Boxing-v5", "nature", {10_000_000: 12.1}),
        write_run(tmp_path / "c", "Boxing-v5", "sticky", {10_000_000: 0.1, 40_000_000: None}),
    ]
    assert scores.main([*runs, "--json"]) == 0
    found = {(one["protocol"], one["frames"]): one for one in json.loads(capsys.readouterr().out)}
    assert list(found) == [("nature", 10_000_000), ("nature", 40_000_000), ("sticky", 10_000_000)]
    first = found["nature", 10_000_000]
    assert first["median"] == pytest.approx(0.75) and first["iqm"] == pytest.approx(0.75)
    assert found["nature", 40_000_000]["iqm"] == pytest.approx(1.0)
    assert found["sticky", 10_000_000]["median"] == pytest.approx(0.0)
    assert scores.main(runs) == 0
    assert "sticky" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_what_is_no_run_with_scores_is_refused(tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "scores.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        scores.main([str(tmp_path)])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and len(said.splitlines()) == 1 and "scores.json" in said
