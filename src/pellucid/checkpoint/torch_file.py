"""Reading what `torch.save` wrote, in its zip format or the format of before PyTorch 1.6, without running its pickle.

The pickle gives each tensor's type, shape, strides and storage. Weights are read from their place in the file, so a
checkpoint that also holds an optimizer costs no more than its weights.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.checkpoint.float_types import Float32Array
from pellucid.checkpoint.pickled import ITEM_SIZES, CodeInPickleError, PickledTensor, read_pickle
from pellucid.checkpoint.stored import FileSegment, FileStamp, StoredTensor, has_array_shape
from pellucid.checkpoint.zip_directory import ZIP_MAGIC, Record, read_records
from pellucid.errors import CheckpointError
from pellucid.quoting import clipped, quoted
from pellucid.regular_file import open_regular

# The pickle of GPT-2 XL with its optimizer has 300 kB.
_MAX_PICKLE_BYTES = 1 << 24

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class TorchFile(NamedTuple):
    """An object in a file of `torch.save`.

    contents: numbers, strings, tuples, lists and dictionaries, with a `PickledTensor` for each tensor.
    storages: the bytes of each storage by its key.
    """

    path: Path
    stamp: FileStamp
    contents: Any
    storages: Mapping[str, Record]

    def state_dict(self, value: Any) -> dict[str, StoredTensor]:
        """A part of the contents as tensors by name. Raises `CheckpointError` if it holds anything else."""
        if not isinstance(value, Mapping):
            raise CheckpointError(f"{self.path} holds a {type(value).__name__}, not a dictionary of tensors by name")
        for key, item in value.items():
            if not isinstance(key, str) or not isinstance(item, PickledTensor):
                raise CheckpointError(
                    f"{self.path} is no file of weights: its entry {quoted(key)} is a {type(item).__name__}, "
                    "not a tensor"
                )
        tensors = {key: self._stored(key, tensor) for key, tensor in value.items()}
        total = sum(tensor.size * ITEM_SIZES[tensor.dtype] for tensor in tensors.values())
        if total > 2 * self.stamp.size:  # a tied head repeats the embedding; nothing else is shared
            raise CheckpointError(
                f"{self.path}: its tensors share storage: they take {total:,} bytes, the file has {self.stamp.size:,}"
            )
        return tensors

    def _stored(self, key: str, tensor: PickledTensor) -> StoredTensor:
        where = f"{self.path}: tensor {clipped(key)}"
        storage = self.storages.get(tensor.storage.key)
        if storage is None:
            raise CheckpointError(f"{where} has no data in the file")
        itemsize = ITEM_SIZES[tensor.dtype]
        size = math.prod(tensor.shape)
        # Elements from the first to the last, in the order of the storage.
        span = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True)) if size else 0
        end = (tensor.first + span) * itemsize
        if end > storage.size:
            raise CheckpointError(f"{where} takes {end:,} bytes, but {storage.size:,} are stored")
        if size == 0 and not has_array_shape(tensor.shape):
            raise CheckpointError(f"{where} has the shape {quoted(tensor.shape)}, too large for an empty array")
        if size > span:
            raise CheckpointError(f"{where} has {size:,} elements, but {span:,} are stored: it repeats some")
        is_contiguous = size <= 1 or tensor.strides == _contiguous_strides(tensor)
        segment = FileSegment(
            file=self.path,
            key=key,
            shape=tensor.shape if is_contiguous else (span,),
            dtype=tensor.dtype,
            offset=storage.offset + tensor.first * itemsize,
            stamp=self.stamp,
        )
        return segment if is_contiguous else StridedTensor.of(segment, tensor)


def read_torch_file(path: Path) -> TorchFile:
    """Read the structure of a file of `torch.save`.

    Raises `CheckpointError` for a file that is damaged or compressed, and for a pickle that would call code, which is
    refused and not run.
    """
    try:
        with open_regular(path) as file:
            stamp = FileStamp.of(file)
            is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
            contents, storages = _read_zip(file, stamp.size) if is_zip else _read_legacy(file, stamp.size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except CodeInPickleError as error:
        raise CheckpointError(
            f"{path} is refused: its pickle would call {error}, which is code and not data; nothing of it was "
            "run. Weights must be saved as a state dict of tensors, or better as safetensors"
        ) from error
    except (ValueError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged, or no file of torch.save: {error}") from error
    return TorchFile(path, stamp, contents, storages)


def read_state_dict(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a `pytorch_model.bin`: a dictionary of tensors by name."""
    file = read_torch_file(path)
    return file.state_dict(file.contents)


