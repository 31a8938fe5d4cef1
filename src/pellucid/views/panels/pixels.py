"""Arrays of values as compact PNG images, with a pixel for each value. Small values are transparent, so that an image
suits light and dark pages."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.views.panels.scales import STRONGEST_MARK, Scale, tint

_ZERO = 128  # the palette entry of 0 in signed scales


def pixels_png(values: NDArray[Any], scale: Scale) -> bytes:
    """Values [rows, columns] as a PNG file with a palette of 256 colours."""
    places = scale.places(values)
    if scale.is_signed:
        entries = np.rint(_ZERO + places * 127)
        palette = [(entry - _ZERO) / 127 for entry in range(256)]
    else:
        entries = np.rint(places * 255)
        palette = [entry / 255 for entry in range(256)]
    rows, columns = values.shape
    colours = bytes(part for place in palette for part in scale.hue(place))
    alphas = bytes(round(255 * tint(min(1.0, abs(place)), STRONGEST_MARK)) for place in palette)
    lines = np.zeros((rows, columns + 1), dtype=np.uint8)  # each line of a PNG begins with its filter type; 0 is none
    lines[:, 1:] = entries
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", colours),
        (b"tRNS", alphas),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def pixels_uri(values: NDArray[Any], scale: Scale) -> str:
    """The PNG image as a `data:` URI."""
    return "data:image/png;base64," + base64.b64encode(pixels_png(values, scale)).decode("ascii")


def pooled(values: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Max-pool values to at most `rows` by `columns`."""
    high, wide = (-(-length // most) for length, most in zip(values.shape, (rows, columns), strict=True))
    if high <= 1 and wide <= 1:
        return values
    over = [(0, -length % step) for length, step in zip(values.shape, (high, wide), strict=True)]
    padded = np.pad(values, over, constant_values=-np.inf)
    largest: NDArray[Any] = padded.reshape(len(padded) // high, high, -1, wide).max(axis=(1, 3))
    return largest


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
