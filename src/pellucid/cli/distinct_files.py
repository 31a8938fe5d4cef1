"""The check that a command does not write over its input, nor two of its outputs to one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pellucid.errors import OptionError
from pellucid.whole_file import target_of


def check_distinct(files: Mapping[str, Path | None]) -> None:
    """Raise `OptionError` if two options name the same file. files: paths by option; None and `-` are no files.

    Raises `PellucidError` if a path cannot be resolved.
    """
    options: dict[Path, str] = {}
    for option, path in files.items():
        if path is None or str(path) == "-":
            continue
        first = options.setdefault(target_of(path), option)
        if first != option:
            raise OptionError(f"{first} and {option} are the same file, {path}: give two different files")
