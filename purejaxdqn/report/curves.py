"""Charts over environment steps: learning curves, episodes, and the lanes left by halving."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purejaxdqn.pictures.plots import read_episodes, trailing_mean
from purejaxdqn.report.charts import (
    COLOURS,
    MUTED,
    Chart,
    Key,
    colour_of,
    dash_of,
    figure,
    see_through,
    shown_numbers,
    solved_line,
    steps_axis,
    words,
)
from purejaxdqn.report.contents import SCORE_NAMES, Run, Score, Setting
from purejaxdqn.report.numbers import (
    SEED_POINTS,
    band,
    curve_of,
    only_training,
    profile,
    seed_points,
    survivors,
)
from purejaxdqn.statistics.comparison import Estimate

SHOWN = 8
"""Settings whose curves are shown at first."""
MOST_KEYS = 300
"""Maximum number of settings with curves in a chart: the best ones."""
FEW_SEEDS = 10
"""Maximum number of a run's seeds that are shown initially."""
RESAMPLES, FEW_RESAMPLES = 2000, 500
"""Resamples for a band; fewer if a chart has more than `SHOWN` bands, which would take long."""

BANDS = (
    "Bands: 95 % bootstrap interval over seeds, at each step by itself; none with one seed. Where a seed was not "
    "measured its last value is carried on."
)


def learning_curves(settings: Sequence[Setting], solved_at: float | None, seeds_shown: bool = False) -> Chart:
    """Returns over environment steps: interquartile mean and band of each setting, and its seeds to switch on.

    Args:
      settings: best first; the first eight are shown at first.
      solved_at: a line across, or None.
      seeds_shown: whether single seeds are shown at first.
    """
    kept = settings[:MOST_KEYS]
    training = only_training(kept)
    resamples = RESAMPLES if len(kept) <= SHOWN else FEW_RESAMPLES
    points = SEED_POINTS // max(1, sum(len(setting.seeds) for setting in kept))
    traces, keys = [], []
    for group, setting in enumerate(kept):
        shown = group < SHOWN
        keys.append(Key(setting.name, colour_of(group), dash_of(group), shown))
        returns = curve_of(setting, training)
        if np.isnan(returns).all():
            continue
        traces += curve_traces(group, setting.name, band(setting.steps, returns, resamples), len(returns), shown)
        thinned = seed_points(setting.steps, returns, points)
        traces.append(seeds_trace(group, setting.name, *thinned, setting.seeds, seeds_shown and shown))
    what = "mean return of the episodes that ended" if training else "return of the evaluations"
    chart = figure(
        traces, steps_axis(), {"title": f"return per episode ({'training' if training else 'evaluation'})"}, 440
    )
    solved_line(chart, solved_at)
    left_out = f" The best {MOST_KEYS} of {len(settings):,} settings." if len(kept) < len(settings) else ""
    caption = (
        f"Lines: interquartile mean over seeds of the {what}. {BANDS} Single seeds are thin; thinned to at most "
        f"{max(points, 2):,} points each.{left_out}"
    )
    return Chart(chart, caption, keys=tuple(keys), seeds=True)


def curve_traces(
    group: int, name: str, curve: tuple[np.ndarray, Estimate], seeds: int, shown: bool
) -> list[dict[str, Any]]:
    """Line and band of one setting, from `numbers.band`."""
    steps, found = curve
    colour = colour_of(group)
    common = {"type": "scatter", "x": shown_numbers(steps), "visible": shown}
    line = {
        **common,
        "y": shown_numbers(found.value),
        # A first and only evaluation is a point, which a line alone would not show.
        "mode": "lines" if len(steps) > 1 else "markers",
        "line": {"color": colour, "width": 2.2, "dash": dash_of(group)},
        "marker": {"color": colour},
        "name": words(name),
        "meta": {"group": group, "kind": "line"},
        "hovertemplate": "%{fullData.name}<br>%{x:,.0f} steps: %{y:.5~g}<extra></extra>",
    }
    if seeds < 2:
        return [line]
    around = {
        **common,
        "x": shown_numbers(np.concatenate([steps, steps[::-1]])),
        "y": shown_numbers(np.concatenate([found.high, found.low[::-1]])),
        "mode": "lines",
        "line": {"width": 0, "color": colour},
        "fill": "toself",
        "fillcolor": see_through(colour, 0.16),
        "hoverinfo": "skip",
        "meta": {"group": group, "kind": "band"},
    }
    return [around, line]


def seeds_trace(
    group: int, name: str, steps: np.ndarray, returns: np.ndarray, seeds: Sequence[int], shown: bool
) -> dict[str, Any]:
    """All single seeds of a setting as one trace, separated by gaps."""
    gap = np.full((len(returns), 1), np.nan)
    return {
        "type": "scatter",
        "x": shown_numbers(np.hstack([np.tile(steps, (len(returns), 1)), gap]).ravel()),
        "y": shown_numbers(np.hstack([returns, gap]).ravel()),
        "customdata": np.repeat(np.asarray(seeds, np.int32), len(steps) + 1),
        "mode": "lines" if len(steps) > 1 else "markers",
        "line": {"color": see_through(colour_of(group), 0.45), "width": 0.9},
        "marker": {"color": see_through(colour_of(group), 0.45), "size": 5},
        "visible": shown,
        "name": words(name),
        "meta": {"group": group, "kind": "seeds"},
        "hovertemplate": "%{fullData.name}<br>seed %{customdata}, %{x:,.0f} steps: %{y:.5~g}<extra></extra>",
    }


