"""The README's promises: its example runs, its tables are those of the results, and it names what exists."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.pages import report
from purejaxdqn.recipes.tutorials import FAITHFUL

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def example():
    """The library example."""
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    return next(block for block in blocks if "make_train" in block)


@pytest.mark.slow
def test_the_library_example_runs():
    """As it stands, but for the length of a run and the network: a thousand seeds on two cores would take an hour."""
    code = example()
    short = "total_steps=600, learning_starts=400, batch_size=8, hidden=(8,)"
    assert code.count("total_steps=100_000") == 1
    names = {}
    exec(code.replace("total_steps=100_000", short), names)
    metrics, state = names["metrics"], names["state"]
    assert names["returns"].shape[0] == 1000 and metrics.loss_sum.shape[:2] == (8, 4)
    kernels = jax.tree.leaves(state.learner.params)
    assert all(np.isfinite(leaf).all() for leaf in kernels)
    assert not np.allclose(kernels[-1][0], kernels[-1][7]), "learning rates differ, so parameters do"
    assert not np.allclose(kernels[-1][0, 0], kernels[-1][0, 1]), "seeds differ, so parameters do"


def test_the_library_example_is_short():
    lines = [line for line in example().splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 10


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tables_are_those_of_the_results(page):
    text = page.read_text()
    assert report.fill(text) == text, "run python -m benchmarks.report"
    marks = re.findall(r"<!-- table: (.*?) -->", text)
    assert set(marks) <= set(report.TABLES) and text.count("<!-- end -->") == len(marks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_there_is_a_page_for_every_tutorial():
    assert {page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md")} == set(FAITHFUL) | {"README"}


def test_the_first_screen_says_what_it_is_and_how_to_start():
    first = "\n".join(README.splitlines()[:14])
    assert "Q-learning" in first and "make train" in first and "make test" in first and ".gif" in first


def block(page, word):
    """The Python block of a page that has a word."""
    return next(code for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL) if word in code)


def test_the_replay_example_runs():
    names = {"jax": jax, "jnp": jax.numpy}
    exec(block(ROOT / "README.md", "init_ring"), names)
    assert names["batch"]["obs"].shape == (128, 4) and names["batch"]["reward"].tolist() == [1.0] * 128


@pytest.mark.long
def test_the_trace_of_one_step_runs():
    names = {}
    exec(block(ROOT / "docs" / "architecture.md", "make_descend"), names)
    assert np.isfinite(names["y"]).all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    rooms = "|".join(sorted(path.parent.name for path in (ROOT / "purejaxdqn").glob("*/__init__.py")))
    text = page.read_text()
    named = re.findall(r"\b((?:purejaxdqn|tests)/[\w/]+\.py)\b", text)
    named += [f"purejaxdqn/{name}" for name in re.findall(rf"(?<![\w/])((?:{rooms})/[\w/]+\.py)\b", text)]
    assert [name for name in named if not (ROOT / name).exists()] == []
