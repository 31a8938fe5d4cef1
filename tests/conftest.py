"""Settings of the whole suite, and the selection of tests if torch or Transformers is not installed."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

# One thread per worker, because two workers share the machine; no requests to the Hub. Both are read at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import pytest

if TYPE_CHECKING:
    from .pairs import Pair

# No deadlines: tests do not measure speed, and the machine may be busy.
hypothesis.settings.register_profile("pellucid", deadline=None)
hypothesis.settings.load_profile("pellucid")

OPTIONAL = ("torch", "transformers", "gguf", "matplotlib", "pandas", "nbformat", "nbclient", "jsonschema", "playwright")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Ignore a test module that imports a missing optional package; for a `conftest.py`, ignore its folder."""
    module = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    return True if module.suffix == ".py" and module.exists() and missing_packages(module) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a test marked `needs("package", ...)` if one of the packages is not installed."""
    for item in items:
        needed = {name for mark in item.iter_markers("needs") for name in mark.args}
        missing = sorted(name for name in needed if not is_installed(name))
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} not installed"))


def missing_packages(module: Path) -> set[str]:
    """Optional packages that are not installed and that a test module imports: directly, through another test module,
    or through the `conftest.py` of its folder."""
    unread, read = [module, module.with_name("conftest.py")], set[Path]()
    missing = set[str]()
    while unread:
        path = unread.pop()
        if path in read or not path.exists():
            continue
        read.add(path)
        missing |= {name for name in imported_names(path) if name in OPTIONAL and not is_installed(name)}
        unread += imported_modules(path)
    return missing


def imported_names(module: Path) -> Iterator[str]:
    """Top-level packages that are imported when a module is imported."""
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def imported_modules(module: Path) -> Iterator[Path]:
    """Paths of the test modules that a module imports by relative imports."""
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = module.parents[node.level - 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (folder.joinpath(*name.split(".")).with_suffix(".py") for name in names)


@cache
def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.fixture(scope="session")
def pair() -> Callable[..., Pair]:
    """Returns a function that builds a pair of small models. Its arguments override fields of the configuration."""
    from pellucid import GPT2Config

    from .pairs import build_pair

    def build(seed: int = 0, **fields: Any) -> Pair:
        small = {
            "vocab_size": 211,
            "n_positions": 64,
            "n_embd": 48,
            "n_layer": 3,
            "n_head": 4,
            "initializer_range": 0.25,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        return build_pair(GPT2Config(**{**small, **fields}), seed)

    return build
