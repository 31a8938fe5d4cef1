"""Reading what `torch.save` wrote, through `torch.load(weights_only=True)`, which runs no code.

A zip file is read with its tensors on the meta device: torch then tells at which byte each one lies and loads
none of them, so that a checkpoint which also holds an optimizer costs no more than its weights. Files from
before PyTorch 1.6, and those that are compressed or big-endian, are loaded whole and given away one tensor at a time.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import weakref
import zipfile
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.checkpoint.float_types import Float32Array
from pellucid.checkpoint.stored import BLOCK_ELEMENTS, FileSegment, FileStamp, StoredTensor
from pellucid.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    import torch


def read_torch_file(path: Path) -> Any:
    """The object in a file of `torch.save`, with a `StoredTensor` in the place of every tensor.

    Raises `CheckpointError` for a file that is damaged, or whose pickle holds anything but data: that is refused
    and not run. Raises `MissingExtraError` without torch.
    """
    stamp = FileStamp.at(path)
    records = _records(path)
    if records is not None:
        contents = _load(path, "meta")
        if all(_offset(tensor) is not None for tensor in _each_tensor(path, contents)):
            return _replace_tensors(contents, "", partial(_in_place, path, stamp, records))
    contents = _load(path, "cpu")
    numbers = {id(tensor): number for number, tensor in enumerate(_each_tensor(path, contents))}
    return _replace_tensors(contents, "", partial(_in_memory, path, numbers, {}))


def read_state_dict(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a `pytorch_model.bin`: a dictionary of names to tensors."""
    return state_dict_tensors(path, read_torch_file(path))


def state_dict_tensors(path: Path, state_dict: Any) -> dict[str, StoredTensor]:
    """A state dict as `read_torch_file` returns it, checked to hold tensors by name and nothing else."""
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(f"{path} holds a {type(state_dict).__name__}, not a dictionary of tensors by name")
    for key, value in state_dict.items():
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise CheckpointError(
                f"{path} is no file of weights: its entry {key!r} is a {type(value).__name__}, not a tensor"
            )
    return dict(state_dict)


