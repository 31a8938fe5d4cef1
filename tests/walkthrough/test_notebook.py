"""The notebooks in examples/ run on the bundled model and are committed with their results."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# The notebooks, with their numbers of pictures and of HTML views.
NOTEBOOKS = {"walkthrough.ipynb": (3, 5), "seeing_inside.ipynb": (1, 8)}


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def views(notebook: nbformat.NotebookNode) -> int:
    """Number of cells that show a result as HTML."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum("pellucid-view" in output.get("data", {}).get("text/html", "") for output in outputs)


@pytest.mark.xdist_group("walkthrough")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_runs_on_the_bundled_model(name: str) -> None:
    executed = runpy.run_path(str(EXAMPLES / "execute.py"))["execute"](EXAMPLES / name)
    for cell in code_cells(executed):
        assert cell.execution_count is not None
        assert not [output for output in cell.outputs if output.output_type in ("error", "display_data")], cell.source
    assert (len(pictures(executed)), views(executed)) == NOTEBOOKS[name]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_committed_notebook_shows_its_results(name: str) -> None:
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert (len(pictures(notebook)), views(notebook)) == NOTEBOOKS[name]
    assert not any("execution" in cell.metadata for cell in notebook.cells), "times say nothing to a reader"
    assert (EXAMPLES / name).stat().st_size < 1_000_000


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
