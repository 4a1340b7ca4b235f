"""What MkDocs is given beside the pages of docs/: hooks of mkdocs.yml, called by their names while `make docs` builds.

Generated pages are nowhere on the disk: the home page is the README, the reference is made from docstrings
(`site_reference.py`), the results from benchmarks/results (`site_results.py`), the drawing of rooms from the imports
(`site_rooms.py`). A link that leads out of docs/ leads to a page of the site: a result, a page of the project or
a source.
"""

import posixpath
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

from benchmarks.pages import site_reference, site_results, site_rooms

ROOT = Path(__file__).parents[2]
PROJECT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
}
"""Pages of the project that lie outside docs/, and where they are in the site."""
WAYS = """
[Start here: ten minutes](docs/start-here.md){ .md-button .md-button--primary }
[How do I …](docs/how-do-i/README.md){ .md-button }
[Coming from …](docs/coming-from/README.md){ .md-button }
"""
"""What the home page has beside the README, below its pictures."""
ALONE = ("index.md", "start-here.md", "algorithms.md")
"""Pages that are a whole part of the navigation, beside which there is nothing to list."""
DIALOG = 'data-md-component="search" role="dialog"'
LINK = re.compile(r'(\]\(|src=")([^)"#\s]+)(#[^)"\s]*)?(?=[)"])')
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
DRAWINGS: dict[str, Callable[[], str]] = {"rooms": site_rooms.rooms, "journey": site_rooms.journey}


def prose(text: str, change: Callable[[str], str]) -> str:
    """The text, changed everywhere but in its fenced blocks of code."""
    return "".join(part if i % 2 else change(part) for i, part in enumerate(FENCE.split(text)))


def place(path: str) -> str:
    """Where a file or folder of the repository is in the site; a path from the repository's root."""
    if path in PROJECT:
        return PROJECT[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in ("benchmarks", "benchmarks/results"):
        return "results/index.md"
    if path.startswith("benchmarks/results/"):
        return f"results/{Path(path).stem}.md"
    return f"source/{path}.md"


def home_of(page: str) -> str | None:
    """The file of the repository that a page of the site is; None for one that is generated."""
    for path, where in PROJECT.items():
        if where == page:
            return path
    return f"docs/{page}" if (ROOT / "docs" / page).exists() else None


def targets(text: str, home: str) -> list[str]:
    """Files and folders of the repository that a page links to, by their paths from its root."""
    found = [match[2] for part in FENCE.split(text)[::2] for match in LINK.finditer(part)]
    paths = [posixpath.normpath(posixpath.join(posixpath.dirname(home), link)) for link in found if ":" not in link]
    return [path for path in paths if (ROOT / path).exists()]


def relinked(text: str, home: str) -> str:
    """The text of a file with its links to other files of the repository leading to their places in the site."""
    here, there = posixpath.dirname(home), posixpath.dirname(place(home))

    def lead(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(here, match[2]))
        if ":" in match[2] or not (ROOT / path).exists():
            return match[0]
        return match[1] + posixpath.relpath(place(path), there or ".") + (match[3] or "")

    return prose(text, lambda part: LINK.sub(lead, part))


def spaced(text: str) -> str:
    """The text with an empty line before every list, which Python's Markdown asks for and GitHub does not."""
    before = r"(?m)^((?![-|#>]|\s|\d+\. ).+)\n(?=- |\d+\. )"
    return prose(text, lambda part: re.sub(before, r"\1\n\n", part))


def pages_of(folder: str) -> list[str]:
    """The pages of a folder of docs/: its README.md first, and then those that it links to, in its order."""
    readme = f"{folder}README.md"
    linked = targets((ROOT / "docs" / readme).read_text(encoding="utf-8"), f"docs/{readme}")
    pages = [path.removeprefix("docs/") for path in linked if path.startswith(f"docs/{folder}")]
    return [readme, *dict.fromkeys(page for page in pages if page.endswith(".md"))]


def unfolded(entry: Any) -> Any:
    """An entry of the navigation with the pages of a folder in the folder's place."""
    if isinstance(entry, dict):
        return {title: unfolded(inner) for title, inner in entry.items()}
    if isinstance(entry, list):
        return [unfolded(inner) for inner in entry]
    if not entry.endswith("/"):
        return entry
    return site_reference.navigation() if entry == "reference/" else pages_of(entry)


def source_page(path: str) -> str:
    """A file of the repository as a page."""
    language = {".py": "python", ".toml": "toml", ".sh": "bash"}.get(Path(path).suffix, "text")
    code = (ROOT / path).read_text(encoding="utf-8").rstrip()
    ticks = "`" * 5
    return f"---\nsearch: {{exclude: true}}\n---\n# `{path}`\n\n{ticks}{language}\n{code}\n{ticks}\n"


def generated() -> dict[str, str]:
    """The text of every page that is not one of docs/, by its place in the site."""
    project = {where: (ROOT / path).read_text(encoding="utf-8") for path, where in PROJECT.items()}
    project["index.md"] = project["index.md"].replace("</p>\n", f"</p>\n{WAYS}", 1)
    written = {f"docs/{path.relative_to(ROOT / 'docs')}": path for path in (ROOT / "docs").rglob("*.md")}
    texts = {home: path.read_text(encoding="utf-8") for home, path in written.items()}
    texts |= {path: project[where] for path, where in PROJECT.items()}
    linked = {path for home, text in texts.items() for path in targets(text, home)}
    sources = {place(path): source_page(path) for path in linked if place(path).startswith("source/")}
    return project | sources | site_reference.pages() | site_results.pages()


def on_config(config: Any) -> Any:
    """Folders in the navigation become their pages, and anchors are those that GitHub makes."""
    from pymdownx.slugs import slugify  # of the site's own environment

    config.nav = unfolded(config.nav)
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages, and the results themselves."""
    from mkdocs.structure.files import File  # of the site's own environment

    for where, text in generated().items():
        files.append(File.generated(config, where, content=text))
    for path in site_results.files():
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links lead to pages of the site, lists begin where they begin on GitHub, and drawings are drawn."""
    path = page.file.src_uri
    if path in ALONE or path.startswith(("results/", "source/")):
        page.meta["hide"] = ["navigation"] if path in ALONE else ["navigation", "toc"]
    home = home_of(path)
    if home is None:
        return markdown
    markdown = re.sub(r"<!-- drawing: (\w+) -->", lambda match: DRAWINGS[match[1]](), markdown)
    return spaced(relinked(markdown, home))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """What Material would fetch from elsewhere, so that a page from the disk can be searched, is the site's own."""
    own = posixpath.relpath("assets/file_worker.js", posixpath.dirname(page.file.dest_uri) or ".")
    # A dialog without a name is a fault for those who have it read aloud.
    output = output.replace(DIALOG, f'{DIALOG} aria-label="Search"')
    return output.replace("https://unpkg.com/iframe-worker/shim", own)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same in the page of an address that is not there."""
    return output_content.replace("https://unpkg.com/iframe-worker/shim", "/assets/file_worker.js")


def on_page_content(html: str, **_: Any) -> str:
    """Equations become MathML, which browsers set without any script."""
    from latex2mathml.converter import convert  # of the site's own environment

    def equation(match: re.Match[str]) -> str:
        return str(convert(unescape(match[2]), display="block" if match[1] == "div" else "inline"))

    return re.sub(r'<(div|span) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', equation, html, flags=re.DOTALL)
