"""Execute the walkthrough notebook in place, so that it shows what the code does now: `python examples/execute.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parent / "walkthrough.ipynb"
CELL_SECONDS = 300


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with every code cell run, in this Python's own kernel; raises where a cell does.

    What differs from run to run and says nothing, such as times and the interpreter's version, is left out.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK
    try:
        notebook = execute(path)
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
