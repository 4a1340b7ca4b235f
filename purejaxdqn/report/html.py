"""Pieces of HTML, with every text that came from a file escaped."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from plotly.offline import get_plotlyjs

from purejaxdqn.report.charts import Chart, Key
from purejaxdqn.report.contents import damaged

MISSING = "–"
PICTURE = '<img alt="the policy acting" src="{}">'
MOVIE = '<video controls loop muted playsinline src="{}"></video>'
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src data:"
)
"""What the page may load: no external resource."""


class Column(NamedTuple):
    """The head of a column."""

    title: str
    numeric: bool = True


class Cell(NamedTuple):
    """A cell's text, and what it is sorted by."""

    text: str
    order: float | str | None


class Section(NamedTuple):
    """A part of the page under a heading of its own."""

    anchor: str
    title: str
    body: str


class Content(NamedTuple):
    """What a page says, without what draws it."""

    title: str
    body: str
    """HTML of its header and its main part."""


def esc(text: Any) -> str:
    """A text as HTML, between tags or quotes."""
    return html.escape(str(text), quote=True)


def number(value: Any, digits: int = 2) -> Cell:
    """A number with a fixed count of decimals, so that a column is aligned."""
    if value is None or value != value:
        return Cell(MISSING, None)
    return Cell(f"{value:,.{digits}f}", float(value))


def interval(bounds: Any, digits: int = 2) -> Cell:
    """A lower and an upper bound; sorted by the lower one."""
    if bounds is None or any(bound is None or bound != bound for bound in bounds):
        return Cell(MISSING, None)
    low, high = bounds
    return Cell(f"{low:,.{digits}f} to {high:,.{digits}f}", float(low))


def word(text: str, order: float | str | None = None) -> Cell:
    """A text cell, sorted by its text or by a given key."""
    return Cell(text, text if order is None else order)


