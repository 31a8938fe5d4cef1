"""The layout of packed matrices, and unpacking them to float32.

`native/packing.hpp` describes the layout. A panel holds sixteen outputs. The last panel is padded with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pellucid.checkpoint.float_types import FLOAT_TYPES, Float32Array
from pellucid.checkpoint.layout import EMBEDDING, HEAD, expected_shapes, is_block_matrix
from pellucid.config import GPT2Config

PACKED_FILE = "packed.safetensors"
PACKED_PRECISIONS = ("float32", "bfloat16", "int8", "int4")

PANEL_WIDTH = 16
GROUP_SIZE = 64

ByteArray = npt.NDArray[np.uint8]


def matrix_precision(name: str, precision: str) -> str | None:
    """The precision that a tensor is packed in, in a model of this precision; None if it stays float32.

    The embedding and the head lose the most in four bits, so an int4 model has them in int8.
    """
    if name in (EMBEDDING, HEAD):
        return "int8" if precision == "int4" else precision
    return precision if is_block_matrix(name) else None


def weight_bytes(config: GPT2Config, precision: str) -> int:
    """Bytes of a model's weights in the native engine. All blocks have the same size, so one is counted."""
    total = 0
    for name, shape in expected_shapes(config.replace(n_layer=1)).items():
        packed_as = matrix_precision(name, precision)
        if packed_as is None:
            size = 4 * math.prod(shape)
        else:
            n_out, n_in = shape if name in (EMBEDDING, HEAD) else reversed(shape)  # matrices of blocks are [in, out]
            size = packed_bytes(packed_as, n_out, n_in)
        total += size * config.n_layer if name.startswith("h.") else size
    return total


def packed_bytes(precision: str, n_out: int, n_in: int) -> int:
    """Bytes of a packed matrix."""
    return math.ceil(n_out / PANEL_WIDTH) * panel_bytes(precision, n_in)


def panel_bytes(precision: str, n_in: int) -> int:
    """Bytes of one panel."""
    groups = math.ceil(n_in / GROUP_SIZE)
    match precision:
        case "float32":
            return n_in * PANEL_WIDTH * 4
        case "bfloat16":
            return math.ceil(n_in / 2) * PANEL_WIDTH * 4
        case "int8":
            return _scales_bytes(groups) + groups * GROUP_SIZE * PANEL_WIDTH
        case "int4":
            return _scales_bytes(2 * groups) + groups * GROUP_SIZE * PANEL_WIDTH // 2
    raise ValueError(f"there is no precision {precision}")


def _scales_bytes(rows: int) -> int:
    """Bytes of a panel's scales: `rows` times sixteen float16, padded to 64 bytes."""
    return math.ceil(rows * PANEL_WIDTH * 2 / 64) * 64


def unpack(precision: str, packed: ByteArray, n_out: int, n_in: int) -> Float32Array:
    """The matrix [n_out, n_in] with the values that the engine multiplies with."""
    panels = packed.reshape(math.ceil(n_out / PANEL_WIDTH), panel_bytes(precision, n_in))
    rows = np.concatenate([_unpack_panel(precision, panel, n_in) for panel in panels])
    return np.ascontiguousarray(rows[:n_out])


def unpacked_panels(precision: str, packed: ByteArray, n_out: int, n_in: int) -> Iterator[Float32Array]:
    """As `unpack`, in blocks of rows."""
    per_panel = panel_bytes(precision, n_in)
    at_once = max(1, (1 << 18) // (n_in * PANEL_WIDTH))
    for first in range(0, math.ceil(n_out / PANEL_WIDTH), at_once):
        rows = min(at_once * PANEL_WIDTH, n_out - first * PANEL_WIDTH)
        piece = packed[first * per_panel : (first + math.ceil(rows / PANEL_WIDTH)) * per_panel]
        yield unpack(precision, piece, rows, n_in)


def _unpack_panel(precision: str, panel: ByteArray, n_in: int) -> Float32Array:
    """[16, n_in]"""
    groups = math.ceil(n_in / GROUP_SIZE)
    if precision == "float32":
        return panel.view("<f4").reshape(n_in, PANEL_WIDTH).T.astype(np.float32)
    if precision == "bfloat16":
        pairs = panel.view("<u2").reshape(-1, PANEL_WIDTH, 2).transpose(1, 0, 2).reshape(PANEL_WIDTH, -1)
        return FLOAT_TYPES["bfloat16"].to_float32(np.ascontiguousarray(pairs[:, :n_in]))
    if precision == "int8":
        start = _scales_bytes(groups)
        scale = _by_output(panel[: groups * PANEL_WIDTH * 2].view("<f2").reshape(groups, PANEL_WIDTH))
        quads = panel[start:].view(np.int8).reshape(-1, PANEL_WIDTH, 4)
        values = quads.transpose(1, 0, 2).reshape(PANEL_WIDTH, -1)[:, :n_in].astype(np.float32)
        return values * scale[:, :n_in]
    start = _scales_bytes(2 * groups)
    scales = panel[: 2 * groups * PANEL_WIDTH * 2].view("<f2").reshape(groups, 2, PANEL_WIDTH)
    octets = panel[start:].reshape(-1, 1, PANEL_WIDTH, 4)
    halves = np.concatenate((octets & 15, octets >> 4), axis=1)  # [eighths, first or second half, lane, input]
    values = halves.transpose(2, 0, 1, 3).reshape(PANEL_WIDTH, -1)[:, :n_in].astype(np.float32)
    return values * _by_output(scales[:, 0])[:, :n_in] + _by_output(scales[:, 1])[:, :n_in]


def _by_output(by_group: npt.NDArray[np.generic]) -> Float32Array:
    """Values of groups [groups, 16], repeated for each input of a group: [16, groups * 64]."""
    return np.repeat(by_group.T.astype(np.float32), GROUP_SIZE, axis=1)


def aligned_empty(size: int) -> ByteArray:
    """Bytes that begin where a cache line does."""
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]
