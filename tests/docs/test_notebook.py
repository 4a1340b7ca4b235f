"""The notebook runs from top to bottom, and says what it is said to say."""

import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
import nbformat  # noqa: E402

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorials" / "from_keras_or_pytorch.ipynb"


@pytest.mark.long
def test_the_notebook_runs_from_top_to_bottom(monkeypatch):
    """Every cell, in a kernel of its own; what the first cells print is what is stored."""
    monkeypatch.setenv("JAX_PLATFORMS", os.environ.get("JAX_PLATFORMS", "cpu"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = [cell.get("outputs") for cell in notebook.cells]
    assert any(stored), "it is stored with what it shows"
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    found = [text(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert "target 3.70, error 2.70, Huber 2.20, squared 3.64" in found[1]
    target_moves = [float(line.rsplit(" ", 1)[1]) for line in found[6].splitlines()]
    assert 0 < sum(move > 0 for move in target_moves) < len(target_moves), "it stands still between its copies"
    assert "image/png" in str(notebook.cells)


def text(cell):
    """What a cell printed."""
    return "".join(output.get("text", "") for output in cell.outputs)
