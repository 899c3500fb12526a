"""The notebook runs from top to bottom in a new kernel, and the stored file holds no output of a machine."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "docs" / "notebooks" / "first_classifier.ipynb"


def test_the_notebook_runs_and_the_model_sorts_the_messages(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [
        "".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells if "outputs" in cell
    ]
    assert [line.split()[0] for line in printed[4].splitlines()] == ["billing", "shipping", "technical"]
    assert (tmp_path / "runs" / "messages" / "report.html").is_file()


def test_the_stored_notebook_has_no_outputs_and_no_machine_paths() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
