"""Versions agree, commands and paths that the project's pages name exist, and the diffs they show are of real lines."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import purejaxdqn
from purejaxdqn.commands.dispatch import COMMANDS
from purejaxdqn.commands.lists import KINDS

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(" ".join(re.findall(r"^([a-z][a-z -]*):", MAKEFILE, flags=re.MULTILINE)).split())


def read_yaml(path):
    """A file of the project's, as plain data."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_has_what_its_format_requires_and_the_packages_version():
    """Required by CFF 1.2: its version, a message, a title and authors; an author without a family name has a name."""
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "The purejaxdqn authors"}] and citation["type"] == "software"
    assert citation["version"] == purejaxdqn.__version__
    assert f"## [{purejaxdqn.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_make_target_that_is_named_exists():
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", CONTRIBUTING, flags=re.MULTILINE))
    assert {"setup-dev", "test", "test-quick", "check-install", "bench-quick", "relock"} <= named <= TARGETS


def named_paths(page):
    """Links, and words in backticks or code that begin with a folder or end like a file of the project."""
    links = re.findall(r"\]\(([^)#]+)", page)
    words = re.findall(r"(?:purejaxdqn|tests|docs|benchmarks|requirements)/[\w./-]*[\w/]|\w+\.(?:md|cff|toml)\b", page)
    return {word for word in links + words if "NAME" not in word}


@pytest.mark.parametrize(
    ("page", "enough", "elsewhere"),
    [("CONTRIBUTING.md", 15, set()), ("SECURITY.md", 2, {"purejaxdqn/programs", "purejaxdqn/xla"})],
)
def test_every_path_that_is_named_exists(page, enough, elsewhere):
    paths = named_paths((ROOT / page).read_text(encoding="utf-8")) - elsewhere
    assert len(paths) >= enough and {path for path in paths if not (ROOT / path).exists()} == set()


def hunks():
    """(file, the lines that a hunk leaves there) of every diff that the page shows."""
    for block in re.findall(r"```diff\n(.*?)```", CONTRIBUTING, flags=re.DOTALL):
        for change in re.split(r"^--- a/.*\n\+\+\+ b/", block, flags=re.MULTILINE)[1:]:
            path, *parts = re.split(r"\n@@\n", change)
            for part in parts:
                yield path, "\n".join(line[1:] for line in part.rstrip("\n").splitlines())


@pytest.mark.parametrize(("path", "lines"), [pytest.param(*hunk, id=f"{i}") for i, hunk in enumerate(hunks())])
def test_the_diffs_are_of_what_is_there(path, lines):
    assert lines.strip() and lines in (ROOT / path).read_text(encoding="utf-8")


def test_there_is_a_diff_for_each_of_the_four():
    files = {path for path, _ in hunks()}
    parts = ("learning/heads.py", "networks/torsos.py", "envs/envpool.py", "recipes/recipes.py")
    assert {f"purejaxdqn/{part}" for part in parts} <= files


def test_the_workflow_makes_the_tests_on_every_supported_python():
    (job,) = read_yaml(".github/workflows/test.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test PYTHON=python${{ matrix.python }}"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    supported = re.findall(r"Python :: (3\.\d+)", project)
    assert job["strategy"]["matrix"]["python"] == supported


def test_hooks_are_local_and_call_what_make_calls():
    """Nothing is fetched at a commit, and lint and types have the lock's versions."""
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    entries = {hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    assert repository["repo"] == "local" and entries == {"ruff check", "ruff format", "mypy"}
    assert all(f"$(BIN)/{entry}" in MAKEFILE for entry in entries)


def test_what_is_published_has_passed_its_tests_and_has_the_versions_tag():
    workflow = read_yaml(".github/workflows/publish.yml")
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    check, make = [step["run"] for step in build["steps"] if "run" in step]
    assert make == "make check-install PYTHON=python3.12 DIST=dist" and publish["needs"] == "build"
    # YAML reads `on` as true. Nothing but a tag publishes, and nothing but the last job may.
    assert workflow[True] == {"push": {"tags": ["v*"]}} and workflow["permissions"] == {"contents": "read"}
    assert publish["permissions"] == {"id-token": "write"} and "permissions" not in build
    for tag, code in ((f"v{purejaxdqn.__version__}", 0), ("v0.0.0", 1)):
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env=os.environ | {"GITHUB_REF_NAME": tag})
        assert done.returncode == code, tag


def test_the_dockerfile_takes_what_is_there():
    """A supported Python, an extra's lock by its name, and paths that check_docker.sh can run the steps with."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert set(re.findall(r"^FROM python:(3\.\d+)-", text, flags=re.MULTILINE)) < set(
        re.findall(r"Python :: (3\.\d+)", project)
    )
    for extra in re.findall(r"EXTRA=(\w+)", (ROOT / "docs" / "install.md").read_text(encoding="utf-8")):
        assert (ROOT / "requirements" / f"lock-{extra}.txt").is_file()
    steps = re.findall(r"^RUN (.*)", text, flags=re.MULTILINE)
    assert len(steps) == 4 and not [step for step in steps if " /" in step and not step.startswith("useradd ")]
    assert 'ENTRYPOINT ["purejaxdqn"]' in text and re.search(r"^purejaxdqn = ", project, flags=re.MULTILINE)


def test_the_page_on_installing_is_true():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert f"purejaxdqn-{purejaxdqn.__version__}-py3-none-any.whl" in page
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page, flags=re.MULTILINE)) <= TARGETS
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"\[(\w+)\]'", page):
        assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra


def test_the_page_of_the_command_line_names_every_command():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(COMMANDS)
    assert set(re.findall(r"purejaxdqn list (\w+)", page)) <= set(KINDS)
