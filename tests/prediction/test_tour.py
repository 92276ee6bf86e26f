"""The notebook of the tour runs from its first cell to its last, in a kernel of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.mark.slow
def test_tour_runs_as_it_stands(project_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks need nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="notebooks need nbclient and ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project_folder), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(project_folder / "examples" / "tour.ipynb", as_version=4)

    nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"image/png", "text/html", "text/plain"} <= kinds
    assert (tmp_path / "tour" / "results" / "cvat-xml" / "annotations.xml").is_file()
    assert list((tmp_path / "tour" / "explain").rglob("*.html"))
