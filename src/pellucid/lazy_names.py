"""Lazy imports of a package's names. The package's stub, `__init__.pyi`, is the list of them.

A type checker reads the stub instead of `__init__.py`, and `first_use` reads it to find the module of a name. So a name
is listed once.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def first_use(package: str, name: str) -> Any:
    """Import a name for a package's `__getattr__`, and set it on the package.

    `__all__` is the list of all names. Raises `AttributeError` for a name that the stub does not import.
    """
    module = sys.modules[package]
    modules = names_in_stub(Path(str(module.__file__)).with_suffix(".pyi"))
    if name == "__all__":
        value: Any = list(modules)
    elif name in modules:
        value = getattr(import_module(modules[name]), name)
    else:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    setattr(module, name, value)
    return value


@cache
def names_in_stub(stub: Path) -> dict[str, str]:
    """The names that a stub imports, each with the module that defines it."""
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: str(node.module) for node in imports for alias in node.names if alias.asname}