def decimals(values: Sequence[Any]) -> int:
    """Decimals that keep about four digits of the largest of some scores."""
    largest = max((abs(value) for value in values if value is not None and value == value), default=0.0)
    return next((digits for digits, least in enumerate((1000.0, 100.0, 10.0)) if largest >= least), 3)


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], sortable: bool = True) -> str:
    """A table in a box that scrolls by itself."""
    heads = []
    for column in columns:
        name = f'<button type="button">{esc(column.title)}</button>' if sortable else esc(column.title)
        heads.append(f'<th scope="col"{" class=n" if column.numeric else ""}>{name}</th>')
    lines = []
    for row in rows:
        cells = []
        for column, cell in zip(columns, row, strict=True):
            order = "" if cell.order is None else esc(cell.order)
            cells.append(f'<td{" class=n" if column.numeric else ""} data-order="{order}">{esc(cell.text)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    kind = ' class="sortable"' if sortable else ""
    body = f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll" tabindex="0"><table{kind}>{body}</table></div>'


def pairs(items: Mapping[str, str]) -> str:
    """Names and values, one under another."""
    return f"<dl>{''.join(f'<dt>{esc(name)}</dt><dd>{esc(value)}</dd>' for name, value in items.items())}</dl>"


def folded(title: str, body: str) -> str:
    """Something that is opened by a click."""
    return f"<details><summary>{esc(title)}</summary>{body}</details>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{esc(text)}</p>"


def hint(text: str) -> str:
    """A remark under a table."""
    return f'<p class="hint">{esc(text)}</p>'


def figure_data(chart: Chart) -> str:
    """A figure as JSON in which no text can close the surrounding tag."""
    return chart.figure.to_json().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def chart_block(chart: Chart) -> str:
    """A chart with its legend and its caption."""
    height = chart.figure.layout.height
    title = f"<h3>{esc(chart.title)}</h3>" if chart.title else ""
    return (
        f'<figure class="chart">{title}<div class="plot" style="min-height:{height}px"></div>{legend(chart)}'
        f"<figcaption>{esc(chart.caption)}</figcaption>"
        f'<script type="application/json">{figure_data(chart)}</script></figure>'
    )


def legend(chart: Chart) -> str:
    """Buttons that switch a chart's curves one by one, and controls that switch many at once."""
    if not chart.keys:
        return ""
    seeds = (
        any(trace.visible and trace.meta["kind"] == "seeds" for trace in chart.figure.data) if chart.seeds else False
    )
    tick = f'<label><input type="checkbox" class="seeds"{" checked" if seeds else ""}> single seeds</label>'
    several = '<button type="button" data-all="1">all</button><button type="button" data-all="">none</button>'
    tools = (tick if chart.seeds else "") + (several if len(chart.keys) > 2 else "")
    return f'<div class="tools">{tools}</div><div class="legend">{"".join(map(legend_key, chart.keys))}</div>'


def legend_key(key: Key) -> str:
    """One button of a legend."""
    dashes = {"dash": "6 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "10 4"}.get(key.dash, "none")
    swatch = (
        '<svg width="26" height="8" aria-hidden="true"><line x1="1" x2="25" y1="4" y2="4" '
        f'stroke="{key.colour}" stroke-width="3" stroke-dasharray="{dashes}"/></svg>'
    )
    pressed = "true" if key.shown else "false"
    return f'<button type="button" class="key" aria-pressed="{pressed}">{swatch}<span>{esc(key.name)}</span></button>'


def choice_block(charts: Sequence[Chart]) -> str:
    """Charts of which one is shown, chosen by a drop-down if there are several."""
    if len(charts) == 1:
        return chart_block(charts[0])
    options = "".join(f"<option>{esc(chart.title)}</option>" for chart in charts)
    blocks = "".join(chart_block(chart) for chart in charts)
    return f'<div class="choice"><label>fields <select>{options}</select></label>{blocks}</div>'


def grid(blocks: Sequence[str]) -> str:
    """Blocks side by side where there is room."""
    return f'<div class="grid">{"".join(blocks)}</div>'


def animation(folder: Path) -> str:
    """A folder's animation of its policy, embedded in the page; empty if there is none."""
    for name, tag in (("policy.gif", PICTURE), ("policy.mp4", MOVIE)):
        path = folder / name
        if path.is_file():
            kind = "image/gif" if path.suffix == ".gif" else "video/mp4"
            try:
                data = base64.b64encode(path.read_bytes()).decode()
            except OSError as error:
                raise damaged(folder, name, error) from error
            return f'<figure class="animation">{tag.format(f"data:{kind};base64,{data}")}</figure>'
    return ""


def asset(name: str) -> str:
    """A file of this package."""
    return resources.files("purejaxdqn.report").joinpath(name).read_text(encoding="utf-8")


def content(title: str, facts: str, sections: Sequence[Section]) -> Content:
    """What a page has to say.

    Args:
      title: text.
      facts: HTML under the title.
      sections: those without a body are left out.
    """
    kept = [section for section in sections if section.body]
    links = "".join(f'<a href="#{section.anchor}">{esc(section.title)}</a>' for section in kept)
    body = "".join(
        f'<section id="{section.anchor}"><h2>{esc(section.title)}</h2>{section.body}</section>' for section in kept
    )
    return Content(title, f"<header><h1>{esc(title)}</h1>{facts}<nav>{links}</nav></header><main>{body}</main>")


def page(held: Content, live: bool = False) -> str:
    """A whole page, which loads no external resource.

    Args:
      held: what it says.
      live: whether it asks the server that gave it for what is new.
    """
    policy = f"{POLICY}; connect-src 'self'" if live else POLICY
    more = f"<script>{asset('live.js')}</script>" if live else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(held.title)}</title><style>{asset('page.css')}</style></head><body>{held.body}"
        f"<script>{get_plotlyjs()}</script><script>{asset('page.js')}</script>{more}</body></html>\n"
    )


def json_text(value: Any) -> str:
    """A value as indented JSON in a box."""
    return f'<pre class="scroll">{esc(json.dumps(value, indent=2, ensure_ascii=False))}</pre>'
