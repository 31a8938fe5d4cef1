"""Packing a checkpoint's weights for the engine. Matrices are packed; other tensors stay float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from pellucid.checkpoint.float_types import Float32Array, StoredArray
from pellucid.checkpoint.layout import EMBEDDING, HEAD
from pellucid.checkpoint.packed_layout import PANEL_WIDTH, ByteArray, aligned_empty, matrix_precision
from pellucid.errors import CheckpointError
from pellucid.native._native import Runtime, matrix_bytes, pack

PackedTensors: TypeAlias = dict[str, ByteArray]


class WeightSource(Protocol):
    """A source of tensors, by their names in a Hub file. `Checkpoint` implements it."""

    @property
    def path(self) -> Path:
        """The path that error messages name."""

    def tensor_names(self) -> tuple[str, ...]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def take(self, name: str) -> Float32Array:
        """The tensor, as float32."""

    def take_stored(self, name: str) -> StoredArray:
        """The tensor. 16-bit numbers are not necessarily converted to float32."""

    def stored_blocks(self, name: str) -> Iterator[StoredArray]:
        """As `take_stored`, but in consecutive blocks. A block is valid until the next one is requested."""


def pack_weights(source: WeightSource, precision: str, runtime: Runtime) -> PackedTensors:
    """Pack every tensor; return bytes by name. To keep peak memory low, the largest tensors are packed first, and an
    embedding is read in blocks.

    Raises `CheckpointError` for a tensor that is not finite or that the precision cannot represent.
    """
    matrices = [name for name in source.tensor_names() if matrix_precision(name, precision) is not None]
    # One allocation for all matrices: numpy requests huge pages for large arrays, which reduces TLB misses.
    room = aligned_empty(sum(_matrix_bytes(source, name, precision) for name in matrices))
    taken = 0

    def take(size: int) -> ByteArray:
        nonlocal taken
        taken += size
        return room[taken - size : taken]

    return {name: _packed(source, name, precision, runtime, take) for name in _largest_first(source)}


def pack_each(source: WeightSource, precision: str, runtime: Runtime) -> Iterator[tuple[str, ByteArray]]:
    """As `pack_weights`, but one tensor at a time."""
    for name in _largest_first(source):
        yield name, _packed(source, name, precision, runtime, aligned_empty)


def _largest_first(source: WeightSource) -> list[str]:
    return sorted(source.tensor_names(), key=lambda name: -math.prod(source.shape(name)))


def _matrix_bytes(source: WeightSource, name: str, precision: str) -> int:
    shape = source.shape(name)
    n_out, n_in = shape if name in (EMBEDDING, HEAD) else reversed(shape)  # matrices of blocks are [in, out]
    return matrix_bytes(matrix_precision(name, precision) or precision, n_out, n_in)


def _packed(
    source: WeightSource, name: str, precision: str, runtime: Runtime, take: Callable[[int], ByteArray]
) -> ByteArray:
    """Pack one tensor. take: allocates the bytes for a packed matrix."""
    packed_as = matrix_precision(name, precision)
    if packed_as is None:
        values = source.take(name).reshape(-1)
        check_finite(source.path, name, values)
        return values.view(np.uint8)
    packed = take(_matrix_bytes(source, name, precision))
    try:
        if name in (EMBEDDING, HEAD):
            _pack_in_pieces(source, name, packed_as, runtime, packed)
        else:
            pack(runtime, packed_as, source.take_stored(name).T, packed)
        return packed
    except ValueError as error:
        raise CheckpointError(f"{source.path}: tensor {name} cannot be packed as {packed_as}: {error}") from error


def check_finite(path: Path, name: str, values: npt.NDArray[np.float32]) -> None:
    """Raise `CheckpointError` for a tensor that holds an infinity or a NaN."""
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"{path}: tensor {name} has a number that is infinite or NaN; such a model cannot be used"
        )


def _pack_in_pieces(source: WeightSource, name: str, precision: str, runtime: Runtime, packed: ByteArray) -> None:
    """Pack an embedding [vocab, n_embd], some rows at a time."""
    n_embd = source.shape(name)[1]
    done = 0
    for rows in _whole_panels(source.stored_blocks(name), n_embd):
        size = matrix_bytes(precision, len(rows), n_embd)
        pack(runtime, precision, rows, packed[done : done + size])
        done += size


def _whole_panels(blocks: Iterator[StoredArray], n_embd: int) -> Iterator[npt.NDArray[Any]]:
    """Regroup blocks of an embedding into rows [n, n_embd]; n is a multiple of the panel width, except in the last."""
    panel = PANEL_WIDTH * n_embd
    held: npt.NDArray[Any] | None = None
    for block in blocks:
        held = block[:0] if held is None else held
        # Only a panel that spans two blocks is copied.
        missing = -held.size % panel
        held, rest = np.concatenate((held, block[:missing])), block[missing:]
        if held.size == panel:
            yield held.reshape(-1, n_embd)
            held = rest[:0]
        whole = rest.size - rest.size % panel
        if whole:
            yield rest[:whole].reshape(-1, n_embd)
        if whole < rest.size:
            held = np.concatenate((held, rest[whole:]))
    if held is not None and held.size:
        yield held.reshape(-1, n_embd)
