"""Shared parts of a report's charts: colours, axes, legends, and their embedding in the page."""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from purejaxdqn.report.numbers import Layout

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A8F98")
"""Okabe & Ito's colours, which colour-blind people can tell apart, without yellow and black, to be visible on both."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""The second seven curves have the colours of the first, dashed, and so on."""
MUTED = "#8A8F98"
HEAT = "Cividis"


class Key(NamedTuple):
    """An entry of a legend; it switches the traces whose `meta.group` is its index among the entries."""

    name: str
    colour: str
    dash: str
    shown: bool


class Chart(NamedTuple):
    """A figure with its title, caption and legend."""

    figure: go.Figure
    caption: str
    title: str = ""
    keys: tuple[Key, ...] = ()
    seeds: bool = False
    """Whether it has single seeds to switch on."""


def colour_of(place: int) -> str:
    """The colour of the n-th curve."""
    return COLOURS[place % len(COLOURS)]


def dash_of(place: int) -> str:
    """The dashes of the n-th curve."""
    return DASHES[place // len(COLOURS) % len(DASHES)]


def see_through(colour: str, opacity: float) -> str:
    """A colour with an opacity, in plotly's notation."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def words(text: str) -> str:
    """A text escaped for plotly, which would interpret tags in it."""
    return html.escape(text, quote=False)


def shown_numbers(values: Any) -> np.ndarray:
    """Numbers as plotly packs them, half as large as float64."""
    return np.asarray(values, np.float32)


def figure(traces: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any], height: int) -> go.Figure:
    """A figure in the report's style; the page gives it its light or dark colours.

    Args:
      traces: as plotly's dictionaries.
      x: of the x axis, with a title.
      y: of the y axis, with a title.
      height: in CSS pixels.
    """
    axis: dict[str, Any] = {"automargin": True, "zeroline": False, "showline": True, "ticks": "outside", "ticklen": 4}
    axis["exponentformat"] = "power"
    titled = [{**axis, **given, "title": {"text": words(given["title"]), "standoff": 10}} for given in (x, y)]
    layout = {
        "template": None,
        "height": height,
        "margin": {"l": 56, "r": 18, "t": 16, "b": 48},
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": titled[0],
        "yaxis": titled[1],
    }
    return go.Figure(data=list(traces), layout=layout)


def steps_axis(title: str = "environment steps of a seed") -> dict[str, Any]:
    """An axis of counts from 0."""
    return {"title": title, "tickformat": "~s", "rangemode": "tozero"}


def field_axis(name: str, layout: Layout) -> dict[str, Any]:
    """The axis of a setting's field."""
    if layout.scale == "category":
        places = [float(place) for place in range(len(layout.labels))]
        labels = [words(label) for label in layout.labels]
        return {"title": name, "tickvals": places, "ticktext": labels, "range": [-0.5, len(places) - 0.5]}
    if layout.scale == "log":
        different = np.unique(layout.places)
        ticks = (
            {"tickvals": different.tolist(), "ticktext": [f"{v:g}" for v in different]} if len(different) < 7 else {}
        )
        return {"title": f"{name} (log scale)", "type": "log", "dtick": 1 if not ticks else None, **ticks}
    return {"title": name}


def solved_line(chart: go.Figure, solved_at: float | None, vertical: bool = False) -> None:
    """Marks the score that counts as solved; drawn across, so that no curve hides it."""
    if solved_at is None:
        return
    line = {"color": MUTED, "width": 1.2, "dash": "dash"}
    label = {"annotation_text": f"solved at {solved_at:g}", "annotation_font_color": MUTED, "annotation_font_size": 11}
    if vertical:
        chart.add_vline(solved_at, line=line, annotation_position="bottom left", annotation_yshift=14, **label)
    else:
        chart.add_hline(solved_at, line=line, annotation_position="top left", **label)
