"""The examples of docs/command-line.md print the output that the page shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REFRESH = Path(__file__).parents[2] / "docs" / "refresh.py"


@pytest.mark.needs("torch")
def test_every_example_prints_what_the_page_says(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    command = (sys.executable, str(REFRESH), "--check")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
