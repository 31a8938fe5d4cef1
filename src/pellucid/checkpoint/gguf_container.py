"""The header of a GGUF file: fields, and each tensor's place. Versions 2 and 3, little-endian.

The `gguf` package is not used here: its reader makes several arrays for each token and merge of the vocabulary, which
takes two seconds and 130 MB for GPT-2's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pellucid.checkpoint.stored import FileStamp
from pellucid.errors import CheckpointError
from pellucid.quoting import clipped, quoted
from pellucid.regular_file import open_regular

T = TypeVar("T")

_LENGTH = struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_DEFAULT_ALIGNMENT = 32

# GPT-2's vocabulary takes 2 MB. Reading a header of 16 MB takes seconds: each string has at least 8 bytes.
_MAX_HEADER_BYTES = 1 << 24
_MAX_FIELDS = 10_000
_MAX_TENSORS = 100_000
_MAX_DIMENSIONS = 4  # ggml's limit


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor's entry in the header.

    shape: in numpy's order. type_code: ggml's number of the type. offset: of its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    type_code: int
    offset: int


@dataclass(frozen=True)
class GGUFContainer:
    """The header of a GGUF file.

    fields: their values by name: numbers, booleans, strings, lists of strings, arrays of numbers; None for an array
        that was not asked for.
    """

    path: Path
    stamp: FileStamp
    fields: dict[str, Any]
    tensors: list[GGUFTensor]

    def field(self, name: str, kind: type[T]) -> T | None:
        """A field's value, or None if it is absent. Raises `CheckpointError` if it has another type."""
        value = self.fields.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise CheckpointError(f"{self.path}: the field {name} is {quoted(value)}, not of type {kind.__name__}")
        return value


def read_container(path: Path, *, arrays: Iterable[str] = ()) -> GGUFContainer:
    """Read a GGUF file's header.

    arrays: the names of the arrays to read; others are skipped.

    Raises `CheckpointError`, naming the file, if it is not a GGUF file, or is damaged or big-endian.
    """
    try:
        with open_regular(path) as file:
            stamp = FileStamp.of(file)
            header = file.read(_MAX_HEADER_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return _Reader(path, stamp, header, frozenset(arrays)).container()


class _Reader:
    """Reads a header, whose bytes are the beginning of `header`. at: the place of the next byte to read."""

    def __init__(self, path: Path, stamp: FileStamp, header: bytes, arrays: frozenset[str]) -> None:
        self.path, self.stamp, self.header, self.arrays = path, stamp, header, arrays
        self.at = 0

    def container(self) -> GGUFContainer:
        if self.header[:4] != b"GGUF":
            raise CheckpointError(f"{self.path} is no GGUF file: it does not begin with GGUF")
        self.at = 4
        version = self.number("I")
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "big-endian" if swapped in (2, 3) else f"of version {version}"
            raise CheckpointError(f"{self.path} is a GGUF file {what}, which cannot be read")
        tensor_count, field_count = self.number("Q"), self.number("Q")
        if tensor_count > _MAX_TENSORS or field_count > _MAX_FIELDS:
            raise self.damaged(f"it claims {tensor_count:,} tensors and {field_count:,} fields")
        fields: dict[str, Any] = {}
        for _ in range(field_count):
            name = self.string()
            if name in fields:
                raise self.damaged(f"the field {clipped(name)} occurs twice")
            fields[name] = self.value(name)
        entries = [self.entry() for _ in range(tensor_count)]
        alignment = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise self.damaged(f"general.alignment is {quoted(alignment)}")
        data_start = -(-self.at // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, type_code, offset in entries:
            if name in tensors:
                raise self.damaged(f"tensor {clipped(name)} occurs twice")
            tensors[name] = GGUFTensor(name, shape, type_code, data_start + offset)
        return GGUFContainer(self.path, self.stamp, fields, list(tensors.values()))

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self.string(), self.number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise self.damaged(f"tensor {clipped(name)} has {dimensions} dimensions; ggml has four")
        *shape, type_code, offset = self.numbers(f"<{dimensions}QIQ")
        return name, tuple(reversed(shape)), type_code, offset  # ggml's order is fastest first

    def value(self, name: str) -> Any:
        kind = self.number("I")
        if kind != _ARRAY:
            return self.scalar(name, kind)
        kind, count = self.number("I"), self.number("Q")
        wanted = name in self.arrays
        if kind == _STRING:
            strings = self.strings(count)
            return [self.text(string) for string in strings] if wanted else None
        if kind not in _SCALARS:
            raise self.damaged(f"the field {clipped(name)} is an array of the unknown type {kind}")
        numbers = np.dtype(_SCALARS[kind]).newbyteorder("<")
        packed = self.bytes(count * numbers.itemsize)
        return np.frombuffer(packed, numbers) if wanted else None

    def scalar(self, name: str, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind not in _SCALARS:
            raise self.damaged(f"the field {clipped(name)} has the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def number(self, code: str) -> Any:
        return self.numbers(f"<{code}")[0]

    def numbers(self, codes: str) -> tuple[Any, ...]:
        return struct.unpack(codes, self.bytes(struct.calcsize(codes)))

    def string(self) -> str:
        return self.text(self.bytes(self.number("Q")))

    def strings(self, count: int) -> list[bytes]:
        """As many strings, in a loop of few operations: a vocabulary has 100,000."""
        if count * _LENGTH.size > len(self.header) - self.at:
            raise self.truncated()
        header, at, strings = self.header, self.at, []
        for _ in range(count):
            start = at + _LENGTH.size
            if start > len(header):
                raise self.truncated()
            at = start + _LENGTH.unpack_from(header, start - _LENGTH.size)[0]
            strings.append(header[start:at])
        if at > len(header):
            raise self.truncated()
        self.at = at
        return strings

    def text(self, string: bytes) -> str:
        try:
            return string.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(f"a string in its header is not UTF-8 ({error.reason})") from error

    def bytes(self, count: int) -> bytes:
        if count > len(self.header) - self.at:
            raise self.truncated()
        self.at += count
        return self.header[self.at - count : self.at]

    def truncated(self) -> CheckpointError:
        if self.stamp.size > len(self.header):
            return self.damaged(f"its header is longer than {_MAX_HEADER_BYTES:,} bytes")
        return self.damaged("its header runs past its end: it is truncated, or its sizes are wrong")

    def damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is a damaged GGUF file: {what}")
