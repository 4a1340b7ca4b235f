"""Pages of the site that show every file of benchmarks/results: one table of all, and a page for each."""

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import RESULTS

ABOUT = ("what", "command", "date", "commit", "hardware", "versions")
"""What a result says of itself; everything else in it are figures."""
MOST_COLUMNS = 14
SHORT = 6
"""Numbers that a list may have to be written out."""
LONGEST = 160
"""Letters of a text that are shown."""


def files() -> list[Path]:
    """The committed results; those of a trial run with --small are ignored by git, and here."""
    return sorted(path for path in RESULTS.glob("*.json") if not path.stem.endswith("-small"))


def machine(result: Mapping[str, Any]) -> str:
    """What it was measured on."""
    hardware = result.get("hardware")
    if hardware is None:
        return ""
    cores = f"{hardware['cores']} cores of {hardware['processor']}"
    return cores if hardware["platform"] == "cpu" else str(hardware["device"])


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that is sorted by a click on a heading; its cells are HTML."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="sortable"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n'


def numbers(value: Any) -> list[float]:
    """All numbers of a list, those of the lists in it included."""
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def shown(value: Any) -> str:
    """A figure as HTML: a number, a text, or what there is to say of a list of them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:.6g}"
    if isinstance(value, list):
        found = numbers(value)
        if len(found) > SHORT:
            low, middle, high = (shown(float(number)) for number in (min(found), median(found), max(found)))
            return f"{len(found):,} numbers from {low} to {high}, median {middle}"
        return ", ".join(shown(inner) for inner in value[:SHORT]) + (" …" if len(value) > SHORT else "")
    if isinstance(value, dict):
        return ", ".join(f"{escape(str(name))}: {shown(inner)}" for name, inner in value.items())
    text = str(value)
    return escape(text if len(text) <= LONGEST else text[:LONGEST] + "…")


def flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The figures of nested mappings by their names from the outermost one on."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flat(inner, f"{before}{name} › ") if isinstance(inner, dict) else {f"{before}{name}": inner}
    return found


def records(value: Any) -> dict[str, dict[str, Any]] | None:
    """What a table has a row for each of, with its figures; None where that is no list and no mapping of mappings."""
    named = dict(enumerate(value, 1)) if isinstance(value, list) else value
    if not isinstance(named, dict) or not named or not all(isinstance(inner, dict) for inner in named.values()):
        return None
    rows = {str(name): flat(inner) for name, inner in named.items()}
    return rows if len({column for row in rows.values() for column in row}) <= MOST_COLUMNS else None


def figures(value: Mapping[str, Any], level: int = 2) -> str:
    """All figures of a mapping as tables, one for each part that is a list or a mapping of like things."""
    single = {name: inner for name, inner in value.items() if not isinstance(inner, dict) and records(inner) is None}
    parts = [table(("figure", "value"), [(escape(name), shown(inner)) for name, inner in single.items()])]
    parts = parts if single else []
    for name, inner in value.items():
        if name in single:
            continue
        parts.append(f"{'#' * level} {escape(str(name))}\n")
        rows = records(inner)
        if rows is not None:
            columns = list(dict.fromkeys(column for row in rows.values() for column in row))
            cells = [(escape(key), *(shown(row.get(column, "")) for column in columns)) for key, row in rows.items()]
            parts.append(table(("", *columns), cells))
        elif isinstance(inner, dict) and level < 5:
            parts.append(figures(inner, level + 1))
        else:
            found = flat(inner if isinstance(inner, dict) else {str(i): row for i, row in enumerate(inner, 1)})
            parts.append(table(("figure", "value"), [(escape(key), shown(row)) for key, row in found.items()]))
    return "\n".join(parts)


def page(name: str, result: Mapping[str, Any]) -> str:
    """The page of one result."""
    versions = ", ".join(f"{package} {version}" for package, version in result.get("versions", {}).items())
    about = {
        "command": f"<code>{escape(result['command'])}</code>" if "command" in result else "",
        "date": escape(result.get("date", "")),
        "commit": f"<code>{escape(result['commit'])}</code>" if "commit" in result else "",
        "hardware": escape(machine(result)),
        "versions": escape(versions),
    }
    rows = [(head, cell or "not recorded") for head, cell in about.items()]
    rest = {key: value for key, value in result.items() if key not in ABOUT}
    what = result.get("what", "What was measured is not recorded in the file.")
    said = [
        f"# {name}\n",
        f"{escape(what[:1].upper() + what[1:])}\n",
        f"[{name}.json]({name}.json) has every number; here a long list is its range and its median.\n",
        table(("", "of this measurement"), rows),
        figures(rest),
    ]
    return "---\nsearch: {exclude: true}\n---\n" + "\n".join(said)


def index(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of all results."""
    rows = [
        (
            f'<a href="{name}.html">{name}</a>',
            escape(result.get("what", "")),
            f"<time>{escape(result['date'])}</time>" if "date" in result else "",
            escape(machine(result)),
            escape(result.get("versions", {}).get("jax", "")),
            f"<code>{escape(result.get('commit', ''))}</code>" if "commit" in result else "",
            f"<code>{escape(result.get('command', ''))}</code>" if "command" in result else "",
        )
        for name, result in results.items()
    ]
    heads = ("result", "what was measured", "date", "hardware", "jax", "commit", "command")
    return (
        "# Results\n\nEvery figure of these pages is in one of the files below, each with the command that measures it "
        "again. A click on a heading sorts.\n"
        "How figures come to the pages: [contributing](../project/contributing.md#results).\n\n"
        f"{table(heads, rows)}"
    )


def pages() -> dict[str, str]:
    """The text of every page, by its place in the site."""
    results = {path.stem: dict(json.loads(path.read_text(encoding="utf-8"))) for path in files()}
    made = {f"results/{name}.md": page(name, result) for name, result in results.items()}
    return {"results/index.md": index(results)} | made
