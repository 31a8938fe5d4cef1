"""Tensors in another layout than a checkpoint's: transposed matrices, and biases that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pellucid.checkpoint.float_types import Float32Array
from pellucid.checkpoint.stored import StoredTensor


@dataclass(frozen=True, kw_only=True)
class TransposedTensor(StoredTensor):
    """A matrix whose transpose is in the file."""

    stored: StoredTensor

    @classmethod
    def of(cls, stored: StoredTensor) -> TransposedTensor:
        return cls(file=stored.file, key=stored.key, shape=stored.shape[::-1], dtype=stored.dtype, stored=stored)

    @property
    def is_float(self) -> bool:
        return self.stored.is_float

    def blocks(self) -> Iterator[Float32Array]:
        yield self.read().reshape(-1)

    def read(self) -> Float32Array:
        return np.ascontiguousarray(self.stored.read().T)


@dataclass(frozen=True, kw_only=True)
class ZeroTensor(StoredTensor):
    """A bias that its file leaves out because it is zero."""

    dtype: str = "float32"

    def blocks(self) -> Iterator[Float32Array]:
        yield np.zeros(self.size, np.float32)
