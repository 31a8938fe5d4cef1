"""Reading safetensors: the length of the header (8 bytes), a JSON header with each tensor's range, the tensors.

The header is checked as a whole before any tensor is read, to the rules of the format: every range lies in the file,
none overlap, every byte belongs to a tensor, and each range has the size that its shape and type need.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pellucid.checkpoint.float_types import FLOAT_TYPES
from pellucid.checkpoint.stored import FileSegment, FileStamp, has_array_shape
from pellucid.errors import CheckpointError
from pellucid.json_object import parse_json
from pellucid.quoting import clipped, quoted
from pellucid.regular_file import open_regular

# Parsed JSON takes up to 24 times the bytes of its text. With a header of at most a megabyte and a sixteenth of the
# file, that is 24 MB and one and a half times the file. The header of GPT-2 XL has 80 kB.
_HEADER_BYTES = 1 << 20
_HEADER_SHARE = 16

_MAX_DIMENSIONS = 64  # numpy's limit
_MAX_SIZE = 2**63 - 1

# Number types by their names in the format: bits per element, and Pellucid's name.
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
    """The tensors of a safetensors file, by their keys. Reads the header only.

    Raises `CheckpointError`, naming the file and the tensor, if the file is damaged or truncated.
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
                f"{path}: tensor {clipped(key)} ends at byte {end:,} of the data, but there are only {data_size:,}; "
                "the file is truncated or its header is wrong"
            )
        ranges.append((begin, end, key))
        tensors[key] = FileSegment(file=path, key=key, shape=shape, dtype=dtype, offset=data_start + begin, stamp=stamp)
    _check_ranges(path, ranges, data_size)
    return tensors


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """The `__metadata__` of a safetensors file, empty if it has none. Raises `CheckpointError`."""
    metadata = _parse_header(path, _read_header(path)[2]).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def _read_header(path: Path) -> tuple[FileStamp, int, bytes]:
    """(stamp of the file, size of the header, the header)"""
    try:
        with open_regular(path) as file:
            stamp = FileStamp.of(file)
            prefix = file.read(8)
            if len(prefix) < 8:
                raise CheckpointError(f"{path} is truncated: {len(prefix)} bytes are no safetensors file")
            header_size = int.from_bytes(prefix, "little")
            if 8 + header_size > stamp.size:
                raise CheckpointError(
                    f"{path} is truncated, or no safetensors file: "
                    f"its header claims {header_size:,} bytes, the file has {stamp.size:,}"
                )
            allowed = _HEADER_BYTES + stamp.size // _HEADER_SHARE
            if header_size > allowed:
                raise CheckpointError(
                    f"{path}: its header has {header_size:,} bytes; at most {allowed:,} are read of a file of this size"
                )
            return stamp, header_size, file.read(header_size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _parse_header(path: Path, header: bytes) -> dict[str, Any]:
    try:
        entries = parse_json(header)
    except ValueError as error:
        raise CheckpointError(f"{path}: its header is not valid JSON, so it is no safetensors file: {error}") from error
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path}: its header must be a JSON object, not a {type(entries).__name__}")
    return entries


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SIZE


def _parse_entry(path: Path, key: str, entry: Any) -> tuple[int, int, tuple[int, ...], str]:
    """(first byte, byte after the last, shape, Pellucid's name of the type) of one tensor"""
    tensor = f"{path}: tensor {clipped(key)}"
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise CheckpointError(f"{tensor} lacks dtype, shape or data_offsets in the header")
    shape, offsets, code = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS or not all(map(_is_size, shape)):
        raise CheckpointError(
            f"{tensor} has the shape {quoted(shape)}; a shape is a list of at most {_MAX_DIMENSIONS} sizes"
        )
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)) or offsets[0] > offsets[1]:
        raise CheckpointError(f"{tensor} has the data_offsets {quoted(offsets)}; they must be [begin, end]")
    if not isinstance(code, str) or code not in _TYPES:
        raise CheckpointError(f"{tensor} has the unknown type {quoted(code)}")
    bits, dtype = _TYPES[code]
    expected, begin, end = math.prod(shape) * bits, *offsets
    if (end - begin) * 8 != expected:
        raise CheckpointError(
            f"{tensor} takes {end - begin:,} bytes, but {code} of shape {quoted(shape)} takes {-(-expected // 8):,}"
        )
    if not has_array_shape(shape):
        raise CheckpointError(f"{tensor} has the shape {quoted(shape)}, too large for an empty array")
    return begin, end, tuple(shape), dtype


def _check_ranges(path: Path, ranges: list[tuple[int, int, str]], data_size: int) -> None:
    """Raise unless the ranges cover the data without overlaps and gaps."""
    covered = 0
    for begin, end, key in sorted(ranges):
        if begin < covered:
            raise CheckpointError(
                f"{path}: tensor {clipped(key)} overlaps the one before it, at byte {begin:,} of the data"
            )
        if begin > covered:
            raise CheckpointError(f"{path}: {begin - covered:,} bytes before tensor {clipped(key)} belong to no tensor")
        covered = end
    if covered < data_size:
        raise CheckpointError(f"{path}: the last {data_size - covered:,} bytes belong to no tensor")


SAFETENSORS_CODES: dict[str, str] = {name: code for code, (_, name) in _TYPES.items() if name in FLOAT_TYPES}
