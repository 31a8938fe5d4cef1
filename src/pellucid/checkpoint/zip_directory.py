"""The directory of a zip file: which records it has, and where their bytes are. Reads no record.

Python's `zipfile` keeps some 600 bytes for each record before a limit can be checked. This reader bounds the directory
first, and takes only what `torch.save` writes: stored records, no comment at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import FileIO
from typing import NamedTuple

from pellucid.quoting import clipped

ZIP_MAGIC = b"PK\x03\x04"

# A checkpoint of GPT-2 XL with its optimizer has 2,000 records, in 200 kB.
_MAX_DIRECTORY_BYTES = 1 << 22

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_EXTRA = struct.Struct("<2H")
_ZIP64_EXTRA = 1
_IN_ZIP64 = 0xFFFFFFFF  # a 32-bit field whose value is in the zip64 extra field
_ENCRYPTED = 1


class Record(NamedTuple):
    """A record's bytes in the file."""

    offset: int
    size: int


def read_records(file: FileIO, file_size: int) -> Mapping[str, Record]:
    """The records of a zip file by name.

    Raises `ValueError` for a damaged file, and one with compressed or encrypted records.
    """
    records: dict[str, Record] = {}
    for name, header_offset, size in _entries(_directory(file, file_size)):
        if name in records:
            raise ValueError(f"its zip directory lists {clipped(name)} twice")
        header = _LOCAL_HEADER.unpack(_read_at(file, header_offset, _LOCAL_HEADER.size))
        offset = header_offset + _LOCAL_HEADER.size + header[9] + header[10]
        if header[0] != ZIP_MAGIC or offset + size > file_size:
            raise ValueError(f"its record {clipped(name)} is not where its zip directory says")
        records[name] = Record(offset, size)
    return records


def _directory(file: FileIO, file_size: int) -> bytes:
    end_offset = file_size - _END.size
    magic, *_, size, offset, comment = _END.unpack(_read_at(file, end_offset, _END.size))
    if magic != b"PK\x05\x06" or comment:
        raise ValueError("it does not end with a zip directory, as if truncated")
    if end_offset >= _END64_LOCATOR.size:
        locator = _END64_LOCATOR.unpack(_read_at(file, end_offset - _END64_LOCATOR.size, _END64_LOCATOR.size))
        if locator[0] == b"PK\x06\x07":
            end64 = _END64.unpack(_read_at(file, locator[2], _END64.size))
            if end64[0] != b"PK\x06\x06":
                raise ValueError("its zip64 directory is not where it should be")
            size, offset = end64[8], end64[9]
    if size > _MAX_DIRECTORY_BYTES:
        raise ValueError(f"its zip directory has {size:,} bytes; at most {_MAX_DIRECTORY_BYTES:,} are read")
    return _read_at(file, offset, size)


def _entries(directory: bytes) -> list[tuple[str, int, int]]:
    """(name, offset of the local header, size) of each record"""
    entries, at = [], 0
    while at < len(directory):
        entry = _ENTRY.unpack_from(directory, at)
        magic, flags, method = entry[0], entry[3], entry[4]
        compressed, size, name_length, extra_length, comment_length = entry[8:13]
        offset = entry[16]
        if magic != b"PK\x01\x02":
            raise ValueError("its zip directory is damaged")
        name_end = at + _ENTRY.size + name_length
        name = directory[at + _ENTRY.size : name_end].decode("utf-8")
        if _IN_ZIP64 in (compressed, size, offset):
            extra = directory[name_end : name_end + extra_length]
            size, compressed, offset = _from_zip64(extra, (size, compressed, offset))
        if method != 0 or compressed != size:
            raise ValueError(f"its record {clipped(name)} is compressed, which torch.save never does; save it again")
        if flags & _ENCRYPTED:
            raise ValueError(f"its record {clipped(name)} is encrypted")
        entries.append((name, offset, size))
        at = name_end + extra_length + comment_length
    return entries


def _from_zip64(extra: bytes, fields: tuple[int, ...]) -> list[int]:
    """The fields, with the 64-bit values of those that are `_IN_ZIP64`."""
    at = 0
    while at < len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if kind == _ZIP64_EXTRA:
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, at))
            return [next(values, field) if field == _IN_ZIP64 else field for field in fields]
        at += length
    raise ValueError("its zip directory lacks a zip64 field")


def _read_at(file: FileIO, offset: int, size: int) -> bytes:
    if offset < 0:
        raise ValueError("it is too short for a zip file")
    file.seek(offset)
    contents = file.read(size)
    if len(contents) < size:
        raise ValueError("it is truncated")
    return contents
