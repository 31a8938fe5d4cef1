"""The float types of stored weights, and conversions to and from float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]

# Elements in their stored type: float32, float16, or the bits of bfloat16.
StoredArray = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.uint16]


class FloatType(NamedTuple):
    """A float type.

    storage: the numpy type of the stored elements.
    to_float32: converts an array of `storage`. Exact, except that float64 is rounded to the nearest float32.
    """

    name: str
    storage: np.dtype[np.generic]
    to_float32: Callable[[npt.NDArray[np.generic]], Float32Array]

    @property
    def itemsize(self) -> int:
        return self.storage.itemsize


def _cast(values: npt.NDArray[np.generic]) -> Float32Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _float16_to_float32(values: npt.NDArray[np.generic]) -> Float32Array:
    """The same values as numpy's cast, in a third of its time: numpy converts element by element."""
    bits = values.view("<i2")
    exponents = bits & 0x7C00
    if exponents.max(initial=0) == 0x7C00:  # infinities and NaNs
        return _cast(values)
    wide = bits.astype(np.int32)
    wide <<= 13  # moves the fraction to its place in float32
    wide &= -0x70002000  # clears what sign extension added, except for the sign bit
    wide += (127 - 15) << 23
    out = wide.view(np.float32)
    # Subnormal numbers have no hidden bit, which the steps above have added.
    small = np.flatnonzero(exponents == 0)
    with_bit = out[small]
    out[small] = np.copysign(2 * with_bit - np.copysign(np.float32(2.0**-14), with_bit), with_bit)
    return out


def _bfloat16_to_float32(bits: npt.NDArray[np.generic]) -> Float32Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32


def _table_lookup(name: str) -> Callable[[npt.NDArray[np.generic]], Float32Array]:
    return lambda codes: _eight_bit_values(name)[codes.astype(np.uint8, copy=False)]


# Bits of exponent and mantissa, and the exponent's bias, by name. The formats of
# "FP8 Formats for Deep Learning" (Micikevicius et al., 2022), of "8-bit Numerical Formats for Deep Neural
# Networks" (Noune et al., 2022: fnuz) and of the OCP Microscaling specification (e8m0).
_EIGHT_BIT_FORMATS: Mapping[str, tuple[int, int, int]] = {
    "float8_e4m3fn": (4, 3, 7),
    "float8_e4m3fnuz": (4, 3, 8),
    "float8_e5m2": (5, 2, 15),
    "float8_e5m2fnuz": (5, 2, 16),
}


@cache
def _eight_bit_values(name: str) -> Float32Array:
    """The values of the 256 codes of an 8-bit format."""
    codes = np.arange(256)
    if name == "float8_e8m0fnu":  # an exponent without a mantissa
        return np.where(codes == 255, np.nan, np.ldexp(1.0, codes - 127)).astype(np.float32)
    exponent_bits, mantissa_bits, bias = _EIGHT_BIT_FORMATS[name]
    exponent = (codes >> mantissa_bits) & (2**exponent_bits - 1)
    mantissa = (codes & (2**mantissa_bits - 1)) / 2**mantissa_bits
    subnormal = exponent == 0
    significand = np.where(subnormal, mantissa, 1 + mantissa)
    magnitude = np.ldexp(significand, np.where(subnormal, 1, exponent) - bias)
    if name == "float8_e5m2":  # as in IEEE 754, the highest exponent stands for infinity and NaN
        special = np.where(mantissa == 0, np.inf, np.nan)
        magnitude = np.where(exponent == 2**exponent_bits - 1, special, magnitude)
    values = np.where(codes >= 128, -magnitude, magnitude)
    if name == "float8_e4m3fn":
        values[[0x7F, 0xFF]] = np.nan
    elif name.endswith("fnuz"):  # "finite, NaN, unsigned zero": the code of -0 is the only NaN
        values[0x80] = np.nan
    table: Float32Array = values.astype(np.float32)
    return table


FLOAT_TYPES: Mapping[str, FloatType] = {
    kind.name: kind
    for kind in (
        FloatType("float64", np.dtype("<f8"), _cast),
        FloatType("float32", np.dtype("<f4"), _cast),
        FloatType("float16", np.dtype("<f2"), _float16_to_float32),
        FloatType("bfloat16", np.dtype("<u2"), _bfloat16_to_float32),
        *(FloatType(name, np.dtype("u1"), _table_lookup(name)) for name in (*_EIGHT_BIT_FORMATS, "float8_e8m0fnu")),
    )
}


def float32_to_bfloat16(values: Float32Array) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16. Ties round to even, and NaN stays NaN."""
    bits = values.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet_nan = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16)
