"""From a checkpoint to the engine's tensors: matrices packed for the kernels, everything else as it is."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pellucid.checkpoint import Checkpoint
from pellucid.checkpoint.layout import EMBEDDING, HEAD, is_block_matrix
from pellucid.errors import CheckpointError
from pellucid.native._native import Runtime, matrix_bytes, pack

PackedTensors: TypeAlias = dict[str, NDArray[np.uint8]]

# Rows of an embedding that are packed at a time: whole panels of sixteen.
_EMBEDDING_ROWS = 1024


def matrix_precision(name: str, precision: str) -> str | None:
    """How a tensor is packed in a model of this precision; None for one that stays float32.

    Four bits break the embedding before anything else, so int4 keeps it, and the head, at eight.
    """
    if name in (EMBEDDING, HEAD):
        return "int8" if precision == "int4" else precision
    return precision if is_block_matrix(name) else None


def pack_checkpoint(checkpoint: Checkpoint, precision: str, runtime: Runtime) -> PackedTensors:
    """Every tensor by its name, as bytes. The largest are read first, the embedding in pieces, so that at no time
    much more is held than what is packed so far.

    Raises `CheckpointError` for weights that the precision cannot hold.
    """
    names = sorted(checkpoint.tensor_names(), key=lambda name: -math.prod(checkpoint.shape(name)))
    return {name: _packed(checkpoint, name, precision, runtime) for name in names}


def _packed(checkpoint: Checkpoint, name: str, precision: str, runtime: Runtime) -> NDArray[np.uint8]:
    packed_as = matrix_precision(name, precision)
    if packed_as is None:
        return checkpoint.take(name).reshape(-1).view(np.uint8)
    try:
        if name in (EMBEDDING, HEAD):
            return _pack_in_pieces(checkpoint, name, packed_as, runtime)
        weights = checkpoint.take(name).T  # a block's matrix lies [in, out]
        return _pack(weights, packed_as, runtime)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: tensor {name} cannot be packed as {packed_as}: {error}") from error


def _pack(weights: NDArray[np.float32], precision: str, runtime: Runtime) -> NDArray[np.uint8]:
    packed = aligned_empty(matrix_bytes(precision, *weights.shape))
    pack(runtime, precision, weights, packed)
    return packed


def _pack_in_pieces(checkpoint: Checkpoint, name: str, precision: str, runtime: Runtime) -> NDArray[np.uint8]:
    """An embedding [vocab, n_embd], some rows at a time."""
    vocab_size, n_embd = checkpoint.shape(name)
    packed = aligned_empty(matrix_bytes(precision, vocab_size, n_embd))
    panel_bytes = matrix_bytes(precision, 1, n_embd)
    held, first = np.empty(0, np.float32), 0
    for block in checkpoint.blocks(name):
        held = np.concatenate((held, block))
        last_piece = first + held.size // n_embd == vocab_size
        rows = held.size // n_embd if last_piece else held.size // n_embd // _EMBEDDING_ROWS * _EMBEDDING_ROWS
        if rows == 0:
            continue
        start = first // 16 * panel_bytes
        piece = packed[start : start + matrix_bytes(precision, rows, n_embd)]
        pack(runtime, precision, held[: rows * n_embd].reshape(rows, n_embd), piece)
        held, first = held[rows * n_embd :], first + rows
    return packed


def aligned_empty(size: int) -> NDArray[np.uint8]:
    """Bytes that begin where a cache line does."""
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]