def run_curves(run: Run) -> Chart:
    """Evaluation and training of one run over environment steps, with its seeds."""
    setting = run.settings[0]
    tables = {"evaluation": setting.evaluation, "training": setting.training}
    there = {name: table for name, table in tables.items() if not np.isnan(table).all()}
    few = len(setting.seeds) <= FEW_SEEDS
    points = SEED_POINTS // (len(setting.seeds) * max(1, len(there)))
    traces, keys = [], []
    for group, (name, returns) in enumerate(there.items()):
        # Both at once are hard to read with their seeds.
        shown = group == 0
        keys.append(Key(name, colour_of(group), dash_of(group), True))
        traces += curve_traces(group, name, band(setting.steps, returns), len(returns), True)
        thinned = seed_points(setting.steps, returns, points)
        traces.append(seeds_trace(group, name, *thinned, setting.seeds, few and shown))
    chart = figure(traces, steps_axis(), {"title": "return per episode"}, 440)
    solved_line(chart, run.solved_at)
    caption = (
        "Lines: interquartile mean over seeds of the evaluations, and of the episodes of training that ended. "
        f"{BANDS} Single seeds are thin; thinned to at most {max(points, 2):,} points each."
    )
    return Chart(chart, caption, keys=tuple(keys), seeds=True)


def episodes_chart(path: Path, solved_at: float | None) -> Chart:
    """Returns of a run's single episodes of training over their number.

    Raises:
      KeyError, ValueError: as `plots.read_episodes`.
    """
    numbers, returns, learning = read_episodes(path)
    trailing = {"return": trailing_mean(returns)}
    if not np.allclose(returns, learning, equal_nan=True):
        trailing["return in the learner's rewards"] = trailing_mean(learning)
    traces, keys = [], []
    for group, (name, table) in enumerate(trailing.items()):
        keys.append(Key(name, colour_of(group), dash_of(group), True))
        traces += curve_traces(group, name, band(numbers, table), len(table), True)
    for trace in traces:
        if "hovertemplate" in trace:
            trace["hovertemplate"] = "%{fullData.name}<br>episode %{x:,.0f}: %{y:.5~g}<extra></extra>"
    chart = figure(traces, steps_axis("episodes of training of a seed"), {"title": "return per episode"}, 340)
    solved_line(chart, solved_at)
    caption = (
        "Lines: interquartile mean over seeds of the mean return of the newest 20 episodes. Bands: 95 % bootstrap "
        "interval over seeds; none with one seed. A seed with fewer episodes than another keeps its last value."
    )
    return Chart(chart, caption, keys=tuple(keys) if len(keys) > 1 else ())


def profile_chart(settings: Sequence[Setting], score: Score, bar: float | None) -> Chart:
    """Share of seeds above every score.

    Args:
      settings: best first; the first eight are shown at first.
      score: what their scores are.
      bar: a line across, or None.
    """
    kept = [setting for setting in settings if not np.isnan(setting.scores).all()][:MOST_KEYS]
    scores = [setting.scores[~np.isnan(setting.scores)] for setting in kept]
    every = np.concatenate([*scores, [] if bar is None else [bar]])
    # Curves that are switched on later begin further left only where their own scores do.
    first = min(held.min() for held in scores[:SHOWN])
    room = 0.02 * (every.max() - first) or 1.0
    traces, keys = [], []
    for group, (setting, held) in enumerate(zip(kept, scores, strict=True)):
        x, y = profile(held, min(first, held.min()) - room, every.max() + room)
        keys.append(Key(setting.name, colour_of(group), dash_of(group), group < SHOWN))
        traces.append(
            {
                "type": "scatter",
                "x": shown_numbers(x),
                "y": shown_numbers(y),
                "mode": "lines",
                "line": {"color": colour_of(group), "width": 2, "dash": dash_of(group), "shape": "hv"},
                "visible": group < SHOWN,
                "name": words(setting.name),
                "meta": {"group": group, "kind": "line"},
                "hovertemplate": "%{fullData.name}<br>%{y:.0%} of seeds above %{x:.5~g}<extra></extra>",
            }
        )
    axis = {"title": "share of seeds above it", "tickformat": ".0%", "range": [-0.02, 1.03]}
    chart = figure(traces, {"title": SCORE_NAMES[score]}, axis, 380)
    solved_line(chart, bar, vertical=True)
    caption = (
        "Share of a setting's seeds whose score lies above the value on the axis: further up and to the right is "
        "better. Exact for these seeds; no band is drawn (the table has intervals)."
    )
    return Chart(chart, caption, keys=tuple(keys))


def halving_chart(lanes: Mapping[str, np.ndarray]) -> Chart:
    """Lanes that still trained, over environment steps."""
    steps, left = survivors(lanes["env_steps"], lanes["dropped_at"])
    line = {
        "type": "scatter",
        "x": shown_numbers(steps),
        "y": shown_numbers(left),
        "mode": "lines",
        "line": {"color": COLOURS[0], "width": 2.2, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": see_through(MUTED, 0.12),
        "hovertemplate": "%{y} lanes after %{x:,.0f} steps<extra></extra>",
    }
    chart = figure(
        [line], steps_axis("environment steps of a lane"), {"title": "lanes that train", "rangemode": "tozero"}, 260
    )
    count, dropped = len(lanes["env_steps"]), int((lanes["dropped_at"] >= 0).sum())
    total, full = int(lanes["env_steps"].sum()), count * int(lanes["env_steps"].max())
    caption = (
        f"Successive halving dropped {dropped:,} of {count:,} lanes. It took {total:,} environment steps, "
        f"{total / full:.0%} of the {full:,} of all lanes to the end. A dropped lane has no score."
    )
    return Chart(chart, caption)
