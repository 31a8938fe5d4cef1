"""The project's own walkthrough runs on the bundled model as it is committed."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "walkthrough.ipynb"


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.xdist_group("walkthrough")
def test_every_cell_runs_on_the_bundled_model() -> None:
    executed = runpy.run_path(str(EXAMPLES / "execute.py"))["execute"](NOTEBOOK)
    for cell in code_cells(executed):
        assert cell.execution_count is not None
        assert not [output for output in cell.outputs if output.output_type == "error"], cell.source
    assert len(pictures(executed)) == 3


def test_the_committed_notebook_shows_its_results() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert len(pictures(notebook)) == 3
    assert not any("execution" in cell.metadata for cell in notebook.cells), "times say nothing to a reader"
    assert NOTEBOOK.stat().st_size < 1_000_000


def test_executing_a_notebook_that_fails_reports_the_cell_and_leaves_the_file_alone(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, broken)
    before = broken.read_bytes()
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "execute.py"), str(broken)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert broken.read_bytes() == before
