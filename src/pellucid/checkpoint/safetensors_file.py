"""Reading safetensors: a length (8 bytes), a JSON header that says where each tensor lies, the tensors.

The header is checked as a whole before anything is read, to the rules of the format: every range inside
the file, none overlapping, no byte unaccounted for, each as long as its shape and type say.
"""

from __future__ import annotations

import json
import math
from io import FileIO
from pathlib import Path
from typing import Any

from pellucid.checkpoint.float_types import FLOAT_TYPES
from pellucid.checkpoint.stored import FileSegment, FileStamp
from pellucid.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000

# The format's names of number types: bits an element takes, and the name we use.
_TYPES: dict[str, tuple[int, str]] = {
    "F64": (64, "float64"),
    "F32": (32, "float32"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F6_E2M3": (6, "float6_e2m3"),
    "F6_E3M2": (6, "float6_e3m2"),
    "F4": (4, "float4"),
    "C64": (64, "complex64"),
    "I64": (64, "int64"),
    "I32": (32, "int32"),
    "I16": (16, "int16"),
    "I8": (8, "int8"),
    "U64": (64, "uint64"),
    "U32": (32, "uint32"),
    "U16": (16, "uint16"),
    "U8": (8, "uint8"),
    "BOOL": (8, "bool"),
}


def read_safetensors(path: Path) -> dict[str, FileSegment]:
    """The tensors of a safetensors file by their names in it; reads its header and no more.

    Raises `CheckpointError`, naming the file and the tensor, unless the file is whole and its header true.
    """
    stamp, header_size, header = _read_header(path)
    data_start, data_size = 8 + header_size, stamp.size - 8 - header_size
    tensors: dict[str, FileSegment] = {}
    ranges: list[tuple[int, int, str]] = []
    for key, entry in _parse_header(path, header).items():
        if key == "__metadata__":
            continue
        begin, end, shape, dtype = _parse_entry(path, key, entry)
        if end > data_size:
            raise CheckpointError(
                f"{path}: tensor {key} ends at byte {end:,} of the data, but there are only {data_size:,}; "
                "the file is truncated or its header is wrong"
            )
        ranges.append((begin, end, key))
        tensors[key] = FileSegment(file=path, key=key, shape=shape, dtype=dtype, offset=data_start + begin, stamp=stamp)
    _check_ranges(path, ranges, data_size)
    return tensors


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; nothing where it says nothing. Raises `CheckpointError`."""
    metadata = _parse_header(path, _read_header(path)[2]).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def _read_header(path: Path) -> tuple[FileStamp, int, bytes]:
    try:
        with FileIO(path) as file:
            stamp = FileStamp.of(file)
            prefix = file.read(8)
            header_size = int.from_bytes(prefix, "little")
            if len(prefix) < 8:
                raise CheckpointError(f"{path} is truncated: {len(prefix)} bytes are no safetensors file")
            if header_size > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path} is not a safetensors file: its header claims {header_size:,} bytes, "
                    f"more than the {MAX_HEADER_BYTES:,} allowed"
                )
            if 8 + header_size > stamp.size:
                raise CheckpointError(
                    f"{path} is truncated: its header claims {header_size:,} bytes, the file has {stamp.size:,}"
                )
            header = file.read(header_size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error

    return stamp, header_size, header


def _parse_header(path: Path, header: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(f"{path}: its header names {twice} twice")
        return entries

    try:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of thousands of digits
        raise CheckpointError(f"{path}: its header is not valid JSON, so it is no safetensors file: {error}") from error
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path}: its header must be a JSON object, not a {type(entries).__name__}")
    return entries


def _parse_entry(path: Path, key: str, entry: Any) -> tuple[int, int, tuple[int, ...], str]:
    """(first byte, byte after the last, shape, our name of the type) of one tensor."""

    def is_size(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise CheckpointError(f"{path}: the header of tensor {key} lacks dtype, shape or data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not all(map(is_size, shape)):
        raise CheckpointError(f"{path}: tensor {key} has the shape {shape!r}; a shape is a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_size, offsets)) or offsets[0] > offsets[1]:
        raise CheckpointError(f"{path}: tensor {key} has the data_offsets {offsets!r}; they must be [begin, end]")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _TYPES:
        raise CheckpointError(f"{path}: tensor {key} has the unknown type {entry['dtype']!r}")
    bits, dtype = _TYPES[entry["dtype"]]
    expected, begin, end = math.prod(shape) * bits, *offsets
    if (end - begin) * 8 != expected:
        raise CheckpointError(
            f"{path}: tensor {key} takes {end - begin:,} bytes, but {entry['dtype']} of shape "
            f"{shape} takes {math.ceil(expected / 8):,}"
        )
    return begin, end, tuple(shape), dtype


def _check_ranges(path: Path, ranges: list[tuple[int, int, str]], data_size: int) -> None:
    """Raise unless the tensors lie end to end over all of the data."""
    covered = 0
    for begin, end, key in sorted(ranges):
        if begin < covered:
            raise CheckpointError(f"{path}: tensor {key} overlaps the one before it, at byte {begin:,} of the data")
        if begin > covered:
            raise CheckpointError(f"{path}: {begin - covered:,} bytes before tensor {key} belong to no tensor")
        covered = end
    if covered < data_size:
        raise CheckpointError(f"{path}: the last {data_size - covered:,} bytes belong to no tensor")


SAFETENSORS_CODES: dict[str, str] = {name: code for code, (_, name) in _TYPES.items() if name in FLOAT_TYPES}
