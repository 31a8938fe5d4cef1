"""A tensor in a file: its shape, type and place, which are known when the file is opened, and reading it."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pellucid.checkpoint.float_types import FLOAT_TYPES, Float32Array, StoredArray
from pellucid.errors import CheckpointError
from pellucid.quoting import clipped
from pellucid.regular_file import open_regular

# Types other than float32 are converted in blocks of this many elements, so that a load needs no second copy.
BLOCK_ELEMENTS = 1 << 18

_MAX_ELEMENTS = 2**59  # of 8 bytes, numpy's limit

# The 16-bit types, which the engine packs without converting them to float32 first.
_SIXTEEN_BITS = ("float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class StoredTensor(ABC):
    """One tensor of a checkpoint file.

    key: its name in the file.
    dtype: the type that it is stored in, such as "bfloat16".
    """

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it is stored in a float type that can be read."""
        return self.dtype in FLOAT_TYPES

    @property
    def place(self) -> Hashable:
        """Identity of the bytes on disk: tensors of one shape with equal keys share storage. None if unknown."""
        return None

    @abstractmethod
    def blocks(self) -> Iterator[Float32Array]:
        """Its elements in order, as flat float32 arrays of about a megabyte."""

    def read(self) -> Float32Array:
        """The tensor as a new float32 array, C-contiguous, which the caller owns."""
        out = np.empty(self.size, np.float32)
        done = 0
        for block in self.blocks():
            out[done : done + block.size] = block
            done += block.size
        return out.reshape(self.shape)

    def stored_blocks(self) -> Iterator[StoredArray]:
        """As `blocks`, but float16 and bfloat16 are not converted. The next block overwrites a block."""
        return self.blocks()

    def read_stored(self) -> StoredArray:
        """As `read`, but float16 and bfloat16 are not converted."""
        return self.read()


class FileStamp(NamedTuple):
    """Identity of a file's contents: a file that is changed or replaced gets another stamp."""

    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, file: FileIO) -> FileStamp:
        status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    @classmethod
    def at(cls, path: Path) -> FileStamp:
        """Raises `CheckpointError` for a file that cannot be read."""
        try:
            with open_regular(path) as file:
                return cls.of(file)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


@dataclass(frozen=True, kw_only=True)
class FileSegment(StoredTensor):
    """A contiguous little-endian tensor that begins at byte `offset` of its file."""

    offset: int
    stamp: FileStamp  # of the file when its header was read

    @property
    def place(self) -> Hashable:
        return self.stamp, self.offset, self.dtype

    def open(self) -> FileIO:
        """The file, at the first byte of the tensor."""
        try:
            file = open_regular(self.file)
        except OSError as error:
            raise CheckpointError(f"{self.file} cannot be read any more: {error.strerror}") from error
        if FileStamp.of(file) != self.stamp:
            file.close()
            raise CheckpointError(f"{self.file} was changed after it was opened; open it again")
        file.seek(self.offset)
        return file

    def fill(self, file: FileIO, array: npt.NDArray[np.generic]) -> None:
        """Fill a flat array with the next bytes of the file."""
        buffer = array.view(np.uint8).data
        done = 0
        while done < len(buffer):
            count = file.readinto(buffer[done:])
            if not count:
                raise CheckpointError(f"{self.file} ends in the middle of tensor {clipped(self.key)}")
            done += count

    def blocks(self) -> Iterator[Float32Array]:
        return map(FLOAT_TYPES[self.dtype].to_float32, self._raw_blocks())

    def read(self) -> Float32Array:
        if self.dtype != "float32":  # converted block by block
            return super().read()
        return self._raw().astype(np.float32, copy=False)

    def stored_blocks(self) -> Iterator[StoredArray]:
        return self._raw_blocks() if self.dtype in _SIXTEEN_BITS else self.blocks()

    def read_stored(self) -> StoredArray:
        return self._raw() if self.dtype in _SIXTEEN_BITS else self.read()

    def _raw_blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Its elements in the stored type, as flat blocks in one array that each block overwrites."""
        raw = np.empty(min(BLOCK_ELEMENTS, self.size), FLOAT_TYPES[self.dtype].storage)
        with self.open() as file:
            for start in range(0, self.size, BLOCK_ELEMENTS):
                block = raw[: min(BLOCK_ELEMENTS, self.size - start)]
                self.fill(file, block)
                yield block

    def _raw(self) -> npt.NDArray[Any]:
        raw = np.empty(self.size, FLOAT_TYPES[self.dtype].storage)
        with self.open() as file:
            self.fill(file, raw)
        return raw.reshape(self.shape)


def has_array_shape(shape: Sequence[int]) -> bool:
    """Whether an array can have this shape. numpy limits the sizes of empty arrays too."""
    return math.prod(size for size in shape if size > 0) < _MAX_ELEMENTS


def equal(a: StoredTensor, b: StoredTensor) -> bool:
    """Whether two stored tensors hold the same values. Reads them block by block."""
    if a.shape != b.shape or not (a.is_float and b.is_float):
        return False
    if a.place is not None and a.place == b.place:
        return True
    return all(np.array_equal(x, y) for x, y in zip(a.blocks(), b.blocks(), strict=True))
