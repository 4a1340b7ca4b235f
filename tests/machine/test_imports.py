"""Imports of a user's own modules: by name and from files, and those that packages announce."""

import importlib.metadata
import sys

import pytest

from purejaxdqn.config import SettingError
from purejaxdqn.machine import imports

pytestmark = pytest.mark.usefixtures("own_parts")


def test_a_file_is_imported_once_and_may_import_its_neighbours(tmp_path):
    (tmp_path / "one_of_mine.py").write_text("from beside_it import value\n")
    (tmp_path / "beside_it.py").write_text("value = 3\n")
    module = imports.import_source(str(tmp_path / "one_of_mine.py"))
    assert module.value == 3 and sys.modules["one_of_mine"] is module
    assert imports.import_source(str(tmp_path / "one_of_mine.py")) is module
    assert imports.imported() == [str(tmp_path / "one_of_mine.py")]
    imports.require_imported(["elsewhere/one_of_mine.py"])
    with pytest.raises(SettingError, match="add this flag"):
        imports.require_imported(["another.py"])


def test_a_module_of_the_folder_at_hand_is_imported_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "parts.py").write_text("value = 4\n")
    assert imports.import_source("a_package.parts").value == 4


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("no_such_file.py", None, "there is no file"),
        ("no_such_module_anywhere", None, "cannot be imported.*No module named"),
        ("does_raise.py", "1 / 0", "cannot be imported.*ZeroDivisionError: division by zero"),
        ("is_no_python.py", "def", "cannot be imported.*SyntaxError"),
        ("json.py", "", "Python has another module json"),
    ],
)
def test_what_cannot_be_imported_is_a_sentence(tmp_path, name, text, words):
    source = str(tmp_path / name) if name.endswith(".py") else name
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match=words) as told:
        imports.import_source(source)
    assert (told.value.field, told.value.value) == ("imports", source) and imports.imported() == []


def test_what_packages_announce_is_imported(tmp_path, monkeypatch):
    (tmp_path / "announced_part.py").write_text("value = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [importlib.metadata.EntryPoint("mine", "announced_part", imports.GROUP)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries if group == imports.GROUP else [])
    imports.import_announced()
    assert sys.modules["announced_part"].value == 5
    entries.append(importlib.metadata.EntryPoint("worse", "not_there_at_all", imports.GROUP))
    with pytest.raises(SettingError, match="not_there_at_all announces it, and it cannot be imported"):
        imports.import_announced()
