"""Programs that use the library pass mypy --strict, and misspelt options are type errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.decoding.options import OPTION_NAMES
from pellucid.decoding.options.keywords import DecodingOptions

HERE = Path(__file__).parent


def test_the_typed_keywords_are_the_options() -> None:
    assert DecodingOptions.__annotations__.keys() == set(OPTION_NAMES)


@pytest.mark.needs("mypy")
def test_a_strictly_typed_program_checks() -> None:
    command = [sys.executable, "-m", "mypy", str(HERE / "typed_client.py")]
    checked = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
