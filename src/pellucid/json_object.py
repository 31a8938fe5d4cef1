"""Strict, bounded reading of JSON: one object, unique keys, finite numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from pellucid.errors import PellucidError
from pellucid.quoting import clipped, quoted
from pellucid.regular_file import open_regular

# Python objects take up to 24 times the bytes of their JSON text, so the text is bounded.
MAX_BYTES = 1 << 20

_MAX_DEPTH = 64
_MAX_DIGITS = 100


def read_json_object(path: Path, error_type: type[PellucidError], *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file of at most `max_bytes`.

    Raises `error_type`, with the path in the message, if the file cannot be read or is not a JSON object.
    """
    try:
        with open_regular(path) as file:
            encoded = file.read(max_bytes + 1)
    except OSError as error:
        raise error_type(f"{path} cannot be read: {error.strerror}") from error
    if len(encoded) > max_bytes:
        raise error_type(f"{path} is larger than {max_bytes:,} bytes, the limit for such a file")
    try:
        contents = parse_json(encoded)
    except ValueError as error:
        raise error_type(f"{path} is not valid JSON: {error}") from error
    if not isinstance(contents, dict):
        raise error_type(f"{path} must contain a JSON object, not a {type(contents).__name__}")
    return contents


def parse_json(encoded: bytes) -> Any:
    """Parse UTF-8 JSON text.

    Raises `ValueError` for text that is not valid JSON, and for duplicate keys, NaN and infinities, integers of more
    than 100 digits, and nesting of more than 64 levels.
    """
    try:
        contents = json.loads(
            encoded.decode("utf-8"),
            object_pairs_hook=_with_unique_keys,
            parse_int=_bounded_integer,
            parse_float=_finite_float,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_depth(contents)
    return contents


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    contents = dict(pairs)
    if len(contents) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"it has the key {clipped(name)} twice")
            seen.add(name)
    return contents


def _bounded_integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number in it has {len(text):,} digits")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {quoted(text)} in it is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _check_depth(contents: Any) -> None:
    containers = [contents] if isinstance(contents, (dict, list)) else []
    for _ in range(_MAX_DEPTH):
        children = (value for item in containers for value in (item.values() if isinstance(item, dict) else item))
        containers = [child for child in children if isinstance(child, (dict, list))]
        if not containers:
            return
    if containers:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
