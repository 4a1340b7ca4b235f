"""Charts of populations: who copied whom, and the hyperparameters that the best member went through."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from purejaxdqn.report.charts import COLOURS, MUTED, Chart, figure, shown_numbers, steps_axis
from purejaxdqn.report.contents import Populations, short_text
from purejaxdqn.report.html import Column, chart_block, decimals, grid, hint, number, table, word
from purejaxdqn.report.numbers import scale_of
from purejaxdqn.runs.sweep_folder import population_fields


def populations_of(found: Populations | None) -> str:
    """The table and the charts; empty for a sweep without populations."""
    if found is None:
        return ""
    fields = population_fields(found.history)
    charts = [copies_chart(found), *[field_chart(name, found) for name in fields]]
    return members_table(found.members, fields) + grid([chart_block(chart) for chart in charts])


def members_table(members: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> str:
    """A row for each population."""
    columns = [Column(name) for name in ("seed", *fields, "score", "began as", "copies", "founders left")]
    rows = [
        [
            number(best["seed"], 0),
            *[word(short_text(best["values"][name]), float(best["values"][name])) for name in fields],
            number(best["score"], decimals([member["score"] for member in members])),
            number(best["descends_from"], 0),
            number(best["copies"], 0),
            number(best["founders_left"], 0),
        ]
        for best in members
    ]
    text = (
        "The best member of each population, with the hyperparameters at the end of its run. Began as: lane that it "
        "descends from. Copies: of all members in all generations. Founders left: members of the start that have "
        "descendants at the end."
    )
    return table(columns, rows) + hint(text)


def descent(history: Mapping[str, np.ndarray], lane: int) -> list[int]:
    """Rows of the history that a lane's end descends from, the newest first."""
    rows = []
    seed = history["seed"][history["lane"] == lane][0]
    for step in np.unique(history["env_steps"][history["seed"] == seed])[::-1]:
        (row,) = np.flatnonzero((history["env_steps"] == step) & (history["lane"] == lane))
        rows.append(int(row))
        lane = int(history["parent"][row])
    return rows


def line(x: Any, y: Any, colour: str, width: float, template: str) -> dict[str, Any]:
    """A line that holds each value until the next."""
    return {
        "type": "scatter",
        "x": shown_numbers(x),
        "y": shown_numbers(y),
        "mode": "lines",
        "line": {"color": colour, "width": width, "shape": "hv"},
        "hovertemplate": template,
    }


def copies_chart(found: Populations) -> Chart:
    """Members over environment steps, a line from each parent to its copy, and the best member's descent."""
    history, best = found.history, found.members[0]
    mine = history["seed"] == best["seed"]
    places = dict(zip(history["lane"][mine].tolist(), history["setting"][mine].tolist(), strict=True))
    copied = np.flatnonzero(mine & (history["parent"] != history["lane"]))
    ends = [[places[int(history["parent"][row])], places[int(history["lane"][row])], np.nan] for row in copied]
    steps = [[history["env_steps"][row]] * 2 + [np.nan] for row in copied]
    template = "at %{x:,.0f} steps<extra></extra>"
    all_copies = line(np.ravel(steps), np.ravel(ends), MUTED, 1.2, template)
    all_copies["line"] = {"color": MUTED, "width": 1.2}
    rows = descent(history, best["lane"])[::-1]
    way = line(history["env_steps"][rows], history["setting"][rows], COLOURS[0], 2.4, "member %{y}<extra></extra>")
    chart = figure([all_copies, way], steps_axis("environment steps of a member"), {"title": "member"}, 320)
    caption = (
        f"Population of seed {best['seed']}: a grey line for each copy, from the member copied to the copy; the thick "
        "line is the descent of its best member."
    )
    return Chart(chart, caption, "Who copied whom")


def field_chart(name: str, found: Populations) -> Chart:
    """One hyperparameter of every member over environment steps, and along the best member's descent."""
    history, best = found.history, found.members[0]
    mine = history["seed"] == best["seed"]
    points = {
        "type": "scatter",
        "x": shown_numbers(history["env_steps"][mine]),
        "y": shown_numbers(history[name][mine]),
        "mode": "markers",
        "marker": {"color": MUTED, "size": 4, "opacity": 0.6},
        "hovertemplate": "%{y:.4~g} after %{x:,.0f} steps<extra></extra>",
    }
    rows = descent(history, best["lane"])[::-1]
    way = line(history["env_steps"][rows], history[name][rows], COLOURS[0], 2.4, "%{y:.4~g}<extra></extra>")
    axis = {"title": name, **({"type": "log"} if scale_of(history[name][mine].tolist()) == "log" else {})}
    chart = figure([points, way], steps_axis("environment steps of a member"), axis, 280)
    return Chart(chart, f"A point for each member of seed {best['seed']}; the line is the best one's descent.", name)