def _load(path: Path, device: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"reading {path}", "torch") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the kinds of storage that old files name
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise CheckpointError(f"{path} is damaged, or no file of torch.save: {_first_line(error)}") from error
        raise CheckpointError(
            f"{path} is refused: its pickle would call {refused[1]}, which is code and not data; nothing of it was "
            "run. Weights must be saved as a state dict of tensors, or better as safetensors"
        ) from error
    except Exception as error:  # a damaged file fails wherever torch's readers stumble over it
        raise CheckpointError(f"{path} is damaged, or no file of torch.save: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _each_tensor(path: Path, value: Any) -> Iterator[torch.Tensor]:
    """The tensors in an object that torch loaded, always in the same order."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            raise CheckpointError(f"{path} holds a sparse tensor; weights are stored densely")
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _each_tensor(path, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _each_tensor(path, item)


def _replace_tensors(value: Any, key: str, stored: Callable[[str, torch.Tensor], StoredTensor]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return stored(key, value)
    if isinstance(value, Mapping):
        return {name: _replace_tensors(item, str(name), stored) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_tensors(item, f"{key}[{i}]", stored) for i, item in enumerate(value)]
    return value


def _records(path: Path) -> dict[int, int] | None:
    """Of each record in a zip file: the byte at which its data begins, and how many there are. None where tensors
    do not lie in the file as they lie in memory: it is no zip file, or compressed, or big-endian."""
    try:
        with zipfile.ZipFile(path) as archive, FileIO(path) as file:
            entries = archive.infolist()
            byte_orders = {archive.read(entry) for entry in entries if entry.filename.endswith("/byteorder")}
            if byte_orders - {b"little"} or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                return None
            return {_data_offset(file, entry): entry.file_size for entry in entries}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, struct.error):
        return None  # torch will say what is wrong with it, if anything


def _data_offset(file: FileIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's data begins: behind its local header, whose last two fields are lengths of what follows it."""
    file.seek(entry.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    return entry.header_offset + 30 + name_length + extra_length  # type: ignore[no-any-return]


def _offset(tensor: torch.Tensor) -> int | None:
    """The byte of the file at which a tensor's storage begins, which old versions of torch do not tell."""
    return getattr(tensor.untyped_storage(), "_checkpoint_offset", None)


def _in_place(path: Path, stamp: FileStamp, records: dict[int, int], key: str, tensor: torch.Tensor) -> StoredTensor:
    """A tensor on the meta device, of which torch has told where its storage begins in the file."""
    start = _offset(tensor) or 0
    shape, strides, itemsize = tuple(tensor.shape), tuple(tensor.stride()), tensor.element_size()
    first = int(tensor.storage_offset())
    span = 0 if 0 in shape else 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    end = (first + span) * itemsize
    if end > records.get(start, 0):
        raise CheckpointError(f"{path}: tensor {key} takes {end:,} bytes, but {records.get(start, 0):,} are stored")
    segment = FileSegment(
        file=path,
        key=key,
        shape=shape if tensor.is_contiguous() else (span,),
        dtype=_dtype_name(tensor),
        offset=start + first * itemsize,
        stamp=stamp,
    )
    return segment if tensor.is_contiguous() else StridedTensor.of(segment, shape, strides)


def _in_memory(
    path: Path,
    numbers: Mapping[int, int],
    by_memory: dict[int, list[weakref.ref[torch.Tensor]]],
    key: str,
    tensor: torch.Tensor,
) -> StoredTensor:
    own = tensor.detach()  # a tensor may occur twice in a file; each occurrence is an object of its own here
    sharing = by_memory.setdefault(own.untyped_storage().data_ptr(), [])
    sharing.append(weakref.ref(own))
    return LoadedTensor(
        file=path,
        key=key,
        shape=tuple(tensor.shape),
        dtype=_dtype_name(tensor),
        number=numbers[id(tensor)],
        tensor=[own],
        sharing=sharing,
    )


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@dataclass(frozen=True, kw_only=True)
class StridedTensor(StoredTensor):
    """A tensor whose elements do not lie in order, as `torch.save` stores a transposed one."""

    span: FileSegment  # from its first element to its last
    strides: tuple[int, ...]  # in elements

    @classmethod
    def of(cls, span: FileSegment, shape: tuple[int, ...], strides: tuple[int, ...]) -> StridedTensor:
        return cls(file=span.file, key=span.key, shape=shape, dtype=span.dtype, span=span, strides=strides)

    def blocks(self) -> Iterator[Float32Array]:
        yield self.read().reshape(-1)

    def read(self) -> Float32Array:
        flat = self.span.read()
        view = np.lib.stride_tricks.as_strided(flat, self.shape, [stride * flat.itemsize for stride in self.strides])
        return view.copy(order="C")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedTensor(StoredTensor):
    """A tensor that is in memory already, and leaves it when it is read."""

    number: int  # among the tensors of its file
    tensor: list[torch.Tensor] = field(repr=False)  # empty once it has been read
    sharing: list[weakref.ref[torch.Tensor]] = field(repr=False)  # the tensors in this one's memory, itself included

    @property
    def place(self) -> Hashable:
        return (self.tensor[0].data_ptr(), self.tensor[0].stride(), self.dtype) if self.tensor else None

    def blocks(self) -> Iterator[Float32Array]:
        flat = (self.tensor[0] if self.tensor else self._load_again()).reshape(-1)
        for start in range(0, self.size, BLOCK_ELEMENTS):
            yield flat[start : start + BLOCK_ELEMENTS].float().numpy()

    def read(self) -> Float32Array:
        import torch

        tensor = self.tensor.pop() if self.tensor else self._load_again()
        alone = sum(other() is not None for other in self.sharing) <= 1
        alone = alone and tensor.untyped_storage().nbytes() == self.size * tensor.element_size()
        if tensor.dtype == torch.float32 and tensor.is_contiguous() and alone:
            return tensor.numpy()
        out = np.empty(self.shape, np.float32)
        torch.from_numpy(out).copy_(tensor)
        return out

    def _load_again(self) -> torch.Tensor:
        return list(_each_tensor(self.file, _load(self.file, "cpu")))[self.number].detach()
