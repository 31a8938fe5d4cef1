"""Installation from source when compilation fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="CMake finds MSVC by itself"),
    pytest.mark.needs("scikit_build_core"),
]

PROJECT = Path(__file__).parents[2]

# Installation into a folder, not into this environment.
RUN = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
sys.path.insert(0, sys.argv.pop(1))
from pellucid.cli import main
main()
"""


def install(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`pip install .` into a folder, with compilers that fail."""
    source = folder.with_name("source")
    source.mkdir()
    for name in ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    shutil.copytree(PROJECT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    broken = shutil.which("false")
    assert broken is not None
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"]
    return subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", str(folder), str(source)],
        env={**os.environ, "CC": broken, "CXX": broken, **environment},
        capture_output=True,
        text=True,
    )


def test_without_a_compiler_the_installation_is_pure_python_and_says_so(tmp_path: Path) -> None:
    installed = install(tmp_path / "site")
    assert installed.returncode == 0, installed.stderr
    assert not list((tmp_path / "site" / "pellucid" / "native").glob("_native*.so"))
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "site"), "generate", "The old king", "-n", "3"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout) > len("The old king\n")
    assert ran.stderr.startswith("pellucid: warning: the native engine is not built")
    assert "PELLUCID_NATIVE=on" in ran.stderr


def test_an_engine_that_was_asked_for_and_cannot_be_built_fails_the_installation(tmp_path: Path) -> None:
    installed = install(tmp_path / "site", PELLUCID_NATIVE="on")
    assert installed.returncode != 0
    assert "CMake" in installed.stderr
    assert not (tmp_path / "site" / "pellucid").exists()
