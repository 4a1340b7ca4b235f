"""Import paths of purejaxdqn 0.1: an old one fails with a sentence that names the new one, which imports."""

from importlib import import_module

import pytest

from purejaxdqn.moved import MOVED

KEPT = """
build cli config doctor doctor.checks doctor.command doctor.findings doctor.probes doctor.vitals envs
envs.envpool envs.gymnax evaluate learn loops loops.data_parallel loops.device loops.evaluation loops.host
loops.host_functions loops.host_lanes loops.host_memory loops.lanes networks networks.fractions networks.layers
networks.products networks.qnetwork networks.torsos recipes replay replay.frames replay.prioritized replay.ring
replay.sum_tree replay.transitions replay.uniform report report.charts report.command report.contents report.curves
report.fields report.numbers report.pages report.read_run report.read_sweep report.tables scores sweep sweep.command
sweep.definition sweep.display sweep.engine sweep.flags sweep.gather sweep.layout sweep.options sweep.outcome
sweep.processes sweep.results sweep.values train types
"""
"""Modules of 0.1 that are where they were."""


def refusal(statement):
    """What Python says of an import."""
    with pytest.raises(ImportError) as error:
        exec(statement, {})
    return str(error.value)


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_names_the_new_one(old):
    new = f"purejaxdqn.{MOVED[old]}"
    package, _, module = f"purejaxdqn.{old}".rpartition(".")
    said = f"purejaxdqn.{old} has moved: import {new}"
    assert refusal(f"import purejaxdqn.{old}") == said
    assert refusal(f"from purejaxdqn.{old} import anything") == said
    assert refusal(f"from {package} import {module}") == said
    assert import_module(new).__name__ == new


def test_modules_that_stayed_are_imported():
    for name in KEPT.split():
        assert name not in MOVED
        import_module(f"purejaxdqn.{name}")


def test_what_was_a_module_and_is_a_package_names_where_its_names_are():
    for name in ("RECIPES", "default_recipe", "make_settings"):
        said = refusal(f"from purejaxdqn.recipes import {name}")
        assert said == f"purejaxdqn.recipes.{name} has moved: import it from purejaxdqn.recipes.recipes"
        assert hasattr(import_module("purejaxdqn.recipes.recipes"), name)


def test_what_never_was_has_pythons_own_error():
    assert refusal("import purejaxdqn.no_such_module") == "No module named 'purejaxdqn.no_such_module'"
    assert refusal("import purejaxdqn.doctor.heads") == "No module named 'purejaxdqn.doctor.heads'"
    assert refusal("import heads") == "No module named 'heads'"
    assert "cannot import name 'nothing' from 'purejaxdqn'" in refusal("from purejaxdqn import nothing")
    assert "cannot import name 'nothing' from 'purejaxdqn.recipes'" in refusal("from purejaxdqn.recipes import nothing")