def _read_zip(file: FileIO, file_size: int) -> tuple[Any, dict[str, Record]]:
    """Contents and storages. Records are PREFIX/data.pkl and PREFIX/data/KEY."""
    records = read_records(file, file_size)
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it has {len(pickles)} records data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    byte_order = records.get(f"{prefix}byteorder")
    if byte_order is not None and _read_record(file, byte_order) != b"little":
        raise ValueError("its numbers are big-endian, which cannot be read")
    contents = read_pickle(BytesIO(_read_record(file, records[pickles[0]])))
    storages: dict[str, Record] = {}
    for key, storage in contents.storages.items():
        record = records.get(f"{prefix}data/{key}")
        if record is None or record.size < storage.nbytes:
            raise ValueError(f"its storage {clipped(key)} is missing or short")
        storages[key] = record
    return contents.value, storages


def _read_record(file: FileIO, record: Record) -> bytes:
    if record.size > _MAX_PICKLE_BYTES:
        raise ValueError(f"its pickle has {record.size:,} bytes; at most {_MAX_PICKLE_BYTES:,} are read")
    file.seek(record.offset)
    return file.read(record.size)


def _read_legacy(file: FileIO, file_size: int) -> tuple[Any, dict[str, Record]]:
    """Contents and storages. Five pickles, of which the last lists the storages; for each its count and its bytes."""
    file.seek(0)
    stream = BytesIO(file.read(_MAX_PICKLE_BYTES))
    if read_pickle(stream).value != _LEGACY_MAGIC:
        raise ValueError("it begins as neither of the formats")
    _protocol, system, contents, keys = (read_pickle(stream) for _ in range(4))
    if not isinstance(system.value, dict) or system.value.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian, which cannot be read")
    if not isinstance(keys.value, list) or len(keys.value) > len(contents.storages):
        raise ValueError("its list of storages is damaged")
    storages: dict[str, Record] = {}
    offset = stream.tell()
    for key in keys.value:
        storage = contents.storages.get(key) if isinstance(key, str) else None
        file.seek(offset)
        if storage is None or file.read(8) != storage.size.to_bytes(8, "little"):
            raise ValueError(f"its storage {quoted(key)} is damaged or truncated")
        storages[storage.key] = Record(offset + 8, storage.nbytes)
        offset += 8 + storage.nbytes
    if offset > file_size:
        raise ValueError(f"it is truncated: its storages end at byte {offset:,}, the file at {file_size:,}")
    return contents.value, storages


def _contiguous_strides(tensor: PickledTensor) -> tuple[int, ...]:
    """The strides of a C-contiguous tensor of this shape; dimensions of size 1 keep theirs."""
    strides: list[int] = []
    below = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        strides.append(stride if size == 1 else below)
        below *= size
    return tuple(reversed(strides))


@dataclass(frozen=True, kw_only=True)
class StridedTensor(StoredTensor):
    """A tensor that is not contiguous, such as a transposed one."""

    span: FileSegment  # from its first element to its last
    strides: tuple[int, ...]  # in elements

    @classmethod
    def of(cls, span: FileSegment, tensor: PickledTensor) -> StridedTensor:
        # numpy checks the stride of a dimension of size 1, although nothing uses it.
        strides = tuple(stride if n > 1 else 0 for n, stride in zip(tensor.shape, tensor.strides, strict=True))
        return cls(file=span.file, key=span.key, shape=tensor.shape, dtype=span.dtype, span=span, strides=strides)

    def blocks(self) -> Iterator[Float32Array]:
        yield self.read().reshape(-1)

    def read(self) -> Float32Array:
        flat = self.span.read()
        view = np.lib.stride_tricks.as_strided(flat, self.shape, [stride * flat.itemsize for stride in self.strides])
        return view.copy(order="C")
