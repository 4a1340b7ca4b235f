"""Pages of the site that answer one question each: short, linked, and their commands and code are true."""

import re
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from purejaxdqn.cli.flags import all_flags
from purejaxdqn.commands.completion import flags_of
from purejaxdqn.commands.dispatch import main
from purejaxdqn.train.settings import new_settings

DOCS = Path(__file__).parents[2] / "docs"
ANSWERS = sorted(path for path in (DOCS / "how-do-i").glob("*.md") if path.stem != "README")
OTHERS = sorted(path for path in (DOCS / "coming-from").glob("*.md") if path.stem != "README")
PAGES = [DOCS / "start-here.md", *ANSWERS, *OTHERS]
OF_A_RUN = ("start-here", "export", "production")
"""Pages whose Python needs the run that the first of them trains."""

pytestmark = pytest.mark.usefixtures("own_parts")


def name_of(page):
    return page.stem


def blocks(page, language):
    """The page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def write_files(page):
    """Writes what the page says to save; returns the code by the module's name."""
    text = page.read_text(encoding="utf-8")
    files = dict(re.findall(r"Save this as `(\w+)\.py`:\n\n```python\n(.*?)```", text, flags=re.DOTALL))
    for name, code in files.items():
        Path(f"{name}.py").write_text(code)
    return files


FLAGS = {name: {*all_flags(cls), "--import", "--live", "--watch"} for name, cls in flags_of().items()}
"""Every flag of each of our commands."""


def commands(text):
    """The words of every command of ours, but for those that leave something out."""
    found = re.findall(r"(?<![\w/-])purejaxdqn ([a-z]+ [^`\n;#]*)", re.sub(r"\\\n\s*", "", text))
    return [words for words in map(shlex.split, found) if "..." not in words and words[0] in FLAGS]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder at hand, from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


@pytest.mark.parametrize("page", ANSWERS, ids=name_of)
def test_a_page_answers_in_its_first_sentence_and_then_links(page):
    text = page.read_text(encoding="utf-8")
    title, first = text.split("\n\n")[:2]
    assert title.startswith("# How do I ") and title.endswith("?") and "`" in first
    assert len(text.splitlines()) <= 70 and "\nMore: [" in text
    assert f"({page.name})" in (DOCS / "how-do-i" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_flag_exists(page):
    for words in commands(page.read_text(encoding="utf-8")):
        known = FLAGS[words[0]]
        typed = {word.partition("=")[0] for word in words if word.startswith("--") and "env-params" not in word}
        assert {word for word in typed if word.replace("--no-", "--", 1) not in known and word not in known} == set(), (
            words
        )


@pytest.mark.parametrize("page", OTHERS, ids=name_of)
def test_every_flag_and_field_of_a_table_exists(page):
    from purejaxdqn import Config, Hypers

    ours = [row.split("|")[2] for row in page.read_text(encoding="utf-8").splitlines() if row.startswith("| ")]
    known = set().union(*FLAGS.values())
    flags = {flag for cell in ours for flag in re.findall(r"(?<!\w)--[a-z][a-z-]*[a-z]", cell)} - {"--env-params"}
    fields = {name for cell in ours for name in re.findall(r"`(?:Config|Hypers)\.(\w+)`", cell)}
    assert flags <= known and fields <= set(Config.__dataclass_fields__) | set(Hypers.__dataclass_fields__)
    assert len(ours) > 12


OWN = [(page.stem, words) for page in PAGES for words in commands("\n".join(blocks(page, "bash")))]
TRAINED = [
    pytest.param(words[1:], id=f"{stem}-{i}")
    for i, (stem, words) in enumerate(OWN)
    if words[0] == "train"
    and not {"--resume", "--import", "--demo-share", "--dataset"} & set(words)
    and ".py" not in str(words)
    if not any(word.endswith(".toml") or word.startswith("Breakout") for word in words)
]


@pytest.mark.parametrize("words", TRAINED)
def test_settings_are_what_a_run_can_have(words):
    settings, _ = new_settings(words)
    assert settings.config.total_steps > 0


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in OF_A_RUN and blocks(page, "python")], ids=name_of
)
def test_python_runs_as_it_stands(page, here):
    files = {code: name for name, code in write_files(page).items()}
    names = {"__name__": "page"}
    for code in blocks(page, "python"):
        if code in files:
            import_module(files[code])
        else:
            exec(code, names)


def shortened(words):
    """A command with a tenth of its steps, or with few where it names none."""
    if words[0] not in ("train", "sweep"):
        return words
    short = [*words, *(["--no-compilation-cache", "--quiet"] if "--resume" not in words else ["--quiet"])]
    if "--total-steps" in short:
        place = short.index("--total-steps") + 1
        short[place] = {"5k": "2k", "10k": "2k", "20k": "2k", "40k": "4k", "60k": "2k"}[short[place]]
    elif "--resume" not in short:
        short += ["--total-steps", "4k"]
    if "--resume" not in short:
        short += ["--eval-episodes", "2"]
    return short


@pytest.mark.long
def test_the_first_ten_minutes(here):
    """Checked, trained, evaluated and loaded, as the page says; then the two pages that go on with that run."""
    start = DOCS / "start-here.md"
    write_files(start)
    check, train, evaluate, report = [
        words
        for words in commands("\n".join(blocks(start, "bash")))
        if "runs/first" not in words and "CartPole-v1" not in words
    ]
    assert main(check) == 0
    assert main([*shortened(train), "--hidden", "16", "--num-envs", "4"]) == 0
    export = commands("\n".join(blocks(DOCS / "how-do-i" / "export.md", "bash")))[0]
    assert main(export) == 0
    for stem in OF_A_RUN:
        page = start if stem == "start-here" else DOCS / "how-do-i" / f"{stem}.md"
        for code in blocks(page, "python"):
            names = {"__name__": "page"}
            exec(code, names)
    assert evaluate[:2] == ["evaluate", "runs/cart"] and report == ["report", "runs/cart"]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [DOCS / "start-here.md", *ANSWERS], ids=name_of)
def test_every_command_runs(page, here):
    """In the page's order; what needs a package that is not here, a cluster or a game is left out."""
    write_files(page)
    for words in commands("\n".join(blocks(page, "bash"))):
        if {"--distributed", "Breakout-v5", "runs/breakout"} & set(words):
            continue
        if "--search" in words and find_spec("optuna") is None:
            continue
        if words[-1] == "policy.npz" and words[0] == "export":
            continue
        assert main(shortened(words)) in (0, 1 if words[0] == "doctor" else 0), words
    if page.stem == "reproduce":
        assert Path("runs/mine/metrics.csv").read_bytes() == Path("runs/again/metrics.csv").read_bytes()
