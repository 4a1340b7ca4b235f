"""Drawings of the package for the site, made from its imports and from the page of the architecture, as inline SVG."""

import ast
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

import purejaxdqn

PACKAGE = Path(purejaxdqn.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
WIDTH, ROW, BOX_HEIGHT = 720, 52, 30
CIRCLED = "①②③④⑤⑥⑦⑧⑨"


class Step(NamedTuple):
    """One step of the journey, as the page's block of code has it in a comment."""

    number: int
    title: str
    function: str
    path: str
    """The file, from the package's folder on."""

    @property
    def room(self) -> str:
        """The folder or file of the top level that it lies in."""
        return self.path.partition("/")[0].removesuffix(".py")


def tiers() -> list[list[str]]:
    """The rooms of each line of the page's table, from the bottom up."""
    rows = PAGE.read_text(encoding="utf-8").split("| room | what is inside |")[1].split("\n\n")[0].splitlines()[2:]
    named = [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in rows]
    return [[name.strip("/").removesuffix(".py") for name in row] for row in named]


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports, at any depth of its functions."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        names: list[str] = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names += [f"{node.module}.{alias.name}" for alias in node.names]
        own = {name.split(".")[1] for name in names if name.startswith("purejaxdqn.")}
        found.setdefault(room, set()).update(own - {room})
    rooms = {room for tier in tiers() for room in tier}
    return {room: inner & rooms for room, inner in found.items() if room in rooms}


def direct(arrows: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The arrows that do not follow from others: none goes where a longer way leads too."""

    def reached(room: str) -> set[str]:
        return {room}.union(*(reached(inner) for inner in arrows.get(room, ())))

    return {
        (room, other)
        for room, inner in arrows.items()
        for other in inner
        if not any(other in reached(third) for third in inner - {other})
    }


def seams() -> dict[str, list[str]]:
    """The records that the page's section on seams describes, by the room that defines them."""
    block = PAGE.read_text(encoding="utf-8").split("## The seams")[1].split("```")[1]
    records = re.findall(r"^([A-Z]\w+) ", block, flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for record in records:
            if re.search(rf"^class {record}\(NamedTuple\)", text, flags=re.MULTILINE):
                found.setdefault(path.relative_to(PACKAGE).with_suffix("").parts[0], []).append(record)
    return found


def steps() -> list[Step]:
    """One step of data through the package, from the comments of the page's block."""
    block = PAGE.read_text(encoding="utf-8").split("## One step of data")[1].split("```python")[1].split("```")[0]
    comments = re.findall(r"^# (\d)\. (\w+): (\w+), ([\w/]+\.py)", block, flags=re.MULTILINE)
    return [Step(int(number), title, function, path) for number, title, function, path in comments]


def labelled(room: str) -> str:
    """A room's name as the page writes it: a folder with a slash, a file with its ending."""
    return f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py"


def svg(name: str, title: str, says: str, height: int, inner: list[str]) -> str:
    """A drawing that a screen reader reads as one picture."""
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
    told = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(says)}</desc>'
    return f'<figure class="drawing">{head}{told}{"".join(inner)}</svg></figure>'


def rooms() -> str:
    """The rooms as the imports have them, the seams' records in them, and where one step passes."""
    rows, arrows, records = tiers(), direct(imports()), seams()
    height = ROW * len(rows) + 8
    passed: dict[str, str] = {}
    for step in steps():
        passed[step.room] = passed.get(step.room, "") + CIRCLED[step.number - 1]
    places: dict[str, tuple[float, float, float]] = {}
    boxes: list[str] = []
    for level, row in enumerate(rows):
        texts = {room: f"{labelled(room)} {passed.get(room, '')}".strip() for room in row}
        notes = {room: " · ".join(records.get(room, [])) for room in row}
        widths = {room: max(62, 7.6 * len(texts[room]) + 18, 6.1 * len(notes[room]) + 18) for room in row}
        gap = (WIDTH - sum(widths.values())) / (len(row) + 1)
        x, y = gap, height - ROW * (level + 1)
        for room in row:
            places[room] = (x + widths[room] / 2, y, widths[room])
            css = "room seam" if notes[room] else "room"
            box = BOX_HEIGHT + (10 if notes[room] else 0)
            boxes.append(f'<rect class="{css}" x="{x:.0f}" y="{y}" width="{widths[room]:.0f}" height="{box}" rx="5"/>')
            middle = x + widths[room] / 2
            boxes.append(f'<text x="{middle:.0f}" y="{y + 19}">{escape(texts[room])}</text>')
            if notes[room]:
                boxes.append(f'<text class="note" x="{middle:.0f}" y="{y + 33}">{escape(notes[room])}</text>')
            x += widths[room] + gap
    lines = []
    for room, other in sorted(arrows):
        (from_x, from_y, _), (to_x, to_y, _) = places[room], places[other]
        begin = from_y + BOX_HEIGHT + (10 if records.get(room) else 0)
        bend = (to_y - begin) / 2
        curve = f"C{from_x:.0f} {begin + bend:.0f} {to_x:.0f} {to_y - bend:.0f} {to_x:.0f} {to_y}"
        lines.append(f'<path class="arrow" d="M{from_x:.0f} {begin} {curve}"/>')
    count = sum(map(len, imports().values()))
    says = (
        f"{len(places)} rooms in {len(rows)} lines; each imports from lower lines only. Of {count} arrows between "
        f"rooms the {len(arrows)} are drawn that do not follow from others."
    )
    drawn = svg("rooms", "The rooms and what they import", says, height, [*lines, *boxes])
    last = CIRCLED[len(steps()) - 1]
    legend = f"{says} Blue boxes hold the records of the seams; ① to {last} is the way of one step, below."
    return f"{drawn.removesuffix('</figure>')}<figcaption>{legend}</figcaption></figure>"


def journey() -> str:
    """One step of data, from acting to the update, and back."""
    found = steps()
    width, height, left = WIDTH / 3, 84, 10
    inner = []
    for i, step in enumerate(found):
        column, row = i % 3, i // 3
        x, y = column * width + left, row * (height + 26) + 6
        inner.append(f'<rect class="room" x="{x:.0f}" y="{y}" width="{width - 36:.0f}" height="{height}" rx="5"/>')
        middle = x + (width - 36) / 2
        for text, down, css in (
            (f"{CIRCLED[step.number - 1]} {step.title}", 26, "head"),
            (f"{step.function}", 48, ""),
            (step.path, 68, "note"),
        ):
            inner.append(f'<text class="{css}" x="{middle:.0f}" y="{y + down}">{escape(text)}</text>')
        if i + 1 < len(found):
            if column < 2:
                way = f"M{x + width - 34:.0f} {y + height / 2} h28 m-7 -5 l7 5 l-7 5"
            else:
                way = f"M{middle:.0f} {y + height} v11 H{left + (width - 36) / 2:.0f} v13 m-5 -7 l5 7 l5 -7"
            inner.append(f'<path class="arrow way" d="{way}"/>')
    total = (height + 26) * -(-len(found) // 3) + 4
    says = "; ".join(f"{step.number}. {step.title}: {step.function} in {step.path}" for step in found)
    return svg("journey", "One step of data", says, total, inner)
