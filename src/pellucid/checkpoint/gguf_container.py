"""The container of a GGUF file: fields, and where each tensor lies. Versions 2 and 3, little-endian.

The header is read here and not by the `gguf` package, whose reader keeps several arrays for each of a vocabulary's
tokens and merges: two seconds and 130 MB for GPT-2's, as much as a small model's weights.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from pellucid.checkpoint.stored import FileStamp
from pellucid.errors import CheckpointError

T = TypeVar("T")

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor's entry in the header: its shape as numpy has it, ggml's code of its type, its first byte."""

    name: str
    shape: tuple[int, ...]
    type_code: int
    offset: int


@dataclass(frozen=True)
class GGUFContainer:
    """The header of a GGUF file."""

    path: Path
    stamp: FileStamp
    fields: dict[str, Any]
    tensors: list[GGUFTensor]

    def field(self, name: str, kind: type[T]) -> T | None:
        """A field's value, or None where it is absent. Raises `CheckpointError` when it is of another type."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, kind):
            raise CheckpointError(f"{self.path}: the field {name} is {value!r}, not of type {kind.__name__}")
        return value


def read_container(path: Path, *, arrays: Iterable[str] = ()) -> GGUFContainer:
    """Read a GGUF file's header.

    arrays: the names of the fields wanted of those that are arrays; the others are passed over.

    Raises `CheckpointError`, naming the file, for one that is no GGUF file, or damaged, or big-endian.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file, frozenset(arrays)).container()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


class _Reader:
    """Reads a header from its beginning to its end."""

    def __init__(self, path: Path, file: BufferedReader, arrays: frozenset[str]) -> None:
        self.path, self.file, self.arrays = path, file, arrays
        self.stamp = FileStamp.of(file)
        self.left = self.stamp.size

    def container(self) -> GGUFContainer:
        if self.left < 4 or self.bytes(4) != b"GGUF":
            raise CheckpointError(f"{self.path} is no GGUF file: it does not begin with GGUF")
        version = self.number("I")
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "big-endian" if swapped in (2, 3) else f"of version {version}"
            raise CheckpointError(f"{self.path} is a GGUF file {what}, which cannot be read")
        tensor_count, field_count = self.number("Q"), self.number("Q")
        fields: dict[str, Any] = {}
        for _ in range(field_count):
            name = self.string()
            if name in fields:
                raise self.damaged(f"the field {name} occurs twice")
            fields[name] = self.value(name)
        entries = [self.entry() for _ in range(tensor_count)]
        alignment = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise self.damaged(f"general.alignment is {alignment!r}")
        header_size = self.stamp.size - self.left
        data_start = -(-header_size // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, type_code, offset in entries:
            if name in tensors:
                raise self.damaged(f"tensor {name} occurs twice")
            tensors[name] = GGUFTensor(name, shape, type_code, data_start + offset)
        return GGUFContainer(self.path, self.stamp, fields, list(tensors.values()))

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self.string(), self.number("I")
        if dimensions > 4:
            raise self.damaged(f"tensor {name} has {dimensions} dimensions; ggml has four")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        return name, shape[::-1], self.number("I"), self.number("Q")  # ggml names the fastest dimension first

    def value(self, name: str) -> Any:
        kind = self.number("I")
        if kind != _ARRAY:
            return self.scalar(name, kind)
        kind, count = self.number("I"), self.number("Q")
        wanted = name in self.arrays
        if kind == _STRING:
            read: Callable[[], Any] = self.string if wanted else self.skip_string
            strings = [read() for _ in range(self.at_most(count, 8))]
            return strings if wanted else None
        if kind not in _SCALARS:
            raise self.damaged(f"the field {name} is an array of type {kind}, which there is not")
        code = _SCALARS[kind]
        packed = self.bytes(self.at_most(count, struct.calcsize(code)) * struct.calcsize(code))
        return list(struct.unpack(f"<{count}{code}", packed)) if wanted else None

    def scalar(self, name: str, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind not in _SCALARS:
            raise self.damaged(f"the field {name} has the type {kind}, which there is not")
        return self.number(_SCALARS[kind])

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.bytes(struct.calcsize(code)))[0]

    def string(self) -> str:
        try:
            return self.bytes(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(f"a string in its header is not UTF-8 ({error.reason})") from error

    def skip_string(self) -> None:
        self.bytes(self.number("Q"))

    def at_most(self, count: int, size: int) -> int:
        """A count of things that take `size` bytes at least, if that many can follow."""
        if count * size > self.left:
            raise self.damaged("its header runs past its end: it is truncated, or lies")
        return count

    def bytes(self, count: int) -> bytes:
        self.left -= self.at_most(count, 1)
        read = self.file.read(count)
        if len(read) < count:
            raise self.damaged("its header runs past its end: it is truncated, or lies")
        return read

    def damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is a damaged GGUF file: {what}")
