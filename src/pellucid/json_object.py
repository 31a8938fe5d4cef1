"""Reading a file that must hold one JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pellucid.errors import PellucidError


def read_json_object(path: Path, error_type: type[PellucidError]) -> dict[str, Any]:
    """The object in a file; raises `error_type`, naming the file, when it cannot be read or holds something else."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise error_type(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(contents, dict):
        raise error_type(f"{path} must hold a JSON object, not a {type(contents).__name__}")
    return contents
