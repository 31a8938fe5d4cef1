"""The benchmarks are programs, not part of the package: their folder is put where their own modules expect it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
