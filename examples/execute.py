"""Execute notebooks in place: `python examples/execute.py [NOTEBOOK ...]`; default: all of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
CELL_SECONDS = 300


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of every code cell. Raises `CellExecutionError` if a cell fails.

    Times and the interpreter's version, which differ between runs, are left out.
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
    for path in [Path(argument) for argument in sys.argv[1:]] or NOTEBOOKS:
        try:
            notebook = execute(path)
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            return 1
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
