"""The site: navigation, links, anchors, reference and results without MkDocs; and built, where that is installed."""

import ast
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import purejaxdqn
from benchmarks.pages import site, site_reference, site_results, site_rooms

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = [ROOT / name for name in site.PROJECT] + sorted(DOCS.rglob("*.md"))


def anchors(path):
    """The anchors of a page's headings, as GitHub and the site make them."""
    found = []

    def read(part):
        for heading in re.findall(r"^#{1,6} (.+)$", part, flags=re.MULTILINE):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
            found.append(re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-"))
        return part

    site.prose(path.read_text(encoding="utf-8"), read)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_their_anchors_lead_somewhere(page):
    dead = []
    for link, anchor in re.findall(
        r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", "".join(site.FENCE.split(page.read_text())[::2])
    ):
        target = (page.parent / link).resolve() if link else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(f"{link}#{anchor}")
    assert dead == []


def test_the_reader_of_anchors_makes_githubs():
    assert anchors(DOCS / "algorithms.md").count("offline---dataset-and-demonstrations") == 1
    assert "drqn-r2d2" not in anchors(DOCS / "algorithms.md") and "replay-with-a-memory-drqn-r2d2" in anchors(
        DOCS / "algorithms.md"
    )


def places(entry):
    """The pages of an unfolded navigation."""
    if isinstance(entry, dict):
        return [place for inner in entry.values() for place in places(inner)]
    return [place for inner in entry for place in places(inner)] if isinstance(entry, list) else [entry]


def test_every_page_is_in_the_navigation_once():
    """Of the generated ones results and sources are not: the first are reached by their table, the others by links."""
    listed = places(site.unfolded(CONFIG["nav"]))
    assert len(listed) == len(set(listed))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    made = {place for place in site.generated() if not place.startswith(("results/", "source/"))}
    assert set(listed) == written | made | {"results/index.md"}


def test_every_public_name_has_a_page_with_a_docstring_and_its_source():
    names = {name.rpartition(".")[2]: name for name in site_reference.names()}
    assert len(names) == len(site_reference.names()) and set(purejaxdqn.__all__) <= set(names)
    for last, name in names.items():
        assert site_reference.docstring_of(name), name
        module = name.rpartition(".")[0]
        home = getattr(__import__(f"purejaxdqn.{module}", fromlist=[last]), last) if module else None
        assert last not in purejaxdqn.__all__ or not module or getattr(purejaxdqn, last) is home
    assert CONFIG["plugins"][2]["mkdocstrings"]["handlers"]["python"]["options"]["show_source"] is True


@pytest.mark.parametrize(
    "name", [name for name in site_reference.names() if name.startswith(("learning.", "replay.ring"))]
)
def test_functions_of_arrays_say_shapes_and_errors(name):
    """Arguments one by one, shapes in brackets; and each error that a function raises itself is named."""
    module, _, last = name.rpartition(".")
    tree = ast.parse((site_reference.PACKAGE / f"{module.replace('.', '/')}.py").read_text())
    node = next(node for node in tree.body if getattr(node, "name", None) == last)
    said = ast.get_docstring(node)
    if isinstance(node, ast.FunctionDef):
        assert re.search(r"\[|shape|pytree", said), name
        arguments = [argument.arg for argument in node.args.args]
        assert len(arguments) == 1 or all(re.search(rf"\b{argument}:", said) for argument in arguments), name
        raised = {ast.unparse(inner.exc.func) for inner in ast.walk(node) if isinstance(inner, ast.Raise)}
        assert all(error in said for error in raised), name


def test_every_result_has_a_page_with_its_command_and_its_figures():
    committed = subprocess.run(
        ["git", "ls-files", "benchmarks/results"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    made = site_results.pages()
    for path in map(Path, committed.split()):
        result = json.loads((ROOT / path).read_text())
        text = made[f"results/{path.stem}.md"]
        assert f'<a href="{path.stem}.html">' in made["results/index.md"]
        for head in ("command", "date", "hardware", "versions", "commit"):
            assert f"<td>{head}</td>" in text and (head in result) == (f"<td>{head}</td><td>not recorded" not in text)
        assert set(result) <= set(site_results.ABOUT) or text.count("<table>") > 1


def test_a_result_is_shown_as_it_is():
    text = site_results.figures(
        {"ratio": 1.5, "many": [[1, 2], [3, 40_000], [5, 6], [7, 8]], "algos": {"a": {"b": {"c": 2}}, "d": {}}}
    )
    assert "<td>ratio</td><td>1.5</td>" in text and "8 numbers from 1 to 40000, median 5.5" in text
    assert "b › c" in text and "<td>a</td><td>2</td>" in text


def test_the_drawings_are_of_the_imports_and_of_the_pages_own_steps():
    arrows, drawn = site_rooms.imports(), site_rooms.rooms()
    assert {"config", "types"} <= arrows["build"] and "Network" in site_rooms.seams()["networks"]
    assert [step.room for step in site_rooms.steps()] == ["loops", "envs", "replay", "replay", "learn", "learn"]
    assert drawn.count('class="arrow"') == len(site_rooms.direct(arrows)) and "①" in drawn
    assert site_rooms.journey().count("<rect") == len(site_rooms.steps())


def test_an_arrow_that_follows_from_others_is_not_drawn():
    arrows = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert site_rooms.direct(arrows) == {("a", "b"), ("b", "c")}


def test_links_out_of_the_docs_lead_to_pages_of_the_site():
    text = "[a](../purejaxdqn/learn.py) [b](../benchmarks/results/peers.json) [c](doctor.md#x) [d](https://e.org)"
    changed = site.relinked(text, "docs/page.md")
    assert "[a](source/purejaxdqn/learn.py.md) [b](results/peers.md) [c](doctor.md#x) [d](https://e.org)" in changed
    assert site.relinked("```python\na](../README.md)\n```", "docs/page.md").endswith("a](../README.md)\n```")
    assert site.spaced("a:\n- b\n- c\n") == "a:\n\n- b\n- c\n"


def test_nothing_of_the_sites_own_asks_another_host():
    assert CONFIG["theme"]["font"] is False
    for path in (DOCS / "assets").iterdir():
        assert "//" not in re.sub(r"(?m)^\s*//.*", "", path.read_text()).replace("/*", ""), path
    for page in PAGES:
        assert not re.findall(r'(?:src="|!\[[^]]*\]\()https?:', page.read_text(encoding="utf-8")), page


class Asked(HTMLParser):
    """What a page asks for by itself, what it links to, and its anchors."""

    def __init__(self, html):
        super().__init__()
        self.asks, self.links, self.ids = [], [], set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        if attrs.get("src"):
            self.asks.append(attrs["src"])
        if attrs.get("href"):
            loads = tag == "link" and attrs.get("rel") not in ("canonical", "next", "prev")
            (self.asks if loads else self.links).append(attrs["href"])


@pytest.mark.skipif(
    not all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))), reason="the extra docs is not installed"
)
def test_the_site_is_built_strictly_and_asks_no_other_host(tmp_path):
    built = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", str(built)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = {path: Asked(path.read_text(encoding="utf-8")) for path in built.rglob("*.html")}
    assert len(pages) > 150
    for path, page in pages.items():
        for link in page.asks + page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert link not in page.asks or parts.scheme == "data", (path, link)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if path.name == "404.html" or target.is_dir():
                continue
            assert target.exists(), (path, link)
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in pages[target].ids | {"__skip", "__top"}, (path, link)
    for path in built.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")), path
    assert (
        "arithmatex" not in (built / "algorithms.html").read_text()
        and "<math" in (built / "algorithms.html").read_text()
    )
