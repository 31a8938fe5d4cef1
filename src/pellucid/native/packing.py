"""From a checkpoint to the engine's tensors: matrices packed for the kernels, everything else as it is."""

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
    """What a checkpoint is here: tensors by their names and shapes in a Hub file."""

    @property
    def path(self) -> Path:
        """What errors name."""

    def tensor_names(self) -> tuple[str, ...]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def take(self, name: str) -> Float32Array:
        """The tensor, float32."""

    def take_stored(self, name: str) -> StoredArray:
        """The tensor; numbers stored in 16 bits may be as they are stored."""

    def stored_blocks(self, name: str) -> Iterator[StoredArray]:
        """As `take_stored`, the elements in order, in pieces, each good until the next."""


def pack_weights(source: WeightSource, precision: str, runtime: Runtime) -> PackedTensors:
    """Every tensor by its name, as bytes. The largest are read first, the embedding in pieces, so that at no time
    much more is held than what is packed so far.

    Raises `CheckpointError` for a tensor that is not finite, or that the precision cannot hold.
    """
    matrices = [name for name in source.tensor_names() if matrix_precision(name, precision) is not None]
    # One room for all: numpy asks for large pages for large arrays, and memory is read faster through those.
    room = aligned_empty(sum(_matrix_bytes(source, name, precision) for name in matrices))
    taken = 0

    def take(size: int) -> ByteArray:
        nonlocal taken
        taken += size
        return room[taken - size : taken]

    return {name: _packed(source, name, precision, runtime, take) for name in _largest_first(source)}


def pack_each(source: WeightSource, precision: str, runtime: Runtime) -> Iterator[tuple[str, ByteArray]]:
    """As `pack_weights`, a tensor at a time."""
    for name in _largest_first(source):
        yield name, _packed(source, name, precision, runtime, aligned_empty)


def _largest_first(source: WeightSource) -> list[str]:
    return sorted(source.tensor_names(), key=lambda name: -math.prod(source.shape(name)))


def _matrix_bytes(source: WeightSource, name: str, precision: str) -> int:
    shape = source.shape(name)
    n_out, n_in = shape if name in (EMBEDDING, HEAD) else reversed(shape)  # a block's matrix lies [in, out]
    return matrix_bytes(matrix_precision(name, precision) or precision, n_out, n_in)


def _packed(
    source: WeightSource, name: str, precision: str, runtime: Runtime, take: Callable[[int], ByteArray]
) -> ByteArray:
    """One tensor's bytes; a matrix's are put where `take` finds room for so many."""
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
    """An embedding [vocab, n_embd], some rows at a time."""
    n_embd = source.shape(name)[1]
    done = 0
    for rows in _whole_panels(source.stored_blocks(name), n_embd):
        size = matrix_bytes(precision, len(rows), n_embd)
        pack(runtime, precision, rows, packed[done : done + size])
        done += size


def _whole_panels(blocks: Iterator[StoredArray], n_embd: int) -> Iterator[npt.NDArray[Any]]:
    """An embedding's rows [n, n_embd], n a multiple of the panel's width in all pieces but the last."""
    panel = PANEL_WIDTH * n_embd
    held: npt.NDArray[Any] | None = None
    for block in blocks:
        held = block[:0] if held is None else held
        # Only the panel that two blocks share is put together from both.
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
