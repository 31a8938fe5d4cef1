"""Packed weights on disk: a safetensors file whose matrices are stored in the native engine's layout.

The engine maps the file and needs no further preparation. All others read it as any checkpoint, in float32, with the
values that the engine multiplies with. The header and each matrix take a multiple of 64 bytes and matrices come first,
so that each matrix is aligned to a cache line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.checkpoint.float_types import Float32Array
from pellucid.checkpoint.layout import EMBEDDING, HEAD, check_layer_count, expected_shapes
from pellucid.checkpoint.packed_layout import (
    PACKED_PRECISIONS,
    ByteArray,
    aligned_empty,
    matrix_precision,
    packed_bytes,
    unpack,
    unpacked_panels,
)
from pellucid.checkpoint.safetensors_file import read_safetensors, read_safetensors_metadata
from pellucid.checkpoint.stored import FileSegment, FileStamp, StoredTensor
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError
from pellucid.quoting import clipped

_FORMAT = "pellucid-packed-1"


@dataclass(frozen=True, kw_only=True)
class PackedTensor(StoredTensor):
    """A packed matrix, which is read as float32."""

    stored: FileSegment
    transposed: bool  # whether the checkpoint's matrix is [in, out], as those of blocks are

    @property
    def is_float(self) -> bool:
        return True

    @property
    def _sizes(self) -> tuple[int, int]:
        """(outputs, inputs)"""
        return (self.shape[1], self.shape[0]) if self.transposed else (self.shape[0], self.shape[1])

    def _bytes(self) -> ByteArray:
        packed = np.empty(self.stored.size, np.uint8)
        with self.stored.open() as file:
            self.stored.fill(file, packed)
        return packed

    def blocks(self) -> Iterator[Float32Array]:
        if self.transposed:
            yield self.read().reshape(-1)
            return
        for rows in unpacked_panels(self.dtype, self._bytes(), *self._sizes):
            yield rows.reshape(-1)

    def read(self) -> Float32Array:
        matrix = unpack(self.dtype, self._bytes(), *self._sizes)
        return np.ascontiguousarray(matrix.T) if self.transposed else matrix


@dataclass(frozen=True)
class PackedFile:
    """A file of packed weights, which the native engine maps.

    precision: the precision of the packed matrices.
    """

    path: Path
    precision: str
    segments: Mapping[str, FileSegment]

    def map(self) -> dict[str, ByteArray]:
        """The bytes of every tensor by its name, mapped: read from the disk when they are used.

        Raises `CheckpointError` if the file was changed after it was opened.
        """
        self._check_unchanged()
        return self._tensors(np.memmap(self.path, np.uint8, mode="r"))

    def read(self) -> dict[str, ByteArray]:
        """As `map`, copied: what happens to the file afterwards does not matter."""
        self._check_unchanged()
        contents = aligned_empty(self.path.stat().st_size)
        with self.path.open("rb") as file:
            read = file.readinto(contents.data)
        self._check_unchanged()
        if read != len(contents):
            raise CheckpointError(f"{self.path} ends after {read:,} of {len(contents):,} bytes")
        return self._tensors(contents)

    def _check_unchanged(self) -> None:
        for stamp in {segment.stamp for segment in self.segments.values()}:
            if FileStamp.at(self.path) != stamp:
                raise CheckpointError(f"{self.path} was changed after it was opened; open it again")

    def _tensors(self, contents: ByteArray) -> dict[str, ByteArray]:
        return {
            name: contents[segment.offset : segment.offset + segment.size * _WIDTHS[segment.dtype]]
            for name, segment in self.segments.items()
        }


_WIDTHS = {"uint8": 1, "float32": 4}


def read_packed(path: Path, config: GPT2Config) -> tuple[dict[str, StoredTensor], PackedFile]:
    """The tensors of a packed file by their names, and the file as the native engine maps it.

    Raises `CheckpointError` if the file is damaged, or its matrices have other sizes than the configuration.
    """
    metadata = read_safetensors_metadata(path)
    precision = metadata.get("precision", "")
    if metadata.get("format") != _FORMAT or precision not in PACKED_PRECISIONS:
        raise CheckpointError(
            f"{path} is not in the format {_FORMAT}, which this version of Pellucid reads: quantize the model again"
        )
    segments = read_safetensors(path)
    check_layer_count(path, config, len(segments))
    shapes = expected_shapes(config.replace(tie_word_embeddings=False))
    tensors: dict[str, StoredTensor] = {}
    for name, segment in segments.items():
        packed_as = matrix_precision(name, precision)
        tensors[name] = segment
        if packed_as is None or name not in shapes:
            if segment.dtype not in _WIDTHS or segment.offset % 4:
                raise CheckpointError(f"{path}: tensor {clipped(name)} is {segment.dtype}, where it should be float32")
            continue
        transposed = name not in (EMBEDDING, HEAD)
        n_out, n_in = reversed(shapes[name]) if transposed else shapes[name]
        if segment.dtype != "uint8" or segment.size != packed_bytes(packed_as, n_out, n_in):
            raise CheckpointError(
                f"{path}: tensor {name} is {segment.size:,} {segment.dtype}; packed as {packed_as} it would be "
                f"{packed_bytes(packed_as, n_out, n_in):,} bytes"
            )
        tensors[name] = PackedTensor(
            file=path, key=name, shape=shapes[name], dtype=packed_as, stored=segment, transposed=transposed
        )
    return tensors, PackedFile(path, precision, segments)


def write_packed(path: Path, config: GPT2Config, precision: str, tensors: Iterable[tuple[str, ByteArray]]) -> None:
    """Write packed tensors, all of `layout.expected_shapes(config)`, in the order that they come."""
    shapes = expected_shapes(config)
    sizes = {name: _stored_size(name, shape, precision) for name, shape in shapes.items()}
    order = sorted(shapes, key=lambda name: matrix_precision(name, precision) is None)  # matrices first
    header: dict[str, Any] = {"__metadata__": {"format": _FORMAT, "precision": precision}}
    offset = 0
    for name in order:
        is_matrix = matrix_precision(name, precision) is not None
        header[name] = {
            "dtype": "U8" if is_matrix else "F32",
            "shape": [sizes[name]] if is_matrix else list(shapes[name]),
            "data_offsets": [offset, offset + sizes[name]],
        }
        offset += sizes[name]
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(8 + len(encoded)) % 64)
    start = 8 + len(encoded)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, packed in tensors:
            file.seek(start + header[name]["data_offsets"][0])
            file.write(packed.data)
        file.truncate(start + offset)


def _stored_size(name: str, shape: tuple[int, ...], precision: str) -> int:
    packed_as = matrix_precision(name, precision)
    if packed_as is None:
        return math.prod(shape) * 4
    n_out, n_in = shape if name in (EMBEDDING, HEAD) else reversed(shape)
    return packed_bytes(packed_as, n_out, n_in)
