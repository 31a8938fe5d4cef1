"""Dequantizing packed weights."""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.checkpoint.float_types import Float32Array
from pellucid.checkpoint.layout import EMBEDDING, HEAD, expected_shapes
from pellucid.checkpoint.packed_layout import ByteArray, matrix_precision, unpack
from pellucid.config import GPT2Config


class UnpackedWeights:
    """Packed tensors as float32 tensors with their shapes in a Hub file. Implements `pellucid.engine.Weights`."""

    def __init__(self, config: GPT2Config, tensors: Mapping[str, ByteArray], precision: str) -> None:
        self.config = config
        self._tensors = tensors
        self._precision = precision
        self._shapes = expected_shapes(config)

    def take(self, name: str) -> Float32Array:
        shape, packed = self._shapes[name], self._tensors[name]
        packed_as = matrix_precision(name, self._precision)
        if packed_as is None:
            return packed.view("<f4").astype("f4").reshape(shape)
        if name in (EMBEDDING, HEAD):
            return unpack(packed_as, packed, shape[0], shape[1])
        matrix = unpack(packed_as, packed, shape[1], shape[0])
        return matrix.T.copy()
