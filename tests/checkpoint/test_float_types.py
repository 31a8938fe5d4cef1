"""Conversions between stored float types and float32 equal those of torch in every bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pellucid.checkpoint.float_types import FLOAT_TYPES, float32_to_bfloat16

NARROW = [name for name, kind in FLOAT_TYPES.items() if kind.itemsize < 4]


@pytest.mark.parametrize("name", NARROW)
def test_every_code_has_the_value_that_torch_gives_it(name: str) -> None:
    kind = FLOAT_TYPES[name]
    codes = np.arange(256**kind.itemsize, dtype=f"u{kind.itemsize}")
    expected = torch.from_numpy(codes.view(f"i{kind.itemsize}")).view(getattr(torch, name)).float().numpy()
    np.testing.assert_array_equal(kind.to_float32(codes.view(kind.storage)), expected)


def test_float16_numbers_are_the_same_with_and_without_an_infinity_among_them() -> None:
    kind = FLOAT_TYPES["float16"]
    codes = np.arange(2**16, dtype=np.uint16)
    finite = codes[codes & 0x7C00 != 0x7C00]
    expected = torch.from_numpy(finite.view(np.int16)).view(torch.float16).float().numpy()
    alone = kind.to_float32(finite.view(kind.storage))
    together = kind.to_float32(np.append(finite, np.uint16(0x7C00)).view(kind.storage))
    assert alone.tobytes() == expected.tobytes()  # compares the sign of zero too
    assert together[:-1].tobytes() == expected.tobytes()
    assert kind.to_float32(np.empty(0, kind.storage)).size == 0


@given(hnp.arrays(np.float64, 8))
def test_float64_is_rounded_to_the_nearest(values: np.ndarray) -> None:
    expected = torch.from_numpy(values).float().numpy()
    np.testing.assert_array_equal(FLOAT_TYPES["float64"].to_float32(values), expected)


@given(hnp.arrays(np.uint32, 8, elements=st.integers(0, 2**32 - 1)))
def test_bfloat16_is_rounded_as_torch_rounds(bits: np.ndarray) -> None:
    values = bits.view(np.float32)
    written = FLOAT_TYPES["bfloat16"].to_float32(float32_to_bfloat16(values))
    np.testing.assert_array_equal(written, torch.from_numpy(values).bfloat16().float().numpy())
