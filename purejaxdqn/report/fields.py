"""Charts of the score over the hyperparameters that a sweep varied."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from purejaxdqn.report.charts import COLOURS, HEAT, MUTED, Chart, field_axis, figure, see_through, shown_numbers, words
from purejaxdqn.report.contents import SCORE_NAMES, Sweep, value_text
from purejaxdqn.report.numbers import MANY, Layout, cell_means, lay_out, levels

MOST_LANES = 2_000
"""Maximum number of single lanes in one chart."""
JITTER = 0.012
"""Jitter of lanes with one value, as a share of the axis' length."""
MOST_TEXTS = 100
"""Maximum number of heat map cells with their number written in them."""


class LaneTable(NamedTuple):
    """A row per lane."""

    scores: np.ndarray
    """[L]; NaN where it was dropped."""
    layouts: dict[str, Layout]
    """By varied field."""
    name: str
    """What the scores are."""


def lane_table(sweep: Sweep) -> LaneTable:
    """Scores of all lanes, and positions of the fields' values."""
    counts = [len(setting.seeds) for setting in sweep.settings]
    layouts = {}
    for name in sweep.varied:
        given = [values.get(name) for values in sweep.values]
        per_lane = [value for value, count in zip(given, counts, strict=True) for _ in range(count)]
        layouts[name] = lay_out(per_lane, value_text)
    return LaneTable(np.concatenate([setting.scores for setting in sweep.settings]), layouts, SCORE_NAMES[sweep.score])


def moved_apart(layout: Layout) -> np.ndarray:
    """Positions of lanes, jittered so that lanes with the same value do not coincide."""
    noise = np.random.default_rng(0).uniform(-1.0, 1.0, len(layout.places)) * JITTER
    places = layout.places
    if layout.scale == "log":
        return places * np.exp(noise * np.log(places.max() / places.min()))
    if layout.scale == "category":
        return places + noise * 2 * max(len(layout.labels), 2)
    return places + noise * np.ptp(places)


def sensitivity(name: str, table: LaneTable) -> Chart:
    """The score over one field: lanes, and interquartile means with intervals."""
    layout = table.layouts[name]
    there = np.flatnonzero(~np.isnan(table.scores))
    drawn = there[np.unique(np.linspace(0, len(there) - 1, min(len(there), MOST_LANES)).round().astype(int))]
    found, binned = levels(layout, table.scores)
    points = {
        "type": "scatter",
        "x": shown_numbers(moved_apart(layout)[drawn]),
        "y": shown_numbers(table.scores[drawn]),
        "mode": "markers",
        "marker": {"color": see_through(MUTED, 0.55), "size": 4},
        "hoverinfo": "skip",
    }
    means = np.array([level.score.iqm for level in found])
    labels = [layout.labels[int(level.place)] if layout.labels else f"{level.place:.6g}" for level in found]
    summary = {
        "type": "scatter",
        "x": np.array([level.place for level in found]),
        "y": means,
        "error_y": {
            "array": np.array([level.score.high for level in found]) - means,
            "arrayminus": means - np.array([level.score.low for level in found]),
            "color": COLOURS[0],
            "thickness": 1.6,
            "width": 5,
        },
        "mode": "lines+markers" if layout.ordered else "markers",
        "line": {"color": COLOURS[0], "width": 1.4},
        "marker": {"color": COLOURS[0], "size": 9},
        "text": [
            f"{words(name)} {words(label)}: {level.score.iqm:.5g} ({level.score.low:.5g} to {level.score.high:.5g}), "
            f"{level.score.seeds} lanes"
            for label, level in zip(labels, found, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }
    chart = figure([points, summary], field_axis(name, layout), {"title": table.name}, 320)
    of_what = f"{len(found)} bins of equally many values" if binned else "each value"
    thinned = f" {len(drawn):,} of {len(there):,} lanes are drawn." if len(drawn) < len(there) else ""
    caption = (
        f"Grey: single lanes, moved a little sideways. Blue: interquartile mean over the lanes of {of_what}, whatever "
        f"their other settings, with a 95 % bootstrap interval.{thinned}"
    )
    return Chart(chart, caption, title=name)


def pair_charts(sweep: Sweep, table: LaneTable) -> list[Chart]:
    """The score over each pair of fields."""
    return [pair_chart(first, second, sweep, table) for first, second in combinations(sweep.varied, 2)]


def pair_chart(first: str, second: str, sweep: Sweep, table: LaneTable) -> Chart:
    """A heat map of two fields, or a point for each setting if a field has too many values."""
    layouts = table.layouts[first], table.layouts[second]
    title = f"{first} × {second}"
    if any(len(np.unique(layout.places)) > MANY for layout in layouts):
        return Chart(scatter_pair(first, second, sweep, table), "A point for each setting.", title)
    a, b, means = cell_means(*layouts, table.scores)
    # Numbers stand at even distances here: the cells are what is compared.
    labels = [
        layout.labels or tuple(value_text(float(place)) for place in places)
        for layout, places in zip(layouts, (a, b), strict=True)
    ]
    texts = [["" if np.isnan(mean) else f"{mean:.4g}" for mean in row] for row in means]
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": shown_numbers(means),
        "x": np.arange(len(a)),
        "y": np.arange(len(b)),
        "text": texts,
        "colorscale": HEAT,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": f"{words(first)} %{{customdata[0]}}<br>{words(second)} %{{customdata[1]}}<br>"
        "%{z:.5~g}<extra></extra>",
        "customdata": [[[words(x), words(y)] for x in labels[0]] for y in labels[1]],
        "hoverongaps": False,
        "colorbar": colour_bar(table.name),
    }
    if means.size <= MOST_TEXTS:
        trace["texttemplate"] = "%{text}"
    axes = [
        {"title": name, "tickvals": list(range(len(words_))), "ticktext": [words(w) for w in words_], "showgrid": False}
        for name, words_ in zip((first, second), labels, strict=True)
    ]
    caption = "Interquartile mean over the lanes of each cell, whatever their other settings; blank where none ended."
    return Chart(figure([trace], axes[0], axes[1], 120 + 44 * max(len(b), 4)), caption, title)


def scatter_pair(first: str, second: str, sweep: Sweep, table: LaneTable) -> Any:
    """A point for each setting, coloured by its interquartile mean."""
    starts = np.cumsum([0, *[len(setting.seeds) for setting in sweep.settings]])[:-1]
    layouts = table.layouts[first], table.layouts[second]
    means = [row.get("iqm") for row in sweep.ranking]
    trace = {
        "type": "scatter",
        "x": layouts[0].places[starts],
        "y": layouts[1].places[starts],
        "mode": "markers",
        "marker": {
            "color": [np.nan if mean is None else mean for mean in means],
            "colorscale": HEAT,
            "size": 10,
            "line": {"color": MUTED, "width": 0.8},
            "colorbar": colour_bar(table.name),
        },
        "text": [words(setting.name) for setting in sweep.settings],
        "hovertemplate": "%{text}<br>%{marker.color:.5~g}<extra></extra>",
    }
    return figure([trace], field_axis(first, layouts[0]), field_axis(second, layouts[1]), 400)


def colour_bar(name: str) -> dict[str, Any]:
    """The scale beside a chart whose colour is a score."""
    return {"title": {"text": f"IQM of the {name}", "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 1.0}
